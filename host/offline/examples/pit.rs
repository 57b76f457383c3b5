//! Joins a generated data set and writes the result: `pit FOLDER OUT [THREADS]`.
//!
//! The folder holds `spine.parquet` (the entity rows), a Parquet file for each view, and `meta.json`, which lists for each
//! view its name, keys, ttl in seconds, and features as pairs of name and type.

use std::error::Error;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::json::ReaderBuilder;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use futures::StreamExt;
use mezze_core::Span;
use mezze_offline::pit::{PitExec, PitFeature, PitFile, PitKey, PitOptions, PitView};
use object_store::local::LocalFileSystem;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, true)))
}

/// Reads `meta.json`.
fn views(folder: &Path) -> Result<Vec<PitView>> {
    let view = DataType::Struct(
        vec![
            Field::new("name", DataType::Utf8, false),
            Field::new("keys", list(DataType::Utf8), false),
            Field::new("ttl_s", DataType::Int64, false),
            Field::new("features", list(list(DataType::Utf8)), false),
        ]
        .into(),
    );
    let schema = Arc::new(Schema::new(vec![Field::new("views", list(view), false)]));
    let input = std::io::BufReader::new(File::open(folder.join("meta.json"))?);
    let meta: RecordBatch = ReaderBuilder::new(schema).build(input)?.next().ok_or("meta.json is empty")??;
    let all: &ListArray = meta.column(0).as_list();
    let views = all.value(0);
    let views = views.as_struct();
    let column = |name: &str| -> Result<&ArrayRef> { Ok(views.column_by_name(name).ok_or("a view lacks a field")?) };
    let texts = |array: ArrayRef| -> Vec<String> { array.as_string::<i32>().iter().flatten().map(str::to_owned).collect() };
    let mut found = Vec::new();
    for row in 0..views.len() {
        let name = column("name")?.as_string::<i32>().value(row).to_owned();
        let path: PathBuf = folder.join(format!("{name}.parquet")).canonicalize()?;
        let pairs = column("features")?.as_list::<i32>().value(row);
        let mut features = Vec::new();
        for pair in pairs.as_list::<i32>().iter().flatten() {
            let [feature, kind] = <[String; 2]>::try_from(texts(pair)).map_err(|_| "a feature is not a pair")?;
            let data_type = match kind.as_str() {
                "double" => DataType::Float64,
                "int64" => DataType::Int64,
                _ => DataType::Utf8,
            };
            features.push(PitFeature { source_column: feature.clone(), output_name: feature, data_type });
        }
        let keys = texts(column("keys")?.as_list::<i32>().value(row));
        let ttl = column("ttl_s")?.as_primitive::<Int64Type>().value(row);
        found.push(PitView {
            files: vec![PitFile {
                part: None,
                store: Arc::new(LocalFileSystem::new()),
                location: object_store::path::Path::from_absolute_path(&path)?,
                size: std::fs::metadata(&path)?.len(),
                local: Some(path),
                constants: Vec::new(),
            }],
            name,
            keys: keys.into_iter().map(|key| PitKey { source_column: key.clone(), entity_column: key }).collect(),
            timestamp_column: "event_timestamp".to_owned(),
            created_column: Some("created".to_owned()),
            ttl: Span::from_nanos(ttl * 1_000_000_000),
            available_after: Span::from_nanos(0),
            available_created: false,
            features,
        });
    }
    Ok(found)
}

async fn join(folder: &Path, out: &Path, threads: usize) -> Result<usize> {
    let session = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
    let spine = folder.join("spine.parquet");
    let spine = spine.to_str().ok_or("the folder's name is not text")?;
    let input = session.read_parquet(spine, ParquetReadOptions::default()).await?.create_physical_plan().await?;
    let options = PitOptions {
        timestamp_column: "event_timestamp".to_owned(),
        filter_by_created: false,
        threads,
        memory: None,
        explain: false,
    };
    let plan = Arc::new(PitExec::try_new(input, views(folder)?, options)?);
    let mut batches = datafusion::physical_plan::execute_stream(plan, session.task_ctx())?;
    // Dictionaries pay for strings only.
    let mut properties = WriterProperties::builder().set_compression(Compression::SNAPPY).set_dictionary_enabled(false);
    for field in batches.schema().fields() {
        if field.data_type() == &DataType::Utf8 {
            properties = properties.set_column_dictionary_enabled(ColumnPath::from(field.name().as_str()), true);
        }
    }
    let options = ArrowWriterOptions::new().with_properties(properties.build()).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(File::create(out)?, batches.schema(), options)?;
    let mut rows = 0;
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        rows += batch.num_rows();
        writer.write(&batch)?;
    }
    writer.close()?;
    Ok(rows)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, out, rest @ ..] = arguments.as_slice() else { return Err("usage: pit FOLDER OUT [THREADS]".into()) };
    let threads = rest.first().map_or(Ok(2), |threads| threads.parse())?;
    join(Path::new(folder), Path::new(out), threads).await?;
    Ok(())
}
