//! All state of a run: the origin, the store and its points of presence, and what is known to be true of them.

use std::collections::BTreeMap;

use bytes::Bytes;
use mezze_core::Audience;
use mezze_replica::ListingKind;

use crate::executor::Agenda;
use crate::random::Random;
use crate::watch::Watch;

pub(crate) struct World {
    pub(crate) agenda: Agenda,
    pub(crate) random: Random,
    pub(crate) setting: Setting,
    pub(crate) origin: BTreeMap<String, Object>,
    pub(crate) central: BTreeMap<String, Stored>,
    /// The writes of each key, oldest first, as long as somebody may still not see the newest.
    pub(crate) writes: BTreeMap<String, Vec<Write>>,
    pub(crate) points: Vec<Point>,
    pub(crate) watch: Watch,
    pub(crate) stats: Stats,
    /// The lines of the trace, where it is wanted.
    pub(crate) trace: Option<Vec<String>>,
}

/// What a seed decides before anything happens.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) audience: Audience,
    pub(crate) listing: ListingKind,
    pub(crate) lists_bytes: bool,
    pub(crate) versioned: bool,
    pub(crate) limited: bool,
    pub(crate) points: usize,
    /// A write is visible everywhere after this.
    pub(crate) propagation: i64,
    /// Times that a point of presence keeps copies.
    pub(crate) cache_min: i64,
    pub(crate) cache_max: i64,
    /// The same, of keys that were not there.
    pub(crate) miss_max: i64,
    pub(crate) listing_lag_max: i64,
    /// How old what the interface reads may be.
    pub(crate) read_lag_max: i64,
    /// How often things go wrong, of 1,000 times.
    pub(crate) faults: Faults,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) origin: u32,
    pub(crate) call: u32,
    pub(crate) busy: u32,
    pub(crate) not_done: u32,
    pub(crate) lost: u32,
    pub(crate) read: u32,
    pub(crate) damage: u32,
    pub(crate) kill: u32,
    pub(crate) pause: u32,
}

/// An object of the origin.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) bytes: Bytes,
    pub(crate) modified: i64,
}

/// A key in the central copy.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) value: Bytes,
    pub(crate) digest: String,
    pub(crate) version: u64,
}

/// A write as points of presence come to see it.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) at: i64,
    pub(crate) stored: Option<Stored>,
    pub(crate) visible: Vec<i64>,
}

/// A point of presence: what it keeps copies of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Point {
    pub(crate) copies: BTreeMap<String, Copy>,
}

#[derive(Clone, Debug)]
pub(crate) struct Copy {
    pub(crate) value: Option<Bytes>,
    pub(crate) at: i64,
}

/// What happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stats {
    pub(crate) steps: u64,
    pub(crate) responses: BTreeMap<String, u64>,
    pub(crate) steps_back: BTreeMap<String, u64>,
    pub(crate) counts: BTreeMap<&'static str, u64>,
    pub(crate) kills: u64,
}

impl Stats {
    pub(crate) fn count(&mut self, what: &'static str) {
        self.add(what, 1);
    }

    pub(crate) fn add(&mut self, what: &'static str, count: u64) {
        *self.counts.entry(what).or_default() += count;
    }

    pub(crate) fn of(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.steps += other.steps;
        self.kills += other.kills;
        for (key, count) in &other.responses {
            *self.responses.entry(key.clone()).or_default() += count;
        }
        for (key, count) in &other.steps_back {
            *self.steps_back.entry(key.clone()).or_default() += count;
        }
        for (key, count) in &other.counts {
            self.add(key, *count);
        }
    }
}

impl World {
    pub(crate) fn new(seed: u64, traced: bool) -> Self {
        let mut random = Random::new(seed);
        let setting = Setting::of(&mut random);
        let points = vec![Point::default(); setting.points];
        Self {
            agenda: Agenda::starting_at(START),
            random,
            watch: Watch::default(),
            setting,
            origin: BTreeMap::new(),
            central: BTreeMap::new(),
            writes: BTreeMap::new(),
            points,
            stats: Stats::default(),
            trace: traced.then(Vec::new),
        }
    }

    /// Adds a line to the trace.
    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let millis = (self.agenda.now - START) / 1_000_000;
            trace.push(format!("{:>9}.{:03} [{:>3}] {}", millis / 1_000, millis % 1_000, self.agenda.current, line()));
        }
    }

    /// Something that must not be is.
    pub(crate) fn violate(&mut self, what: impl Into<String>) {
        let what = what.into();
        self.note(|| format!("VIOLATION: {what}"));
        self.watch.violation.get_or_insert(what);
    }

    /// From now on nothing goes wrong any more.
    pub(crate) fn calm(&mut self) {
        self.setting.faults = Faults::default();
    }
}

impl Setting {
    fn of(random: &mut Random) -> Self {
        // Each seed has its own weather: what never happens in one happens all the time in another.
        let mut rate = |per_mille: u32| if random.chance(400) { 0 } else { random.below(u64::from(per_mille) + 1) as u32 };
        let faults = Faults {
            origin: rate(12),
            call: rate(250),
            busy: rate(150),
            not_done: rate(200),
            lost: rate(15),
            read: rate(150),
            damage: rate(120),
            kill: rate(600),
            pause: rate(50),
        };
        let propagation = random.pick(&[0, 10, 60, 60, 60]) * SECOND;
        let cache_min = random.pick(&[0, 1, 10, 30, 30]) * SECOND;
        Self {
            audience: if random.chance(250) { Audience::Public } else { Audience::Server },
            listing: random.pick(&[ListingKind::Written, ListingKind::Written, ListingKind::Computed, ListingKind::Names]),
            lists_bytes: random.chance(400),
            versioned: random.chance(200),
            limited: random.chance(150),
            points: random.between(2, 4) as usize,
            propagation,
            cache_min,
            cache_max: cache_min.max(random.pick(&[60, 600, YEAR_SECONDS]) * SECOND),
            miss_max: cache_min.max(random.pick(&[10, 60, YEAR_SECONDS]) * SECOND),
            read_lag_max: propagation.min(random.pick(&[0, 0, 0, 60]) * SECOND),
            listing_lag_max: propagation.min(random.pick(&[0, 0, 5, 20, 60]) * SECOND),
            faults,
        }
    }
}

/// When every run begins.
pub(crate) const START: i64 = 1_800_000_000 * SECOND;
pub(crate) const SECOND: i64 = 1_000_000_000;
const YEAR_SECONDS: i64 = 31_536_000;
