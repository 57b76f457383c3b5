//! Sources, the point-in-time join and data sets.
#![forbid(unsafe_code)]

pub use arrow::array::RecordBatch;
mod columns;
mod computed;
pub use columns::source_columns;
mod entity_rows;
pub use entity_rows::{EVENT_TIMESTAMP, EntityRows};
mod error;
pub use error::{OfflineError, Result};
mod evaluate;
pub use evaluate::{Rows, RowsProgram, RowsTransform, RowsWritten};
mod features;
pub use features::{
    ComputedBy, ComputedFeature, ComputedInput, FeatureSelection, RequestColumn, SelectedFeature, SelectedFeatures,
    SelectedOutput, SelectedView, TransformedFeatures, select_features,
};
mod historical;
pub use historical::{
    EntitySource, HistoricalRequest, Progress, ProgressCallback, Summary, ViewSummary, get_historical_features,
};
mod inspect;
pub use inspect::{arrow_type, source_schema, value_type};
mod newest;
pub use newest::{NewestFile, NewestOptions, NewestRows, newest_rows};
pub mod pit;
pub use pit::{FilePart, PhaseReport, PitError, PitExec, PitFeature, PitFile, PitKey, PitOptions, PitView, latest_rows};
mod object_output;
mod output;
mod parquet_output;
mod prepare;
pub use prepare::{PreparedView, pit_view, prepare_view};
mod read;
mod scratch;
pub use scratch::{TempFolder, set_temp_folder};
mod source;
pub use source::{FileDigest, SourceFile, SourceFiles, StoredAt, format_of, resolve};
mod spill;
pub use spill::{Spill, spill};
mod table;
mod transformed;
mod workers;
mod written;
pub use workers::{Conversions, Task, TaskLimits, TaskOutput, Whole, Work, Workers};
pub use written::WrittenView;
