//! The newest rows of a feature view, for its snapshot.

use std::path::Path;

use arrow::array::RecordBatch;
use mezze_core::{Span, Timestamp};
use mezze_model::{Definitions, FeatureView};

use crate::error::Result;
use crate::features::SelectedView;
use crate::pit::latest_rows;
use crate::prepare::prepare_view_of;
use crate::source::{FileDigest, SourceFile};

/// The newest row of each key of a view.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NewestRows {
    /// The rows: `event_timestamp` and `created_timestamp` in int64 nanoseconds, the join keys, and all features by their names.
    pub batches: Vec<RecordBatch>,
    /// All files of the source, in order.
    pub files: Vec<NewestFile>,
}

/// A file of a source that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewestFile {
    /// Its name.
    pub name: String,
    /// The digest of its content, or what stands for it.
    pub digest: FileDigest,
    /// Its size in bytes.
    pub size: u64,
    /// Whether its rows were read.
    pub read: bool,
}

/// The newest row of each key of a view with an event time from `start` to `end`, both included, from those files of its source
/// that `keep` says are to be read.
///
/// # Errors
/// Where the source cannot be read or does not fit the view.
pub async fn newest_rows(
    repo: &Path,
    definitions: &Definitions,
    view: &FeatureView,
    keep: &(dyn Fn(&str, &FileDigest) -> bool + Sync),
    (start, end): (Option<Timestamp>, Timestamp),
    threads: usize,
) -> Result<NewestRows> {
    let mut files = Vec::new();
    let mut selected = SelectedView::all_of(view);
    selected.name.clone_from(&view.name);
    let mut prepared = prepare_view_of(repo, definitions, &selected, async |file: &SourceFile| {
        let digest = file.digest().await?;
        let read = keep(&file.name, &digest);
        files.push(NewestFile { name: file.name.clone(), digest, size: file.size, read });
        Ok(read)
    })
    .await?;
    if !files.iter().any(|file| file.read) {
        return Ok(NewestRows { batches: Vec::new(), files });
    }
    // What counts for a training set at some instant does not count here: the newest row is served whenever it comes.
    prepared.view.ttl = Span::ZERO;
    let batches = latest_rows(&prepared.view, start, end, threads).await?;
    Ok(NewestRows { batches, files })
}
