//! A replica's keys as files, to load into any key-value store: `head`, `m/SNAPSHOT` and `p/SEGMENT/TABLE/BUCKET`.
//!
//!     cargo run --release -p mezze-snapshot --example keys -- --entities 100000 --features 10 --page-bytes 8192 --out DIR
//!
//! One view `activity` of one entity `user_id`, 0 to the number of entities less 1, with features `f0`, `f1` and so on: counts,
//! flags, amounts, categories and ratios in turn; and a service `everything`. Prints what it wrote as JSON.
#![expect(clippy::print_stdout, reason = "printing what it wrote is what it is for")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use mezze_core::{PageKey, SegmentIndex, Timestamp};
use mezze_model::Definitions;
use mezze_replica::{Origin, Store};
use mezze_snapshot::{Materialize, ViewRows};

type Failure = Box<dyn std::error::Error>;

struct Arguments {
    entities: usize,
    features: usize,
    page_bytes: usize,
    out: PathBuf,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut arguments = Self { entities: 100_000, features: 10, page_bytes: 16 << 10, out: PathBuf::new() };
        while let Some(name) = words.next() {
            let value = words.next().ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--entities" => arguments.entities = value.parse()?,
                "--features" => arguments.features = value.parse()?,
                "--page-bytes" => arguments.page_bytes = value.parse()?,
                "--out" => arguments.out = value.into(),
                _ => return Err(format!("unknown argument {name}").into()),
            }
        }
        if arguments.out.as_os_str().is_empty() {
            return Err("--out DIR is needed".into());
        }
        Ok(arguments)
    }
}

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

const TYPES: [&str; 5] = ["int64", "bool", "float64", "string", "float64"];

fn column(number: usize, rows: usize, random: &mut Random) -> ArrayRef {
    match number % TYPES.len() {
        0 => Arc::new((0..rows).map(|_| Some(random.count(3.0))).collect::<Int64Array>()),
        1 => Arc::new((0..rows).map(|_| Some(random.unit() < 0.2)).collect::<BooleanArray>()),
        2 => Arc::new((0..rows).map(|_| Some((random.unit() * 100.0).round() / 100.0)).collect::<Float64Array>()),
        3 => Arc::new((0..rows).map(|_| Some(format!("category {}", random.next() % 40))).collect::<StringArray>()),
        _ => Arc::new((0..rows).map(|_| Some(random.unit())).collect::<Float64Array>()),
    }
}

fn rows(entities: usize, features: usize) -> Result<ViewRows, Failure> {
    let mut random = Random(7);
    let same = |value: i64| -> ArrayRef { Arc::new(Int64Array::from(vec![value; entities])) };
    let users: ArrayRef = Arc::new((0_i64..).take(entities).map(Some).collect::<Int64Array>());
    let mut columns = vec![
        ("event_timestamp".to_owned(), same(1_767_225_600_000_000_000)),
        ("created_timestamp".to_owned(), same(1_767_229_200_000_000_000)),
        ("user_id".to_owned(), users),
    ];
    columns.extend((0..features).map(|number| (format!("f{number}"), column(number, entities, &mut random))));
    Ok(ViewRows { view: "activity".into(), batches: vec![RecordBatch::try_from_iter(columns)?] })
}

fn definitions(folder: &Path, features: usize) -> Result<Definitions, Failure> {
    let schema: Vec<String> =
        (0..features).map(|number| format!("{{ name: f{number}, dtype: {} }}", TYPES[number % TYPES.len()])).collect();
    let text = format!(
        "entities: [{{ name: user, join_keys: [user_id], value_type: int64 }}]\n\
         sources: [{{ name: s, path: s.parquet, timestamp_field: t }}]\n\
         feature_views: [{{ name: activity, entities: [user], source: s, schema: [{}] }}]\n\
         feature_services: [{{ name: everything, features: [activity] }}]\n",
        schema.join(", ")
    );
    fs::create_dir_all(folder.join("features"))?;
    fs::write(folder.join("feature_store.yaml"), "project: bench\nregistry: r\nonline_store: { type: directory, path: o }\n")?;
    fs::write(folder.join("features/all.yaml"), text)?;
    Ok(mezze_model::load(folder, &|_| None)?.definitions)
}

/// What a folder's copy in a key-value store has: head and manifests as they are, and the pages of segments one by one.
fn write_keys(origin: &Path, out: &Path) -> Result<(u64, u64), Failure> {
    let (mut pages, mut page_bytes) = (0, 0);
    let write = |key: &str, bytes: &[u8]| -> Result<(), Failure> {
        let path = out.join(key);
        fs::create_dir_all(path.parent().ok_or("a key has a folder")?)?;
        Ok(fs::write(path, bytes)?)
    };
    let mut folders = vec![origin.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let key = path.strip_prefix(origin)?.to_string_lossy().into_owned();
            if key == "head" || key.starts_with("m/") {
                write(&key, &fs::read(&path)?)?;
            } else if key.starts_with("s/") {
                let file = fs::read(&path)?;
                let index = SegmentIndex::decode(&file[file.len() - SegmentIndex::tail_bytes(&file)? as usize..])?;
                for bucket in 0..index.bucket_count() {
                    let range = index.page_range(bucket).ok_or("a segment has its pages")?;
                    let page = &file[range.start as usize..range.end as usize];
                    write(&PageKey::new(index.segment, index.table, bucket).to_string(), page)?;
                    pages += 1;
                    page_bytes += page.len() as u64;
                }
            }
        }
    }
    Ok((pages, page_bytes))
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    let work = tempfile::tempdir()?;
    let definitions = definitions(work.path(), arguments.features)?;
    let folder = work.path().join("origin");
    let origin = Origin::new(Store::folder(&folder)?);
    let mut run = Materialize::new(&origin, &definitions, Timestamp::from_seconds(1_767_229_200));
    run.page_bytes_max = arguments.page_bytes;
    run.run(vec![rows(arguments.entities, arguments.features)?], &run.state().await?).await?;
    let (pages, page_bytes) = write_keys(&folder, &arguments.out)?;
    println!("{{\"entities\": {}, \"pages\": {pages}, \"page_bytes\": {page_bytes}}}", arguments.entities);
    Ok(())
}
