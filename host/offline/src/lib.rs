//! Sources, the point-in-time join and data sets.
#![forbid(unsafe_code)]

mod error;
pub use error::{OfflineError, Result};
mod pit;
pub use pit::{PitExec, PitFeature, PitFile, PitKey, PitOptions, PitView};
mod source;
pub use source::{FileDigest, SourceFile, SourceFiles, format_of, resolve};
