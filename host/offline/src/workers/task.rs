//! A task, and how it is done: with the code that does the whole in one process.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt64Array};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream};
use futures::StreamExt;
use mezze_core::Timestamp;
use mezze_model::SourceFormat;
use tokio::sync::mpsc::Sender;

use crate::error::{OfflineError, Result};
use crate::pit::{FilePart, PitExec, PitFeature, PitFile, PitOptions, PitView, RowSink, newest_rows_to};
use crate::source::SourceFiles;
use crate::spill::{Spill, spill};
use crate::workers::whole::end_of;

/// The column that numbers a result's rows: entity rows of a join, newest rows one by one. No other column begins so.
const ROW: &str = "\u{1}row";
/// The columns of a row's own times, in the source's types.
pub(super) const EVENT: &str = "\u{1}event";
pub(super) const CREATED: &str = "\u{1}created";
/// Batches of a result that are made ahead.
const AHEAD: usize = 2;

/// Work on a piece of a view.
#[derive(Clone, Debug)]
pub struct Task {
    /// The view. Its own list of files is empty: those of the task count.
    pub view: PitView,
    /// The files to read.
    pub files: SourceFiles,
    /// The part of the only file that is to be read; the whole if not given.
    pub part: Option<FilePart>,
    /// The columns that are read of the files, with their types.
    pub schema: SchemaRef,
    /// What is looked for.
    pub work: Work,
}

/// What a task looks for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Work {
    /// For each of some entity rows, the best row.
    Join {
        /// The entity rows, of which only keys and times are needed.
        rows: RecordBatch,
        /// The column of their times.
        timestamp_column: String,
        /// Whether rows that were created after the entity row's time do not count.
        filter_by_created: bool,
    },
    /// The newest row of each key.
    Newest {
        /// The earliest event time, included; none for all.
        start: Option<Timestamp>,
        /// The latest event time, included.
        end: Timestamp,
    },
}

impl Task {
    /// The columns that the task returns: a row's number, the keys of newest rows, the features, and the row's own times.
    ///
    /// # Errors
    /// Where the view and the columns of its files do not agree.
    pub fn output_schema(&self) -> Result<SchemaRef> {
        let mut fields = vec![Field::new(ROW, DataType::UInt64, false)];
        if let Work::Newest { .. } = self.work {
            for key in &self.view.keys {
                fields.push(Field::new(&key.entity_column, self.data_type(&key.source_column)?, true));
            }
        }
        let features = self.view.features.iter().chain(&self.times()?).cloned().collect::<Vec<_>>();
        fields.extend(features.into_iter().map(|feature| Field::new(feature.output_name, feature.data_type, true)));
        Ok(Arc::new(Schema::new(fields)))
    }

    fn data_type(&self, column: &str) -> Result<DataType> {
        Ok(self.schema.field_with_name(column)?.data_type().clone())
    }

    /// A row's own times, as features beside the others.
    fn times(&self) -> Result<Vec<PitFeature>> {
        let time = |column: &String, name: &str| -> Result<PitFeature> {
            Ok(PitFeature { source_column: column.clone(), output_name: name.to_owned(), data_type: self.data_type(column)? })
        };
        let mut times = vec![time(&self.view.timestamp_column, EVENT)?];
        if let Some(created) = &self.view.created_column {
            times.push(time(created, CREATED)?);
        }
        Ok(times)
    }

    /// Does the task, in so many threads and about as much memory. The result is whole once [`Whole`](crate::Whole) says so.
    ///
    /// Must be called within a Tokio runtime; nothing more is done once the stream is dropped.
    ///
    /// # Errors
    /// Those of [`Task::output_schema`]; others come through the stream, as this crate's errors in the engine's.
    pub fn stream(
        self: Arc<Self>,
        threads: usize,
        memory: Option<usize>,
        conversions: Arc<Conversions>,
    ) -> Result<SendableRecordBatchStream> {
        let schema = self.output_schema()?;
        let mut builder = RecordBatchReceiverStreamBuilder::new(Arc::clone(&schema), AHEAD);
        let sender = builder.tx();
        builder.spawn(async move {
            let failed = |error: OfflineError| DataFusionError::External(Box::new(error));
            let rows = self.rows_to(&sender, &schema, threads.max(1), memory, &conversions).await.map_err(failed)?;
            if let Some(rows) = rows {
                let _ = sender.send(Ok(end_of(&schema, rows).map_err(failed)?)).await;
            }
            Ok(())
        });
        Ok(builder.build())
    }

    /// Sends the rows and says how many there are; `None` where nobody wants more of them.
    async fn rows_to(
        &self,
        sender: &Sender<std::result::Result<RecordBatch, DataFusionError>>,
        schema: &SchemaRef,
        threads: usize,
        memory: Option<usize>,
        conversions: &Conversions,
    ) -> Result<Option<u64>> {
        let converted = conversions.parquet(self).await?;
        let mut view = self.view.clone();
        view.features.extend(self.times()?);
        view.files = converted.files.clone();
        if let [file] = view.files.as_mut_slice() {
            file.part = self.part;
        }
        match &self.work {
            Work::Join { rows, timestamp_column, filter_by_created } => {
                let options = PitOptions {
                    timestamp_column: timestamp_column.clone(),
                    filter_by_created: *filter_by_created,
                    threads,
                    memory,
                    explain: false,
                };
                let input = MemorySourceConfig::try_new_exec(&[vec![rows.clone()]], rows.schema(), None)?;
                let join = PitExec::try_new(input, vec![view], options)?;
                let mut joined = join.execute(0, Arc::new(TaskContext::default())).map_err(OfflineError::from_engine)?;
                let (mut first, mut sent) = (0_u64, 0_u64);
                while let Some(batch) = joined.next().await {
                    let batch = batch.map_err(OfflineError::from_engine)?;
                    let numbers = first..first + batch.num_rows() as u64;
                    first = numbers.end;
                    let own = batch.columns().iter().skip(rows.num_columns()).cloned();
                    let found = winners(schema, numbers, own.collect(), self.view.features.len())?;
                    sent += found.num_rows() as u64;
                    if found.num_rows() > 0 && sender.send(Ok(found)).await.is_err() {
                        return Ok(None);
                    }
                }
                Ok(Some(sent))
            }
            Work::Newest { start, end } => {
                let sink = Arc::new(Sink { sender: sender.clone(), schema: Arc::clone(schema), state: Mutex::default() });
                let taker = Arc::clone(&sink) as Arc<dyn RowSink>;
                let result = newest_rows_to(&view, *start, *end, threads, memory, taker).await;
                let state = std::mem::take(&mut *sink.state.lock().unwrap_or_else(PoisonError::into_inner));
                if let Some(error) = state.error {
                    return Err(error);
                }
                if sender.is_closed() {
                    return Ok(None);
                }
                result?;
                Ok(Some(state.rows))
            }
        }
    }
}

/// Files of other formats than Parquet that a process has converted for its last tasks, as those that follow often need the same.
#[derive(Debug, Default)]
pub struct Conversions(Mutex<Vec<Arc<Converted>>>);

/// Files that were converted, and those that they were made of.
#[derive(Debug)]
struct Converted {
    key: String,
    files: Vec<PitFile>,
    _spill: Spill,
}

/// Conversions that are kept.
const CONVERTED_MAX: usize = 8;

impl Conversions {
    /// The files of a task as Parquet files.
    async fn parquet(&self, task: &Task) -> Result<Arc<Converted>> {
        if task.files.format == SourceFormat::Parquet {
            let (files, spill) = spill(&task.files, &task.schema).await?;
            return Ok(Arc::new(Converted { key: String::new(), files, _spill: spill }));
        }
        let mut key = format!("{:?}\n{:?}\n", task.files.format, task.schema);
        for file in &task.files.files {
            key += &format!("{:?} {} {:?} {:?} {:?}\n", file.local, file.location, file.size, file.last_modified, file.etag);
        }
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().iter().find(|known| known.key == key) {
            return Ok(Arc::clone(known));
        }
        let (files, spill) = spill(&task.files, &task.schema).await?;
        let converted = Arc::new(Converted { key, files, _spill: spill });
        let mut kept = lock();
        kept.push(Arc::clone(&converted));
        let surplus = kept.len().saturating_sub(CONVERTED_MAX);
        kept.drain(..surplus);
        Ok(converted)
    }
}

/// Of joined rows those that have a winner, with their numbers. The event time, behind the features, tells: a winner has one.
fn winners(schema: &SchemaRef, numbers: std::ops::Range<u64>, own: Vec<ArrayRef>, features: usize) -> Result<RecordBatch> {
    let numbers: ArrayRef = Arc::new(UInt64Array::from_iter_values(numbers));
    let found = own.get(features).and_then(|events| events.nulls()).map(|nulls| BooleanArray::new(nulls.inner().clone(), None));
    let batch = RecordBatch::try_new(Arc::clone(schema), std::iter::once(numbers).chain(own).collect())?;
    Ok(match found {
        Some(found) => filter_record_batch(&batch, &found)?,
        None => batch,
    })
}

/// Sends newest rows on.
struct Sink {
    sender: Sender<std::result::Result<RecordBatch, DataFusionError>>,
    schema: SchemaRef,
    state: Mutex<SinkState>,
}

#[derive(Default)]
struct SinkState {
    rows: u64,
    error: Option<OfflineError>,
}

impl Sink {
    /// The columns of the result. Nobody needs the times in nanoseconds: the row's own are beside them.
    fn shaped(&self, batch: &RecordBatch, first: u64) -> Result<RecordBatch> {
        let numbers: ArrayRef = Arc::new(UInt64Array::from_iter_values(first..first + batch.num_rows() as u64));
        let fields: Vec<&FieldRef> = self.schema.fields().iter().skip(1).collect();
        let own = batch.columns().iter().skip(2).zip(fields).map(|(column, field)| {
            if column.data_type() == field.data_type() { Ok(Arc::clone(column)) } else { cast(column, field.data_type()) }
        });
        let own: Vec<ArrayRef> = own.collect::<std::result::Result<_, _>>()?;
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), std::iter::once(numbers).chain(own).collect())?)
    }
}

impl RowSink for Sink {
    fn take(&self, _: usize, batch: RecordBatch) -> bool {
        let first = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let first = state.rows;
            state.rows += batch.num_rows() as u64;
            first
        };
        match self.shaped(&batch, first) {
            Ok(batch) => self.sender.blocking_send(Ok(batch)).is_ok(),
            Err(error) => {
                self.state.lock().unwrap_or_else(PoisonError::into_inner).error.get_or_insert(error);
                false
            }
        }
    }
}
