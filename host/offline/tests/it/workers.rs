//! Work that is cut into tasks: whatever the cut, and however often a task is begun anew, what comes out is the same.

use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray, TimestampMillisecondArray};
use arrow::compute::{SortColumn, concat_batches, lexsort_to_indices, take_record_batch};
use futures::StreamExt;
use mezze_core::Timestamp;
use mezze_model::{Availability, Definitions};
use mezze_offline::pit::RowSink;
use mezze_offline::{
    HistoricalRequest, NewestOptions, OfflineError, Task, TaskLimits, TaskOutput, Whole, Workers, get_historical_features,
    newest_rows,
};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use proptest::prelude::*;
use tempfile::TempDir;

use crate::common::{HOUR, NOON, definitions, folder, read_parquet, write_parquet};
use crate::historical::{labels, request};

/// Does tasks in this process, and begins each anew when it has given some of its rows.
#[derive(Debug)]
struct Unlucky(TaskLimits);

#[async_trait::async_trait]
impl Workers for Unlucky {
    async fn run(&self, task: &Task, output: &mut dyn TaskOutput) -> Result<(), OfflineError> {
        for lucky in [false, true] {
            let mut stream = Arc::new(task.clone()).stream(1, None, Arc::default())?;
            let mut whole = Whole::new();
            output.begin()?;
            while let Some(batch) = stream.next().await {
                let rows = whole.take(batch?)?;
                if !lucky && whole.has_ended() {
                    break;
                }
                output.take(rows)?;
            }
            assert!(whole.has_ended());
        }
        Ok(())
    }

    fn limits(&self) -> TaskLimits {
        self.0
    }

    fn expect(&self, _: usize) {}
}

#[derive(Default)]
struct Rows(Mutex<Vec<RecordBatch>>);

impl RowSink for Rows {
    fn take(&self, _: usize, batch: RecordBatch) -> bool {
        self.0.lock().unwrap().push(batch);
        true
    }
}

/// Rows of `driver_stats`: driver, hours before noon, creation time.
type Row = (Option<i64>, Option<i64>, Option<i64>);

fn repo(files: &[Vec<Row>], labels: &[(Option<i64>, Option<i64>)]) -> TempDir {
    let folder = folder();
    std::fs::create_dir(folder.path().join("stats.parquet")).unwrap();
    let mut number = 0;
    for (name, rows) in files.iter().enumerate() {
        let time = |hours: &Option<i64>| hours.map(|hours| NOON - hours * HOUR);
        let times = TimestampMicrosecondArray::from_iter(rows.iter().map(|(_, hours, _)| time(hours))).with_timezone("UTC");
        let created = TimestampMillisecondArray::from_iter(rows.iter().map(|(_, _, created)| *created)).with_timezone("UTC");
        let trips = Int64Array::from_iter(rows.iter().map(|_| {
            number += 1;
            (number % 7 != 0).then_some(number)
        }));
        let rates = arrow::array::Float64Array::from_iter(rows.iter().enumerate().map(|(row, _)| Some(row as f64)));
        let columns: [(&str, ArrayRef); 5] = [
            ("driver_id", Arc::new(Int64Array::from_iter(rows.iter().map(|(driver, _, _)| *driver)))),
            ("event_timestamp", Arc::new(times)),
            ("created", Arc::new(created)),
            ("rate", Arc::new(rates)),
            ("trips", Arc::new(trips)),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap();
        let path = folder.path().join(format!("stats.parquet/{name}.parquet"));
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(3)).build();
        let mut writer = ArrowWriter::try_new(std::fs::File::create(path).unwrap(), batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }
    let times = labels.iter().map(|(_, hours)| hours.map(|hours| NOON - hours * HOUR));
    let columns: [(&str, ArrayRef); 2] = [
        ("driver_id", Arc::new(Int64Array::from_iter(labels.iter().map(|(driver, _)| *driver)))),
        ("event_timestamp", Arc::new(TimestampMicrosecondArray::from_iter(times).with_timezone("UTC"))),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap();
    write_parquet(&folder, "labels.parquet", &batch);
    folder
}

fn with_created(availability: Availability) -> Definitions {
    let mut definitions = definitions();
    for source in &mut definitions.sources {
        source.created_timestamp_column = Some("created".to_owned());
    }
    for view in &mut definitions.feature_views {
        view.availability = availability;
    }
    definitions
}

async fn newest(folder: &TempDir, definitions: &Definitions, workers: Option<&dyn Workers>) -> (u64, String) {
    let view = definitions.feature_view("driver_stats").unwrap();
    let (start, end) = (Some(Timestamp::from_nanos((NOON - 9 * HOUR) * 1000)), Timestamp::from_nanos((NOON - HOUR) * 1000));
    let options = NewestOptions { start, end, threads: 2, memory: None };
    let rows = Arc::new(Rows::default());
    let sink = Arc::clone(&rows) as Arc<dyn RowSink>;
    let read = newest_rows(folder.path(), definitions, view, &|_, _| true, options, workers, sink).await.unwrap();
    let batches = rows.0.lock().unwrap();
    let Some(first) = batches.first() else { return (read.report.rows, String::new()) };
    let all = concat_batches(&first.schema(), batches.iter()).unwrap();
    let key = SortColumn { values: Arc::clone(all.column_by_name("driver_id").unwrap()), options: None };
    let order = lexsort_to_indices(&[key], None).unwrap();
    let shown = arrow::util::pretty::pretty_format_batches(&[take_record_batch(&all, &order).unwrap()]).unwrap();
    (read.report.rows, shown.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn any_cut_gives_what_one_process_gives(
        files in prop::collection::vec(
            prop::collection::vec((prop::option::weighted(0.9, 0..4_i64), prop::option::weighted(0.9, 0..12_i64),
                prop::option::weighted(0.8, 0..3_i64)), 1..12), 1..5),
        entities in prop::collection::vec((prop::option::weighted(0.9, 0..5_i64), prop::option::weighted(0.9, 0..12_i64)), 0..20),
        rows in 1..9_usize,
        bytes in prop::sample::select(vec![400_u64, 900, 1_500, 5_000, u64::MAX]),
        filter_by_created_timestamp: bool,
        availability in prop::sample::select(vec![Availability::Event, Availability::Created]),
    ) {
        let folder = repo(&files, &entities);
        let definitions = with_created(availability);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let workers: Arc<dyn Workers> = Arc::new(Unlucky(TaskLimits { rows, bytes, at_once: 3 }));
            let mut made = Vec::new();
            for workers in [None, Some(Arc::clone(&workers))] {
                let features = ["driver_stats:trips", "driver_stats:conv_rate"];
                let request = HistoricalRequest {
                    workers, filter_by_created_timestamp, folder: folder.path().to_owned(), ..request(labels(), &features)
                };
                let summary = get_historical_features(folder.path(), &definitions, request).await.unwrap();
                made.push((read_parquet(&summary.output), summary.rows, summary.views));
            }
            assert_eq!(made[0], made[1]);
            let local = newest(&folder, &definitions, None).await;
            assert_eq!(local, newest(&folder, &definitions, Some(&*workers)).await);
        });
    }
}

#[tokio::test]
async fn the_memory_of_a_run_bounds_what_is_under_way_and_not_what_comes_out() {
    let files: Vec<Vec<Row>> =
        (0..3).map(|file| (0..900).map(|row| (Some(row % 50), Some(row % 11), Some(file))).collect()).collect();
    let entities: Vec<_> = (0..5000).map(|row| (Some(row % 60), Some(row % 7))).collect();
    let folder = repo(&files, &entities);
    let definitions = with_created(Availability::Event);
    let mut made = Vec::new();
    for (workers, memory) in [(false, None), (true, Some(1 << 20)), (true, None)] {
        let limits = TaskLimits { rows: 4_000, bytes: 4_000, at_once: 4 };
        let workers = workers.then(|| Arc::new(Unlucky(limits)) as Arc<dyn Workers>);
        let request =
            HistoricalRequest { workers, memory, folder: folder.path().to_owned(), ..request(labels(), &["driver_stats:trips"]) };
        let summary = get_historical_features(folder.path(), &definitions, request).await.unwrap();
        made.push((read_parquet(&summary.output), summary.chunks));
    }
    assert_eq!(made[0].0, made[1].0);
    assert_eq!(made[0].0, made[2].0);
    assert_eq!((made[1].1, made[2].1), (5, 2));
}

#[tokio::test]
async fn a_value_that_does_not_fit_matters_only_where_it_counts() {
    let rows: Vec<Row> = (0..8).map(|row| (Some(1), Some(10 - row), None)).collect();
    let folder = repo(&[rows], &[(Some(1), Some(0)), (Some(1), Some(9))]);
    let mut definitions = with_created(Availability::Event);
    for view in &mut definitions.feature_views {
        view.ttl = mezze_core::Span::ZERO;
        for feature in view.schema.iter_mut().filter(|feature| feature.name == "trips") {
            feature.value_type = mezze_core::ValueType::Int32;
        }
    }
    // The row at ten hours before noon holds what no int32 does; the one at three hours, which counts at noon, does not.
    let path = folder.path().join("stats.parquet/0.parquet");
    let batch = read_parquet(&path);
    let trips: ArrayRef = Arc::new(Int64Array::from_iter_values((0..8).map(|row| if row == 0 { i64::MAX } else { row })));
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
        (field.name().clone(), if field.name() == "trips" { Arc::clone(&trips) } else { Arc::clone(column) }, true)
    });
    let batch = RecordBatch::try_from_iter_with_nullable(columns.collect::<Vec<_>>()).unwrap();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(1)).build();
    let mut writer = ArrowWriter::try_new(std::fs::File::create(&path).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    for bytes in [u64::MAX, 300] {
        let workers: Arc<dyn Workers> = Arc::new(Unlucky(TaskLimits { rows: 10, bytes, at_once: 2 }));
        let mut made = Vec::new();
        for workers in [None, Some(workers)] {
            let request =
                HistoricalRequest { workers, folder: folder.path().to_owned(), ..request(labels(), &["driver_stats:trips"]) };
            let summary = get_historical_features(folder.path(), &definitions, request).await.unwrap();
            made.push(read_parquet(&summary.output));
        }
        assert_eq!(made[0], made[1]);
    }
}
