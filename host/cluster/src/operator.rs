//! A task as a node of a plan: a leaf of one partition, for whatever executor takes it.

use std::fmt;
use std::io::ErrorKind;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, SendableRecordBatchStream,
};
use futures::StreamExt;
use mezze_offline::{Conversions, OfflineError, PitError, Task};

use crate::error::TaskError;
use crate::message::{self, Unusable};

/// What a task may take of an executor, which tells it by its session's configuration.
#[derive(Clone, Debug)]
pub(crate) struct TaskResources {
    pub(crate) memory: usize,
    pub(crate) conversions: Arc<Conversions>,
    /// The executor, for messages.
    pub(crate) name: String,
}

/// A task, as it goes over the network: who passes it on needs no more than its outline.
#[derive(Debug)]
pub(crate) struct TaskExec {
    bytes: Vec<u8>,
    view: String,
    properties: Arc<PlanProperties>,
}

impl TaskExec {
    pub(crate) fn new(task: &Task) -> Result<Self, Unusable> {
        Self::decode(message::encode(task)?)
    }

    pub(crate) fn decode(bytes: Vec<u8>) -> Result<Self, Unusable> {
        let (view, schema) = message::outline(&bytes)?;
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Self { bytes, view, properties: Arc::new(properties) })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        self.properties.eq_properties.schema()
    }
}

/// What to do about a file that an executor does not find.
const SHARED: &str = "; executors read sources by the paths that the client has, so put them on storage that all of them share";

/// An error of a task, for whoever gave it.
fn passed_on(error: DataFusionError, executor: &str) -> DataFusionError {
    let own = match &error {
        DataFusionError::External(inner) => inner.downcast_ref::<OfflineError>(),
        _ => None,
    };
    let (input, hint) = match own {
        // The client has found the file, so the place matters.
        Some(OfflineError::Join(error)) if matches!(**error, PitError::Read { .. }) => (true, SHARED),
        Some(OfflineError::Read { source, .. }) => {
            (matches!(source.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied), SHARED)
        }
        Some(own) => (own.is_input(), ""),
        None => (false, ""),
    };
    let reason = match own {
        Some(own) => own.to_string(),
        None => error.strip_backtrace(),
    };
    let reason = format!("executor {executor}: {reason}{hint}");
    DataFusionError::External(Box::new(TaskError { input, reason }))
}

impl DisplayAs for TaskExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskExec: view={}", self.view)
    }
}

impl ExecutionPlan for TaskExec {
    fn name(&self) -> &'static str {
        "TaskExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { Err(DataFusionError::Internal("TaskExec has no children".to_owned())) }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return Err(DataFusionError::Internal(format!("TaskExec has one partition, not {partition}")));
        }
        let resources = context.session_config().get_extension::<TaskResources>();
        let memory = resources.as_ref().map(|resources| resources.memory);
        let conversions = resources.as_ref().map(|resources| Arc::clone(&resources.conversions)).unwrap_or_default();
        let name = resources.map(|resources| resources.name.clone()).unwrap_or_default();
        // Where it is of another version, no other attempt does better.
        let unusable = |error: Unusable| {
            let reason = format!("executor {name}: {error}");
            DataFusionError::External(Box::new(TaskError { input: true, reason }))
        };
        let begun = Arc::new(message::decode(&self.bytes).map_err(unusable)?).stream(1, memory, conversions);
        let stream = begun.map_err(|error| passed_on(DataFusionError::External(Box::new(error)), &name))?;
        let stream = stream.map(move |batch| batch.map_err(|error| passed_on(error, &name)));
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(self.schema()), stream)))
    }
}
