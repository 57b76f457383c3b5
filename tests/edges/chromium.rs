//! The bundle for browsers in real Chromium, over HTTP from loopback: the bytes of the native server, and never a wrong value.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use super::{build_with, native, tool};
use crate::common::{Repo, files, mezze, replica_keys, send};
use crate::kv::http::{Answer, Request, Response, Server};

type Keys = Vec<(String, Vec<u8>)>;

/// What a site has at a path.
#[derive(Clone)]
enum Stored {
    Bytes(Vec<u8>),
    Failing,
    /// The request is taken and never answered.
    Hanging,
}

/// Static hosting on loopback: the bundle, and snapshots that a test changes while they are read.
#[derive(Clone)]
struct Site {
    address: SocketAddr,
    stored: Arc<Mutex<BTreeMap<String, Stored>>>,
    _server: Arc<Server>,
}

impl Site {
    fn start() -> Self {
        Self::of(&build_with(&["browser", "--expressions"]))
    }

    /// With the bundle in this folder.
    fn of(folder: &tempfile::TempDir) -> Self {
        let stored = Arc::<Mutex<BTreeMap<String, Stored>>>::default();
        let served = Arc::clone(&stored);
        let server = Server::start(move |request| hosted(&served, request));
        let site = Self { address: server.address, stored, _server: Arc::new(server) };
        let bundle = folder.path().join("bundle");
        for (path, bytes) in files(&bundle) {
            let name = path.strip_prefix(&bundle).expect("it is in the bundle").to_string_lossy().into_owned();
            site.put(&format!("/{name}"), Stored::Bytes(bytes));
        }
        site.put("/chromium.mjs", Stored::Bytes(include_bytes!("chromium.mjs").into()));
        site.put("/empty.html", Stored::Bytes(b"<!doctype html><link rel=icon href=data:,>".into()));
        site
    }

    fn put(&self, path: &str, stored: Stored) {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner).insert(path.into(), stored);
    }

    /// Puts keys where they belong below a folder; of those without bytes nothing is left.
    fn put_keys(&self, folder: &str, keys: impl IntoIterator<Item = (String, Option<Stored>)>) {
        let mut all = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, stored) in keys {
            let path = format!("{folder}{key}");
            match stored {
                Some(stored) => all.insert(path, stored),
                None => all.remove(&path),
            };
        }
    }

    fn put_replica(&self, folder: &str, keys: &Keys) {
        self.put_keys(folder, keys.iter().map(|(key, bytes)| (key.clone(), Some(Stored::Bytes(bytes.clone())))));
    }
}

/// What the bundle that checks signatures says to a body: for each of some stores, whom to trust and which epoch was seen.
pub(super) fn trusting(cases: &[(&Keys, Value, u64)], body: &str) -> Vec<Value> {
    let site = Site::of(&build_with(&["browser", "--trust", "--expressions"]));
    let mut chromium = Chromium::start(&site);
    let ask = |(number, (keys, trust, seen)): (usize, &(&Keys, Value, u64))| {
        let folder = format!("/case-{number}/");
        site.put_replica(&folder, keys);
        chromium.run("trusting", [json!(folder), trust.clone(), json!(BASE64_STANDARD.encode(body)), json!(seen)])
    };
    cases.iter().enumerate().map(ask).collect()
}

fn hosted(stored: &Mutex<BTreeMap<String, Stored>>, request: &Request) -> Answer {
    let path = request.path();
    let (status, body) = match stored.lock().unwrap_or_else(PoisonError::into_inner).get(path) {
        Some(Stored::Bytes(bytes)) => (200, bytes.clone()),
        Some(Stored::Failing) => (500, vec![]),
        // It ends when the browser gives up.
        Some(Stored::Hanging) => return Answer::Hang,
        None => (404, vec![]),
    };
    let media = match Path::new(path).extension().and_then(|ending| ending.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript",
        Some("wasm") => "application/wasm",
        _ => "application/octet-stream",
    };
    // The browser may keep anything for a day, faults and the head too: the worst that hosting does.
    let response = Response::new(status, body).with("content-type", media).with("cache-control", "max-age=86400");
    Answer::Whole(response)
}

/// Real Chromium with one page, driven over the pipe of its developer tools. It is stopped when this is dropped.
struct Chromium {
    child: Child,
    commands: ChildStdin,
    messages: Receiver<Value>,
    sent: u64,
    session: Option<String>,
    site: SocketAddr,
    _profile: tempfile::TempDir,
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Chromium {
    fn start(site: &Site) -> Self {
        let program = tool("Chromium", "chromium/chromium");
        let folder = program.parent().expect("it is in a folder");
        let profile = tempfile::tempdir().expect("a temporary folder");
        let mut child = Command::new("sh")
            // It reads commands from descriptor 3 and writes to 4.
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null"])
            .arg(&program)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--font-render-hinting=none", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .env("LD_LIBRARY_PATH", folder.join("lib"))
            .env("FONTCONFIG_PATH", folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the shell can be run");
        let commands = child.stdin.take().expect("it is piped");
        let replies = BufReader::new(child.stdout.take().expect("it is piped"));
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for message in replies.split(0).map_while(Result::ok) {
                let message = serde_json::from_slice(&message).expect("a message is JSON");
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let mut chromium = Self { child, commands, messages, sent: 0, session: None, site: site.address, _profile: profile };
        let page = chromium.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let attached = chromium.call("Target.attachToTarget", &json!({ "targetId": page["targetId"], "flatten": true }));
        chromium.session = Some(attached["sessionId"].as_str().expect("it is attached").into());
        chromium.call("Page.enable", &json!({}));
        chromium.visit("/empty.html");
        chromium
    }

    fn message(&self) -> Value {
        // Whatever hangs is to fail.
        self.messages.recv_timeout(Duration::from_secs(120)).expect("Chromium says something")
    }

    fn send(&mut self, method: &str, params: &Value) {
        self.sent += 1;
        let mut message = json!({ "id": self.sent, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        self.commands.write_all(format!("{message}\0").as_bytes()).expect("Chromium reads");
    }

    fn call(&mut self, method: &str, params: &Value) -> Value {
        self.send(method, params);
        loop {
            let mut message = self.message();
            if message["id"] == self.sent {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].take();
            }
        }
    }

    /// Loads a page of the site.
    fn visit(&mut self, target: &str) {
        self.send("Page.navigate", &json!({ "url": format!("http://{}{target}", self.site) }));
        while self.message()["method"] != "Page.loadEventFired" {}
    }

    /// Calls a function of `chromium.mjs` and returns what it resolves to.
    fn run<const COUNT: usize>(&mut self, function: &str, arguments: [Value; COUNT]) -> Value {
        let arguments = arguments.map(|argument| argument.to_string()).join(", ");
        let expression = format!("import('/chromium.mjs').then((page) => page.{function}({arguments}))");
        let evaluate = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let mut evaluated = self.call("Runtime.evaluate", &evaluate);
        let thrown = &evaluated["exceptionDetails"];
        assert!(thrown.is_null(), "{function}: {}", thrown["exception"]["description"]);
        evaluated["result"]["value"].take()
    }

    /// The answers to bodies that are asked all at once.
    fn answers<B: AsRef<[u8]>>(&mut self, bodies: &[B], options: Value) -> Vec<Value> {
        let bodies: Vec<String> = bodies.iter().map(|body| BASE64_STANDARD.encode(body)).collect();
        let Value::Array(answers) = self.run("answers", [json!(bodies), options]) else { panic!("it is a list") };
        answers
    }

    /// Status, age and name of user 3, epoch, and steps back.
    fn user_3(&mut self, options: Value) -> Value {
        let answer = &self.answers(&[USER_3], options)[0];
        if answer["status"] == 200 { user_3_of(answer) } else { answer.clone() }
    }
}

const USER_3: &str = r#"{"features": ["profile:age", "profile:name"], "entities": {"user_id": [3]}}"#;

fn user_3_of(answer: &Value) -> Value {
    let body: Value = serde_json::from_str(answer["said"].as_str().unwrap_or_default()).expect("it is JSON");
    let value = |column: usize| &body["results"][column]["values"][0];
    json!([value(1), value(2), answer["epoch"], answer["stepsBack"]])
}

/// Keys at epoch 3, where user 3 is 33 and called Drei, and at epoch 4, where they are 34 and called Vier.
fn two_epochs() -> (Repo, Keys, Keys) {
    let repo = Repo::every_type_served();
    let first = replica_keys(&repo.path("data/replica"));
    repo.write("data/users/3.json", "{\"user_id\": 3, \"ts\": \"2026-03-01T00:00:00Z\", \"age\": 34, \"name\": \"Vier\"}\n");
    repo.run(&["materialize-incremental", "2030-01-01"]);
    let second = replica_keys(&repo.path("data/replica"));
    (repo, first, second)
}

fn head_of(keys: &Keys) -> Stored {
    Stored::Bytes(keys.iter().find(|(key, _)| key == "head").expect("it is there").1.clone())
}

/// Status and text, as a page gets them, of what the native server says.
fn expected(status: u16, body: Vec<u8>) -> (u64, String) {
    let body = String::from_utf8(body).expect("it is text");
    if status == 200 {
        return (200, body);
    }
    let said: String = serde_json::from_str(&body).expect("an error is a text");
    let said: Value = serde_json::from_str(&said).expect("in it is JSON");
    (status.into(), said["message"].as_str().expect("an error has a message").to_owned())
}

/// The answers to these bodies, all asked at once.
pub(super) fn answers_of(keys: &Keys, bodies: &[String]) -> Vec<Value> {
    answers_with(&build_with(&["browser", "--expressions"]), keys, bodies)
}

/// The same of another bundle.
pub(super) fn answers_with(folder: &tempfile::TempDir, keys: &Keys, bodies: &[String]) -> Vec<Value> {
    let site = Site::of(folder);
    site.put_replica("/snapshot/", keys);
    let mut chromium = Chromium::start(&site);
    chromium.run("open", [json!("/snapshot/"), json!({})]);
    chromium.answers(bodies, json!({}))
}

#[test]
fn chromium_gets_no_wrong_value_whatever_the_hosting_does() {
    let (_repo, first, second) = two_epochs();
    let site = Site::start();
    let mut chromium = Chromium::start(&site);
    let damageable: Vec<&(String, Vec<u8>)> = second.iter().filter(|(key, _)| key != "head").collect();
    for fault in ["missing", "empty", "cut", "flipped", "another's", "failing", "hanging"] {
        let folder = format!("/snapshot/{}/", fault.replace('\'', ""));
        let damage = |is_damaged: &dyn Fn(&str) -> bool| {
            site.put_replica(&folder, &second);
            let keys = damageable.iter().enumerate().filter(|(_, (key, _))| is_damaged(key));
            let damaged = keys.map(|(number, (key, bytes))| {
                let mut bytes = bytes.clone();
                let middle = bytes.len() / 2;
                let stored = match fault {
                    "missing" => return (key.clone(), None),
                    "failing" => Stored::Failing,
                    "hanging" => Stored::Hanging,
                    _ => {
                        match fault {
                            "empty" => bytes.clear(),
                            "cut" => bytes.truncate(middle),
                            "flipped" => bytes[middle] ^= 4,
                            _ => bytes.clone_from(&damageable[(number + 1) % damageable.len()].1),
                        }
                        Stored::Bytes(bytes)
                    }
                };
                (key.clone(), Some(stored))
            });
            site.put_keys(&folder, damaged);
        };
        // Each time the browser may have kept what was there before.
        damage(&|_| true);
        let options = if fault == "hanging" { json!({ "readMillis": 1000 }) } else { json!({}) };
        let epoch = chromium.run("open", [json!(folder), options]);
        assert_eq!(epoch, 4, "{fault}");
        let answer = chromium.user_3(json!({}));
        assert_eq!((&answer["status"], &answer["retryAfter"]), (&json!(503), &json!(1)), "{fault}: {answer}");
        // The head is there before its pages: the snapshot before answers, complete, but not who has seen the newer one.
        damage(&|key| !first.iter().any(|(known, _)| known == key));
        assert_eq!(chromium.user_3(json!({})), json!([33, "Drei", 3, 1]), "{fault}");
        let answer = chromium.user_3(json!({ "epoch": 4 }));
        assert_eq!((&answer["status"], &answer["retryAfter"]), (&json!(503), &json!(1)), "{fault}: {answer}");
        damage(&|_| false);
        assert_eq!(chromium.user_3(json!({ "epoch": 4 })), json!([34, "Vier", 4, 0]), "{fault}");
        let answer = chromium.user_3(json!({ "epoch": 5 }));
        assert_eq!((&answer["status"], &answer["retryAfter"]), (&json!(409), &json!(30)), "{fault}: {answer}");
    }
}

#[test]
fn a_switch_and_a_rollback_under_load_mix_nothing_in_chromium() {
    let (repo, first, second) = two_epochs();
    repo.run(&["rollback"]);
    let third = replica_keys(&repo.path("data/replica"));
    let site = Site::start();
    site.put_replica("/snapshot/", &third);
    site.put("/snapshot/head", head_of(&first));
    let mut chromium = Chromium::start(&site);
    assert_eq!(chromium.run("open", [json!("/snapshot/"), json!({ "headSeconds": 0 })]), 3);
    chromium.run("start", [json!(BASE64_STANDARD.encode(USER_3))]);
    chromium.run("heard", [json!(3), json!(20)]);
    site.put("/snapshot/head", head_of(&second));
    chromium.run("heard", [json!(4), json!(20)]);
    // A rollback is a later epoch of older content.
    site.put("/snapshot/head", head_of(&third));
    chromium.run("heard", [json!(5), json!(20)]);
    // A cache that gives the old head again is no way back.
    site.put("/snapshot/head", head_of(&first));
    chromium.run("heard", [json!(5), json!(60)]);
    let Value::Array(answers) = chromium.run("stop", []) else { panic!("it is a list") };
    let mut epochs = Vec::new();
    for answer in &answers {
        assert_eq!(answer["status"], 200, "{answer}");
        let (age, name) = if answer["epoch"] == 4 { (34, "Vier") } else { (33, "Drei") };
        assert_eq!(user_3_of(answer), json!([age, name, answer["epoch"], 0]));
        epochs.push(answer["epoch"].as_u64());
    }
    assert!(epochs.is_sorted(), "{epochs:?}");
    epochs.dedup();
    assert_eq!(epochs, [Some(3), Some(4), Some(5)]);
    // All that the older content needs is on its way when the head is replaced.
    site.put_replica("/other/", &second);
    chromium.run("open", [json!("/other/"), json!({ "refreshes": true })]);
    site.put_replica("/other/", &third);
    assert_eq!(chromium.user_3(json!({})), json!([34, "Vier", 4, 0]));
    assert_eq!(chromium.user_3(json!({})), json!([33, "Drei", 5, 0]));
}

#[test]
fn hostile_requests_harm_no_page_in_chromium() {
    let repo = Repo::every_type_served();
    let site = Site::start();
    site.put_replica("/snapshot/", &replica_keys(&repo.path("data/replica")));
    let native = native(&repo, &[("MEZZE_BODY_BYTES_MAX", "1048576"), ("MEZZE_ENTITIES_MAX", "1000")]);
    let mut chromium = Chromium::start(&site);
    chromium.run("open", [json!("/snapshot/"), json!({})]);
    let ages = |ids: usize| format!(r#"{{"features": ["profile:age"], "entities": {{"user_id": {:?}}}}}"#, vec![3; ids]);
    let spaced = format!("{USER_3}{}", " ".repeat((1 << 20) - USER_3.len() + 1));
    let hostile = [
        (413, spaced.into_bytes()),
        (413, ages(1001).into_bytes()),
        (200, ages(1000).into_bytes()),
        (422, [b"[".repeat(100_000), b"]".repeat(100_000)].concat()),
        (422, [br#"{"features": "#.to_vec(), b"[".repeat(100_000)].concat()),
        (400, br#"{"a": "#.repeat(100_000)),
        (400, b"{\"features\": [\"\xff\"]}".to_vec()),
        (400, b"\xff\xfe{\0}\0".to_vec()),
        (400, format!(r#"{{"features": ["{}"], "entities": {{}}}}"#, "x".repeat(500_000)).into_bytes()),
    ];
    let bodies: Vec<&[u8]> = hostile.iter().map(|(_, body)| &body[..]).collect();
    for _ in 0..5 {
        let answered = chromium.answers(&bodies, json!({}));
        for ((status, body), found) in hostile.iter().zip(&answered) {
            let about = String::from_utf8_lossy(&body[..body.len().min(60)]);
            let reply = send(native.address, "POST /get-online-features", &[], body);
            let (native_status, said) = expected(reply.status, reply.body);
            assert_eq!((native_status, found["status"].as_u64()), (*status, Some(*status)), "{about}: {found}");
            // Over HTTP a body that is too long is not even read.
            assert!(body.len() > 1 << 20 || found["said"] == said, "{about}: {found}, expected {said}");
        }
        assert_eq!(chromium.user_3(json!({})), json!([33, "Drei", 3, 0]));
    }
    let memory_bytes = chromium.run("memoryBytes", []).as_u64().expect("it is a number");
    assert!((1..128 << 20).contains(&memory_bytes), "{memory_bytes} bytes of memory");
}

#[test]
fn the_demo_shows_features_and_score_of_a_sample_repository() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run = |arguments: &[&str]| {
        let ran = mezze().args(arguments).output().expect("the command can be run");
        assert!(ran.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).expect("output is text")
    };
    let repo = folder.path().join("credit");
    let in_repo = repo.to_str().expect("it is text");
    run(&["init", in_repo]);
    run(&["--chdir", in_repo, "apply"]);
    let made = run(&["--chdir", in_repo, "materialize", "2024-01-01", "2026-08-30"]);
    let id = made.split("snapshot ").nth(1).and_then(|rest| rest.get(..32)).expect("it says which");
    let site = Site::start();
    site.put_replica("/snapshot/", &replica_keys(&repo.join("data/replica")));
    let mut chromium = Chromium::start(&site);
    chromium.call(
        "Emulation.setDeviceMetricsOverride",
        &json!({ "width": 800, "height": 880, "deviceScaleFactor": 1, "mobile": false }),
    );
    chromium.visit("/demo.html?base=/snapshot/");
    let said = chromium.run("demo", []);
    assert_eq!(said["title"], "Mezze: score 0.6225 from epoch 1", "{said}");
    let text = said["text"].as_str().expect("it is text");
    for shown in [
        "0.6225",
        "epoch 1",
        id,
        "zipcode\t62146\tPRESENT",
        "city\tIronford\tPRESENT",
        "state\tAR\tPRESENT\t1.50",
        "bias\t\t\t−1.00",
    ] {
        assert!(text.contains(shown), "{shown}: {text}");
    }
    let shot = chromium.call("Page.captureScreenshot", &json!({ "format": "png" }));
    assert_picture(&mut chromium, &site, shot["data"].as_str().expect("it is text"), "demo.png");
    // What cannot be answered is said, too.
    chromium.visit("/demo.html?base=/snapshot/&features=zipcode_names:nope");
    let said = chromium.run("demo", []);
    assert!(said["title"].as_str().is_some_and(|title| title.contains("has no feature `nope`")), "{said}");
}

/// Compares a screenshot with a golden picture: at most one pixel of a hundred may differ by more than 16 levels.
fn assert_picture(chromium: &mut Chromium, site: &Site, shot: &str, golden: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/edges").join(golden);
    let bytes = || BASE64_STANDARD.decode(shot).expect("it is base64");
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, bytes()).expect("the golden can be written");
    }
    let expected = fs::read(&path).expect("there is a golden: UPDATE_GOLDEN=1 writes it");
    site.put("/golden.png", Stored::Bytes(expected));
    // Whoever made the picture can read it.
    let shot_url = format!("data:image/png;base64,{shot}");
    let share = chromium.run("differing", [json!("/golden.png"), json!(shot_url), json!(16)]).as_f64().expect("it is a number");
    if share > 0.01 {
        let kept = env::temp_dir().join(golden);
        fs::write(&kept, bytes()).expect("the picture can be written");
        let (golden, kept, percent) = (path.display(), kept.display(), share * 100.0);
        panic!("{percent:.1} % of the pixels differ from {golden}: see {kept}, and UPDATE_GOLDEN=1 takes it");
    }
}
