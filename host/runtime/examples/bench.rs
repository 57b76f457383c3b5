//! What a lookup costs in the component, beside the same natively: from the bytes of a request to those of its response.
//!
//!     cargo run --release -p mezze-runtime --example bench
//!
//! Ten features of 1 and of 100 entities, pages resident and verified on both sides. The two take turns of 100 lookups, so that
//! what else the machine does falls on both; medians of 10,000 lookups each, and every body is compared.
#![expect(clippy::print_stdout, reason = "printing its figures is what it is for")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mezze_core::{
    Audience, ColumnData, ColumnInput, FeatureSchema, Head, KeyColumn, KeyHash, KeyPart, KeyType, Limits, Manifest, MediaType,
    PageInput, PageKey, PageRef, PageWriter, Segment, SegmentId, Service, ServiceProjection, Snapshot, Span, Table, TableSchema,
    Timestamp, ValueType, ViewInput, ViewSchema,
};
use mezze_runtime::{Lookup, Runtime, RuntimeConfig, SERVING};

const ENTITIES: i64 = 100_000;
const BUCKETS: u32 = 256;
const FEATURES: u16 = 10;
const ID: SegmentId = SegmentId::from_bytes([1; 16]);

fn pages() -> BTreeMap<u32, Vec<u8>> {
    let mut users: Vec<(KeyHash, i64)> = (0..ENTITIES).map(|user| (KeyHash::of(&[KeyPart::Int(user)]), user)).collect();
    users.sort_unstable();
    let page = |bucket: u32| {
        let rows: Vec<_> = users.iter().copied().filter(|(hash, _)| hash.bucket(BUCKETS) == bucket).collect();
        let hashes: Vec<KeyHash> = rows.iter().map(|(hash, _)| *hash).collect();
        let keys: Vec<i64> = rows.iter().map(|(_, user)| *user).collect();
        let doubles: Vec<f64> = keys.iter().map(|user| (*user as f64).sqrt()).collect();
        let cents: Vec<f64> = keys.iter().map(|user| (*user % 10_000) as f64 / 100.0).collect();
        let texts: Vec<String> = keys.iter().map(|user| format!("category {}", user % 50)).collect();
        let mut offsets = vec![0];
        texts.iter().for_each(|text| offsets.push(offsets[offsets.len() - 1] + text.len() as u32));
        let heap = texts.concat();
        let features: Vec<ColumnInput<'_>> = (0..FEATURES)
            .map(|number| {
                let data = match number % 4 {
                    0 => ColumnData::Int(&keys),
                    1 => ColumnData::Float64(&doubles),
                    2 => ColumnData::Float64(&cents),
                    _ => ColumnData::Bytes { offsets: &offsets, data: heap.as_bytes() },
                };
                ColumnInput { data, validity: None }
            })
            .collect();
        let columns = [ColumnInput { data: ColumnData::Int(&keys), validity: None }];
        let views = [ViewInput { times: &keys, present: None, features: &features }];
        let key = PageKey::new(ID, 0, bucket);
        let input = PageInput { key, bucket_count: BUCKETS, hashes: &hashes, keys: &columns, views: &views };
        let mut page = Vec::new();
        PageWriter::new().write(&input, &mut page).expect("the rows are in order");
        (bucket, page)
    };
    (0..BUCKETS).map(page).collect()
}

fn head() -> Vec<u8> {
    let types = [ValueType::Int64, ValueType::Float64, ValueType::Float64, ValueType::String];
    let features = (0..FEATURES)
        .map(|number| FeatureSchema::new(format!("feature_{number}"), types[usize::from(number % 4)].clone()))
        .collect();
    let schema = TableSchema::new(
        "user",
        vec![KeyColumn::new("user", "user", KeyType::Int)],
        vec![ViewSchema::new("view", Span::ZERO, Audience::Server, features)],
    );
    let base =
        Segment { id: ID, bucket_count: BUCKETS, row_count: 0, page_bytes: 0, root: [0; 32], time_shifts: vec![Span::ZERO] };
    let projection =
        ServiceProjection { table: 0, view: 0, alias: None, join_key_map: vec![], features: (0..FEATURES).collect() };
    let manifest = Manifest {
        project: "bench".into(),
        definition_digest: [0; 32],
        input_digest: [0; 32],
        tables: vec![Table { base: Some(base), ..Table::empty(schema) }],
        request_sources: vec![],
        on_demand_views: vec![],
        services: vec![Service { name: "ten".into(), projections: vec![projection], request_sources: vec![] }],
    };
    let manifest = manifest.encode().expect("it is small");
    let head = Head {
        epoch: 1,
        issued_at: Timestamp::EPOCH,
        snapshot: Manifest::id_of(&manifest),
        previous: vec![],
        manifest: Some(manifest),
    };
    head.encode().expect("it is small")
}

/// Lookups of one side before it is the other's turn.
const TURN: usize = 100;

/// The medians of two ways to the same answer.
fn medians(mut ways: [&mut dyn FnMut(usize) -> Vec<u8>; 2]) -> [Duration; 2] {
    let mut times = [const { Vec::new() }; 2];
    for turn in 0..120 {
        let mut bodies = [const { Vec::new() }; 2];
        for (way, (times, bodies)) in ways.iter_mut().zip(times.iter_mut().zip(&mut bodies)) {
            for round in turn * TURN..(turn + 1) * TURN {
                let start = Instant::now();
                let body = way(round);
                let taken = start.elapsed();
                bodies.push(body);
                // The first turns bring the pages.
                if turn >= 20 {
                    times.push(taken);
                }
            }
        }
        let [native, component] = bodies;
        assert_eq!(native, component, "both answer with the same bytes");
    }
    times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2]
    })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (pages, head) = (pages(), head());
    let snapshot = Snapshot::open(&head)?;
    let resident: BTreeMap<u32, PageRef<'_>> =
        pages.iter().map(|(bucket, page)| (*bucket, PageRef::resident(page).expect("it is whole"))).collect();
    let runtime = Runtime::new(RuntimeConfig::default())?;
    let mut store = runtime.store(256 << 20)?;
    store.open(&head, None, 0)?;
    println!("the component has {} bytes", SERVING.len());
    println!("entities\tnative us\tcomponent us\tratio");
    for count in [1, 100] {
        let bodies: Vec<String> = (0..500)
            .map(|round: i64| {
                let users: Vec<String> =
                    (0..count).map(|n: i64| ((round * 7_919 + n * 104_729) % ENTITIES).to_string()).collect();
                format!(r#"{{"feature_service": "ten", "entities": {{"user": [{}]}}}}"#, users.join(","))
            })
            .collect();
        let mut native = |round: usize| {
            let body = bodies[round % bodies.len()].as_bytes();
            let plan = snapshot.plan_body(body, MediaType::Json, Timestamp::EPOCH, &Limits::server()).expect("it fits");
            let pages: Vec<Option<PageRef<'_>>> = plan.pages().iter().map(|key| resident.get(&key.bucket).copied()).collect();
            let mut out = Vec::new();
            plan.write_answer(&pages, MediaType::Json, &mut out).expect("the pages are whole");
            out
        };
        let mut component = |round: usize| {
            let body = bodies[round % bodies.len()].as_bytes();
            let served = store.lookup(&Lookup::json(body, 0), |page| pages.get(&page.bucket).cloned());
            served.expect("the pages are whole").body
        };
        let [native, component] = medians([&mut native, &mut component]);
        let micros = |time: Duration| time.as_nanos() as f64 / 1e3;
        let ratio = component.as_secs_f64() / native.as_secs_f64();
        println!("{count}\t{:.1}\t{:.1}\t{ratio:.2}", micros(native), micros(component));
    }
    Ok(())
}
