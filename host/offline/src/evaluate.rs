//! Expressions over the rows of files, without a repository.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::StreamExt as _;
use mezze_core::{FeatureSchema, Pipeline, RunTransforms, ValueType};
use mezze_model::SourceFormat;

use crate::computed::{Columns, Computing};
use crate::entity_rows::file_rows;
use crate::error::{OfflineError, Result};
use crate::inspect::value_type;
use crate::output::{Output, output_format};
use crate::pit::{Part, PartSink as _, Phases};

/// Rows of a file, folder, glob or URL.
pub struct Rows {
    context: SessionContext,
    schema: SchemaRef,
}

/// An expression over rows, ready to run.
#[derive(Clone, Debug)]
pub struct RowsProgram {
    /// The name of the column that it makes.
    pub name: String,
    /// The type of that column.
    pub value_type: ValueType,
    /// What computes it.
    pub pipeline: Pipeline,
    /// The columns of the rows that it takes, in order.
    pub columns: Vec<String>,
}

/// A component over rows, ready to run.
pub struct RowsTransform {
    /// What errors call it.
    pub name: String,
    /// The columns that it makes.
    pub outputs: Vec<FeatureSchema>,
    /// What computes them.
    pub pipeline: Pipeline,
    /// The columns of the rows that it takes, in order, and as what.
    pub columns: Vec<(String, ValueType)>,
    /// What runs it.
    pub transforms: Arc<dyn RunTransforms + Send + Sync>,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RowsWritten {
    /// How many rows.
    pub rows: u64,
    /// The size of the file.
    pub bytes: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// Rows that are computed and written together.
const PART_ROWS: usize = 262_144;

impl std::fmt::Debug for RowsTransform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowsTransform").field("name", &self.name).field("outputs", &self.outputs).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl Rows {
    /// Opens files; a relative path is relative to `base`.
    ///
    /// # Errors
    /// [`OfflineError`] where there are none, or of an unknown format.
    pub async fn open(base: &Path, path: &str) -> Result<Self> {
        let rows = file_rows(base, path, &BTreeMap::new()).await?;
        let schema = Arc::clone(datafusion::physical_plan::streaming::PartitionStream::schema(&rows));
        let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
        context.register_table("rows", Arc::new(StreamingTable::try_new(Arc::clone(&schema), vec![Arc::new(rows)])?))?;
        Ok(Self { context, schema })
    }

    /// The columns, each with the type that its values can be taken for, if there is one.
    pub fn columns(&self) -> Vec<(String, Option<ValueType>)> {
        self.schema.fields().iter().map(|field| (field.name().clone(), value_type(field.data_type()))).collect()
    }

    /// The first rows.
    ///
    /// # Errors
    /// [`OfflineError`] where they cannot be read.
    pub async fn first(&self, rows: usize) -> Result<RecordBatch> {
        let frame = self.context.table("rows").await.map_err(OfflineError::from_engine)?;
        let frame = frame.limit(0, Some(rows)).map_err(OfflineError::from_engine)?;
        let batches = frame.collect().await.map_err(OfflineError::from_engine)?;
        Ok(concat_batches(&self.schema, &batches)?)
    }

    /// Writes all rows with the columns that the programs make behind their own.
    ///
    /// # Errors
    /// [`OfflineError`] where they cannot be read, a value does not fit its type, or the file cannot be written; then there is none.
    pub async fn write(
        &self,
        programs: &[RowsProgram],
        output: &Path,
        format: Option<SourceFormat>,
        threads: usize,
    ) -> Result<RowsWritten> {
        self.write_columns(Columns::of_rows(&self.schema, programs)?, output, format, threads).await
    }

    /// Writes all rows with the columns that a component makes behind their own.
    ///
    /// # Errors
    /// Those of [`Rows::write`], and where the component fails for a row.
    pub async fn write_transformed(
        &self,
        transform: RowsTransform,
        output: &Path,
        format: Option<SourceFormat>,
        threads: usize,
    ) -> Result<RowsWritten> {
        self.write_columns(Columns::of_transformed(&self.schema, transform)?, output, format, threads).await
    }

    async fn write_columns(
        &self,
        columns: Columns,
        output: &Path,
        format: Option<SourceFormat>,
        threads: usize,
    ) -> Result<RowsWritten> {
        let began = Instant::now();
        let format = format.map_or_else(|| output_format(output), Ok)?;
        let path: PathBuf = output.to_owned();
        let sink = Output::create(&path, format, &columns.schema, None, Box::new(|_| ()))?;
        let mut sink = Computing::new(sink, Some(columns));
        let frame = self.context.table("rows").await.map_err(OfflineError::from_engine)?;
        let mut stream = frame.execute_stream().await.map_err(OfflineError::from_engine)?;
        let schema = Arc::clone(&self.schema);
        let (sender, mut receiver) = tokio::sync::mpsc::channel::<RecordBatch>(1);
        let writing = tokio::task::spawn_blocking(move || {
            let (phases, stop) = (Phases::default(), AtomicBool::new(false));
            while let Some(batch) = receiver.blocking_recv() {
                sink.take(&Part::joined(&schema, &batch, &[], &phases, &stop), threads)?;
            }
            sink.sink.finish()
        });
        let (mut held, mut held_rows) = (Vec::new(), 0);
        while let Some(batch) = stream.next().await {
            let batch = batch.map_err(OfflineError::from_engine)?;
            held_rows += batch.num_rows();
            held.push(batch);
            if held_rows >= PART_ROWS {
                let part = concat_batches(&self.schema, &held)?;
                (held, held_rows) = (Vec::new(), 0);
                if sender.send(part).await.is_err() {
                    break;
                }
            }
        }
        if held_rows > 0 {
            // If nobody takes it, what went wrong is said below.
            let _ = sender.send(concat_batches(&self.schema, &held)?).await;
        }
        drop(sender);
        let written = writing.await??;
        Ok(RowsWritten { rows: written.rows, bytes: written.bytes, elapsed: began.elapsed() })
    }
}
