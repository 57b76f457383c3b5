//! Entity rows: what to look features up for, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::TableReference;
use datafusion::error::DataFusionError;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::streaming::StreamingTableExec;
use datafusion::prelude::{SQLOptions, SessionConfig, SessionContext};
use datafusion::sql::parser::Statement;

use crate::error::{OfflineError, Result, list};
use crate::inspect::{instant, source_schema, type_name};
use crate::source::resolve;
use crate::table::FileRows;

/// The column of event times that entity rows have by default.
pub const EVENT_TIMESTAMP: &str = "event_timestamp";

/// Entity rows that are ready to be joined.
#[derive(Clone, Debug)]
pub struct EntityRows {
    /// Gives the rows, in order, in one partition.
    pub plan: Arc<dyn ExecutionPlan>,
    /// The column of event times; a timestamp in UTC.
    pub timestamp_column: String,
    /// What they are called in messages.
    pub name: String,
}

impl EntityRows {
    /// The rows of a file, folder, glob or URL (see [`resolve`]); a relative path is relative to `base`. `declared` are the
    /// types that columns of CSV and JSON files have, by name.
    pub async fn from_file(base: &Path, path: &str, declared: &BTreeMap<String, DataType>) -> Result<Self> {
        let rows = file_rows(base, path, declared).await?;
        let schema = Arc::clone(datafusion::physical_plan::streaming::PartitionStream::schema(&rows));
        let plan = StreamingTableExec::try_new(schema, vec![Arc::new(rows)], None, None, false, None)?;
        Self::from_plan(Arc::new(plan), path.to_owned())
    }

    /// The rows of a query over files: `SELECT … FROM 'labels.parquet'`, where the quoted name is a path as for
    /// [`from_file`](Self::from_file). The rows are in the files' order unless the query orders them.
    pub async fn from_sql(
        context: &SessionContext,
        base: &Path,
        sql: &str,
        declared: &BTreeMap<String, DataType>,
    ) -> Result<Self> {
        // One partition, since several would lose the order. The tables are this query's only.
        let config = SessionConfig::new().with_target_partitions(1);
        let context = SessionContext::new_with_config_rt(config, context.runtime_env());
        let state = context.state();
        let statement = state.sql_to_statement(sql, &datafusion::common::config::Dialect::Generic).map_err(bad_query)?;
        if !matches!(&statement, Statement::Statement(inner) if matches!(**inner, datafusion::sql::sqlparser::ast::Statement::Query(_)))
        {
            return Err(OfflineError::Sql { reason: "only a SELECT is possible".to_owned() });
        }
        for reference in state.resolve_table_references(&statement).map_err(bad_query)? {
            let path = match &reference {
                TableReference::Bare { table } => table.to_string(),
                other => other.to_string(),
            };
            if context.table_exist(reference.clone()).unwrap_or(false) {
                continue;
            }
            if !matches!(reference, TableReference::Bare { .. }) || !path.contains(['.', '/']) {
                let reason = format!("there is no table {path}; name a file in quotes: FROM '{path}.parquet'");
                return Err(OfflineError::Sql { reason });
            }
            let rows = file_rows(base, &path, declared).await?;
            let schema = Arc::clone(datafusion::physical_plan::streaming::PartitionStream::schema(&rows));
            context.register_table(reference, Arc::new(StreamingTable::try_new(schema, vec![Arc::new(rows)])?))?;
        }
        let state = context.state();
        let plan = state.statement_to_plan(statement).await.map_err(bad_query)?;
        let options = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        options.verify_plan(&plan).map_err(bad_query)?;
        let plan = state.create_physical_plan(&plan).await.map_err(bad_query)?;
        Self::from_plan(plan, "by SQL".to_owned())
    }

    /// The rows of a plan: finds the column of event times and makes it a timestamp in UTC, where one without a zone is UTC.
    pub fn from_plan(plan: Arc<dyn ExecutionPlan>, name: String) -> Result<Self> {
        let schema = plan.schema();
        let failed = |reason: String| OfflineError::EntityRows { rows: name.clone(), reason };
        let mut seen = BTreeSet::new();
        if let Some(field) = schema.fields().iter().find(|field| !seen.insert(field.name())) {
            return Err(failed(format!("several columns are called {}", field.name())));
        }
        let column = timestamp_column(&schema).map_err(failed)?;
        let index = schema.index_of(&column)?;
        let needed = match schema.field(index).data_type() {
            DataType::Timestamp(unit, _) => instant(*unit),
            _ => instant(TimeUnit::Microsecond),
        };
        let plan = if *schema.field(index).data_type() == needed {
            plan
        } else {
            cast_columns(plan, |name, _| (name == column).then(|| needed.clone()))?
        };
        Ok(Self { plan, timestamp_column: column, name })
    }

    /// The columns of the rows.
    pub fn schema(&self) -> SchemaRef {
        self.plan.schema()
    }

    /// The names of the columns, for messages.
    pub(crate) fn columns(&self) -> String {
        column_names(&self.schema())
    }
}

/// The names of columns, for messages.
pub(crate) fn column_names(schema: &SchemaRef) -> String {
    list(schema.fields().iter().map(|field| field.name().as_str()))
}

pub(crate) async fn file_rows(base: &Path, path: &str, declared: &BTreeMap<String, DataType>) -> Result<FileRows> {
    let mut declared = declared.clone();
    declared.entry(EVENT_TIMESTAMP.to_owned()).or_insert_with(|| instant(TimeUnit::Nanosecond));
    let files = resolve(base, path, None, &declared).await?;
    let schema = source_schema(&files, &declared).await?;
    Ok(FileRows::new(files, schema))
}

fn bad_query(error: DataFusionError) -> OfflineError {
    match OfflineError::from_engine(error) {
        OfflineError::Engine(error) => OfflineError::Sql { reason: error.strip_backtrace().replace('\n', " ") },
        own => own,
    }
}

/// The column of event times, or what is wrong.
fn timestamp_column(schema: &SchemaRef) -> std::result::Result<String, String> {
    let is_instant = |data_type: &DataType| matches!(data_type, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64);
    if let Some((_, field)) = schema.column_with_name(EVENT_TIMESTAMP) {
        return match field.data_type() {
            data_type if is_instant(data_type) => Ok(EVENT_TIMESTAMP.to_owned()),
            data_type => Err(format!(
                "column {EVENT_TIMESTAMP} is {}, a timestamp is needed; write it as one, or give the rows by SQL with \
                 to_timestamp({EVENT_TIMESTAMP}) AS {EVENT_TIMESTAMP}",
                type_name(data_type)
            )),
        };
    }
    let candidates: Vec<&str> = schema
        .fields()
        .iter()
        .filter(|field| matches!(field.data_type(), DataType::Timestamp(..)))
        .map(|field| field.name().as_str())
        .collect();
    match candidates.as_slice() {
        [one] => Ok((*one).to_owned()),
        [] => Err(format!(
            "no column says when: a column {EVENT_TIMESTAMP}, or one column that is a timestamp, is needed; there are {}",
            column_names(schema)
        )),
        several => Err(format!(
            "the column of event times is ambiguous: {} are timestamps; call one of them {EVENT_TIMESTAMP}",
            list(several.iter().copied())
        )),
    }
}

/// A plan whose columns `change` gives another type; a value that the type cannot hold is an error.
pub(crate) fn cast_columns(
    plan: Arc<dyn ExecutionPlan>,
    change: impl Fn(&str, usize) -> Option<DataType>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = plan.schema();
    let expression = |(index, field): (usize, &arrow::datatypes::FieldRef)| {
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(field.name(), index));
        let expr = match change(field.name(), index) {
            Some(data_type) => Arc::new(CastExpr::new(column, data_type, None)),
            None => column,
        };
        ProjectionExpr { expr, alias: field.name().clone() }
    };
    let expressions: Vec<ProjectionExpr> = schema.fields().iter().enumerate().map(expression).collect();
    Ok(Arc::new(ProjectionExec::try_new(expressions, plan)?))
}
