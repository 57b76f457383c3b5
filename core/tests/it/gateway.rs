//! Requests over HTTP against a key-value store that is late, loses and damages keys.

use std::cell::RefCell;
use std::collections::BTreeMap;

use expect_test::{Expect, expect};
use mezze_core::{
    Audience, ColumnData, ColumnInput, Exchange, FeatureSchema, Fetched, Gateway, HEAD_KEY, Head, HttpConfig, HttpRequest,
    HttpResponse, KeyColumn, KeyHash, KeyPart, KeyType, Manifest, PageInput, PageKey, PageWriter, PreviousSnapshot, Read, Route,
    Segment, SegmentId, Service, ServiceProjection, SnapshotId, Span, Step, Table, TableSchema, Timestamp, Tree, ValueType,
    ViewInput, ViewSchema, route,
};

pub(crate) const USERS: i64 = 40;
pub(crate) const BUCKETS: u32 = 4;
/// Event time of every row, and when requests are made, in seconds.
const EVENT: i64 = 1_000;
pub(crate) const NOW: i64 = 1_050;
const TTL: i64 = 100;

/// A key-value store, and what was read of it.
#[derive(Default)]
pub(crate) struct Kv {
    pub(crate) keys: BTreeMap<String, Vec<u8>>,
    pub(crate) failing: Vec<String>,
    reads: RefCell<Vec<Read>>,
}

impl Kv {
    /// Publishes the snapshot of an epoch: every value tells it.
    pub(crate) fn publish(&mut self, epoch: u64, inline: bool) {
        let (id, manifest) = self.write_snapshot(epoch);
        self.keys.insert(format!("m/{id}"), manifest.clone());
        let previous = (1..epoch).rev().take(2).map(|epoch| {
            let (snapshot, _) = snapshot(epoch);
            PreviousSnapshot { epoch, issued_at: Timestamp::from_seconds(NOW - 100), snapshot }
        });
        let head = Head {
            epoch,
            issued_at: Timestamp::from_seconds(NOW - 7),
            snapshot: id,
            previous: previous.collect(),
            manifest: inline.then_some(manifest),
        };
        self.keys.insert(HEAD_KEY.into(), head.encode().expect("it is small"));
    }

    fn write_snapshot(&mut self, epoch: u64) -> (SnapshotId, Vec<u8>) {
        for bucket in 0..BUCKETS {
            self.keys.insert(PageKey::new(segment(epoch), 0, bucket).to_string(), page(epoch, bucket));
        }
        snapshot(epoch)
    }

    pub(crate) fn fetch(&self, read: &Read) -> Fetched {
        self.reads.borrow_mut().push(*read);
        let key = read.key.to_string();
        if self.failing.contains(&key) {
            return Fetched::Failed("timed out".into());
        }
        self.keys.get(&key).map_or(Fetched::Missing, |value| Fetched::Value(value.clone()))
    }

    /// What was read since the last call.
    pub(crate) fn take_reads(&self) -> Vec<String> {
        let fresh = |read: &Read| if read.fresh { " fresh" } else { "" };
        self.reads.take().iter().map(|read| format!("{}{}", read.key, fresh(read))).collect()
    }

    /// The key of the page that holds a user, in the snapshot of an epoch.
    pub(crate) fn page_of(epoch: u64, user: i64) -> String {
        PageKey::new(segment(epoch), 0, KeyHash::of(&[KeyPart::Int(user)]).bucket(BUCKETS)).to_string()
    }
}

pub(crate) fn segment(epoch: u64) -> SegmentId {
    SegmentId::from_bytes([epoch as u8; 16])
}

pub(crate) fn page(epoch: u64, bucket: u32) -> Vec<u8> {
    let mut users: Vec<(KeyHash, i64)> = (0..USERS).map(|user| (KeyHash::of(&[KeyPart::Int(user)]), user)).collect();
    users.retain(|(hash, _)| hash.bucket(BUCKETS) == bucket);
    users.sort_unstable();
    let hashes: Vec<KeyHash> = users.iter().map(|(hash, _)| *hash).collect();
    let keys: Vec<i64> = users.iter().map(|(_, user)| *user).collect();
    let values: Vec<i64> = keys.iter().map(|user| user * 1_000 + epoch as i64).collect();
    let times = vec![EVENT * 1_000_000_000; keys.len()];
    let column = |data| ColumnInput { data, validity: None };
    let features = [column(ColumnData::Int(&values)), column(ColumnData::Int(&values))];
    let views = [ViewInput { times: &times, present: None, features: &features }];
    let key = PageKey::new(segment(epoch), 0, bucket);
    let input = PageInput { key, bucket_count: BUCKETS, hashes: &hashes, keys: &[column(ColumnData::Int(&keys))], views: &views };
    let mut page = Vec::new();
    PageWriter::new().write(&input, &mut page).expect("the rows are in order");
    page
}

/// The tree over the pages of an epoch.
pub(crate) fn tree(epoch: u64) -> Tree {
    Tree::new((0..BUCKETS).map(|bucket| Tree::leaf(&page(epoch, bucket))).collect())
}

pub(crate) fn snapshot(epoch: u64) -> (SnapshotId, Vec<u8>) {
    let features = vec![FeatureSchema::new("a", ValueType::Int64), FeatureSchema::new("b", ValueType::Int64)];
    let view = ViewSchema::new("counts", Span::from_seconds(TTL), Audience::Server, features);
    let schema = TableSchema::new("user", vec![KeyColumn::new("user", "user", KeyType::Int)], vec![view]);
    let base = Segment {
        id: segment(epoch),
        bucket_count: BUCKETS,
        row_count: 40,
        page_bytes: 0,
        root: tree(epoch).root(),
        time_shifts: vec![Span::ZERO],
    };
    let projection = ServiceProjection { table: 0, view: 0, alias: None, join_key_map: vec![], features: vec![0, 1] };
    let manifest = Manifest {
        project: "test".into(),
        definition_digest: [0; 32],
        input_digest: [epoch as u8; 32],
        tables: vec![Table { watermarks: vec![Timestamp::from_seconds(EVENT)], base: Some(base), ..Table::empty(schema) }],
        request_sources: vec![],
        on_demand_views: vec![],
        services: vec![Service { name: "ü both".into(), projections: vec![projection], request_sources: vec![] }],
    };
    let bytes = manifest.encode().expect("it is small");
    (Manifest::id_of(&bytes), bytes)
}

pub(crate) fn gateway(variables: &[(&str, &str)]) -> Gateway {
    let config = variables
        .iter()
        .fold(HttpConfig::edge(16), |config, (name, value)| config.with_variable(name, value).expect("it can have this value"));
    Gateway::new(config)
}

pub(crate) fn respond(
    gateway: &mut Gateway,
    kv: &Kv,
    now: i64,
    line: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> HttpResponse {
    let (method, target) = line.split_once(' ').expect("a method and a target");
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let ask = match route(gateway.config(), &HttpRequest { method, path, query, headers }) {
        Route::Respond(response) => return response,
        Route::Ask(ask) => ask,
    };
    if ask.reads_body() && body.len() > gateway.config().limits.request_bytes_max {
        return ask.body_too_large(gateway.config());
    }
    let mut exchange = Exchange::new(ask, body.to_vec());
    let mut fetched = Vec::new();
    loop {
        match gateway.step(&mut exchange, fetched, Timestamp::from_seconds(now)) {
            Step::Read(reads) => fetched = reads.iter().map(|read| kv.fetch(read)).collect(),
            Step::Done(response) => return response,
        }
    }
}

pub(crate) fn get(gateway: &mut Gateway, kv: &Kv, user: i64) -> HttpResponse {
    respond(gateway, kv, NOW, &format!("GET /v1/features/%C3%BC%20both?user={user}"), &[], b"")
}

/// The epoch that a response says, after checking that its values are all of that epoch.
pub(crate) fn epoch_of(response: &HttpResponse, user: i64) -> u64 {
    assert_eq!(response.status, 200, "{}", String::from_utf8_lossy(&response.body));
    let epoch: u64 = response.header("x-mezze-epoch").expect("it is there").parse().expect("it is a number");
    let value = user * 1_000 + epoch as i64;
    let body = String::from_utf8_lossy(&response.body);
    assert_eq!(body.matches(&format!("\"values\":[{value}]")).count(), 2, "epoch {epoch}: {body}");
    epoch
}

fn show(response: &HttpResponse) -> String {
    let headers: Vec<String> = response.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    format!("{}\n{}\n{}\n", response.status, headers.concat(), String::from_utf8_lossy(&response.body))
}

fn check(response: &HttpResponse, expected: Expect) {
    expected.assert_eq(&show(response));
}

#[test]
fn the_first_request_reads_head_and_page_and_the_next_nothing() {
    let (mut kv, mut gateway) = (Kv::default(), gateway(&[]));
    kv.publish(1, true);
    assert_eq!(epoch_of(&get(&mut gateway, &kv, 3), 3), 1);
    assert_eq!(kv.take_reads(), ["head".into(), Kv::page_of(1, 3)]);
    assert_eq!(epoch_of(&get(&mut gateway, &kv, 3), 3), 1);
    assert_eq!(kv.take_reads(), [""; 0]);
    assert!(gateway.page_bytes() > 0);
}

#[test]
fn a_manifest_beside_the_head_is_read_once() {
    let (mut kv, mut gateway) = (Kv::default(), gateway(&[]));
    kv.publish(1, false);
    assert_eq!(epoch_of(&get(&mut gateway, &kv, 3), 3), 1);
    assert_eq!(kv.take_reads(), ["head".into(), format!("m/{}", snapshot(1).0), Kv::page_of(1, 3)]);
}

#[test]
fn a_later_head_answers_when_it_is_due_and_an_earlier_one_never() {
    let (mut kv, mut gateway) = (Kv::default(), gateway(&[("MEZZE_HEAD_SECONDS", "10")]));
    let line = "GET /v1/features/%C3%BC%20both?user=3";
    let mut epoch_at = |kv: &Kv, now| epoch_of(&respond(&mut gateway, kv, now, line, &[], b""), 3);
    kv.publish(1, true);
    assert_eq!(epoch_at(&kv, NOW), 1);
    kv.publish(2, true);
    assert_eq!(epoch_at(&kv, NOW + 9), 1);
    assert_eq!(epoch_at(&kv, NOW + 10), 2);
    // A cache gives an older head.
    kv.publish(1, true);
    assert_eq!(epoch_at(&kv, NOW + 20), 2);
    // No head, a damaged one, a store that fails: the snapshot before answers on.
    let head = kv.keys.insert(HEAD_KEY.into(), b"damaged".into()).expect("there was one");
    assert_eq!(epoch_at(&kv, NOW + 30), 2);
    kv.keys.remove(HEAD_KEY);
    assert_eq!(epoch_at(&kv, NOW + 40), 2);
    kv.keys.insert(HEAD_KEY.into(), head);
    kv.failing.push(HEAD_KEY.into());
    assert_eq!(epoch_at(&kv, NOW + 50), 2);
}

#[test]
fn whatever_a_page_suffers_the_snapshot_before_answers_and_says_so() {
    let (user, mut store) = (7, Kv::default());
    store.publish(1, true);
    store.publish(2, true);
    let key = Kv::page_of(2, user);
    let whole = store.keys[&key].clone();
    let mut faults: Vec<(String, Option<Vec<u8>>)> = vec![
        ("missing".into(), None),
        ("empty".into(), Some(vec![])),
        ("another snapshot's".into(), Some(store.keys[&Kv::page_of(1, user)].clone())),
        ("another bucket's".into(), Some(page(2, (KeyHash::of(&[KeyPart::Int(user)]).bucket(BUCKETS) + 1) % BUCKETS))),
    ];
    for end in [1, whole.len() / 2, whole.len() - 1] {
        faults.push((format!("cut at {end}"), Some(whole[..end].into())));
    }
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        faults.push((format!("flipped at {at}"), Some(damaged)));
    }
    for (fault, bytes) in faults {
        match bytes {
            Some(bytes) => store.keys.insert(key.clone(), bytes),
            None => store.keys.remove(&key),
        };
        let mut gateway = gateway(&[]);
        let response = get(&mut gateway, &store, user);
        assert_eq!(epoch_of(&response, user), 1, "{fault}");
        assert_eq!(response.header("x-mezze-steps-back"), Some("1"), "{fault}");
        assert_eq!(response.header("cache-control"), Some("no-store"), "{fault}");
        let reads = store.take_reads();
        let manifest = format!("m/{}", snapshot(1).0);
        let again = format!("{key} fresh");
        assert_eq!(reads, ["head".into(), key.clone(), again, "head fresh".into(), manifest, Kv::page_of(1, user)], "{fault}");
    }
    // A late page is there at the second look.
    store.keys.insert(key.clone(), whole);
    assert_eq!(epoch_of(&get(&mut gateway(&[]), &store, user), user), 2);
}

#[test]
fn two_steps_back_and_then_it_is_unavailable() {
    let (user, mut kv) = (7, Kv::default());
    for epoch in 1..=4 {
        kv.publish(epoch, true);
    }
    for lost in [4, 3] {
        kv.keys.remove(&Kv::page_of(lost, user));
    }
    let response = get(&mut gateway(&[]), &kv, user);
    assert_eq!((epoch_of(&response, user), response.header("x-mezze-steps-back")), (2, Some("2")));
    kv.keys.remove(&Kv::page_of(2, user));
    kv.take_reads();
    let mut gateway = gateway(&[]);
    let response = get(&mut gateway, &kv, user);
    check(
        &response,
        expect![[r#"
        503
        retry-after: 1
        cache-control: no-store
        content-type: application/json

        "{\"module\": \"feast.errors\", \"class\": \"FeastError\", \"message\": \"no complete snapshot can be read: page p/04040404040404040404040404040404/0/2 is missing\"}"
    "#]],
    );
    assert_eq!(kv.take_reads().len(), 10);
    // Once a second, not once a request, the head is read past the caches.
    assert_eq!(get(&mut gateway, &kv, user).status, 503);
    assert!(!kv.take_reads().contains(&"head fresh".into()));
}

#[test]
fn reads_stay_within_the_budget() {
    let (user, mut kv) = (7, Kv::default());
    for epoch in 1..=3 {
        kv.publish(epoch, true);
        kv.keys.remove(&Kv::page_of(epoch, user));
    }
    for reads_max in 0..12 {
        let mut gateway = Gateway::new({
            let mut config = HttpConfig::edge(16);
            config.reads_max = reads_max;
            config
        });
        assert_eq!(get(&mut gateway, &kv, user).status, 503);
        assert!(kv.take_reads().len() <= reads_max, "{reads_max}");
    }
}

#[test]
fn a_client_gets_what_is_as_new_as_it_has_seen_or_a_conflict() {
    let (user, mut kv, mut gateway) = (7, Kv::default(), gateway(&[]));
    let line = format!("GET /v1/features/%C3%BC%20both?user={user}");
    kv.publish(1, true);
    assert_eq!(epoch_of(&get(&mut gateway, &kv, user), user), 1);
    kv.publish(2, true);
    kv.take_reads();
    let response = respond(&mut gateway, &kv, NOW, &line, &[("x-mezze-epoch", "2")], b"");
    assert_eq!(epoch_of(&response, user), 2);
    assert_eq!(kv.take_reads(), ["head fresh".into(), Kv::page_of(2, user)]);
    // An invented epoch costs one read a second, whoever invents it.
    let invented = [("x-mezze-epoch", "18446744073709551615")];
    check(
        &respond(&mut gateway, &kv, NOW, &line, &invented, b""),
        expect![[r#"
            409
            retry-after: 30
            cache-control: no-store
            content-type: application/json
            x-mezze-snapshot: d7c88bc9e151b57d73779927b1f5796a
            x-mezze-epoch: 2
            x-mezze-age: 7

            "{\"module\": \"feast.errors\", \"class\": \"FeastError\", \"message\": \"this host is at epoch 2, the request wants 18446744073709551615 or later\"}"
        "#]],
    );
    assert_eq!(kv.take_reads(), [""; 0]);
    assert_eq!(respond(&mut gateway, &kv, NOW + 1, &line, &invented, b"").status, 409);
    assert_eq!(respond(&mut gateway, &kv, NOW + 1, &line, &invented, b"").status, 409);
    assert_eq!(kv.take_reads(), ["head fresh"]);
    // A snapshot before the one seen does not answer in its place.
    kv.keys.remove(&Kv::page_of(2, 5));
    kv.keys.remove(&Kv::page_of(2, user));
    let mut fresh = self::gateway(&[]);
    let response = respond(&mut fresh, &kv, NOW, &line, &[("x-mezze-epoch", "2")], b"");
    assert_eq!(response.status, 503, "{}", show(&response));
    let response = respond(&mut fresh, &kv, NOW, &line, &[("x-mezze-epoch", "two")], b"");
    assert_eq!(response.status, 400);
}

#[test]
fn an_exchange_ends_with_the_snapshot_that_it_began_with() {
    let (user, mut kv, mut gateway) = (7, Kv::default(), gateway(&[("MEZZE_HEAD_SECONDS", "0")]));
    kv.publish(1, true);
    assert_eq!(epoch_of(&get(&mut gateway, &kv, 3), 3), 1);
    let query = format!("user={user}");
    let request = HttpRequest { method: "GET", path: "/v1/features/ü both", query: Some(&query), headers: &[] };
    let Route::Ask(ask) = route(gateway.config(), &request) else { panic!("it is a request for features") };
    let mut slow = Exchange::new(ask, vec![]);
    let now = Timestamp::from_seconds(NOW);
    let Step::Read(reads) = gateway.step(&mut slow, vec![], now) else { panic!("the head is due") };
    let heads = reads.iter().map(|read| kv.fetch(read)).collect();
    let Step::Read(reads) = gateway.step(&mut slow, heads, now) else { panic!("the page is not here") };
    let pages = reads.iter().map(|read| kv.fetch(read)).collect();
    // Meanwhile another snapshot is published and answers.
    kv.publish(2, true);
    assert_eq!(epoch_of(&get(&mut gateway, &kv, user), user), 2);
    let Step::Done(response) = gateway.step(&mut slow, pages, now) else { panic!("all is there") };
    assert_eq!(epoch_of(&response, user), 1);
}

#[test]
fn a_body_and_a_url_ask_the_same() {
    let (mut kv, mut gateway) = (Kv::default(), gateway(&[]));
    kv.publish(1, true);
    let body = r#"{"feature_service": "ü both", "entities": {"user": ["3", "99"]}}"#;
    let posted = respond(&mut gateway, &kv, NOW, "POST /get-online-features", &[], body.as_bytes());
    let got = respond(&mut gateway, &kv, NOW, "GET /v1/features/%c3%bc+both?user=3&user=99", &[], b"");
    assert_eq!(got.status, 404, "a plus is no space in a path");
    let got = respond(&mut gateway, &kv, NOW, "GET /v1/features/%c3%bc%20both?user=3&user=99", &[], b"");
    assert_eq!(String::from_utf8_lossy(&posted.body), String::from_utf8_lossy(&got.body));
    check(
        &got,
        expect![[r#"
            200
            x-mezze-snapshot: 20e3f3a6ab1df0e10e8dcb210120c2c3
            x-mezze-epoch: 1
            x-mezze-age: 7
            cache-control: public, max-age=50
            vary: Accept, X-Mezze-Epoch
            etag: "b8fe565d8b84e636"
            content-type: application/json

            {"results":[{"values":[3,99],"statuses":["PRESENT","PRESENT"],"event_timestamps":["1970-01-01T00:00:00Z","1970-01-01T00:00:00Z"]},{"values":[3001,null],"statuses":["PRESENT","NOT_FOUND"],"event_timestamps":["1970-01-01T00:16:40Z","1970-01-01T00:00:00Z"]},{"values":[3001,null],"statuses":["PRESENT","NOT_FOUND"],"event_timestamps":["1970-01-01T00:16:40Z","1970-01-01T00:00:00Z"]}],"metadata":{"feature_names":["user","a","b"]}}
        "#]],
    );
    check(
        &posted,
        expect![[r#"
            200
            x-mezze-snapshot: 20e3f3a6ab1df0e10e8dcb210120c2c3
            x-mezze-epoch: 1
            x-mezze-age: 7
            content-type: application/json

            {"results":[{"values":[3,99],"statuses":["PRESENT","PRESENT"],"event_timestamps":["1970-01-01T00:00:00Z","1970-01-01T00:00:00Z"]},{"values":[3001,null],"statuses":["PRESENT","NOT_FOUND"],"event_timestamps":["1970-01-01T00:16:40Z","1970-01-01T00:00:00Z"]},{"values":[3001,null],"statuses":["PRESENT","NOT_FOUND"],"event_timestamps":["1970-01-01T00:16:40Z","1970-01-01T00:00:00Z"]}],"metadata":{"feature_names":["user","a","b"]}}
        "#]],
    );
    let packed =
        respond(&mut gateway, &kv, NOW, "POST /get-online-features", &[("accept", "application/msgpack")], body.as_bytes());
    assert_eq!(packed.header("content-type"), Some("application/msgpack"));
    assert_eq!(packed.body[0], 0x82);
}

#[test]
fn a_cached_response_lives_until_a_status_changes() {
    let (mut kv, mut gateway) = (Kv::default(), gateway(&[("MEZZE_CACHE_SECONDS", "30")]));
    kv.publish(1, true);
    let line = "GET /v1/features/%C3%BC%20both?user=3";
    let mut at = |now, known: &str| respond(&mut gateway, &kv, now, line, &[("if-none-match", known)], b"");
    let first = at(NOW, "");
    let tag = first.header("etag").expect("it is there").to_owned();
    assert_eq!(first.header("cache-control"), Some("public, max-age=30"));
    // The rows are fresh up to and with EVENT + TTL.
    let last = at(EVENT + TTL, &tag);
    assert_eq!((last.status, last.body.len()), (304, 0));
    assert_eq!(last.header("cache-control"), Some("public, max-age=0"));
    assert_eq!(last.header("etag"), Some(&*tag));
    assert_eq!(at(EVENT + TTL - 3, "").header("cache-control"), Some("public, max-age=3"));
    let expired = at(EVENT + TTL + 1, &tag);
    assert_eq!(expired.status, 200);
    assert_ne!(expired.header("etag"), Some(&*tag));
    assert!(String::from_utf8_lossy(&expired.body).contains("OUTSIDE_MAX_AGE"));
    // Another spelling of the URL is the same, another question is not.
    let tag_of = |gateway: &mut Gateway, line: &str, headers: &[(&str, &str)]| {
        respond(gateway, &kv, NOW, line, headers, b"").header("etag").map(str::to_owned)
    };
    assert_eq!(tag_of(&mut gateway, "GET /v1//../features/%c3%bc%20both?&user=%33", &[]), Some(tag.clone()));
    for other in ["user=4", "user=3&user=4", "user=3&expired=value", "user=3&full_feature_names=true"] {
        let line = format!("GET /v1/features/%C3%BC%20both?{other}");
        let found = tag_of(&mut gateway, &line, &[]);
        assert!(found.is_some() && found != Some(tag.clone()), "{other}");
    }
    let packed = tag_of(&mut gateway, line, &[("accept", "application/msgpack")]);
    assert!(packed.is_some() && packed != Some(tag));
}

#[test]
fn what_is_no_request_is_refused_the_same_everywhere() {
    let (mut kv, mut gateway) = (Kv::default(), gateway(&[("MEZZE_BODY_BYTES_MAX", "100")]));
    kv.publish(1, true);
    let mut status = |line: &str, headers: &[(&str, &str)], body: &[u8]| {
        let response = respond(&mut gateway, &kv, NOW, line, headers, body);
        (response.status, String::from_utf8_lossy(&response.body).into_owned())
    };
    for (line, expected) in [
        ("GET /", 404),
        ("GET /v1/features", 404),
        ("GET /v1/features/", 400),
        ("GET /v1/features/none?user=1", 404),
        ("GET /v1/features/a/b?user=1", 404),
        ("GET /v1/features/..%2fsnapshot", 404),
        ("GET /%2e%2e/health", 200),
        ("GET /v1/features/%ff?user=1", 400),
        ("GET /v1/features/%C3%BC%20both", 400),
        ("GET /v1/features/%C3%BC%20both?user=x", 400),
        ("GET /v1/features/%C3%BC%20both?user=%ff", 400),
        ("GET /v1/features/%C3%BC%20both?user=1&expired=maybe", 400),
        ("GET /v1/features/%C3%BC%20both?user=1&full_feature_names=1", 400),
        ("GET /get-online-features", 405),
        ("DELETE /v1/snapshot", 405),
        ("POST /health", 405),
        ("HEAD /v1/snapshot", 200),
    ] {
        assert_eq!(status(line, &[], b"").0, expected, "{line}");
    }
    let post = "POST /get-online-features";
    assert_eq!(status(post, &[], &[b'['; 101]).0, 413);
    assert_eq!(status(post, &[], &[b'['; 100]).0, 422);
    assert_eq!(status(post, &[("content-type", "text/plain")], b"{}").0, 415);
    assert_eq!(status(post, &[("content-type", "application/x-www-form-urlencoded")], b"{}").0, 422);
    assert_eq!(status("HEAD /v1/snapshot", &[], b"").1, "");
}

#[test]
fn a_token_is_asked_for_and_pages_of_other_origins_are_told() {
    let token = "0123456789abcdef";
    let mut gateway = gateway(&[("MEZZE_TOKEN", token), ("MEZZE_CORS_ORIGINS", "https://a.example, https://b.example")]);
    let mut kv = Kv::default();
    kv.publish(1, true);
    let line = "GET /v1/features/%C3%BC%20both?user=3";
    check(
        &respond(&mut gateway, &kv, NOW, line, &[("origin", "https://b.example")], b""),
        expect![[r#"
        401
        access-control-allow-origin: https://b.example
        access-control-expose-headers: etag, retry-after, x-mezze-age, x-mezze-epoch, x-mezze-snapshot, x-mezze-steps-back
        cache-control: private, no-store
        content-type: application/json
        www-authenticate: Bearer

        {"detail":"a bearer token is needed, or the one given is not right"}
    "#]],
    );
    assert_eq!(kv.take_reads(), [""; 0]);
    assert_eq!(respond(&mut gateway, &kv, NOW, "GET /nowhere", &[], b"").status, 401);
    assert_eq!(respond(&mut gateway, &kv, NOW, "GET /health", &[], b"").status, 200);
    let admitted = [("authorization", "Bearer 0123456789abcdef"), ("origin", "https://c.example")];
    check(
        &respond(&mut gateway, &kv, NOW, line, &admitted, b""),
        expect![[r#"
            200
            x-mezze-snapshot: 20e3f3a6ab1df0e10e8dcb210120c2c3
            x-mezze-epoch: 1
            x-mezze-age: 7
            cache-control: private, no-store
            vary: Accept, X-Mezze-Epoch, Origin
            etag: "b13ecbe261caf398"
            content-type: application/json

            {"results":[{"values":[3],"statuses":["PRESENT"],"event_timestamps":["1970-01-01T00:00:00Z"]},{"values":[3001],"statuses":["PRESENT"],"event_timestamps":["1970-01-01T00:16:40Z"]},{"values":[3001],"statuses":["PRESENT"],"event_timestamps":["1970-01-01T00:16:40Z"]}],"metadata":{"feature_names":["user","a","b"]}}
        "#]],
    );
    check(
        &respond(&mut gateway, &kv, NOW, "OPTIONS /get-online-features", &[("origin", "https://a.example")], b""),
        expect![[r#"
            204
            access-control-allow-origin: https://a.example
            access-control-expose-headers: etag, retry-after, x-mezze-age, x-mezze-epoch, x-mezze-snapshot, x-mezze-steps-back
            allow: POST
            access-control-allow-methods: POST
            access-control-allow-headers: accept, authorization, content-type, if-none-match, x-mezze-epoch
            access-control-max-age: 86400
            vary: Origin


        "#]],
    );
}

#[test]
fn a_host_says_what_it_serves() {
    let (mut kv, mut gateway) = (Kv::default(), gateway(&[]));
    assert_eq!(respond(&mut gateway, &kv, NOW, "GET /health", &[], b"").status, 503);
    kv.publish(1, true);
    check(
        &respond(&mut gateway, &kv, NOW, "GET /v1/snapshot", &[], b""),
        expect![[r#"
            200
            x-mezze-snapshot: 20e3f3a6ab1df0e10e8dcb210120c2c3
            x-mezze-epoch: 1
            x-mezze-age: 7
            cache-control: no-store
            vary: Accept, X-Mezze-Epoch
            content-type: application/json

            {"snapshot":"20e3f3a6ab1df0e10e8dcb210120c2c3","epoch":1,"issued_at":"1970-01-01T00:17:23Z","age_seconds":7,"project":"test","views":[{"name":"counts","newest_event":"1970-01-01T00:16:40Z"}],"services":["ü both"],"formats":{"head":[1],"manifest":[1],"page":[1]},"expression_sets":[1],"transforms":[],"limits":{"body_bytes":1048576,"entities":1000,"values":100000,"pages":12},"trust":{"required":false,"keys":[],"signed":false}}
        "#]],
    );
    check(
        &respond(&mut gateway, &kv, NOW, "GET /health", &[], b""),
        expect![[r#"
            200
            x-mezze-snapshot: 20e3f3a6ab1df0e10e8dcb210120c2c3
            x-mezze-epoch: 1
            x-mezze-age: 7
            cache-control: no-store


        "#]],
    );
}

#[test]
fn a_sampled_line_has_hashed_keys_and_every_value() {
    let (mut kv, mut gateway) = (Kv::default(), gateway(&[("MEZZE_LOG_ONE_IN", "1")]));
    kv.publish(1, true);
    let response = respond(&mut gateway, &kv, NOW, "GET /v1/features/%C3%BC%20both?user=3&user=99", &[], b"");
    expect![[r#"{"snapshot":"20e3f3a6ab1df0e10e8dcb210120c2c3","epoch":1,"now":"1970-01-01T00:17:30Z","keys":["1c3f268684808346","614332779ffb4046"],"features":{"a":{"values":[3001,null],"statuses":["PRESENT","NOT_FOUND"]},"b":{"values":[3001,null],"statuses":["PRESENT","NOT_FOUND"]}}}"#]].assert_eq(&response.log.expect("every response is logged"));
    let mut silent = self::gateway(&[]);
    assert_eq!(get(&mut silent, &kv, 3).log, None);
    // About one in four of many.
    let mut some = self::gateway(&[("MEZZE_LOG_ONE_IN", "4")]);
    let logged = (0..400).filter(|user| get(&mut some, &kv, *user).log.is_some()).count();
    assert!((60..140).contains(&logged), "{logged}");
}

/// A page for each bucket of a segment with so many, all different.
pub(crate) fn page_of_count(count: u32) -> Vec<Vec<u8>> {
    (0..count).map(|bucket| page(u64::from(bucket % 250) + 1, bucket % BUCKETS)).collect()
}
