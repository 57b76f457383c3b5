//! The edges for real: the bundles in workerd and Viceroy, over keys of a replica, give the same bytes as the native server; and
//! never a wrong value when the store is late, fails or lies.
//!
//! `tests/run` installs the runtimes; `MEZZE_TOOLS` names another folder that has them.
#![expect(clippy::print_stdout, reason = "it prints which requests it compared")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use common::corpus::corpus;
use common::{Reply, Repo, replica_keys, send};

/// A key-value store over the protocol of workerd's KV bindings, on loopback. It can lose, damage and refuse keys.
#[derive(Clone)]
struct Kv {
    address: SocketAddr,
    keys: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    /// Keys that get an error.
    failing: Arc<Mutex<Vec<String>>>,
}

impl Kv {
    fn start(keys: Vec<(String, Vec<u8>)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("it has an address");
        let kv = Self { address, keys: Arc::new(Mutex::new(keys.into_iter().collect())), failing: Arc::default() };
        let served = kv.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kv = served.clone();
                std::thread::spawn(move || kv.serve(stream));
            }
        });
        kv
    }

    fn serve(&self, stream: TcpStream) {
        let mut writer = stream.try_clone().expect("a socket can be cloned");
        let mut reader = BufReader::new(stream);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let mut header = String::new();
            while reader.read_line(&mut header).unwrap_or(0) > 2 {
                header.clear();
            }
            let target = line.split(' ').nth(1).unwrap_or_default();
            let key = target.split('?').next().unwrap_or_default().trim_start_matches('/').replace("%2F", "/");
            let (status, body) = match self.keys.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
                _ if self.failing.lock().unwrap_or_else(PoisonError::into_inner).contains(&key) => ("500 Broken", vec![]),
                Some(value) => ("200 OK", value.clone()),
                None => ("404 Not Found", vec![]),
            };
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
            if writer.write_all(head.as_bytes()).and_then(|()| writer.write_all(&body)).is_err() {
                return;
            }
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut BTreeMap<String, Vec<u8>>) -> T) -> T {
        change(&mut self.keys.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A runtime that serves a bundle. It is stopped when this is dropped.
struct Host {
    name: &'static str,
    address: SocketAddr,
    child: Child,
    /// What its bundle lies in.
    _folder: tempfile::TempDir,
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program that `tests/run` has installed.
fn tool(name: &str, path: &str) -> PathBuf {
    let folder = std::env::var_os("MEZZE_TOOLS").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").expect("there is a home")).join(".cache/mezze/tools"),
        PathBuf::from,
    );
    let program = folder.join(path);
    assert!(program.exists(), "{name} is not at {}: run `tests/run`, which installs it", program.display());
    program
}

/// A bundle in a folder of its own.
fn build(target: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let built = common::mezze().args(["edge", "build", target, "--out"]).arg(folder.path().join("bundle")).output();
    let built = built.expect("the command can be run");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    folder
}

/// Real workerd, with the bundle for Cloudflare.
fn workerd(kv: &Kv, variables: &[(&str, &str)]) -> Host {
    let folder = build("cloudflare");
    let bundle = folder.path().join("bundle");
    let modules: Vec<String> =
        [("worker.js", "esModule"), ("index.js", "esModule"), ("state.js", "esModule"), ("index_bg.wasm", "wasm")]
            .iter()
            .map(|(name, kind)| format!("(name = \"{name}\", {kind} = embed \"{name}\")"))
            .collect();
    let variables: String = variables.iter().map(|(name, value)| format!(", (name = \"{name}\", text = \"{value}\")")).collect();
    let config = format!(
        r#"using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [ (name = "main", worker = .mezze), (name = "kv", external = (address = "{kv}", http = ())) ],
  sockets = [ (name = "http", address = "127.0.0.1:0", http = (), service = "main") ],
);
const mezze :Workerd.Worker = (
  modules = [ {modules} ],
  bindings = [ (name = "MEZZE", kvNamespace = "kv"){variables} ],
  compatibilityDate = "2026-04-01",
);
"#,
        kv = kv.address,
        modules = modules.join(", "),
    );
    fs::write(bundle.join("config.capnp"), config).expect("the file can be written");
    let mut child = Command::new(tool("workerd", "node_modules/@cloudflare/workerd-linux-64/bin/workerd"))
        .args(["serve", "config.capnp", "--control-fd=1"])
        .current_dir(&bundle)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("workerd can be run");
    // It says on which port it listens.
    let mut said = String::new();
    BufReader::new(child.stdout.as_mut().expect("it is piped")).read_line(&mut said).expect("it says something");
    let said: serde_json::Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("workerd did not start: {said}"));
    let port = said["port"].as_u64().expect("it listens on a port") as u16;
    Host { name: "workerd", address: SocketAddr::from(([127, 0, 0, 1], port)), child, _folder: folder }
}

/// Real Viceroy, with the bundle for Fastly. Its store is what it starts with.
fn viceroy(keys: &[(String, Vec<u8>)], variables: &[(&str, &str)]) -> Host {
    let folder = build("fastly");
    let bundle = folder.path().join("bundle");
    let mut config = fs::read_to_string(bundle.join("fastly.toml")).expect("the bundle has it");
    config += "\n[local_server]\n[local_server.config_stores.mezze]\nformat = \"inline-toml\"\n[local_server.config_stores.mezze.contents]\n";
    for (name, value) in variables {
        config += &format!("{name} = \"{value}\"\n");
    }
    config += "[local_server.kv_stores]\n";
    let stored = folder.path().join("store");
    fs::create_dir(&stored).expect("the folder can be made");
    for (number, (key, value)) in keys.iter().enumerate() {
        let file = stored.join(number.to_string());
        fs::write(&file, value).expect("the file can be written");
        config += &format!("[[local_server.kv_stores.mezze]]\nkey = \"{key}\"\nfile = \"{}\"\n", file.display());
    }
    fs::write(bundle.join("fastly.toml"), config).expect("the file can be written");
    // It takes the port that it is told; this one was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("loopback has a free port");
    let mut child = Command::new(tool("Viceroy", "bin/viceroy"))
        .args(["serve", "--addr", &address.to_string(), "-C", "fastly.toml", "bin/main.wasm"])
        .current_dir(&bundle)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("viceroy can be run");
    // It does not say when it listens.
    while TcpStream::connect(address).is_err() {
        let ended = child.try_wait().expect("it can be asked");
        assert!(ended.is_none(), "Viceroy did not start: {ended:?}");
        std::thread::yield_now();
    }
    Host { name: "Viceroy", address, child, _folder: folder }
}

/// `mezze serve`.
fn native(repo: &Repo, variables: &[(&str, &str)]) -> Host {
    let mut child = repo
        .command(&["serve", "--port", "0", "--output", "json", "--refresh", "1"])
        .envs(variables.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the command can be run");
    let mut said = String::new();
    BufReader::new(child.stdout.as_mut().expect("it is piped")).read_line(&mut said).expect("it says something");
    let said: serde_json::Value = serde_json::from_str(&said).expect("it is JSON");
    let address = said["address"].as_str().expect("it listens").parse().expect("it is an address");
    Host { name: "native", address, child, _folder: tempfile::tempdir().expect("a temporary folder") }
}

/// What must be the same from every host: the status, the body, and what a client or a cache goes by.
fn shown(reply: &Reply) -> String {
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

#[test]
fn every_edge_gives_the_bytes_of_the_native_server() {
    let repo = Repo::every_type_served();
    let keys = replica_keys(&repo.path("data/replica"));
    let variables = [("MEZZE_CORS_ORIGINS", "https://a.example"), ("MEZZE_CACHE_SECONDS", "10")];
    let kv = Kv::start(keys.clone());
    let native = native(&repo, &variables);
    let edges = [workerd(&kv, &variables), viceroy(&keys, &variables)];
    let mut asked = others();
    asked.extend(corpus().into_iter().map(|body| ("POST /get-online-features".to_owned(), vec![], body.into_bytes())));
    let mut counts = BTreeMap::new();
    for (line, headers, body) in &asked {
        let expected = send(native.address, line, headers, body);
        *counts.entry(expected.status).or_insert(0) += 1;
        let about = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
        for edge in &edges {
            let found = send(edge.address, line, headers, body);
            assert_eq!(shown(&found), shown(&expected), "{}: {line} {headers:?} {about}", edge.name);
        }
    }
    println!("requests by status, the same from native, {} and {}: {counts:?}", edges[0].name, edges[1].name);
    assert!(counts[&200] > 250 && counts[&404] > 5 && counts.len() >= 6, "{counts:?}");
}

#[test]
fn bodies_beyond_the_limit_are_refused_by_every_edge() {
    let repo = Repo::every_type_served();
    let keys = replica_keys(&repo.path("data/replica"));
    let variables = [("MEZZE_BODY_BYTES_MAX", "1000"), ("MEZZE_ENTITIES_MAX", "3"), ("MEZZE_TOKEN", "0123456789abcdef")];
    let kv = Kv::start(keys.clone());
    let bearer = ("authorization", "Bearer 0123456789abcdef");
    let post = "POST /get-online-features";
    for host in [native(&repo, &variables), workerd(&kv, &variables), viceroy(&keys, &variables)] {
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

/// What user 3 has in a snapshot before and after the delta: `age`, and the epoch that says it.
fn age_of_user_3(reply: &Reply) -> (String, Option<&str>) {
    let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    (body["results"][1]["values"][0].to_string(), reply.header("x-mezze-epoch"))
}

#[test]
fn no_edge_serves_a_wrong_value_whatever_its_store_does() {
    let repo = Repo::every_type_served();
    let keys = replica_keys(&repo.path("data/replica"));
    let ask = |host: &Host| {
        let body = br#"{"features": ["profile:age"], "entities": {"user_id": [3]}}"#;
        send(host.address, "POST /get-online-features", &[], body)
    };
    let whole = Kv::start(keys.clone());
    let expected = ask(&workerd(&whole, &[]));
    assert_eq!(age_of_user_3(&expected), ("33".into(), Some("3")), "the delta answers");
    let pages: Vec<&(String, Vec<u8>)> = keys.iter().filter(|(key, _)| key.starts_with("p/")).collect();
    let mut faults = 0;
    for (fault, change) in [
        ("missing", None),
        ("empty", Some(vec![])),
        ("cut", Some(pages[0].1[..pages[0].1.len() / 2].to_vec())),
        (
            "flipped",
            Some({
                let mut bytes = pages[0].1.clone();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 4;
                bytes
            }),
        ),
        ("another's", Some(pages[pages.len() - 1].1.clone())),
        ("failing", Some(b"failing".to_vec())),
    ] {
        let mut damaged = keys.clone();
        let kv = Kv::start(vec![]);
        for (key, value) in damaged.iter_mut().filter(|(key, _)| key.starts_with("p/")) {
            match &change {
                _ if fault == "failing" => kv.failing.lock().unwrap_or_else(PoisonError::into_inner).push(key.clone()),
                // A page of another key is at every key but its own.
                Some(bytes) if bytes != value => value.clone_from(bytes),
                _ => {}
            }
        }
        if change.is_none() {
            damaged.retain(|(key, _)| !key.starts_with("p/"));
        }
        kv.with(|keys| keys.extend(damaged.iter().cloned()));
        let mut hosts = vec![workerd(&kv, &[])];
        // Viceroy's store cannot fail.
        if fault != "failing" {
            hosts.push(viceroy(&damaged, &[]));
        }
        for host in &hosts {
            let reply = ask(host);
            let said = String::from_utf8_lossy(&reply.body).into_owned();
            if reply.status == 200 {
                // The page that stands at its own key may be all that is needed.
                assert_eq!(age_of_user_3(&reply), age_of_user_3(&expected), "{} {fault}: {said}", host.name);
            } else {
                assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")), "{} {fault}: {said}", host.name);
                faults += 1;
            }
        }
    }
    assert!(faults >= 9, "{faults} faults were noticed");
}

#[test]
fn a_switch_of_snapshots_under_load_mixes_nothing() {
    let repo = Repo::every_type_served();
    let folder = repo.path("data/replica");
    let first = replica_keys(&folder);
    repo.write("data/users/3.json", "{\"user_id\": 3, \"ts\": \"2026-03-01T00:00:00Z\", \"age\": 34, \"name\": \"Vier\"}\n");
    repo.run(&["materialize-incremental", "2030-01-01"]);
    let second = replica_keys(&folder);
    let head_of = |keys: &[(String, Vec<u8>)]| keys.iter().find(|(key, _)| key == "head").expect("it is there").1.clone();
    let kv = Kv::start(second.clone());
    kv.with(|keys| keys.insert("head".into(), head_of(&first)));
    let host = workerd(&kv, &[("MEZZE_HEAD_SECONDS", "0")]);
    let body = br#"{"features": ["profile:age", "profile:name"], "entities": {"user_id": [3]}}"#;
    let mut epochs = Vec::new();
    for turn in 0..60 {
        if turn == 20 {
            kv.with(|keys| keys.insert("head".into(), head_of(&second)));
        }
        // A cache that gives the old head again is no way back.
        if turn == 40 {
            kv.with(|keys| keys.insert("head".into(), head_of(&first)));
        }
        let replies: Vec<Reply> = std::thread::scope(|scope| {
            let asking: Vec<_> =
                (0..4).map(|_| scope.spawn(|| send(host.address, "POST /get-online-features", &[], body))).collect();
            asking.into_iter().map(|asking| asking.join().expect("it asks")).collect()
        });
        for reply in replies {
            let body: serde_json::Value = serde_json::from_slice(&reply.body).expect("it is JSON");
            let (age, name) = (body["results"][1]["values"][0].to_string(), body["results"][2]["values"][0].to_string());
            let epoch: u64 = reply.header("x-mezze-epoch").expect("it is there").parse().expect("it is a number");
            let expected = if epoch == 3 { ("33", "\"Drei\"") } else { ("34", "\"Vier\"") };
            assert_eq!((age.as_str(), name.as_str()), expected, "epoch {epoch}");
            epochs.push(epoch);
        }
    }
    assert_eq!((epochs.first(), epochs.last()), (Some(&3), Some(&4)), "{epochs:?}");
    assert!(epochs.is_sorted(), "{epochs:?}");
}

/// The answers of the bundle for browsers, in Node.
fn node(keys: &[(String, Vec<u8>)], requests: &[String]) -> Vec<serde_json::Value> {
    let folder = build("browser");
    let write = |name: &str, json: serde_json::Value| {
        let path = folder.path().join(name);
        fs::write(&path, json.to_string()).expect("the file can be written");
        path
    };
    let keys: serde_json::Map<String, serde_json::Value> =
        keys.iter().map(|(key, value)| (key.clone(), base64(value).into())).collect();
    let (keys, requests) = (write("keys.json", keys.into()), write("requests.json", requests.into()));
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/edges/node.mjs");
    let output = Command::new("node").arg(script).arg(folder.path().join("bundle")).args([keys, requests]).output();
    let output = output.expect("node can be run: install npm, which brings it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).expect("it is text");
    lines.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

/// Base64, as Node reads it.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let groups = bytes.chunks(3).map(|group| {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        (0..=group.len()).map(|letter| char::from(LETTERS[(bits >> (18 - 6 * letter) & 63) as usize])).collect::<String>()
    });
    groups.collect()
}

#[test]
fn the_bundle_for_browsers_gives_the_bytes_of_the_native_server_in_node() {
    let repo = Repo::every_type_served();
    let mut keys = replica_keys(&repo.path("data/replica"));
    let native = native(&repo, &[]);
    let requests = corpus();
    let answered = node(&keys, &requests);
    assert_eq!(answered.len(), requests.len());
    for (request, found) in requests.iter().zip(&answered) {
        let (status, body) = common::post(native.address, request);
        let body = String::from_utf8(body).expect("it is text");
        let message = |body: &str| -> Option<String> {
            let said: String = serde_json::from_str(body).ok()?;
            Some(serde_json::from_str::<serde_json::Value>(&said).ok()?["message"].as_str()?.to_owned())
        };
        let expected = if status == 200 { body } else { message(&body).expect("an error has a message") };
        assert_eq!((found["status"].as_u64(), found["said"].as_str()), (Some(status.into()), Some(&*expected)), "{request}");
    }
    // A page that is not what it should be is never read.
    for (_, value) in keys.iter_mut().filter(|(key, _)| key.starts_with("p/")) {
        let middle = value.len() / 2;
        value[middle] ^= 1;
    }
    let request = r#"{"features": ["profile:age"], "entities": {"user_id": [3]}}"#.to_owned();
    let answered = node(&keys, &[request]);
    assert_eq!(answered[0]["status"], 503, "{}", answered[0]);
}
