//! One answer everywhere: the same requests to the core, the command, the HTTP server and the component in wasmtime give the
//! same bytes.

mod common;

use std::sync::Arc;

use mezze_core::HttpConfig;
use mezze_replica::{Reader, Store};
use mezze_server::{Online, Server, ServerOptions};

use common::corpus::corpus;
use common::{Core, Repo, exit_code, message_of, post};

#[test]
fn every_host_gives_the_same_bytes() {
    let repo = Repo::every_type_served();
    let folder = repo.path("data/replica");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let store = Store::folder(&folder).expect("the origin is there");
    let reader = Arc::new(runtime.block_on(Reader::open(store, 1 << 20)).expect("there is a snapshot"));
    assert!(reader.snapshot().manifest().tables.iter().any(|table| table.delta.is_some()), "there is a delta");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let online = Arc::new(Online::new(reader, HttpConfig::server()));
    let server = Server::start(online, listener, ServerOptions::default()).expect("it starts");
    let core = Core::open(&folder);
    let mut component = common::Component::open(&folder);

    let corpus = corpus();
    assert!(corpus.len() >= 300, "{} requests", corpus.len());
    let mut answered = 0;
    for (number, body) in corpus.iter().enumerate() {
        let expected = core.lookup(body);
        let show = |answer: &(u16, Vec<u8>)| format!("{} {}", answer.0, String::from_utf8_lossy(&answer.1));
        assert_eq!(show(&post(server.address(), body)), show(&expected), "HTTP, {body}");
        assert_eq!(show(&component.lookup(body)), show(&expected), "component, {body}");
        answered += usize::from(expected.0 == 200);
        // A process a request takes its time: one of three goes through the command, and every refusal.
        if expected.0 != 200 || number % 3 == 0 {
            let said = if expected.0 == 200 { show(&expected)[4..].to_owned() } else { message_of(&expected.1) };
            assert_eq!(repo.online(body), (exit_code(expected.0), said), "command, {body}");
        }
    }
    assert!(answered > 250, "{answered} requests were answered with features");
}
