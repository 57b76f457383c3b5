use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use crate::client::ask;
use crate::vendors::clock::Clock;
use crate::vendors::cloudflare::Cloudflare;
use crate::vendors::faults::{At, Counters, Fault, Kind, When, Which, Work};
use crate::vendors::http::{Response, encoded};

struct Namespace {
    cloudflare: Cloudflare,
    clock: Clock,
}

impl Namespace {
    fn start() -> Self {
        let clock = Clock::new();
        Self { cloudflare: Cloudflare::start(&clock), clock }
    }

    fn try_call(&self, method: &str, path: &str, body: &[u8]) -> Option<Response> {
        self.call_with(method, path, &[], body)
    }

    fn call_with(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<Response> {
        let token = format!("Bearer {}", Cloudflare::TOKEN);
        let headers = [&[("Authorization", token.as_str())], headers].concat();
        ask(self.cloudflare.address(), &format!("{method} {}", path_of(path)), &headers, body)
    }

    fn call(&self, method: &str, path: &str, body: &[u8]) -> Response {
        self.try_call(method, path, body).expect("the response is whole")
    }

    fn status(&self, method: &str, path: &str, body: &[u8]) -> u16 {
        self.call(method, path, body).status
    }

    fn bulk(&self, items: &Value) -> Response {
        self.call("PUT", "bulk", items.to_string().as_bytes())
    }

    /// What a bulk write says of the keys.
    fn wrote(&self, items: &Value) -> Value {
        let response = self.bulk(items);
        assert_eq!(response.status, 200, "{}", String::from_utf8_lossy(&response.body));
        body(&response)["result"].take()
    }
}

fn path_of(path: &str) -> String {
    format!("/client/v4/accounts/{}/storage/kv/namespaces/{}/{path}", Cloudflare::ACCOUNT, Cloudflare::NAMESPACE)
}

fn body(response: &Response) -> Value {
    serde_json::from_slice(&response.body).expect("it is JSON")
}

fn code(response: &Response) -> Value {
    let mut body = body(response);
    assert_eq!((&body["success"], &body["result"], &body["messages"]), (&json!(false), &Value::Null, &json!([])));
    assert!(body["errors"][0]["message"].is_string());
    body["errors"][0]["code"].take()
}

fn items(count: usize) -> Value {
    (0..count).map(|number| json!({ "key": format!("k{number:05}"), "value": "v" })).collect()
}

#[test]
fn values_come_back_as_they_were_written() {
    let namespace = Namespace::start();
    let bytes: Vec<u8> = (0..=255).collect();
    let written = namespace.wrote(&json!([
        { "key": "s/ü/1", "value": BASE64_STANDARD.encode(&bytes), "base64": true, "metadata": { "b": 1, "a": [2] } },
        { "key": "text", "value": "ü" },
    ]));
    assert_eq!(written, json!({ "successful_key_count": 2, "unsuccessful_keys": [] }));
    let path = encoded("s/ü/1");
    assert_eq!(namespace.call("GET", &format!("values/{path}"), b"").body, bytes);
    assert_eq!(body(&namespace.call("GET", &format!("metadata/{path}"), b""))["result"], json!({ "b": 1, "a": [2] }));
    assert_eq!(body(&namespace.call("GET", "metadata/text", b""))["result"], Value::Null);
    assert_eq!(namespace.status("PUT", "values/single", b"one"), 200);
    let form = "--edge\r\nContent-Disposition: form-data; name=\"metadata\"\r\n\r\n{\"m\":1}\r\n--edge\r\n\
                Content-Disposition: form-data; name=\"value\"\r\n\r\nwith\r\nlines\r\n--edge--\r\n";
    let media = ("content-type", "multipart/form-data; boundary=edge");
    let put = namespace.call_with("PUT", "values/form", &[media], form.as_bytes());
    assert_eq!(put.expect("it is whole").status, 200);
    let snapshot = namespace.cloudflare.snapshot();
    assert_eq!(snapshot["form"], (b"with\r\nlines"[..].into(), Some(json!({ "m": 1 }))));
    assert_eq!(snapshot["s/ü/1"].1, Some(json!({ "b": 1, "a": [2] })));
    let keys: Vec<_> = snapshot.keys().collect();
    assert_eq!(keys, ["form", "s/ü/1", "single", "text"]);

    let asked = json!({ "keys": ["text", "none"], "withMetadata": true });
    let read = namespace.call("POST", "bulk/get", asked.to_string().as_bytes());
    let expected = json!({ "text": { "value": "ü", "metadata": null }, "none": null });
    assert_eq!(body(&read)["result"]["values"], expected);

    assert_eq!(namespace.status("DELETE", "values/single", b""), 200);
    let deleted = namespace.call("POST", "bulk/delete", br#"["text", "none"]"#);
    assert_eq!(body(&deleted)["result"], json!({ "successful_key_count": 2, "unsuccessful_keys": [] }));
    assert_eq!(code(&namespace.call("GET", "values/text", b"")), 10009);
    let counters = Counters { writes: 4, bytes: 256 + 2 + 3 + 11, deletes: 3, lists: 0, reads: 6 };
    assert_eq!(namespace.cloudflare.counters(), counters);
    let calls = namespace.cloudflare.calls();
    assert_eq!((calls[0].kind, calls[0].pairs, calls[0].status), (Kind::BulkWrite, 2, Some(200)));
    assert!(calls[0].bytes > 256);
}

#[test]
fn strangers_are_refused() {
    let namespace = Namespace::start();
    let address = namespace.cloudflare.address();
    let call = |line: &str, token: &str| ask(address, line, &[("authorization", token)], b"v").expect("it answers");
    let write = format!("PUT {}", path_of("values/k"));
    for token in ["", "Bearer", "Bearer another", Cloudflare::TOKEN] {
        let response = call(&write, token);
        assert_eq!((response.status, code(&response)), (401, json!(10000)), "{token}");
    }
    let reader = format!("Bearer {}", Cloudflare::READ_TOKEN);
    let response = call(&write, &reader);
    assert_eq!((response.status, code(&response)), (403, json!(10000)));
    assert_eq!(call(&format!("GET {}", path_of("keys")), &reader).status, 200);
    let token = format!("Bearer {}", Cloudflare::TOKEN);
    let account = write.replace(Cloudflare::ACCOUNT, "another");
    assert_eq!((call(&account, &token).status, code(&call(&account, &token))), (404, json!(7003)));
    let other = write.replace(Cloudflare::NAMESPACE, "another");
    assert_eq!((call(&other, &token).status, code(&call(&other, &token))), (404, json!(10013)));
    assert!(namespace.cloudflare.snapshot().is_empty());
    assert_eq!(namespace.cloudflare.counters().writes, 0);
}

#[test]
fn what_is_beyond_a_limit_is_refused_and_what_is_at_it_is_taken() {
    let namespace = Namespace::start();
    let single = |key: &str, value: &[u8]| namespace.status("PUT", &format!("values/{}", encoded(key)), value);
    let long = "ü".repeat(256);
    assert_eq!((single(&long, b""), single(&format!("{long}x"), b"")), (200, 414));
    assert_eq!((single(".", b""), single("..", b""), single("", b""), single("...", b"")), (400, 400, 400, 200));
    let value = vec![7; (25 << 20) + 1];
    assert_eq!((single("v", &value[1..]), single("w", &value)), (200, 413));
    for (item, status) in [
        (json!({ "key": "", "value": "" }), 400),
        (json!({ "key": "..", "value": "" }), 400),
        (json!({ "key": format!("{long}x"), "value": "" }), 414),
        (json!({ "key": "w" }), 400),
        (json!({ "key": "w", "value": 1 }), 400),
        (json!({ "key": "w", "value": "-", "base64": true }), 400),
        (json!({ "key": "w", "value": "YQ", "base64": true }), 400),
        (json!({ "key": "w", "value": "a".repeat((25 << 20) + 1) }), 413),
        (json!({ "key": "m0", "value": "", "metadata": "m".repeat(1_022) }), 200),
        (json!({ "key": "w", "value": "", "metadata": "m".repeat(1_023) }), 413),
        (json!({ "key": "e0", "value": "", "expiration_ttl": 60 }), 200),
        (json!({ "key": "w", "value": "", "expiration_ttl": 59 }), 400),
        (json!({ "key": "w", "value": "", "expiration": namespace.clock.now() / 1_000_000_000 }), 400),
    ] {
        let shown: String = item.to_string().chars().take(80).collect();
        // One that is refused takes the others with it.
        let response = namespace.bulk(&json!([{ "key": format!("beside {status} {shown}"), "value": "" }, item]));
        assert_eq!(response.status, status, "{shown}");
    }
    let snapshot = namespace.cloudflare.snapshot();
    assert!(!snapshot.contains_key("w"));
    assert!(snapshot.keys().filter(|key| key.starts_with("beside")).all(|key| key.starts_with("beside 200")));

    assert_eq!(namespace.bulk(&items(10_001)).status, 413);
    assert_eq!(namespace.wrote(&items(10_000))["successful_key_count"], 10_000);
    let keys = |count: usize| (0..count).map(|key| format!("k{key}")).collect::<Value>().to_string();
    assert_eq!(namespace.status("POST", "bulk/delete", keys(10_001).as_bytes()), 413);
    assert_eq!(namespace.status("POST", "bulk/delete", keys(10_000).as_bytes()), 200);
    assert_eq!(namespace.status("POST", "bulk/get", format!(r#"{{"keys":{}}}"#, keys(101)).as_bytes()), 400);
    assert_eq!(namespace.status("POST", "bulk/get", format!(r#"{{"keys":{}}}"#, keys(100)).as_bytes()), 200);
    for broken in ["", "{}", "[", "[1]", "null"] {
        assert_eq!(namespace.status("PUT", "bulk", broken.as_bytes()), 400, "{broken}");
        assert_eq!(namespace.status("POST", "bulk/delete", broken.as_bytes()), 400, "{broken}");
    }
}

#[test]
fn a_bulk_write_has_100_megabytes_at_most() {
    let namespace = Namespace::start();
    let mut body = b"[]".to_vec();
    body.resize(100_000_001, b' ');
    assert_eq!(namespace.status("PUT", "bulk", &body), 413);
    assert_eq!(namespace.status("PUT", "bulk", &body[..100_000_000]), 200);
}

#[test]
fn a_key_takes_one_write_a_second() {
    let namespace = Namespace::start();
    assert_eq!(namespace.status("PUT", "values/k", b"1"), 200);
    assert_eq!(namespace.status("PUT", "values/k", b"2"), 429);
    assert_eq!(namespace.status("PUT", "values/l", b"1"), 200);
    let both = json!([{ "key": "k", "value": "3" }, { "key": "n", "value": "3" }, { "key": "n", "value": "4" }]);
    assert_eq!(namespace.wrote(&both), json!({ "successful_key_count": 1, "unsuccessful_keys": ["k", "n"] }));
    namespace.clock.advance(Duration::from_nanos(999_999_999));
    assert_eq!(namespace.status("PUT", "values/k", b"4"), 429);
    namespace.clock.advance(Duration::from_nanos(1));
    assert_eq!(namespace.status("PUT", "values/k", b"5"), 200);
    let snapshot = namespace.cloudflare.snapshot();
    assert_eq!((&snapshot["k"].0[..], &snapshot["n"].0[..]), (&b"5"[..], &b"3"[..]));
    assert_eq!(namespace.cloudflare.counters().writes, 4);
}

#[test]
fn too_many_calls_are_blocked_until_the_window_ends() {
    let namespace = Namespace::start();
    let first = namespace.call("GET", "keys", b"");
    assert_eq!(first.header("ratelimit"), Some("\"default\";r=1199;t=300"));
    assert_eq!(first.header("ratelimit-policy"), Some("\"default\";q=1200;w=300"));
    namespace.clock.advance(Duration::from_secs(100));
    for _ in 1..1_200 {
        assert_eq!(namespace.status("GET", "keys", b""), 200);
    }
    for left in [200, 150, 100, 50] {
        let refused = namespace.call("PUT", "values/k", b"v");
        assert_eq!((refused.status, code(&refused)), (429, json!(971)));
        assert_eq!(refused.header("retry-after"), Some(left.to_string().as_str()));
        assert_eq!(refused.header("ratelimit"), Some(format!("\"default\";r=0;t={left}").as_str()));
        namespace.clock.advance(Duration::from_secs(50));
    }
    assert!(namespace.cloudflare.snapshot().is_empty());
    assert_eq!(namespace.status("PUT", "values/k", b"v"), 200);
    assert_eq!(namespace.cloudflare.calls().iter().filter(|call| call.status == Some(429)).count(), 4);
}

#[test]
fn listings_come_in_pages_with_metadata() {
    let namespace = Namespace::start();
    let mut pairs = items(25);
    pairs[3]["metadata"] = json!({ "n": 3 });
    pairs[4]["expiration_ttl"] = 90.into();
    namespace.wrote(&pairs);
    namespace.wrote(&json!([{ "key": "a", "value": "" }, { "key": "z", "value": "" }]));
    let (mut names, mut cursor, mut counts) = (vec![], String::new(), vec![]);
    loop {
        let page = body(&namespace.call("GET", &format!("keys?prefix=k&limit=10&cursor={}", encoded(&cursor)), b""));
        names.extend(page["result"].as_array().expect("it is a list").iter().cloned());
        counts.push(page["result_info"]["count"].as_u64().expect("it is a number"));
        cursor = page["result_info"]["cursor"].as_str().expect("it is text").into();
        if cursor.is_empty() {
            break;
        }
    }
    assert_eq!(counts, [10, 10, 5]);
    assert_eq!(names.len(), 25);
    assert_eq!(names[2], json!({ "name": "k00002" }));
    assert_eq!(names[3], json!({ "name": "k00003", "metadata": { "n": 3 } }));
    assert_eq!(names[4]["expiration"], namespace.clock.now() / 1_000_000_000 + 90);
    for refused in ["limit=9", "limit=1001", "limit=x", "cursor=*"] {
        assert_eq!(namespace.status("GET", &format!("keys?{refused}"), b""), 400, "{refused}");
    }
    namespace.clock.advance(Duration::from_secs(90));
    assert_eq!(body(&namespace.call("GET", "keys", b""))["result_info"]["count"], 26);
    assert_eq!(namespace.status("GET", "values/k00004", b""), 404);
    assert_eq!(namespace.cloudflare.counters().lists, 4);
}

#[test]
fn late_listings_and_reads_show_what_was() {
    let namespace = Namespace::start();
    namespace.cloudflare.lag_listings(Duration::from_secs(60));
    namespace.cloudflare.lag_reads(Duration::from_secs(30));
    let names = || {
        let page = body(&namespace.call("GET", "keys", b""));
        let names = page["result"].as_array().expect("it is a list").iter().map(|key| key["name"].as_str().map(str::to_owned));
        names.collect::<Option<Vec<_>>>().expect("each has a name").join(" ")
    };
    let read = || String::from_utf8(namespace.cloudflare.value("k").unwrap_or_default().into()).expect("it is text");
    namespace.status("PUT", "values/k", b"1");
    assert_eq!((names().as_str(), read().as_str()), ("", ""));
    namespace.clock.advance(Duration::from_secs(30));
    assert_eq!((names().as_str(), read().as_str()), ("", "1"));
    namespace.clock.advance(Duration::from_secs(30));
    namespace.status("PUT", "values/k", b"2");
    namespace.status("PUT", "values/l", b"2");
    assert_eq!((names().as_str(), read().as_str()), ("k", "1"));
    assert_eq!(namespace.call("GET", "values/k", b"").body, b"1");
    namespace.clock.advance(Duration::from_secs(30));
    assert_eq!((names().as_str(), read().as_str()), ("k", "2"));
    namespace.status("DELETE", "values/k", b"");
    assert_eq!(read(), "2");
    namespace.clock.advance(Duration::from_secs(30));
    assert_eq!((names().as_str(), read().as_str()), ("k l", ""));
    namespace.clock.advance(Duration::from_secs(30));
    assert_eq!(names(), "l");
    assert_eq!(namespace.cloudflare.snapshot().len(), 1);
}

#[test]
fn planned_faults_happen_at_their_calls_and_only_there() {
    let namespace = Namespace::start();
    let plan = |when, fault| namespace.cloudflare.plan(when, fault);
    plan(When::Call(2), Fault::TooMany(Some(7)));
    plan(When::Call(3), Fault::Status(502));
    plan(When::Call(4), Fault::ConnectionCut(Work::NotDone));
    plan(When::Call(5), Fault::ConnectionCut(Work::Done));
    plan(When::Call(6), Fault::ResponseCut(At::Head));
    plan(When::Call(7), Fault::ResponseCut(At::Body));
    plan(When::Call(8), Fault::ResponseCut(At::Length));
    plan(When::Call(9), Fault::StorageFull);
    plan(When::Call(10), Fault::DailyWrites);
    plan(When::Kind(Kind::List, 1), Fault::Status(500));
    plan(When::From(14), Fault::Revoked);
    let write = |number: u64| namespace.try_call("PUT", &format!("values/{number}"), b"v");
    let refused = |number: u64| {
        let response = write(number).expect("it answers");
        (response.status, code(&response))
    };
    assert_eq!(write(1).expect("it answers").status, 200);
    let busy = write(2).expect("it answers");
    assert_eq!((busy.status, busy.header("retry-after")), (429, Some("7")));
    let gateway = write(3).expect("it answers");
    assert_eq!((gateway.status, gateway.body.as_slice()), (502, &b"<html>no JSON</html>"[..]));
    assert!((4..=7).all(|number| write(number).is_none()));
    let cut = write(8).expect("its length agrees");
    assert!(cut.status == 200 && serde_json::from_slice::<Value>(&cut.body).is_err());
    assert_eq!(refused(9), (403, json!(10049)));
    assert_eq!(refused(10), (429, json!(10048)));
    assert_eq!(namespace.status("GET", "keys", b""), 500);
    assert_eq!(namespace.status("GET", "keys", b""), 200);
    assert_eq!(namespace.status("GET", "keys", b""), 200);
    assert_eq!((refused(14), refused(15)), ((401, json!(10000)), (401, json!(10000))));
    let keys: Vec<String> = namespace.cloudflare.snapshot().into_keys().collect();
    assert_eq!(keys, ["1", "5", "6", "7", "8"]);
    let said: Vec<Option<u16>> = namespace.cloudflare.calls().iter().map(|call| call.status).collect();
    assert_eq!(said[..6], [Some(200), Some(429), Some(502), None, None, Some(200)]);
}

#[test]
fn a_part_of_a_bulk_request_fails_where_it_is_planned() {
    let namespace = Namespace::start();
    namespace.cloudflare.plan(When::Call(1), Fault::Partial(Which::Every(3)));
    namespace.cloudflare.plan(When::Every(2), Fault::Partial(Which::keys(["k00000", "k00004"])));
    let unsuccessful = json!(["k00002", "k00005"]);
    assert_eq!(namespace.wrote(&items(7)), json!({ "successful_key_count": 5, "unsuccessful_keys": unsuccessful }));
    assert_eq!(namespace.cloudflare.snapshot().len(), 5);
    let deleted = body(&namespace.call("POST", "bulk/delete", br#"["k00000", "k00001"]"#));
    assert_eq!(deleted["result"], json!({ "successful_key_count": 1, "unsuccessful_keys": ["k00000"] }));
    assert_eq!(namespace.wrote(&json!([{ "key": "k00002", "value": "" }]))["successful_key_count"], 1);
    assert_eq!(namespace.cloudflare.snapshot().len(), 5);
}

#[test]
fn quotas_refuse_a_request_as_a_whole() {
    let namespace = Namespace::start();
    namespace.cloudflare.limit_daily_writes(5);
    namespace.cloudflare.limit_storage(7);
    assert_eq!(namespace.bulk(&items(3)).status, 200);
    let more = json!([{ "key": "a", "value": "" }, { "key": "b", "value": "" }, { "key": "c", "value": "" }]);
    assert_eq!(code(&namespace.bulk(&more)), 10048);
    assert_eq!(code(&namespace.call("PUT", "values/d", b"12345")), 10049);
    assert_eq!(namespace.status("PUT", "values/d", b"1234"), 200);
    assert_eq!(namespace.cloudflare.snapshot().len(), 4);
    namespace.clock.advance(Duration::from_secs(86_400));
    assert_eq!(namespace.bulk(&more).status, 200);
}

#[test]
fn the_state_is_shared_with_other_threads() {
    let namespace = Namespace::start();
    std::thread::scope(|threads| {
        for thread in 0..8 {
            let (cloudflare, namespace) = (namespace.cloudflare.clone(), &namespace);
            threads.spawn(move || {
                for write in 0..20 {
                    let key = format!("{thread}-{write}");
                    assert_eq!(namespace.status("PUT", &format!("values/{key}"), key.as_bytes()), 200);
                    assert_eq!(cloudflare.value(&key).expect("it is there"), key);
                }
            });
        }
    });
    assert_eq!(namespace.cloudflare.counters().writes, 160);
    namespace.cloudflare.insert("0-0", "damaged");
    assert!(namespace.cloudflare.remove("0-1"));
    assert_eq!(namespace.call("GET", "values/0-0", b"").body, b"damaged");
    assert_eq!(namespace.cloudflare.snapshot().len(), 159);
}
