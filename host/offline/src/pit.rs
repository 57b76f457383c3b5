//! The point-in-time join: every entity row gets, from each view, the newest feature row that was known at its time.
//!
//! Only the entity rows are sorted. Each key owns a run of *slots*, its entity rows in time order; a feature row raises the
//! first slot it is eligible for, and since eligibility only grows with time, a running maximum along the run yields every
//! winner. Feature rows may so arrive in any order, and files, row groups and threads merge by taking the maximum. Feature
//! columns are decoded only once the winners are known.

mod best;
mod column;
mod error;
mod exec;
mod file;
mod gather;
mod join;
mod keys;
mod latest;
mod merge;
mod phases;
mod prune;
mod slots;
mod time;

use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::scalar::ScalarValue;
use mezze_core::Span;
use object_store::ObjectStore;

pub(crate) use column::convert;
pub use error::PitError;
pub use exec::PitExec;
pub(crate) use gather::parallel;
pub(crate) use join::{Part, PartSink};
pub use latest::{CREATED_COLUMN, EVENT_COLUMN, NewestReport, RowSink, latest_rows, newest_rows_to};
pub(crate) use merge::Merge;
pub use phases::PhaseReport;
pub(crate) use phases::Phases;

/// One Parquet file of a view's source. Files are given in canonical (path) order, which decides full ties.
#[derive(Clone, Debug)]
pub struct PitFile {
    /// Where the file is.
    pub store: Arc<dyn ObjectStore>,
    /// The file's place in the store.
    pub location: object_store::path::Path,
    /// The same file in the local file system, which is then read without the store.
    pub local: Option<PathBuf>,
    /// Length in bytes.
    pub size: u64,
    /// Columns that are the same for every row, such as those named by a folder `day=2026-01-01`.
    pub constants: Vec<(String, ScalarValue)>,
    /// The part of its row groups that counts; all of them if not given.
    pub part: Option<FilePart>,
}

/// A part of a file: its row groups are divided into parts that are about equal, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilePart {
    /// Its number, from 0.
    pub index: u32,
    /// How many parts there are.
    pub count: u32,
}

/// A column that identifies an entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PitKey {
    /// Its name in the view's files.
    pub source_column: String,
    /// Its name among the entity rows.
    pub entity_column: String,
}

/// A feature to take from a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PitFeature {
    /// Its name in the view's files.
    pub source_column: String,
    /// Its name in the output.
    pub output_name: String,
    /// The type to cast it to.
    pub data_type: DataType,
}

/// A view to join.
#[derive(Clone, Debug)]
pub struct PitView {
    /// The view's name, for messages.
    pub name: String,
    /// Its rows.
    pub files: Vec<PitFile>,
    /// The columns that must be equal; none for a view of one implicit entity.
    pub keys: Vec<PitKey>,
    /// The column of event times.
    pub timestamp_column: String,
    /// The column of creation times, which decides between rows of one event time.
    pub created_column: Option<String>,
    /// How long a row counts; zero is for ever.
    pub ttl: Span,
    /// How long after its event time a row becomes known.
    pub available_after: Span,
    /// Whether a row is also unknown before its creation time.
    pub available_created: bool,
    /// The columns to take.
    pub features: Vec<PitFeature>,
}

/// What holds for all views of a join.
#[derive(Clone, Debug)]
pub struct PitOptions {
    /// The column of the entity rows' times.
    pub timestamp_column: String,
    /// Whether rows created after the entity row's time are left out; so are rows without a creation time.
    pub filter_by_created: bool,
    /// How many threads read files.
    pub threads: usize,
    /// How many bytes of memory the join may have, beside 100 to 150 MB for the process itself; `None` for as many as it needs.
    pub memory: Option<usize>,
    /// Whether to decode what was read once more, doing nothing with it, to measure how near the join came to that.
    pub explain: bool,
}
