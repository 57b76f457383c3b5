//! What a table holds: rows from pages and new rows, merged by key.

use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::concat;
use arrow::datatypes::Int64Type;
use mezze_core::{Cell, KeyHash, KeyPart, TableSchema, ViewSchema};

use crate::SnapshotError;
use crate::column::{Column, ConvertError, NONE, TooLong, feature_column, key_column};

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
#[derive(Debug, Default)]
pub(crate) struct ViewStore {
    pub(crate) times: Vec<i64>,
    pub(crate) created: Vec<i64>,
    pub(crate) features: Vec<Column>,
}

/// Creation time of a row that has none.
pub(crate) const NOT_CREATED: i64 = i64::MIN;

impl ViewStore {
    pub(crate) fn new(schema: &ViewSchema) -> Self {
        let features = schema.features.iter().map(|feature| Column::new(feature.value_type.physical())).collect();
        Self { times: Vec::new(), created: Vec::new(), features }
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
        self.features.iter().all(|column| column.same(a, b))
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
}

impl Keyed {
    pub(crate) fn new(schema: &TableSchema) -> Self {
        Self {
            hashes: Vec::new(),
            keys: schema.keys.iter().map(|key| Column::new(key.key_type.physical())).collect(),
            key_rows: Vec::new(),
            rows: Vec::new(),
            view_count: schema.views.len(),
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

    /// Puts the keys into order, given their rows in `keys`.
    fn sort(&mut self, mut order: Vec<u32>, hash_of: &[KeyHash], view: usize) {
        let keys = &self.keys;
        order.sort_unstable_by(|a, b| {
            let hashes = hash_of.get(*a as usize).cmp(&hash_of.get(*b as usize));
            hashes.then_with(|| {
                keys.iter()
                    .map(|column| column.key_part(*a).cmp(&column.key_part(*b)))
                    .find(|order| order.is_ne())
                    .unwrap_or_else(|| a.cmp(b))
            })
        });
        self.hashes = order.iter().filter_map(|row| hash_of.get(*row as usize).copied()).collect();
        let view_count = self.view_count;
        self.rows = vec![NONE; order.len() * view_count];
        for (index, row) in order.iter().enumerate() {
            if let Some(slot) = self.rows.get_mut(index * view_count + view) {
                *slot = *row;
            }
        }
        self.key_rows = order;
    }
}

/// The new rows of one view, appended to its store, by key. Rows with a null in their key are left out.
pub(crate) fn new_rows(
    schema: &TableSchema,
    view: usize,
    rows: &ViewRows,
    store: &mut ViewStore,
) -> Result<Keyed, SnapshotError> {
    let mut keyed = Keyed::new(schema);
    let Some(view_schema) = schema.views.get(view) else { return Ok(keyed) };
    let too_many = |what: &str| SnapshotError::TooMuch { table: schema.name.clone(), what: what.to_owned() };
    let Some(first) = rows.batches.first() else { return Ok(keyed) };
    let column = |name: &str, expected: &dyn Fn() -> String| -> Result<ArrayRef, SnapshotError> {
        let missing = || SnapshotError::Column {
            view: rows.view.clone(),
            column: name.to_owned(),
            found: "missing".into(),
            expected: expected(),
        };
        let arrays =
            rows.batches.iter().map(|batch| batch.column_by_name(name).ok_or_else(missing)).collect::<Result<Vec<_>, _>>()?;
        if let [one] = arrays.as_slice() {
            return Ok(ArrayRef::clone(one));
        }
        let parts: Vec<&dyn Array> = arrays.iter().map(|array| array.as_ref()).collect();
        // 32-bit offsets may not hold all texts together.
        concat(&parts).map_err(|error| SnapshotError::Column {
            view: rows.view.clone(),
            column: name.to_owned(),
            found: error.to_string(),
            expected: expected(),
        })
    };
    let _ = first;
    let convert = |name: &str, expected: mezze_core::ValueType, error: ConvertError| match error {
        ConvertError::Type(found) => {
            SnapshotError::Column { view: rows.view.clone(), column: name.to_owned(), found, expected: expected.to_string() }
        }
        ConvertError::Value(detail) => {
            SnapshotError::Value { view: rows.view.clone(), column: name.to_owned(), expected, detail }
        }
        ConvertError::TooLong => too_many(&format!("the texts of column {name} have 4 GiB or more")),
    };
    let int64 = || "int64 nanoseconds".to_owned();
    let times = column("event_timestamp", &int64)?;
    let created = column("created_timestamp", &int64)?;
    let (Some(times), Some(created)) = (times.as_primitive_opt::<Int64Type>(), created.as_primitive_opt::<Int64Type>()) else {
        return Err(SnapshotError::Column {
            view: rows.view.clone(),
            column: "event_timestamp".into(),
            found: times.data_type().to_string(),
            expected: int64(),
        });
    };
    let start = store.times.len();
    let count = times.len();
    if start + count >= NONE as usize {
        return Err(too_many("4,294,967,294 rows are the most"));
    }
    store.times.extend_from_slice(times.values());
    store.created.extend(created.iter().map(|created| created.unwrap_or(NOT_CREATED)));
    // Columns are converted by several threads: most of the work is theirs.
    let columns: Vec<(&mezze_core::FeatureSchema, ArrayRef)> = view_schema
        .features
        .iter()
        .map(|feature| Ok((feature, column(&feature.name, &|| feature.value_type.to_string())?)))
        .collect::<Result<_, SnapshotError>>()?;
    for (slot, (feature, array)) in store.features.iter_mut().zip(&columns) {
        let converted = feature_column(&feature.value_type, array)
            .map_err(|error| convert(&feature.name, feature.value_type.clone(), error))?;
        if slot.len() == 0 {
            *slot = converted;
        } else {
            slot.append(&converted).map_err(|TooLong| too_many(&format!("the texts of {} have 4 GiB or more", feature.name)))?;
        }
    }
    let mut valid: Option<Vec<bool>> = None;
    for (slot, key) in keyed.keys.iter_mut().zip(&schema.keys) {
        let array = column(&key.join_key, &|| key.key_type.name().to_owned())?;
        let expected = key.key_type.name().parse().unwrap_or(mezze_core::ValueType::String);
        *slot = key_column(key.key_type, &array).map_err(|error| convert(&key.join_key, expected, error))?;
        if array.logical_null_count() > 0 {
            let known = valid.get_or_insert_with(|| vec![true; count]);
            known.iter_mut().enumerate().for_each(|(row, valid)| *valid &= !array.is_null(row));
        }
    }
    let mut hashes = Vec::with_capacity(count);
    let mut parts = Vec::with_capacity(keyed.keys.len());
    for row in 0..count as u32 {
        parts.clear();
        parts.extend(keyed.keys.iter().map(|column| column.key_part(row)));
        hashes.push(KeyHash::of(&parts));
    }
    let order =
        (0..count as u32).filter(|row| valid.as_ref().is_none_or(|valid| valid.get(*row as usize) == Some(&true))).collect();
    keyed.sort(order, &hashes, view);
    // Rows are counted within their batch so far; the store may have had others before.
    let start = start as u32;
    keyed.rows.iter_mut().filter(|row| **row != NONE).for_each(|row| *row += start);
    Ok(keyed)
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

/// Appends a row of a page's view to its store; the new row's number.
pub(crate) fn push_row<'a>(store: &mut ViewStore, time: i64, created: i64, cells: impl Iterator<Item = Cell<'a>>) -> u32 {
    let row = store.len();
    store.times.push(time);
    store.created.push(created);
    for (column, cell) in store.features.iter_mut().zip(cells) {
        column.push_cell(cell);
    }
    row
}
