//! Which feature rows may be winners, by what a file says of its row groups and pages.

use std::ops::Range;

use parquet::arrow::arrow_reader::{RowSelection, RowSelector};

use super::PitView;
use super::file::{FewKeys, OpenFile, PageBounds};
use super::keys::KeyCoder;
use super::slots::{Rules, Slots};
use super::time::Unit;

/// What is to be read of a row group.
pub(super) enum Wanted {
    Nothing,
    All,
    /// Some runs of rows, in order.
    Some(Vec<Range<usize>>),
}

impl Wanted {
    /// The rows, and the same for the reader.
    pub(super) fn selection(ranges: &[Range<usize>], rows: usize) -> RowSelection {
        RowSelection::from_consecutive_ranges(ranges.iter().cloned(), rows)
    }
}

/// The rows of a row group that may count for some slot.
pub(super) fn wanted(view: &PitView, file: &OpenFile, group: usize, slots: &Slots, rules: &Rules, unit: Unit) -> Wanted {
    if slots.len() == 0 {
        return Wanted::Nothing;
    }
    // From an event time on, and with an event time to, a row may count: `after` only makes it later.
    let times = rules.oldest(slots.least)..=slots.greatest;
    let (least, greatest) = file.bounds(&view.timestamp_column, group, unit);
    if !overlaps(least, greatest, &times) {
        return Wanted::Nothing;
    }
    let mut may_skip =
        least.is_none_or(|least| least < *times.start()) || greatest.is_none_or(|greatest| greatest > *times.end());
    let key = view.keys.first().filter(|_| slots.keys.is_some());
    if let (Some(key), Some(keys)) = (key, &slots.keys)
        && let Some((least, greatest)) = file.integer_bounds(&key.source_column, group)
    {
        if !keys.any_between(least, greatest) {
            return Wanted::Nothing;
        }
        may_skip |= keys.values.is_some() || least < keys.least || greatest > keys.greatest;
    }
    if let (Some(key), Some(few)) = (view.keys.first(), &slots.few_keys)
        && !file.may_have(&key.source_column, group, few)
    {
        return Wanted::Nothing;
    }
    if !may_skip {
        return Wanted::All;
    }
    let rows = file.rows(group);
    let by_time = file
        .page_bounds(&view.timestamp_column, group, Some(unit))
        .map(|pages| select(&pages, |page| overlaps(page.least, page.greatest, &times)));
    let by_key = key.zip(slots.keys.as_ref()).and_then(|(key, keys)| {
        let pages = file.page_bounds(&key.source_column, group, None)?;
        Some(select(&pages, |page| match (page.least, page.greatest) {
            (Some(least), Some(greatest)) => keys.any_between(least, greatest),
            _ => true,
        }))
    });
    let selection = match (by_time, by_key) {
        (Some(times), Some(keys)) => times.intersection(&keys),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => return Wanted::All,
    };
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let mut start = 0;
    for selector in selection.iter() {
        let end = start + selector.row_count;
        if !selector.skip {
            match ranges.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => ranges.push(start..end),
            }
        }
        start = end;
    }
    match ranges.as_slice() {
        [] => Wanted::Nothing,
        [all] if all.start == 0 && all.end >= rows => Wanted::All,
        _ => Wanted::Some(ranges),
    }
}

/// The distinct texts of the first key column of the entity rows, where they are so few that Bloom filters may help.
pub(super) fn few_texts(coder: &KeyCoder) -> Option<FewKeys> {
    let texts = coder.first_texts().filter(|texts| texts.len() <= BLOOM_KEYS)?;
    Some(FewKeys::Texts((0..texts.len() as u32).map(|number| texts.value(number).to_vec()).collect()))
}

fn overlaps(least: Option<i64>, greatest: Option<i64>, range: &std::ops::RangeInclusive<i64>) -> bool {
    least.is_none_or(|least| least <= *range.end()) && greatest.is_none_or(|greatest| greatest >= *range.start())
}

fn select(pages: &[PageBounds], keep: impl Fn(&PageBounds) -> bool) -> RowSelection {
    pages.iter().map(|page| RowSelector { row_count: page.rows, skip: !keep(page) }).collect::<Vec<_>>().into()
}

/// The values of the first key column of the entity rows, where they are integers.
pub(super) struct KeyValues {
    pub(super) least: i64,
    pub(super) greatest: i64,
    /// All of them, sorted, where they are few.
    pub(super) values: Option<Vec<i64>>,
}

/// More entity rows than this are only compared by their least and greatest key.
const FEW_ROWS: usize = 100_000;
/// With more distinct keys, Bloom filters are not looked at: of one key in a hundred, as they are made by default, they say that
/// it may be there although it is not, and the row group is read for any of them.
const BLOOM_KEYS: usize = 64;

impl KeyValues {
    pub(super) fn new(least: i64, greatest: i64, rows: usize, values: impl Iterator<Item = i64>) -> Self {
        let values = (rows <= FEW_ROWS).then(|| {
            let mut values: Vec<i64> = values.collect();
            values.sort_unstable();
            values.dedup();
            values
        });
        Self { least, greatest, values }
    }

    /// All of them, where they are so few that Bloom filters may help.
    pub(super) fn few(&self) -> Option<FewKeys> {
        Some(FewKeys::Integers(self.values.as_ref().filter(|values| values.len() <= BLOOM_KEYS)?.clone()))
    }

    /// Whether one of them is from `least` to `greatest`.
    fn any_between(&self, least: i64, greatest: i64) -> bool {
        match &self.values {
            Some(values) => values.get(values.partition_point(|value| *value < least)).is_some_and(|value| *value <= greatest),
            None => least <= self.greatest && greatest >= self.least,
        }
    }
}
