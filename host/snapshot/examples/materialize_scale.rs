//! A repository with as many rows as are asked for, to see how `mezze materialize` takes large sources.
//!
//!     cargo run --release -p mezze-snapshot --example materialize_scale -- make FOLDER ROWS ENTITIES
//!     mezze --chdir FOLDER apply
//!     mezze --chdir FOLDER materialize 2020-01-01 2030-01-01 --memory 1GB --output json
//!     cargo run --release -p mezze-snapshot --example materialize_scale -- decode FOLDER
//!
//! The view has ten features: counts, flags, ratios, categories, doubles. Rows come in order of time, five million a file; a key
//! is any of the entities. `decode` reads the columns that `materialize` does, once, and does nothing with them: the least that
//! anything could take.
#![expect(clippy::print_stdout, reason = "printing its figures is what it is for")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const FILE_ROWS: u64 = 5_000_000;
const BATCH_ROWS: u64 = 65_536;
const START_MICROS: i64 = 1_767_225_600_000_000;

/// A number that depends on a row and a column, evenly spread over 64 bits (the finaliser of SplitMix64).
fn spread(row: u64, column: u64) -> u64 {
    let mut value = row.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(column.wrapping_mul(0xD1B5_4A32_D192_ED03));
    value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

fn unit(value: u64) -> f64 {
    (value >> 11) as f64 / (1_u64 << 53) as f64
}

fn batch(first: u64, rows: u64, entities: u64) -> Result<RecordBatch, Failure> {
    let at = |row: u64| START_MICROS + row as i64 * 10;
    let each = || first..first + rows;
    let mut columns: Vec<(String, ArrayRef)> = vec![
        ("user_id".into(), Arc::new(Int64Array::from_iter_values(each().map(|row| (spread(row, 0) % entities) as i64)))),
        ("event_timestamp".into(), Arc::new(TimestampMicrosecondArray::from_iter_values(each().map(at)).with_timezone("UTC"))),
        (
            "created".into(),
            Arc::new(TimestampMicrosecondArray::from_iter_values(each().map(|row| at(row) + 60_000_000)).with_timezone("UTC")),
        ),
    ];
    for number in 0..10_u64 {
        let value = move |row: u64| spread(row, number + 1);
        let column: ArrayRef = match number % 5 {
            0 => Arc::new(Int64Array::from_iter_values(each().map(|row| (-(1.0 - unit(value(row))).ln() * 3.0) as i64))),
            1 => Arc::new(each().map(|row| Some(value(row) % 5 == 0)).collect::<BooleanArray>()),
            2 => Arc::new(Float64Array::from_iter_values(each().map(|row| (unit(value(row)) * 100.0).round() / 100.0))),
            3 => Arc::new(StringArray::from_iter_values(each().map(|row| format!("category {}", value(row) % 40)))),
            _ => Arc::new(Int32Array::from_iter_values(each().map(|row| (value(row) % 200) as i32))),
        };
        columns.push((format!("f{number}"), column));
    }
    Ok(RecordBatch::try_from_iter(columns)?)
}

/// Writes files of rows, two at a time.
fn make(folder: &Path, rows: u64, entities: u64) -> Result<(), Failure> {
    fs::create_dir_all(folder.join("features"))?;
    fs::create_dir_all(folder.join("data"))?;
    fs::write(
        folder.join("feature_store.yaml"),
        "project: scale\nregistry: registry\nonline_store: { type: directory, path: origin }\n",
    )?;
    let types = ["int64", "bool", "float64", "string", "int32"];
    let schema: Vec<String> = (0..10).map(|number| format!("{{ name: f{number}, dtype: {} }}", types[number % 5])).collect();
    fs::write(
        folder.join("features/all.yaml"),
        format!(
            "entities: [{{ name: user, join_keys: [user_id] }}]\nsources:\n  - {{ name: activity, path: data, format: parquet, \
             timestamp_field: event_timestamp, created_timestamp_column: created }}\nfeature_views:\n  - {{ name: activity, \
             entities: [user], source: activity, schema: [{}] }}\n",
            schema.join(", ")
        ),
    )?;
    let next = AtomicU64::new(0);
    let work = || -> Result<(), Failure> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let first = number * FILE_ROWS;
            if first >= rows {
                return Ok(());
            }
            let last = (first + FILE_ROWS).min(rows);
            let path = folder.join(format!("data/{number:05}.parquet"));
            let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
            let mut writer = ArrowWriter::try_new(File::create(path)?, batch(0, 0, entities)?.schema(), Some(properties))?;
            let mut start = first;
            while start < last {
                let count = BATCH_ROWS.min(last - start);
                writer.write(&batch(start, count, entities)?)?;
                start += count;
            }
            writer.close()?;
        }
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(work);
        work()?;
        other.join().map_err(|_| "a thread panicked")?
    })?;
    println!("{rows} rows of {entities} entities in {}", folder.display());
    Ok(())
}

/// Reads all columns of all files, two files at a time.
fn decode(folder: &Path) -> Result<(), Failure> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder.join("data"))?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    files.sort();
    let (next, rows) = (AtomicUsize::new(0), AtomicU64::new(0));
    let work = || -> Result<(), Failure> {
        while let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            for batch in ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?.with_batch_size(8192).build()? {
                rows.fetch_add(std::hint::black_box(batch?).num_rows() as u64, Ordering::Relaxed);
            }
        }
        Ok(())
    };
    let start = Instant::now();
    std::thread::scope(|scope| {
        let other = scope.spawn(work);
        work()?;
        other.join().map_err(|_| "a thread panicked")?
    })?;
    let (rows, seconds) = (rows.into_inner(), start.elapsed().as_secs_f64());
    println!("{rows} rows decoded in {seconds:.2} s by 2 threads: {:.2} M rows/s", rows as f64 / seconds / 1e6);
    Ok(())
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["make", folder, rows, entities] => make(Path::new(folder), rows.parse()?, entities.parse()?),
        ["decode", folder] => decode(Path::new(folder)),
        _ => Err("usage: materialize_scale make FOLDER ROWS ENTITIES | decode FOLDER".into()),
    }
}
