//! A run: new rows and the snapshot before into the next snapshot.

use std::collections::BTreeMap;
use std::path::Path;

use mezze_core::{
    Digest, INLINE_SEGMENT, KeyHash, KeyPart, KeyType, Manifest, PAGE_BYTES_MAX_DEFAULT, PageKey, SEGMENT_FOOTER_BYTES, Segment,
    SegmentId, SegmentIndex, SegmentWriter, SnapshotId, Span, Table, TableSchema, Timestamp, Tree, parse_uuid,
};
use mezze_model::{Definitions, digest, on_demand_views, request_sources, services, tables};
use mezze_replica::{
    EpochRecord, FolderLock, ForgetRecord, NewEpoch, ObjectWriter, Origin, Reason, read_tree, segment_key, tree_bytes, tree_key,
};
use xxhash_rust::xxh3::Xxh3;

use crate::SnapshotError;
use crate::build::{PageRules, Pages, Rows, Sample, is_thinnest};
use crate::content::ViewRows;
use crate::previous::CreatedWriter;
use crate::staging::{HashRange, StagedRows, StagingArea};
use crate::state::{BuildState, Forgotten};
use crate::table::{Choice, Part, Patch, Survey, TableInput};

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
    /// Bytes of memory that a run may have, beside 100 to 150 MB for the process itself; `None` for as many as it needs. Snapshots
    /// are the same with any number.
    pub memory: Option<usize>,
    /// Where temporary files go; the system's folder for them if not given.
    pub temp_folder: Option<&'a Path>,
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
    /// Ranges of keys that were built one after another, as memory asked for.
    pub parts: u32,
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
        Self {
            origin,
            definitions,
            now,
            threads,
            page_bytes_max: PAGE_BYTES_MAX_DEFAULT,
            compact: false,
            memory: None,
            temp_folder: None,
        }
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
        let area = self.staging();
        let mut staged = Vec::with_capacity(rows.len());
        for ViewRows { view, batches } in rows {
            // Views that no table has are not served.
            let Some(staging) = area.stage(&view, 1) else { continue };
            for batch in &batches {
                if !staging.push(batch) {
                    break;
                }
            }
            staged.push(staging.finish()?);
        }
        self.run_staged(staged, state).await
    }

    /// Where new rows may wait for [`Materialize::run_staged`] in as much memory as this run may have.
    pub fn staging(&self) -> StagingArea {
        let folder = self.temp_folder.map_or_else(std::env::temp_dir, Path::to_owned);
        StagingArea::new(self.definitions, self.memory, &folder)
    }

    /// [`Materialize::run`] with rows that came batch by batch.
    ///
    /// # Errors
    /// Those of [`Materialize::run`].
    pub async fn run_staged(&self, rows: Vec<StagedRows>, state: &BuildState) -> Result<MaterializeReport, SnapshotError> {
        let reason = if self.compact && rows.is_empty() { Reason::Compact } else { Reason::Materialize };
        self.run_for(rows, state, reason).await
    }

    async fn run_for(
        &self,
        mut rows: Vec<StagedRows>,
        state: &BuildState,
        reason: Reason,
    ) -> Result<MaterializeReport, SnapshotError> {
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
            // Those of a table go with it once it is built.
            let (own, others) = rows.into_iter().partition(|rows| schema.views.iter().any(|view| view.name == rows.view()));
            rows = others;
            let manifest = before.as_ref().map(|before| &before.manifest);
            let (table, table_report) = self.build_table(number, schema, own, manifest, state).await?;
            built.push(table);
            report.tables.push(table_report);
        }
        report.tables.sort_by(|a, b| a.table.cmp(&b.table));
        let on_demand_views = on_demand_views(self.definitions, &schemas);
        let manifest = Manifest {
            project: self.definitions.project.clone(),
            definition_digest: digest(self.definitions),
            input_digest: state.digest(),
            tables: built,
            request_sources: request_sources(self.definitions),
            services: services(self.definitions, &schemas, &on_demand_views),
            on_demand_views,
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
        new: Vec<StagedRows>,
        before: Option<&Manifest>,
        state: &BuildState,
    ) -> Result<(Table, TableReport), SnapshotError> {
        let mut input = TableInput::open(self.origin.store(), number, schema, new, before, state, self.threads).await?;
        // Without keys there is one row, and no range to divide.
        let parts = if schema.keys.is_empty() { 1 } else { input.part_count(self.memory) };
        // What fits as a whole is made once.
        let whole = if parts == 1 { Some(input.take_all().await?) } else { None };
        let building = Building { run: self, input: &input, whole: whole.as_ref(), parts };
        let mut survey = Survey::new(&input);
        building
            .each(async |part| {
                survey.add(part);
                Ok(())
            })
            .await?;
        let mut table = Table::empty(schema.clone());
        table.watermarks = survey.watermarks.iter().copied().map(Timestamp::from_nanos).collect();
        let mut report = TableReport {
            table: schema.name.clone(),
            entities: survey.entities,
            rows_taken: survey.taken,
            rows_stale: survey.stale,
            parts,
            ..TableReport::default()
        };
        if schema.keys.is_empty() {
            if let Some(part) = whole.as_ref().filter(|_| survey.entities > 0) {
                let rows = Rows { schema, keyed: &part.merged, stores: &part.stores, chosen: None, patch: None };
                table.inline = Some(rows.write_inline(PageKey::new(INLINE_SEGMENT, number, 0))?);
            }
            return Ok((table, report));
        }
        let content = survey.content();
        let old = input.in_place.and_then(|table| table.base.as_ref()).filter(|_| input.has_base() && !self.compact);
        if let Some(old) = old {
            let delta = survey.delta();
            let rows = building.count(&delta).await?;
            let rows_before = input.in_place.and_then(|table| table.delta.as_ref()).map_or(0, |delta| delta.row_count);
            // Rows that come again with equal values and other times are changes, too, unless a shift of all has them.
            let changed = survey.changed.max(rows.saturating_sub(rows_before));
            let new = NewSegment { content, base: Some(old.id), choice: &delta, rows, has_created: survey.has_created };
            let size = if rows > 0 { Some(building.size(new).await?) } else { None };
            if !size.is_some_and(|size| asks_for_compaction(rows, changed, size.bytes, old.page_bytes)) {
                report.delta_rows = rows;
                if let Choice::Delta { shifts, .. } = &delta {
                    let time_shifts = shifts.iter().copied().map(Span::from_nanos).collect();
                    table.base = Some(Segment { time_shifts, ..old.clone() });
                }
                if size.is_some() {
                    table.delta = Some(building.write_segment(new, size, &mut report).await?);
                }
                return Ok((table, report));
            }
        }
        let base = survey.base(schema, self.definitions);
        let rows = if base.is_all_alive() { survey.entities } else { building.count(&base).await? };
        report.entities = rows;
        if rows > 0 {
            report.rebuilt = true;
            let new = NewSegment { content, base: None, choice: &base, rows, has_created: survey.has_created };
            table.base = Some(building.write_segment(new, None, &mut report).await?);
        }
        Ok((table, report))
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

/// A segment to be.
#[derive(Clone, Copy)]
struct NewSegment<'a> {
    /// The hash of the table's content.
    content: [u8; 16],
    /// The base that a delta is of.
    base: Option<SegmentId>,
    choice: &'a Choice,
    rows: u64,
    has_created: bool,
}

/// How large a segment will be.
#[derive(Clone, Copy)]
struct Size {
    /// Of its pages, about.
    bytes: u64,
    bucket_count: u32,
}

/// A table in the making.
struct Building<'a> {
    run: &'a Materialize<'a>,
    input: &'a TableInput<'a>,
    /// Everything, where it is in memory as a whole.
    whole: Option<&'a Part>,
    parts: u32,
}

impl Building<'_> {
    /// Calls `work` with one part after another, in order of hash.
    async fn each(&self, mut work: impl AsyncFnMut(&Part) -> Result<(), SnapshotError>) -> Result<(), SnapshotError> {
        for number in 0..self.parts {
            self.with(HashRange::of_buckets(number, number + 1, self.parts), &mut work).await?;
        }
        Ok(())
    }

    /// Calls `work` with a part that has at least the keys of a range.
    async fn with(
        &self,
        range: HashRange,
        mut work: impl AsyncFnMut(&Part) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        match self.whole {
            Some(part) => work(part).await,
            None => work(&self.input.part(range).await?).await,
        }
    }

    async fn count(&self, choice: &Choice) -> Result<u64, SnapshotError> {
        let mut count = 0;
        self.each(async |part| {
            count += choice.of(part).len() as u64;
            Ok(())
        })
        .await?;
        Ok(count)
    }

    /// The id of a segment: a hash of all that decides its bytes, known before the first page is made.
    fn segment_id(&self, new: NewSegment<'_>) -> SegmentId {
        let mut hasher = Xxh3::new();
        let mut text = |part: &str| {
            hasher.update(part.as_bytes());
            hasher.update(&[0]);
        };
        let schema = self.input.schema();
        text(BUILDER);
        for key in &schema.keys {
            text(&key.join_key);
            text(key.key_type.name());
        }
        for view in &schema.views {
            text(&view.name);
            for feature in &view.features {
                text(&feature.name);
                text(&feature.value_type.to_string());
            }
        }
        hasher.update(&self.input.number().to_le_bytes());
        hasher.update(&(self.run.page_bytes_max as u64).to_le_bytes());
        hasher.update(&new.content);
        hasher.update(&new.base.map_or([0; 16], |base| base.bytes()));
        hasher.update(&new.choice.bytes());
        SegmentId::from_bytes(hasher.digest128().to_be_bytes())
    }

    /// Writes a segment's file, unless it is there already. `size` is that of [`Building::size`], where it is known.
    async fn write_segment(
        &self,
        new: NewSegment<'_>,
        size: Option<Size>,
        report: &mut TableReport,
    ) -> Result<Segment, SnapshotError> {
        let number = self.input.number();
        let id = self.segment_id(new);
        let store = self.run.origin.store();
        let key = segment_key(id, number);
        let time_shifts = vec![Span::ZERO; self.input.schema().views.len()];
        if let Some(index) = self.run.written_before(&key).await?
            && index.segment == id
            && index.row_count == new.rows
            && let Ok(tree) = read_tree(store, id, number, index.bucket_count()).await
        {
            let (bucket_count, page_bytes) = (index.bucket_count(), index.pages_bytes());
            return Ok(Segment { id, bucket_count, row_count: index.row_count, page_bytes, root: tree.root(), time_shifts });
        }
        let mut bucket_count = match size {
            Some(size) => size.bucket_count,
            None => self.size(new).await?.bucket_count,
        };
        let writing = loop {
            let mut writing = Writing {
                file: store.begin(&key)?,
                created: if new.has_created { Some(CreatedWriter::begin(store, id, number)?) } else { None },
                writer: SegmentWriter::new(id, number),
                leaves: Vec::with_capacity(bucket_count as usize),
            };
            if self.write_pages(id, new, bucket_count, &mut writing).await? {
                break writing;
            }
            bucket_count = bucket_count.saturating_add(bucket_count / 3 + 1);
        };
        let Writing { mut file, created, writer, leaves } = writing;
        file.append(&writer.finish().ok_or_else(|| SnapshotError::TooMuch {
            table: self.input.schema().name.clone(),
            what: "4,294,967,295 pages are the most".into(),
        })?)?;
        // Before the pages: a run that goes on from theirs finds these.
        if let Some(created) = created {
            created.finish().await?;
        }
        store.replace(&tree_key(id, number), tree_bytes(&leaves)).await?;
        file.finish().await?;
        report.pages_written += leaves.len() as u64;
        report.bytes_written += writer.pages_bytes();
        let (row_count, page_bytes) = (writer.row_count(), writer.pages_bytes());
        Ok(Segment { id, bucket_count, row_count, page_bytes, root: Tree::new(leaves).root(), time_shifts })
    }

    /// How large a segment will be, and how many buckets give pages of a good size: from pages of a few samples, so that it depends on
    /// nothing but the rows. What each page has beside its rows counts for more in small pages: the second samples are as large as
    /// the pages will be.
    async fn size(&self, new: NewSegment<'_>) -> Result<Size, SnapshotError> {
        let page_bytes_max = self.run.page_bytes_max;
        let first = self.sample(new, Sample::first_bucket_count(new.rows)).await?;
        let second = self.sample(new, first.bucket_count(new.rows, page_bytes_max)).await?;
        Ok(Size { bytes: second.all_bytes(new.rows), bucket_count: second.bucket_count(new.rows, page_bytes_max) })
    }

    async fn sample(&self, new: NewSegment<'_>, bucket_count: u32) -> Result<Sample, SnapshotError> {
        let mut sample = Sample::default();
        // Any id makes pages of the same size.
        let key = |bucket| PageKey::new(INLINE_SEGMENT, self.input.number(), bucket);
        let mut whole = None;
        for bucket in Sample::buckets(bucket_count) {
            match self.whole {
                Some(part) => {
                    let chosen: &Vec<u32> = whole.get_or_insert_with(|| new.choice.of(part));
                    self.rows(part, new.choice, chosen).sample(key(bucket), bucket_count, &mut sample)?;
                }
                None => {
                    let part = self.input.part(HashRange::of_buckets(bucket, bucket + 1, bucket_count)).await?;
                    let chosen = new.choice.of(&part);
                    self.rows(&part, new.choice, &chosen).sample(key(bucket), bucket_count, &mut sample)?;
                }
            }
        }
        Ok(sample)
    }

    fn rows<'p>(&'p self, part: &'p Part, choice: &'p Choice, chosen: &'p [u32]) -> Rows<'p> {
        Rows {
            schema: self.input.schema(),
            keyed: &part.merged,
            stores: &part.stores,
            chosen: Some(chosen),
            patch: Patch::of(part, choice),
        }
    }

    /// Writes all pages; `false` where one came out too large and smaller ones are to be made.
    async fn write_pages(
        &self,
        id: SegmentId,
        new: NewSegment<'_>,
        bucket_count: u32,
        writing: &mut Writing,
    ) -> Result<bool, SnapshotError> {
        let rules = PageRules { threads: self.run.threads, page_bytes_max: self.run.page_bytes_max };
        let last = is_thinnest(bucket_count, new.rows);
        let parts = self.parts.min(bucket_count);
        let first_of = |part: u32| (u64::from(bucket_count) * u64::from(part) / u64::from(parts)) as u32;
        let key = PageKey::new(id, self.input.number(), 0);
        for number in 0..parts {
            let buckets = first_of(number)..first_of(number + 1);
            let mut fits = true;
            self.with(HashRange::of_buckets(buckets.start, buckets.end, bucket_count), async |part| {
                let chosen = new.choice.of(part);
                let rows = self.rows(part, new.choice, &chosen);
                let mut position = 0;
                fits = rows.write_pages(key, buckets.clone(), bucket_count, rules, last, |pages| {
                    writing.put(pages, &rows, &mut position)
                })?;
                Ok(())
            })
            .await?;
            if !fits {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The objects of a segment while they are written.
struct Writing {
    file: ObjectWriter,
    created: Option<CreatedWriter>,
    writer: SegmentWriter,
    leaves: Vec<Digest>,
}

impl Writing {
    /// Takes the next pages, of the rows from `position` on.
    fn put(&mut self, pages: &Pages, rows: &Rows<'_>, position: &mut usize) -> Result<(), SnapshotError> {
        self.file.append(&pages.bytes)?;
        for (bytes, count) in &pages.pages {
            self.writer.push(*bytes, *count);
            if let Some(created) = &mut self.created {
                created.append(*count, rows.created(*position..*position + *count as usize))?;
            }
            *position += *count as usize;
        }
        self.leaves.extend_from_slice(&pages.leaves);
        Ok(())
    }
}

/// A delta is read beside the base by every lookup and written by every run: it pays to write a new base when the delta has a greater
/// part of the base's bytes than sqrt(2 x the part that a run changes), where the cost of writing deltas and bases is the least.
fn asks_for_compaction(rows: u64, changed: u64, delta_bytes: u64, base_bytes: u64) -> bool {
    let part = delta_bytes as f64 / base_bytes.max(1) as f64;
    let part_a_run = part * changed as f64 / rows.max(1) as f64;
    rows > DELTA_ROWS_MIN && (part > (2.0 * part_a_run).sqrt() || part > 0.5)
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
const BUILDER: &str = "mezze segment 3";
/// A delta is left as it is up to so many rows.
const DELTA_ROWS_MIN: u64 = 1024;
