//! Sources, the point-in-time join and data sets.
#![forbid(unsafe_code)]

mod error;
pub use error::{OfflineError, Result};
mod inspect;
pub use inspect::{arrow_type, source_schema, value_type};
mod pit;
pub use pit::{PitExec, PitFeature, PitFile, PitKey, PitOptions, PitView};
mod read;
mod source;
pub use source::{FileDigest, SourceFile, SourceFiles, format_of, resolve};
mod spill;
pub use spill::{Spill, spill};
