//! Folders with files, and definitions over them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::compute::concat_batches;
use arrow::ipc::writer::{FileWriter, StreamWriter};
use arrow::util::pretty::pretty_format_batches;
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::SessionContext;
use mezze_core::{Audience, FeatureSchema, Span, ValueType};
use mezze_model::{
    About, Availability, Definitions, Entity, FeatureService, FeatureView, Projection, RequestSource, Source, SourceFormat,
};
use mezze_offline::{OfflineError, SourceFiles, resolve, source_schema, spill};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tempfile::TempDir;

/// Noon of 2026-11-23, in microseconds.
pub(crate) const NOON: i64 = 1_795_435_200_000_000;
pub(crate) const HOUR: i64 = 3_600_000_000;

pub(crate) fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Writes a text file below a folder, with the folders between.
pub(crate) fn write(folder: &TempDir, name: &str, text: &str) {
    let path = folder.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

pub(crate) fn batch<const N: usize>(columns: [(&str, ArrayRef); N]) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
}

pub(crate) fn ints<const N: usize>(values: [Option<i64>; N]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

pub(crate) fn floats<const N: usize>(values: [Option<f64>; N]) -> ArrayRef {
    Arc::new(Float64Array::from(values.to_vec()))
}

pub(crate) fn texts<const N: usize>(values: [Option<&str>; N]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

/// Instants in microseconds, in UTC.
pub(crate) fn times<const N: usize>(values: [i64; N]) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(values.to_vec()).with_timezone("UTC"))
}

pub(crate) fn write_parquet(folder: &TempDir, name: &str, batch: &RecordBatch) {
    let path = folder.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

pub(crate) fn write_arrow_file(folder: &TempDir, name: &str, batch: &RecordBatch) {
    let mut writer = FileWriter::try_new(File::create(folder.path().join(name)).unwrap(), &batch.schema()).unwrap();
    writer.write(batch).unwrap();
    writer.finish().unwrap();
}

pub(crate) fn write_arrow_stream(folder: &TempDir, name: &str, batch: &RecordBatch) {
    let mut writer = StreamWriter::try_new(File::create(folder.path().join(name)).unwrap(), &batch.schema()).unwrap();
    writer.write(batch).unwrap();
    writer.finish().unwrap();
}

/// All rows of a plan.
pub(crate) async fn rows(plan: Arc<dyn ExecutionPlan>) -> RecordBatch {
    let schema = plan.schema();
    let batches = collect(plan, SessionContext::new().task_ctx()).await.unwrap();
    concat_batches(&schema, &batches).unwrap()
}

/// A batch as a table.
pub(crate) fn show(batch: &RecordBatch) -> String {
    pretty_format_batches(std::slice::from_ref(batch)).unwrap().to_string()
}

/// The files of a path, with types by inference only.
pub(crate) async fn files(folder: &TempDir, path: &str) -> Result<SourceFiles, OfflineError> {
    resolve(folder.path(), path, None, &BTreeMap::new()).await
}

/// The columns of a path, one a line.
pub(crate) async fn columns(folder: &TempDir, path: &str) -> Result<String, OfflineError> {
    let schema = source_schema(&files(folder, path).await?, &BTreeMap::new()).await?;
    Ok(schema.fields().iter().map(|field| format!("{}: {}\n", field.name(), field.data_type())).collect())
}

/// The rows of a path after it was made Parquet.
pub(crate) async fn spilled(folder: &TempDir, path: &str) -> Result<RecordBatch, OfflineError> {
    let files = files(folder, path).await?;
    let schema = source_schema(&files, &BTreeMap::new()).await?;
    let (files, guard) = spill(&files, &schema).await?;
    let mut batches = Vec::new();
    for file in &files {
        let file = File::open(file.local.as_ref().unwrap()).unwrap();
        batches.extend(ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap().map(Result::unwrap));
    }
    drop(guard);
    Ok(concat_batches(&batches[0].schema(), &batches).unwrap())
}

/// A batch read back from a Parquet file.
pub(crate) fn read_parquet(path: &Path) -> RecordBatch {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let schema = Arc::clone(builder.schema());
    let batches: Vec<RecordBatch> = builder.build().unwrap().map(Result::unwrap).collect();
    concat_batches(&schema, &batches).unwrap()
}

pub(crate) fn entity(name: &str, join_key: &str, value_type: ValueType) -> Entity {
    Entity { name: name.into(), join_key: join_key.into(), value_type, about: About::default() }
}

pub(crate) fn view<const N: usize>(name: &str, entity: &str, source: &str, features: [(&str, ValueType); N]) -> FeatureView {
    FeatureView {
        name: name.into(),
        entities: vec![entity.into()],
        source: source.into(),
        ttl: Span::from_seconds(2 * 3_600),
        schema: features.map(|(name, value_type)| FeatureSchema::new(name, value_type)).to_vec(),
        online: true,
        available_after: Span::ZERO,
        availability: Availability::Event,
        audience: Audience::Server,
        group: None,
        retain: Span::ZERO,
        lateness: Span::ZERO,
        about: About::default(),
    }
}

pub(crate) fn source(name: &str, path: &str, format: Option<SourceFormat>) -> Source {
    Source {
        name: name.into(),
        path: path.into(),
        format,
        timestamp_field: "event_timestamp".into(),
        created_timestamp_column: None,
        field_mapping: BTreeMap::from([("rate".to_owned(), "conv_rate".to_owned())]),
        about: About::default(),
    }
}

/// Two views of drivers, in the files `stats.parquet` and `profile.csv`, one of customers, and services.
pub(crate) fn definitions() -> Definitions {
    let project = |view: &str, alias: Option<&str>, map: &[(&str, &str)], features: &[&str]| Projection {
        view: view.into(),
        alias: alias.map(Into::into),
        join_key_map: map.iter().map(|(key, column)| ((*key).to_owned(), (*column).to_owned())).collect(),
        features: features.iter().map(|feature| (*feature).to_owned()).collect(),
    };
    let service = |name: &str, projections, request_sources: &[&str]| FeatureService {
        name: name.into(),
        projections,
        request_sources: request_sources.iter().map(|name| (*name).to_owned()).collect(),
        about: About::default(),
    };
    Definitions {
        project: "test".into(),
        entities: vec![entity("customer", "customer_id", ValueType::String), entity("driver", "driver_id", ValueType::Int64)],
        sources: vec![
            source("customers", "customers.parquet", None),
            source("profile", "profile.csv", None),
            source("stats", "stats.parquet", None),
        ],
        request_sources: vec![RequestSource {
            name: "trip".into(),
            schema: vec![FeatureSchema::new("distance", ValueType::Float64)],
            about: About::default(),
        }],
        on_demand_feature_views: vec![],
        feature_views: vec![
            view("customer_profile", "customer", "customers", [("city", ValueType::String)]),
            view("driver_profile", "driver", "profile", [("age", ValueType::Int64), ("city", ValueType::String)]),
            view("driver_stats", "driver", "stats", [("conv_rate", ValueType::Float64), ("trips", ValueType::Int64)]),
        ],
        feature_services: vec![
            service(
                "pair",
                vec![
                    project("driver_stats", Some("first"), &[("driver_id", "first_driver")], &["trips"]),
                    project("driver_stats", Some("second"), &[("driver_id", "second_driver")], &["trips"]),
                ],
                &[],
            ),
            service("trips_v1", vec![project("driver_stats", None, &[], &["conv_rate", "trips"])], &["trip"]),
        ],
    }
}

/// The source of `driver_stats`: driver 1 at 10:00 and 11:00, driver 2 at 09:00.
pub(crate) fn stats() -> RecordBatch {
    batch([
        ("driver_id", ints([Some(1), Some(1), Some(2)])),
        ("event_timestamp", times([NOON - 2 * HOUR, NOON - HOUR, NOON - 3 * HOUR])),
        ("rate", floats([Some(0.1), None, Some(0.3)])),
        ("trips", ints([Some(10), Some(11), Some(20)])),
    ])
}

/// The source of `driver_profile`.
pub(crate) const PROFILE: &str =
    "driver_id,event_timestamp,age,city\n1,2026-11-23T11:30:00Z,41,Haifa\n2,2026-11-23 13:45:00+02:00,,\"Beirut, old town\"\n";
