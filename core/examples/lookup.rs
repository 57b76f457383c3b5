//! What a lookup costs natively: plan and answer, with pages in memory.
//!
//!     cargo run --release -p mezze-core --example lookup
//!
//! Prints the median and 99th percentile of lookups of one entity and ten features, with the page resident and verified, and
//! cold (verification included, fetching not); the same with ten computed features in place of the ten, and with both; all for 100
//! entities, too; and the allocations of one lookup.
#![expect(clippy::print_stdout, reason = "printing its figures is what it is for")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use mezze_core::{
    Audience, ColumnData, ColumnInput, Compute, Constant, EntityColumn, FeatureSchema, Function, Head, KeyColumn, KeyHash,
    KeyPart, KeyType, Limits, Manifest, ON_DEMAND_TABLE, OnDemandInput, OnDemandView, PageInput, PageKey, PageRef, PageWriter,
    Program, ProgramStep, Request, Segment, SegmentId, Selection, Service, ServiceProjection, Snapshot, Span, Table, TableSchema,
    Timestamp, Value, ValueType, ViewInput, ViewSchema,
};

/// Counts allocations.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "an allocator is unsafe to implement; this one only counts")]
// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ENTITIES: i64 = 100_000;
const BUCKETS: u32 = 256;
const FEATURES: usize = 10;

fn schema() -> TableSchema {
    let features = (0..FEATURES)
        .map(|number| {
            let value_type = [ValueType::Int64, ValueType::Float64, ValueType::Float32, ValueType::String][number % 4].clone();
            FeatureSchema::new(format!("feature_{number}"), value_type)
        })
        .collect();
    TableSchema::new(
        "user",
        vec![KeyColumn::new("user", "user", KeyType::Int)],
        vec![ViewSchema::new("activity", Span::from_seconds(86_400), Audience::Server, features)],
    )
}

fn pages(id: SegmentId) -> BTreeMap<PageKey, Vec<u8>> {
    let mut users: Vec<(KeyHash, i64)> = (0..ENTITIES).map(|user| (KeyHash::of(&[KeyPart::Int(user)]), user)).collect();
    users.sort_unstable();
    let mut writer = PageWriter::new();
    (0..BUCKETS)
        .map(|bucket| {
            let rows: Vec<_> = users.iter().copied().filter(|(hash, _)| hash.bucket(BUCKETS) == bucket).collect();
            let hashes: Vec<KeyHash> = rows.iter().map(|(hash, _)| *hash).collect();
            let keys: Vec<i64> = rows.iter().map(|(_, user)| *user).collect();
            let times: Vec<i64> = keys.iter().map(|user| user * 1_000_000).collect();
            let doubles: Vec<f64> = keys.iter().map(|user| (*user as f64).sqrt()).collect();
            let floats: Vec<f32> = keys.iter().map(|user| (*user % 1000) as f32 / 100.0).collect();
            let valid: Vec<bool> = keys.iter().map(|user| user % 7 != 0).collect();
            let texts: Vec<String> = keys.iter().map(|user| format!("category {}", user % 50)).collect();
            let mut offsets = vec![0];
            texts.iter().for_each(|text| offsets.push(offsets[offsets.len() - 1] + text.len() as u32));
            let heap = texts.concat();
            let features: Vec<ColumnInput<'_>> = (0..FEATURES)
                .map(|number| {
                    let data = match number % 4 {
                        0 => ColumnData::Int(&keys),
                        1 => ColumnData::Float64(&doubles),
                        2 => ColumnData::Float32(&floats),
                        _ => ColumnData::Bytes { offsets: &offsets, data: heap.as_bytes() },
                    };
                    ColumnInput { data, validity: Some(&valid) }
                })
                .collect();
            let key = PageKey::new(id, 0, bucket);
            let keys = [ColumnInput { data: ColumnData::Int(&keys), validity: None }];
            let views = [ViewInput { times: &times, present: None, features: &features }];
            let mut page = Vec::new();
            writer
                .write(&PageInput { key, bucket_count: BUCKETS, hashes: &hashes, keys: &keys, views: &views }, &mut page)
                .expect("the rows are in order");
            (key, page)
        })
        .collect()
}

/// Ten expressions over four of the features, as `mezze apply` would compile them:
///
/// `d * 2 + f`, `d / (f + 1)`, `CASE WHEN i > 100 THEN d ELSE f END`, `coalesce(f, 0)`, `ln(d + 1)`, `upper(t)`, `length(t)`,
/// `hash_bucket(t, 100)`, `date_part('hour', now())`, `i % 7 = 3`.
fn computed() -> OnDemandView {
    use Function as F;
    let feature = |feature| OnDemandInput::Feature { table: 0, view: 0, feature };
    let (i, d, f, t, now) = (0, 1, 2, 3, 4);
    let constants = vec![
        Constant::Float(2.0),
        Constant::Float(1.0),
        Constant::Int(100),
        Constant::Float(0.0),
        Constant::Int(5),
        Constant::Int(7),
        Constant::Int(3),
    ];
    let [two, one, hundred, zero, hour, seven, three] = [5, 6, 7, 8, 9, 10, 11];
    let mut steps: Vec<ProgramStep> = Vec::new();
    let mut step = |function, arguments: &[u16]| {
        steps.push(ProgramStep { function, arguments: arguments.into() });
        11 + steps.len() as u16
    };
    let doubled = step(F::MultiplyFloat, &[d, two]);
    let sum = step(F::AddFloat, &[doubled, f]);
    let next = step(F::AddFloat, &[f, one]);
    let share = step(F::DivideFloat, &[d, next]);
    let above = step(F::LessInt, &[hundred, i]);
    let chosen = step(F::Select, &[above, d, f]);
    let known = step(F::Coalesce, &[f, zero]);
    let shifted = step(F::AddFloat, &[d, one]);
    let logarithm = step(F::Ln, &[shifted]);
    let upper = step(F::Upper, &[t]);
    let length = step(F::Length, &[t]);
    let hash = step(F::HashBytes, &[t]);
    let bucket = step(F::HashBucket, &[hash, hundred]);
    let at = step(F::DatePart, &[hour, now]);
    let rest = step(F::RemainderInt, &[i, seven]);
    let is_three = step(F::EqualInt, &[rest, three]);
    let outputs = vec![sum, share, chosen, known, logarithm, upper, length, bucket, at, is_three];
    let types = [
        ValueType::Float64,
        ValueType::Float64,
        ValueType::Float64,
        ValueType::Float64,
        ValueType::Float64,
        ValueType::String,
        ValueType::Int64,
        ValueType::Int64,
        ValueType::Int64,
        ValueType::Bool,
    ];
    OnDemandView {
        name: "computed".into(),
        inputs: vec![feature(0), feature(1), feature(2), feature(3), OnDemandInput::Now],
        features: types.into_iter().enumerate().map(|(number, found)| FeatureSchema::new(format!("c{number}"), found)).collect(),
        compute: Compute::Program(Program::new(5, constants, steps, outputs).expect("it is well-formed")),
    }
}

fn snapshot(pages: &BTreeMap<PageKey, Vec<u8>>, id: SegmentId) -> Snapshot {
    let page_bytes = pages.values().map(|page| page.len() as u64).sum();
    let segment = Segment {
        id,
        bucket_count: BUCKETS,
        row_count: ENTITIES as u64,
        page_bytes,
        root: [0; 32],
        time_shifts: vec![Span::ZERO],
    };
    let projection =
        |table| ServiceProjection { table, view: 0, alias: None, join_key_map: vec![], features: (0..FEATURES as u16).collect() };
    let manifest = Manifest {
        project: "bench".into(),
        definition_digest: [0; 32],
        input_digest: [0; 32],
        tables: vec![Table { base: Some(segment), ..Table::empty(schema()) }],
        request_sources: vec![],
        on_demand_views: vec![computed()],
        services: [("ten", vec![0]), ("computed", vec![ON_DEMAND_TABLE]), ("both", vec![0, ON_DEMAND_TABLE])]
            .into_iter()
            .map(|(name, tables)| Service {
                name: name.into(),
                projections: tables.into_iter().map(projection).collect(),
                request_sources: vec![],
            })
            .collect(),
    };
    let bytes = manifest.encode().expect("it is small");
    let head = Head {
        epoch: 1,
        issued_at: Timestamp::EPOCH,
        snapshot: Manifest::id_of(&bytes),
        previous: vec![],
        manifest: Some(bytes),
    };
    Snapshot::open(&head.encode().expect("it is small")).expect("it was just made")
}

fn main() {
    let id = SegmentId::from_bytes([1; 16]);
    let pages = pages(id);
    let snapshot = snapshot(&pages, id);
    let bytes: usize = pages.values().map(Vec::len).sum();
    println!("{ENTITIES} entities, {FEATURES} features, {BUCKETS} pages, {:.1} bytes a row", bytes as f64 / ENTITIES as f64);
    println!("features\tentities\tcase\tp50 ns\tp99 ns\tallocations");
    for service in ["ten", "computed", "both"] {
        for count in [1, 100] {
            for cold in [false, true] {
                measure(&snapshot, &pages, service, count, cold);
            }
        }
    }
}

fn measure(snapshot: &Snapshot, pages: &BTreeMap<PageKey, Vec<u8>>, service: &str, count: i64, cold: bool) {
    const ROUNDS: i64 = 20_000;
    let limits = Limits::server();
    let now = Timestamp::from_seconds(60);
    let requests: Vec<Request> = (0..ROUNDS.min(2_000))
        .map(|round| {
            let users = (0..count).map(|n| Value::Int((round * 7_919 + n * 104_729) % ENTITIES)).collect();
            Request::new(Selection::Service(service.into()), vec![EntityColumn::new("user", users)])
        })
        .collect();
    // What a host keeps of a resident page.
    let resident: BTreeMap<&PageKey, PageRef<'_>> =
        pages.iter().map(|(key, page)| (key, PageRef::resident(page).expect("it is whole"))).collect();
    let mut nanos = Vec::new();
    let mut allocations = 0;
    for round in 0..ROUNDS {
        let request = &requests[round as usize % requests.len()];
        // Finding the page's bytes is the host's: it is left out, as fetching is.
        let planned = snapshot.plan(request, now, &limits).expect("the request fits");
        let bytes: Vec<&[u8]> = planned.pages().iter().map(|key| pages[key].as_slice()).collect();
        let known: Vec<Option<PageRef<'_>>> = planned.pages().iter().map(|key| resident.get(key).copied()).collect();
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        let start = Instant::now();
        let plan = snapshot.plan(black_box(request), now, &limits).expect("the request fits");
        if cold {
            let verified: Vec<Option<PageRef<'_>>> = bytes
                .iter()
                .enumerate()
                .map(|(index, bytes)| {
                    let (segment, table) = plan.page_home(index)?;
                    PageRef::verify(bytes, plan.pages().get(index)?, segment.bucket_count, &table.schema).ok()
                })
                .collect();
            black_box(plan.answer(&verified).expect("the pages are whole"));
        } else {
            black_box(plan.answer(&known).expect("the pages are whole"));
        }
        nanos.push(start.elapsed().as_nanos() as u64);
        allocations += ALLOCATIONS.load(Ordering::Relaxed) - before;
    }
    nanos.sort_unstable();
    let case = if cold { "cold" } else { "resident" };
    let percentile = |part: usize| nanos[nanos.len() * part / 100];
    println!("{service}\t{count}\t{case}\t{}\t{}\t{:.1}", percentile(50), percentile(99), allocations as f64 / ROUNDS as f64);
}
