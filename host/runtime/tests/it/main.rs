//! The component in wasmtime: the same bytes as the core, within its bounds.

#[path = "../../../../tests/common/guests.rs"]
mod guests;
mod transforms;
mod trust;

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mezze_core::{Limits, MediaType as CoreMedia, PageRef, Refusal, SegmentIndex, Snapshot, Timestamp};
use mezze_runtime::{Lookup, MediaType, PageName, Runtime, RuntimeConfig, RuntimeError, SERVING, Served, ServingStore};

/// The snapshot in the core's test data.
struct Golden {
    head: Vec<u8>,
    manifest: Vec<u8>,
    segment: Vec<u8>,
    index: SegmentIndex,
}

impl Golden {
    fn read() -> Self {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../core/testdata/v1");
        let read = |name: &str| fs::read(folder.join(name)).expect("the file is in the repository");
        let segment = read("segment");
        let tail = SegmentIndex::tail_bytes(&segment).expect("the footer is whole") as usize;
        let index = SegmentIndex::decode(&segment[segment.len() - tail..]).expect("the index is whole");
        Self { head: read("head"), manifest: read("manifest"), segment, index }
    }

    fn page(&self, bucket: u32) -> Vec<u8> {
        let range = self.index.page_range(bucket).expect("the bucket is there");
        self.segment[range.start as usize..range.end as usize].to_vec()
    }

    /// What the core itself answers.
    fn expected(&self, body: &[u8], media: CoreMedia, now: i64) -> Served {
        let snapshot = Snapshot::open(&self.head).expect("the head is whole");
        let refuse = |refusal: Refusal| {
            let mut body = Vec::new();
            refusal.write(&mut body);
            Served { status: refusal.status, body }
        };
        let plan = match snapshot.plan_body(body, media, Timestamp::from_nanos(now), &Limits::server()) {
            Ok(plan) => plan,
            Err(refusal) => return refuse(refusal),
        };
        let pages: Vec<Vec<u8>> = plan.pages().iter().map(|key| self.page(key.bucket)).collect();
        let pages: Vec<Option<PageRef<'_>>> = pages.iter().map(|page| PageRef::resident(page).ok()).collect();
        let mut body = Vec::new();
        plan.write_answer(&pages, media, &mut body).expect("the pages are whole");
        Served { status: 200, body }
    }
}

fn runtime() -> Arc<Runtime> {
    let mut config = RuntimeConfig::default();
    // Unoptimised builds on a busy machine are slow; what is tested is not how fast they are.
    config.deadline = Duration::from_secs(60);
    config.instances_max = 4;
    Runtime::new(config).expect("the component can be run")
}

fn open(runtime: &Arc<Runtime>, golden: &Golden, budget: u64) -> ServingStore {
    let mut store = runtime.store(budget).expect("there is room for an instance");
    store.open(&golden.head, None, 0).expect("the head is whole");
    store
}

const NOW: i64 = 4_000_000_000_000;
const ALL: &[u8] = r#"{"feature_service": "all", "full_feature_names": true,
 "entities": {"shop": ["north", "süd", "", "north"], "user": [1, 2, 3, 2], "amount": [1, 2.5, null, 0]}}"#
    .as_bytes();

#[test]
fn the_component_imports_nothing_and_is_no_larger_than_the_page_on_performance_says() {
    let engine = wasmtime::Engine::default();
    let component = wasmtime::component::Component::new(&engine, SERVING).expect("it is a component");
    let ty = component.component_type();
    assert_eq!(ty.imports(&engine).map(|(name, _)| name.to_owned()).collect::<Vec<_>>(), Vec::<String>::new());
    let exports: Vec<String> = ty.exports(&engine).map(|(name, _)| name.to_owned()).collect();
    assert_eq!(exports, ["mezze:features/types@0.1.0", "mezze:features/lookup@0.1.0"]);
    assert!(SERVING.len() <= SIZE_MAX, "the component has {} bytes", SERVING.len());
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(SERVING).expect("memory takes it");
    let packed = packed.finish().expect("memory takes it").len();
    assert!(packed <= GZIP_SIZE_MAX, "the component has {packed} bytes, compressed");
}

/// docs/PERFORMANCE.md says what is in it.
const SIZE_MAX: usize = 327_000;
const GZIP_SIZE_MAX: usize = 140_000;

#[test]
fn answers_and_refusals_are_those_of_the_core() {
    let golden = Golden::read();
    let runtime = runtime();
    let mut store = open(&runtime, &golden, 1 << 20);
    let requests: [&[u8]; 7] = [
        ALL,
        br#"{"features": ["every_type:a_int64", "rates:rate"], "entities": {"user": [3, null], "shop": ["", ""]}}"#,
        br#"{"feature_service": "friends", "entities": {"user": [1], "shop": ["north"], "friend": [2]}}"#,
        br#"{"feature_service": "friends", "full_feature_names": true, "entities": {"user": [1], "shop": ["north"], "friend": [2]}}"#,
        br#"{"feature_service": "nope", "entities": {"user": [1]}}"#,
        br#"{"feature_service": "all", "entities": {"user": [1]}}"#,
        b"{",
    ];
    for body in requests {
        let served = store.lookup(&Lookup::json(body, NOW), |page| Some(golden.page(page.bucket))).expect("the pages are whole");
        assert_eq!(served, golden.expected(body, CoreMedia::Json, NOW), "{}", String::from_utf8_lossy(body));
    }
    // MessagePack out, JSON in.
    let lookup = Lookup { accept: MediaType::MessagePack, ..Lookup::json(ALL, NOW) };
    let packed = store.lookup(&lookup, |_| None).expect("the pages are here");
    let snapshot = Snapshot::open(&golden.head).expect("the head is whole");
    let plan = snapshot.plan_body(ALL, CoreMedia::Json, Timestamp::from_nanos(NOW), &Limits::server()).expect("it fits");
    let pages: Vec<Vec<u8>> = plan.pages().iter().map(|key| golden.page(key.bucket)).collect();
    let pages: Vec<Option<PageRef<'_>>> = pages.iter().map(|page| PageRef::resident(page).ok()).collect();
    let mut expected = Vec::new();
    plan.write_answer(&pages, CoreMedia::MessagePack, &mut expected).expect("the pages are whole");
    assert_eq!(packed.body, expected);
}

#[test]
fn pages_cross_once_and_stay_under_the_budget() {
    let golden = Golden::read();
    let runtime = runtime();
    let mut fetched = Vec::new();
    let mut store = open(&runtime, &golden, 1 << 20);
    for _ in 0..3 {
        let fetch = |page: &PageName| {
            fetched.push(page.bucket);
            Some(golden.page(page.bucket))
        };
        assert_eq!(store.lookup(&Lookup::json(ALL, NOW), fetch).expect("the pages are whole").status, 200);
    }
    fetched.sort_unstable();
    assert_eq!(fetched, [0, 1]);
    assert_eq!(store.resident_bytes().expect("it answers"), (golden.page(0).len() + golden.page(1).len()) as u64);

    // With no room at all a lookup still has its own pages, and leaves none of another.
    let mut store = open(&runtime, &golden, 0);
    let mut count = 0;
    for body in [ALL, br#"{"features": ["every_type:a_int64"], "entities": {"user": [1], "shop": ["north"]}}"#] {
        let fetch = |page: &PageName| {
            count += 1;
            Some(golden.page(page.bucket))
        };
        assert_eq!(store.lookup(&Lookup::json(body, NOW), fetch).expect("the pages are whole").status, 200);
    }
    assert!(count >= 2);
    assert!(store.resident_bytes().expect("it answers") < (golden.page(0).len() + golden.page(1).len()) as u64);
}

#[test]
fn damaged_and_missing_pages_are_refused() {
    let golden = Golden::read();
    let runtime = runtime();
    let mut store = open(&runtime, &golden, 1 << 20);
    let damaged = |page: &PageName| {
        let mut bytes = golden.page(page.bucket);
        bytes[100] ^= 1;
        Some(bytes)
    };
    let error = store.lookup(&Lookup::json(ALL, NOW), damaged).expect_err("the pages are damaged");
    assert_eq!(error.to_string(), "page p/0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b/0/0: damaged at byte 8: checksum");
    let swapped = |page: &PageName| Some(golden.page(1 - page.bucket));
    let error = store.lookup(&Lookup::json(ALL, NOW), swapped).expect_err("they are each other's").to_string();
    assert!(error.contains("expected page p/"), "{error}");
    let error = store.lookup(&Lookup::json(ALL, NOW), |_| None).expect_err("there is none").to_string();
    assert!(error.ends_with(" is not to be had"), "{error}");
    let served = store.lookup(&Lookup::json(ALL, NOW), |page| Some(golden.page(page.bucket))).expect("they are whole");
    assert_eq!(served.status, 200);
}

#[test]
fn a_snapshot_that_cannot_be_opened_leaves_the_one_before() {
    let golden = Golden::read();
    let runtime = runtime();
    let mut store = open(&runtime, &golden, 1 << 20);
    let mut damaged = golden.head.clone();
    damaged[40] ^= 1;
    assert!(matches!(store.open(&damaged, None, 0), Err(RuntimeError::Unusable(_))));
    assert!(matches!(store.open(&golden.head, Some(b"no manifest"), 0), Err(RuntimeError::Unusable(_))));
    store.open(&golden.head, Some(&golden.manifest), 0).expect("the manifest is that of the head");
    assert_eq!(store.lookup(&Lookup::json(ALL, NOW), |page| Some(golden.page(page.bucket))).expect("it answers").status, 200);
}

#[test]
fn a_call_beyond_its_memory_is_stopped_and_the_next_has_a_fresh_instance() {
    let golden = Golden::read();
    let mut config = RuntimeConfig::default();
    config.deadline = Duration::from_secs(60);
    config.instances_max = 1;
    config.memory_max = 8 << 20;
    let runtime = Runtime::new(config).expect("the component can be run");
    let mut store = open(&runtime, &golden, 1 << 20);
    let large = vec![b' '; 12 << 20];
    let error = store.lookup(&Lookup::json(&large, NOW), |_| None).expect_err("it is larger than the memory");
    assert!(matches!(error, RuntimeError::Stopped(_)), "{error}");
    let served = store.lookup(&Lookup::json(ALL, NOW), |page| Some(golden.page(page.bucket))).expect("it answers again");
    assert_eq!(served, golden.expected(ALL, CoreMedia::Json, NOW));
}

#[test]
fn a_call_beyond_its_time_is_stopped() {
    let golden = Golden::read();
    let mut config = RuntimeConfig::default();
    config.deadline = Duration::from_millis(10);
    let runtime = Runtime::new(config).expect("the component can be run");
    let mut store = runtime.store(1 << 20).expect("there is room for an instance");
    store.open(&golden.head, None, 0).expect("the head is whole");
    // Megabytes of JSON, many of them: one is beyond ten milliseconds.
    let mut body = br#"{"features": ["every_type:a_int64"], "entities": {"user": ["#.to_vec();
    body.extend(b"123456789,".repeat(800_000));
    body.extend_from_slice(b"1]}}");
    let mut stopped = false;
    for _ in 0..50 {
        stopped |= matches!(store.lookup(&Lookup::json(&body, NOW), |_| None), Err(RuntimeError::Stopped(_)));
        if stopped {
            break;
        }
    }
    assert!(stopped);
}

#[test]
fn the_compiled_component_is_kept_and_a_damaged_one_is_made_anew() {
    let golden = Golden::read();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let start = || {
        let mut config = RuntimeConfig::default();
        config.cache = Some(folder.path().join("cache"));
        config.deadline = Duration::from_secs(60);
        let runtime = Runtime::new(config).expect("the component can be run");
        let mut store = open(&runtime, &golden, 1 << 20);
        assert_eq!(store.lookup(&Lookup::json(ALL, NOW), |page| Some(golden.page(page.bucket))).expect("it answers").status, 200);
        let mut files: Vec<PathBuf> =
            fs::read_dir(folder.path().join("cache")).expect("it is there").map(|entry| entry.expect("a file").path()).collect();
        assert_eq!(files.len(), 1);
        files.remove(0)
    };
    let file = start();
    let whole = fs::read(&file).expect("it can be read");
    let modified = |file: &PathBuf| fs::metadata(file).expect("it is there").modified().expect("files have times");
    let before = modified(&file);
    start();
    assert_eq!(modified(&file), before);
    for damage in
        [whole[..whole.len() / 2].to_vec(), Vec::new(), [&whole[..whole.len() - 1], &[whole[whole.len() - 1] ^ 1]].concat()]
    {
        fs::write(&file, damage).expect("it can be written");
        start();
        assert_eq!(fs::read(&file).expect("it can be read").len(), whole.len());
    }
}
