//! One corpus through every host: the same bytes.

use std::collections::BTreeMap;
use std::fs;

use super::{Kv, chromium, native, node, spin, viceroy, workerd};
use crate::common::corpus::corpus;
use crate::common::{Component, Core, Reply, Repo, exit_code, message_of, replica_keys, send};

/// What must be the same from every host: the status, the body, and what a client or a cache goes by.
pub(super) fn shown(reply: &Reply) -> String {
    let headers: Vec<String> = [
        "content-type",
        "x-mezze-snapshot",
        "x-mezze-epoch",
        "x-mezze-steps-back",
        "etag",
        "cache-control",
        "retry-after",
        "vary",
        "allow",
        "www-authenticate",
        "access-control-allow-origin",
    ]
    .iter()
    .filter_map(|name| Some(format!("{name}: {}\n", reply.header(name)?)))
    .collect();
    format!("{}\n{}\n{}", reply.status, headers.concat(), String::from_utf8_lossy(&reply.body))
}

/// Requests beside those of the corpus: a line, headers and a body.
type Asked = (String, Vec<(&'static str, &'static str)>, Vec<u8>);

fn others() -> Vec<Asked> {
    let get = |target: &str| (format!("GET {target}"), vec![], vec![]);
    let mut asked: Vec<Asked> = [
        "/health",
        "/",
        "/v1",
        "/v1/features/everything?user_id=1&amount=2.5",
        "/v1/features/everything?user_id=1&amount=2.5&user_id=999&amount=1",
        "/v1/features/everything?user_id=5&amount=1&expired=value",
        "/v1/features/friends?user_id=1&friend=2&full_feature_names=true",
        "/v1/features/friends?user_id=1&friend=2",
        "/v1/features/every%74hing?amount=1&user%5Fid=%37",
        "/v1/features/everything?user_id=x&amount=1",
        "/v1/features/everything?user_id=%ff&amount=1",
        "/v1/features/everything?user_id=1",
        "/v1/features/everything",
        "/v1/features/nothing?user_id=1",
        "/v1/features/",
        "/v1/features/a/b",
        "/v1/x/%2e%2e/features/everything?user_id=1&amount=2.5",
        "/v1/features/..%2f..%2fhealth",
        "/get-online-features",
    ]
    .map(get)
    .into();
    let post = "POST /get-online-features".to_owned();
    let body = br#"{"feature_service": "everything", "entities": {"user_id": [1, 5, 999], "amount": [1, 2, 3]}}"#.to_vec();
    for headers in [
        vec![("accept", "application/msgpack")],
        vec![("accept", "application/msgpack;q=0.5, application/json")],
        vec![("content-type", "application/json; charset=utf-8")],
        vec![("content-type", "text/plain")],
        vec![("content-type", "application/msgpack")],
        vec![("x-mezze-epoch", "1")],
        vec![("x-mezze-epoch", "x")],
        vec![("origin", "https://a.example")],
        vec![("origin", "https://b.example")],
    ] {
        asked.push((post.clone(), headers, body.clone()));
    }
    asked.push((
        "GET /v1/features/everything?user_id=1&amount=2.5".into(),
        vec![("accept", "application/msgpack"), ("origin", "https://a.example")],
        vec![],
    ));
    for method in ["OPTIONS", "DELETE", "PUT"] {
        for path in ["/get-online-features", "/v1/features/everything", "/v1/snapshot", "/health", "/nowhere"] {
            asked.push((format!("{method} {path}"), vec![("origin", "https://a.example")], vec![]));
        }
    }
    // Hostile bodies.
    asked.push((post.clone(), vec![], [b"[".repeat(100_000), b"]".repeat(100_000)].concat()));
    asked.push((post.clone(), vec![], b"{\"features\": [\"\xff\"]}".to_vec()));
    asked.push((post.clone(), vec![], format!("{{\"features\": [\"{}\"], \"entities\": {{}}}}", "x".repeat(500_000)).into()));
    asked.push((
        post,
        vec![("content-type", "application/msgpack")],
        [vec![0xdd, 0xff, 0xff, 0xff, 0xff], vec![0xc0; 64]].concat(),
    ));
    asked
}

/// What a request of the corpus is about, by its body and the status that it gets.
fn scenario(body: &str, status: u16) -> String {
    let has = |part: &str| body.contains(part);
    let about = match status {
        200 if has("checks") || has("chained") || has("computed") => "computed from features",
        200 if has("functions:") => "functions, odd values",
        200 if has("friends") => "service with alias and join-key map",
        200 if has("feature_service") => "service with request data",
        200 if has("blobs") => "bytes",
        200 if ["marks", "weights", "place", "grid"].iter().any(|name| has(name)) => "sets, maps, structs, nested lists",
        200 if has("kinds") => "uuids, decimals, documents, offsets",
        200 if has("pairs") => "two join keys",
        200 if has("\"expired\": \"value\"") => "expired values wanted",
        200 if has("true}") => "long names",
        200 if has("tags") => "lists",
        200 if has("name") && has("profile:name") => "texts",
        200 if has("seen") => "instants",
        200 if has("active") => "booleans",
        200 if has("age") => "integers",
        200 => "floats",
        _ => return format!("refused with {status}"),
    };
    about.to_owned()
}

/// How many requests of each scenario each host answered with the same bytes.
struct Matrix {
    hosts: &'static [&'static str],
    rows: BTreeMap<String, BTreeMap<&'static str, usize>>,
}

impl Matrix {
    fn count(&mut self, scenario: &str, host: &'static str) {
        *self.rows.entry(scenario.to_owned()).or_default().entry(host).or_default() += 1;
    }

    fn text(&self) -> String {
        let mut text = "requests that got the native server's bytes (- where a host takes no such request)\n\n".to_owned();
        let headings: String = self.hosts.iter().map(|host| format!("{host:>10}")).collect();
        text += &format!("{:38}{headings}\n", "scenario");
        for (scenario, counts) in &self.rows {
            let cells = self.hosts.iter().map(|host| counts.get(host).map_or_else(|| "-".to_owned(), ToString::to_string));
            text += &format!("{scenario:38}{}\n", cells.map(|cell| format!("{cell:>10}")).collect::<String>());
        }
        text
    }
}

const HOSTS: &[&str] = &["core", "command", "HTTP", "wasmtime", "workerd", "Viceroy", "Spin", "Node", "Chromium"];

#[test]
fn every_host_gives_the_bytes_of_the_native_server() {
    let repo = Repo::every_type_served();
    let keys = replica_keys(&repo.path("data/replica"));
    let variables = [("MEZZE_CORS_ORIGINS", "https://a.example"), ("MEZZE_CACHE_SECONDS", "10")];
    let kv = Kv::start(keys.clone());
    let native = native(&repo, &variables);
    let edges = [workerd(&kv, &variables), viceroy(&keys, &variables), spin(&kv, &variables)];
    let core = Core::open(&repo.path("data/replica"));
    let mut component = Component::open(&repo.path("data/replica"));
    let requests = corpus();
    let in_scripts = [("Node", node::answers(&keys, &requests)), ("Chromium", chromium::answers_of(&keys, &requests))];
    let mut matrix = Matrix { hosts: HOSTS, rows: BTreeMap::new() };
    for (number, body) in requests.iter().enumerate() {
        let line = "POST /get-online-features";
        let expected = send(native.address, line, &[], body.as_bytes());
        let scenario = scenario(body, expected.status);
        matrix.count(&scenario, "HTTP");
        let text = String::from_utf8_lossy(&expected.body).into_owned();
        for (host, (status, found)) in [("core", core.lookup(body)), ("wasmtime", component.lookup(body))] {
            assert_eq!((status, &*String::from_utf8_lossy(&found)), (expected.status, &*text), "{host}: {body}");
            matrix.count(&scenario, host);
        }
        for edge in &edges {
            assert_eq!(shown(&send(edge.address, line, &[], body.as_bytes())), shown(&expected), "{}: {body}", edge.name);
            matrix.count(&scenario, edge.name);
        }
        let said = if expected.status == 200 { text.clone() } else { message_of(&expected.body) };
        for (host, answers) in &in_scripts {
            let found = &answers[number];
            let found = (found["status"].as_u64(), found["said"].as_str());
            assert_eq!(found, (Some(expected.status.into()), Some(&*said)), "{host}: {body}");
            matrix.count(&scenario, host);
        }
        // A process a request takes its time: the first of a scenario goes through the command, one of six, and every refusal.
        let is_first = matrix.rows.get(&scenario).is_some_and(|counts| counts.get("HTTP") == Some(&1));
        if is_first || expected.status != 200 || number % 6 == 0 {
            assert_eq!(repo.online(body), (exit_code(expected.status), said), "command: {body}");
            matrix.count(&scenario, "command");
        }
    }
    for (line, headers, body) in &others() {
        let expected = send(native.address, line, headers, body);
        let scenario = format!("HTTP: status {}", expected.status);
        matrix.count(&scenario, "HTTP");
        let about = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
        for edge in &edges {
            let found = send(edge.address, line, headers, body);
            assert_eq!(shown(&found), shown(&expected), "{}: {line} {headers:?} {about}", edge.name);
            matrix.count(&scenario, edge.name);
        }
    }
    // What passes is not shown; whoever runs all tests shows this file.
    fs::write(concat!(env!("CARGO_TARGET_TMPDIR"), "/hosts.txt"), matrix.text()).expect("the file can be written");
    println!("{}", matrix.text());
    assert!(matrix.rows.len() >= 20, "{} scenarios", matrix.rows.len());
}

#[test]
fn what_is_beyond_the_limits_or_without_the_token_is_refused_by_every_host() {
    let repo = Repo::every_type_served();
    let keys = replica_keys(&repo.path("data/replica"));
    let variables = [("MEZZE_BODY_BYTES_MAX", "1000"), ("MEZZE_ENTITIES_MAX", "3"), ("MEZZE_TOKEN", "0123456789abcdef")];
    let kv = Kv::start(keys.clone());
    let bearer = ("authorization", "Bearer 0123456789abcdef");
    let post = "POST /get-online-features";
    for host in [native(&repo, &variables), workerd(&kv, &variables), viceroy(&keys, &variables), spin(&kv, &variables)] {
        let status = |headers: &[(&str, &str)], body: &[u8]| send(host.address, post, headers, body).status;
        assert_eq!(status(&[bearer], &[b' '; 1001]), 413, "{}", host.name);
        let four = br#"{"features": ["profile:age"], "entities": {"user_id": [1, 2, 3, 4]}}"#;
        assert_eq!(status(&[bearer], four), 413, "{}", host.name);
        let three = br#"{"features": ["profile:age"], "entities": {"user_id": [1, 2, 3]}}"#;
        assert_eq!(status(&[bearer], three), 200, "{}", host.name);
        for wrong in ["", "Bearer", "Bearer 0123456789abcdeF", "Basic 0123456789abcdef"] {
            let reply = send(host.address, post, &[("authorization", wrong)], three);
            assert_eq!((reply.status, reply.header("www-authenticate")), (401, Some("Bearer")), "{}: {wrong}", host.name);
            assert_eq!(reply.header("cache-control"), Some("private, no-store"), "{}", host.name);
        }
        assert_eq!(send(host.address, "GET /health", &[], b"").status, 200, "{}", host.name);
    }
}

/// Requests that ask for as much as they can.
fn hostile() -> Vec<(u16, Vec<u8>)> {
    let many = |count: usize| {
        let ids: Vec<String> = (0..count).map(|id| id.to_string()).collect();
        format!(r#"{{"features": ["profile:age"], "entities": {{"user_id": [{}]}}}}"#, ids.join(",")).into_bytes()
    };
    let names: Vec<String> = (0..40_000).map(|name| format!("\"profile:f{name}\"")).collect();
    vec![
        (413, vec![b' '; (1 << 20) + 1]),
        (413, many(1_001)),
        (413, many(100_000)),
        (422, [b"[".repeat(500_000), b"]".repeat(500_000)].concat()),
        (400, [br#"{"features": [""#.to_vec(), vec![0xff; 500_000], br#""]}"#.to_vec()].concat()),
        (404, format!(r#"{{"features": [{}], "entities": {{"user_id": [1]}}}}"#, names.join(",")).into_bytes()),
        (
            413,
            format!(r#"{{"features": ["profile:age"], "entities": {{"user_id": [{}]}}}}"#, "[],".repeat(300_000) + "1")
                .into_bytes(),
        ),
    ]
}

#[test]
fn hostile_requests_cost_no_host_more_memory_than_it_has() {
    let repo = Repo::every_type_served();
    let keys = replica_keys(&repo.path("data/replica"));
    let kv = Kv::start(keys.clone());
    let good = br#"{"features": ["profile:age"], "entities": {"user_id": [3]}}"#;
    let post = "POST /get-online-features";
    for host in [workerd(&kv, &[]), viceroy(&keys, &[]), spin(&kv, &[])] {
        let expected = send(host.address, post, &[], good);
        assert_eq!(expected.status, 200, "{}", host.name);
        let before = host.peak_bytes();
        for _ in 0..5 {
            for (status, body) in hostile() {
                let found = send(host.address, post, &[], &body);
                let about = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
                let said = String::from_utf8_lossy(&found.body).into_owned();
                assert_eq!(found.status, status, "{}: {about}: {said}", host.name);
            }
        }
        assert_eq!(send(host.address, post, &[], good).body, expected.body, "{}", host.name);
        // All of it, instances that serve side by side and the runtime's own buffers included.
        let more = host.peak_bytes() - before;
        println!("{}: {} MiB more at its peak", host.name, more >> 20);
        assert!(more < 128 << 20, "{}: {more} bytes", host.name);
    }
}
