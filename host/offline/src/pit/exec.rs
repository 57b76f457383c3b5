//! The join as a node of a DataFusion plan.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, CardinalityEffect, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties, SendableRecordBatchStream,
};
use tokio::runtime::Handle;
use tokio::sync::mpsc::Sender;

use super::file::{OpenFile, names};
use super::gather::StopOnDrop;
use super::join::{Job, Part, PartSink};
use super::keys::kind;
use super::phases::{Phases, READ_NARROW};
use super::slots::Rules;
use super::time::Unit;
use super::{PitError, PitOptions, PitView};

pub(super) const ENTITY_ROWS: &str = "the entity rows";

/// Joins entity rows with views: exactly one output row for each input row, in input order, with the input's columns and
/// then the features of each view.
#[derive(Debug)]
pub struct PitExec {
    input: Arc<dyn ExecutionPlan>,
    plan: Arc<Plan>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// What is joined, and how.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(super) entity_schema: SchemaRef,
    /// The columns of the output.
    pub(super) schema: SchemaRef,
    pub(super) views: Vec<PitView>,
    pub(super) options: PitOptions,
}

impl PitExec {
    /// Joins `input`, whose partitions are read in order, with `views`. Fails if the input lacks a column or has one of an
    /// unsuited type; files are not opened until the plan is executed.
    pub fn try_new(input: Arc<dyn ExecutionPlan>, views: Vec<PitView>, options: PitOptions) -> Result<Self, PitError> {
        let plan = Plan::try_new(input.schema(), views, options)?;
        Ok(Self::with_plan(input, Arc::new(plan)))
    }

    fn with_plan(input: Arc<dyn ExecutionPlan>, plan: Arc<Plan>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&plan.schema)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { input, plan, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl Plan {
    fn try_new(entity: SchemaRef, views: Vec<PitView>, options: PitOptions) -> Result<Self, PitError> {
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
        Ok(Self { entity_schema: entity, schema, views, options })
    }

    /// The distinct key sets, and which of them each view has: views of equal keys share their slots.
    pub(super) fn key_sets(&self) -> (Vec<Vec<&str>>, Vec<usize>) {
        let mut sets: Vec<Vec<&str>> = Vec::new();
        let of_view = self.views.iter().map(|view| {
            let set: Vec<&str> = view.keys.iter().map(|key| key.entity_column.as_str()).collect();
            sets.iter().position(|known| *known == set).unwrap_or_else(|| {
                sets.push(set);
                sets.len() - 1
            })
        });
        let of_view = of_view.collect();
        (sets, of_view)
    }

    /// Fails where a file's columns do not suit the join.
    pub(super) fn check(&self, view: &PitView, file: &OpenFile) -> Result<(), PitError> {
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
    pub(super) fn unit(&self, opened: &[(usize, OpenFile)]) -> Result<Unit, PitError> {
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

    pub(super) fn rules(&self, view: &PitView, unit: Unit) -> Rules {
        // In whole units, `time >= at - ttl` holds for the rounded-down ttl just as for the exact one, and likewise upwards.
        Rules {
            ttl: (view.ttl.nanos() != 0).then(|| unit.floor(view.ttl.nanos())),
            after: unit.ceil(view.available_after.nanos().max(0)),
            after_created: view.available_created,
            filter_created: self.options.filter_by_created,
        }
    }
}

impl DisplayAs for PitExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PitExec: timestamp={}, views=[", self.plan.options.timestamp_column)?;
        for (index, view) in self.plan.views.iter().enumerate() {
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
        // Other columns make another output.
        if input.schema() == self.plan.entity_schema {
            return Ok(Arc::new(Self::with_plan(input, Arc::clone(&self.plan))));
        }
        Ok(Arc::new(Self::try_new(input, self.plan.views.clone(), self.plan.options.clone())?))
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
        let mut builder = RecordBatchReceiverStreamBuilder::new(Arc::clone(&self.plan.schema), 2);
        let mut sink = Batches {
            output: builder.tx(),
            batch_rows: context.session_config().batch_size().max(1),
            baseline: baseline.clone(),
        };
        let run = self.start(&context, |job| {
            move |handle: &Handle, input| {
                let timer = sink.baseline.elapsed_compute().clone();
                let timer = timer.timer();
                let result = job.run(handle, input, &mut sink);
                timer.done();
                for phase in job.phases.report() {
                    bytes_read.add(usize::try_from(phase.bytes_read).unwrap_or(usize::MAX));
                    if phase.name == READ_NARROW {
                        feature_rows.add(usize::try_from(phase.rows).unwrap_or(usize::MAX));
                    }
                }
                result
            }
        })?;
        builder.spawn(async move { run.await.map_err(DataFusionError::from) });
        Ok(builder.build())
    }
}

impl PitExec {
    /// Joins all rows into `sink` and gives it back.
    pub(crate) async fn run_into<S: PartSink + Send + 'static>(
        &self,
        context: &Arc<TaskContext>,
        mut sink: S,
    ) -> Result<(S, Arc<Phases>), PitError> {
        self.start(context, |job| {
            move |handle: &Handle, input| {
                job.run(handle, input, &mut sink)?;
                Ok((sink, job.phases))
            }
        })?
        .await
    }

    /// What a run does, as a future that stops the run when it is dropped. `work` is done on a thread that may block.
    fn start<T: Send + 'static, W>(
        &self,
        context: &Arc<TaskContext>,
        work: impl FnOnce(Job) -> W,
    ) -> Result<impl Future<Output = Result<T, PitError>> + Send + 'static, PitError>
    where
        W: FnOnce(&Handle, Vec<SendableRecordBatchStream>) -> Result<T, PitError> + Send + 'static,
    {
        let partitions = 0..self.input.output_partitioning().partition_count();
        let input: Vec<_> = partitions
            .map(|partition| self.input.execute(partition, Arc::clone(context)))
            .collect::<Result<_, _>>()
            .map_err(PitError::Engine)?;
        let stop = Arc::new(AtomicBool::new(false));
        let guard = StopOnDrop(Arc::clone(&stop));
        let work = work(Job::new(Arc::clone(&self.plan), stop));
        Ok(async move {
            let handle = Handle::current();
            let result = tokio::task::spawn_blocking(move || work(&handle, input)).await;
            drop(guard);
            result.map_err(|error| PitError::Worker(error.to_string()))?
        })
    }
}

/// Sends the output, batch by batch.
struct Batches {
    output: Sender<DfResult<RecordBatch>>,
    batch_rows: usize,
    baseline: BaselineMetrics,
}

impl PartSink for Batches {
    fn take(&mut self, part: &Part<'_>, _: usize) -> Result<(), PitError> {
        let mut start = 0;
        while start < part.rows {
            let rows = self.batch_rows.min(part.rows - start);
            let batch = part.batch(start, rows)?;
            self.baseline.record_output(rows);
            if self.output.blocking_send(Ok(batch)).is_err() {
                return Err(PitError::Cancelled);
            }
            start += rows;
        }
        Ok(())
    }
}
