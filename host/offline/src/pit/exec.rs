//! The join as a node of a DataFusion plan.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::{concat_batches, interleave};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, CardinalityEffect, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties, SendableRecordBatchStream,
};
use futures::StreamExt;
use tokio::runtime::Handle;
use tokio::sync::mpsc::Sender;

use super::file::{OpenFile, names};
use super::gather::{BATCH_ROWS, Chosen, StopOnDrop, gather, parallel, place, split};
use super::keys::{KeyCoder, Keys, kind};
use super::slots::{Best, Narrow, Rules, Slots};
use super::time::{Unit, instants};
use super::{PitError, PitOptions, PitView};

const ENTITY_ROWS: &str = "the entity rows";

/// Joins entity rows with views: exactly one output row for each input row, in input order, with the input's columns and
/// then the features of each view.
#[derive(Debug)]
pub struct PitExec {
    input: Arc<dyn ExecutionPlan>,
    views: Arc<[PitView]>,
    options: PitOptions,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl PitExec {
    /// Joins `input`, whose partitions are read in order, with `views`. Fails if the input lacks a column or has one of an
    /// unsuited type; files are not opened until the plan is executed.
    pub fn try_new(input: Arc<dyn ExecutionPlan>, views: Vec<PitView>, options: PitOptions) -> Result<Self, PitError> {
        Self::with_views(input, views.into(), options)
    }

    fn with_views(input: Arc<dyn ExecutionPlan>, views: Arc<[PitView]>, options: PitOptions) -> Result<Self, PitError> {
        let entity = input.schema();
        let field = |column: &str, needed_by: &dyn Fn() -> String| {
            entity.field_with_name(column).map_err(|_| PitError::MissingEntityColumn {
                column: column.to_owned(),
                needed_by: needed_by(),
                known: names(&entity),
            })
        };
        let time = field(&options.timestamp_column, &|| "the join, for the time of each row,".to_owned())?;
        if Unit::of(time.data_type()).is_none() {
            return Err(PitError::NotTime {
                column: options.timestamp_column.clone(),
                place: ENTITY_ROWS.to_owned(),
                found: time.data_type().to_string(),
            });
        }
        let mut fields: Vec<_> = entity.fields().iter().cloned().collect();
        for view in views.iter() {
            for key in &view.keys {
                let found = field(&key.entity_column, &|| format!("view `{}`", view.name))?.data_type();
                if kind(found).is_none() {
                    return Err(PitError::KeyType {
                        column: key.entity_column.clone(),
                        place: ENTITY_ROWS.to_owned(),
                        found: found.to_string(),
                    });
                }
            }
            for feature in &view.features {
                fields.push(Arc::new(Field::new(&feature.output_name, feature.data_type.clone(), true)));
            }
        }
        let schema = Arc::new(Schema::new_with_metadata(fields, entity.metadata().clone()));
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Ok(Self { input, views, options, schema, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() })
    }
}

impl DisplayAs for PitExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PitExec: timestamp={}, views=[", self.options.timestamp_column)?;
        for (index, view) in self.views.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{} ({} files)", view.name, view.files.len())?;
        }
        write!(f, "]")
    }
}

impl ExecutionPlan for PitExec {
    fn name(&self) -> &'static str {
        "PitExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let [input] = <[_; 1]>::try_from(children)
            .map_err(|children| DataFusionError::Internal(format!("PitExec has one child, not {}", children.len())))?;
        Ok(Arc::new(Self::with_views(input, Arc::clone(&self.views), self.options.clone())?))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        if partition != 0 {
            return Err(DataFusionError::Internal(format!("PitExec has one partition, not {partition}")));
        }
        let baseline = BaselineMetrics::new(&self.metrics, 0);
        let bytes_read = MetricBuilder::new(&self.metrics).counter("bytes_read", 0);
        let feature_rows = MetricBuilder::new(&self.metrics).counter("feature_rows", 0);
        let input = Arc::clone(&self.input);
        let mut builder = RecordBatchReceiverStreamBuilder::new(Arc::clone(&self.schema), 2);
        let output = builder.tx();
        let mut job = Job {
            entity_schema: self.input.schema(),
            schema: Arc::clone(&self.schema),
            views: Arc::clone(&self.views),
            options: self.options.clone(),
            batch_rows: context.session_config().batch_size().max(1),
            entity: Vec::new(),
            rows: 0,
            stop: Arc::new(AtomicBool::new(false)),
            bytes: AtomicU64::new(0),
            feature_rows: AtomicU64::new(0),
        };
        builder.spawn(async move {
            let reservation = MemoryConsumer::new("PitExec").register(context.memory_pool());
            for partition in 0..input.output_partitioning().partition_count() {
                let mut batches = input.execute(partition, Arc::clone(&context))?;
                while let Some(batch) = batches.next().await {
                    let batch = batch?;
                    reservation.try_grow(batch.get_array_memory_size())?;
                    job.rows += batch.num_rows();
                    job.entity.push(batch);
                }
            }
            reservation.try_grow(job.state_bytes())?;
            let guard = StopOnDrop(Arc::clone(&job.stop));
            let handle = Handle::current();
            let work = tokio::task::spawn_blocking(move || {
                let timer = baseline.elapsed_compute().timer();
                let result = job.run(&handle, &output, &baseline);
                timer.done();
                bytes_read.add(usize::try_from(job.bytes.load(Ordering::Relaxed)).unwrap_or(usize::MAX));
                feature_rows.add(usize::try_from(job.feature_rows.load(Ordering::Relaxed)).unwrap_or(usize::MAX));
                result
            });
            let result = work.await.map_err(|error| PitError::Worker(error.to_string()))?;
            drop(guard);
            drop(reservation);
            result.map_err(DataFusionError::from)
        });
        Ok(builder.build())
    }
}

/// One execution.
struct Job {
    entity_schema: SchemaRef,
    schema: SchemaRef,
    views: Arc<[PitView]>,
    options: PitOptions,
    batch_rows: usize,
    entity: Vec<RecordBatch>,
    rows: usize,
    stop: Arc<AtomicBool>,
    bytes: AtomicU64,
    feature_rows: AtomicU64,
}

/// A row group of a view.
struct Group<'a> {
    view: usize,
    file: &'a OpenFile,
    group: usize,
    /// Its number within the view.
    ordinal: usize,
}

/// The winners of a view, and their features.
struct Gathered {
    winners: Vec<u64>,
    chosen: Vec<Chosen>,
    /// By row group, the position of its arrays among the sources of `interleave`.
    sources: Vec<usize>,
    /// By feature: a null and then the winners of each row group.
    arrays: Vec<Vec<ArrayRef>>,
}

impl Job {
    /// What the slots and the winners take.
    fn state_bytes(&self) -> usize {
        self.rows.saturating_mul(48 + self.views.len() * (size_of::<Mutex<Best>>() + 8))
    }

    fn run(&self, handle: &Handle, output: &Sender<DfResult<RecordBatch>>, baseline: &BaselineMetrics) -> Result<(), PitError> {
        if u32::try_from(self.rows).is_err() {
            return Err(PitError::TooManyRows { what: ENTITY_ROWS.to_owned() });
        }
        let threads = self.options.threads.max(1);
        let listed: Vec<_> = self
            .views
            .iter()
            .enumerate()
            .flat_map(|(index, view)| view.files.iter().map(move |file| (index, view, file)))
            .collect();
        let opened = parallel(threads, listed.len(), &self.stop, |task| match listed.get(task) {
            Some((index, view, file)) => {
                let open = OpenFile::open(view, file, handle)?;
                self.check(view, &open)?;
                Ok((*index, open))
            }
            None => Err(PitError::Cancelled),
        })?;
        let unit = self.unit(&opened)?;

        // Views of equal keys share their slots.
        let mut key_sets: Vec<Vec<&str>> = Vec::new();
        let mut set_of_view = Vec::with_capacity(self.views.len());
        for view in self.views.iter() {
            let set: Vec<&str> = view.keys.iter().map(|key| key.entity_column.as_str()).collect();
            let known = key_sets.iter().position(|known| *known == set);
            set_of_view.push(known.unwrap_or(key_sets.len()));
            if known.is_none() {
                key_sets.push(set);
            }
        }
        let slot_sets = parallel(threads, key_sets.len(), &self.stop, |task| {
            self.slots(key_sets.get(task).map_or(&[], Vec::as_slice), unit)
        })?;
        let slots_of = |view: usize| set_of_view.get(view).and_then(|set| slot_sets.get(*set));

        let rules: Vec<Rules> = self.views.iter().map(|view| self.rules(view, unit)).collect();
        let mut groups = Vec::new();
        let mut counts = vec![0; self.views.len()];
        for (view, file) in &opened {
            for group in 0..file.row_groups() {
                if let Some(count) = counts.get_mut(*view) {
                    groups.push(Group { view: *view, file, group, ordinal: *count });
                    *count += 1;
                }
                if u32::try_from(file.rows(group)).is_err() {
                    return Err(PitError::TooManyRows { what: format!("a row group of {}", file.name) });
                }
            }
        }
        let best: Vec<Vec<Mutex<Best>>> = (0..self.views.len())
            .map(|view| (0..slots_of(view).map_or(0, Slots::len)).map(|_| Mutex::new(Best::NONE)).collect())
            .collect();
        parallel(threads, groups.len(), &self.stop, |task| {
            let Some(group) = groups.get(task) else { return Ok(()) };
            match (self.views.get(group.view), slots_of(group.view), rules.get(group.view), best.get(group.view)) {
                (Some(view), Some(slots), Some(rules), Some(best)) => self.fold(view, group, slots, rules, best, unit),
                _ => Ok(()),
            }
        })?;

        let best: Vec<Mutex<Vec<Mutex<Best>>>> = best.into_iter().map(Mutex::new).collect();
        let mut gathered = parallel(threads, self.views.len(), &self.stop, |view| {
            let cells = best.get(view).and_then(|cells| cells.lock().ok().map(|mut cells| std::mem::take(&mut *cells)));
            let (Some(cells), Some(slots), Some(rules)) = (cells, slots_of(view), rules.get(view)) else {
                return Err(PitError::Worker("a view has no state".to_owned()));
            };
            let winners = slots.winners(cells, rules, self.rows);
            let mut chosen: Vec<Chosen> = (0..counts.get(view).copied().unwrap_or_default()).map(|_| Chosen::default()).collect();
            let lengths: Vec<usize> =
                groups.iter().filter(|group| group.view == view).map(|group| group.file.rows(group.group)).collect();
            for (ordinal, row) in winners.iter().filter_map(|winner| split(*winner)) {
                if let (Some(chosen), Some(rows)) = (chosen.get_mut(ordinal), lengths.get(ordinal)) {
                    chosen.insert(row, *rows);
                }
            }
            chosen.iter_mut().for_each(Chosen::seal);
            Ok(Gathered { winners, chosen, sources: Vec::new(), arrays: Vec::new() })
        })?;
        drop(best);
        drop(slot_sets);

        let features = parallel(threads, groups.len(), &self.stop, |task| {
            let found = groups.get(task).and_then(|group| {
                let chosen = gathered.get(group.view)?.chosen.get(group.ordinal)?;
                Some((group, self.views.get(group.view)?, chosen))
            });
            let Some((group, view, chosen)) = found.filter(|(_, view, chosen)| chosen.count > 0 && !view.features.is_empty())
            else {
                return Ok(Vec::new());
            };
            let columns: Vec<_> =
                view.features.iter().map(|feature| (feature.source_column.as_str(), Some(&feature.data_type))).collect();
            gather(group.file, group.group, &columns, chosen, &self.bytes, &self.stop)
        })?;
        for (gathered, view) in gathered.iter_mut().zip(self.views.iter()) {
            gathered.arrays = view.features.iter().map(|feature| vec![new_null_array(&feature.data_type, 1)]).collect();
        }
        for (group, arrays) in groups.iter().zip(features) {
            let Some(gathered) = gathered.get_mut(group.view) else { continue };
            gathered.sources.push(if arrays.is_empty() { 0 } else { gathered.arrays.first().map_or(0, Vec::len) });
            for (sources, array) in gathered.arrays.iter_mut().zip(arrays) {
                sources.push(array);
            }
        }
        self.emit(&gathered, output, baseline)
    }

    /// Fails where a file's columns do not suit the join.
    fn check(&self, view: &PitView, file: &OpenFile) -> Result<(), PitError> {
        for key in &view.keys {
            let found = file.data_type(&key.source_column)?;
            let Some(found_kind) = kind(&found) else {
                return Err(PitError::KeyType {
                    column: key.source_column.clone(),
                    place: file.name.clone(),
                    found: found.to_string(),
                });
            };
            let expected = self.entity_schema.field_with_name(&key.entity_column)?.data_type();
            if kind(expected) != Some(found_kind) {
                return Err(PitError::KeyMismatch {
                    column: key.source_column.clone(),
                    place: file.name.clone(),
                    found: found.to_string(),
                    entity_column: key.entity_column.clone(),
                    expected: expected.to_string(),
                });
            }
        }
        file.unit(&view.timestamp_column)?;
        if let Some(created) = &view.created_column {
            file.unit(created)?;
        }
        view.features.iter().try_for_each(|feature| file.data_type(&feature.source_column).map(drop))
    }

    /// The coarsest unit that every column of instants is exact in.
    fn unit(&self, opened: &[(usize, OpenFile)]) -> Result<Unit, PitError> {
        let time = self.entity_schema.field_with_name(&self.options.timestamp_column)?;
        let mut unit = Unit::of(time.data_type()).unwrap_or(Unit::Micros);
        for (view, file) in opened {
            let Some(view) = self.views.get(*view) else { continue };
            unit = unit.max(file.unit(&view.timestamp_column)?);
            if let Some(created) = &view.created_column {
                unit = unit.max(file.unit(created)?);
            }
        }
        Ok(unit)
    }

    fn rules(&self, view: &PitView, unit: Unit) -> Rules {
        // In whole units, `time >= at - ttl` holds for the rounded-down ttl just as for the exact one, and likewise upwards.
        Rules {
            ttl: (view.ttl.nanos() != 0).then(|| unit.floor(view.ttl.nanos())),
            after: unit.ceil(view.available_after.nanos().max(0)),
            after_created: view.available_created,
            filter_created: self.options.filter_by_created,
        }
    }

    fn slots(&self, keys: &[&str], unit: Unit) -> Result<Slots, PitError> {
        let mut columns: Vec<Vec<Keys>> = Vec::with_capacity(keys.len());
        for key in keys {
            let index = self.entity_schema.index_of(key)?;
            columns.push(
                self.entity.iter().map(|batch| Keys::new(batch.column(index), key, ENTITY_ROWS)).collect::<Result<_, _>>()?,
            );
        }
        let (coder, mut codes) = KeyCoder::build(self.rows, &columns);
        let index = self.entity_schema.index_of(&self.options.timestamp_column)?;
        let mut times = Vec::with_capacity(self.rows);
        for batch in &self.entity {
            let column = batch.column(index);
            if let Some(nulls) = column.nulls() {
                codes.known.iter_mut().skip(times.len()).zip(nulls).for_each(|(known, valid)| *known &= valid);
            }
            let Some(values) = instants(column, unit) else {
                return Err(PitError::NotTime {
                    column: self.options.timestamp_column.clone(),
                    place: ENTITY_ROWS.to_owned(),
                    found: column.data_type().to_string(),
                });
            };
            times.extend_from_slice(&values);
        }
        Ok(Slots::build(coder, &codes, &times))
    }

    /// Folds a row group into the slots of its view.
    fn fold(
        &self,
        view: &PitView,
        group: &Group<'_>,
        slots: &Slots,
        rules: &Rules,
        best: &[Mutex<Best>],
        unit: Unit,
    ) -> Result<(), PitError> {
        if slots.len() == 0 {
            return Ok(());
        }
        let (least, greatest) = group.file.bounds(&view.timestamp_column, group.group, unit);
        let late = least.is_some_and(|least| least > slots.greatest);
        let stale = rules.ttl.is_some_and(|ttl| greatest.is_some_and(|greatest| greatest < slots.least.saturating_sub(ttl)));
        if late || stale {
            return Ok(());
        }
        let mut columns: Vec<&str> = view.keys.iter().map(|key| key.source_column.as_str()).collect();
        columns.push(&view.timestamp_column);
        columns.extend(view.created_column.as_deref());
        let mut row = 0;
        for batch in group.file.read(group.group, &columns, true, None, BATCH_ROWS, &self.bytes)? {
            if self.stop.load(Ordering::Relaxed) {
                return Err(PitError::Cancelled);
            }
            let (rows, arrays) = batch?;
            let keys = view
                .keys
                .iter()
                .zip(&arrays)
                .map(|(key, array)| Keys::new(array, &key.source_column, &group.file.name))
                .collect::<Result<Vec<_>, _>>()?;
            let mut codes = slots.coder.code(rows, &keys);
            let mut rest = arrays.iter().skip(keys.len());
            let mut next = |column: &str| match rest.next() {
                Some(array) => match instants(array, unit) {
                    Some(values) => Ok((values, array.nulls().filter(|nulls| nulls.null_count() > 0).cloned())),
                    None => Err(PitError::NotTime {
                        column: column.to_owned(),
                        place: group.file.name.clone(),
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
            slots.fold(best, rules, &Narrow { codes: &codes, times: &times, created, place: place(group.ordinal, row) });
            row += rows;
        }
        self.feature_rows.fetch_add(row as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Sends the output, batch by batch.
    fn emit(
        &self,
        gathered: &[Gathered],
        output: &Sender<DfResult<RecordBatch>>,
        baseline: &BaselineMetrics,
    ) -> Result<(), PitError> {
        let (mut batch_index, mut offset, mut start) = (0, 0, 0);
        while start < self.rows {
            let length = self.batch_rows.min(self.rows - start);
            let mut slices = Vec::new();
            let mut wanted = length;
            while let Some(batch) = self.entity.get(batch_index).filter(|_| wanted > 0) {
                let taken = wanted.min(batch.num_rows() - offset);
                if taken > 0 {
                    slices.push(batch.slice(offset, taken));
                }
                wanted -= taken;
                offset += taken;
                if offset == batch.num_rows() {
                    batch_index += 1;
                    offset = 0;
                }
            }
            let entity = match slices.as_slice() {
                [one] => one.clone(),
                many => concat_batches(&self.entity_schema, many)?,
            };
            let mut columns = entity.columns().to_vec();
            for view in gathered {
                let positions: Vec<(usize, usize)> = view
                    .winners
                    .iter()
                    .skip(start)
                    .take(length)
                    .map(|winner| {
                        let found = split(*winner)
                            .and_then(|(ordinal, row)| Some((*view.sources.get(ordinal)?, view.chosen.get(ordinal)?.rank(row))));
                        found.unwrap_or_default()
                    })
                    .collect();
                for sources in &view.arrays {
                    columns.push(interleave(&sources.iter().map(AsRef::as_ref).collect::<Vec<_>>(), &positions)?);
                }
            }
            let options = RecordBatchOptions::new().with_row_count(Some(length));
            let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
            baseline.record_output(length);
            if output.blocking_send(Ok(batch)).is_err() {
                return Err(PitError::Cancelled);
            }
            start += length;
        }
        Ok(())
    }
}
