//! Features over HTTP: Feast's contract, switches between snapshots, and pages that are damaged or gone.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use expect_test::{Expect, expect};
use mezze_core::{
    Audience, ColumnData, ColumnInput, FeatureSchema, HttpConfig, KeyColumn, KeyHash, KeyPart, KeyType, Manifest, PageInput,
    PageKey, PageWriter, Segment, SegmentId, SegmentWriter, Service, ServiceProjection, Span, Table, TableSchema, Timestamp,
    Tree, ValueType, ViewInput, ViewSchema,
};
use mezze_replica::{NewEpoch, Origin, Reader, Reason, Store, segment_key, tree_bytes, tree_key};
use mezze_server::{Online, Server, ServerOptions};

use crate::client::Client;

/// An origin in a folder, where each snapshot gives users 0 to 9 the score of its number.
pub(crate) struct Fixture {
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) origin: Origin,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let origin = Origin::new(Store::folder(folder.path()).expect("it can be opened"));
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        Self { runtime, folder, origin }
    }

    /// Makes snapshot number `number` current.
    pub(crate) fn materialize(&self, number: u8) {
        self.runtime.block_on(async {
            let segment = write_segment(&self.origin, number).await;
            let snapshot = self.origin.write_manifest(&manifest(segment)).await.expect("it is written");
            let latest = self.origin.latest().await.expect("it can be read").map(|record| record.epoch);
            let issued_at = Timestamp::from_seconds(i64::from(number));
            let new = NewEpoch { after: latest, parent: latest, snapshot, reason: Reason::Materialize, issued_at };
            self.origin.commit(new).await.expect("nobody else is there");
        });
    }

    fn serve(&self) -> (Arc<Reader>, Server) {
        let store = Store::folder(self.folder.path()).expect("it can be opened");
        let reader = self.runtime.block_on(Reader::open(store, 1 << 20)).expect("there is a snapshot");
        Self::serve_from(reader)
    }

    pub(crate) fn serve_from(reader: Reader) -> (Arc<Reader>, Server) {
        let reader = Arc::new(reader);
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let mut options = ServerOptions::default();
        options.threads = 2;
        let mut config = HttpConfig::server();
        config.limits.entities_max = 3;
        let online = Arc::new(Online::new(Arc::clone(&reader), config));
        (reader, Server::start(online, listener, options).expect("it starts"))
    }

    pub(crate) fn segment_file(&self, number: u8) -> std::path::PathBuf {
        self.folder.path().join(segment_key(SegmentId::from_bytes([number; 16]), 0))
    }
}

fn schema() -> TableSchema {
    TableSchema::new(
        "user",
        vec![KeyColumn::new("user", "user", KeyType::Int)],
        vec![ViewSchema::new(
            "scores",
            Span::ZERO,
            Audience::Server,
            vec![FeatureSchema::new("score", ValueType::Int64), FeatureSchema::new("ratio", ValueType::Float64)],
        )],
    )
}

pub(crate) async fn write_segment(origin: &Origin, number: u8) -> Segment {
    let id = SegmentId::from_bytes([number; 16]);
    let mut rows: Vec<(KeyHash, i64)> = (0..10).map(|user| (KeyHash::of(&[KeyPart::Int(user)]), user)).collect();
    rows.sort_unstable();
    let hashes: Vec<KeyHash> = rows.iter().map(|(hash, _)| *hash).collect();
    let users: Vec<i64> = rows.iter().map(|(_, user)| *user).collect();
    let scores = [i64::from(number); 10];
    let ratios: Vec<f64> = users.iter().map(|user| if *user == 0 { f64::NAN } else { *user as f64 / 4.0 }).collect();
    let valid: Vec<bool> = users.iter().map(|user| *user != 1).collect();
    let features = [
        ColumnInput { data: ColumnData::Int(&scores), validity: None },
        ColumnInput { data: ColumnData::Float64(&ratios), validity: Some(&valid) },
    ];
    let keys = [ColumnInput { data: ColumnData::Int(&users), validity: None }];
    let views = [ViewInput { times: &[1_000_000_000_000; 10], present: None, features: &features }];
    let input = PageInput { key: PageKey::new(id, 0, 0), bucket_count: 1, hashes: &hashes, keys: &keys, views: &views };
    let mut page = Vec::new();
    PageWriter::new().write(&input, &mut page).expect("the rows are in order");
    let mut writer = SegmentWriter::new(id, 0);
    writer.push(page.len() as u32, 10);
    let mut object = origin.store().begin(&segment_key(id, 0)).expect("a file");
    object.append(&page).expect("it is written");
    object.append(&writer.finish().expect("it is small")).expect("it is written");
    object.finish().await.expect("it is finished");
    origin.store().replace(&tree_key(id, 0), tree_bytes(&[Tree::leaf(&page)])).await.expect("it is written");
    Segment {
        id,
        bucket_count: 1,
        row_count: 10,
        page_bytes: page.len() as u64,
        root: Tree::leaf(&page),
        time_shifts: vec![Span::ZERO],
    }
}

fn manifest(base: Segment) -> Manifest {
    let digest = [base.id.bytes()[0]; 32];
    Manifest {
        project: "test".into(),
        definition_digest: [0; 32],
        input_digest: digest,
        tables: vec![Table { base: Some(base), ..Table::empty(schema()) }],
        request_sources: vec![],
        on_demand_views: vec![],
        services: vec![Service {
            name: "all".into(),
            projections: vec![ServiceProjection { table: 0, view: 0, alias: None, join_key_map: vec![], features: vec![0, 1] }],
            request_sources: vec![],
        }],
    }
}

pub(crate) const PATH: &str = "/get-online-features";
pub(crate) const JSON: &str = "content-type: application/json";
pub(crate) const USERS: &[u8] = br#"{"feature_service": "all", "entities": {"user": [3, 1, 99]}}"#;

fn check(body: &str, expected: Expect) {
    let fixture = Fixture::new();
    fixture.materialize(7);
    let (_reader, server) = fixture.serve();
    let reply = Client::connect(server.address()).post(PATH, &[JSON], body.as_bytes());
    expected.assert_eq(&format!("{}\n{}\n", reply.status, reply.text()));
    assert_eq!(reply.header("content-type"), Some("application/json"));
}

#[test]
fn features_come_in_the_shape_of_feasts_server() {
    check(
        r#"{"feature_service": "all", "entities": {"user": [3, 1, 99, null]}}"#,
        expect![[r#"
            413
            "{\"module\": \"feast.errors\", \"class\": \"FeastError\", \"message\": \"the request needs 4 entity rows, this host allows 3; split the request\"}"
        "#]],
    );
    check(
        r#"{"features": ["scores:ratio", "scores:score"], "entities": {"user": [0, 1, 99]}, "full_feature_names": true}"#,
        expect![[r#"
            200
            {"results":[{"values":[0,1,99],"statuses":["PRESENT","PRESENT","PRESENT"],"event_timestamps":["1970-01-01T00:00:00Z","1970-01-01T00:00:00Z","1970-01-01T00:00:00Z"]},{"values":["NaN",null,null],"statuses":["PRESENT","NULL_VALUE","NOT_FOUND"],"event_timestamps":["1970-01-01T00:16:40Z","1970-01-01T00:16:40Z","1970-01-01T00:00:00Z"]},{"values":[7,7,null],"statuses":["PRESENT","PRESENT","NOT_FOUND"],"event_timestamps":["1970-01-01T00:16:40Z","1970-01-01T00:16:40Z","1970-01-01T00:00:00Z"]}],"metadata":{"feature_names":["user","scores__ratio","scores__score"]}}
        "#]],
    );
}

#[test]
fn requests_that_cannot_be_answered_are_the_clients_fault() {
    check(
        "",
        expect![[r#"
            400
            "{\"module\": \"feast.errors\", \"class\": \"FeastError\", \"message\": \"request body is not JSON: it ends early at line 1 column 1\"}"
        "#]],
    );
    check(
        "{",
        expect![[r#"
            400
            "{\"module\": \"feast.errors\", \"class\": \"FeastError\", \"message\": \"request body is not JSON: it ends early at line 1 column 2\"}"
        "#]],
    );
    check(
        r#"{"entities": {"user": [1]}}"#,
        expect![[r#"
        422
        "{\"module\": \"feast.errors\", \"class\": \"FeastError\", \"message\": \"request: `features` or `feature_service` is missing, expected one of them at line 1 column 27\"}"
    "#]],
    );
    check(
        r#"{"feature_service": "all"}"#,
        expect![[r#"
        422
        "{\"module\": \"feast.errors\", \"class\": \"FeastError\", \"message\": \"request: `entities` is missing, expected an object of lists, one for each join key at line 1 column 26\"}"
    "#]],
    );
    check(
        r#"{"feature_service": "none", "entities": {"user": [1]}}"#,
        expect![[r#"
        404
        "{\"module\": \"feast.errors\", \"class\": \"FeatureServiceNotFoundException\", \"message\": \"no feature service `none` in this snapshot; it has `all`\"}"
    "#]],
    );
    check(
        r#"{"feature_service": "all", "entities": {"item": [1]}}"#,
        expect![[r#"
        400
        "{\"module\": \"feast.errors\", \"class\": \"RequestDataNotFoundInEntityRowsException\", \"message\": \"missing entity column `user`, needed by `scores`; the request has `item`\"}"
    "#]],
    );
    check(
        r#"{"feature_service": "all", "entities": {"user": [1, 2], "x": [1]}}"#,
        expect![[r#"
        400
        "{\"module\": \"feast.errors\", \"class\": \"FeastError\", \"message\": \"entity column `user` has 2 values and `x` has 1; give each column one value per entity row\"}"
    "#]],
    );
    check(
        r#"{"feature_service": "all", "entities": {"user": ["seven"]}}"#,
        expect![[r#"
            400
            "{\"module\": \"feast.errors\", \"class\": \"FeastError\", \"message\": \"entity column `user`, row 0: expected int64, found the text `seven`\"}"
        "#]],
    );
    check(
        r#"{"features": ["scores:nope"], "entities": {"user": [1]}}"#,
        expect![[r#"
        404
        "{\"module\": \"feast.errors\", \"class\": \"FeatureViewNotFoundException\", \"message\": \"feature view `scores` has no feature `nope`; it has `score`, `ratio`\"}"
    "#]],
    );
    check(
        r#"{"features": ["scores"], "entities": {"user": [1]}}"#,
        expect![[r#"
        400
        "{\"module\": \"feast.errors\", \"class\": \"FeastError\", \"message\": \"feature reference `scores` is not of the form `view:feature`\"}"
    "#]],
    );
}

#[test]
fn headers_say_which_snapshot_answered() {
    let fixture = Fixture::new();
    fixture.materialize(7);
    let (reader, server) = fixture.serve();
    let reply = Client::connect(server.address()).post(PATH, &[JSON], USERS);
    assert_eq!(reply.header("x-mezze-snapshot"), Some(reader.snapshot().id().to_string().as_str()));
    assert_eq!(reply.header("x-mezze-epoch"), Some("1"));
    assert!(reply.header("x-mezze-age").is_some_and(|age| age.parse::<u64>().is_ok_and(|age| age > 1_000_000_000)));
}

#[test]
fn a_switch_to_a_new_snapshot_fails_no_request_and_mixes_no_two() {
    let fixture = Fixture::new();
    fixture.materialize(1);
    let (reader, server) = fixture.serve();
    let address = server.address();
    let done = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = Client::connect(address);
                    let mut seen = Vec::new();
                    // At least one request after the last switch.
                    loop {
                        let last = done.load(Ordering::SeqCst);
                        let reply = client.post(PATH, &[JSON], USERS);
                        assert_eq!(reply.status, 200, "{}", reply.text());
                        let scores = reply.text().split("\"values\":[").nth(2).expect("the second column is the score");
                        let mut scores = scores.split(']').next().expect("the list ends").split(',');
                        let score = (scores.next().map(str::to_owned), scores.next().map(str::to_owned));
                        assert_eq!(score.0, score.1, "both users are of one snapshot");
                        let epoch = reply.header("x-mezze-epoch").expect("it is there").to_owned();
                        assert_eq!(Some(&epoch), score.0.as_ref());
                        seen.push(epoch.parse::<u64>().expect("a number"));
                        if last {
                            return seen;
                        }
                    }
                })
            })
            .collect();
        for number in 2..=20 {
            fixture.materialize(number);
            let switched = fixture.runtime.block_on(reader.refresh(mezze_server::now())).expect("the snapshot is whole");
            assert!(switched.is_some());
        }
        done.store(true, Ordering::SeqCst);
        clients.into_iter().map(|client| client.join().expect("no request failed")).collect::<Vec<_>>()
    });
    for epochs in seen {
        assert!(epochs.is_sorted());
        assert_eq!(epochs.last(), Some(&20));
    }
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).expect("it can be read");
    bytes[at] ^= 1;
    fs::write(path, bytes).expect("it can be written");
}

#[test]
fn a_damaged_page_is_answered_by_the_snapshot_before_and_never_served() {
    let fixture = Fixture::new();
    fixture.materialize(1);
    fixture.materialize(2);
    flip(&fixture.segment_file(2), 200);
    let (_reader, server) = fixture.serve();
    let mut client = Client::connect(server.address());
    let reply = client.post(PATH, &[JSON], USERS);
    assert_eq!((reply.status, reply.header("x-mezze-epoch")), (200, Some("1")), "{}", reply.text());
    fs::remove_file(fixture.segment_file(1)).expect("it can be removed");
    let (_reader, server) = fixture.serve();
    let reply = Client::connect(server.address()).post(PATH, &[JSON], USERS);
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")));
    assert!(reply.text().contains("no complete snapshot can be read: page p/02020202020202020202020202020202/0/0: "));
}

#[test]
fn a_page_that_was_pruned_makes_the_server_look_for_a_newer_snapshot() {
    let fixture = Fixture::new();
    fixture.materialize(1);
    let (_reader, server) = fixture.serve();
    fixture.materialize(2);
    fs::remove_file(fixture.segment_file(1)).expect("it can be removed");
    let reply = Client::connect(server.address()).post(PATH, &[JSON], USERS);
    assert_eq!((reply.status, reply.header("x-mezze-epoch")), (200, Some("2")), "{}", reply.text());
}
