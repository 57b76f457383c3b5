//! The join itself, of entity rows that come batch by batch.
//!
//! Entity rows are taken until they fill the memory that they may have, then joined, put out and dropped before the next are
//! taken. Each such *chunk* reads the keys and times of all feature rows once; of their features only those that won. So no
//! intermediate data is ever written to a disk, and memory depends on neither the number of entity rows nor on that of
//! feature rows.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::concat;
use arrow::datatypes::SchemaRef;
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::StreamExt;
use tokio::runtime::Handle;

use crate::computed::Columns;

use super::PitError;
use super::column::{FeatureColumn, Positions};
use super::exec::{ENTITY_ROWS, Plan};
use super::file::OpenFile;
use super::gather::{BATCH_ROWS, Chosen, gather_pieces, parallel, place, split};
use super::keys::{Codes, KeyCoder, Keys};
use super::phases::Phases;
use super::prune::{KeyValues, Wanted, wanted};
use super::slots::{CELL_BYTES, Cell, Lanes, Narrow, Rules, SLOT_BYTES, Slots};
use super::time::{Unit, instants};
use super::{PitFeature, PitView};

/// Takes the joined rows, in order.
pub(crate) trait PartSink {
    /// Takes some rows; `threads` may be used for it.
    fn take(&mut self, part: &Part<'_>, threads: usize) -> Result<(), PitError>;
}

/// Joined rows whose columns are made when they are asked for, by any thread.
pub(crate) struct Part<'a> {
    /// Of the rows as they are put out.
    pub(crate) schema: &'a SchemaRef,
    /// Of the rows as they are joined.
    joined: &'a SchemaRef,
    /// How the columns of the one come of those of the other; `None` where they are the same.
    columns: Option<&'a Columns>,
    /// Those of them that are made for the whole part at once.
    made: &'a [ArrayRef],
    pub(crate) rows: usize,
    /// Where the part begins among the entity rows of its chunk.
    start: usize,
    entity: &'a [RecordBatch],
    entity_columns: usize,
    views: &'a [ViewPart],
    /// By view, the rows with at least one value, where that was counted elsewhere.
    counted: Option<&'a [u64]>,
    pub(crate) phases: &'a Phases,
    pub(crate) stop: &'a AtomicBool,
}

/// A view's features of a part.
pub(super) struct ViewPart {
    positions: Positions,
    columns: Vec<FeatureColumn>,
}

impl<'a> Part<'a> {
    /// Rows that were joined elsewhere, with all columns of `schema`; `counted` is by view how many have at least one value.
    pub(crate) fn joined(
        schema: &'a SchemaRef,
        batch: &'a RecordBatch,
        counted: &'a [u64],
        phases: &'a Phases,
        stop: &'a AtomicBool,
    ) -> Self {
        Self {
            schema,
            joined: schema,
            columns: None,
            made: &[],
            rows: batch.num_rows(),
            start: 0,
            entity: std::slice::from_ref(batch),
            entity_columns: schema.fields().len(),
            views: &[],
            counted: Some(counted),
            phases,
            stop,
        }
    }
}

impl Part<'_> {
    /// The same rows, with other columns, of which some are made already.
    pub(crate) fn with_columns<'b>(&'b self, columns: &'b Columns, made: &'b [ArrayRef]) -> Part<'b> {
        Part { schema: &columns.schema, columns: Some(columns), made, ..*self }
    }

    /// Some rows of a column, from row `offset` of the part. With `coded`, texts may come as a dictionary of the column's type.
    pub(crate) fn column(&self, index: usize, offset: usize, rows: usize, coded: bool) -> Result<ArrayRef, PitError> {
        match self.columns {
            Some(columns) => {
                if let Some(made) = columns.made(index).and_then(|number| self.made.get(number)) {
                    return Ok(made.slice(offset, rows));
                }
                columns.column(index, rows, &|joined, coded_too| self.joined_column(joined, offset, rows, coded && coded_too))
            }
            None => self.joined_column(index, offset, rows, coded),
        }
    }

    pub(crate) fn joined_column(&self, index: usize, offset: usize, rows: usize, coded: bool) -> Result<ArrayRef, PitError> {
        let Some(mut feature) = index.checked_sub(self.entity_columns) else {
            return self.entity_column(index, self.start + offset, rows);
        };
        for view in self.views {
            if let Some(column) = view.columns.get(feature) {
                return column.take(&view.positions, offset, rows, coded);
            }
            feature -= view.columns.len();
        }
        Err(PitError::Worker(format!("there is no column {index}")))
    }

    /// The name of a column of the joined rows.
    pub(crate) fn joined_name(&self, index: usize) -> &str {
        self.joined.fields().get(index).map_or("", |field| field.name())
    }

    fn entity_column(&self, index: usize, mut skip: usize, rows: usize) -> Result<ArrayRef, PitError> {
        let (mut slices, mut wanted) = (Vec::new(), rows);
        for batch in self.entity {
            if skip >= batch.num_rows() {
                skip -= batch.num_rows();
                continue;
            }
            let taken = wanted.min(batch.num_rows() - skip);
            slices.push(batch.column(index).slice(skip, taken));
            (skip, wanted) = (0, wanted - taken);
            if wanted == 0 {
                break;
            }
        }
        match slices.as_slice() {
            [one] => Ok(Arc::clone(one)),
            [] => Ok(arrow::array::new_empty_array(self.joined.field(index).data_type())),
            many => Ok(concat(&many.iter().map(AsRef::as_ref).collect::<Vec<_>>())?),
        }
    }

    /// Some rows of all columns.
    pub(crate) fn batch(&self, offset: usize, rows: usize) -> Result<RecordBatch, PitError> {
        let columns = (0..self.schema.fields().len()).map(|index| self.column(index, offset, rows, false));
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(self.schema), columns.collect::<Result<_, _>>()?, &options)?)
    }

    /// For each view, the rows where at least one feature is not null.
    pub(crate) fn matched(&self) -> Vec<u64> {
        if let Some(counted) = self.counted {
            return counted.to_vec();
        }
        self.views.iter().map(|view| FeatureColumn::count_any(&view.columns, &view.positions)).collect()
    }
}

/// One execution.
pub(crate) struct Job {
    pub(super) plan: Arc<Plan>,
    pub(super) stop: Arc<AtomicBool>,
    pub(crate) phases: Arc<Phases>,
}

/// The files of all views, and what follows from them.
struct Opened {
    /// By view, and in order within each.
    files: Vec<(usize, OpenFile)>,
    unit: Unit,
}

/// A row group of a view.
struct Group<'a> {
    view: usize,
    file: &'a OpenFile,
    group: usize,
    /// Its number within the view.
    ordinal: usize,
    /// Whether its keys and times were read, and its features.
    scanned: AtomicBool,
    gathered: AtomicBool,
}

/// Entity rows that are joined together.
struct Chunk {
    batches: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
}

/// How memory is shared out, in bytes.
struct Budget {
    /// For a chunk's entity rows, slots and winners.
    rows: usize,
    /// For the features of a part.
    features: usize,
}

/// Without a limit.
const UNLIMITED: usize = usize::MAX / 4;

impl Job {
    pub(super) fn new(plan: Arc<Plan>, stop: Arc<AtomicBool>) -> Self {
        Self { plan, stop, phases: Arc::new(Phases::default()) }
    }

    fn budget(&self) -> Budget {
        match self.plan.options.memory {
            // The rest is for row groups that are being read and written, and for what gives the entity rows.
            Some(memory) => Budget { rows: memory / 8 * 3, features: memory / 4 },
            None => Budget { rows: UNLIMITED, features: UNLIMITED },
        }
    }

    /// Joins all rows of `input`, one part after another.
    pub(super) fn run(
        &self,
        handle: &Handle,
        mut input: Vec<SendableRecordBatchStream>,
        sink: &mut dyn PartSink,
    ) -> Result<(), PitError> {
        let threads = self.plan.options.threads.max(1);
        let opened = self.open(handle, threads)?;
        let mut groups = Vec::new();
        let mut counts = vec![0; self.plan.views.len()];
        for (view, file) in &opened.files {
            for group in file.row_groups() {
                if let Some(count) = counts.get_mut(*view) {
                    let (scanned, gathered) = (AtomicBool::new(false), AtomicBool::new(false));
                    groups.push(Group { view: *view, file, group, ordinal: *count, scanned, gathered });
                    *count += 1;
                }
                if u32::try_from(file.rows(group)).is_err() {
                    return Err(PitError::TooManyRows { what: format!("a row group of {}", file.name) });
                }
            }
        }
        input.reverse();
        let mut held = None;
        loop {
            let chunk = self.next_chunk(handle, &mut input, &mut held)?;
            let last = held.is_none() && input.is_empty();
            if chunk.rows > 0 {
                self.join_chunk(&chunk, last, &opened, &groups, &counts, sink, threads)?;
            }
            if last {
                break;
            }
        }
        if self.plan.options.explain {
            self.decode_only(&groups, threads)?;
        }
        Ok(())
    }

    /// Decodes what the join decoded of feature rows, once, and does nothing with it.
    fn decode_only(&self, groups: &[Group<'_>], threads: usize) -> Result<(), PitError> {
        parallel(threads, groups.len(), &self.stop, |task| {
            let Some((group, view)) = groups.get(task).and_then(|group| Some((group, self.plan.views.get(group.view)?))) else {
                return Ok(());
            };
            let mut narrow: Vec<&str> = view.keys.iter().map(|key| key.source_column.as_str()).collect();
            narrow.push(&view.timestamp_column);
            narrow.extend(view.created_column.as_deref());
            let features = view.features.iter().map(|feature| feature.source_column.as_str()).collect();
            for (columns, read, meter) in
                [(narrow, &group.scanned, &self.phases.bare_narrow), (features, &group.gathered, &self.phases.bare_features)]
            {
                if read.load(Ordering::Relaxed) && !columns.is_empty() {
                    let _meter = meter.begin();
                    for batch in group.file.read(group.group, &columns, true, None, BATCH_ROWS, meter.bytes())? {
                        std::hint::black_box(batch?);
                    }
                }
            }
            Ok(())
        })?;
        Ok(())
    }

    fn open(&self, handle: &Handle, threads: usize) -> Result<Opened, PitError> {
        let _meter = self.phases.open.begin();
        let listed: Vec<_> = self
            .plan
            .views
            .iter()
            .enumerate()
            .flat_map(|(index, view)| view.files.iter().map(move |file| (index, view, file)))
            .collect();
        let files = parallel(threads, listed.len(), &self.stop, |task| match listed.get(task) {
            Some((index, view, file)) => {
                let open = OpenFile::open(view, file, handle)?;
                self.plan.check(view, &open)?;
                Ok((*index, open))
            }
            None => Err(PitError::Cancelled),
        })?;
        let unit = self.plan.unit(&files)?;
        Ok(Opened { files, unit })
    }

    /// Bytes that an entity row takes beside its own: what all views take, and what one view after another takes.
    fn row_bytes(&self) -> (usize, usize) {
        let views = self.plan.views.len();
        let kept = views * size_of::<u64>();
        let (sets, _) = self.plan.key_sets();
        (sets.len() * SLOT_BYTES + views * CELL_BYTES + kept, SLOT_BYTES + CELL_BYTES + kept)
    }

    /// The next entity rows, as many as there is memory for; streams are taken from the end of `input`.
    fn next_chunk(
        &self,
        handle: &Handle,
        input: &mut Vec<SendableRecordBatchStream>,
        held: &mut Option<RecordBatch>,
    ) -> Result<Chunk, PitError> {
        let _meter = self.phases.entity_rows.begin();
        let limit = self.budget().rows;
        let row_bytes = self.row_bytes().1;
        let mut chunk = Chunk { batches: Vec::new(), rows: 0, bytes: 0 };
        loop {
            let batch = match held.take() {
                Some(batch) => batch,
                None => match input.last_mut() {
                    None => break,
                    Some(stream) => match handle.block_on(stream.next()) {
                        Some(batch) => {
                            if self.stop.load(Ordering::Relaxed) {
                                return Err(PitError::Cancelled);
                            }
                            batch.map_err(PitError::Engine)?
                        }
                        None => {
                            input.pop();
                            continue;
                        }
                    },
                },
            };
            let bytes = batch.get_array_memory_size() + batch.num_rows() * row_bytes;
            let most = u32::MAX as usize;
            if chunk.rows > 0 && (chunk.bytes + bytes > limit || chunk.rows + batch.num_rows() > most) {
                *held = Some(batch);
                break;
            }
            if batch.num_rows() > most {
                return Err(PitError::TooManyRows { what: format!("one batch of {ENTITY_ROWS}") });
            }
            chunk.rows += batch.num_rows();
            chunk.bytes += bytes;
            self.phases.entity_rows.add_rows(batch.num_rows());
            chunk.batches.push(batch);
        }
        Ok(chunk)
    }

    #[expect(clippy::too_many_arguments, reason = "the loop body of `run`, apart to keep both readable")]
    fn join_chunk(
        &self,
        chunk: &Chunk,
        last: bool,
        opened: &Opened,
        groups: &[Group<'_>],
        counts: &[usize],
        sink: &mut dyn PartSink,
        threads: usize,
    ) -> Result<(), PitError> {
        let (sets, set_of_view) = self.plan.key_sets();
        // Without views there is nothing to join, and rows take less than slots would.
        let (with_slots, without) = self.row_bytes();
        let together = chunk.bytes + chunk.rows * with_slots.saturating_sub(without) <= self.budget().rows;
        let mut winners: Vec<Vec<u64>> = self.plan.views.iter().map(|_| Vec::new()).collect();
        if together {
            let slots = parallel(threads, sets.len(), &self.stop, |set| {
                self.slots(&chunk.batches, chunk.rows, sets.get(set).map_or(&[], Vec::as_slice), opened.unit)
            })?;
            let views: Vec<usize> = (0..self.plan.views.len()).collect();
            let slots_of = |view: usize| set_of_view.get(view).and_then(|set| slots.get(*set));
            self.scan(&views, &slots_of, groups, opened.unit, chunk.rows, &mut winners, threads)?;
        } else {
            for (set, keys) in sets.iter().enumerate() {
                let slots = self.slots(&chunk.batches, chunk.rows, keys, opened.unit)?;
                for view in (0..self.plan.views.len()).filter(|view| set_of_view.get(*view) == Some(&set)) {
                    self.scan(&[view], &|_| Some(&slots), groups, opened.unit, chunk.rows, &mut winners, threads)?;
                }
            }
        }
        self.phases.chunks.fetch_add(1, Ordering::Relaxed);
        // What a row's features take at the most, so that parts have a good size.
        let feature_bytes: u64 = self
            .plan
            .views
            .iter()
            .enumerate()
            .map(|(index, view)| {
                let file = opened.files.iter().find(|(of, _)| *of == index).map(|(_, file)| file);
                file.map_or(0, |file| view.features.iter().map(|feature| file.row_bytes(&feature.source_column)).sum())
            })
            .sum();
        let feature_bytes = usize::try_from(feature_bytes).unwrap_or(UNLIMITED).max(1);
        let limit = self.budget().features;
        // All at once, if the winners, of which many rows may have the same one, fit; otherwise so many rows that any would.
        let distinct: usize = if chunk.rows.saturating_mul(feature_bytes) <= limit { 0 } else { distinct(&winners, groups) };
        let part_rows = if distinct.saturating_mul(feature_bytes) / self.plan.views.len().max(1) <= limit {
            chunk.rows
        } else {
            (limit / feature_bytes).max(BATCH_ROWS)
        };
        let mut start = 0;
        while start < chunk.rows {
            let rows = part_rows.min(chunk.rows - start);
            let ends = last && start + rows == chunk.rows;
            let views = if ends && start == 0 {
                self.features(std::mem::take(&mut winners), 0..rows, groups, counts, threads)?
            } else {
                let of_part = winners.iter().map(|all| all.get(start..start + rows).unwrap_or_default().to_vec()).collect();
                self.features(of_part, start..start + rows, groups, counts, threads)?
            };
            let part = Part {
                schema: &self.plan.schema,
                joined: &self.plan.schema,
                columns: None,
                made: &[],
                rows,
                start,
                entity: &chunk.batches,
                entity_columns: self.plan.entity_schema.fields().len(),
                views: &views,
                counted: None,
                phases: &self.phases,
                stop: &self.stop,
            };
            sink.take(&part, threads)?;
            start += rows;
        }
        Ok(())
    }

    fn slots(&self, entity: &[RecordBatch], rows: usize, keys: &[&str], unit: Unit) -> Result<Slots, PitError> {
        let _meter = self.phases.slots.begin();
        let mut columns: Vec<Vec<Keys>> = Vec::with_capacity(keys.len());
        for key in keys {
            let index = self.plan.entity_schema.index_of(key)?;
            columns.push(entity.iter().map(|batch| Keys::new(batch.column(index), key, ENTITY_ROWS)).collect::<Result<_, _>>()?);
        }
        let (coder, mut codes) = KeyCoder::build(rows, &columns);
        let first = coder.first_range().map(|(least, greatest)| {
            let values = columns.first().into_iter().flatten().filter_map(Keys::integers).flatten();
            let known = values.zip(&codes.known).filter(|(_, known)| **known).map(|(value, _)| *value);
            KeyValues::new(least, greatest, rows, known)
        });
        drop(columns);
        let index = self.plan.entity_schema.index_of(&self.plan.options.timestamp_column)?;
        let mut times = Vec::with_capacity(rows);
        for batch in entity {
            let column = batch.column(index);
            if let Some(nulls) = column.nulls() {
                codes.known.iter_mut().skip(times.len()).zip(nulls).for_each(|(known, valid)| *known &= valid);
            }
            let Some(values) = instants(column, unit) else {
                return Err(PitError::NotTime {
                    column: self.plan.options.timestamp_column.clone(),
                    place: ENTITY_ROWS.to_owned(),
                    found: column.data_type().to_string(),
                });
            };
            times.extend_from_slice(&values);
        }
        self.phases.slots.add_rows(rows);
        Ok(Slots::build(coder, codes, times, first))
    }

    /// Finds the winners of views.
    #[expect(clippy::too_many_arguments, reason = "what both ways of `join_chunk` have in common")]
    fn scan<'s>(
        &self,
        views: &[usize],
        slots_of: &(dyn Fn(usize) -> Option<&'s Slots> + Sync),
        groups: &[Group<'_>],
        unit: Unit,
        rows: usize,
        winners: &mut [Vec<u64>],
        threads: usize,
    ) -> Result<(), PitError> {
        struct Scanned<'s, 'p> {
            view: usize,
            of: &'p PitView,
            slots: &'s Slots,
            rules: Rules,
            best: Vec<Cell>,
        }
        let mut scanned = Vec::with_capacity(views.len());
        for view in views {
            if let (Some(of), Some(slots)) = (self.plan.views.get(*view), slots_of(*view)) {
                let rules = self.plan.rules(of, unit);
                scanned.push(Scanned { view: *view, of, slots, rules, best: Cell::none(slots.len()) });
            }
        }
        let tasks: Vec<(&Group<'_>, &Scanned<'_, '_>)> =
            groups.iter().filter_map(|group| Some((group, scanned.iter().find(|scanned| scanned.view == group.view)?))).collect();
        parallel(threads, tasks.len(), &self.stop, |task| match tasks.get(task) {
            Some((group, scanned)) => self.fold(scanned.of, group, scanned.slots, &scanned.rules, &scanned.best, unit),
            None => Ok(()),
        })?;
        drop(tasks);
        let scanned: Vec<Mutex<Option<Scanned<'_, '_>>>> = scanned.into_iter().map(|scanned| Mutex::new(Some(scanned))).collect();
        let found = parallel(threads, scanned.len(), &self.stop, |task| {
            let _meter = self.phases.winners.begin();
            let one = scanned.get(task).and_then(|scanned| scanned.lock().ok().and_then(|mut scanned| scanned.take()));
            let Some(one) = one else { return Err(PitError::Worker("a view has no state".to_owned())) };
            Ok((one.view, one.slots.winners(one.best, &one.rules, rows, 0, |best| best.place)))
        })?;
        for (view, found) in found {
            if let Some(winners) = winners.get_mut(view) {
                *winners = found;
            }
        }
        Ok(())
    }

    /// Folds a row group into the slots of its view.
    fn fold(
        &self,
        view: &PitView,
        group: &Group<'_>,
        slots: &Slots,
        rules: &Rules,
        best: &[Cell],
        unit: Unit,
    ) -> Result<(), PitError> {
        let file = group.file;
        let mut columns: Vec<&str> = view.keys.iter().map(|key| key.source_column.as_str()).collect();
        columns.push(&view.timestamp_column);
        columns.extend(view.created_column.as_deref());
        let all = file.rows(group.group);
        let ranges = match wanted(view, file, group.group, slots, rules, unit) {
            Wanted::Nothing => {
                self.phases.narrow.add_pruned(all, file.bytes(group.group, &columns));
                return Ok(());
            }
            Wanted::All => None,
            Wanted::Some(ranges) => Some(ranges),
        };
        group.scanned.store(true, Ordering::Relaxed);
        let selection = ranges.as_ref().map(|ranges| Wanted::selection(ranges, all));
        let mut numbers = ranges.iter().flatten().flat_map(|range| range.clone().map(|row| row as u32));
        let mut apart = Vec::new();
        let mut row = 0;
        let mut lanes = Lanes::new();
        let mut codes = Codes::default();
        let mut reading = self.phases.narrow.begin();
        for batch in file.read(group.group, &columns, true, selection, BATCH_ROWS, self.phases.narrow.bytes())? {
            if self.stop.load(Ordering::Relaxed) {
                return Err(PitError::Cancelled);
            }
            let (rows, arrays) = batch?;
            drop(reading);
            let searching = self.phases.search.begin();
            let keys = view
                .keys
                .iter()
                .zip(&arrays)
                .map(|(key, array)| Keys::new(array, &key.source_column, &file.name))
                .collect::<Result<Vec<_>, _>>()?;
            slots.coder.code(rows, &keys, &mut codes);
            let mut rest = arrays.iter().skip(keys.len());
            let mut next = |column: &str| match rest.next() {
                Some(array) => match instants(array, unit) {
                    Some(values) => Ok((values, array.nulls().filter(|nulls| nulls.null_count() > 0).cloned())),
                    None => Err(PitError::NotTime {
                        column: column.to_owned(),
                        place: file.name.clone(),
                        found: array.data_type().to_string(),
                    }),
                },
                None => Err(PitError::Worker(format!("column `{column}` was not decoded"))),
            };
            let (times, time_nulls) = next(&view.timestamp_column)?;
            if let Some(nulls) = time_nulls {
                codes.known.iter_mut().zip(&nulls).for_each(|(known, valid)| *known &= valid);
            }
            let created = view.created_column.as_deref().map(next).transpose()?;
            let created = created.as_ref().map(|(values, nulls)| (&**values, nulls.as_ref()));
            let (first, apart) = if ranges.is_some() {
                apart.clear();
                apart.extend(numbers.by_ref().take(rows));
                (0, Some(apart.as_slice()))
            } else {
                (row, None)
            };
            let narrow = Narrow { codes: &codes, times: &times, created, place: place(group.ordinal, first), apart };
            slots.fold(best, rules, &narrow, &mut lanes);
            row += rows;
            drop(searching);
            reading = self.phases.narrow.begin();
        }
        drop(reading);
        self.phases.narrow.add_rows(row);
        // Their bytes are not known page by page.
        self.phases.narrow.add_pruned(all.saturating_sub(row), 0);
        Ok(())
    }

    /// The features of the winners of some entity rows.
    fn features(
        &self,
        winners: Vec<Vec<u64>>,
        rows: std::ops::Range<usize>,
        groups: &[Group<'_>],
        counts: &[usize],
        threads: usize,
    ) -> Result<Vec<ViewPart>, PitError> {
        let winners: Vec<Mutex<Vec<u64>>> = winners.into_iter().map(Mutex::new).collect();
        let chosen = parallel(threads, winners.len(), &self.stop, |view| {
            let _meter = self.phases.winners.begin();
            let found = winners.get(view).and_then(|found| found.lock().ok().map(|mut found| std::mem::take(&mut *found)));
            let found = found.unwrap_or_default();
            let lengths: Vec<usize> =
                groups.iter().filter(|group| group.view == view).map(|group| group.file.rows(group.group)).collect();
            let mut chosen: Vec<Chosen> = (0..counts.get(view).copied().unwrap_or_default()).map(|_| Chosen::default()).collect();
            for (ordinal, row) in found.iter().filter_map(|winner| split(*winner)) {
                if let (Some(chosen), Some(rows)) = (chosen.get_mut(ordinal), lengths.get(ordinal)) {
                    chosen.insert(row, *rows);
                }
            }
            let mut base = 0_u64;
            let mut bases = Vec::with_capacity(chosen.len());
            for chosen in &mut chosen {
                chosen.seal();
                bases.push(base);
                base += chosen.count as u64;
            }
            if u32::try_from(base + 1).is_err() {
                return Err(PitError::TooManyRows { what: "what a view gives to one part".to_owned() });
            }
            let positions = found.into_iter().map(|winner| {
                let found =
                    split(winner).and_then(|(ordinal, row)| Some(bases.get(ordinal)? + chosen.get(ordinal)?.rank(row) as u64));
                found.map_or(Positions::NONE, |position| position as u32)
            });
            let positions = Positions::new(positions.collect());
            Ok((chosen, positions))
        })?;
        debug_assert!(chosen.iter().all(|(_, positions)| positions.len() == rows.len()));
        let pieces = parallel(threads, groups.len(), &self.stop, |task| {
            let found = groups.get(task).and_then(|group| {
                let (chosen, _) = chosen.get(group.view)?;
                Some((group, self.plan.views.get(group.view)?, chosen.get(group.ordinal)?))
            });
            let Some((group, view, chosen)) = found.filter(|(_, view, _)| !view.features.is_empty()) else {
                return Ok(Vec::new());
            };
            let _meter = self.phases.features.begin();
            let columns: Vec<&str> = view.features.iter().map(|feature| feature.source_column.as_str()).collect();
            if chosen.count == 0 {
                self.phases.features.add_pruned(group.file.rows(group.group), group.file.bytes(group.group, &columns));
                return Ok(Vec::new());
            }
            group.gathered.store(true, Ordering::Relaxed);
            self.phases.features.add_rows(chosen.count);
            gather_pieces(group.file, group.group, &columns, chosen, self.phases.features.bytes(), &self.stop)
        })?;
        // By view and feature, the pieces of all row groups.
        let mut by_feature: Vec<Vec<Mutex<Vec<ArrayRef>>>> =
            self.plan.views.iter().map(|view| view.features.iter().map(|_| Mutex::new(Vec::new())).collect()).collect();
        for (group, pieces) in groups.iter().zip(pieces) {
            let Some(features) = by_feature.get_mut(group.view) else { continue };
            for (feature, more) in features.iter_mut().zip(pieces) {
                feature.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner()).extend(more);
            }
        }
        let listed: Vec<(&PitView, &PitFeature, &Mutex<Vec<ArrayRef>>)> = self
            .plan
            .views
            .iter()
            .zip(&by_feature)
            .flat_map(|(view, pieces)| view.features.iter().zip(pieces).map(move |(feature, pieces)| (view, feature, pieces)))
            .collect();
        let columns = parallel(threads, listed.len(), &self.stop, |task| match listed.get(task) {
            Some((view, feature, pieces)) => {
                let _meter = self.phases.collect.begin();
                let pieces = std::mem::take(&mut *pieces.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
                FeatureColumn::new(pieces, view, feature)
            }
            None => Err(PitError::Cancelled),
        })?;
        let mut columns = columns.into_iter();
        let parts =
            self.plan.views.iter().zip(chosen).map(|(view, (_, positions))| ViewPart {
                positions,
                columns: columns.by_ref().take(view.features.len()).collect(),
            });
        Ok(parts.collect())
    }
}

/// How many distinct feature rows won, over all views.
fn distinct(winners: &[Vec<u64>], groups: &[Group<'_>]) -> usize {
    let mut count = 0;
    for (view, winners) in winners.iter().enumerate() {
        let mut chosen: Vec<Chosen> = Vec::new();
        let lengths: Vec<usize> =
            groups.iter().filter(|group| group.view == view).map(|group| group.file.rows(group.group)).collect();
        chosen.resize_with(lengths.len(), Chosen::default);
        for (ordinal, row) in winners.iter().filter_map(|winner| split(*winner)) {
            if let (Some(chosen), Some(rows)) = (chosen.get_mut(ordinal), lengths.get(ordinal)) {
                chosen.insert(row, *rows);
            }
        }
        chosen.iter_mut().for_each(Chosen::seal);
        count += chosen.iter().map(|chosen| chosen.count).sum::<usize>();
    }
    count
}
