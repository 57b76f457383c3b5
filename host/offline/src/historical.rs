//! Data sets: entity rows with the features that were known at their times.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::Column;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::logical_expr::{Expr, cast, col, lit};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use datafusion::scalar::ScalarValue;
use mezze_core::{RunTransforms, Timestamp, ValueType};
use mezze_model::{Definitions, SourceFormat};

use crate::computed::{Columns, Computing};
use crate::entity_rows::{EVENT_TIMESTAMP, EntityRows};
use crate::error::{OfflineError, Result, list};
use crate::features::{ComputedInput, FeatureSelection, SelectedFeatures, SelectedView, select_features};
use crate::inspect::arrow_type;
use crate::object_output::Target;
use crate::output::{Output, output_format};
use crate::pit::{PhaseReport, Phases, PitExec, PitOptions, PitView};
use crate::prepare::{PreparedView, Reader, prepare_view_of};
use crate::scratch::Scratch;
use crate::source::{SourceFile, SourceFiles};
use crate::table::FileRows;
use crate::workers::{Join, Workers, join};

/// Where entity rows come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntitySource {
    /// A file, folder, glob or URL.
    File(String),
    /// A query over files: `SELECT … FROM 'labels.parquet'`.
    Sql(String),
    /// No rows: every entity that the views' sources have between `start` less the ttl and `end`, as of `end`.
    Range {
        /// The begin.
        start: Timestamp,
        /// The end, which is the entity rows' time.
        end: Timestamp,
    },
}

/// What a data set is made of, and where it goes.
pub struct HistoricalRequest {
    /// What to look features up for, and when.
    pub entity_rows: EntitySource,
    /// Which features.
    pub selection: FeatureSelection,
    /// Whether features are called `view__feature`.
    pub full_feature_names: bool,
    /// Whether rows that were created after the entity row's time do not count.
    pub filter_by_created_timestamp: bool,
    /// How many threads read feature rows.
    pub threads: usize,
    /// How many bytes of memory the engine may take, or `None` for as many as it needs.
    pub memory: Option<usize>,
    /// Whether to decode the files once more, doing nothing with them, to say how near the join came to that.
    pub explain: bool,
    /// What relative paths of entity rows and output are relative to.
    pub folder: PathBuf,
    /// Where the data set goes: a path, or a URL of an object store. What is there is replaced, once the new one is whole.
    pub output: PathBuf,
    /// The data set's format, or `None` to go by its name.
    pub format: Option<SourceFormat>,
    /// Is told how far the work is.
    pub progress: Option<ProgressCallback>,
    /// Who reads the sources; this process if not given.
    pub workers: Option<Arc<dyn Workers>>,
    /// What runs the components of on-demand views; without it features that need one cannot be had.
    pub transforms: Option<Arc<dyn RunTransforms + Send + Sync>>,
}

impl fmt::Debug for HistoricalRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HistoricalRequest")
            .field("entity_rows", &self.entity_rows)
            .field("selection", &self.selection)
            .field("output", &self.output)
            .finish_non_exhaustive()
    }
}

/// Is told how far the work is.
pub type ProgressCallback = Arc<dyn Fn(Progress<'_>) + Send + Sync>;

/// How far the work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// A view's source is looked at, and converted if it is not Parquet.
    Preparing {
        /// The view.
        view: &'a str,
    },
    /// The feature rows are read; until the first rows are written nothing more is known.
    Joining {
        /// The bytes of all sources.
        bytes: u64,
    },
    /// So many rows are written.
    Written {
        /// The rows so far.
        rows: u64,
    },
}

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// The rows of the data set: as many as there were entity rows.
    pub rows: u64,
    /// For each view, in the order of the request, what was found.
    pub views: Vec<ViewSummary>,
    /// The size of the data set in bytes.
    pub bytes: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// Where it is.
    pub output: PathBuf,
    /// What was done, phase by phase.
    pub phases: Vec<PhaseReport>,
    /// How many times entity rows filled their part of the memory: each time the keys and times of all feature rows are read.
    pub chunks: u64,
    /// Bytes written to temporary files, of sources that are not Parquet.
    pub spilled: u64,
    /// The plan, a line for each node.
    pub plan: String,
}

/// What was found for a view.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ViewSummary {
    /// The view's name, or its alias.
    pub view: String,
    /// The rows for which the view has at least one value that is not null.
    pub matched: u64,
}

/// Makes a data set: all columns of the entity rows, in their order, then the features of the views in the order of the
/// request. `repo` is what relative paths of sources are relative to.
pub async fn get_historical_features(repo: &Path, definitions: &Definitions, request: HistoricalRequest) -> Result<Summary> {
    let began = Instant::now();
    let tell = |progress: Progress<'_>| {
        if let Some(callback) = &request.progress {
            callback(progress);
        }
    };
    let selected = select_features(definitions, &request.selection, request.full_feature_names)?;
    let (target, path) = Target::of(&request.folder, &request.output)?;
    let format = request.format.map_or_else(|| output_format(&path), Ok)?;
    let mut runtime = RuntimeEnvBuilder::new();
    let scratch = Scratch::shared()?;
    runtime = runtime.with_temp_file_path(scratch.path());
    if let Some(memory) = request.memory {
        // What queries for entity rows may have to sort and group; beyond it they write temporary files.
        runtime = runtime.with_memory_limit(memory / 4, 1.0);
    }
    // The join itself runs in as many threads as are asked for; the rest keeps the rows in order.
    let context = SessionContext::new_with_config_rt(SessionConfig::new().with_target_partitions(1), runtime.build_arc()?);
    // Entity rows first: what is wrong with them shows at once, and needs no look at the sources.
    let mut rows = match &request.entity_rows {
        EntitySource::File(file) => {
            Some(EntityRows::from_file(&request.folder, file, &declared_columns(definitions, &selected)).await?)
        }
        EntitySource::Sql(sql) => {
            Some(EntityRows::from_sql(&context, &request.folder, sql, &declared_columns(definitions, &selected)).await?)
        }
        EntitySource::Range { start, end } if start > end => {
            return Err(OfflineError::Request { reason: format!("the range begins after its end: {start} is after {end}") });
        }
        EntitySource::Range { .. } => None,
    };
    if let Some(rows) = &rows {
        check_columns(definitions, &selected, rows)?;
    } else if let Some(column) = selected.request_columns.first() {
        return Err(OfflineError::Request {
            reason: format!(
                "request source {} needs column {}, which only entity rows can have; give entity rows instead of a time range",
                column.request_source, column.name
            ),
        });
    }
    let mut prepared = Vec::with_capacity(selected.views.len());
    for view in &selected.views {
        tell(Progress::Preparing { view: &view.name });
        let reader = if request.workers.is_some() { Reader::Elsewhere } else { Reader::Here };
        prepared.push(prepare_view_of(repo, definitions, view, reader, async |_: &SourceFile| Ok(true)).await?);
    }
    let rows = match (rows.take(), &request.entity_rows) {
        (None, EntitySource::Range { start, end }) => {
            let rows = entities_between(&context, definitions, &selected, &prepared, *start, *end).await?;
            check_columns(definitions, &selected, &rows)?;
            rows
        }
        (Some(rows), _) => rows,
        (None, _) => return Err(OfflineError::Request { reason: "no entity rows are given".to_owned() }),
    };
    let plan = joined(&rows, &prepared, &request)?;
    let plan_text = DisplayableExecutionPlan::new(&plan).indent(false).to_string();
    tell(Progress::Joining { bytes: prepared.iter().map(|view| view.files.size()).sum() });
    let told = request.progress.clone();
    let written: Box<dyn Fn(u64) + Send + Sync> = Box::new(move |rows| {
        if let Some(callback) = &told {
            callback(Progress::Written { rows });
        }
    });
    let columns = if selected.is_computed() {
        Some(Columns::new(&selected, &rows, &plan.schema(), request.transforms.clone())?)
    } else {
        None
    };
    let schema = columns.as_ref().map_or_else(|| plan.schema(), |columns| Arc::clone(&columns.schema));
    let output = Computing::new(Output::create(&path, format, &schema, request.memory, written)?, columns);
    let (output, phases, chunks) = match &request.workers {
        None => {
            let (output, phases) = plan.run_into(&context.task_ctx(), output).await?;
            let chunks = phases.chunks();
            (output, phases, chunks)
        }
        Some(workers) => {
            let phases = Arc::new(Phases::default());
            let work = Join {
                rows: &rows,
                views: views_to_join(&prepared),
                prepared: &prepared,
                filter_by_created: request.filter_by_created_timestamp,
                threads: request.threads.max(1),
                memory: request.memory,
                schema: plan.schema(),
            };
            let (output, chunks) = join(&**workers, work, &context.task_ctx(), output, &phases).await?;
            (output, phases, chunks)
        }
    };
    let meter = Arc::clone(&phases);
    let written = tokio::task::spawn_blocking(move || {
        let _meter = meter.write.begin();
        output.sink.finish()
    })
    .await??;
    let path = target.put(path).await?;
    let views = selected
        .views
        .iter()
        .enumerate()
        .map(|(index, view)| ViewSummary { view: view.name.clone(), matched: written.matched.get(index).copied().unwrap_or(0) });
    Ok(Summary {
        rows: written.rows,
        views: views.collect(),
        bytes: written.bytes,
        elapsed: began.elapsed(),
        output: path,
        phases: phases.report(),
        chunks,
        spilled: prepared.iter().map(|view| view.spill.bytes).sum(),
        plan: plan_text,
    })
}

/// The join, with the features in their declared types: a source may have narrower integers, other units, dictionaries.
fn joined(rows: &EntityRows, prepared: &[PreparedView], request: &HistoricalRequest) -> Result<PitExec> {
    let options = PitOptions {
        timestamp_column: rows.timestamp_column.clone(),
        filter_by_created: request.filter_by_created_timestamp,
        threads: request.threads.max(1),
        memory: request.memory,
        explain: request.explain,
    };
    Ok(PitExec::try_new(Arc::clone(&rows.plan), views_to_join(prepared), options)?)
}

fn views_to_join(prepared: &[PreparedView]) -> Vec<PitView> {
    let views = prepared.iter().map(|prepared| {
        let mut view = prepared.view.clone();
        for (feature, needed) in view.features.iter_mut().zip(&prepared.output_types) {
            feature.data_type = needed.clone();
        }
        view
    });
    views.collect()
}

/// The types that definitions declare for columns of entity rows.
fn declared_columns(definitions: &Definitions, selected: &SelectedFeatures) -> BTreeMap<String, DataType> {
    let mut declared = BTreeMap::new();
    for column in &selected.request_columns {
        declared.insert(column.name.clone(), arrow_type(&column.value_type));
    }
    for (selected, view) in views(definitions, selected) {
        for entity in definitions.entities_of(view) {
            declared.insert(selected.entity_column(&entity.join_key).to_owned(), arrow_type(&entity.value_type));
        }
    }
    declared
}

fn views<'a>(
    definitions: &'a Definitions,
    selected: &'a SelectedFeatures,
) -> impl Iterator<Item = (&'a SelectedView, &'a mezze_model::FeatureView)> {
    selected.views.iter().filter_map(|selected| Some((selected, definitions.feature_view(&selected.view)?)))
}

/// Checks that entity rows have the columns that the request needs, and none that a feature would have too.
fn check_columns(definitions: &Definitions, selected: &SelectedFeatures, rows: &EntityRows) -> Result<()> {
    let schema = rows.schema();
    for (selected, view) in views(definitions, selected) {
        for entity in definitions.entities_of(view) {
            let column = selected.entity_column(&entity.join_key);
            if schema.column_with_name(column).is_none() {
                return Err(OfflineError::MissingJoinKey {
                    rows: rows.name.clone(),
                    column: column.to_owned(),
                    view: selected.name.clone(),
                    columns: rows.columns(),
                });
            }
        }
    }
    for column in &selected.request_columns {
        if schema.column_with_name(&column.name).is_none() {
            return Err(OfflineError::MissingRequestColumn {
                rows: rows.name.clone(),
                column: column.name.clone(),
                request_source: column.request_source.clone(),
                columns: rows.columns(),
            });
        }
    }
    for (view, input) in selected.computed_inputs() {
        if let ComputedInput::Entity { column, .. } = input
            && schema.column_with_name(column).is_none()
        {
            return Err(OfflineError::MissingJoinKey {
                rows: rows.name.clone(),
                column: column.clone(),
                view: view.to_owned(),
                columns: rows.columns(),
            });
        }
    }
    for output in &selected.outputs {
        if let Some((column, view, feature)) = selected.named(output)
            && schema.column_with_name(column).is_some()
        {
            return Err(OfflineError::Collision {
                column: column.to_owned(),
                first: format!("a column of the entity rows {}", rows.name),
                second: format!("feature {view}:{feature}"),
                remedy: "use --full-feature-names, or call the entity rows' column otherwise",
            });
        }
    }
    Ok(())
}

/// Every entity of the views' sources between `start` less the ttl and `end`, in order of its keys, as of `end`.
async fn entities_between(
    context: &SessionContext,
    definitions: &Definitions,
    selected: &SelectedFeatures,
    prepared: &[PreparedView],
    start: Timestamp,
    end: Timestamp,
) -> Result<EntityRows> {
    let mut key_types: BTreeMap<String, ValueType> = BTreeMap::new();
    let mut first: Option<(&str, Vec<&str>)> = None;
    for (selected, view) in views(definitions, selected) {
        let mut keys = Vec::new();
        for entity in definitions.entities_of(view) {
            let column = selected.entity_column(&entity.join_key);
            keys.push(column);
            key_types.insert(column.to_owned(), entity.value_type.clone());
        }
        keys.sort_unstable();
        match &first {
            None => first = Some((&selected.name, keys)),
            Some((first, first_keys)) if *first_keys != keys => {
                let shown = |keys: &[&str]| if keys.is_empty() { "none".to_owned() } else { list(keys.iter().copied()) };
                return Err(OfflineError::RangeKeys {
                    first: (*first).to_owned(),
                    first_keys: shown(first_keys),
                    second: selected.name.clone(),
                    second_keys: shown(&keys),
                });
            }
            Some(_) => {}
        }
    }
    let keys: Vec<String> = key_types.keys().cloned().collect();
    let mut entities: Option<DataFrame> = None;
    if keys.is_empty() {
        entities = Some(context.read_empty()?);
    } else {
        for prepared in prepared {
            let found = keys_between(context, prepared, &key_types, start.saturating_sub(prepared.view.ttl), end)?;
            entities = Some(match entities {
                None => found,
                Some(others) => others.union(found)?,
            });
        }
    }
    let Some(mut entities) = entities else {
        return Err(OfflineError::Request { reason: "no features are asked for".to_owned() });
    };
    let column = |name: &String| col(Column::from_name(name));
    if !keys.is_empty() {
        entities = entities.distinct()?.sort(keys.iter().map(|key| column(key).sort(true, false)).collect())?;
    }
    let zone = Some("UTC".into());
    let time = if end.nanos() % 1_000 == 0 {
        ScalarValue::TimestampMicrosecond(Some(end.nanos() / 1_000), zone)
    } else {
        ScalarValue::TimestampNanosecond(Some(end.nanos()), zone)
    };
    let columns = keys.iter().map(column).chain([lit(time).alias(EVENT_TIMESTAMP)]);
    let plan =
        entities.select(columns.collect::<Vec<Expr>>())?.create_physical_plan().await.map_err(OfflineError::from_engine)?;
    EntityRows::from_plan(plan, format!("between {start} and {end}"))
}

/// The keys of the rows of a view's source from `start` to `end`, by the names and types that entity rows give them.
fn keys_between(
    context: &SessionContext,
    prepared: &PreparedView,
    key_types: &BTreeMap<String, ValueType>,
    start: Timestamp,
    end: Timestamp,
) -> Result<DataFrame> {
    let view = &prepared.view;
    let wanted = |name: &String| *name == view.timestamp_column || view.keys.iter().any(|key| key.source_column == *name);
    let fields = prepared.schema.fields().iter().filter(|field| wanted(field.name())).cloned();
    let schema: SchemaRef = Arc::new(arrow::datatypes::Schema::new(fields.collect::<Vec<_>>()));
    let converted = view.files.iter().map(|file| SourceFile {
        store: Arc::clone(&file.store),
        location: file.location.clone(),
        local: file.local.clone(),
        size: file.size,
        constants: file.constants.clone(),
        last_modified: Timestamp::EPOCH,
        etag: None,
        name: file.location.to_string(),
    });
    // Where others read the view's files, they are as they were found.
    let files = match view.files.is_empty() {
        true => prepared.files.clone(),
        false => SourceFiles { format: SourceFormat::Parquet, files: converted.collect() },
    };
    let times = schema.field_with_name(&view.timestamp_column)?.data_type().clone();
    let rows = FileRows::new(files, Arc::clone(&schema));
    let table = context.read_table(Arc::new(StreamingTable::try_new(schema, vec![Arc::new(rows)])?))?;
    let column = |name: &str| col(Column::from_name(name));
    let mut filter = column(&view.timestamp_column)
        .gt_eq(lit(bound(start, &times, true)?))
        .and(column(&view.timestamp_column).lt_eq(lit(bound(end, &times, false)?)));
    let mut columns = Vec::new();
    // In order of the entity rows' names: a union is by position.
    for (name, value_type) in key_types {
        let Some(key) = view.keys.iter().find(|key| key.entity_column == *name) else { continue };
        filter = filter.and(column(&key.source_column).is_not_null());
        let target = match value_type {
            ValueType::Int32 | ValueType::Int64 => Some(DataType::Int64),
            ValueType::String => Some(DataType::Utf8),
            _ => None,
        };
        let expression = column(&key.source_column);
        columns.push(target.map_or_else(|| expression.clone(), |target| cast(expression.clone(), target)).alias(name));
    }
    Ok(table.filter(filter)?.select(columns)?)
}

/// An instant in the unit of a column; a begin is rounded up and an end down, as no instant of the column lies between.
fn bound(at: Timestamp, times: &DataType, is_start: bool) -> Result<ScalarValue> {
    let nanos_per_unit = match times {
        DataType::Date32 => 86_400_000_000_000,
        DataType::Timestamp(TimeUnit::Second, _) => 1_000_000_000,
        DataType::Date64 | DataType::Timestamp(TimeUnit::Millisecond, _) => 1_000_000,
        DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => 1,
        _ => return Err(OfflineError::Request { reason: format!("event times are {times}, not timestamps") }),
    };
    let floor = at.nanos().div_euclid(nanos_per_unit);
    let value = Some(floor + i64::from(is_start && at.nanos().rem_euclid(nanos_per_unit) != 0));
    Ok(match times {
        DataType::Date32 => ScalarValue::Date32(value.and_then(|days| i32::try_from(days).ok())),
        DataType::Date64 => ScalarValue::Date64(value),
        DataType::Timestamp(TimeUnit::Second, zone) => ScalarValue::TimestampSecond(value, zone.clone()),
        DataType::Timestamp(TimeUnit::Millisecond, zone) => ScalarValue::TimestampMillisecond(value, zone.clone()),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => ScalarValue::TimestampMicrosecond(value, zone.clone()),
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => ScalarValue::TimestampNanosecond(value, zone.clone()),
        _ => ScalarValue::Null,
    })
}
