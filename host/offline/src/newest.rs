//! The newest rows of a feature view, for its snapshot.

use std::path::Path;
use std::sync::Arc;

use mezze_core::{Span, Timestamp};
use mezze_model::{Definitions, FeatureView};

use crate::error::Result;
use crate::features::SelectedView;
use crate::pit::{NewestReport, RowSink, newest_rows_to};
use crate::prepare::{Reader, prepare_view_of};
use crate::source::{FileDigest, SourceFile};
use crate::workers::{Workers, newest};

/// What was read for the newest rows of a view.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NewestRows {
    /// All files of the source, in order.
    pub files: Vec<NewestFile>,
    /// What was read of them.
    pub report: NewestReport,
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

/// Which rows to read, and with what.
#[derive(Clone, Copy, Debug)]
pub struct NewestOptions {
    /// The earliest event time, included; none for all.
    pub start: Option<Timestamp>,
    /// The latest event time, included.
    pub end: Timestamp,
    /// How many threads read.
    pub threads: usize,
    /// How many bytes of memory keys and their best rows may take, or `None` for as many as they need.
    pub memory: Option<usize>,
}

/// Gives the newest row of each key of a view to `sink`, of those files of its source that `keep` says are to be read: the
/// columns `event_timestamp` and `created_timestamp` in int64 nanoseconds, the join keys, and all features by their names. No
/// key comes twice. With `workers`, they read the source.
///
/// # Errors
/// Where the source cannot be read or does not fit the view.
pub async fn newest_rows(
    repo: &Path,
    definitions: &Definitions,
    view: &FeatureView,
    keep: &(dyn Fn(&str, &FileDigest) -> bool + Sync),
    options: NewestOptions,
    workers: Option<&dyn Workers>,
    sink: Arc<dyn RowSink>,
) -> Result<NewestRows> {
    let mut files = Vec::new();
    let mut selected = SelectedView::all_of(view);
    selected.name.clone_from(&view.name);
    let reader = if workers.is_some() { Reader::Elsewhere } else { Reader::Here };
    let mut prepared = prepare_view_of(repo, definitions, &selected, reader, async |file: &SourceFile| {
        let digest = file.digest().await?;
        let read = keep(&file.name, &digest);
        files.push(NewestFile { name: file.name.clone(), digest, size: file.size, read });
        Ok(read)
    })
    .await?;
    let mut report = NewestReport::default();
    if files.iter().any(|file| file.read) {
        // What counts for a training set at some instant does not count here: the newest row is served whenever it comes.
        prepared.view.ttl = Span::ZERO;
        let NewestOptions { start, end, threads, memory } = options;
        report = match workers {
            Some(workers) => newest(workers, &prepared, options, sink).await?,
            None => newest_rows_to(&prepared.view, start, end, threads, memory, sink).await?,
        };
    }
    Ok(NewestRows { files, report })
}
