//! How fast rows become a snapshot, and how small: Parquet files to synced files.
//!
//!     cargo run --release -p mezze-snapshot --example materialize -- [ENTITIES] [THREADS]
//!
//! Three views of one table, ten features each: `noise` (random doubles, integers and floats), `daily` (a realistic batch:
//! counts, flags, ratios, categories) and `mixed`. Prints source rows a second, and for each view alone the bytes a row beside
//! those of the same rows in Parquet with zstd.
#![expect(clippy::print_stdout, reason = "printing its figures is what it is for")]

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{
    ArrayRef, BooleanArray, Float32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use mezze_core::Timestamp;
use mezze_model::Definitions;
use mezze_offline::pit::RowSink;
use mezze_offline::{NewestOptions, newest_rows};
use mezze_replica::{Origin, Store};
use mezze_snapshot::{Materialize, Staging};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

type Failure = Box<dyn std::error::Error>;

/// Knuth's linear congruential generator, high bits.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 11
    }

    fn unit(&mut self) -> f64 {
        self.next() as f64 / (1_u64 << 53) as f64
    }

    /// Few are large, as counts are.
    fn count(&mut self, mean: f64) -> i64 {
        (-(1.0 - self.unit()).ln() * mean) as i64
    }
}

const VIEWS: [&str; 3] = ["noise", "daily", "mixed"];

fn features(view: &str, rows: usize, random: &mut Random) -> Vec<ArrayRef> {
    (0..10)
        .map(|number| -> ArrayRef {
            let mut doubles = |make: &dyn Fn(&mut Random) -> f64| -> ArrayRef {
                Arc::new((0..rows).map(|_| Some(make(random))).collect::<Float64Array>())
            };
            match (view, number % 5) {
                ("noise", 0 | 3) => doubles(&|random| random.unit()),
                ("noise", 1 | 4) => Arc::new((0..rows).map(|_| Some((random.next() << 11) as i64)).collect::<Int64Array>()),
                ("noise", _) => Arc::new((0..rows).map(|_| Some(random.unit() as f32)).collect::<Float32Array>()),
                (_, 0) => Arc::new((0..rows).map(|_| Some(random.count(3.0))).collect::<Int64Array>()),
                (_, 1) => Arc::new((0..rows).map(|_| Some(random.unit() < 0.2)).collect::<BooleanArray>()),
                (_, 2) => doubles(&|random| (random.unit() * 100.0).round() / 100.0),
                (_, 3) => Arc::new((0..rows).map(|_| Some(format!("category {}", random.next() % 40))).collect::<StringArray>()),
                ("daily", _) => Arc::new((0..rows).map(|_| Some(random.count(40.0) as i32)).collect::<Int32Array>()),
                _ => doubles(&|random| random.unit()),
            }
        })
        .collect()
}

fn write(path: &Path, view: &str, rows: usize, random: &mut Random) -> Result<u64, Failure> {
    // Every key once, in an order that has nothing to do with that of hashes.
    let step = 7_919_usize;
    let keys: Int64Array = (0..rows).map(|row| Some(((row * step) % rows) as i64)).collect();
    let at = |micros: i64| -> ArrayRef { Arc::new(TimestampMicrosecondArray::from(vec![micros; rows]).with_timezone("UTC")) };
    let mut columns: Vec<(String, ArrayRef)> = vec![
        ("user_id".into(), Arc::new(keys)),
        ("event_timestamp".into(), at(1_767_225_600_000_000)),
        ("created".into(), at(1_767_229_200_000_000)),
    ];
    columns.extend((0..).zip(features(view, rows, random)).map(|(number, column)| (format!("{view}_{number}"), column)));
    let batch = RecordBatch::try_from_iter(columns)?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?)).build();
    let mut writer = ArrowWriter::try_new(File::create(path)?, batch.schema(), Some(properties))?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(fs::metadata(path)?.len())
}

/// Definitions of these views, in one table.
fn definitions(folder: &Path, views: &[&str]) -> Result<Definitions, Failure> {
    let repo = folder.join(views.join("-"));
    fs::create_dir_all(repo.join("features"))?;
    fs::write(repo.join("feature_store.yaml"), "project: p\nregistry: r\nonline_store: { type: directory, path: o }\n")?;
    let mut text = "entities: [{ name: user, join_keys: [user_id] }]\nsources:\n".to_owned();
    for view in views {
        text += &format!(
            "  - {{ name: {view}, path: {view}.parquet, timestamp_field: event_timestamp, created_timestamp_column: created }}\n"
        );
    }
    text += "feature_views:\n";
    for view in views {
        let types = match *view {
            "noise" => ["float64", "int64", "float32", "float64", "int64"],
            "daily" => ["int64", "bool", "float64", "string", "int32"],
            _ => ["int64", "bool", "float64", "string", "float64"],
        };
        let schema: Vec<String> =
            (0..10).map(|number| format!("{{ name: {view}_{number}, dtype: {} }}", types[number % 5])).collect();
        text += &format!("  - {{ name: {view}, entities: [user], source: {view}, schema: [{}] }}\n", schema.join(", "));
    }
    fs::write(repo.join("features/all.yaml"), text)?;
    Ok(mezze_model::load(&repo, &|_| None)?.definitions)
}

struct Sink(Staging);

impl RowSink for Sink {
    fn take(&self, _: usize, batch: RecordBatch) -> bool {
        self.0.push(&batch)
    }
}

/// Seconds, and bytes of the segment's file.
async fn run(folder: &Path, views: &[&str], threads: usize) -> Result<(f64, u64), Failure> {
    let definitions = definitions(folder, views)?;
    let store = Store::folder(&folder.join(format!("origin-{}", views.join("-"))))?;
    let origin = Origin::new(store);
    let start = Instant::now();
    let mut run = Materialize::new(&origin, &definitions, Timestamp::EPOCH);
    run.threads = threads;
    let area = run.staging();
    let mut rows = Vec::new();
    for view in &definitions.feature_views {
        let end = Timestamp::from_seconds(2_000_000_000);
        let options = NewestOptions { start: None, end, threads, memory: None };
        let sink = Arc::new(Sink(area.stage(&view.name, 1).ok_or("no table has the view")?));
        newest_rows(folder, &definitions, view, &|_, _| true, options, None, Arc::clone(&sink) as Arc<dyn RowSink>).await?;
        rows.push(sink.0.finish()?);
    }
    let report = run.run_staged(rows, &run.state().await?).await?;
    Ok((start.elapsed().as_secs_f64(), report.tables.iter().map(|table| table.bytes_written).sum()))
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let rows = arguments.next().transpose()?.unwrap_or(1_000_000);
    let threads = arguments.next().transpose()?.unwrap_or(2);
    let folder = tempfile::tempdir()?;
    let mut random = Random(7);
    let mut parquet = Vec::new();
    for view in VIEWS {
        parquet.push(write(&folder.path().join(format!("{view}.parquet")), view, rows, &mut random)?);
    }
    let (seconds, bytes) = run(folder.path(), &VIEWS, threads).await?;
    let source_rows = rows * VIEWS.len();
    println!(
        "{source_rows} source rows, {rows} entities, {threads} threads: {seconds:.2} s, {:.2} M rows/s, {:.1} bytes an entity",
        source_rows as f64 / seconds / 1e6,
        bytes as f64 / rows as f64
    );
    println!("view\tbytes a row\tParquet with zstd\tratio");
    for (view, parquet) in VIEWS.iter().zip(parquet) {
        let (_, bytes) = run(folder.path(), &[view], threads).await?;
        let a_row = |bytes: u64| bytes as f64 / rows as f64;
        println!("{view}\t{:.2}\t{:.2}\t{:.2}", a_row(bytes), a_row(parquet), bytes as f64 / parquet as f64);
    }
    Ok(())
}
