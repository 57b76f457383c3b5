//! Feature columns of the rows that won.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arrow::array::{ArrayRef, BooleanArray};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{CastOptions, FilterBuilder, cast_with_options};
use arrow::datatypes::DataType;
use parquet::arrow::arrow_reader::RowSelection;

use super::PitError;
use super::file::OpenFile;

/// Rows per decoded batch: enough to amortise calls, few enough to stay in the cache.
pub(super) const BATCH_ROWS: usize = 8192;

/// Below one winner in so many rows, rows between winners are skipped instead of decoded.
const SPARSE: usize = 64;

/// A row of a view as a number that orders by file, row group and row and is never zero.
pub(super) fn place(ordinal: usize, row: usize) -> u64 {
    ((ordinal as u64 + 1) << 32) | row as u64
}

/// The row group and row of a place.
pub(super) fn split(place: u64) -> Option<(usize, usize)> {
    let ordinal = (place >> 32).checked_sub(1)?;
    Some((usize::try_from(ordinal).ok()?, (place & u64::from(u32::MAX)) as usize))
}

/// The winners of a row group.
#[derive(Default)]
pub(super) struct Chosen {
    words: Vec<u64>,
    /// Winners before each word.
    ranks: Vec<u32>,
    pub(super) count: usize,
}

impl Chosen {
    pub(super) fn insert(&mut self, row: usize, rows: usize) {
        if self.words.is_empty() {
            self.words = vec![0; rows.div_ceil(64)];
        }
        if let Some(word) = self.words.get_mut(row / 64) {
            *word |= 1 << (row % 64);
        }
    }

    pub(super) fn seal(&mut self) {
        let mut count = 0;
        self.ranks = self
            .words
            .iter()
            .map(|word| {
                let before = count;
                count += word.count_ones();
                before
            })
            .collect();
        self.count = count as usize;
    }

    /// How many winners come before a row.
    pub(super) fn rank(&self, row: usize) -> usize {
        let word = self.words.get(row / 64).copied().unwrap_or_default();
        let before = self.ranks.get(row / 64).copied().unwrap_or_default();
        (before + (word & ((1 << (row % 64)) - 1)).count_ones()) as usize
    }

    fn mask(&self, start: usize, length: usize) -> BooleanBuffer {
        let word = |index: usize| self.words.get(index).copied().unwrap_or_default();
        let shift = start % 64;
        let words = (0..length.div_ceil(64)).map(|index| {
            let (low, high) = (word(start / 64 + index), word(start / 64 + index + 1));
            // A shift by 64 has no meaning; then nothing of the second word is needed.
            low >> shift | high.checked_shl(64 - shift as u32).unwrap_or(0)
        });
        BooleanBuffer::new(words.collect::<Vec<u64>>().into(), 0, length)
    }

    fn selection(&self, rows: usize) -> RowSelection {
        let chosen = self
            .words
            .iter()
            .enumerate()
            .flat_map(|(index, word)| (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| index * 64 + bit));
        RowSelection::from_consecutive_ranges(chosen.map(|row| row..row + 1), rows)
    }
}

/// Reads columns of the chosen rows of a row group, in the file's types: of each column its pieces in order. Texts that come
/// again and again are dictionaries.
pub(super) fn gather_pieces(
    file: &OpenFile,
    group: usize,
    columns: &[&str],
    chosen: &Chosen,
    bytes: &AtomicU64,
    stop: &AtomicBool,
) -> Result<Vec<Vec<ArrayRef>>, PitError> {
    let mut parts: Vec<Vec<ArrayRef>> = columns.iter().map(|_| Vec::new()).collect();
    gather(file, group, columns, chosen, bytes, stop, |arrays| {
        parts.iter_mut().zip(arrays).for_each(|(part, array)| part.push(array));
        Ok(())
    })?;
    Ok(parts)
}

/// [`gather_pieces`] one after another, each with all columns.
pub(super) fn gather(
    file: &OpenFile,
    group: usize,
    columns: &[&str],
    chosen: &Chosen,
    bytes: &AtomicU64,
    stop: &AtomicBool,
    mut take: impl FnMut(Vec<ArrayRef>) -> Result<(), PitError>,
) -> Result<(), PitError> {
    let rows = file.rows(group);
    let sparse = chosen.count.saturating_mul(SPARSE) < rows;
    let selection = sparse.then(|| chosen.selection(rows));
    let mut start = 0;
    for batch in file.read(group, columns, !sparse, selection, BATCH_ROWS, bytes)? {
        if stop.load(Ordering::Relaxed) {
            return Err(PitError::Cancelled);
        }
        let (length, arrays) = batch?;
        let predicate = (!sparse).then(|| {
            let mask = BooleanArray::new(chosen.mask(start, length), None);
            FilterBuilder::new(&mask).optimize().build()
        });
        start += length;
        match &predicate {
            Some(predicate) if predicate.count() == 0 => {}
            Some(predicate) => take(arrays.iter().map(|array| predicate.filter(array)).collect::<Result<_, _>>()?)?,
            None => take(arrays)?,
        }
    }
    Ok(())
}

/// An array in another type; `column` and `file` are where it comes from.
pub(super) fn convert(array: ArrayRef, wanted: &DataType, column: &str, file: &str) -> Result<ArrayRef, PitError> {
    if array.data_type() == wanted {
        return Ok(array);
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(&array, wanted, &options).map_err(|error| PitError::FeatureType {
        column: column.to_owned(),
        file: file.to_owned(),
        found: array.data_type().to_string(),
        expected: wanted.to_string(),
        reason: error.to_string(),
    })
}

/// Stops the workers when the reader of the result goes away.
pub(super) struct StopOnDrop(pub(super) Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `count` tasks over threads; the first error ends all and is returned.
pub(crate) fn parallel<T: Send>(
    threads: usize,
    count: usize,
    stop: &AtomicBool,
    task: impl Fn(usize) -> Result<T, PitError> + Sync,
) -> Result<Vec<T>, PitError> {
    let next = AtomicU64::new(0);
    let failed = Mutex::new(None);
    let halted = AtomicBool::new(false);
    let work = || {
        let mut done = Vec::new();
        loop {
            let index = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap_or(usize::MAX);
            if index >= count || halted.load(Ordering::Relaxed) {
                return done;
            }
            let result = if stop.load(Ordering::Relaxed) { Err(PitError::Cancelled) } else { task(index) };
            match result {
                Ok(value) => done.push((index, value)),
                Err(error) => {
                    halted.store(true, Ordering::Relaxed);
                    failed.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get_or_insert(error);
                    return done;
                }
            }
        }
    };
    let threads = threads.clamp(1, count.max(1));
    let mut done = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut done = work();
        for other in others {
            match other.join() {
                Ok(more) => done.extend(more),
                Err(_) => return Err(PitError::Worker("a thread panicked".to_owned())),
            }
        }
        Ok(done)
    })?;
    if let Some(error) = failed.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
        return Err(error);
    }
    done.sort_unstable_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, value)| value).collect())
}
