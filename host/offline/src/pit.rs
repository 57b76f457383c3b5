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
    views: Vec<PitView>,
    options: PitOptions,
    properties: Arc<PlanProperties>,
}

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt64Array};
use arrow::compute::{cast, concat_batches, take};
use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef, TimeUnit, TimestampNanosecondType};
use arrow::util::display::array_value_to_string;
use datafusion::error::Result;
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{Partitioning, common::collect};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

impl PitExec {
    /// A join of entity rows with views.
    pub fn try_new(input: Arc<dyn ExecutionPlan>, views: Vec<PitView>, options: PitOptions) -> Result<Self> {
        let features = views.iter().flat_map(|view| &view.features);
        let features = features.map(|feature| Arc::new(Field::new(&feature.output_name, feature.data_type.clone(), true)));
        let fields: Vec<FieldRef> = input.schema().fields().iter().cloned().chain(features).collect();
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(Arc::new(Schema::new(fields))),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        ));
        Ok(Self { input, views, options, properties })
    }
}

fn instants(column: &ArrayRef) -> Result<Vec<Option<i64>>> {
    let nanos = cast(column, &DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())))?;
    Ok(nanos.as_primitive::<TimestampNanosecondType>().iter().collect())
}

fn key(batch: &RecordBatch, columns: &[&str], row: usize) -> Result<Option<Vec<String>>> {
    let mut key = Vec::new();
    for name in columns {
        let column = column(batch, name)?;
        if column.is_null(row) {
            return Ok(None);
        }
        key.push(array_value_to_string(&column, row)?);
    }
    Ok(Some(key))
}

fn column(batch: &RecordBatch, name: &str) -> Result<ArrayRef> {
    batch
        .column_by_name(name)
        .cloned()
        .ok_or_else(|| datafusion::error::DataFusionError::Execution(format!("no column {name}")))
}

fn rows(file: &PitFile) -> Result<RecordBatch> {
    let local = file.local.clone().unwrap_or_default();
    let builder = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(local)?)?;
    let schema = Arc::clone(builder.schema());
    let batches = builder.build()?.collect::<std::result::Result<Vec<_>, _>>()?;
    let batch = concat_batches(&schema, &batches)?;
    let own = schema.fields().iter().map(|field| field.name().clone()).zip(batch.columns().iter().cloned());
    let own = own.filter(|(name, _)| file.constants.iter().all(|(constant, _)| constant != name));
    let mut columns: Vec<(String, ArrayRef)> = own.collect();
    for (name, value) in &file.constants {
        columns.push((name.clone(), value.to_array_of_size(batch.num_rows())?));
    }
    Ok(RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))?)
}

fn join(input: &RecordBatch, views: &[PitView], options: &PitOptions, schema: SchemaRef) -> Result<RecordBatch> {
    let mut columns = input.columns().to_vec();
    let times = instants(&column(input, &options.timestamp_column)?)?;
    for view in views {
        let batches = view.files.iter().map(rows).collect::<Result<Vec<_>>>()?;
        let Some(first) = batches.first() else { continue };
        let source = concat_batches(&first.schema(), &batches)?;
        let events = instants(&column(&source, &view.timestamp_column)?)?;
        let source_keys: Vec<&str> = view.keys.iter().map(|key| key.source_column.as_str()).collect();
        let entity_keys: Vec<&str> = view.keys.iter().map(|key| key.entity_column.as_str()).collect();
        let keys = (0..source.num_rows()).map(|row| key(&source, &source_keys, row)).collect::<Result<Vec<_>>>()?;
        let mut winners = Vec::new();
        for (row, at) in times.iter().enumerate() {
            let wanted = key(input, &entity_keys, row)?;
            let counts = |(index, event): (usize, &Option<i64>)| {
                let (at, event) = ((*at)?, (*event)?);
                let fresh = view.ttl.nanos() == 0 || event >= at.saturating_sub(view.ttl.nanos());
                let same = wanted.is_some() && keys.get(index) == Some(&wanted);
                (same && fresh && event.saturating_add(view.available_after.nanos()) <= at).then_some((event, index as u64))
            };
            winners.push(events.iter().enumerate().filter_map(counts).max().map(|(_, index)| index));
        }
        let winners = UInt64Array::from(winners);
        for feature in &view.features {
            columns.push(cast(&take(&column(&source, &feature.source_column)?, &winners, None)?, &feature.data_type)?);
        }
    }
    Ok(RecordBatch::try_new(schema, columns)?)
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
        &self.properties
    }
    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }
    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(
            &Arc<dyn datafusion::physical_expr::PhysicalExpr>,
        ) -> Result<datafusion::common::tree_node::TreeNodeRecursion>,
    ) -> Result<datafusion::common::tree_node::TreeNodeRecursion> {
        Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
    }
    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }
    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let (views, options, schema) = (self.views.clone(), self.options.clone(), self.schema());
        let output = Arc::clone(&schema);
        let joined = async move {
            let input_schema = input.schema();
            let batches = collect(input).await?;
            join(&concat_batches(&input_schema, &batches)?, &views, &options, schema)
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(output, futures::stream::once(joined))))
    }
}
