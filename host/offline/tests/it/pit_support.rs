//! Views in temporary Parquet files, and the join's rule by brute force.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::collect;
use mezze_core::Span;
use mezze_offline::pit::{PitExec, PitFeature, PitFile, PitKey, PitOptions, PitView};
use object_store::local::LocalFileSystem;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use tempfile::TempDir;

/// Writes a file of small row groups, of pages of two rows, with an index of them.
pub(crate) fn write(folder: &Path, name: &str, batch: &RecordBatch, group_rows: usize) -> PitFile {
    let path = folder.join(name);
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(group_rows))
        .set_data_page_row_count_limit(2)
        .set_write_batch_size(1)
        .build();
    let file = std::fs::File::create(&path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    open(&path)
}

/// A file as the join takes it.
pub(crate) fn open(path: &Path) -> PitFile {
    PitFile {
        part: None,
        store: Arc::new(LocalFileSystem::new()),
        location: object_store::path::Path::from_absolute_path(path).unwrap(),
        size: std::fs::metadata(path).unwrap().len(),
        local: Some(path.to_owned()),
        constants: Vec::new(),
    }
}

/// A view `v` of features `x` (int64) with keys of the same name on both sides and a column `ts`.
pub(crate) fn view(files: Vec<PitFile>, keys: &[&str]) -> PitView {
    PitView {
        name: "v".to_owned(),
        files,
        keys: keys.iter().map(|key| PitKey { source_column: (*key).to_owned(), entity_column: (*key).to_owned() }).collect(),
        timestamp_column: "ts".to_owned(),
        created_column: None,
        ttl: Span::from_nanos(0),
        available_after: Span::from_nanos(0),
        available_created: false,
        features: vec![PitFeature { source_column: "x".to_owned(), output_name: "x".to_owned(), data_type: DataType::Int64 }],
    }
}

/// Joins with entity rows in some partitions.
pub(crate) fn join(
    partitions: &[Vec<RecordBatch>],
    views: Vec<PitView>,
    filter_by_created: bool,
    threads: usize,
) -> Result<Vec<RecordBatch>, DataFusionError> {
    join_within(partitions, views, filter_by_created, threads, None)
}

/// [`join`] with so many bytes of memory.
pub(crate) fn join_within(
    partitions: &[Vec<RecordBatch>],
    views: Vec<PitView>,
    filter_by_created: bool,
    threads: usize,
    memory: Option<usize>,
) -> Result<Vec<RecordBatch>, DataFusionError> {
    let schema = partitions.iter().flatten().next().unwrap().schema();
    let input = MemorySourceConfig::try_new_exec(partitions, schema, None)?;
    let options = PitOptions { timestamp_column: "t".to_owned(), filter_by_created, threads, memory, explain: false };
    let plan = Arc::new(PitExec::try_new(input, views, options)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    runtime.block_on(collect(plan, Arc::new(TaskContext::default())))
}

/// The values of an int64 column.
pub(crate) fn integers(batches: &[RecordBatch], column: &str) -> Vec<Option<i64>> {
    batches.iter().flat_map(|batch| batch.column_by_name(column).unwrap().as_primitive::<Int64Type>().iter()).collect()
}

/// A feature row; `x` is its number.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) a: Option<i64>,
    pub(crate) b: Option<u8>,
    pub(crate) time: Option<i64>,
    pub(crate) created: Option<i64>,
}

/// The rule of one view, in microseconds.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) composite: bool,
    pub(crate) ttl: i64,
    pub(crate) after: i64,
    pub(crate) after_created: bool,
}

/// The names that stand for key `b`.
pub(crate) const NAMES: [&str; 4] = ["", "one", "two", "three"];

/// Columns of rows, with numbers from `first`.
pub(crate) fn batch(rows: &[Row], first: i64) -> RecordBatch {
    let times =
        |pick: fn(&Row) -> Option<i64>| -> ArrayRef { Arc::new(rows.iter().map(pick).collect::<TimestampMicrosecondArray>()) };
    let names = rows.iter().map(|row| row.b.and_then(|b| NAMES.get(usize::from(b)).copied()));
    let numbers = || first..first + rows.len() as i64;
    RecordBatch::try_from_iter_with_nullable([
        ("a", Arc::new(rows.iter().map(|row| row.a).collect::<Int64Array>()) as ArrayRef, true),
        ("b", Arc::new(names.collect::<StringArray>()), true),
        ("ts", times(|row| row.time), true),
        ("created", times(|row| row.created), true),
        ("x", Arc::new(numbers().collect::<Int64Array>()), true),
        ("s", Arc::new(numbers().map(|number| Some(format!("s{}", number % 3))).collect::<StringArray>()), true),
    ])
    .unwrap()
}

/// The number of the row that an entity row at `(a, b, t)` gets, by trying all.
pub(crate) fn oracle(rows: &[Row], rule: &Rule, filter_by_created: bool, entity: &Row) -> Option<i64> {
    let at = entity.time?;
    let eligible = rows.iter().enumerate().filter(|(_, row)| {
        let same = row.a.is_some() && row.a == entity.a && (!rule.composite || (row.b.is_some() && row.b == entity.b));
        let Some(time) = row.time else { return false };
        let base = if rule.after_created { time.max(row.created.unwrap_or(time)) } else { time };
        let known = !filter_by_created || row.created.is_some_and(|created| created <= at);
        same && known && time <= at && base + rule.after <= at && (rule.ttl == 0 || time >= at - rule.ttl)
    });
    eligible.max_by_key(|(number, row)| (row.time, row.created, *number)).map(|(number, _)| number as i64)
}

/// The entity rows' columns.
pub(crate) fn entities(rows: &[Row]) -> RecordBatch {
    let all = batch(rows, 0);
    let pick = |name: &str| Arc::clone(all.column_by_name(name).unwrap());
    RecordBatch::try_from_iter_with_nullable([
        ("n", pick("x"), true),
        ("a", pick("a"), true),
        ("b", pick("b"), true),
        ("t", pick("ts"), true),
    ])
    .unwrap()
}

/// A folder for a test's files.
pub(crate) fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// The texts of a column.
pub(crate) fn texts(batches: &[RecordBatch], column: &str) -> Vec<Option<String>> {
    let values = batches.iter().flat_map(|batch| batch.column_by_name(column).unwrap().as_string::<i32>().iter());
    values.map(|value| value.map(str::to_owned)).collect()
}

/// Rows of all batches.
pub(crate) fn count(batches: &[RecordBatch]) -> usize {
    batches.iter().map(RecordBatch::num_rows).sum::<usize>()
}

/// Whether an array has no nulls.
pub(crate) fn full(array: &dyn Array) -> bool {
    array.null_count() == 0
}
