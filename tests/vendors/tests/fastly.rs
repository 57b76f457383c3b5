use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use crate::client::ask;
use crate::vendors::clock::Clock;
use crate::vendors::fastly::Fastly;
use crate::vendors::faults::{At, Counters, Fault, Kind, When, Which, Work};
use crate::vendors::http::{Response, encoded};

struct Store {
    fastly: Fastly,
    clock: Clock,
}

impl Store {
    fn start() -> Self {
        let clock = Clock::new();
        Self { fastly: Fastly::start(&clock), clock }
    }

    fn try_call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<Response> {
        let headers = [&[("Fastly-Key", Fastly::TOKEN)], headers].concat();
        let line = format!("{method} /resources/stores/kv/{}/{path}", Fastly::STORE);
        ask(self.fastly.address(), &line, &headers, body)
    }

    fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        self.try_call(method, path, headers, body).expect("the response is whole")
    }

    fn put(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> u16 {
        self.call("PUT", &format!("keys/{path}"), headers, body).status
    }

    /// Status and body of a batch.
    fn batch(&self, lines: &[Value]) -> (u16, Value) {
        let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let response = self.call("PUT", "batch", &[("content-type", "application/x-ndjson")], lines.as_bytes());
        (response.status, body(&response))
    }

    fn names(&self, query: &str) -> (Vec<String>, Option<String>) {
        let page = body(&self.call("GET", &format!("keys?{query}"), &[], b""));
        let names = page["data"].as_array().expect("it is a list").iter();
        let names = names.map(|name| name.as_str().expect("a name is text").to_owned()).collect();
        (names, page["meta"]["next_cursor"].as_str().map(str::to_owned))
    }
}

fn body(response: &Response) -> Value {
    serde_json::from_slice(&response.body).expect("it is JSON")
}

fn line(key: &str, value: &[u8]) -> Value {
    json!({ "key": key, "value": BASE64_STANDARD.encode(value) })
}

#[test]
fn values_come_back_as_they_were_written() {
    let store = Store::start();
    let bytes: Vec<u8> = (0..=255).collect();
    let path = encoded("s/ü/1");
    assert_eq!(store.put(&path, &[("metadata", "m1")], &bytes), 200);
    let read = store.call("GET", &format!("keys/{path}"), &[], b"");
    assert_eq!((&read.body, read.header("metadata")), (&bytes, Some("m1")));
    let generation = store.fastly.generation("s/ü/1").expect("it is there");
    assert_eq!(read.header("generation"), Some(generation.to_string().as_str()));
    let head = store.call("HEAD", &format!("keys/{path}"), &[], b"");
    assert_eq!((head.status, head.header("stored-content-length"), head.body.len()), (200, Some("256"), 0));
    let mut second = line("b", b"two");
    second["metadata"] = "m2".into();
    let success = json!({ "type": "", "title": "success", "errors": [] });
    assert_eq!(store.batch(&[line("a", b"one"), second]), (200, success));
    assert_eq!(store.fastly.snapshot()["b"], (b"two"[..].into(), Some("m2".into())));
    assert_eq!(store.call("DELETE", "keys/a", &[], b"").status, 204);
    assert_eq!(store.call("DELETE", "keys/a", &[], b"").status, 404);
    assert_eq!(store.call("DELETE", "keys/a?force=true", &[], b"").status, 204);
    assert_eq!(store.call("GET", "keys/a", &[], b"").status, 404);
    assert_eq!(store.fastly.counters(), Counters { writes: 3, bytes: 262, deletes: 3, lists: 0, reads: 3 });
    let calls = store.fastly.calls();
    assert_eq!((calls[3].kind, calls[3].pairs, calls[3].status), (Kind::BulkWrite, 2, Some(200)));
}

#[test]
fn conditional_writes_hold() {
    let store = Store::start();
    assert_eq!(store.put("k?add=true", &[], b"1"), 200);
    let refused = store.call("PUT", "keys/k?add=true", &[], b"2");
    assert_eq!((refused.status, refused.body.len()), (412, 0));
    let generation = store.fastly.generation("k").expect("it is there").to_string();
    let is = [("if-generation-match", generation.as_str())];
    for another in ["0", "1", "18446744073709551615"] {
        assert_eq!(store.put("k", &[("if-generation-match", another)], b"3"), 412, "{another}");
    }
    assert_eq!(store.put("k", &is, b"4"), 200);
    assert_eq!(store.put("k", &is, b"5"), 412, "the clock stands, and the generation has changed");
    assert_eq!(store.call("DELETE", "keys/k", &is, b"").status, 412);
    assert_eq!(store.put("none", &[("if-generation-match", "0")], b""), 200);
    assert_eq!(store.put("none", &[("if-generation-match", "0")], b""), 412);
    assert_eq!(store.put("none", &[("if-generation-match", "x")], b""), 400);
    assert_eq!(store.fastly.value("k").expect("it is there"), &b"4"[..]);
    // Of writers at one time one wins.
    let won: usize = std::thread::scope(|threads| {
        let writers: Vec<_> = (0..8).map(|_| threads.spawn(|| store.put("race?add=true", &[], b""))).collect();
        writers.into_iter().filter_map(|writer| writer.join().ok()).filter(|status| *status == 200).count()
    });
    assert_eq!(won, 1);
}

#[test]
fn what_is_beyond_a_limit_is_refused_and_what_is_at_it_is_taken() {
    let store = Store::start();
    let long = "ü".repeat(512);
    for (key, status) in [
        (long.as_str(), 200),
        (&format!("{long}x"), 400),
        ("", 400),
        (".", 400),
        ("..", 400),
        ("...", 200),
        ("a\rb", 400),
        ("a\nb", 400),
        (".well-known/acme-challenge/x", 400),
        ("x/.well-known/acme-challenge/x", 200),
    ] {
        assert_eq!(store.put(&encoded(key), &[], b""), status, "{key:?}");
        let (_, batch) = store.batch(&[line(key, b"")]);
        let code = batch["errors"][0]["code"].as_str().map_or(200, |code| code.parse().expect("it is a number"));
        assert_eq!(code, status, "{key:?}");
    }
    let value = vec![7; 25_000_001];
    assert_eq!((store.put("v", &[], &value[1..]), store.put("v", &[], &value)), (200, 413));
    let metadata = "m".repeat(2_001);
    assert_eq!(store.put("m", &[("metadata", &metadata[1..])], b""), 200);
    assert_eq!(store.put("m", &[("metadata", &metadata)], b""), 400);
    assert_eq!(store.call("PUT", "batch", &[("content-type", "application/json")], b"").status, 415);
    let refused = ask(store.fastly.address(), &format!("GET /resources/stores/kv/{}/keys", Fastly::STORE), &[], b"");
    assert_eq!(refused.expect("it answers").status, 401);
    let other = ask(store.fastly.address(), "GET /resources/stores/kv/another/keys", &[("fastly-key", Fastly::TOKEN)], b"");
    assert_eq!(other.expect("it answers").status, 404);
    assert_eq!(store.put("p?append=true", &[], b""), 400);
}

#[test]
fn a_line_of_a_batch_fails_alone() {
    let store = Store::start();
    let mut large = line("large", b"");
    large["metadata"] = "m".repeat(2_001).into();
    let lines = [line("a", b"1"), json!({ "key": "b", "value": "-" }), json!(7), large, line("c", b"3")];
    let (status, said) = store.batch(&lines);
    assert_eq!((status, said["errors"].as_array().map(Vec::len)), (200, Some(3)));
    assert_eq!(said["errors"][0], json!({ "index": 1, "key": "b", "code": "400", "reason": "the value is not base64" }));
    assert_eq!((&said["errors"][1]["index"], &said["errors"][1]["key"]), (&json!(2), &json!("")));
    store.fastly.plan(When::Call(2), Fault::Partial(Which::Every(2)));
    let (status, said) = store.batch(&[line("d", b""), line("e", b""), line("f", b"")]);
    assert_eq!((status, &said["errors"][0]["key"], said["errors"][1].is_null()), (200, &json!("e"), true));
    let keys: Vec<String> = store.fastly.snapshot().into_keys().collect();
    assert_eq!(keys, ["a", "c", "d", "f"]);
}

#[test]
fn listings_come_in_pages_and_late_unless_they_are_strong() {
    let store = Store::start();
    store.fastly.lag_listings(Duration::from_secs(10));
    let lines: Vec<Value> = (0..250).map(|number| line(&format!("k{number:03}"), b"")).collect();
    store.batch(&lines);
    assert_eq!(store.names("consistency=eventual").0.len(), 0);
    let (first, cursor) = store.names("consistency=strong&prefix=k");
    assert_eq!(first.len(), 100);
    let cursor = encoded(&cursor.expect("there is more"));
    let (rest, cursor) = store.names(&format!("consistency=strong&prefix=k&limit=1000&cursor={cursor}"));
    assert_eq!((rest[0].as_str(), rest.len(), cursor), ("k100", 150, None));
    store.clock.advance(Duration::from_secs(10));
    assert_eq!(store.names("prefix=k00").0.len(), 10);
    for refused in ["limit=0", "limit=1001", "consistency=weak", "cursor=*"] {
        assert_eq!(store.call("GET", &format!("keys?{refused}"), &[], b"").status, 400, "{refused}");
    }
}

#[test]
fn too_many_requests_and_items_wait_as_long_as_it_is_said() {
    let store = Store::start();
    store.fastly.limit_items(10);
    let lines: Vec<Value> = (0..35).map(|number| line(&format!("k{number}"), b"")).collect();
    assert_eq!(store.batch(&lines).0, 200, "no batch is too large for ever");
    let retry = |response: &Response| response.header("retry-after").map(|seconds| seconds.parse::<u64>().expect("a number"));
    let refused = store.call("PUT", "keys/a", &[], b"");
    assert_eq!((refused.status, retry(&refused)), (429, Some(3)));
    assert_eq!(store.call("GET", "keys/k1", &[], b"").status, 200);
    store.clock.advance(Duration::from_secs(2));
    assert_eq!(store.put("a", &[], b""), 429);
    store.clock.advance(Duration::from_secs(1));
    assert_eq!(store.put("a", &[], b""), 200);
    store.fastly.limit_requests(2);
    store.clock.advance(Duration::from_secs(10));
    assert_eq!((store.put("b", &[], b""), store.put("c", &[], b""), store.put("d", &[], b"")), (200, 200, 429));
    store.clock.advance(Duration::from_millis(500));
    assert_eq!((store.put("d", &[], b""), store.put("e", &[], b"")), (200, 429));
    assert!(!store.fastly.snapshot().contains_key("e"));
}

#[test]
fn a_thousand_writes_a_second_are_taken_unless_it_is_said() {
    let store = Store::start();
    let lines: Vec<Value> = (0..999).map(|number| line(&format!("k{number}"), b"")).collect();
    assert_eq!(store.batch(&lines).0, 200);
    assert_eq!((store.put("a", &[], b""), store.put("b", &[], b"")), (200, 429));
}

#[test]
fn planned_faults_happen_at_their_calls_and_only_there() {
    let store = Store::start();
    let faults = [
        Fault::TooMany(None),
        Fault::Status(500),
        Fault::ConnectionCut(Work::NotDone),
        Fault::ConnectionCut(Work::Done),
        Fault::ResponseCut(At::Head),
        Fault::StorageFull,
        Fault::DailyWrites,
        Fault::Revoked,
    ];
    for (number, fault) in (1..).zip(faults) {
        store.fastly.plan(When::Call(number), fault);
    }
    let said: Vec<Option<u16>> = (1..=9)
        .map(|number| store.try_call("PUT", &format!("keys/{number}"), &[], b"v").map(|response| response.status))
        .collect();
    assert_eq!(said, [Some(429), Some(500), None, None, None, Some(403), Some(403), Some(401), Some(200)]);
    let keys: Vec<String> = store.fastly.snapshot().into_keys().collect();
    assert_eq!(keys, ["4", "5", "9"]);
    store.fastly.plan(When::Call(10), Fault::ResponseCut(At::Body));
    assert!(store.try_call("GET", "keys/9", &[], b"").is_none());
}

#[test]
fn values_expire_and_late_reads_show_what_was() {
    let store = Store::start();
    store.fastly.lag_reads(Duration::from_secs(1));
    store.put("k", &[("time_to_live_sec", "60")], b"1");
    assert_eq!(store.call("GET", "keys/k", &[], b"").status, 404);
    store.clock.advance(Duration::from_secs(1));
    assert_eq!(store.call("GET", "keys/k", &[], b"").body, b"1");
    store.clock.advance(Duration::from_secs(59));
    assert_eq!(store.call("GET", "keys/k", &[], b"").status, 404);
    assert_eq!(store.put("k?add=true", &[], b"2"), 200);
}
