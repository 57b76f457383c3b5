//! What publishing costs: keys, bytes, calls and reads, counted by the real planning and publishing into a store in memory that has
//! the limits of Workers KV.
//!
//!     cargo run --release -p mezze-snapshot --example publish_cost -- [ENTITIES] [FEATURES-A-VIEW]
//!
//! Three views of one entity, 1,000,000 entities and ten features a view if nothing else is said: counts, flags, amounts,
//! categories and ratios in turn. Publishes them whole; then 50 times after 0.1 % of the entities, scattered, have changed; then
//! daily batches that emit every row anew, later by a day, 1 % of it with other values. Also prints what larger snapshots take.
#![expect(clippy::print_stdout, reason = "printing its figures is what it is for")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use async_trait::async_trait;
use mezze_core::{Audience, Limits, MediaType, PAGE_BYTES_MAX_DEFAULT, PageKey, SegmentId, Span, Timestamp};
use mezze_model::Definitions;
use mezze_replica::{
    Clock, CloudflareKv, Entry, Error, Estimate, FastlyKv, KeyList, KeySize, KeyValue, ListedKey, NotDone, Origin, Publish,
    PublishReport, Reader, Replica, Store, Target, TargetLimits, Value, manifest_key,
};
use mezze_snapshot::{Materialize, ViewRows};

type Failure = Box<dyn std::error::Error>;

/// A store in memory.
#[derive(Debug)]
struct Memory {
    keys: Mutex<BTreeMap<String, Entry>>,
    limits: TargetLimits,
}

impl Memory {
    fn with<T>(&self, run: impl FnOnce(&mut BTreeMap<String, Entry>) -> T) -> T {
        run(&mut self.keys.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl KeyValue for Memory {
    fn place(&self) -> String {
        "memory".to_owned()
    }

    fn limits(&self) -> &TargetLimits {
        &self.limits
    }

    async fn read(&self, key: &str) -> Result<Option<Value>, Error> {
        Ok(self.with(|keys| keys.get(key).map(|entry| Value { bytes: entry.value.clone(), version: None })))
    }

    async fn list(&self, prefix: &str, cursor: Option<&str>) -> Result<KeyList, Error> {
        Ok(self.with(|keys| {
            let from = cursor.unwrap_or(prefix).to_owned();
            let mut found = keys.range(from..).take_while(|(key, _)| key.starts_with(prefix));
            let some = found.by_ref().take(1_000).map(|(key, entry)| ListedKey {
                key: key.clone(),
                bytes: None,
                digest: Some(entry.digest.clone()),
            });
            let keys = some.collect();
            KeyList { keys, cursor: found.next().map(|(key, _)| key.clone()) }
        }))
    }

    async fn write(&self, batch: &[Entry]) -> Result<Vec<NotDone>, Error> {
        self.with(|keys| keys.extend(batch.iter().map(|entry| (entry.key.clone(), entry.clone()))));
        Ok(Vec::new())
    }

    async fn replace(&self, entry: &Entry, _version: Option<&str>) -> Result<(), Error> {
        self.write(std::slice::from_ref(entry)).await.map(drop)
    }

    async fn delete(&self, _keys: &[String]) -> Result<Vec<NotDone>, Error> {
        Ok(Vec::new())
    }

    fn digest_of(&self, entry: &Entry) -> Option<String> {
        Some(entry.digest.clone())
    }
}

/// A clock that only moves when someone sleeps.
struct Moved(AtomicI64);

#[async_trait]
impl Clock for Moved {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.load(Ordering::Relaxed))
    }

    async fn sleep(&self, span: Span) {
        self.0.fetch_add(span.nanos(), Ordering::Relaxed);
    }
}

/// A number that these three decide.
fn mix(entity: u64, feature: u64, version: u64) -> u64 {
    let mut x = entity.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ feature.wrapping_mul(0xbf58_476d_1ce4_e5b9)
        ^ version.wrapping_mul(0x94d0_49bb_1331_11eb);
    for _ in 0..2 {
        x ^= x >> 31;
        x = x.wrapping_mul(0x7fb5_d329_728e_a185);
    }
    x ^ x >> 33
}

fn unit(x: u64) -> f64 {
    (x >> 11) as f64 / (1_u64 << 53) as f64
}

/// How rows of one run are made.
struct Emit<'a> {
    entities: &'a [u64],
    /// The version of a value of an entity's feature.
    version: &'a dyn Fn(u64, u64) -> u64,
    /// Event time, seconds.
    at: i64,
}

fn rows(view: usize, features: usize, emit: &Emit<'_>) -> Result<ViewRows, Failure> {
    let value = |entity: u64, feature: usize| {
        let feature = (view * features + feature) as u64;
        mix(entity, feature, (emit.version)(entity, feature))
    };
    let keys: Int64Array = emit.entities.iter().map(|entity| Some(*entity as i64)).collect();
    let times = vec![emit.at * 1_000_000_000; emit.entities.len()];
    let mut columns: Vec<(String, ArrayRef)> = vec![
        ("event_timestamp".into(), Arc::new(Int64Array::from(times))),
        ("created_timestamp".into(), Arc::new(Int64Array::new_null(emit.entities.len()))),
        ("user_id".into(), Arc::new(keys)),
    ];
    for feature in 0..features {
        let values = emit.entities.iter().map(|entity| value(*entity, feature));
        let column: ArrayRef = match feature % 5 {
            0 => Arc::new(values.map(|x| Some((-(1.0 - unit(x)).ln() * 40.0) as i64)).collect::<Int64Array>()),
            1 => Arc::new(values.map(|x| Some(x.is_multiple_of(5))).collect::<BooleanArray>()),
            2 => Arc::new(values.map(|x| Some((unit(x) * 100_000.0).round() / 100.0)).collect::<Float64Array>()),
            3 => Arc::new(values.map(|x| Some(format!("category {}", x % 40))).collect::<StringArray>()),
            _ => Arc::new(values.map(|x| Some(unit(x))).collect::<Float64Array>()),
        };
        columns.push((format!("v{view}_{feature}"), column));
    }
    Ok(ViewRows { view: format!("v{view}"), batches: vec![RecordBatch::try_from_iter(columns)?] })
}

fn definitions(folder: &Path, features: usize) -> Result<Definitions, Failure> {
    std::fs::create_dir_all(folder.join("features"))?;
    std::fs::write(folder.join("feature_store.yaml"), "project: p\nregistry: r\nonline_store: { type: directory, path: o }\n")?;
    let mut text =
        "entities: [{ name: user, join_keys: [user_id] }]\nsources: [{ name: s, path: s.parquet, timestamp_field: t }]\n"
            .to_owned();
    text += "feature_views:\n";
    let types = ["int64", "bool", "float64", "string", "float64"];
    for view in 0..VIEWS {
        let schema: Vec<String> =
            (0..features).map(|number| format!("{{ name: v{view}_{number}, dtype: {} }}", types[number % 5])).collect();
        text += &format!("  - {{ name: v{view}, entities: [user], source: s, schema: [{}] }}\n", schema.join(", "));
    }
    text += "feature_services: [{ name: all, features: [v0, v1, v2] }]\n";
    std::fs::write(folder.join("features/all.yaml"), text)?;
    Ok(mezze_model::load(folder, &|_| None)?.definitions)
}

/// An origin, and a store that it is published to.
struct World {
    _folder: tempfile::TempDir,
    origin: Origin,
    definitions: Definitions,
    features: usize,
    replica: Replica,
    clock: Moved,
    entities: Vec<u64>,
}

impl World {
    fn new(entities: usize, features: usize) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let definitions = definitions(folder.path(), features)?;
        let origin = Origin::new(Store::folder(&folder.path().join("origin"))?);
        let target = Target::Keys(Arc::new(Memory { keys: Mutex::default(), limits: CloudflareKv::limits() }));
        let replica = Replica { name: "memory".to_owned(), target, audience: Audience::Server };
        let clock = Moved(AtomicI64::new(1_800_000_000_000_000_000));
        Ok(Self { _folder: folder, origin, definitions, features, replica, clock, entities: (0..entities as u64).collect() })
    }

    async fn materialize(&self, emit: &Emit<'_>) -> Result<bool, Failure> {
        let run = Materialize::new(&self.origin, &self.definitions, self.clock.now());
        let rows = (0..VIEWS).map(|view| rows(view, self.features, emit)).collect::<Result<Vec<_>, _>>()?;
        let report = run.run(rows, &run.state().await?).await?;
        Ok(report.tables.iter().any(|table| table.rebuilt))
    }

    async fn publish(&self) -> Result<PublishReport, Failure> {
        Ok(Publish::to(&self.replica, "example", &self.clock).run(&self.origin).await?)
    }

    /// Pages that a request for so many entities reads.
    async fn reads(&self, count: usize) -> Result<usize, Failure> {
        let reader = Reader::open(self.origin.store().clone(), 1 << 20).await?;
        let keys: Vec<String> = (0..count).map(|number| (number * 7_919 % self.entities.len()).to_string()).collect();
        let body = format!("{{\"feature_service\":\"all\",\"entities\":{{\"user_id\":[{}]}}}}", keys.join(","));
        let plan = reader.snapshot().plan_body(body.as_bytes(), MediaType::Json, self.clock.now(), &Limits::server());
        Ok(plan.map_err(|refusal| refusal.message)?.pages().len())
    }
}

struct Full {
    keys: f64,
    bytes: f64,
}

fn line(name: &str, rebuilt: bool, report: &PublishReport, full: &Full, began: Instant) {
    println!(
        "{name}\t{}\t{}\t{}\t{:.2}\t{:.2}\t{}\t{:.1}",
        if rebuilt { "base" } else { "delta" },
        report.calls.writes,
        report.calls.bytes_written,
        100.0 * report.calls.writes as f64 / full.keys,
        100.0 * report.calls.bytes_written as f64 / full.bytes,
        report.calls.calls,
        began.elapsed().as_secs_f64(),
    );
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let entities = arguments.next().transpose()?.unwrap_or(1_000_000);
    let features = arguments.next().transpose()?.unwrap_or(10);
    let world = World::new(entities, features)?;
    println!("{entities} entities x {VIEWS} views x {features} features, pages of at most {PAGE_BYTES_MAX_DEFAULT} bytes");
    println!("publish\twrites a\tkeys\tbytes\t% of keys\t% of bytes\tcalls\tseconds");

    let began = Instant::now();
    let rebuilt = world.materialize(&Emit { entities: &world.entities, version: &|_, _| 0, at: DAY }).await?;
    let report = world.publish().await?;
    let full = Full { keys: report.calls.writes as f64, bytes: report.calls.bytes_written as f64 };
    line("whole", rebuilt, &report, &full, began);
    for snapshot in &report.record.snapshots {
        let manifest = world.origin.store().require(&manifest_key(*snapshot)).await?;
        println!("its manifest has {} bytes", manifest.len());
    }
    let single = entities * VIEWS;
    println!(
        "one key an entity and view: {single} writes, {:.0} times as many; one key an entity: {entities}, {:.0} times as many",
        single as f64 / full.keys,
        entities as f64 / full.keys
    );
    println!(
        "pages read for 1, 10, 100 entities: {}, {}, {}",
        world.reads(1).await?,
        world.reads(10).await?,
        world.reads(100).await?
    );

    let (mut writes, mut bytes, mut bases) = (0, 0, 0);
    for run in 1..=RUNS {
        let began = Instant::now();
        // Scattered, and each run others.
        let changed: Vec<u64> =
            world.entities.iter().copied().filter(|entity| mix(*entity, 1_000_000, run).is_multiple_of(1_000)).collect();
        let emit = Emit { entities: &changed, version: &|_, _| run, at: DAY + run as i64 * 60 };
        let rebuilt = world.materialize(&emit).await?;
        let report = world.publish().await?;
        writes += report.calls.writes;
        bytes += report.calls.bytes_written;
        bases += u32::from(rebuilt);
        if run == 1 || run == RUNS || rebuilt {
            line(&format!("0.1 % changed, run {run}"), rebuilt, &report, &full, began);
        }
    }
    println!(
        "{RUNS} such publishes, {bases} of them compactions: {:.2} % of the keys and {:.2} % of the bytes of a whole one each, on average",
        100.0 * writes as f64 / RUNS as f64 / full.keys,
        100.0 * bytes as f64 / RUNS as f64 / full.bytes
    );
    println!(
        "pages read for 1, 10, 100 entities: {}, {}, {}",
        world.reads(1).await?,
        world.reads(10).await?,
        world.reads(100).await?
    );

    scaled(&full, entities);
    for (name, part_of) in DAILY {
        let world = World::new(entities, features)?;
        let emit = |day: u64| {
            move |entity: u64, feature: u64| -> u64 {
                // The day that this value last changed.
                let part = 2_000_000 + part_of(feature, features as u64);
                (1..=day).rev().find(|day| mix(entity, part, *day).is_multiple_of(100)).unwrap_or(0)
            }
        };
        world.materialize(&Emit { entities: &world.entities, version: &emit(0), at: DAY }).await?;
        world.publish().await?;
        let (mut writes, mut bytes) = (0, 0);
        for day in 1..=DAYS {
            let began = Instant::now();
            let rebuilt =
                world.materialize(&Emit { entities: &world.entities, version: &emit(day), at: DAY * (1 + day as i64) }).await?;
            let report = world.publish().await?;
            writes += report.calls.writes;
            bytes += report.calls.bytes_written;
            line(&format!("{name}, day {day}"), rebuilt, &report, &full, began);
        }
        println!(
            "on average: {:.2} % of the keys, {:.2} % of the bytes",
            100.0 * writes as f64 / DAYS as f64 / full.keys,
            100.0 * bytes as f64 / DAYS as f64 / full.bytes
        );
    }
    Ok(())
}

/// What larger snapshots of the same rows take, on the stores that have limits or prices.
fn scaled(full: &Full, entities: usize) {
    println!("entities\tstore\twrites\tGB\tcalls\tminutes by calls\tUS$\tUS$ a month");
    let (pages, page_bytes) = (full.keys - 2.0, full.bytes / full.keys);
    for entities_there in [1e6, 1e8, 1e9] {
        let count = (pages * entities_there / entities as f64).ceil() as u32;
        let segment = SegmentId::from_bytes([7; 16]);
        let keys =
            (0..count).map(|bucket| KeySize { key: PageKey::new(segment, 0, bucket).to_string(), bytes: page_bytes as u64 });
        let keys: Vec<KeySize> = keys.collect();
        let bytes = keys.iter().map(|key| key.bytes).sum();
        for (store, limits) in [("Workers KV", CloudflareKv::limits()), ("Fastly KV Store", FastlyKv::limits())] {
            let estimate = Estimate::of(&limits, &keys, u64::from(count).div_ceil(1_000), bytes);
            let dollars = |dollars: Option<f64>| dollars.map_or_else(|| "-".to_owned(), |dollars| format!("{dollars:.2}"));
            println!(
                "{entities_there:.0}\t{store}\t{}\t{:.2}\t{}\t{:.0}\t{}\t{}",
                keys.len() + 2,
                bytes as f64 / 1e9,
                estimate.calls,
                estimate.seconds_min as f64 / 60.0,
                dollars(estimate.dollars),
                dollars(estimate.dollars_month)
            );
        }
    }
}

/// Daily batches by what changes together: a number that equal parts of a row share.
type PartOf = fn(u64, u64) -> u64;
const DAILY: [(&str, PartOf); 3] = [
    ("daily, 1 % of the entities changed", |_, _| 0),
    ("daily, 1 % of each view's rows changed", |feature, features| feature / features),
    ("daily, 1 % of all values changed", |feature, _| feature),
];
const VIEWS: usize = 3;
const RUNS: u64 = 50;
const DAYS: u64 = 3;
const DAY: i64 = 86_400;
