//! Files as a table of the engine.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::streaming::PartitionStream;

use crate::error::Result;
use crate::read::{LocalCopy, read_file};
use crate::source::{SourceFile, SourceFiles};

/// Batches that are read ahead.
const AHEAD: usize = 2;

/// The rows of files, in order, as one partition.
#[derive(Debug)]
pub(crate) struct FileRows {
    files: SourceFiles,
    schema: SchemaRef,
}

impl FileRows {
    /// The columns of `schema`, which may name those of partition folders.
    pub(crate) fn new(files: SourceFiles, schema: SchemaRef) -> Self {
        Self { files, schema }
    }
}

impl PartitionStream for FileRows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut builder = RecordBatchReceiverStreamBuilder::new(Arc::clone(&self.schema), AHEAD);
        let (sender, files, schema) = (builder.tx(), self.files.clone(), Arc::clone(&self.schema));
        let constant = |file: &SourceFile, field: &FieldRef| file.constants.iter().any(|(name, _)| name == field.name());
        builder.spawn(async move {
            for file in files.files {
                let own: Vec<FieldRef> = schema.fields().iter().filter(|field| !constant(&file, field)).cloned().collect();
                let own: SchemaRef = Arc::new(Schema::new(own));
                let copy = LocalCopy::of(&file).await.map_err(external)?;
                let (sender, schema, format) = (sender.clone(), Arc::clone(&schema), files.format);
                let read = move || {
                    read_file(copy.path(), &file.name, format, &own, &mut |batch| {
                        let batch = with_constants(&batch, &file, &schema)?;
                        // The receiver is gone once nobody wants more rows.
                        Ok(sender.blocking_send(Ok(batch)).is_ok())
                    })
                };
                tokio::task::spawn_blocking(read).await.map_err(|error| external(error.into()))?.map_err(external)?;
            }
            Ok(())
        });
        builder.build()
    }
}

/// An error of this crate on its way through the engine; [`crate::OfflineError::from_engine`] takes it out again.
fn external(error: crate::OfflineError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// Adds what a file's partition folders say.
fn with_constants(batch: &RecordBatch, file: &SourceFile, schema: &SchemaRef) -> Result<RecordBatch> {
    if file.constants.is_empty() {
        return Ok(batch.clone());
    }
    let column = |field: &FieldRef| -> Result<ArrayRef> {
        let constant = file.constants.iter().find(|(name, _)| name == field.name());
        match (constant, batch.column_by_name(field.name())) {
            (Some((_, value)), _) => Ok(value.to_array_of_size(batch.num_rows())?),
            (None, Some(column)) => Ok(Arc::clone(column)),
            (None, None) => Ok(arrow::array::new_null_array(field.data_type(), batch.num_rows())),
        }
    };
    Ok(RecordBatch::try_new(Arc::clone(schema), schema.fields().iter().map(column).collect::<Result<_>>()?)?)
}
