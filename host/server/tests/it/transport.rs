//! HTTP itself: routes, formats, limits, connections and the stop, whatever answers.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use mezze_core::{Ask, HttpConfig, HttpResponse, Refusal};
use mezze_server::{Answer, Server, ServerOptions};
use tokio::sync::Semaphore;

use crate::client::Client;

/// Answers with the request's own body, once there is a permit.
struct Echo {
    config: HttpConfig,
    ready: AtomicBool,
    permits: Semaphore,
    arrived: Semaphore,
}

impl Answer for Echo {
    fn config(&self) -> &HttpConfig {
        &self.config
    }

    async fn answer(&self, ask: Ask, body: Bytes) -> HttpResponse {
        if !ask.reads_body() {
            return match self.ready.load(Ordering::SeqCst) {
                true => HttpResponse::new(200, "application/json", vec![]),
                false => ask.refused(&Refusal::unavailable("not ready")),
            };
        }
        self.arrived.add_permits(1);
        self.permits.acquire().await.expect("it is open").forget();
        HttpResponse::new(200, ask.accept().name(), [b"body ", &*body].concat())
    }
}

fn echo(permits: usize) -> (Arc<Echo>, Server) {
    let mut config = HttpConfig::server();
    config.limits.request_bytes_max = 1000;
    let echo =
        Arc::new(Echo { config, ready: AtomicBool::new(true), permits: Semaphore::new(permits), arrived: Semaphore::new(0) });
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let mut options = ServerOptions::default();
    options.threads = 2;
    let server = Server::start(Arc::clone(&echo), listener, options).expect("it starts");
    (echo, server)
}

const JSON: &str = "content-type: application/json";

#[test]
fn formats_go_by_the_headers() {
    let (_echo, server) = echo(100);
    let mut client = Client::connect(server.address());
    let mut speak = |headers: &[&str]| {
        let reply = client.post("/get-online-features", headers, b"x");
        (reply.status, reply.header("content-type").expect("bodies have a type").to_owned())
    };
    let (json, msgpack) = ((200, "application/json".to_owned()), (200, "application/msgpack".to_owned()));
    assert_eq!(speak(&[]), json);
    assert_eq!(speak(&["Content-Type: application/json; charset=utf-8", "accept: */*"]), json);
    assert_eq!(speak(&["content-type: application/msgpack"]), msgpack);
    assert_eq!(speak(&[JSON, "accept: application/msgpack"]), msgpack);
    assert_eq!(speak(&["content-type: application/x-msgpack", "accept: text/html, application/json;q=0.9"]), json);
    assert_eq!(speak(&["content-type: text/xml"]).0, 415);
}

#[test]
fn unknown_paths_and_methods_are_refused() {
    let (_echo, server) = echo(0);
    let mut client = Client::connect(server.address());
    let reply = client.post("/get-offline-features", &[JSON], b"{}");
    assert_eq!((reply.status, reply.text()), (404, r#"{"detail":"Not Found"}"#));
    client.send(b"GET /get-online-features HTTP/1.1\r\nhost: test\r\n\r\n");
    let reply = client.reply();
    assert_eq!((reply.status, reply.header("allow"), reply.text()), (405, Some("POST"), r#"{"detail":"Method Not Allowed"}"#));
    let reply = client.post("/health", &[], b"");
    assert_eq!((reply.status, reply.header("allow")), (405, Some("GET, HEAD")));
}

#[test]
fn health_tells_whether_there_is_something_to_serve() {
    let (echo, server) = echo(0);
    let mut client = Client::connect(server.address());
    for (ready, status) in [(true, 200), (false, 503), (true, 200)] {
        echo.ready.store(ready, Ordering::SeqCst);
        client.send(b"GET /health HTTP/1.1\r\nhost: test\r\n\r\n");
        let reply = client.reply();
        assert_eq!(reply.status, status);
    }
}

#[test]
fn large_bodies_are_refused_announced_or_not() {
    let (_echo, server) = echo(10);
    let mut client = Client::connect(server.address());
    assert_eq!(client.post("/get-online-features", &[JSON], &[b'x'; 1000]).status, 200);
    let expected = "the request's body has more than 1000 bytes; split the request";
    client.send(b"POST /get-online-features HTTP/1.1\r\nhost: test\r\ncontent-length: 1001\r\n\r\n");
    let reply = client.reply();
    assert_eq!((reply.status, reply.header("connection")), (413, Some("close")));
    assert!(reply.text().contains(expected), "{}", reply.text());
    assert!(client.is_closed());

    let mut client = Client::connect(server.address());
    client.send(b"POST /get-online-features HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n");
    for _ in 0..3 {
        client.send(format!("190\r\n{}\r\n", "x".repeat(0x190)).as_bytes());
    }
    let reply = client.reply();
    assert_eq!(reply.status, 413);
    assert!(reply.text().contains(expected), "{}", reply.text());
}

#[test]
fn a_body_in_pieces_is_put_together() {
    let (_echo, server) = echo(10);
    let mut client = Client::connect(server.address());
    client.send(b"POST /get-online-features HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n");
    client.send(b"1\r\na\r\n2\r\nbc\r\n");
    client.send(b"3\r\ndef\r\n0\r\n\r\n");
    assert!(client.reply().text().ends_with(" abcdef"));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (_echo, server) = echo(100);
    let mut client = Client::connect(server.address());
    let messages: Vec<String> = (0..50)
        .map(|index| format!("POST /get-online-features HTTP/1.1\r\nhost: test\r\ncontent-length: 3\r\n\r\n{index:03}"))
        .collect();
    client.send(messages.concat().as_bytes());
    for index in 0..50 {
        assert!(client.reply().text().ends_with(&format!(" {index:03}")));
    }
}

#[test]
fn what_is_not_http_gets_an_error_and_harms_nobody() {
    let (_echo, server) = echo(10);
    let mut other = Client::connect(server.address());
    let mut client = Client::connect(server.address());
    client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n");
    assert_eq!(client.reply().status, 400);
    assert!(client.is_closed());
    assert_eq!(other.post("/get-online-features", &[JSON], b"x").status, 200);
}

#[test]
fn a_stop_closes_idle_connections_and_finishes_requests_in_flight() {
    let (echo, server) = echo(0);
    let address = server.address();
    let mut idle = Client::connect(address);
    idle.send(b"GET /health HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!(idle.reply().status, 200);
    let mut busy = Client::connect(address);
    busy.send(b"POST /get-online-features HTTP/1.1\r\nhost: test\r\ncontent-length: 4\r\n\r\nlast");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime starts");
    runtime.block_on(async { echo.arrived.acquire().await.expect("it is open").forget() });

    let stopping = std::thread::spawn(move || server.stop(Duration::from_secs(60)));
    // The idle connection ends although the other one is still waited for.
    assert!(idle.is_closed());
    echo.permits.add_permits(1);
    let reply = busy.reply();
    assert_eq!(reply.status, 200);
    assert!(reply.text().ends_with(" last"));
    assert!(busy.is_closed());
    stopping.join().expect("the server stops");
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn a_stop_waits_no_longer_than_its_grace() {
    let (echo, server) = echo(0);
    let mut busy = Client::connect(server.address());
    busy.send(b"POST /get-online-features HTTP/1.1\r\nhost: test\r\ncontent-length: 4\r\n\r\nlost");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime starts");
    runtime.block_on(async { echo.arrived.acquire().await.expect("it is open").forget() });
    server.stop(Duration::ZERO);
    assert!(busy.is_closed());
}
