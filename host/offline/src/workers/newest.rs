//! Newest rows by workers: those of each piece are kept in temporary files, and the newest of them found as in any source.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::TryStreamExt;
use futures::stream::FuturesUnordered;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Location;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use tokio::sync::Semaphore;

use crate::error::{OfflineError, Result};
use crate::newest::NewestOptions;
use crate::parquet_output::properties;
use crate::pit::{NewestReport, PitFeature, PitFile, PitKey, PitView, RowSink, newest_rows_to};
use crate::prepare::PreparedView;
use crate::scratch::Scratch;
use crate::workers::pieces::{Piece, pieces};
use crate::workers::task::{CREATED, EVENT};
use crate::workers::{Task, TaskOutput, Work, Workers};

/// Rows of a row group at the most, and its bytes at about the most: a writer holds one of them.
const GROUP_ROWS: usize = 131_072;
const GROUP_BYTES: usize = 16 << 20;

/// The newest rows of a view, into `sink`.
pub(crate) async fn newest(
    workers: &dyn Workers,
    prepared: &PreparedView,
    options: NewestOptions,
    sink: Arc<dyn RowSink>,
) -> Result<NewestReport> {
    let limits = workers.limits();
    let view = PitView { files: Vec::new(), ..prepared.view.clone() };
    let pieces = pieces(&prepared.files, limits.bytes);
    workers.expect(pieces.len());
    let scratch = Scratch::shared()?;
    let unwritable =
        |path: &Path, error: &dyn std::fmt::Display| OfflineError::Write { path: path.to_owned(), reason: error.to_string() };
    let folder = scratch.folder().map_err(|error| unwritable(scratch.path(), &error))?;
    let slots = Semaphore::new(limits.at_once.max(1));
    let run = async |(index, piece): (usize, &Piece)| {
        // It is never closed.
        let _slot = slots.acquire().await;
        let task = Task {
            view: view.clone(),
            files: piece.files.clone(),
            part: piece.part,
            schema: Arc::clone(&prepared.schema),
            work: Work::Newest { start: options.start, end: options.end },
        };
        let path = folder.path().join(format!("{index:08}.parquet"));
        let mut kept = Kept { path, schema: task.output_schema()?, writer: None };
        workers.run(&task, &mut kept).await?;
        kept.finish()
    };
    let mut done: FuturesUnordered<_> = pieces.iter().enumerate().map(run).collect();
    let mut files = Vec::with_capacity(pieces.len());
    while let Some(file) = done.try_next().await? {
        files.push(file);
    }
    drop(done);
    // In order of the pieces, which decides between rows of equal times. Their names are.
    files.sort_by(|a, b| a.location.cmp(&b.location));
    let kept = PitView {
        files,
        keys: view
            .keys
            .iter()
            .map(|key| PitKey { source_column: key.entity_column.clone(), entity_column: key.entity_column.clone() })
            .collect(),
        timestamp_column: EVENT.to_owned(),
        created_column: view.created_column.is_some().then(|| CREATED.to_owned()),
        features: view
            .features
            .iter()
            .map(|feature| PitFeature { source_column: feature.output_name.clone(), ..feature.clone() })
            .collect(),
        ..view.clone()
    };
    let report = newest_rows_to(&kept, options.start, options.end, options.threads, options.memory, sink).await?;
    drop(folder);
    Ok(report)
}

/// A temporary file of rows that a task returns.
struct Kept {
    path: PathBuf,
    schema: SchemaRef,
    writer: Option<ArrowWriter<File>>,
}

impl Kept {
    fn failed(&self, error: &dyn std::fmt::Display) -> OfflineError {
        OfflineError::Write { path: self.path.clone(), reason: error.to_string() }
    }

    fn finish(mut self) -> Result<PitFile> {
        if self.writer.is_none() {
            self.begin()?;
        }
        if let Some(writer) = self.writer.take() {
            writer.close().map_err(|error| self.failed(&error))?;
        }
        let size = std::fs::metadata(&self.path).map_err(|error| self.failed(&error))?.len();
        let location = Location::from_absolute_path(&self.path).map_err(|error| self.failed(&error))?;
        let store = Arc::new(LocalFileSystem::new());
        Ok(PitFile { store, location, local: Some(self.path), size, constants: Vec::new(), part: None })
    }
}

impl TaskOutput for Kept {
    fn begin(&mut self) -> Result<()> {
        self.writer = None;
        let file = File::create(&self.path).map_err(|error| self.failed(&error))?;
        let properties = properties(&self.schema)
            .into_builder()
            .set_compression(Compression::LZ4_RAW)
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .set_max_row_group_bytes(Some(GROUP_BYTES))
            .build();
        let writer = ArrowWriter::try_new(file, SchemaRef::clone(&self.schema), Some(properties));
        self.writer = Some(writer.map_err(|error| self.failed(&error))?);
        Ok(())
    }

    fn take(&mut self, batch: RecordBatch) -> Result<()> {
        match self.writer.as_mut().map(|writer| writer.write(&batch)) {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(self.failed(&error)),
            None => Err(self.failed(&"it is not open")),
        }
    }
}
