//! Entity rows in time order by key, and the best feature row of each.

use std::sync::Mutex;

use super::keys::{Codes, KeyCoder};

/// A key's run of slots.
#[derive(Clone, Copy, Default)]
struct Run {
    code: u64,
    start: u32,
    length: u32,
}

/// The entity rows that have a key and a time, sorted by key, time and row.
pub(super) struct Slots {
    pub(super) coder: KeyCoder,
    /// Open addressing; its length is a power of two.
    table: Vec<Run>,
    times: Vec<i64>,
    rows: Vec<u32>,
    runs: Vec<u32>,
    /// The least and greatest time.
    pub(super) least: i64,
    pub(super) greatest: i64,
}

fn home(code: u64, length: usize) -> usize {
    let mixed = u128::from(code ^ 0x9E37_79B9_7F4A_7C15) * 0xD6E8_FEB8_6659_FD93;
    ((mixed as u64) ^ (mixed >> 64) as u64) as usize & (length - 1)
}

/// The best feature row so far: ordered as the fields are. `place` is zero for none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Best {
    pub(super) time: i64,
    pub(super) created: i64,
    pub(super) place: u64,
}

impl Best {
    pub(super) const NONE: Self = Self { time: i64::MIN, created: i64::MIN, place: 0 };
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

    /// Whether a row of `time` is too old at `at`.
    fn stale(&self, time: i64, at: i64) -> bool {
        self.ttl.is_some_and(|ttl| time < at.saturating_sub(ttl))
    }
}

/// A batch of feature rows without their features.
pub(super) struct Narrow<'a> {
    pub(super) codes: &'a Codes,
    pub(super) times: &'a [i64],
    pub(super) created: Option<(&'a [i64], Option<&'a arrow::buffer::NullBuffer>)>,
    /// The place of the first row.
    pub(super) place: u64,
}

impl Slots {
    pub(super) fn build(coder: KeyCoder, codes: &Codes, times: &[i64]) -> Self {
        let size = (times.len() * 2).next_power_of_two().max(16);
        let mut table = vec![Run::default(); size];
        let mut homes = vec![usize::MAX; times.len()];
        let mut order = Vec::new();
        for ((code, known), slot) in codes.codes.iter().zip(&codes.known).zip(&mut homes) {
            if !known {
                continue;
            }
            let mut at = home(*code, size);
            while let Some(run) = table.get_mut(at) {
                if run.length == 0 {
                    run.code = *code;
                    order.push(at);
                }
                if run.code == *code {
                    run.length += 1;
                    *slot = at;
                    break;
                }
                at = (at + 1) & (size - 1);
            }
        }
        let mut total = 0;
        let mut runs = Vec::with_capacity(order.len());
        for at in &order {
            if let Some(run) = table.get_mut(*at) {
                run.start = total;
                total += run.length;
                runs.push(total);
            }
        }
        let mut fill: Vec<u32> = table.iter().map(|run| run.start).collect();
        let mut pairs = vec![(0_i64, 0_u32); total as usize];
        for ((row, at), time) in (0_u32..).zip(&homes).zip(times) {
            if let Some(next) = fill.get_mut(*at) {
                if let Some(pair) = pairs.get_mut(*next as usize) {
                    *pair = (*time, row);
                }
                *next += 1;
            }
        }
        let mut start = 0;
        for end in &runs {
            if let Some(run) = pairs.get_mut(start..*end as usize) {
                run.sort_unstable();
            }
            start = *end as usize;
        }
        let (times, rows): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let (least, greatest) =
            (times.iter().min().copied().unwrap_or(i64::MAX), times.iter().max().copied().unwrap_or(i64::MIN));
        Self { coder, table, times, rows, runs, least, greatest }
    }

    pub(super) fn len(&self) -> usize {
        self.times.len()
    }

    fn run(&self, code: u64) -> Option<(usize, &[i64])> {
        let size = self.table.len();
        let mut at = home(code, size);
        while let Some(run) = self.table.get(at) {
            if run.length == 0 {
                return None;
            }
            if run.code == code {
                let start = run.start as usize;
                return Some((start, self.times.get(start..start + run.length as usize)?));
            }
            at = (at + 1) & (size - 1);
        }
        None
    }

    /// Raises the first slot that each row is eligible for.
    pub(super) fn fold(&self, best: &[Mutex<Best>], rules: &Rules, rows: &Narrow<'_>) {
        let keyed = rows.codes.codes.iter().zip(&rows.codes.known).zip(rows.times);
        for (row, ((code, known), time)) in keyed.enumerate() {
            if !known || *time > self.greatest {
                continue;
            }
            let created = match rows.created {
                Some((values, nulls)) if nulls.is_none_or(|nulls| nulls.is_valid(row)) => values.get(row).copied(),
                _ => None,
            };
            let Some(from) = rules.from(*time, created).filter(|from| *from <= self.greatest) else { continue };
            let Some((start, times)) = self.run(*code) else { continue };
            let offset = times.partition_point(|at| *at < from);
            // Later slots are later still, so what is stale at the first one never counts.
            if times.get(offset).is_none_or(|at| rules.stale(*time, *at)) {
                continue;
            }
            if let Some(cell) = best.get(start + offset) {
                let found = Best { time: *time, created: created.unwrap_or(i64::MIN), place: rows.place + row as u64 };
                let mut cell = cell.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                if found > *cell {
                    *cell = found;
                }
            }
        }
    }

    /// The winner of each of `rows` entity rows; zero is none.
    pub(super) fn winners(&self, best: Vec<Mutex<Best>>, rules: &Rules, rows: usize) -> Vec<u64> {
        let mut winners = vec![0; rows];
        let mut ends = self.runs.iter();
        let (mut end, mut top) = (0, Best::NONE);
        for (slot, ((cell, row), at)) in best.into_iter().zip(&self.rows).zip(&self.times).enumerate() {
            if slot == end {
                end = ends.next().map_or(usize::MAX, |end| *end as usize);
                top = Best::NONE;
            }
            top = top.max(cell.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()));
            if top.place != 0
                && !rules.stale(top.time, *at)
                && let Some(winner) = winners.get_mut(*row as usize)
            {
                *winner = top.place;
            }
        }
        winners
    }
}
