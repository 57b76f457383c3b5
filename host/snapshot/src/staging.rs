//! New rows, held in memory or in a temporary file until their table is built.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use mezze_arrow::ConvertError;
use mezze_core::{FeatureSchema, KeyHash, TableSchema, ValueType};
use mezze_model::{Definitions, tables};

use crate::SnapshotError;
use crate::column::{Column, DIGEST_START, TooLong, numbers, split};
use crate::content::{NOT_CREATED, ViewStore, sorted};
use crate::convert::{feature_column, key_column};

/// Without a limit, rows are held up to so many bytes: above that, texts of a column could reach the 4 GiB that 32-bit offsets
/// can tell.
const HELD_BYTES_MAX: usize = 2 << 30;
/// Bytes of a block of a temporary file at about the most: what is read for the few rows of it that may be wanted.
const BLOCK_BYTES: usize = 256 << 10;

/// A range of hashes of keys, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HashRange {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

impl HashRange {
    pub(crate) const ALL: Self = Self { first: 0, last: u64::MAX };

    /// That of buckets from `start` to before `end`, of `bucket_count`.
    pub(crate) fn of_buckets(start: u32, end: u32, bucket_count: u32) -> Self {
        // The least hash whose product with the count reaches the bucket in its high word.
        let least = |bucket: u32| (u128::from(bucket) << 64).div_ceil(u128::from(bucket_count.max(1)));
        let last = least(end).saturating_sub(1).min(u128::from(u64::MAX)) as u64;
        Self { first: least(start) as u64, last }
    }

    pub(crate) fn has(self, hash: u64) -> bool {
        hash >= self.first && hash <= self.last
    }
}

/// Where new rows of several views wait, with one limit for all of them together.
#[derive(Clone, Debug)]
pub struct StagingArea {
    tables: Arc<[TableSchema]>,
    memory: Option<usize>,
    folder: PathBuf,
    held: Arc<AtomicUsize>,
}

impl StagingArea {
    /// Rows beyond a quarter of `memory` bytes go to temporary files in `folder`, which nothing is left of whatever ends the
    /// process.
    pub fn new(definitions: &Definitions, memory: Option<usize>, folder: &Path) -> Self {
        Self { tables: tables(definitions).into(), memory, folder: folder.to_owned(), held: Arc::default() }
    }

    /// For the rows of a view, of `together` views whose rows come at the same time; `None` if no table has it.
    pub fn stage(&self, view: &str, together: usize) -> Option<Staging> {
        let table = self.tables.iter().find(|table| table.views.iter().any(|known| known.name == view))?;
        let number = table.views.iter().position(|known| known.name == view)?;
        let rows = NewRows::new(table, number);
        let state = State { rows, spilled: None, error: None };
        let limit = self.memory.map_or(HELD_BYTES_MAX, |memory| (memory / 8 / together.max(1)).min(HELD_BYTES_MAX));
        Some(Staging { area: self.clone(), view: view.to_owned(), table: table.clone(), number, limit, state: Mutex::new(state) })
    }
}

/// Takes the newest rows of a view.
#[derive(Debug)]
pub struct Staging {
    area: StagingArea,
    view: String,
    table: TableSchema,
    number: usize,
    limit: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    rows: NewRows,
    spilled: Option<Spilled>,
    error: Option<SnapshotError>,
}

impl Staging {
    /// Takes rows: the columns `event_timestamp` (int64 nanoseconds), `created_timestamp` (the same, null where unknown), the
    /// join keys and the features, by their names. No key may come twice. `false` where they are refused, which
    /// [`Staging::finish`] then tells the reason of. May be called by several threads at once.
    pub fn push(&self, batch: &RecordBatch) -> bool {
        let rows = NewRows::of_batch(&self.table, self.number, &self.view, batch);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.error.is_some() {
            return false;
        }
        match rows.and_then(|rows| self.add(&mut state, rows)) {
            Ok(()) => true,
            Err(error) => {
                state.error = Some(error);
                false
            }
        }
    }

    fn add(&self, state: &mut State, rows: NewRows) -> Result<(), SnapshotError> {
        if !state.rows.is_empty() && state.rows.memory() + rows.memory() > self.limit {
            self.spill(state)?;
        }
        state.rows.append(rows).map_err(|TooLong| SnapshotError::TooMuch {
            table: self.table.name.clone(),
            what: format!("one batch of rows of view {} has texts of 4 GiB or more", self.view),
        })
    }

    fn spill(&self, state: &mut State) -> Result<(), SnapshotError> {
        let rows = std::mem::replace(&mut state.rows, NewRows::new(&self.table, self.number));
        let spilled = match &mut state.spilled {
            Some(spilled) => spilled,
            none => none.insert(Spilled::new(&self.area.folder)?),
        };
        spilled.write(&rows)
    }

    /// All rows that were taken, which are then gone from here.
    ///
    /// # Errors
    /// Why rows were refused, or could not be written to a temporary file.
    pub fn finish(&self) -> Result<StagedRows, SnapshotError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = state.error.take() {
            return Err(error);
        }
        let bytes = state.rows.memory();
        let most = self.area.memory.map_or(HELD_BYTES_MAX, |memory| memory / 4);
        if bytes > 0 && self.area.held.load(Ordering::Relaxed).saturating_add(bytes) > most {
            self.spill(&mut state)?;
        } else {
            self.area.held.fetch_add(bytes, Ordering::Relaxed);
        }
        let rows = std::mem::replace(&mut state.rows, NewRows::new(&self.table, self.number));
        let spilled = state.spilled.take();
        drop(state);
        Ok(StagedRows { view: self.view.clone(), table: self.table.clone(), number: self.number, rows, spilled })
    }
}

/// The newest rows of a view, a row a key.
#[derive(Debug)]
pub struct StagedRows {
    view: String,
    table: TableSchema,
    number: usize,
    /// In any order.
    rows: NewRows,
    spilled: Option<Spilled>,
}

impl StagedRows {
    /// The view.
    pub fn view(&self) -> &str {
        &self.view
    }

    /// Bytes in temporary files.
    pub fn spilled_bytes(&self) -> u64 {
        self.spilled.as_ref().map_or(0, |spilled| spilled.end)
    }

    /// How many rows there are.
    pub fn len(&self) -> u64 {
        self.rows.len() as u64 + self.spilled.as_ref().map_or(0, |spilled| spilled.rows)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that all rows would take in memory.
    pub(crate) fn memory(&self) -> u64 {
        self.rows.memory() as u64 + self.spilled.as_ref().map_or(0, |spilled| spilled.memory)
    }

    /// All rows, which are then gone from here. Only for rows that were not spilled.
    pub(crate) fn take(&mut self) -> Option<NewRows> {
        let empty = || NewRows::new(&self.table, self.number);
        self.spilled.is_none().then(|| std::mem::replace(&mut self.rows, empty()))
    }

    /// The rows whose keys have hashes in a range.
    pub(crate) fn read(&self, range: HashRange) -> Result<NewRows, SnapshotError> {
        let too_long = |TooLong| SnapshotError::TooMuch {
            table: self.table.name.clone(),
            what: format!("the rows of one part of view {} have texts of 4 GiB or more", self.view),
        };
        let mut found = NewRows::new(&self.table, self.number);
        let held = self.rows.hashes.iter().zip(0..).filter(|(hash, _)| range.has(**hash)).map(|(_, row)| row);
        found.append_rows(&self.rows, held).map_err(too_long)?;
        if let Some(spilled) = &self.spilled {
            for block in spilled.blocks.iter().filter(|block| block.first <= range.last && block.last >= range.first) {
                let rows = spilled.read(block, &NewRows::new(&self.table, self.number))?;
                // A block is in order of hash.
                let start = rows.hashes.partition_point(|hash| *hash < range.first);
                let end = rows.hashes.partition_point(|hash| *hash <= range.last);
                if start == 0 && end == rows.len() {
                    found.append(rows).map_err(too_long)?;
                } else {
                    found.append_rows(&rows, start as u32..end as u32).map_err(too_long)?;
                }
            }
        }
        Ok(found)
    }
}

/// Rows of one view with their keys.
#[derive(Clone, Debug)]
pub(crate) struct NewRows {
    pub(crate) hashes: Vec<u64>,
    pub(crate) keys: Vec<Column>,
    pub(crate) store: ViewStore,
}

impl NewRows {
    fn new(table: &TableSchema, view: usize) -> Self {
        Self {
            hashes: Vec::new(),
            keys: table.keys.iter().map(|key| Column::new(key.key_type.physical())).collect(),
            store: table.views.get(view).map(ViewStore::new).unwrap_or_default(),
        }
    }

    /// None, of the same kind.
    fn clone_empty(&self) -> Self {
        Self {
            hashes: Vec::new(),
            keys: self.keys.iter().map(Column::clone_empty).collect(),
            store: ViewStore { features: self.store.features.iter().map(Column::clone_empty).collect(), ..ViewStore::default() },
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.hashes.len()
    }

    fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    fn memory(&self) -> usize {
        self.hashes.len() * 8 + self.keys.iter().map(Column::memory).sum::<usize>() + self.store.memory()
    }

    fn append(&mut self, mut more: Self) -> Result<(), TooLong> {
        if self.is_empty() {
            *self = more;
            return Ok(());
        }
        self.hashes.append(&mut more.hashes);
        for (column, more) in self.keys.iter_mut().zip(&more.keys) {
            column.append(more)?;
        }
        self.store.append(more.store).map(drop)
    }

    fn append_rows(&mut self, from: &Self, rows: impl Iterator<Item = u32> + Clone) -> Result<(), TooLong> {
        self.hashes.extend(rows.clone().filter_map(|row| from.hashes.get(row as usize)));
        for (column, from) in self.keys.iter_mut().zip(&from.keys) {
            column.append_rows(from, rows.clone())?;
        }
        self.store.append_rows(&from.store, rows)
    }

    /// The rows of a batch. Those with a null in their key are left out.
    fn of_batch(table: &TableSchema, number: usize, view: &str, batch: &RecordBatch) -> Result<Self, SnapshotError> {
        let Some(schema) = table.views.get(number) else { return Ok(Self::new(table, number)) };
        let column = |name: &str, expected: String| {
            batch.column_by_name(name).ok_or_else(|| SnapshotError::Column {
                view: view.to_owned(),
                column: name.to_owned(),
                found: "missing".into(),
                expected,
            })
        };
        let int64 = |name: &str| -> Result<&arrow::array::Int64Array, SnapshotError> {
            let found = column(name, INT64.to_owned())?;
            found.as_primitive_opt::<Int64Type>().ok_or_else(|| SnapshotError::Column {
                view: view.to_owned(),
                column: name.to_owned(),
                found: found.data_type().to_string(),
                expected: INT64.to_owned(),
            })
        };
        let refused = |name: &str, expected: ValueType, error: ConvertError| match error {
            ConvertError::Type(found) => {
                SnapshotError::Column { view: view.to_owned(), column: name.to_owned(), found, expected: expected.to_string() }
            }
            ConvertError::Value(detail) => {
                SnapshotError::Value { view: view.to_owned(), column: name.to_owned(), expected, detail }
            }
            ConvertError::TooLong => SnapshotError::TooMuch {
                table: table.name.clone(),
                what: format!("the texts of column {name} have 4 GiB or more"),
            },
        };
        let rows = batch.num_rows();
        let mut valid: Option<Vec<bool>> = None;
        let mut keys = Vec::with_capacity(table.keys.len());
        for key in &table.keys {
            let array = column(&key.join_key, key.key_type.name().to_owned())?;
            let refused = |error| refused(&key.join_key, key.key_type.value_type(), error);
            keys.push(key_column(key.key_type, array).map_err(refused)?);
            note_nulls(&mut valid, array);
        }
        let mut hashes = Vec::with_capacity(rows);
        let mut parts = Vec::with_capacity(keys.len());
        for row in 0..rows as u32 {
            parts.clear();
            parts.extend(keys.iter().map(|column: &Column| column.key_part(row)));
            hashes.push(KeyHash::of(&parts).get());
        }
        let feature = |feature: &FeatureSchema| {
            let array = column(&feature.name, feature.value_type.to_string())?;
            feature_column(&feature.value_type, array).map_err(|error| refused(&feature.name, feature.value_type.clone(), error))
        };
        let features: Vec<Column> = schema.features.iter().map(feature).collect::<Result<_, _>>()?;
        let mut digests = vec![DIGEST_START; rows];
        features.iter().for_each(|column| column.digest(&mut digests));
        let times = int64("event_timestamp")?.values().to_vec();
        let created = int64("created_timestamp")?.iter().map(|created| created.unwrap_or(NOT_CREATED)).collect();
        let all = Self { hashes, keys, store: ViewStore { times, created, digests, features } };
        let Some(valid) = valid else { return Ok(all) };
        let mut kept = Self::new(table, number);
        let rows = (0..rows as u32).filter(|row| valid.get(*row as usize) == Some(&true));
        kept.append_rows(&all, rows).map_err(|TooLong| refused("", ValueType::String, ConvertError::TooLong))?;
        Ok(kept)
    }

    /// Bytes for a temporary file; there are `rows` of them.
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.hashes.iter().flat_map(|hash| hash.to_le_bytes()));
        out.extend(self.store.times.iter().flat_map(|time| time.to_le_bytes()));
        out.extend(self.store.created.iter().flat_map(|time| time.to_le_bytes()));
        out.extend(self.store.digests.iter().flat_map(|digest| digest.to_le_bytes()));
        self.keys.iter().chain(&self.store.features).for_each(|column| column.encode(out));
    }

    /// Reads `rows` rows of the kind of `self` back.
    fn decode(&self, rows: usize, mut input: &[u8]) -> Option<Self> {
        let input = &mut input;
        let bytes = rows.checked_mul(8)?;
        let hashes = numbers(split(input, bytes)?, u64::from_le_bytes);
        let times = numbers(split(input, bytes)?, i64::from_le_bytes);
        let created = numbers(split(input, bytes)?, i64::from_le_bytes);
        let digests = numbers(split(input, bytes)?, u64::from_le_bytes);
        let mut columns = |like: &[Column]| like.iter().map(|column| column.decode(rows, input)).collect::<Option<Vec<_>>>();
        let keys = columns(&self.keys)?;
        let features = columns(&self.store.features)?;
        Some(Self { hashes, keys, store: ViewStore { times, created, digests, features } })
    }
}

const INT64: &str = "int64 nanoseconds";

/// Notes which rows of an array are null.
fn note_nulls(valid: &mut Option<Vec<bool>>, array: &ArrayRef) {
    if array.logical_null_count() > 0 {
        let valid = valid.get_or_insert_with(|| vec![true; array.len()]);
        valid.iter_mut().enumerate().for_each(|(row, valid)| *valid &= !array.is_null(row));
    }
}

/// A temporary file of rows: runs in order of hash, each in blocks. It has no name, so it goes with the process.
#[derive(Debug)]
struct Spilled {
    file: File,
    folder: PathBuf,
    blocks: Vec<Block>,
    end: u64,
    rows: u64,
    /// Bytes that the rows take in memory.
    memory: u64,
}

#[derive(Debug)]
struct Block {
    first: u64,
    last: u64,
    offset: u64,
    bytes: usize,
    rows: usize,
}

impl Spilled {
    fn new(folder: &Path) -> Result<Self, SnapshotError> {
        let file = tempfile::tempfile_in(folder).map_err(|error| failed(folder, &error))?;
        Ok(Self { file, folder: folder.to_owned(), blocks: Vec::new(), end: 0, rows: 0, memory: 0 })
    }

    /// Writes rows as one run.
    fn write(&mut self, rows: &NewRows) -> Result<(), SnapshotError> {
        let order = sorted(&rows.hashes, &rows.keys);
        let memory = rows.memory();
        let block_rows = (BLOCK_BYTES / (memory / rows.len().max(1)).max(1)).clamp(1, 1 << 16);
        let mut bytes = Vec::with_capacity(BLOCK_BYTES * 2);
        for order in order.chunks(block_rows) {
            let mut block = rows.clone_empty();
            // They come from columns that fit.
            let fits = block.append_rows(rows, order.iter().copied());
            debug_assert!(fits.is_ok());
            bytes.clear();
            block.encode(&mut bytes);
            (&self.file).seek(SeekFrom::Start(self.end)).map_err(|error| failed(&self.folder, &error))?;
            (&self.file).write_all(&bytes).map_err(|error| failed(&self.folder, &error))?;
            self.blocks.push(Block {
                first: block.hashes.first().copied().unwrap_or(0),
                last: block.hashes.last().copied().unwrap_or(0),
                offset: self.end,
                bytes: bytes.len(),
                rows: order.len(),
            });
            self.end += bytes.len() as u64;
        }
        self.rows += rows.len() as u64;
        self.memory += memory as u64;
        Ok(())
    }

    fn read(&self, block: &Block, like: &NewRows) -> Result<NewRows, SnapshotError> {
        let mut bytes = vec![0; block.bytes];
        let read = (&self.file).seek(SeekFrom::Start(block.offset)).and_then(|_| (&self.file).read_exact(&mut bytes));
        read.map_err(|error| failed(&self.folder, &error))?;
        like.decode(block.rows, &bytes).ok_or_else(|| {
            failed(&self.folder, &std::io::Error::new(std::io::ErrorKind::InvalidData, "a temporary file has other content"))
        })
    }
}

fn failed(folder: &Path, error: &std::io::Error) -> SnapshotError {
    SnapshotError::Temporary { folder: folder.display().to_string(), detail: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_buckets_are_those_of_their_hashes() {
        for count in [1, 2, 3, 7, 4096, u32::MAX] {
            for start in [0, 1, 2, count / 2, count - 1] {
                let start = start.min(count - 1);
                for end in [start + 1, count] {
                    let range = HashRange::of_buckets(start, end, count);
                    let bucket = |hash: u64| KeyHash::from_u64(hash).bucket(count);
                    assert_eq!(bucket(range.first), start, "{start} to {end} of {count}");
                    assert_eq!(bucket(range.last), end - 1, "{start} to {end} of {count}");
                    assert!(start == 0 || bucket(range.first - 1) < start);
                    assert!(end == count || bucket(range.last + 1) >= end);
                }
            }
        }
    }
}
