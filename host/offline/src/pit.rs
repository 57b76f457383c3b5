//! The point-in-time join.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, SendableRecordBatchStream};
use datafusion::scalar::ScalarValue;
use mezze_core::Span;
use object_store::ObjectStore;

/// A Parquet file of feature rows.
#[derive(Clone, Debug)]
pub struct PitFile {
    /// The store that holds it.
    pub store: Arc<dyn ObjectStore>,
    /// Where the store holds it.
    pub location: object_store::path::Path,
    /// Its path, if it is a local file.
    pub local: Option<PathBuf>,
    /// Its size in bytes.
    pub size: u64,
    /// Columns that are not in the file but have one value for all of it: its partition folders.
    pub constants: Vec<(String, ScalarValue)>,
}

/// A join key.
#[derive(Clone, Debug)]
pub struct PitKey {
    /// The source's column.
    pub source_column: String,
    /// The entity rows' column.
    pub entity_column: String,
}

/// A feature to look up.
#[derive(Clone, Debug)]
pub struct PitFeature {
    /// The source's column.
    pub source_column: String,
    /// The column to put out.
    pub output_name: String,
    /// The type to put out.
    pub data_type: DataType,
}

/// Feature rows to join.
#[derive(Clone, Debug)]
pub struct PitView {
    /// Its name, for messages.
    pub name: String,
    /// Its rows, in order.
    pub files: Vec<PitFile>,
    /// What to match.
    pub keys: Vec<PitKey>,
    /// The source's column of event times.
    pub timestamp_column: String,
    /// The source's column of created times.
    pub created_column: Option<String>,
    /// How long a row counts; zero is for ever.
    pub ttl: Span,
    /// How long after its event time a row begins to count.
    pub available_after: Span,
    /// Whether `available_after` counts from the created time, if that is later.
    pub available_created: bool,
    /// What to put out.
    pub features: Vec<PitFeature>,
}

/// What holds for a whole join.
#[derive(Clone, Debug)]
pub struct PitOptions {
    /// The entity rows' column of event times.
    pub timestamp_column: String,
    /// Whether rows that were created after the entity row's time do not count.
    pub filter_by_created: bool,
    /// How many threads read feature rows.
    pub threads: usize,
}

/// The join.
#[derive(Debug)]
pub struct PitExec {
    input: Arc<dyn ExecutionPlan>,
}

impl PitExec {
    /// A join of entity rows with views.
    pub fn try_new(input: Arc<dyn ExecutionPlan>, _views: Vec<PitView>, _options: PitOptions) -> datafusion::error::Result<Self> {
        Ok(Self { input })
    }
}

impl DisplayAs for PitExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PitExec")
    }
}

impl ExecutionPlan for PitExec {
    fn name(&self) -> &str {
        "PitExec"
    }
    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }
    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }
    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(
            &Arc<dyn datafusion::physical_expr::PhysicalExpr>,
        ) -> datafusion::error::Result<datafusion::common::tree_node::TreeNodeRecursion>,
    ) -> datafusion::error::Result<datafusion::common::tree_node::TreeNodeRecursion> {
        Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
    }
    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }
    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> datafusion::error::Result<SendableRecordBatchStream> {
        let _ = (partition, context);
        datafusion::common::not_impl_err!("the join comes with its own module")
    }
}
