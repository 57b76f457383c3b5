//! Joins by workers: entity rows are cut into chunks, and each chunk is joined with each piece of each view.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::concat_batches;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::{ExecutionPlanProperties, SendableRecordBatchStream};
use futures::stream::FuturesOrdered;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::Semaphore;

use crate::entity_rows::EntityRows;
use crate::error::{OfflineError, Result};
use crate::pit::{Merge, Part, PartSink, Phases, PitView, convert};
use crate::prepare::PreparedView;
use crate::workers::pieces::{Piece, pieces};
use crate::workers::{Task, TaskLimits, Work, Workers};

/// Bytes of a chunk's entity rows at the most, and of those columns that go into tasks.
const CHUNK_BYTES: usize = 128 << 20;
const TASK_BYTES: usize = 12 << 20;
/// Chunks that are under way at the most: one is written while others are joined.
const CHUNKS_MAX: usize = 8;

/// What is joined.
pub(crate) struct Join<'a> {
    pub(crate) rows: &'a EntityRows,
    /// The views, with the features in their declared types.
    pub(crate) views: Vec<PitView>,
    pub(crate) prepared: &'a [PreparedView],
    pub(crate) filter_by_created: bool,
    pub(crate) threads: usize,
    pub(crate) memory: Option<usize>,
    /// All columns: those of the entity rows, then the features.
    pub(crate) schema: SchemaRef,
}

/// A view, divided.
struct ViewPieces<'a> {
    view: PitView,
    declared: &'a PitView,
    schema: SchemaRef,
    pieces: Vec<Piece>,
    /// The columns of the entity rows that the view is joined by.
    columns: Vec<usize>,
}

/// Entity rows that are joined together.
struct Chunk {
    rows: RecordBatch,
}

/// Joins all rows into `sink` and gives it back, with the number of chunks.
pub(crate) async fn join<S: PartSink + Send + 'static>(
    workers: &dyn Workers,
    join: Join<'_>,
    context: &Arc<TaskContext>,
    mut sink: S,
    phases: &Arc<Phases>,
) -> Result<(S, u64)> {
    let limits = workers.limits();
    let entity = join.rows.schema();
    let mut views = Vec::with_capacity(join.views.len());
    for (view, prepared) in join.views.iter().zip(join.prepared) {
        let names = view.keys.iter().map(|key| key.entity_column.as_str()).chain([join.rows.timestamp_column.as_str()]);
        let columns: BTreeSet<usize> = names.map(|name| entity.index_of(name)).collect::<std::result::Result<_, _>>()?;
        views.push(ViewPieces {
            // In the source's types: a value that does not fit the declared one is an error only where it is the one that counts.
            view: PitView { files: Vec::new(), ..prepared.view.clone() },
            declared: view,
            schema: Arc::clone(&prepared.schema),
            pieces: pieces(&prepared.files, limits.bytes),
            columns: columns.into_iter().collect(),
        });
    }
    let tasks: usize = views.iter().map(|view| view.pieces.len()).sum();
    let at_once = limits.at_once.max(1).div_ceil(tasks.max(1)).clamp(2, CHUNKS_MAX);
    let rows = chunk_rows(&join, limits, at_once);
    let partitions = 0..join.rows.plan.output_partitioning().partition_count();
    let streams = partitions.map(|partition| join.rows.plan.execute(partition, Arc::clone(context)));
    let mut chunks = Chunks {
        streams: streams.collect::<std::result::Result<_, _>>().map_err(OfflineError::from_engine)?,
        schema: entity,
        rows,
        columns: views.iter().flat_map(|view| &view.columns).copied().collect::<BTreeSet<_>>().into_iter().collect(),
        held: None,
    };
    chunks.streams.reverse();
    let slots = Semaphore::new(limits.at_once.max(1));
    let (mut under_way, mut count) = (FuturesOrdered::new(), 0);
    let mut ended = false;
    let stop = Arc::new(AtomicBool::new(false));
    let guard = StopOnDrop(Arc::clone(&stop));
    loop {
        while !ended && under_way.len() < at_once {
            match chunks.next().await? {
                Some(chunk) => {
                    count += 1;
                    workers.expect(tasks);
                    under_way.push_back(joined(workers, &join, &views, chunk, &slots));
                }
                None => ended = true,
            }
        }
        let Some((batch, matched)) = under_way.try_next().await? else { break };
        let (schema, phases, stop, threads) = (Arc::clone(&join.schema), Arc::clone(phases), Arc::clone(&stop), join.threads);
        sink = tokio::task::spawn_blocking(move || {
            sink.take(&Part::joined(&schema, &batch, &matched, &phases, &stop), threads)?;
            Ok::<S, OfflineError>(sink)
        })
        .await??;
    }
    drop(guard);
    Ok((sink, count))
}

/// Ends the writing, which goes on by itself, with whoever waited for it.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

/// Entity rows of a chunk: so many that the chunks under way, with some five rows of features for each, take a quarter of the memory.
fn chunk_rows(join: &Join<'_>, limits: TaskLimits, at_once: usize) -> usize {
    let Some(memory) = join.memory else { return limits.rows.max(1) };
    let row_bytes = join.schema.fields().len().saturating_mul(16 * 5).max(1);
    limits.rows.min((memory / 4 / at_once.max(1) / row_bytes).max(1024)).max(1)
}

/// All columns of a chunk, and by view the rows that have a value.
async fn joined(
    workers: &dyn Workers,
    join: &Join<'_>,
    views: &[ViewPieces<'_>],
    chunk: Chunk,
    slots: &Semaphore,
) -> Result<(RecordBatch, Vec<u64>)> {
    let mut merged: FuturesOrdered<_> = views.iter().map(|view| of_view(workers, join, view, &chunk, slots)).collect();
    let mut columns = chunk.rows.columns().to_vec();
    let mut matched = Vec::with_capacity(views.len());
    while let Some((features, rows)) = merged.try_next().await? {
        columns.extend(features);
        matched.push(rows);
    }
    drop(merged);
    let options = RecordBatchOptions::new().with_row_count(Some(chunk.rows.num_rows()));
    Ok((RecordBatch::try_new_with_options(Arc::clone(&join.schema), columns, &options)?, matched))
}

/// The features of a view for a chunk, and how many rows have a value.
async fn of_view(
    workers: &dyn Workers,
    join: &Join<'_>,
    view: &ViewPieces<'_>,
    chunk: &Chunk,
    slots: &Semaphore,
) -> Result<(Vec<arrow::array::ArrayRef>, u64)> {
    let rows = chunk.rows.project(&view.columns)?;
    let task = |piece: &Piece| Task {
        view: view.view.clone(),
        files: piece.files.clone(),
        part: piece.part,
        schema: Arc::clone(&view.schema),
        work: Work::Join {
            rows: rows.clone(),
            timestamp_column: join.rows.timestamp_column.clone(),
            filter_by_created: join.filter_by_created,
        },
    };
    let Some(first) = view.pieces.first() else {
        return Err(OfflineError::Workers { reason: format!("view {} has no files", view.view.name) });
    };
    let mut merge = Merge::new(task(first).output_schema()?, view.view.features.len(), chunk.rows.num_rows());
    // Tasks are done in any order, and their results merged in that of the pieces.
    let run = async |piece: &Piece| {
        // It is never closed.
        let _slot = slots.acquire().await;
        let mut found: Vec<RecordBatch> = Vec::new();
        workers.run(&task(piece), &mut found).await?;
        Ok::<_, OfflineError>(found)
    };
    let mut results: FuturesOrdered<_> = view.pieces.iter().map(run).collect();
    while let Some(found) = results.try_next().await? {
        for batch in found {
            merge.take(batch)?;
        }
    }
    let (found, matched) = merge.finish()?;
    let features = found
        .into_iter()
        .zip(&view.declared.features)
        .map(|(array, feature)| convert(array, &feature.data_type, view.declared, feature));
    Ok((features.collect::<std::result::Result<_, _>>()?, matched))
}

/// Cuts entity rows into chunks.
struct Chunks {
    /// From the last to the first.
    streams: Vec<SendableRecordBatchStream>,
    schema: Arc<Schema>,
    rows: usize,
    /// The columns that go into tasks.
    columns: Vec<usize>,
    /// Rows that are of the next chunk.
    held: Option<RecordBatch>,
}

impl Chunks {
    async fn next(&mut self) -> Result<Option<Chunk>> {
        let (mut batches, mut rows, mut bytes, mut task_bytes) = (Vec::new(), 0, 0_usize, 0_usize);
        while rows < self.rows && bytes < CHUNK_BYTES && task_bytes < TASK_BYTES {
            let batch = match self.held.take() {
                Some(batch) => batch,
                None => match self.streams.last_mut() {
                    None => break,
                    Some(stream) => match stream.next().await {
                        Some(batch) => batch.map_err(OfflineError::from_engine)?,
                        None => {
                            self.streams.pop();
                            continue;
                        }
                    },
                },
            };
            let taken = batch.num_rows().min(self.rows - rows);
            if taken < batch.num_rows() {
                self.held = Some(batch.slice(taken, batch.num_rows() - taken));
            }
            let batch = batch.slice(0, taken);
            rows += taken;
            bytes = bytes.saturating_add(slice_bytes(&batch));
            task_bytes = task_bytes.saturating_add(slice_bytes(&batch.project(&self.columns)?));
            batches.push(batch);
        }
        if rows == 0 {
            return Ok(None);
        }
        Ok(Some(Chunk { rows: concat_batches(&self.schema, &batches)? }))
    }
}

/// Bytes of a batch's own rows, which may be some of larger buffers.
fn slice_bytes(batch: &RecordBatch) -> usize {
    let bytes = batch.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0));
    bytes.fold(0, usize::saturating_add)
}
