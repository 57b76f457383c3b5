//! The newest row of each key.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::HashMap;
use mezze_core::Timestamp;
use tokio::runtime::Handle;

use super::file::OpenFile;
use super::gather::{BATCH_ROWS, Chosen, StopOnDrop, gather, parallel, place, split};
use super::keys::{Keys, kind};
use super::slots::Best;
use super::time::{Unit, instants};
use super::{PitError, PitView};

/// The output column of event times, as i64 nanoseconds.
pub const EVENT_COLUMN: &str = "event_timestamp";
/// The output column of creation times, as nullable i64 nanoseconds.
pub const CREATED_COLUMN: &str = "created_timestamp";

/// The newest rows so far, by key.
#[derive(Default)]
struct Newest {
    /// Where the key is one integer.
    integers: HashMap<i64, Best>,
    others: HashMap<Box<[u8]>, Best>,
}

impl Newest {
    fn raise<K: std::hash::Hash + Eq>(map: &mut HashMap<K, Best>, key: K, found: Best) {
        let best = map.entry(key).or_insert(Best::NONE);
        *best = found.max(*best);
    }

    fn merge(&mut self, other: Self) {
        other.integers.into_iter().for_each(|(key, found)| Self::raise(&mut self.integers, key, found));
        other.others.into_iter().for_each(|(key, found)| Self::raise(&mut self.others, key, found));
    }
}

/// The newest row of each key with an event time from `start` to `end`, both inclusive: by event time, then creation time,
/// then place. Rows with a null in their key or no event time are left out.
///
/// Columns are [`EVENT_COLUMN`], [`CREATED_COLUMN`], the keys under their entity names and the features under their output
/// names, in files' order and without a row for a key twice. Must be called within a Tokio runtime.
pub async fn latest_rows(
    view: &PitView,
    start: Option<Timestamp>,
    end: Timestamp,
    threads: usize,
) -> Result<Vec<RecordBatch>, PitError> {
    let stop = Arc::new(AtomicBool::new(false));
    let guard = StopOnDrop(Arc::clone(&stop));
    let (view, handle) = (view.clone(), Handle::current());
    let work = tokio::task::spawn_blocking(move || scan(&view, start, end, threads.max(1), &stop, &handle));
    let result = work.await.map_err(|error| PitError::Worker(error.to_string()))?;
    drop(guard);
    result
}

fn scan(
    view: &PitView,
    start: Option<Timestamp>,
    end: Timestamp,
    threads: usize,
    stop: &AtomicBool,
    handle: &Handle,
) -> Result<Vec<RecordBatch>, PitError> {
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
    let least = start.map_or(i64::MIN, |start| unit.ceil(start.nanos()));
    let greatest = unit.floor(end.nanos());
    let groups: Vec<(&OpenFile, usize)> =
        files.iter().flat_map(|file| (0..file.row_groups()).map(move |group| (file, group))).collect();
    if let Some((file, _)) = groups.iter().find(|(file, group)| u32::try_from(file.rows(*group)).is_err()) {
        return Err(PitError::TooManyRows { what: format!("a row group of {}", file.name) });
    }
    let bytes = AtomicU64::new(0);

    // One worker folds every `threads`-th row group into a map of its own.
    let maps = parallel(threads, threads, stop, |worker| {
        let mut newest = Newest::default();
        for (ordinal, (file, group)) in groups.iter().enumerate().skip(worker).step_by(threads) {
            let (low, high) = file.bounds(&view.timestamp_column, *group, unit);
            if low.is_none_or(|low| low <= greatest) && high.is_none_or(|high| high >= least) {
                fold(view, file, *group, ordinal, unit, least..=greatest, &mut newest, &bytes, stop)?;
            }
        }
        Ok(newest)
    })?;
    let mut maps = maps.into_iter();
    let mut newest = maps.next().unwrap_or_default();
    maps.for_each(|map| newest.merge(map));

    let mut chosen: Vec<Chosen> = groups.iter().map(|_| Chosen::default()).collect();
    for best in newest.integers.values().chain(newest.others.values()) {
        if let Some((ordinal, row)) = split(best.place)
            && let (Some(chosen), Some((file, group))) = (chosen.get_mut(ordinal), groups.get(ordinal))
        {
            chosen.insert(row, file.rows(*group));
        }
    }
    drop(newest);
    chosen.iter_mut().for_each(Chosen::seal);

    let mut columns: Vec<(&str, Option<&DataType>)> = vec![(&view.timestamp_column, None)];
    columns.extend(view.created_column.as_deref().map(|created| (created, None)));
    let keyed = view.keys.iter().zip(&key_types);
    columns.extend(keyed.clone().map(|(key, key_type)| (key.source_column.as_str(), Some(key_type))));
    columns.extend(view.features.iter().map(|feature| (feature.source_column.as_str(), Some(&feature.data_type))));
    let mut fields = vec![Field::new(EVENT_COLUMN, DataType::Int64, false), Field::new(CREATED_COLUMN, DataType::Int64, true)];
    fields.extend(keyed.map(|(key, key_type)| Field::new(&key.entity_column, key_type.clone(), true)));
    fields.extend(view.features.iter().map(|feature| Field::new(&feature.output_name, feature.data_type.clone(), true)));
    let schema = Arc::new(Schema::new(fields));
    let batches = parallel(threads, groups.len(), stop, |task| {
        let (Some((file, group)), Some(chosen)) = (groups.get(task), chosen.get(task).filter(|chosen| chosen.count > 0)) else {
            return Ok(None);
        };
        let mut arrays = gather(file, *group, &columns, chosen, &bytes, stop)?.into_iter();
        let mut nanos = |column: &str| -> Result<ArrayRef, PitError> {
            let found = arrays.next().ok_or_else(|| PitError::Worker(format!("column `{column}` was not decoded")))?;
            let values = instants(&found, unit).ok_or_else(|| PitError::NotTime {
                column: column.to_owned(),
                place: file.name.clone(),
                found: found.data_type().to_string(),
            })?;
            let values = values.iter().map(|value| unit.to_nanos(*value)).collect();
            Ok(Arc::new(Int64Array::try_new(values, found.nulls().cloned())?))
        };
        let events = nanos(&view.timestamp_column)?;
        let created = match &view.created_column {
            Some(column) => nanos(column)?,
            None => Arc::new(Int64Array::new_null(chosen.count)),
        };
        let columns = [events, created].into_iter().chain(arrays).collect();
        Ok(Some(RecordBatch::try_new(Arc::clone(&schema), columns)?))
    })?;
    Ok(batches.into_iter().flatten().collect())
}

#[expect(clippy::too_many_arguments, reason = "the loop body of `scan`, apart to keep both readable")]
fn fold(
    view: &PitView,
    file: &OpenFile,
    group: usize,
    ordinal: usize,
    unit: Unit,
    range: std::ops::RangeInclusive<i64>,
    newest: &mut Newest,
    bytes: &AtomicU64,
    stop: &AtomicBool,
) -> Result<(), PitError> {
    let mut columns = vec![view.timestamp_column.as_str()];
    columns.extend(view.created_column.as_deref());
    let times_end = columns.len();
    columns.extend(view.keys.iter().map(|key| key.source_column.as_str()));
    let (mut first, mut buffer) = (0, Vec::new());
    for batch in file.read(group, &columns, true, None, BATCH_ROWS, bytes)? {
        if stop.load(Ordering::Relaxed) {
            return Err(PitError::Cancelled);
        }
        let (rows, arrays) = batch?;
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
        for (row, time) in events.iter().enumerate().take(rows) {
            if !range.contains(time) || known.as_ref().is_some_and(|known| known.is_null(row)) {
                continue;
            }
            let created = times
                .get(1)
                .filter(|(_, nulls)| nulls.is_none_or(|nulls| nulls.is_valid(row)))
                .and_then(|(values, _)| values.get(row).copied());
            let found = Best { time: *time, created: created.unwrap_or(i64::MIN), place: place(ordinal, first + row) };
            if let [Keys::Integers(values, _)] = keys.as_slice() {
                Newest::raise(&mut newest.integers, values.get(row).copied().unwrap_or_default(), found);
            } else {
                buffer.clear();
                keys.iter().for_each(|keys| keys.write(row, &mut buffer));
                match newest.others.get_mut(buffer.as_slice()) {
                    Some(best) => *best = found.max(*best),
                    None => drop(newest.others.insert(Box::from(buffer.as_slice()), found)),
                }
            }
        }
        first += rows;
    }
    Ok(())
}
