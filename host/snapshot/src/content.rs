//! What a table holds: rows from pages and new rows, merged by key.

use std::cmp::Ordering;

use arrow::array::RecordBatch;
use mezze_core::{Cell, KeyHash, KeyPart, TableSchema, ViewSchema};

use crate::column::{Column, NONE, TooLong, row_digest};

/// Newest rows of one view, a row a key, as the sources gave them.
#[derive(Clone, Debug)]
pub struct ViewRows {
    /// The view.
    pub view: String,
    /// The rows: the columns `event_timestamp` (int64 nanoseconds), `created_timestamp` (the same, null where unknown), the join
    /// keys and the features, by their names.
    pub batches: Vec<RecordBatch>,
}

/// The rows of a view in one store: those of its pages before and the new ones, one behind the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct ViewStore {
    pub(crate) times: Vec<i64>,
    pub(crate) created: Vec<i64>,
    /// Of each row's features: rows of different digests differ.
    pub(crate) digests: Vec<u64>,
    pub(crate) features: Vec<Column>,
}

/// Creation time of a row that has none.
pub(crate) const NOT_CREATED: i64 = i64::MIN;

impl ViewStore {
    pub(crate) fn new(schema: &ViewSchema) -> Self {
        let features = schema.features.iter().map(|feature| Column::new(feature.value_type.physical())).collect();
        Self { times: Vec::new(), created: Vec::new(), digests: Vec::new(), features }
    }

    pub(crate) fn len(&self) -> u32 {
        // Checked where rows are appended.
        self.times.len() as u32
    }

    /// Whether row `b` counts instead of row `a`, which was known before it.
    pub(crate) fn replaces(&self, a: u32, b: u32) -> bool {
        let key = |row: u32| (self.times.get(row as usize).copied(), self.created.get(row as usize).copied());
        key(b) >= key(a)
    }

    /// Whether two rows have the same features, bit for bit.
    pub(crate) fn same_features(&self, a: u32, b: u32) -> bool {
        self.digests.get(a as usize) == self.digests.get(b as usize) && self.features.iter().all(|column| column.same(a, b))
    }

    /// Appends all rows of another store of the same view; what is at its place in it comes that much later here.
    pub(crate) fn append(&mut self, mut more: Self) -> Result<u32, TooLong> {
        let start = self.times.len();
        u32::try_from(start + more.times.len()).ok().filter(|rows| *rows < NONE).ok_or(TooLong)?;
        if start == 0 {
            *self = more;
            return Ok(0);
        }
        self.times.append(&mut more.times);
        self.created.append(&mut more.created);
        self.digests.append(&mut more.digests);
        for (column, more) in self.features.iter_mut().zip(&more.features) {
            column.append(more)?;
        }
        Ok(start as u32)
    }

    /// Appends some rows of another store of the same view.
    pub(crate) fn append_rows(&mut self, from: &Self, rows: impl Iterator<Item = u32> + Clone) -> Result<(), TooLong> {
        let pick = |values: &[i64], row: u32| values.get(row as usize).copied().unwrap_or(NOT_CREATED);
        self.times.extend(rows.clone().map(|row| pick(&from.times, row)));
        self.created.extend(rows.clone().map(|row| pick(&from.created, row)));
        self.digests.extend(rows.clone().filter_map(|row| from.digests.get(row as usize)));
        for (column, from) in self.features.iter_mut().zip(&from.features) {
            column.append_rows(from, rows.clone())?;
        }
        Ok(())
    }

    /// Bytes of memory that it takes.
    pub(crate) fn memory(&self) -> usize {
        self.times.len() * 24 + self.features.iter().map(Column::memory).sum::<usize>()
    }
}

/// Keys in order of hash, rows of one hash in order of key, and for each the rows of its views in their stores.
#[derive(Debug)]
pub(crate) struct Keyed {
    pub(crate) hashes: Vec<KeyHash>,
    pub(crate) keys: Vec<Column>,
    /// Where in `keys` each is.
    pub(crate) key_rows: Vec<u32>,
    /// Per key and view (key-major): the row in the view's store, or [`NONE`].
    pub(crate) rows: Vec<u32>,
    pub(crate) view_count: usize,
    /// Bucket and row of each, where they are those of a base.
    pub(crate) places: Vec<(u32, u32)>,
}

impl Keyed {
    pub(crate) fn new(schema: &TableSchema) -> Self {
        Self {
            hashes: Vec::new(),
            keys: schema.keys.iter().map(|key| Column::new(key.key_type.physical())).collect(),
            key_rows: Vec::new(),
            rows: Vec::new(),
            view_count: schema.views.len(),
            places: Vec::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.hashes.len()
    }

    /// The rows of a key's views.
    pub(crate) fn rows_of(&self, index: usize) -> &[u32] {
        self.rows.get(index * self.view_count..(index + 1) * self.view_count).unwrap_or_default()
    }

    pub(crate) fn key(&self, index: usize) -> Vec<KeyPart<'_>> {
        let row = self.key_rows.get(index).copied().unwrap_or(0);
        self.keys.iter().map(|column| column.key_part(row)).collect()
    }

    /// The order of two keys of two sets.
    fn order(&self, index: usize, other: &Self, other_index: usize) -> Ordering {
        let hashes = self.hashes.get(index).cmp(&other.hashes.get(other_index));
        hashes.then_with(|| {
            let (a, b) = (self.key_rows.get(index).copied().unwrap_or(0), other.key_rows.get(other_index).copied().unwrap_or(0));
            let columns = self.keys.iter().zip(&other.keys);
            columns
                .map(|(mine, others)| mine.key_part(a).cmp(&others.key_part(b)))
                .find(|order| order.is_ne())
                .unwrap_or(Ordering::Equal)
        })
    }

    /// Puts them in order.
    pub(crate) fn sort(&mut self) {
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by(|a, b| self.order(*a, self, *b));
        let pick = |index: &usize| self.rows_of(*index).iter().copied();
        self.rows = order.iter().flat_map(pick).collect();
        self.hashes = order.iter().filter_map(|index| self.hashes.get(*index).copied()).collect();
        self.key_rows = order.iter().filter_map(|index| self.key_rows.get(*index).copied()).collect();
        // Only those of a base are asked for, whose rows are in order as they come.
        self.places.clear();
    }

    /// The keys of new rows of a view, whose rows are in its store from `start` on.
    pub(crate) fn of_view(schema: &TableSchema, view: usize, hashes: &[u64], keys: Vec<Column>, start: u32) -> Self {
        let order = sorted(hashes, &keys);
        let view_count = schema.views.len();
        let mut rows = vec![NONE; order.len() * view_count];
        for (index, row) in order.iter().enumerate() {
            if let Some(slot) = rows.get_mut(index * view_count + view) {
                *slot = *row + start;
            }
        }
        let hashes = order.iter().filter_map(|row| hashes.get(*row as usize).copied().map(KeyHash::from_u64)).collect();
        Self { hashes, keys, key_rows: order, rows, view_count, places: Vec::new() }
    }
}

/// Rows in order of hash, those of one hash in order of key.
pub(crate) fn sorted(hashes: &[u64], keys: &[Column]) -> Vec<u32> {
    let mut order: Vec<(u64, u32)> = hashes.iter().copied().zip(0..).collect();
    order.sort_unstable_by(|(a_hash, a), (b_hash, b)| {
        a_hash.cmp(b_hash).then_with(|| {
            keys.iter()
                .map(|column| column.key_part(*a).cmp(&column.key_part(*b)))
                .find(|order| order.is_ne())
                .unwrap_or_else(|| a.cmp(b))
        })
    });
    order.into_iter().map(|(_, row)| row).collect()
}

/// Several sets of keys as one. For each key `pick` is called with its index in each set that has it, in the sets' order, and
/// the rows of its views to fill in; it says whether the key stays.
pub(crate) fn merge(
    schema: &TableSchema,
    sets: &[Keyed],
    mut pick: impl FnMut(&[Option<usize>], &mut [u32]) -> bool,
) -> Result<Keyed, TooLong> {
    let mut merged = Keyed::new(schema);
    let mut starts = Vec::with_capacity(sets.len());
    for set in sets {
        starts.push(merged.keys.first().map_or(0, Column::len) as u32);
        for (column, more) in merged.keys.iter_mut().zip(&set.keys) {
            column.append(more)?;
        }
    }
    let mut next = vec![0_usize; sets.len()];
    let mut found = vec![None; sets.len()];
    let mut rows = vec![NONE; merged.view_count];
    loop {
        let mut least: Option<usize> = None;
        for (number, set) in sets.iter().enumerate() {
            let at = next.get(number).copied().unwrap_or(0);
            if at >= set.len() {
                continue;
            }
            let is_less = least.is_none_or(|least| {
                let other = next.get(least).copied().unwrap_or(0);
                sets.get(least).is_some_and(|other_set| set.order(at, other_set, other).is_lt())
            });
            if is_less {
                least = Some(number);
            }
        }
        let Some(least) = least else { return Ok(merged) };
        let Some(least_set) = sets.get(least) else { return Ok(merged) };
        let least_at = next.get(least).copied().unwrap_or(0);
        for (number, set) in sets.iter().enumerate() {
            let at = next.get(number).copied().unwrap_or(0);
            let has = number == least || at < set.len() && set.order(at, least_set, least_at).is_eq();
            if let Some(slot) = found.get_mut(number) {
                *slot = has.then_some(at);
            }
        }
        rows.fill(NONE);
        if pick(&found, &mut rows) {
            merged.hashes.extend(least_set.hashes.get(least_at));
            let start = starts.get(least).copied().unwrap_or(0);
            merged.key_rows.extend(least_set.key_rows.get(least_at).map(|row| row + start));
            merged.rows.extend_from_slice(&rows);
        }
        for (slot, found) in next.iter_mut().zip(&found) {
            *slot += usize::from(found.is_some());
        }
    }
}

/// Appends a row that has some cells of its own and those of another row of the store for the rest; the new row's number.
pub(crate) fn push_patched_row(store: &mut ViewStore, from: u32, time: i64, created: i64, own: &[Option<Cell<'_>>]) -> u32 {
    let row = store.len();
    let cells = store.features.iter().zip(own).map(|(column, own)| own.unwrap_or_else(|| column.cell(from)));
    let digest = row_digest(cells);
    store.times.push(time);
    store.created.push(created);
    store.digests.push(digest);
    for (column, own) in store.features.iter_mut().zip(own) {
        match own {
            Some(cell) => column.push_cell(*cell),
            None => column.push_row(from),
        }
    }
    row
}

/// Appends a row of a page's view to its store; the new row's number.
pub(crate) fn push_row<'a>(store: &mut ViewStore, time: i64, created: i64, cells: impl Iterator<Item = Cell<'a>> + Clone) -> u32 {
    let row = store.len();
    store.times.push(time);
    store.created.push(created);
    store.digests.push(row_digest(cells.clone()));
    for (column, cell) in store.features.iter_mut().zip(cells) {
        column.push_cell(cell);
    }
    row
}
