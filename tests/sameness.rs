//! One answer everywhere: the same requests to the core, the command, the HTTP server and the component in wasmtime give the
//! same bytes.

mod common;

use std::fs;
use std::sync::Arc;

use mezze_core::{HttpConfig, Limits, MediaType, PageRef, Refusal, Snapshot};
use mezze_replica::{Reader, Store};
use mezze_server::{Online, Server, ServerOptions, now};

use common::corpus::corpus;
use common::{Repo, post};

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
    let repo = Repo::every_type_served();
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
