//! Real snapshots, built once: a base, deltas, a compaction and a removal of an entity; and what each of them answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use bytes::Bytes;
use mezze_core::{
    Audience, HEAD_KEY, HttpConfig, HttpRequest, PageRef, ReadKey, Route, Served, Snapshot, SnapshotId, Timestamp, route,
};
use mezze_model::Definitions;
use mezze_replica::{Origin, Reason, ReplicaKeys, Store};
use mezze_snapshot::{Materialize, ViewRows};

/// What every seed's origin is given, epoch by epoch.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) links: Vec<Link>,
    /// Of both audiences, by id.
    pub(crate) contents: BTreeMap<SnapshotId, Arc<Content>>,
}

/// One snapshot in the origin.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) reason: Reason,
    pub(crate) snapshot: SnapshotId,
    /// What a browser may hold of it, under the id that it has there: the same for snapshots that differ in other views.
    pub(crate) public: SnapshotId,
    /// Its objects, in the order in which a build writes them.
    pub(crate) objects: Vec<(String, Bytes)>,
}

/// A snapshot as one audience sees it.
#[derive(Debug, PartialEq)]
pub(crate) struct Content {
    /// All that a replica needs of it, but the head.
    pub(crate) keys: BTreeMap<String, Bytes>,
    /// The body of the response to each request of [`requests`].
    pub(crate) answers: Vec<Vec<u8>>,
}

/// A request that every snapshot answers.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) query: Option<String>,
    pub(crate) body: String,
}

impl Chain {
    /// The one of this process.
    pub(crate) fn get() -> &'static Self {
        static CHAIN: OnceLock<Chain> = OnceLock::new();
        CHAIN.get_or_init(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(build())
        })
    }

    /// What an audience sees of a link, and under which id.
    pub(crate) fn content(&self, link: usize, audience: Audience) -> (SnapshotId, &Arc<Content>) {
        let link = &self.links[link];
        let id = if audience == Audience::Server { link.snapshot } else { link.public };
        (id, &self.contents[&id])
    }

    pub(crate) fn link_of(&self, snapshot: SnapshotId) -> Option<usize> {
        self.links.iter().position(|link| link.snapshot == snapshot)
    }
}

/// The requests that are made of replicas of an audience.
pub(crate) fn requests(audience: Audience) -> &'static [Asked] {
    static SERVER: OnceLock<Vec<Asked>> = OnceLock::new();
    static PUBLIC: OnceLock<Vec<Asked>> = OnceLock::new();
    let get = |query: String, path| Asked { method: "GET", path, query: Some(query), body: String::new() };
    match audience {
        Audience::Server => SERVER.get_or_init(|| {
            let mut asked: Vec<Asked> = (0..6).map(|user| get(format!("user={}", user * 7), "/v1/features/people")).collect();
            asked.extend((0..3).map(|zip| get(format!("user={}&zip={}", zip + 2, zip * 5), "/v1/features/both")));
            let rows = (0..USERS + 2).map(|user| user.to_string()).collect::<Vec<_>>().join(",");
            let body = format!("{{\"feature_service\":\"people\",\"entities\":{{\"user\":[{rows}]}}}}");
            asked.push(Asked { method: "POST", path: "/get-online-features", query: None, body });
            asked
        }),
        Audience::Public => PUBLIC
            .get_or_init(|| (0..5).map(|zip| get(format!("zip={}&zip={}", zip * 4, zip + 1), "/v1/features/places")).collect()),
    }
}

pub(crate) fn config() -> HttpConfig {
    HttpConfig::edge(32)
}

async fn build() -> Chain {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let definitions = definitions();
    let store = Store::folder(folder.path()).expect("it can be opened");
    let origin = Origin::new(store);
    let mut chain = Chain { links: Vec::new(), contents: BTreeMap::new() };
    let users = |from: i64, to: i64, step: usize, time: i64| user_rows((from..to).step_by(step), time);
    let mut time = 1_000;
    for number in 0..LINKS {
        time += 10;
        let mut run = Materialize::new(&origin, &definitions, Timestamp::from_seconds(time));
        run.threads = 1;
        run.page_bytes_max = 700;
        let state = run.state().await.expect("it can be read");
        let rows = match number {
            0 => [users(0, USERS, 1, time), zip_rows(0..ZIPS, time), vec![rate(time)]].concat(),
            2 | 7 => [zip_rows((0..ZIPS).step_by(5), time), vec![rate(time)]].concat(),
            3 => users(0, USERS, 2, time),
            4 | 5 => Vec::new(),
            _ => users(number % 5, USERS, 7, time),
        };
        let report = if number == 5 {
            run.forget(&BTreeMap::from([("user".to_owned(), "14".to_owned())])).await.expect("the key is of a table")
        } else {
            run.compact = number == 4;
            run.run(rows, &state).await.expect("the rows fit")
        };
        let record = report.record.expect("it has changed something");
        add(&mut chain, &origin, record.snapshot, record.reason).await;
    }
    let reasons: BTreeSet<String> = chain.links.iter().map(|link| link.reason.to_string()).collect();
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    chain
}

/// Takes the newest snapshot of the origin into the chain.
async fn add(chain: &mut Chain, origin: &Origin, snapshot: SnapshotId, reason: Reason) {
    let store = origin.store();
    let manifest = origin.manifest(snapshot).await.expect("it is there");
    let mut names = Vec::new();
    for folder in ["s", "c", "t"] {
        let of_it = |key: &str| {
            let mut parts = key.split('/').skip(1);
            let (id, table) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let tables = manifest.tables.iter().zip(0_u16..);
            tables.into_iter().any(|(entry, number)| {
                let mut segments = entry.base.iter().chain(&entry.delta);
                segments.any(|segment| segment.id.to_string() == id) && number.to_string() == table
            })
        };
        let listed = store.list(folder).await.expect("it is listed");
        names.extend(listed.into_iter().map(|object| object.key).filter(|key| of_it(key)));
    }
    names.push(mezze_replica::manifest_key(snapshot));
    names.push(format!("state/{snapshot}"));
    let mut objects = Vec::new();
    for name in names {
        let bytes = store.require(&name).await.expect("it was written");
        objects.push((name, bytes));
    }
    let mut public = snapshot;
    let latest = origin.require_latest().await.expect("there is one");
    for audience in [Audience::Server, Audience::Public] {
        let mut head = origin.head_of(&latest).await.expect("it is whole");
        head.previous.clear();
        let shown = ReplicaKeys::of(store.clone(), audience, head).await.expect("it is whole");
        let head = shown.read(HEAD_KEY).await.expect("it is whole").expect("it is there");
        let opened = Snapshot::open(&head).expect("it is small");
        let mut keys = BTreeMap::new();
        for key in shown.keys().await.expect("they are whole") {
            if key != HEAD_KEY {
                let value = shown.read(&key).await.expect("it is whole").expect("it is there");
                keys.insert(key, value);
            }
        }
        let answers = requests(audience).iter().map(|asked| answer(asked, &opened, &keys)).collect();
        public = opened.id();
        let content = Arc::new(Content { keys, answers });
        let before = chain.contents.insert(public, Arc::clone(&content));
        assert!(before.is_none_or(|before| before == content), "two contents of one id");
    }
    chain.links.push(Link { reason, snapshot, public, objects });
}

/// What a snapshot answers, from its pages alone.
fn answer(asked: &Asked, snapshot: &Snapshot, keys: &BTreeMap<String, Bytes>) -> Vec<u8> {
    let config = config();
    let Asked { method, path, query, body } = asked;
    let request = HttpRequest { method, path, query: query.as_deref(), headers: &[] };
    let Route::Ask(ask) = route(&config, &request) else { panic!("{path} needs a snapshot") };
    let plan = ask.plan(snapshot, body.as_bytes(), Timestamp::EPOCH, &config.limits).expect("it fits").expect("of features");
    let page = |(number, key): (usize, &mezze_core::PageKey)| {
        let bytes = &keys[&ReadKey::Page(*key).to_string()];
        let (segment, table) = plan.page_home(number).expect("it is of this plan");
        Some(PageRef::verify(bytes, key, segment.bucket_count, &table.schema).expect("it is whole"))
    };
    let pages: Vec<Option<PageRef<'_>>> = plan.pages().iter().enumerate().map(page).collect();
    let served = Served::newest(snapshot, false, Timestamp::EPOCH);
    let response = ask.reply(&config, &served, &plan, &pages).expect("the pages are whole");
    assert_eq!(response.status, 200);
    response.body
}

fn definitions() -> Definitions {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("it can be written");
    write("feature_store.yaml", "project: p\nregistry: r\nonline_store: { type: directory, path: o }\n");
    std::fs::create_dir(folder.path().join("features")).expect("it can be made");
    write("features/all.yaml", DEFINITIONS);
    mezze_model::load(folder.path(), &|_| None).expect("the definitions are right").definitions
}

fn ints(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(values.map(Some).collect::<Int64Array>())
}

fn rows(view: &str, key: Option<&str>, keys: &[i64], seconds: i64, column: (&str, ArrayRef)) -> ViewRows {
    let nanos = seconds * 1_000_000_000;
    let none: ArrayRef = Arc::new(keys.iter().map(|_| None).collect::<Int64Array>());
    let mut columns = vec![("event_timestamp", ints(keys.iter().map(|_| nanos)), true), ("created_timestamp", none, true)];
    columns.extend(key.map(|name| (name, ints(keys.iter().copied()), true)));
    columns.push((column.0, column.1, true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).expect("the columns are of one length");
    ViewRows { view: view.into(), batches: vec![batch] }
}

/// Values tell the entity and the time that they are of.
fn user_rows(users: impl Iterator<Item = i64>, time: i64) -> Vec<ViewRows> {
    let users: Vec<i64> = users.collect();
    let texts: StringArray = users.iter().map(|user| Some(format!("user {user} at {time}"))).collect();
    vec![
        rows("counts", Some("user"), &users, time, ("x", ints(users.iter().map(|user| user * 100_000 + time)))),
        rows("names", Some("user"), &users, time, ("y", Arc::new(texts))),
    ]
}

fn zip_rows(zips: impl Iterator<Item = i64>, time: i64) -> Vec<ViewRows> {
    let zips: Vec<i64> = zips.collect();
    let values: Float64Array = zips.iter().map(|zip| Some(*zip as f64 + time as f64 / 65_536.0)).collect();
    vec![rows("places", Some("zip"), &zips, time, ("z", Arc::new(values)))]
}

/// Of a view without entities, whose rows lie in the manifest.
fn rate(time: i64) -> ViewRows {
    rows("rates", None, &[0], time, ("r", ints(std::iter::once(time))))
}

const DEFINITIONS: &str = "\
entities: [{ name: user }, { name: zip }]
sources: [{ name: s, path: s.parquet, timestamp_field: t }]
feature_views:
  - { name: counts, entities: [user], source: s, schema: [{ name: x, dtype: int64 }], retain: 0 }
  - { name: names, entities: [user], source: s, schema: [{ name: y, dtype: string }], retain: 0 }
  - { name: places, entities: [zip], source: s, audience: public, schema: [{ name: z, dtype: float64 }], retain: 0 }
  - { name: rates, source: s, audience: public, schema: [{ name: r, dtype: int64 }], retain: 0 }
feature_services:
  - { name: people, features: [counts, names] }
  - { name: places, features: [places, rates] }
  - { name: both, features: [counts, places, rates] }
";
const LINKS: i64 = 9;
const USERS: i64 = 40;
const ZIPS: i64 = 24;
