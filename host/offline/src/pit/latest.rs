//! The newest row of each key.
//!
//! Keys with their best rows are kept in as much memory as there may be. Where they are too many, those with great hashes are let
//! go of, and the keys and times of all rows are read again for them: after each such *pass* what is left of a key is one bit,
//! that of its row. Features are read once, behind the last pass.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use mezze_core::Timestamp;
use tokio::runtime::Handle;
use xxhash_rust::xxh3::xxh3_64;

use super::best::{BestRows, ByShard, Key};
use super::file::OpenFile;
use super::gather::{BATCH_ROWS, Chosen, StopOnDrop, convert, gather, parallel, place, split};
use super::keys::{Keys, kind};
use super::slots::Best;
use super::time::{Unit, instants};
use super::{PitError, PitView};

/// The output column of event times, as i64 nanoseconds.
pub const EVENT_COLUMN: &str = "event_timestamp";
/// The output column of creation times, as nullable i64 nanoseconds.
pub const CREATED_COLUMN: &str = "created_timestamp";

/// Takes newest rows, from several threads at once.
pub trait RowSink: Send + Sync {
    /// Takes some rows of the `group`-th row group of a view's files; `false` where no more are wanted, which ends the reading
    /// with [`PitError::Cancelled`].
    fn take(&self, group: usize, batch: RecordBatch) -> bool;
}

/// What was read for newest rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewestReport {
    /// Rows that were the newest of their keys.
    pub rows: u64,
    /// How many times the keys and times of all rows were read.
    pub passes: u64,
    /// Bytes read, in all passes.
    pub bytes_read: u64,
}

/// [`newest_rows_to`] with all memory it needs, in files' order.
pub async fn latest_rows(
    view: &PitView,
    start: Option<Timestamp>,
    end: Timestamp,
    threads: usize,
) -> Result<Vec<RecordBatch>, PitError> {
    let collected = Arc::new(Collected::default());
    newest_rows_to(view, start, end, threads, None, Arc::clone(&collected) as Arc<dyn RowSink>).await?;
    let mut batches = std::mem::take(&mut *collected.0.lock().unwrap_or_else(PoisonError::into_inner));
    batches.sort_by_key(|(group, _)| *group);
    Ok(batches.into_iter().map(|(_, batch)| batch).collect())
}

#[derive(Default)]
struct Collected(Mutex<Vec<(usize, RecordBatch)>>);

impl RowSink for Collected {
    fn take(&self, group: usize, batch: RecordBatch) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((group, batch));
        true
    }
}

/// The newest row of each key with an event time from `start` to `end`, both inclusive: by event time, then creation time,
/// then place. Rows with a null in their key or no event time are left out.
///
/// Columns are [`EVENT_COLUMN`], [`CREATED_COLUMN`], the keys under their entity names and the features under their output
/// names. Rows of one row group come in order, and no key comes twice. `memory` is for the keys, in bytes. Must be called
/// within a Tokio runtime.
pub async fn newest_rows_to(
    view: &PitView,
    start: Option<Timestamp>,
    end: Timestamp,
    threads: usize,
    memory: Option<usize>,
    sink: Arc<dyn RowSink>,
) -> Result<NewestReport, PitError> {
    let stop = Arc::new(AtomicBool::new(false));
    let guard = StopOnDrop(Arc::clone(&stop));
    let (view, handle) = (view.clone(), Handle::current());
    let work = tokio::task::spawn_blocking(move || {
        let files = open(&view, threads.max(1), &stop, &handle)?;
        let read = Read { view: &view, stop: &stop, threads: threads.max(1), bytes: AtomicU64::new(0) };
        read.all(&files, start, end, memory, &*sink)
    });
    let result = work.await.map_err(|error| PitError::Worker(error.to_string()))?;
    drop(guard);
    result
}

/// The files of a view, and what they have in common.
struct Files {
    files: Vec<OpenFile>,
    unit: Unit,
    key_types: Vec<DataType>,
}

fn open(view: &PitView, threads: usize, stop: &AtomicBool, handle: &Handle) -> Result<Files, PitError> {
    let files = parallel(threads, view.files.len(), stop, |task| match view.files.get(task) {
        Some(file) => OpenFile::open(view, file, handle),
        None => Err(PitError::Cancelled),
    })?;
    let mut unit = Unit::Micros;
    let mut key_types: Vec<DataType> = Vec::new();
    for file in &files {
        unit = unit.max(file.unit(&view.timestamp_column)?);
        if let Some(created) = &view.created_column {
            unit = unit.max(file.unit(created)?);
        }
        for (index, key) in view.keys.iter().enumerate() {
            let found = file.data_type(&key.source_column)?;
            if kind(&found).is_none() {
                return Err(PitError::KeyType {
                    column: key.source_column.clone(),
                    place: file.name.clone(),
                    found: found.to_string(),
                });
            }
            match key_types.get(index) {
                None => key_types.push(found),
                Some(first) if kind(first) != kind(&found) => {
                    return Err(PitError::KeyMismatch {
                        column: key.source_column.clone(),
                        place: file.name.clone(),
                        found: found.to_string(),
                        entity_column: key.entity_column.clone(),
                        expected: first.to_string(),
                    });
                }
                Some(_) => {}
            }
        }
        view.features.iter().try_for_each(|feature| file.data_type(&feature.source_column).map(drop))?;
    }
    Ok(Files { files, unit, key_types })
}

/// A row group.
type Group<'a> = (&'a OpenFile, usize);

/// One reading of a view.
struct Read<'a> {
    view: &'a PitView,
    stop: &'a AtomicBool,
    threads: usize,
    bytes: AtomicU64,
}

impl Read<'_> {
    fn all(
        &self,
        files: &Files,
        start: Option<Timestamp>,
        end: Timestamp,
        memory: Option<usize>,
        sink: &dyn RowSink,
    ) -> Result<NewestReport, PitError> {
        let unit = files.unit;
        let range = start.map_or(i64::MIN, |start| unit.ceil(start.nanos()))..=unit.floor(end.nanos());
        let groups: Vec<Group<'_>> =
            files.files.iter().flat_map(|file| file.row_groups().map(move |group| (file, group))).collect();
        if let Some((file, _)) = groups.iter().find(|(file, group)| u32::try_from(file.rows(*group)).is_err()) {
            return Err(PitError::TooManyRows { what: format!("a row group of {}", file.name) });
        }
        let mut chosen: Vec<Chosen> = groups.iter().map(|_| Chosen::default()).collect();
        // Integers of all widths are compared as i64; booleans are, too.
        let integers = matches!(files.key_types.as_slice(), [one] if one.is_integer() || *one == DataType::Boolean);
        let passes = if integers {
            self.passes::<i64>(&groups, unit, &range, memory, &mut chosen)?
        } else {
            self.passes::<Box<[u8]>>(&groups, unit, &range, memory, &mut chosen)?
        };
        chosen.iter_mut().for_each(Chosen::seal);
        self.put(&groups, files, &chosen, sink)?;
        let rows = chosen.iter().map(|chosen| chosen.count as u64).sum();
        Ok(NewestReport { rows, passes, bytes_read: self.bytes.load(Ordering::Relaxed) })
    }

    /// Marks the newest row of every key; how many passes that took.
    fn passes<K: Key + Coded>(
        &self,
        groups: &[Group<'_>],
        unit: Unit,
        range: &std::ops::RangeInclusive<i64>,
        memory: Option<usize>,
        chosen: &mut [Chosen],
    ) -> Result<u64, PitError> {
        let (mut first, mut last, mut passes) = (0, u64::MAX, 0);
        loop {
            let best = BestRows::<K>::new(first, last, memory);
            parallel(self.threads, groups.len(), self.stop, |ordinal| {
                let Some((file, group)) = groups.get(ordinal) else { return Ok(()) };
                let (low, high) = file.bounds(&self.view.timestamp_column, *group, unit);
                if low.is_none_or(|low| low <= *range.end()) && high.is_none_or(|high| high >= *range.start()) {
                    self.fold(file, *group, ordinal, unit, range, &best)?;
                }
                Ok(())
            })?;
            passes += 1;
            let kept = best.last();
            for (ordinal, row) in best.places().filter_map(split) {
                if let (Some(chosen), Some((file, group))) = (chosen.get_mut(ordinal), groups.get(ordinal)) {
                    chosen.insert(row, file.rows(*group));
                }
            }
            if kept == u64::MAX {
                return Ok(passes);
            }
            // As many hashes again as there was room for.
            last = kept.saturating_add(kept - first).saturating_add(1);
            first = kept + 1;
        }
    }

    fn fold<K: Key + Coded>(
        &self,
        file: &OpenFile,
        group: usize,
        ordinal: usize,
        unit: Unit,
        range: &std::ops::RangeInclusive<i64>,
        best: &BestRows<K>,
    ) -> Result<(), PitError> {
        let view = self.view;
        let mut columns = vec![view.timestamp_column.as_str()];
        columns.extend(view.created_column.as_deref());
        let times_end = columns.len();
        columns.extend(view.keys.iter().map(|key| key.source_column.as_str()));
        let (mut first, mut lanes, mut by_shard) = (0, K::lanes(), ByShard::default());
        let (mut hashes, mut rows) = (Vec::new(), Vec::new());
        for batch in file.read(group, &columns, true, None, BATCH_ROWS, &self.bytes)? {
            if self.stop.load(Ordering::Relaxed) {
                return Err(PitError::Cancelled);
            }
            let (count, arrays) = batch?;
            let keys = view
                .keys
                .iter()
                .zip(arrays.iter().skip(times_end))
                .map(|(key, array)| Keys::new(array, &key.source_column, &file.name))
                .collect::<Result<Vec<_>, _>>()?;
            let mut known: Option<NullBuffer> = None;
            let mut times = Vec::with_capacity(times_end);
            for (index, array) in arrays.iter().take(times_end).enumerate() {
                let values = instants(array, unit).ok_or_else(|| PitError::NotTime {
                    column: columns.get(index).copied().unwrap_or_default().to_owned(),
                    place: file.name.clone(),
                    found: array.data_type().to_string(),
                })?;
                if index == 0 {
                    known = array.nulls().cloned();
                }
                times.push((values, array.nulls()));
            }
            for keys in &keys {
                known = NullBuffer::union(known.as_ref(), keys.nulls());
            }
            let Some((events, _)) = times.first() else { continue };
            K::code(&keys, count, &mut lanes);
            hashes.clear();
            rows.clear();
            for (row, time) in events.iter().enumerate().take(count) {
                if range.contains(time) && known.as_ref().is_none_or(|known| known.is_valid(row)) {
                    let hash = K::hash_of(K::given(&lanes, row));
                    if best.takes(hash) {
                        hashes.push(hash);
                        rows.push(row);
                    }
                }
            }
            let row_of = |place: usize| rows.get(place).copied().unwrap_or_default();
            let found = |at: usize| {
                let row = row_of(at);
                let created = times
                    .get(1)
                    .filter(|(_, nulls)| nulls.is_none_or(|nulls| nulls.is_valid(row)))
                    .and_then(|(values, _)| values.get(row).copied());
                Best {
                    time: events.get(row).copied().unwrap_or(i64::MIN),
                    created: created.unwrap_or(i64::MIN),
                    place: place(ordinal, first + row),
                }
            };
            best.fold(&hashes, &mut by_shard, |at| K::given(&lanes, row_of(at)), found);
            first += count;
        }
        Ok(())
    }

    /// Gives the chosen rows to `sink`.
    fn put(&self, groups: &[Group<'_>], files: &Files, chosen: &[Chosen], sink: &dyn RowSink) -> Result<(), PitError> {
        let view = self.view;
        let times = 1 + usize::from(view.created_column.is_some());
        let mut names = vec![view.timestamp_column.as_str()];
        names.extend(view.created_column.as_deref());
        names.extend(view.keys.iter().map(|key| key.source_column.as_str()));
        names.extend(view.features.iter().map(|feature| feature.source_column.as_str()));
        let mut fields =
            vec![Field::new(EVENT_COLUMN, DataType::Int64, false), Field::new(CREATED_COLUMN, DataType::Int64, true)];
        let keyed = view.keys.iter().zip(&files.key_types);
        fields.extend(keyed.map(|(key, key_type)| Field::new(&key.entity_column, key_type.clone(), true)));
        fields.extend(view.features.iter().map(|feature| Field::new(&feature.output_name, feature.data_type.clone(), true)));
        let schema = Arc::new(Schema::new(fields));
        parallel(self.threads, groups.len(), self.stop, |task| {
            let (Some((file, group)), Some(chosen)) = (groups.get(task), chosen.get(task).filter(|chosen| chosen.count > 0))
            else {
                return Ok(());
            };
            let mut waiting = Waiting { schema: &schema, sink, group: task, rows: 0, batches: Vec::new() };
            gather(file, *group, &names, chosen, &self.bytes, self.stop, |arrays| {
                let rows = arrays.first().map_or(0, |array| array.len());
                let mut columns = Vec::with_capacity(schema.fields().len());
                for (array, column) in arrays.iter().zip(&names).take(times) {
                    columns.push(nanos(array, files.unit, column, file)?);
                }
                if times == 1 {
                    columns.push(Arc::new(Int64Array::new_null(rows)));
                }
                let rest = arrays.into_iter().zip(&names).skip(times).zip(schema.fields().iter().skip(2));
                for ((array, column), field) in rest {
                    columns.push(convert(array, field.data_type(), column, &file.name)?);
                }
                waiting.push(RecordBatch::try_new(Arc::clone(&schema), columns)?)
            })?;
            waiting.flush()
        })?;
        Ok(())
    }
}

/// Instants as nanoseconds.
fn nanos(array: &ArrayRef, unit: Unit, column: &str, file: &OpenFile) -> Result<ArrayRef, PitError> {
    let values = instants(array, unit).ok_or_else(|| PitError::NotTime {
        column: column.to_owned(),
        place: file.name.clone(),
        found: array.data_type().to_string(),
    })?;
    let values = values.iter().map(|value| unit.to_nanos(*value)).collect();
    Ok(Arc::new(Int64Array::try_new(values, array.nulls().cloned())?))
}

/// Few rows wait for others, so that the sink gets batches of a good size.
struct Waiting<'a> {
    schema: &'a SchemaRef,
    sink: &'a dyn RowSink,
    group: usize,
    rows: usize,
    batches: Vec<RecordBatch>,
}

impl Waiting<'_> {
    fn push(&mut self, batch: RecordBatch) -> Result<(), PitError> {
        self.rows += batch.num_rows();
        self.batches.push(batch);
        if self.rows >= BATCH_ROWS / 2 { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), PitError> {
        let batch = match self.batches.as_slice() {
            [] => return Ok(()),
            [one] => one.clone(),
            many => concat_batches(self.schema, many)?,
        };
        self.batches.clear();
        self.rows = 0;
        if self.sink.take(self.group, batch) { Ok(()) } else { Err(PitError::Cancelled) }
    }
}

/// How keys of a batch become [`Key`]s.
trait Coded: Key {
    /// The keys of a batch.
    type Lanes;

    fn lanes() -> Self::Lanes;
    fn code(keys: &[Keys], rows: usize, lanes: &mut Self::Lanes);
    fn given(lanes: &Self::Lanes, row: usize) -> &Self::Given;
    fn hash_of(given: &Self::Given) -> u64;
}

impl Coded for i64 {
    type Lanes = Vec<Self>;

    fn lanes() -> Vec<Self> {
        Vec::new()
    }

    fn code(keys: &[Keys], rows: usize, lanes: &mut Vec<Self>) {
        lanes.clear();
        if let Some(values) = keys.first().and_then(Keys::integers) {
            lanes.extend_from_slice(values);
        }
        lanes.resize(rows, 0);
    }

    fn given(lanes: &Vec<Self>, row: usize) -> &Self {
        lanes.get(row).unwrap_or(&0)
    }

    fn hash_of(given: &Self) -> u64 {
        given.hash()
    }
}

impl Coded for Box<[u8]> {
    /// All keys' bytes, and where each ends.
    type Lanes = (Vec<u8>, Vec<usize>);

    fn lanes() -> Self::Lanes {
        (Vec::new(), Vec::new())
    }

    fn code(keys: &[Keys], rows: usize, (bytes, ends): &mut Self::Lanes) {
        bytes.clear();
        ends.clear();
        for row in 0..rows {
            keys.iter().for_each(|keys| keys.write(row, bytes));
            ends.push(bytes.len());
        }
    }

    fn given((bytes, ends): &Self::Lanes, row: usize) -> &[u8] {
        let start = row.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or(0);
        bytes.get(start..ends.get(row).copied().unwrap_or(start)).unwrap_or_default()
    }

    fn hash_of(given: &[u8]) -> u64 {
        xxh3_64(given)
    }
}
