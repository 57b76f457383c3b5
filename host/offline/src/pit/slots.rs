//! Entity rows in time order by key, and the best feature row of each.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::buffer::NullBuffer;

use super::file::FewKeys;
use super::keys::{Codes, KeyCoder};
use super::prune::{KeyValues, few_texts};

/// A key's run of slots.
#[derive(Clone, Copy, Default)]
struct Run {
    code: u64,
    start: u32,
    length: u32,
}

/// Rows that go through the search side by side. Each step is a loop of its own without a dependency from row to row, so that
/// the processor has many cache misses under way at once instead of waiting for one after another.
const LANES: usize = 512;

/// Where an instant lies between the first and the last slot, in parts of 2^32.
#[derive(Clone, Copy)]
struct Scale {
    least: i64,
    factor: f64,
}

impl Scale {
    fn new(least: i64, greatest: i64) -> Self {
        let span = greatest.checked_sub(least).filter(|span| *span > 0);
        // Where the difference does not fit, all instants lie in one part, which is then searched.
        Self { least, factor: span.map_or(0.0, |span| 4_294_967_295.0 / (span as f64 + 1.0)) }
    }

    /// Does not fall as `at` rises, for each step of the computation keeps the order.
    fn part(self, at: i64) -> u64 {
        (at.saturating_sub(self.least) as f64 * self.factor) as u64
    }

    /// The bucket, of `buckets` equal ones.
    fn bucket(self, at: i64, buckets: u64) -> usize {
        ((self.part(at).min(u64::from(u32::MAX)) * buckets) >> 32) as usize
    }
}

/// The entity rows that have a key and a time, sorted by key, time and row.
pub(super) struct Slots {
    pub(super) coder: KeyCoder,
    /// Open addressing; its length is a power of two.
    table: Vec<Run>,
    times: Vec<i64>,
    rows: Vec<u32>,
    runs: Vec<u32>,
    /// For each bucket of time of a run of length l, which has l / 2 of them, its first slot; at the place of the run's slots.
    /// Behind the last bucket of a run, be it in the run or the next one's first, is the run's end.
    index: Vec<u32>,
    scale: Scale,
    /// The first key column, where it is one of integers.
    pub(super) keys: Option<KeyValues>,
    /// The values of the first key column, where they are few.
    pub(super) few_keys: Option<FewKeys>,
    /// The least and greatest time.
    pub(super) least: i64,
    pub(super) greatest: i64,
}

fn home(code: u64, mask: usize) -> usize {
    let mixed = u128::from(code ^ 0x9E37_79B9_7F4A_7C15) * 0xD6E8_FEB8_6659_FD93;
    ((mixed as u64) ^ (mixed >> 64) as u64) as usize & mask
}

/// The best feature row so far: ordered as the fields are. `place` is zero for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Best {
    pub(super) time: i64,
    pub(super) created: i64,
    pub(super) place: u64,
}

impl Best {
    pub(super) const NONE: Self = Self { time: i64::MIN, created: i64::MIN, place: 0 };
}

/// A slot's best row, which threads raise at once. The time lies outside the lock: most rows are older than the best one and
/// need to see no more than that. Aligned, so that it lies in one cache line.
#[repr(align(32))]
pub(super) struct Cell {
    time: AtomicI64,
    rest: Mutex<(i64, u64)>,
}

/// Bytes of a slot's state for one view.
pub(super) const CELL_BYTES: usize = size_of::<Cell>();
/// Bytes of a slot and of its key where every row has another, at their peak while they are made.
pub(super) const SLOT_BYTES: usize = 112;

impl Cell {
    /// Cells without a best row.
    pub(super) fn none(count: usize) -> Vec<Self> {
        (0..count)
            .map(|_| Self { time: AtomicI64::new(Best::NONE.time), rest: Mutex::new((Best::NONE.created, Best::NONE.place)) })
            .collect()
    }

    fn raise(&self, found: Best) {
        let mut rest = self.rest.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let (created, place) = *rest;
        if found > (Best { time: self.time.load(Ordering::Relaxed), created, place }) {
            self.time.store(found.time, Ordering::Relaxed);
            *rest = (found.created, found.place);
        }
    }

    fn into_best(self) -> Best {
        let (created, place) = self.rest.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        Best { time: self.time.into_inner(), created, place }
    }
}

/// The rules that make a feature row eligible, in the unit of the join.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    /// Zero is for ever.
    pub(super) ttl: Option<i64>,
    pub(super) after: i64,
    pub(super) after_created: bool,
    pub(super) filter_created: bool,
}

impl Rules {
    /// From when on a row counts; `None` if never.
    fn from(&self, time: i64, created: Option<i64>) -> Option<i64> {
        let base = if self.after_created { time.max(created.unwrap_or(time)) } else { time };
        // Nothing is known at an instant past the range.
        let from = base.checked_add(self.after)?;
        if self.filter_created { Some(from.max(created?)) } else { Some(from) }
    }

    /// Whether a row counts from its own time on.
    fn is_plain(&self) -> bool {
        self.after == 0 && !self.after_created && !self.filter_created
    }

    /// Whether a row of `time` is too old at `at`.
    fn stale(&self, time: i64, at: i64) -> bool {
        self.ttl.is_some_and(|ttl| time < at.saturating_sub(ttl))
    }

    /// The least time of a row that counts for a slot at `least` or later.
    pub(super) fn oldest(&self, least: i64) -> i64 {
        self.ttl.map_or(i64::MIN, |ttl| least.saturating_sub(ttl))
    }
}

/// A batch of feature rows without their features.
pub(super) struct Narrow<'a> {
    pub(super) codes: &'a Codes,
    pub(super) times: &'a [i64],
    pub(super) created: Option<(&'a [i64], Option<&'a NullBuffer>)>,
    /// The place of the first row.
    pub(super) place: u64,
    /// How far from it each row is, where they do not follow one another.
    pub(super) apart: Option<&'a [u32]>,
}

impl Narrow<'_> {
    fn place(&self, row: usize) -> u64 {
        self.place + self.apart.map_or(row as u64, |apart| apart.get(row).copied().map_or(0, u64::from))
    }

    fn created(&self, row: usize) -> Option<i64> {
        match self.created {
            Some((values, nulls)) if nulls.is_none_or(|nulls| nulls.is_valid(row)) => values.get(row).copied(),
            _ => None,
        }
    }
}

/// What the steps of [`Slots::fold`] hand on, kept from batch to batch.
pub(super) struct Lanes {
    /// The row in its batch.
    row: [u32; LANES],
    /// The key's code.
    code: [u64; LANES],
    /// From when on the row counts.
    from: [i64; LANES],
    run: [Run; LANES],
    /// Where the search begins and ends; then the slot, and the end of its run.
    slots: [(u32, u32); LANES],
    /// The slot's time.
    at: [i64; LANES],
    /// The time of the slot's best row so far.
    best_time: [i64; LANES],
}

impl Lanes {
    pub(super) fn new() -> Box<Self> {
        Box::new(Self {
            row: [0; LANES],
            code: [0; LANES],
            from: [0; LANES],
            run: [Run::default(); LANES],
            slots: [(0, 0); LANES],
            at: [0; LANES],
            best_time: [0; LANES],
        })
    }
}

impl Slots {
    pub(super) fn build(coder: KeyCoder, codes: Codes, times: Vec<i64>, first_keys: Option<KeyValues>) -> Self {
        let (numbers, mut keys) = number_keys(&codes);
        drop(codes);
        let mut total = 0;
        let mut runs = Vec::with_capacity(keys.len());
        for run in &mut keys {
            run.start = total;
            total += run.length;
            runs.push(total);
        }
        let mut pairs = vec![(0_i64, 0_u32); total as usize];
        // While the slots are filled, `start` is the next free one of its run.
        for ((row, number), time) in (0_u32..).zip(&numbers).zip(&times) {
            if let Some(run) = keys.get_mut(*number as usize) {
                if let Some(pair) = pairs.get_mut(run.start as usize) {
                    *pair = (*time, row);
                }
                run.start += 1;
            }
        }
        drop(numbers);
        drop(times);
        let size = (keys.len() * 2).next_power_of_two().max(16);
        let mut table = vec![Run::default(); size];
        for run in keys {
            let mut at = home(run.code, size - 1);
            while table.get(at).is_some_and(|taken| taken.length != 0) {
                at = (at + 1) & (size - 1);
            }
            if let Some(free) = table.get_mut(at) {
                *free = Run { start: run.start - run.length, ..run };
            }
        }
        let mut start = 0;
        for end in &runs {
            if let Some(run) = pairs.get_mut(start..*end as usize).filter(|run| run.len() > 1) {
                run.sort_unstable();
            }
            start = *end as usize;
        }
        let (times, rows): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let (least, greatest) =
            (times.iter().min().copied().unwrap_or(i64::MAX), times.iter().max().copied().unwrap_or(i64::MIN));
        let scale = Scale::new(least, greatest);
        let index = time_index(&times, &runs, scale);
        let few_keys = first_keys.as_ref().map_or_else(|| few_texts(&coder), KeyValues::few);
        Self { coder, table, times, rows, runs, index, scale, keys: first_keys, few_keys, least, greatest }
    }

    pub(super) fn len(&self) -> usize {
        self.times.len()
    }

    /// Raises the first slot that each row is eligible for.
    pub(super) fn fold(&self, best: &[Cell], rules: &Rules, rows: &Narrow<'_>, lanes: &mut Lanes) {
        let oldest = rules.oldest(self.least);
        let count = rows.times.len().min(rows.codes.codes.len()).min(rows.codes.known.len());
        let mut start = 0;
        while start < count {
            let end = (start + LANES).min(count);
            let kept = self.eligible(rules, rows, start..end, oldest, lanes);
            let kept = self.look_up(kept, lanes);
            self.search_and_raise(best, rules, rows, kept, lanes);
            start = end;
        }
    }

    /// The rows that may count for some slot, by their key and time alone.
    fn eligible(&self, rules: &Rules, rows: &Narrow<'_>, range: std::ops::Range<usize>, oldest: i64, lanes: &mut Lanes) -> usize {
        let (Some(times), Some(codes), Some(known)) =
            (rows.times.get(range.clone()), rows.codes.codes.get(range.clone()), rows.codes.known.get(range.clone()))
        else {
            return 0;
        };
        let mut kept = 0;
        let plain = rules.is_plain();
        for (index, ((time, code), known)) in times.iter().zip(codes).zip(known).enumerate() {
            let row = range.start + index;
            let mut keep = *known & (*time <= self.greatest) & (*time >= oldest);
            let mut from = *time;
            if !plain && keep {
                match rules.from(*time, rows.created(row)) {
                    Some(at) => from = at,
                    None => keep = false,
                }
                keep &= from <= self.greatest;
            }
            // Written whether kept or not, so that there is no branch to mispredict.
            if let (Some(to_row), Some(to_code), Some(to_from)) =
                (lanes.row.get_mut(kept), lanes.code.get_mut(kept), lanes.from.get_mut(kept))
            {
                *to_row = row as u32;
                *to_code = *code;
                *to_from = from;
            }
            kept += usize::from(keep);
        }
        kept
    }

    /// Those of them whose key has a run, and where the search in it begins and ends.
    fn look_up(&self, count: usize, lanes: &mut Lanes) -> usize {
        let mask = self.table.len() - 1;
        for (code, to) in lanes.code.iter().zip(&mut lanes.run).take(count) {
            *to = self.table.get(home(*code, mask)).copied().unwrap_or_default();
        }
        let mut kept = 0;
        for lane in 0..count {
            let (Some(code), Some(first)) = (lanes.code.get(lane).copied(), lanes.run.get(lane).copied()) else { continue };
            let mut run = first;
            if run.code != code && run.length != 0 {
                let mut at = home(code, mask);
                while run.length != 0 && run.code != code {
                    at = (at + 1) & mask;
                    run = self.table.get(at).copied().unwrap_or_default();
                }
            }
            let (row, from) = (lanes.row.get(lane).copied(), lanes.from.get(lane).copied());
            if let (Some(to_row), Some(to_from), Some(to_run)) =
                (lanes.row.get_mut(kept), lanes.from.get_mut(kept), lanes.run.get_mut(kept))
            {
                *to_row = row.unwrap_or_default();
                *to_from = from.unwrap_or_default();
                *to_run = run;
            }
            kept += usize::from(run.length != 0);
        }
        for ((run, from), to) in lanes.run.iter().zip(&lanes.from).zip(&mut lanes.slots).take(kept) {
            let bucket = run.start as usize + self.scale.bucket(*from, u64::from(run.length / 2));
            if let Some([low, high]) = self.index.get(bucket..bucket + 2) {
                *to = (*low, *high);
            }
        }
        kept
    }

    fn search_and_raise(&self, best: &[Cell], rules: &Rules, rows: &Narrow<'_>, count: usize, lanes: &mut Lanes) {
        // Only to have it in the cache: these loads do not wait for each other.
        for (slots, at) in lanes.slots.iter().zip(&mut lanes.at).take(count) {
            *at = self.times.get(slots.0 as usize).copied().unwrap_or_default();
        }
        // The first slot at or after `from`: all before the bucket are earlier, all behind it are later.
        for ((slots, from), run) in lanes.slots.iter_mut().zip(&lanes.from).zip(&lanes.run).take(count) {
            let (low, high) = *slots;
            let range = self.times.get(low as usize..high as usize).unwrap_or_default();
            let before = match range {
                [] => 0,
                [a] => u32::from(a < from),
                [a, b] => u32::from(a < from) + u32::from(b < from),
                [a, b, c] => u32::from(a < from) + u32::from(b < from) + u32::from(c < from),
                [a, b, c, d] => u32::from(a < from) + u32::from(b < from) + u32::from(c < from) + u32::from(d < from),
                more => more.partition_point(|at| at < from) as u32,
            };
            *slots = (low + before, run.start + run.length);
        }
        for ((slots, at), best_time) in lanes.slots.iter().zip(&mut lanes.at).zip(&mut lanes.best_time).take(count) {
            let slot = slots.0 as usize;
            *at = self.times.get(slot).copied().unwrap_or_default();
            *best_time = best.get(slot).map_or(i64::MAX, |cell| cell.time.load(Ordering::Relaxed));
        }
        for (((slots, at), best_time), row) in lanes.slots.iter().zip(&lanes.at).zip(&lanes.best_time).zip(&lanes.row).take(count)
        {
            let row = *row as usize;
            let Some(time) = rows.times.get(row) else { continue };
            // Later slots are later still, so what is stale at the first one never counts.
            if time < best_time || slots.0 >= slots.1 || rules.stale(*time, *at) {
                continue;
            }
            if let Some(cell) = best.get(slots.0 as usize) {
                cell.raise(Best { time: *time, created: rows.created(row).unwrap_or(i64::MIN), place: rows.place(row) });
            }
        }
    }

    /// The winner of each of `rows` entity rows; of none, the place is zero.
    pub(super) fn winners<T: Clone>(
        &self,
        best: Vec<Cell>,
        rules: &Rules,
        rows: usize,
        none: T,
        take: impl Fn(Best) -> T,
    ) -> Vec<T> {
        let mut winners = vec![none; rows];
        let mut ends = self.runs.iter();
        let (mut end, mut top) = (0, Best::NONE);
        for (slot, ((cell, row), at)) in best.into_iter().zip(&self.rows).zip(&self.times).enumerate() {
            if slot == end {
                end = ends.next().map_or(usize::MAX, |end| *end as usize);
                top = Best::NONE;
            }
            top = top.max(cell.into_best());
            if top.place != 0
                && !rules.stale(top.time, *at)
                && let Some(winner) = winners.get_mut(*row as usize)
            {
                *winner = take(top);
            }
        }
        winners
    }
}

/// Numbers the keys in order of their first row: the number of each row's key, [`u32::MAX`] for none, and how many rows each
/// key has.
fn number_keys(codes: &Codes) -> (Vec<u32>, Vec<Run>) {
    let mut keys: Vec<Run> = Vec::new();
    // Codes and one more than their numbers; it grows with the keys, of which there may be far fewer than rows.
    let mut table: Vec<(u64, u32)> = vec![(0, 0); 1024];
    let numbers = codes.codes.iter().zip(&codes.known).map(|(code, known)| {
        if !known {
            return u32::MAX;
        }
        if keys.len() * 2 >= table.len() {
            let size = table.len() * 4;
            let mut larger = vec![(0, 0); size];
            for (key, number) in keys.iter().zip(1_u32..) {
                let mut at = home(key.code, size - 1);
                while larger.get(at).is_some_and(|(_, taken)| *taken != 0) {
                    at = (at + 1) & (size - 1);
                }
                if let Some(free) = larger.get_mut(at) {
                    *free = (key.code, number);
                }
            }
            table = larger;
        }
        let mask = table.len() - 1;
        let mut at = home(*code, mask);
        while let Some(entry) = table.get_mut(at) {
            if entry.1 == 0 {
                keys.push(Run { code: *code, start: 0, length: 0 });
                *entry = (*code, keys.len() as u32);
            }
            if entry.0 == *code {
                let number = entry.1 - 1;
                if let Some(key) = keys.get_mut(number as usize) {
                    key.length += 1;
                }
                return number;
            }
            at = (at + 1) & mask;
        }
        u32::MAX
    });
    let numbers = numbers.collect();
    (numbers, keys)
}

/// For each run the first slot of each of its buckets of time, and its end behind the last.
fn time_index(times: &[i64], runs: &[u32], scale: Scale) -> Vec<u32> {
    let mut index = vec![times.len() as u32; times.len() + 1];
    let mut start = 0_u32;
    for end in runs {
        if let (Some(run), Some(index)) = (times.get(start as usize..*end as usize), index.get_mut(start as usize..*end as usize))
        {
            let buckets = u64::from((end - start) / 2);
            let mut next = 0;
            for (slot, at) in (start..).zip(run) {
                let bucket = scale.bucket(*at, buckets);
                while next <= bucket {
                    if let Some(first) = index.get_mut(next) {
                        *first = slot;
                    }
                    next += 1;
                }
            }
            index.iter_mut().skip(next).for_each(|first| *first = *end);
        }
        start = *end;
    }
    index
}
