//! An origin in virtual time, epoch after epoch, and a reader that knows every right answer.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use async_trait::async_trait;
use mezze_core::{
    Audience, Exchange, Fetched, Gateway, HttpConfig, HttpRequest, HttpResponse, Limits, MediaType, PageRef, Route, SnapshotId,
    Span, Step, Timestamp, route,
};
use mezze_model::Definitions;
use mezze_replica::{Error, Origin, Publish, PublishPlan, PublishReport, Reader, Signer, Store, Target};
use mezze_snapshot::{Materialize, ViewRows};

use crate::vendors::clock::Clock;

/// The virtual clock, as publishers have it. Whoever waits lets others go on, and the first that is due lets time pass.
#[derive(Clone, Debug)]
pub(crate) struct Ticks(pub(crate) Clock, Arc<Mutex<Vec<i64>>>);

/// A wait that is under way, or was given up.
struct Wait<'a>(&'a Ticks, i64);

#[async_trait]
impl mezze_replica::Clock for Ticks {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.now())
    }

    async fn sleep(&self, span: Span) {
        let wait = Wait(self, self.0.now() + span.nanos());
        self.waits().push(wait.1);
        while self.0.now() < wait.1 {
            tokio::task::yield_now().await;
            let left = wait.1 - self.0.now();
            if left > 0 && self.waits().iter().min() == Some(&wait.1) {
                self.0.advance(Duration::from_nanos(left.unsigned_abs()));
            }
        }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let mut waits = self.0.waits();
        waits.iter().position(|wait| *wait == self.1).map(|wait| waits.swap_remove(wait));
    }
}

impl Ticks {
    fn new() -> Self {
        Self(Clock::new(), Arc::default())
    }

    fn waits(&self) -> MutexGuard<'_, Vec<i64>> {
        self.1.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn pass(&self, seconds: u64) {
        self.0.advance(Duration::from_secs(seconds));
    }
}

/// The origin after each of its epochs, and the right answers of its snapshots. Shared by the tests that run.
pub(crate) struct Stages {
    folder: tempfile::TempDir,
    answers: BTreeMap<SnapshotId, Vec<Vec<u8>>>,
}

static STAGES: Mutex<Weak<Stages>> = Mutex::new(Weak::new());

impl Stages {
    /// A base, two deltas, a compaction, the removal of an entity with another, and every row anew.
    pub(crate) const EPOCHS: u64 = 6;

    fn shared() -> Arc<Self> {
        let mut shared = STAGES.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let made = Arc::new(outside(Self::make));
            *shared = Arc::downgrade(&made);
            made
        })
    }

    async fn make() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let definitions = definitions(folder.path());
        let work = folder.path().join("origin");
        let origin = Origin::new(Store::folder(&work).expect("the folder can be made"));
        let mut answers = BTreeMap::new();
        for epoch in 1..=Self::EPOCHS {
            let mut run = Materialize::new(&origin, &definitions, Timestamp::from_nanos(Clock::new().now()));
            (run.page_bytes_max, run.threads) = (PAGE_BYTES, 1);
            let all = 1..=USERS;
            let rows = match epoch {
                1 => vec![clicks(epoch, all), badges(epoch, 1..=BADGES), today(epoch)],
                2 => vec![clicks(epoch, [3, 40, 77])],
                3 => vec![clicks(epoch, [3, 120]), badges(epoch, [5]), today(epoch)],
                6 => vec![clicks(epoch, all)],
                _ => vec![],
            };
            run.compact = epoch >= 4;
            let report = match epoch {
                5 => run.forget(&BTreeMap::from([("user_id".to_owned(), "7".to_owned())])).await,
                _ => run.run(rows, &run.state().await.expect("it is read")).await,
            };
            let record = report.expect("it can be built").record.expect("there is something new");
            assert_eq!(record.epoch, epoch);
            let manifest = origin.manifest(record.snapshot).await.expect("it is there");
            let has_delta = manifest.tables.iter().any(|table| table.delta.is_some());
            assert_eq!(has_delta, matches!(epoch, 2 | 3), "epoch {epoch}");
            answers.insert(record.snapshot, right_answers(&origin).await);
            copy(&work, &folder.path().join(epoch.to_string()));
        }
        Self { folder, answers }
    }
}

/// A larger origin of one epoch, with a page for every few rows.
pub(crate) async fn many_pages(users: i64) -> (tempfile::TempDir, Origin) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let definitions = definitions(folder.path());
    let origin = Origin::new(Store::folder(&folder.path().join("origin")).expect("the folder can be made"));
    let mut run = Materialize::new(&origin, &definitions, Timestamp::from_nanos(Clock::new().now()));
    run.page_bytes_max = 1;
    run.run(vec![clicks(1, 1..=users)], &run.state().await.expect("it is read")).await.expect("it can be built");
    (folder, origin)
}

/// An origin and the time.
pub(crate) struct World {
    pub(crate) clock: Ticks,
    pub(crate) origin: Origin,
    pub(crate) stages: Arc<Stages>,
    folder: tempfile::TempDir,
}

impl World {
    /// An origin at one of the epochs.
    pub(crate) fn at(epoch: u64) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let origin = Origin::new(Store::folder(&folder.path().join("origin")).expect("the folder can be made"));
        let world = Self { clock: Ticks::new(), origin, stages: Stages::shared(), folder };
        world.bring(epoch);
        world
    }

    /// The origin gets what the epochs up to this one wrote.
    pub(crate) fn bring(&self, epoch: u64) {
        copy(&self.stages.folder.path().join(epoch.to_string()), &self.folder.path().join("origin"));
    }

    /// A path beside the origin.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) async fn publish(&self, target: &Target) -> Result<PublishReport, Error> {
        self.publisher("first").run(&self.origin, target).await
    }

    pub(crate) async fn plan(&self, target: &Target) -> Result<PublishPlan, Error> {
        self.publisher("first").as_publish(target).plan(&self.origin).await
    }

    pub(crate) fn publisher<'a>(&'a self, holder: &'a str) -> Publisher<'a> {
        Publisher { holder, audience: Audience::Server, clock: &self.clock, signer: None }
    }

    /// A reader of what a place holds.
    pub(crate) fn watcher(&self, sees: Sees) -> Arc<Watcher> {
        self.watcher_for(Audience::Server, sees)
    }

    pub(crate) fn watcher_for(&self, audience: Audience, sees: Sees) -> Arc<Watcher> {
        let (origin, stages) = (self.origin.clone(), Arc::clone(&self.stages));
        Arc::new(Watcher { sees, audience, origin, stages, last: Mutex::new(0) })
    }
}

/// Who publishes.
#[derive(Clone, Copy)]
pub(crate) struct Publisher<'a> {
    pub(crate) holder: &'a str,
    pub(crate) audience: Audience,
    pub(crate) clock: &'a Ticks,
    pub(crate) signer: Option<&'a Signer>,
}

impl<'a> Publisher<'a> {
    pub(crate) fn as_publish(&self, target: &'a Target) -> Publish<'a> {
        Publish {
            replica: REPLICA,
            target,
            audience: self.audience,
            holder: self.holder,
            lease: Span::from_seconds(LEASE_SECONDS as i64),
            signer: self.signer,
            clock: self.clock,
            progress: &|_| (),
        }
    }

    pub(crate) async fn run(&self, origin: &Origin, target: &'a Target) -> Result<PublishReport, Error> {
        self.as_publish(target).run(origin).await
    }
}

/// What is under a key.
type ValueOf = dyn Fn(&str) -> Option<Vec<u8>> + Send + Sync;

/// Where a reader reads.
#[derive(Clone)]
pub(crate) enum Sees {
    /// The files of a directory replica.
    Files(PathBuf),
    /// The value of a key.
    Keys(Arc<ValueOf>),
}

/// A reader. It knows the right answer of every snapshot, and which epoch it saw last.
pub(crate) struct Watcher {
    sees: Sees,
    audience: Audience,
    origin: Origin,
    stages: Arc<Stages>,
    last: Mutex<u64>,
}

impl Watcher {
    /// Reads everything, which has to be right; returns the epoch that answers, `None` before the first.
    pub(crate) fn look(&self) -> Option<u64> {
        let found = match &self.sees {
            Sees::Files(folder) => outside(|| answers_of_files(folder)),
            Sees::Keys(value_of) => answers_of_keys(value_of.as_ref(), self.audience),
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((epoch, answers)) = found else {
            assert_eq!(*last, 0, "nothing is served any more");
            return None;
        };
        assert!(epoch >= *last, "epoch {epoch} is served after {last}");
        *last = epoch;
        let record = outside(|| self.origin.epoch(epoch)).expect("it is read").expect("only the origin's epochs are served");
        let right = &self.stages.answers[&record.snapshot];
        for (number, answer) in answers.iter().enumerate() {
            let show = String::from_utf8_lossy;
            assert_eq!(
                show(answer),
                show(&right[number]),
                "request {number} is answered with another snapshot's values than {epoch}'s"
            );
        }
        Some(epoch)
    }
}

/// The epoch of a directory replica, and the answers that it gives.
async fn answers_of_files(folder: &Path) -> Option<(u64, Vec<Vec<u8>>)> {
    let store = Store::folder(folder).expect("the folder can be made");
    let reader = match Reader::open(store, 1 << 20).await {
        Err(Error::NoSnapshot { .. }) => return None,
        reader => reader.expect("what the head names is there"),
    };
    Some((reader.snapshot().epoch(), answers_of_reader(&reader).await))
}

async fn right_answers(origin: &Origin) -> Vec<Vec<u8>> {
    answers_of_reader(&Reader::open(origin.store().clone(), 1 << 20).await.expect("there is a snapshot")).await
}

async fn answers_of_reader(reader: &Reader) -> Vec<Vec<u8>> {
    let mut answers = Vec::new();
    for request in requests() {
        let (now, limits) = (Timestamp::from_nanos(Clock::new().now()), Limits::server());
        let plan = reader.snapshot().plan_body(request.as_bytes(), MediaType::Json, now, &limits);
        let plan = plan.unwrap_or_else(|refusal| panic!("{request}: {}", refusal.message));
        let pages = reader.pages(&plan).await.expect("every page is whole");
        let pages: Vec<Option<PageRef<'_>>> = pages.iter().map(|page| PageRef::resident(page).ok()).collect();
        let mut answer = Vec::new();
        plan.write_answer(&pages, MediaType::Json, &mut answer).expect("every page is whole");
        answers.push(answer);
    }
    answers
}

/// The epoch of keys, and the answers that the edges' gateway gives.
fn answers_of_keys(value_of: &dyn Fn(&str) -> Option<Vec<u8>>, audience: Audience) -> Option<(u64, Vec<Vec<u8>>)> {
    let mut gateway = Gateway::new(HttpConfig::edge(1_000));
    let is_served = value_of(mezze_core::HEAD_KEY).is_some();
    let mut found = None;
    let mut answers = Vec::new();
    for request in requests().iter().take(if audience == Audience::Public { 1 } else { usize::MAX }) {
        let response = respond(&mut gateway, value_of, request);
        if !is_served {
            assert_eq!(response.status, 503);
            return None;
        }
        let said = || String::from_utf8_lossy(&response.body);
        assert_eq!(response.status, 200, "{}", said());
        assert_eq!(response.header("x-mezze-steps-back"), None, "the newest snapshot is not whole: {}", said());
        let epoch: u64 = response.header("x-mezze-epoch").and_then(|epoch| epoch.parse().ok()).expect("an epoch answers");
        assert!(found.is_none_or(|found| found == epoch), "the head changes while it is held");
        found = Some(epoch);
        answers.push(response.body);
    }
    found.map(|epoch| (epoch, answers))
}

/// A request through the gateway that every edge has.
pub(crate) fn respond(gateway: &mut Gateway, value_of: &dyn Fn(&str) -> Option<Vec<u8>>, body: &str) -> HttpResponse {
    let headers = [("content-type", "application/json")];
    let request = HttpRequest { method: "POST", path: "/get-online-features", query: None, headers: &headers };
    let ask = match route(gateway.config(), &request) {
        Route::Respond(response) => return response,
        Route::Ask(ask) => ask,
    };
    let mut exchange = Exchange::new(ask, body.as_bytes().to_vec());
    let mut fetched = Vec::new();
    loop {
        match gateway.step(&mut exchange, fetched, Timestamp::from_nanos(Clock::new().now())) {
            Step::Read(reads) => {
                let value = |read: &mezze_core::Read| value_of(&read.key.to_string()).map_or(Fetched::Missing, Fetched::Value);
                fetched = reads.iter().map(value).collect();
            }
            Step::Done(response) => return response,
        }
    }
}

/// The requests: the first is for what is public, all together need every page.
pub(crate) fn requests() -> [String; 3] {
    let list = |users: &mut dyn Iterator<Item = i64>| users.map(|user| user.to_string()).collect::<Vec<_>>().join(",");
    [
        format!(r#"{{"features":["badges:color"],"entities":{{"user_id":[{}]}}}}"#, list(&mut (1..=BADGES))),
        r#"{"feature_service":"all","entities":{"user_id":[1,3,5,7,40,77,120,999]}}"#.to_owned(),
        format!(r#"{{"features":["clicks:count"],"entities":{{"user_id":[{}]}}}}"#, list(&mut (1..=USERS))),
    ]
}

fn definitions(folder: &Path) -> Definitions {
    fs::create_dir_all(folder.join("features")).expect("the folder can be made");
    let store = "project: test\nregistry: r\nonline_store: { type: directory, path: origin }\n";
    fs::write(folder.join("feature_store.yaml"), store).expect("the file can be written");
    fs::write(folder.join("features/all.yaml"), DEFINITIONS).expect("the file can be written");
    mezze_model::load(folder, &|_| None).expect("they are definitions").definitions
}

fn clicks(epoch: u64, users: impl IntoIterator<Item = i64>) -> ViewRows {
    rows("clicks", "count", epoch, Some(users.into_iter().collect()))
}

fn badges(epoch: u64, users: impl IntoIterator<Item = i64>) -> ViewRows {
    rows("badges", "color", epoch, Some(users.into_iter().collect()))
}

fn today(epoch: u64) -> ViewRows {
    rows("today", "rate", epoch, None)
}

/// Rows whose values user and epoch decide, and nothing makes small.
fn rows(view: &str, feature: &str, epoch: u64, users: Option<Vec<i64>>) -> ViewRows {
    let values: Vec<i64> =
        users.as_deref().unwrap_or(&[0]).iter().map(|user| (user * 1_000 + epoch as i64).wrapping_mul(MIX)).collect();
    let at = Clock::new().now() - 3_600_000_000_000 + epoch as i64;
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        ("event_timestamp", Arc::new(Int64Array::from(vec![at; values.len()]))),
        ("created_timestamp", Arc::new(Int64Array::new_null(values.len()))),
    ];
    columns.extend(users.map(|users| ("user_id", Arc::new(Int64Array::from(users)) as ArrayRef)));
    columns.push((feature, Arc::new(Int64Array::from(values))));
    ViewRows { view: view.to_owned(), batches: vec![RecordBatch::try_from_iter(columns).expect("they are of one length")] }
}

/// Copies the files of an origin over another's, its locks and leases apart.
fn copy(from: &Path, to: &Path) {
    for (path, bytes) in crate::common::files(from) {
        let name = path.strip_prefix(from).expect("it is in the folder");
        if !name.to_string_lossy().starts_with("lock.") {
            let path = to.join(name);
            fs::create_dir_all(path.parent().expect("it is in the folder")).expect("the folder can be made");
            fs::write(path, bytes).expect("the file can be written");
        }
    }
}

/// Runs a future to its end, whatever runs around it.
pub(crate) fn outside<F: Future<Output: Send>>(make: impl FnOnce() -> F + Send) -> F::Output {
    let run = || tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(make());
    std::thread::scope(|threads| threads.spawn(run).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The replica's name.
pub(crate) const REPLICA: &str = "edge";
pub(crate) const LEASE_SECONDS: u64 = 120;
const PAGE_BYTES: usize = 600;
const MIX: i64 = 0x1e37_79b9_7f4a_7c15;
const USERS: i64 = 160;
const BADGES: i64 = 60;
const DEFINITIONS: &str = "\
entities:
  - { name: user, join_keys: [user_id], value_type: int64 }
sources:
  - { name: rows, path: rows.parquet, timestamp_field: ts }
feature_views:
  - { name: clicks, entities: [user], source: rows, schema: [{ name: count, dtype: int64 }] }
  - { name: badges, entities: [user], source: rows, audience: public, schema: [{ name: color, dtype: int64 }] }
  - { name: today, entities: [], source: rows, schema: [{ name: rate, dtype: int64 }] }
feature_services:
  - { name: all, features: [clicks, badges, today] }
";
