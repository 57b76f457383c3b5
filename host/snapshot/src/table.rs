//! What a table is built of, part by part.
//!
//! A part is a range of hashes: as many keys as there is memory for, with their rows of the snapshot before and their new rows.
//! Parts are made when they are asked for, and again when they are asked for again. Pages are in order of hash as well, so no
//! page ever needs more than one part.

use std::collections::HashMap;

use mezze_core::{KeyHash, KeyPart, Manifest, Span, Table, TableSchema, Timestamp};
use mezze_model::Definitions;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::SnapshotError;
use crate::column::{NONE, TooLong};
use crate::content::{Keyed, NOT_CREATED, ViewStore, merge};
use crate::previous::{SegmentReader, Wanted, read_inline};
use crate::staging::{HashRange, NewRows, StagedRows};
use crate::state::BuildState;

/// Bytes of a part at the most where memory has no limit: above that, texts of a column could reach the 4 GiB that 32-bit
/// offsets can tell.
const PART_BYTES_MAX: u64 = 3 << 30;
/// Bytes that each key takes beside its rows while a part is made, and for each of its views.
const KEY_BYTES: u64 = 64;
const KEY_VIEW_BYTES: u64 = 12;

/// All that a table is built of.
pub(crate) struct TableInput<'a> {
    number: u16,
    schema: &'a TableSchema,
    /// Of the snapshot before.
    old: Vec<OldSet<'a>>,
    groups: Vec<Group>,
    /// The table before, where its pages may stay.
    pub(crate) in_place: Option<&'a Table>,
    /// Which of the old sets is its base.
    base_set: Option<usize>,
    /// With the number of their view.
    new: Vec<(usize, StagedRows)>,
    forgotten: HashMap<u64, i64>,
    threads: usize,
}

enum OldSet<'a> {
    Base(SegmentReader<'a>),
    /// With the number of the set of its base.
    Delta(SegmentReader<'a>, Option<usize>),
    Inline(&'a Table, u16, Vec<Wanted>),
}

/// Rows of one table of the snapshot before: numbers of its sets, and which views they have.
struct Group {
    base: Option<usize>,
    delta: Option<usize>,
    views: Vec<usize>,
}

/// The keys of a range of hashes.
pub(crate) struct Part {
    pub(crate) stores: Vec<ViewStore>,
    pub(crate) merged: Keyed,
    /// The keys of the base, and for each key its place among them.
    base: Option<Keyed>,
    base_of: Vec<Option<usize>>,
    /// New rows that counted, those that did not, and keys that have other values now.
    taken: u64,
    stale: u64,
    changed: u64,
}

impl<'a> TableInput<'a> {
    pub(crate) async fn open(
        store: &'a mezze_replica::Store,
        number: u16,
        schema: &'a TableSchema,
        new: Vec<StagedRows>,
        before: Option<&'a Manifest>,
        state: &BuildState,
        threads: usize,
    ) -> Result<Self, SnapshotError> {
        let mut old = Vec::new();
        // What the snapshot before holds: for each of its tables that has views of this one, base and delta.
        let mut groups: Vec<Group> = Vec::new();
        let in_place = before.and_then(|manifest| {
            let table = manifest.tables.get(usize::from(number))?;
            (table.schema.name == schema.name && same_columns(&table.schema, schema)).then_some(table)
        });
        for (old_number, table) in before.iter().flat_map(|manifest| (0_u16..).zip(&manifest.tables)) {
            if table.schema.keys != schema.keys && !same_keys(&table.schema, schema) {
                continue;
            }
            let mut group = Group { base: None, delta: None, views: Vec::new() };
            for (is_base, segment) in [(true, &table.base), (false, &table.delta)] {
                let Some(segment) = segment else { continue };
                let wanted = wanted(&table.schema, schema, &segment.time_shifts);
                if wanted.is_empty() {
                    continue;
                }
                group.views = wanted.iter().map(|wanted| wanted.store).collect();
                let reader = SegmentReader::open(store, old_number, table, segment, wanted).await?;
                let number = Some(old.len());
                if is_base {
                    group.base = number;
                    old.push(OldSet::Base(reader));
                } else {
                    group.delta = number;
                    old.push(OldSet::Delta(reader, group.base));
                }
            }
            if table.inline.is_some() {
                let wanted = wanted(&table.schema, schema, &[]);
                group.base = Some(old.len());
                group.views = wanted.iter().map(|wanted| wanted.store).collect();
                old.push(OldSet::Inline(table, old_number, wanted));
            }
            if group.base.is_some() || group.delta.is_some() {
                groups.push(group);
            }
        }
        let mut taken: Vec<(usize, StagedRows)> = Vec::new();
        for rows in new {
            let Some(view) = schema.views.iter().position(|view| view.name == rows.view()) else { continue };
            if taken.iter().all(|(known, _)| *known != view) {
                taken.push((view, rows));
            }
        }
        let forgotten = state
            .forgotten
            .iter()
            .filter(|forgotten| forgotten.table == schema.name)
            .map(|forgotten| (forgotten.hash, forgotten.until_nanos))
            .collect();
        let base_set =
            if in_place.is_some() { groups.iter().find_map(|group| group.base).filter(|_| groups.len() == 1) } else { None };
        Ok(Self { number, schema, old, groups, in_place, base_set, new: taken, forgotten, threads })
    }

    /// How many parts to make of it with `memory` bytes.
    pub(crate) fn part_count(&self, memory: Option<usize>) -> u32 {
        let old = self.old.iter().map(|set| match set {
            OldSet::Base(segment) | OldSet::Delta(segment, _) => segment.memory(),
            OldSet::Inline(..) => 0,
        });
        let key_bytes = KEY_BYTES + KEY_VIEW_BYTES * self.schema.views.len() as u64;
        let new = self.new.iter().map(|(_, rows)| rows.memory() + rows.len() * key_bytes);
        let total: u64 = old.chain(new).fold(0, u64::saturating_add);
        let part = memory.map_or(PART_BYTES_MAX, |memory| (memory as u64 / 8 * 3).clamp(1, PART_BYTES_MAX));
        // More parts than this have next to nothing in common with what a part costs.
        u32::try_from(total.div_ceil(part)).unwrap_or(u32::MAX).clamp(1, 1 << 16)
    }

    /// The keys of all hashes; new rows that are in memory are moved into it.
    pub(crate) async fn take_all(&mut self) -> Result<Part, SnapshotError> {
        let new = self.new.iter_mut().map(|(view, rows)| Ok((*view, rows.take().map_or_else(|| rows.read(HashRange::ALL), Ok)?)));
        let new = new.collect::<Result<Vec<_>, SnapshotError>>()?;
        self.make(HashRange::ALL, new).await
    }

    /// The keys whose hashes are in a range.
    pub(crate) async fn part(&self, range: HashRange) -> Result<Part, SnapshotError> {
        let new = self.new.iter().map(|(view, rows)| Ok((*view, rows.read(range)?)));
        let new = new.collect::<Result<Vec<_>, SnapshotError>>()?;
        self.make(range, new).await
    }

    async fn make(&self, range: HashRange, new: Vec<(usize, NewRows)>) -> Result<Part, SnapshotError> {
        let schema = self.schema;
        let too_long =
            |TooLong| SnapshotError::TooMuch { table: schema.name.clone(), what: "its texts have 4 GiB or more".into() };
        let mut stores: Vec<ViewStore> = schema.views.iter().map(ViewStore::new).collect();
        let mut sets: Vec<Keyed> = Vec::with_capacity(self.old.len() + new.len());
        for old in &self.old {
            let set = match old {
                OldSet::Base(segment) => segment.read(range, schema, None, &mut stores).await?,
                OldSet::Delta(segment, base) => {
                    let base = base.and_then(|base| sets.get(base));
                    segment.read(range, schema, base, &mut stores).await?
                }
                OldSet::Inline(table, number, wanted) => read_inline(*number, table, schema, wanted, &mut stores)?,
            };
            sets.push(set);
        }
        let old_sets = sets.len();
        let new_views: Vec<usize> = new.iter().map(|(view, _)| *view).collect();
        sets.extend(self.key_new_rows(new, &mut stores).map_err(too_long)?);
        let mut part = Part {
            stores: Vec::new(),
            merged: Keyed::new(schema),
            base: None,
            base_of: Vec::new(),
            taken: 0,
            stale: 0,
            changed: 0,
        };
        part.merged = merge(schema, &sets, |found, rows| {
            let at = |set: usize| found.get(set).copied().flatten().and_then(|index| Some((sets.get(set)?, index)));
            for group in &self.groups {
                let old = group.delta.and_then(at).or_else(|| group.base.and_then(at));
                let Some((set, index)) = old else { continue };
                for view in &group.views {
                    if let (Some(slot), Some(row)) = (rows.get_mut(*view), set.rows_of(index).get(*view)) {
                        *slot = *row;
                    }
                }
            }
            let mut has_changed = false;
            for (number, view) in (old_sets..).zip(&new_views) {
                let Some((set, index)) = at(number) else { continue };
                let (Some(slot), Some(new), Some(store)) =
                    (rows.get_mut(*view), set.rows_of(index).get(*view), stores.get(*view))
                else {
                    continue;
                };
                if *slot == NONE || store.replaces(*slot, *new) {
                    has_changed |= *slot == NONE || !store.same_features(*slot, *new);
                    *slot = *new;
                    part.taken += 1;
                } else {
                    part.stale += 1;
                }
            }
            part.changed += u64::from(has_changed);
            if !self.forgotten.is_empty() {
                let key = found.iter().zip(&sets).find_map(|(index, set)| set.hashes.get((*index)?));
                if let Some(until) = key.and_then(|hash| self.forgotten.get(&hash.get())) {
                    for (row, store) in rows.iter_mut().zip(&stores) {
                        if store.times.get(*row as usize).is_some_and(|time| time <= until) {
                            *row = NONE;
                        }
                    }
                }
            }
            let base = self.base_set.and_then(|set| found.get(set).copied().flatten());
            let stays = rows.iter().any(|row| *row != NONE) || base.is_some();
            if stays && self.base_set.is_some() {
                part.base_of.push(base);
            }
            stays
        })
        .map_err(too_long)?;
        part.base = self.base_set.filter(|set| *set < sets.len()).map(|set| sets.swap_remove(set));
        part.stores = stores;
        Ok(part)
    }

    /// Puts the new rows of each view into its store, the views at the same time; their keys.
    fn key_new_rows(&self, new: Vec<(usize, NewRows)>, stores: &mut [ViewStore]) -> Result<Vec<Keyed>, TooLong> {
        let mut free: Vec<Option<&mut ViewStore>> = stores.iter_mut().map(Some).collect();
        let work: Vec<_> =
            new.into_iter().filter_map(|(view, rows)| Some((view, rows, free.get_mut(view).and_then(Option::take)?))).collect();
        let schema = self.schema;
        let key = |(view, rows, store): (usize, NewRows, &mut ViewStore)| {
            let start = store.append(rows.store)?;
            Ok(Keyed::of_view(schema, view, &rows.hashes, rows.keys, start))
        };
        if self.threads <= 1 || work.len() <= 1 {
            return work.into_iter().map(key).collect();
        }
        std::thread::scope(|scope| {
            let keyed: Vec<_> = work.into_iter().map(|work| scope.spawn(move || key(work))).collect();
            keyed.into_iter().map(|keyed| keyed.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        })
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    pub(crate) fn schema(&self) -> &'a TableSchema {
        self.schema
    }

    /// Whether rows that are left out of a delta are found in the base.
    pub(crate) fn has_base(&self) -> bool {
        self.base_set.is_some() && self.in_place.is_some_and(|table| table.base.is_some())
    }
}

impl Part {
    /// A key's rows and, if it is in the base, its rows there, view by view.
    fn pairs(&self, index: usize) -> impl Iterator<Item = (usize, u32, u32, &ViewStore)> {
        let base = self.base_of.get(index).copied().flatten();
        let base_rows = base.zip(self.base.as_ref()).map(|(at, base)| base.rows_of(at)).unwrap_or_default();
        let pairs = self.merged.rows_of(index).iter().zip(base_rows).zip(&self.stores).enumerate();
        pairs.map(|(view, ((now, was), store))| (view, *now, *was, store))
    }
}

/// What is known of a table once all its parts have been seen.
pub(crate) struct Survey {
    /// Of all keys and rows, in order: whatever the parts, the same.
    content: Xxh3,
    buffer: Vec<u8>,
    pub(crate) watermarks: Vec<i64>,
    pub(crate) entities: u64,
    pub(crate) taken: u64,
    pub(crate) stale: u64,
    pub(crate) changed: u64,
    pub(crate) has_created: bool,
    spans: Vec<Spans>,
    old_shifts: Vec<i64>,
}

impl Survey {
    pub(crate) fn new(input: &TableInput<'_>) -> Self {
        let views = input.schema.views.len();
        let base = input.in_place.and_then(|table| table.base.as_ref()).filter(|_| input.has_base());
        let old_shift = |view: usize| base.and_then(|base| base.time_shifts.get(view)).map_or(0, |shift| shift.nanos());
        Self {
            content: Xxh3::new(),
            buffer: Vec::with_capacity(DIGEST_BYTES + 4096),
            watermarks: vec![Timestamp::MIN.nanos(); views],
            entities: 0,
            taken: 0,
            stale: 0,
            changed: 0,
            has_created: false,
            spans: vec![Spans::default(); views],
            old_shifts: (0..views).map(old_shift).collect(),
        }
    }

    /// Adds the next part: parts come in order of hash.
    pub(crate) fn add(&mut self, part: &Part) {
        self.taken += part.taken;
        self.stale += part.stale;
        self.changed += part.changed;
        for index in 0..part.merged.len() {
            let hash = part.merged.hashes.get(index).map_or(0, |hash| hash.get());
            self.buffer.extend_from_slice(&hash.to_le_bytes());
            self.buffer.extend_from_slice(&key_digest(&part.merged.key(index)).to_le_bytes());
            let views = part.merged.rows_of(index).iter().zip(&part.stores).zip(&mut self.watermarks);
            let mut alive = false;
            for ((row, store), watermark) in views {
                let Some(time) = store.times.get(*row as usize).copied() else {
                    self.buffer.push(0);
                    continue;
                };
                alive = true;
                *watermark = (*watermark).max(time);
                let created = store.created.get(*row as usize).copied().unwrap_or(NOT_CREATED);
                self.has_created |= created != NOT_CREATED;
                let digest = store.digests.get(*row as usize).copied().unwrap_or(0);
                self.buffer.push(1);
                self.buffer.extend_from_slice(&time.to_le_bytes());
                self.buffer.extend_from_slice(&created.to_le_bytes());
                self.buffer.extend_from_slice(&digest.to_le_bytes());
            }
            self.entities += u64::from(alive);
            if self.buffer.len() >= DIGEST_BYTES {
                self.content.update(&self.buffer);
                self.buffer.clear();
            }
            if part.base.is_some() {
                for (view, now, was, store) in part.pairs(index) {
                    let times = (store.times.get(now as usize), store.times.get(was as usize));
                    let (Some(now_time), Some(was_time)) = times else { continue };
                    if (now == was || store.same_features(now, was))
                        && let (Some(spans), Some(old_shift)) = (self.spans.get_mut(view), self.old_shifts.get(view))
                    {
                        spans.add(now_time.wrapping_sub(was_time.wrapping_sub(*old_shift)));
                    }
                }
            }
        }
    }

    /// The hash of all that was added.
    pub(crate) fn content(&mut self) -> [u8; 16] {
        self.content.update(&self.buffer);
        self.buffer.clear();
        self.content.digest128().to_be_bytes()
    }

    /// What to add to the base's event times so that the fewest keys differ from it.
    pub(crate) fn delta(&self) -> Choice {
        let shifts = self.spans.iter().zip(&self.old_shifts).map(|(spans, old_shift)| spans.most(*old_shift)).collect();
        Choice::Delta { shifts, old_shifts: self.old_shifts.clone() }
    }

    /// The keys of a new base: those that are older than `retain` in all their views go. What is old is judged by the newest
    /// event of each view, so that the clock does not count.
    pub(crate) fn base(&self, schema: &TableSchema, definitions: &Definitions) -> Choice {
        let oldest = schema.views.iter().zip(&self.watermarks).map(|(view, newest)| {
            let stored = definitions.feature_view(&view.name);
            let written = || definitions.written_from(definitions.on_demand_feature_view(&view.name)?);
            let retain = stored.or_else(written)?.retain;
            (retain > Span::ZERO).then(|| Timestamp::from_nanos(*newest).saturating_sub(retain).nanos())
        });
        Choice::Base { oldest: oldest.collect() }
    }
}

/// Which keys a segment gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Those with a row that is not older than its view's.
    Base { oldest: Vec<Option<i64>> },
    /// Those whose rows are not the base's moved by the view's shift.
    Delta { shifts: Vec<i64>, old_shifts: Vec<i64> },
}

impl Choice {
    /// The keys of a part.
    pub(crate) fn of(&self, part: &Part) -> Vec<u32> {
        let all = 0..part.merged.len() as u32;
        match self {
            Self::Base { oldest } => all.filter(|index| is_retained(part, *index as usize, oldest)).collect(),
            Self::Delta { shifts, old_shifts } => {
                let patch = Patch { part, shifts, old_shifts };
                all.filter(|index| patch.has(*index as usize)).collect()
            }
        }
    }

    /// Whether it is simply the keys that have rows.
    pub(crate) fn is_all_alive(&self) -> bool {
        matches!(self, Self::Base { oldest } if oldest.iter().all(Option::is_none))
    }

    /// What decides the keys beside the content.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let numbers = |kind: &str, values: &mut dyn Iterator<Item = i64>| {
            kind.bytes().chain([0]).chain(values.flat_map(i64::to_le_bytes)).collect()
        };
        match self {
            // The least instant is before any row's.
            Self::Base { oldest } => numbers("base", &mut oldest.iter().map(|oldest| oldest.unwrap_or(i64::MIN))),
            // What the base has is moved anew each time: how far it was moved before does not count.
            Self::Delta { shifts, .. } => numbers("delta", &mut shifts.iter().copied()),
        }
    }
}

fn is_retained(part: &Part, index: usize, oldest: &[Option<i64>]) -> bool {
    let mut rows = part.merged.rows_of(index).iter().zip(part.stores.iter().zip(oldest));
    rows.any(|(row, (store, oldest))| match (store.times.get(*row as usize), oldest) {
        (Some(time), Some(oldest)) => time >= oldest,
        (Some(_), None) => true,
        (None, _) => false,
    })
}

/// Whether a row has another event time than the base's row with the view's shift, or only one of them is there.
fn is_moved(view: usize, now: u32, was: u32, store: &ViewStore, shifts: &[i64], old_shifts: &[i64]) -> bool {
    match (store.times.get(now as usize), store.times.get(was as usize)) {
        (Some(now), Some(was)) => {
            let shift = |shifts: &[i64]| shifts.get(view).copied().unwrap_or(0);
            was.wrapping_sub(shift(old_shifts)).wrapping_add(shift(shifts)) != *now
        }
        (None, None) => false,
        _ => true,
    }
}

/// What the rows of a delta are written against.
#[derive(Clone, Copy)]
pub(crate) struct Patch<'a> {
    part: &'a Part,
    shifts: &'a [i64],
    old_shifts: &'a [i64],
}

impl<'a> Patch<'a> {
    /// For the rows of a part; `None` where the choice is not that of a delta.
    pub(crate) fn of(part: &'a Part, choice: &'a Choice) -> Option<Self> {
        match choice {
            Choice::Base { .. } => None,
            Choice::Delta { shifts, old_shifts } => Some(Self { part, shifts, old_shifts }),
        }
    }

    /// Bucket and row of a key in the base, if it is there.
    pub(crate) fn place(&self, index: usize) -> Option<(u32, u32)> {
        let base = self.part.base_of.get(index).copied().flatten()?;
        self.part.base.as_ref()?.places.get(base).copied()
    }

    /// Whether a key has a row in the delta: it is not in the base, or has another cell.
    fn has(&self, index: usize) -> bool {
        let mut differs = self.place(index).is_none();
        self.own(index, |_, own| differs |= own != Own::Nothing);
        differs
    }

    /// Says of each view of a key which cells its row in the delta has.
    pub(crate) fn own(&self, index: usize, mut say: impl FnMut(usize, Own)) {
        let has_base = self.place(index).is_some();
        let rows = self.part.merged.rows_of(index).iter().zip(&self.part.stores).enumerate();
        if !has_base {
            rows.for_each(|(view, (now, _))| say(view, if *now == NONE { Own::Nothing } else { Own::Everything }));
            return;
        }
        for (view, now, was, store) in self.part.pairs(index) {
            let moved = is_moved(view, now, was, store, self.shifts, self.old_shifts);
            say(
                view,
                match (now, was) {
                    (NONE, NONE) => Own::Nothing,
                    (NONE, _) => Own::Time,
                    (_, NONE) => Own::Everything,
                    (now, was) if now == was || store.same_features(now, was) => {
                        if moved {
                            Own::Time
                        } else {
                            Own::Nothing
                        }
                    }
                    _ => Own::Some { moved, was },
                },
            );
        }
    }
}

/// Which cells of a view a row of a delta has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Own {
    Nothing,
    Time,
    Everything,
    /// Those features that differ from this row of the base, and the event time if it is another.
    Some {
        moved: bool,
        was: u32,
    },
}

/// How often each span was seen between a row of the base and an equal row now. Only so many are counted at a time: beyond
/// that, one that few rows have gives way (the algorithm of Misra and Gries, 1982), and none that every 65,536th row has is lost.
#[derive(Clone, Debug, Default)]
struct Spans {
    counts: HashMap<i64, u64>,
}

impl Spans {
    fn add(&mut self, span: i64) {
        if let Some(count) = self.counts.get_mut(&span) {
            *count += 1;
        } else if self.counts.len() < SPANS_MAX {
            self.counts.insert(span, 1);
        } else {
            self.counts.retain(|_, count| {
                *count -= 1;
                *count > 0
            });
        }
    }

    /// The one that was seen most often, of equals rather the old one.
    fn most(&self, old: i64) -> i64 {
        let rank = |(span, count): (&i64, &u64)| (*count, *span == old, std::cmp::Reverse(*span));
        self.counts.iter().max_by_key(|(span, count)| rank((span, count))).map_or(old, |(span, _)| *span)
    }
}

const SPANS_MAX: usize = 65_536;

/// Bytes that are hashed at once.
const DIGEST_BYTES: usize = 16 << 10;

/// Tells keys of one hash apart.
fn key_digest(key: &[KeyPart<'_>]) -> u64 {
    match key {
        [KeyPart::Int(value)] => *value as u64,
        parts => parts.iter().fold(0, |before: u64, part| {
            let part = match part {
                KeyPart::Int(value) => *value as u64,
                KeyPart::Bytes(bytes) => xxh3_64(bytes),
            };
            KeyHash::of(&[KeyPart::Int(before as i64), KeyPart::Int(part as i64)]).get()
        }),
    }
}

/// Whether keys of one table are those of the other, whatever their entities are called.
fn same_keys(a: &TableSchema, b: &TableSchema) -> bool {
    let key = |key: &mezze_core::KeyColumn| (key.join_key.clone(), key.key_type);
    a.keys.len() == b.keys.len() && a.keys.iter().zip(&b.keys).all(|(a, b)| key(a) == key(b))
}

/// Whether pages of one schema are pages of the other.
fn same_columns(a: &TableSchema, b: &TableSchema) -> bool {
    same_keys(a, b)
        && a.views.len() == b.views.len()
        && a.views.iter().zip(&b.views).all(|(a, b)| a.name == b.name && a.features == b.features)
}

/// What to read of an old table for a new one; `shifts` are those of the segment.
fn wanted(old: &TableSchema, new: &TableSchema, shifts: &[Span]) -> Vec<Wanted> {
    old.views
        .iter()
        .enumerate()
        .filter_map(|(view, schema)| {
            let store = new.views.iter().position(|known| known.name == schema.name)?;
            let time_column = old.time_column(view);
            let columns = new
                .views
                .get(store)?
                .features
                .iter()
                .map(|feature| Some(time_column + 1 + schema.features.iter().position(|known| known == feature)?))
                .collect();
            let shift = shifts.get(view).map_or(0, |shift| shift.nanos());
            Some(Wanted { view, store, time_column, shift, columns })
        })
        .collect()
}
