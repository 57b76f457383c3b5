//! A run: new rows and the snapshot before into the next snapshot.

use std::collections::{BTreeMap, HashMap};

use mezze_core::{
    INLINE_SEGMENT, KeyHash, KeyPart, KeyType, Manifest, PAGE_BYTES_MAX_DEFAULT, PageKey, SEGMENT_FOOTER_BYTES, Segment,
    SegmentId, SegmentIndex, SnapshotId, Span, Table, TableSchema, Timestamp, parse_uuid,
};
use mezze_model::{Definitions, digest, request_sources, services, tables};
use mezze_replica::{EpochRecord, FolderLock, ForgetRecord, NewEpoch, ObjectWriter, Origin, Reason, created_key, segment_key};
use xxhash_rust::xxh3::Xxh3;

use crate::SnapshotError;
use crate::build::{PageRules, Rows, Sink};
use crate::column::{NONE, TooLong, digest_all};
use crate::content::{Keyed, NOT_CREATED, ViewRows, ViewStore, merge, new_rows};
use crate::previous::{Wanted, created_bytes, read_inline, read_segment};
use crate::state::{BuildState, Forgotten};

/// How a snapshot is made.
#[derive(Clone, Copy, Debug)]
pub struct Materialize<'a> {
    /// Where snapshots are made.
    pub origin: &'a Origin,
    /// What they hold.
    pub definitions: &'a Definitions,
    /// The time of the new epoch.
    pub now: Timestamp,
    /// Threads that make pages. Files are the same with any number.
    pub threads: usize,
    /// Bytes that a page stays under, unless a single row has more.
    pub page_bytes_max: usize,
    /// Whether to write every table anew, without a delta.
    pub compact: bool,
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct MaterializeReport {
    /// The epoch that serves now; `None` where nothing has changed.
    pub record: Option<EpochRecord>,
    /// The snapshot that serves now.
    pub snapshot: Option<SnapshotId>,
    /// The tables, in order of name.
    pub tables: Vec<TableReport>,
}

/// What a run did to a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableReport {
    /// Its name.
    pub table: String,
    /// Entities that it has now.
    pub entities: u64,
    /// New rows that counted: they were newer than what was known.
    pub rows_taken: u64,
    /// New rows that were older than what was known.
    pub rows_stale: u64,
    /// Pages written: of a new base, or of a delta.
    pub pages_written: u64,
    /// Bytes of the pages written.
    pub bytes_written: u64,
    /// Rows of the delta.
    pub delta_rows: u64,
    /// Whether the base was written anew.
    pub rebuilt: bool,
}

/// The snapshot that a run goes on from.
struct Before {
    record: EpochRecord,
    manifest: Manifest,
}

impl<'a> Materialize<'a> {
    /// A run with the usual page size, on all cores.
    pub fn new(origin: &'a Origin, definitions: &'a Definitions, now: Timestamp) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { origin, definitions, now, threads, page_bytes_max: PAGE_BYTES_MAX_DEFAULT, compact: false }
    }

    /// The build state to go on from.
    ///
    /// # Errors
    /// [`SnapshotError::Origin`] where it cannot be read.
    pub async fn state(&self) -> Result<BuildState, SnapshotError> {
        match self.origin.latest().await? {
            Some(record) => Ok(self.origin.state(record.snapshot).await?.unwrap_or_default()),
            None => Ok(BuildState::default()),
        }
    }

    /// Makes the next snapshot of these rows and what the newest snapshot holds. `state` is that of [`Materialize::state`], with
    /// what was folded since. Where nothing has changed, no epoch is made.
    ///
    /// Ended at any point, the snapshot before serves on, and the next run goes on.
    ///
    /// # Errors
    /// [`SnapshotError`]; then nothing has changed for readers.
    pub async fn run(&self, rows: Vec<ViewRows>, state: &BuildState) -> Result<MaterializeReport, SnapshotError> {
        let reason = if self.compact && rows.is_empty() { Reason::Compact } else { Reason::Materialize };
        self.run_for(rows, state, reason).await
    }

    async fn run_for(&self, rows: Vec<ViewRows>, state: &BuildState, reason: Reason) -> Result<MaterializeReport, SnapshotError> {
        let _lock = FolderLock::build(self.origin.store())?;
        // A run that ended between epoch and head is brought to its end first.
        self.origin.refresh_head().await?;
        let before = match self.origin.latest().await? {
            Some(record) => Some(Before { manifest: self.origin.manifest(record.snapshot).await?, record }),
            None => None,
        };
        let schemas = in_known_order(tables(self.definitions), before.as_ref().map(|before| &before.manifest));
        let mut report = MaterializeReport::default();
        let mut built = Vec::with_capacity(schemas.len());
        for (schema, number) in schemas.iter().zip(0_u16..) {
            let (table, table_report) =
                self.build_table(number, schema, &rows, before.as_ref().map(|before| &before.manifest), state).await?;
            built.push(table);
            report.tables.push(table_report);
        }
        report.tables.sort_by(|a, b| a.table.cmp(&b.table));
        let manifest = Manifest {
            project: self.definitions.project.clone(),
            definition_digest: digest(self.definitions),
            input_digest: state.digest(),
            tables: built,
            request_sources: request_sources(self.definitions),
            services: services(self.definitions, &schemas),
        };
        let snapshot = self.origin.write_manifest(&manifest).await?;
        report.snapshot = Some(snapshot);
        if before.as_ref().is_some_and(|before| before.record.snapshot == snapshot) {
            return Ok(report);
        }
        self.origin.write_state(snapshot, state).await?;
        let after = before.as_ref().map(|before| before.record.epoch);
        let new = NewEpoch { after, parent: after, snapshot, reason, issued_at: self.now };
        report.record = Some(self.origin.commit(new).await?);
        Ok(report)
    }

    /// Removes an entity from what is served: `key` is its join keys with their values as text. Rows of it with event times up
    /// to now do not come back.
    ///
    /// # Errors
    /// [`SnapshotError::NoSuchKey`], [`SnapshotError::KeyValue`], and the errors of [`Materialize::run`].
    pub async fn forget(&self, key: &BTreeMap<String, String>) -> Result<MaterializeReport, SnapshotError> {
        let mut state = self.state().await?;
        let schemas = tables(self.definitions);
        let mut names: Vec<&TableSchema> = schemas
            .iter()
            .filter(|schema| {
                schema.keys.len() == key.len() && schema.keys.iter().all(|column| key.contains_key(&column.join_key))
            })
            .collect();
        names.retain(|schema| !schema.keys.is_empty());
        if names.is_empty() {
            let show = |keys: Vec<&str>| format!("({})", keys.join(", "));
            let mut known: Vec<String> = schemas
                .iter()
                .filter(|schema| !schema.keys.is_empty())
                .map(|schema| show(schema.keys.iter().map(|key| key.join_key.as_str()).collect()))
                .collect();
            known.dedup();
            return Err(SnapshotError::NoSuchKey {
                given: show(key.keys().map(String::as_str).collect()),
                known: known.join(", "),
            });
        }
        let latest = self.origin.require_latest().await?;
        let manifest = self.origin.manifest(latest.snapshot).await?;
        let numbers: Vec<u16> = (0_u16..)
            .zip(&manifest.tables)
            .filter(|(_, table)| names.iter().any(|schema| schema.name == table.schema.name))
            .map(|(number, _)| number)
            .collect();
        for schema in names {
            let hash = key_hash(schema, key)?;
            let until_nanos = self.now.nanos();
            state.forgotten.retain(|known| known.table != schema.name || known.hash != hash.get());
            state.forgotten.push(Forgotten { table: schema.name.clone(), hash: hash.get(), until_nanos });
        }
        let segments = self.origin.segments(&numbers).await?;
        let report = self.run_for(Vec::new(), &state, Reason::Forget).await?;
        if let Some(record) = &report.record {
            self.origin.write_forget_record(&ForgetRecord::new(record.epoch, 1, segments)).await?;
        }
        Ok(report)
    }

    async fn build_table(
        &self,
        number: u16,
        schema: &TableSchema,
        rows: &[ViewRows],
        before: Option<&Manifest>,
        state: &BuildState,
    ) -> Result<(Table, TableReport), SnapshotError> {
        let too_long =
            |TooLong| SnapshotError::TooMuch { table: schema.name.clone(), what: "its texts have 4 GiB or more".into() };
        let mut stores: Vec<ViewStore> = schema.views.iter().map(ViewStore::new).collect();
        let mut sets: Vec<Keyed> = Vec::new();
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
            for (slot, segment) in [(&mut group.base, &table.base), (&mut group.delta, &table.delta)] {
                let Some(segment) = segment else { continue };
                let wanted = wanted(&table.schema, schema, Some(segment));
                if wanted.is_empty() {
                    continue;
                }
                *slot = Some(sets.len());
                group.views = wanted.iter().map(|wanted| wanted.store).collect();
                let store = self.origin.store();
                sets.push(read_segment(store, old_number, table, segment, schema, &wanted, &mut stores).await?);
            }
            if table.inline.is_some() {
                let wanted = wanted(&table.schema, schema, None);
                group.base = Some(sets.len());
                group.views = wanted.iter().map(|wanted| wanted.store).collect();
                sets.push(read_inline(old_number, table, schema, &wanted, &mut stores)?);
            }
            if group.base.is_some() || group.delta.is_some() {
                groups.push(group);
            }
        }
        let old_sets = sets.len();
        let (new_views, new_sets) = self.take_new_rows(schema, rows, &mut stores)?;
        sets.extend(new_sets);
        let forgotten: HashMap<u64, i64> = state
            .forgotten
            .iter()
            .filter(|forgotten| forgotten.table == schema.name)
            .map(|forgotten| (forgotten.hash, forgotten.until_nanos))
            .collect();
        let base_set =
            if in_place.is_some() { groups.iter().find_map(|group| group.base).filter(|_| groups.len() == 1) } else { None };
        let mut report = TableReport { table: schema.name.clone(), ..TableReport::default() };
        let mut base_of = Vec::new();
        let merged = merge(schema, &sets, |found, rows| {
            let at = |set: usize| found.get(set).copied().flatten().and_then(|index| Some((sets.get(set)?, index)));
            for group in &groups {
                let old = group.delta.and_then(at).or_else(|| group.base.and_then(at));
                let Some((set, index)) = old else { continue };
                for view in &group.views {
                    if let (Some(slot), Some(row)) = (rows.get_mut(*view), set.rows_of(index).get(*view)) {
                        *slot = *row;
                    }
                }
            }
            for (number, view) in (old_sets..).zip(&new_views) {
                let Some((set, index)) = at(number) else { continue };
                let (Some(slot), Some(new), Some(store)) =
                    (rows.get_mut(*view), set.rows_of(index).get(*view), stores.get(*view))
                else {
                    continue;
                };
                if *slot == NONE || store.replaces(*slot, *new) {
                    *slot = *new;
                    report.rows_taken += 1;
                } else {
                    report.rows_stale += 1;
                }
            }
            let key = found.iter().zip(&sets).find_map(|(index, set)| Some((set, (*index)?)));
            let hash = key.and_then(|(set, index)| set.hashes.get(index)).copied().unwrap_or(KeyHash::from_u64(0));
            if let Some(until) = forgotten.get(&hash.get()) {
                for (row, store) in rows.iter_mut().zip(&stores) {
                    if store.times.get(*row as usize).is_some_and(|time| time <= until) {
                        *row = NONE;
                    }
                }
            }
            let base = base_set.and_then(|set| found.get(set).copied().flatten());
            let stays = rows.iter().any(|row| *row != NONE) || base.is_some();
            if stays {
                base_of.push(base);
            }
            stays
        })
        .map_err(too_long)?;
        let content = Content { number, schema, stores: &stores, merged: &merged };
        let mut table = Table::empty(schema.clone());
        table.watermarks = content.watermarks();
        report.entities = (0..merged.len()).filter(|index| content.is_alive(*index)).count() as u64;
        if schema.keys.is_empty() {
            if report.entities > 0 {
                let shifts = vec![0; schema.views.len()];
                let rows = Rows { schema, keyed: &merged, stores: &stores, shifts: &shifts, chosen: None };
                table.inline = Some(rows.write_inline(PageKey::new(INLINE_SEGMENT, number, 0))?);
            }
            return Ok((table, report));
        }
        let base_keyed = base_set.and_then(|set| sets.get(set));
        if let (Some(old), Some(base_keyed), false) = (in_place.and_then(|table| table.base.as_ref()), base_keyed, self.compact) {
            let delta = content.delta(old, base_keyed, &base_of);
            if !delta.asks_for_compaction(report.rows_taken, report.entities) {
                report.delta_rows = delta.rows.len() as u64;
                table.base =
                    Some(Segment { time_shifts: delta.shifts.iter().copied().map(Span::from_nanos).collect(), ..old.clone() });
                if !delta.rows.is_empty() {
                    table.delta = Some(self.write_segment(&content, Some(&delta.rows), "delta", &mut report).await?);
                }
                return Ok((table, report));
            }
        }
        let alive = content.retained(self.definitions);
        report.entities = alive.len() as u64;
        if !alive.is_empty() {
            report.rebuilt = true;
            table.base = Some(self.write_segment(&content, Some(&alive), "base", &mut report).await?);
        }
        Ok((table, report))
    }

    /// Appends the new rows of each view to its store, the views at the same time; which views, and their keys.
    fn take_new_rows(
        &self,
        schema: &TableSchema,
        rows: &[ViewRows],
        stores: &mut [ViewStore],
    ) -> Result<(Vec<usize>, Vec<Keyed>), SnapshotError> {
        let mut free: Vec<Option<&mut ViewStore>> = stores.iter_mut().map(Some).collect();
        let mut work = Vec::new();
        for rows in rows {
            let Some(view) = schema.views.iter().position(|view| view.name == rows.view) else { continue };
            let Some(store) = free.get_mut(view).and_then(Option::take) else { continue };
            work.push((view, rows, store));
        }
        let views = work.iter().map(|(view, ..)| *view).collect();
        let take = |(view, rows, store): (usize, &ViewRows, &mut ViewStore)| new_rows(schema, view, rows, store);
        if self.threads <= 1 {
            return Ok((views, work.into_iter().map(take).collect::<Result<_, _>>()?));
        }
        let sets = std::thread::scope(|scope| {
            let takes: Vec<_> = work.into_iter().map(|work| scope.spawn(move || take(work))).collect();
            let joined = takes.into_iter().map(|take| take.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            joined.collect::<Result<_, _>>()
        })?;
        Ok((views, sets))
    }

    /// Writes a segment's file, unless it is there already.
    async fn write_segment(
        &self,
        content: &Content<'_>,
        chosen: Option<&[u32]>,
        kind: &str,
        report: &mut TableReport,
    ) -> Result<Segment, SnapshotError> {
        let Content { number, schema, stores, merged } = *content;
        let id = content.segment_id(kind, chosen, self.page_bytes_max);
        let store = self.origin.store();
        let key = segment_key(id, number);
        let row_count = chosen.map_or(merged.len(), <[u32]>::len);
        let time_shifts = vec![Span::ZERO; schema.views.len()];
        if let Some(index) = self.written_before(&key).await?
            && index.segment == id
            && index.row_count == row_count as u64
        {
            let (bucket_count, page_bytes) = (index.bucket_count(), index.pages_bytes());
            return Ok(Segment { id, bucket_count, row_count: index.row_count, page_bytes, time_shifts });
        }
        let index_of =
            |position: usize| chosen.map_or(position, |chosen| chosen.get(position).map_or(0, |index| *index as usize));
        let has_created = stores.iter().any(|store| store.created.iter().any(|created| *created != NOT_CREATED));
        if has_created {
            let created = (0..row_count)
                .flat_map(|position| merged.rows_of(index_of(position)).iter().zip(stores))
                .map(|(row, store): (&u32, &ViewStore)| store.created.get(*row as usize).copied().unwrap_or(NOT_CREATED));
            store.replace(&created_key(id, number), created_bytes(created)).await?;
        }
        let shifts = vec![0; schema.views.len()];
        let rows = Rows { schema, keyed: merged, stores, shifts: &shifts, chosen };
        let rules = PageRules { threads: self.threads, page_bytes_max: self.page_bytes_max };
        let (file, writer) = rows.write(id, number, rules, || Ok(File(store.begin(&key)?)))?;
        file.0.finish().await?;
        let index =
            self.written_before(&key).await?.ok_or_else(|| mezze_replica::Error::Missing { key: store.full_name(&key) })?;
        report.pages_written += u64::from(index.bucket_count());
        report.bytes_written += writer.pages_bytes();
        Ok(Segment {
            id,
            bucket_count: index.bucket_count(),
            row_count: writer.row_count(),
            page_bytes: writer.pages_bytes(),
            time_shifts,
        })
    }

    /// The index of a segment's file, if it is there and whole.
    async fn written_before(&self, key: &str) -> Result<Option<SegmentIndex>, SnapshotError> {
        let store = self.origin.store();
        let Some(stat) = store.stat(key).await? else { return Ok(None) };
        let tail = |bytes: u64| store.read_range(key, stat.size.saturating_sub(bytes), bytes.min(stat.size));
        let Some(footer) = tail(SEGMENT_FOOTER_BYTES as u64).await? else { return Ok(None) };
        let Ok(tail_bytes) = SegmentIndex::tail_bytes(&footer) else { return Ok(None) };
        let Some(tail) = tail(tail_bytes).await? else { return Ok(None) };
        Ok(SegmentIndex::decode(&tail).ok().filter(|index| index.pages_bytes() + tail_bytes == stat.size))
    }
}

/// Rows of one table of the snapshot before: numbers of its sets, and which views they have.
struct Group {
    base: Option<usize>,
    delta: Option<usize>,
    views: Vec<usize>,
}

struct File(ObjectWriter);

impl Sink for File {
    fn append(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        Ok(self.0.append(bytes)?)
    }
}

/// All that a table holds now.
#[derive(Clone, Copy)]
struct Content<'a> {
    number: u16,
    schema: &'a TableSchema,
    stores: &'a [ViewStore],
    merged: &'a Keyed,
}

/// What differs from a base.
struct Delta {
    /// The keys.
    rows: Vec<u32>,
    /// What to add to the base's event times, per view.
    shifts: Vec<i64>,
    base_rows: u64,
}

impl Delta {
    /// A delta is read beside the base by every lookup and written by every run: it pays to write a new base when it has more
    /// rows than sqrt(2 x rows that change a run x rows), where the cost of writing deltas and bases is the least.
    fn asks_for_compaction(&self, changed: u64, entities: u64) -> bool {
        let rows = self.rows.len() as f64;
        let limit = (2.0 * changed as f64 * entities as f64).sqrt().max(DELTA_ROWS_MIN);
        rows > limit || rows * 2.0 > self.base_rows.max(1) as f64 && rows > DELTA_ROWS_MIN
    }
}

impl Content<'_> {
    fn is_alive(&self, index: usize) -> bool {
        self.merged.rows_of(index).iter().any(|row| *row != NONE)
    }

    fn watermarks(&self) -> Vec<Timestamp> {
        let mut newest = vec![Timestamp::MIN; self.schema.views.len()];
        for index in 0..self.merged.len() {
            for ((slot, row), store) in newest.iter_mut().zip(self.merged.rows_of(index)).zip(self.stores) {
                if let Some(time) = store.times.get(*row as usize) {
                    *slot = (*slot).max(Timestamp::from_nanos(*time));
                }
            }
        }
        newest
    }

    /// The keys that a new base has: those that are older than `retain` in all their views go. What is old is judged by the
    /// newest event of each view, so that the clock does not count.
    fn retained(&self, definitions: &Definitions) -> Vec<u32> {
        let oldest: Vec<Option<i64>> = self
            .schema
            .views
            .iter()
            .zip(self.watermarks())
            .map(|(view, newest)| {
                let retain = definitions.feature_view(&view.name)?.retain;
                (retain > Span::ZERO).then(|| newest.saturating_sub(retain).nanos())
            })
            .collect();
        let counts = |(row, (store, oldest)): (&u32, (&ViewStore, &Option<i64>))| match (store.times.get(*row as usize), oldest) {
            (Some(time), Some(oldest)) => time >= oldest,
            (Some(_), None) => true,
            (None, _) => false,
        };
        (0..self.merged.len() as u32)
            .filter(|index| self.merged.rows_of(*index as usize).iter().zip(self.stores.iter().zip(&oldest)).any(counts))
            .collect()
    }

    /// The keys whose rows are not what the base has, when its event times are moved by the spans that leave the fewest.
    fn delta(&self, base: &Segment, base_keyed: &Keyed, base_of: &[Option<usize>]) -> Delta {
        let views = self.schema.views.len();
        let old_shift = |view: usize| base.time_shifts.get(view).map_or(0, |shift| shift.nanos());
        // For each view, how often each span was seen between equal rows.
        let mut spans: Vec<HashMap<i64, u64>> = vec![HashMap::new(); views];
        let pairs = |index: usize| {
            let base_rows = base_of.get(index).copied().flatten().map(|base| base_keyed.rows_of(base)).unwrap_or_default();
            self.merged.rows_of(index).iter().zip(base_rows).zip(self.stores).enumerate()
        };
        for index in 0..self.merged.len() {
            for (view, ((now, was), store)) in pairs(index) {
                let times = (store.times.get(*now as usize), store.times.get(*was as usize));
                let (Some(now_time), Some(was_time)) = times else { continue };
                if now == was || store.same_features(*now, *was) {
                    let stored = was_time.wrapping_sub(old_shift(view));
                    if let Some(spans) = spans.get_mut(view) {
                        *spans.entry(now_time.wrapping_sub(stored)).or_insert(0) += 1;
                    }
                }
            }
        }
        let shifts: Vec<i64> = spans
            .iter()
            .enumerate()
            .map(|(view, spans)| {
                let best = |(span, count): (&i64, &u64)| (*count, *span == old_shift(view), std::cmp::Reverse(*span));
                let most = spans.iter().max_by_key(|(span, count)| best((span, count)));
                most.map_or_else(|| old_shift(view), |(span, _)| *span)
            })
            .collect();
        let differs = |index: usize| {
            if base_of.get(index).copied().flatten().is_none() {
                return true;
            }
            pairs(index).any(|(view, ((now, was), store))| match (*now, *was) {
                (NONE, NONE) => false,
                (NONE, _) | (_, NONE) => true,
                (now, was) => {
                    let (Some(now_time), Some(was_time)) = (store.times.get(now as usize), store.times.get(was as usize)) else {
                        return true;
                    };
                    let stored = was_time.wrapping_sub(old_shift(view));
                    let shift = shifts.get(view).copied().unwrap_or(0);
                    stored.wrapping_add(shift) != *now_time || now != was && !store.same_features(now, was)
                }
            })
        };
        let rows = (0..self.merged.len() as u32).filter(|index| differs(*index as usize)).collect();
        Delta { rows, shifts, base_rows: base.row_count }
    }

    /// The id of a segment of these rows: a hash of all that decides its bytes, known before the first page is made.
    fn segment_id(&self, kind: &str, chosen: Option<&[u32]>, page_bytes_max: usize) -> SegmentId {
        let mut hasher = Xxh3::new();
        let mut text = |part: &str| {
            hasher.update(part.as_bytes());
            hasher.update(&[0]);
        };
        text(BUILDER);
        text(kind);
        for key in &self.schema.keys {
            text(&key.join_key);
            text(key.key_type.name());
        }
        for view in &self.schema.views {
            text(&view.name);
            for feature in &view.features {
                text(&feature.name);
                text(&feature.value_type.to_string());
            }
        }
        hasher.update(&self.number.to_le_bytes());
        hasher.update(&(page_bytes_max as u64).to_le_bytes());
        digest_all(&mut hasher, self.merged.hashes.iter().map(|hash| hash.get().to_le_bytes()));
        digest_all(&mut hasher, self.merged.key_rows.iter().map(|row| row.to_le_bytes()));
        digest_all(&mut hasher, self.merged.rows.iter().map(|row| row.to_le_bytes()));
        if let Some(chosen) = chosen {
            digest_all(&mut hasher, chosen.iter().map(|index| index.to_le_bytes()));
        }
        self.merged.keys.iter().for_each(|column| column.digest(&mut hasher));
        for store in self.stores {
            digest_all(&mut hasher, store.times.iter().map(|time| time.to_le_bytes()));
            digest_all(&mut hasher, store.created.iter().map(|time| time.to_le_bytes()));
            store.features.iter().for_each(|column| column.digest(&mut hasher));
        }
        SegmentId::from_bytes(hasher.digest128().to_be_bytes())
    }
}

/// The tables in an order that leaves those there were where they were, since pages name their table by its number.
fn in_known_order(mut schemas: Vec<TableSchema>, before: Option<&Manifest>) -> Vec<TableSchema> {
    let count = schemas.len();
    let mut placed: Vec<Option<TableSchema>> = vec![None; count];
    for (slot, table) in placed.iter_mut().zip(before.map(|manifest| manifest.tables.as_slice()).unwrap_or_default()) {
        if let Some(known) = schemas.iter().position(|schema| schema.name == table.schema.name) {
            *slot = Some(schemas.remove(known));
        }
    }
    let mut rest = schemas.into_iter();
    placed.into_iter().filter_map(|slot| slot.or_else(|| rest.next())).collect()
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

/// What to read of an old table for a new one.
fn wanted(old: &TableSchema, new: &TableSchema, segment: Option<&Segment>) -> Vec<Wanted> {
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
            let shift = segment.and_then(|segment| segment.time_shifts.get(view)).map_or(0, |shift| shift.nanos());
            Some(Wanted { view, store, time_column, shift, columns })
        })
        .collect()
}

/// The hash of a key whose values are text.
fn key_hash(schema: &TableSchema, key: &BTreeMap<String, String>) -> Result<KeyHash, SnapshotError> {
    let mut uuids = Vec::new();
    for column in &schema.keys {
        let text = key.get(&column.join_key).map(String::as_str).unwrap_or_default();
        uuids.push(if column.key_type == KeyType::Uuid { parse_uuid(text) } else { None });
    }
    let parts = schema
        .keys
        .iter()
        .zip(&uuids)
        .map(|(column, uuid)| {
            let text = key.get(&column.join_key).map(String::as_str).unwrap_or_default();
            let part = match column.key_type {
                KeyType::Int => text.parse().ok().map(KeyPart::Int),
                KeyType::Bool => text.parse::<bool>().ok().map(|value| KeyPart::Int(i64::from(value))),
                KeyType::UnixTimestamp => Timestamp::parse(text).map(|at| KeyPart::Int(at.nanos())),
                KeyType::String | KeyType::Bytes => Some(KeyPart::Bytes(text.as_bytes())),
                KeyType::Uuid => uuid.as_ref().map(|uuid| KeyPart::Bytes(uuid)),
            };
            part.ok_or_else(|| SnapshotError::KeyValue {
                column: column.join_key.clone(),
                value: text.to_owned(),
                expected: column.key_type.name(),
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(KeyHash::of(&parts))
}

/// What decides the bytes of pages beside their rows.
const BUILDER: &str = "mezze segment 1";
/// A delta is left as it is up to so many rows.
const DELTA_ROWS_MIN: f64 = 1024.0;
