//! One answer everywhere: the same requests to the core, the command, the HTTP server and the component in wasmtime give the
//! same bytes.

mod common;

use std::fs;
use std::sync::Arc;

use mezze_core::{HttpConfig, Limits, MediaType, PageRef, Refusal, Snapshot};
use mezze_replica::{Reader, Store};
use mezze_server::{Online, Server, ServerOptions, now};

use common::{Repo, post};

/// A few hundred requests: every feature, service and alias; entities that are there, absent, null, expired or given as text;
/// and what is wrong.
fn corpus() -> Vec<String> {
    let mut requests = Vec::new();
    let views =
        ["profile:age", "profile:name", "profile:score", "profile:ratio", "profile:active", "profile:seen", "profile:tags"];
    let users =
        ["[1]", "[2, 3, 4]", "[5]", "[999]", "[null]", "[\"7\"]", "[1, 1, null, 999, 8]", "[9.0]", "[-1]", "[10, 11, 12]"];
    for full in [false, true] {
        for expired in ["null", "value"] {
            for user in users {
                for view in views {
                    requests.push(format!(
                        r#"{{"features": ["{view}"], "entities": {{"user_id": {user}}}, "full_feature_names": {full}, "expired": "{expired}"}}"#
                    ));
                }
                requests.push(format!(
                    r#"{{"feature_service": "everything", "entities": {{"user_id": {user}, "amount": {}}}, "full_feature_names": {full}, "expired": "{expired}"}}"#,
                    user.replace("null", "0.5").replace("\"7\"", "7"),
                ));
            }
        }
    }
    for (user, item) in [("[1, 2]", r#"["a", "b"]"#), ("[3]", r#"["ü"]"#), ("[4]", "[null]"), ("[5]", r#"["nobody"]"#)] {
        requests.push(format!(r#"{{"features": ["pairs:clicks"], "entities": {{"user_id": {user}, "item": {item}}}}}"#));
        requests.push(format!(
            r#"{{"features": ["pairs:clicks", "profile:age", "today:rate"], "entities": {{"item": {item}, "user_id": {user}}}}}"#
        ));
        requests.push(format!(
            r#"{{"feature_service": "friends", "full_feature_names": true, "entities": {{"user_id": {user}, "friend": {user}}}}}"#
        ));
    }
    requests.extend(
        [
            "",
            "{",
            "[]",
            "{}",
            r#"{"features": []}"#,
            r#"{"features": ["profile:age"]}"#,
            r#"{"features": ["profile"], "entities": {"user_id": [1]}}"#,
            r#"{"features": ["nope:age"], "entities": {"user_id": [1]}}"#,
            r#"{"features": ["profile:nope"], "entities": {"user_id": [1]}}"#,
            r#"{"features": ["profile:age", "profile:age"], "entities": {"user_id": [1]}}"#,
            r#"{"feature_service": "nope", "entities": {"user_id": [1]}}"#,
            r#"{"feature_service": "friends", "entities": {"user_id": [1], "friend": [2]}}"#,
            r#"{"feature_service": "everything", "entities": {"user_id": [1]}}"#,
            r#"{"feature_service": "everything", "features": ["profile:age"], "entities": {"user_id": [1]}}"#,
            r#"{"features": ["profile:age"], "entities": {"item": ["a"]}}"#,
            r#"{"features": ["profile:age"], "entities": {"user_id": []}}"#,
            r#"{"features": ["profile:age"], "entities": {"user_id": [1, 2], "other": [1]}}"#,
            r#"{"features": ["profile:age"], "entities": {"user_id": ["seven"]}}"#,
            r#"{"features": ["profile:age"], "entities": {"user_id": [true]}}"#,
            r#"{"features": ["profile:age"], "entities": {"user_id": [1.5]}}"#,
            r#"{"features": ["profile:age"], "entities": {"user_id": [[1]]}}"#,
            r#"{"features": ["profile:age"], "entities": {"user_id": [9223372036854775808]}}"#,
            r#"{"features": "profile:age", "entities": {"user_id": [1]}}"#,
            r#"{"features": ["profile:age"], "entities": [1]}"#,
            r#"{"features": ["profile:age"], "entities": {"user_id": 1}}"#,
            r#"{"features": ["profile:age"], "entities": {"user_id": [1]}, "full_feature_names": "yes"}"#,
        ]
        .map(String::from),
    );
    requests
}

/// What every host must give: the status and the body.
type Answer = (u16, Vec<u8>);

async fn from_core(reader: &Reader, snapshot: &Snapshot, body: &str) -> Answer {
    let refuse = |refusal: Refusal| {
        let mut out = Vec::new();
        refusal.write(&mut out);
        (refusal.status, out)
    };
    match snapshot.plan_body(body.as_bytes(), MediaType::Json, now(), &Limits::server()) {
        Err(refusal) => refuse(refusal),
        Ok(plan) => {
            let pages = reader.pages(&plan).await.expect("the pages are whole");
            let pages: Vec<Option<PageRef<'_>>> = pages.iter().map(|page| PageRef::resident(page).ok()).collect();
            let mut out = Vec::new();
            plan.write_answer(&pages, MediaType::Json, &mut out).expect("the pages are whole");
            (200, out)
        }
    }
}

#[test]
fn every_host_gives_the_same_bytes() {
    let repo = Repo::every_type();
    repo.run(&["apply"]);
    repo.run(&["materialize", "2020-01-01", "2030-01-01"]);
    // A second snapshot leaves a delta, so that both of its pages are looked into.
    fs::write(
        repo.path("data/users/2.json"),
        "{\"user_id\": 3, \"ts\": \"2026-02-01T00:00:00Z\", \"age\": 33, \"name\": \"Drei\"}\n\
         {\"user_id\": 12, \"ts\": \"2026-02-02T00:00:00Z\", \"score\": 12.5}\n",
    )
    .expect("the file can be written");
    repo.run(&["materialize-incremental", "2030-01-01"]);
    repo.run(&["forget", "--entity", "user_id=11"]);

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let store = Store::folder(&repo.path("data/replica")).expect("the origin is there");
    let reader = Arc::new(runtime.block_on(Reader::open(store, 1 << 20)).expect("there is a snapshot"));
    let snapshot = reader.snapshot();
    assert!(snapshot.manifest().tables.iter().any(|table| table.delta.is_some()), "there is a delta");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let online = Arc::new(Online::new(Arc::clone(&reader), HttpConfig::server()));
    let server = Server::start(online, listener, ServerOptions::default()).expect("it starts");
    let mut component = common::Component::open(&repo.path("data/replica"));

    let corpus = corpus();
    assert!(corpus.len() >= 300, "{} requests", corpus.len());
    let mut answered = 0;
    for (number, body) in corpus.iter().enumerate() {
        let expected = runtime.block_on(from_core(&reader, &snapshot, body));
        let show = |answer: &Answer| format!("{} {}", answer.0, String::from_utf8_lossy(&answer.1));
        assert_eq!(show(&post(server.address(), body)), show(&expected), "HTTP, {body}");
        assert_eq!(show(&component.lookup(body)), show(&expected), "component, {body}");
        answered += usize::from(expected.0 == 200);
        // A process a request takes its time: one of three goes through the command, and every refusal.
        if expected.0 != 200 || number % 3 == 0 {
            let request = repo.path("request.json");
            fs::write(&request, body).expect("the file can be written");
            let run = repo.try_run(&["get-online-features", "--output", "json", "--request", &request.to_string_lossy()]);
            if expected.0 == 200 {
                assert_eq!(run.stdout.strip_suffix("\n"), Some(show(&expected)[4..].to_owned()).as_deref(), "command, {body}");
            } else {
                let refusal: String = serde_json::from_slice(&expected.1).expect("the body is JSON");
                let refusal: serde_json::Value = serde_json::from_str(&refusal).expect("the body holds JSON");
                let message = refusal["message"].as_str().expect("it has a message");
                assert_eq!(run.stderr.lines().next(), Some(format!("error: {message}").as_str()), "command, {body}");
                assert_eq!(run.code, Some(if expected.0 == 413 { 4 } else { 2 }), "command, {body}");
            }
        }
    }
    assert!(answered > 250, "{answered} requests were answered with features");
}
