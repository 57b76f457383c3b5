//! The hosts of replicas: asked before anything is sent, waited for, probed, and a reason to go back.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use mezze_core::{HEAD_VERSION, Head, MANIFEST_VERSION, PAGE_VERSION};
use serde_json::{Value, json};

use crate::command::{Running, materialize, published, repo};
use crate::common::{Repo, files};
use crate::vendors::http::{Answer, Response, Server};

/// A host that says what a test wants, and what it was asked.
struct Host {
    server: Server,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Host {
    fn start(snapshot: Value, probe: impl Fn() -> Response + Send + Sync + 'static) -> Self {
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let kept = Arc::clone(&asked);
        let server = Server::start(move |request| {
            kept.lock().unwrap_or_else(PoisonError::into_inner).push(request.path().to_owned());
            Answer::Whole(match request.path() {
                "/v1/snapshot" => Response::json(200, &snapshot),
                "/get-online-features" => probe(),
                _ => Response::new(404, ""),
            })
        });
        Self { server, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Two replicas; this is the host of the first.
    fn repo(&self) -> Repo {
        two_replicas(&self.server.url(""))
    }
}

fn two_replicas(url: &str) -> Repo {
    let probe = "probe: { service: everything, entities: { user_id: \"3\", amount: \"1.5\" } }";
    repo(&format!(
        "  one: {{ type: objects, path: data/one, audience: server, host: {{ url: \"{url}\", {probe} }} }}\n  two: {{ type: objects, path: data/two, audience: server }}\n"
    ))
}

/// What a host of this version says that serves everything.
fn serving(epoch: u64) -> Value {
    let formats = json!({ "head": [HEAD_VERSION], "manifest": [MANIFEST_VERSION], "page": [PAGE_VERSION] });
    json!({
        "epoch": epoch, "snapshot": "", "age_seconds": 1, "project": "test", "formats": formats,
        "expression_sets": [mezze_core::EXPRESSION_SET],
    })
}

/// The epoch of a replica, after checking that it is whole.
fn epoch_of(repo: &Repo, replica: &str) -> Option<u64> {
    let head = std::fs::read(repo.path("data").join(replica).join("head")).ok()?;
    Some(Head::decode(&head).expect("it is a head").epoch)
}

fn fails(repo: &Repo, arguments: &[&str], code: i32) -> String {
    let run = repo.try_run(arguments);
    assert_eq!(run.code, Some(code), "{}{}", run.stdout, run.stderr);
    run.stderr
}

#[test]
fn a_host_that_cannot_be_reached_or_cannot_read_the_format_keeps_everything_as_it_is() {
    let closed = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port").local_addr().expect("it has an address");
    let unreachable = two_replicas(&format!("http://{closed}"));
    let said = fails(&unreachable, &["publish", "--to", "two,one"], 1);
    assert!(said.contains("--skip-host-check"), "{said}");
    assert!(files(&unreachable.path("data/two")).is_empty() && epoch_of(&unreachable, "one").is_none(), "nothing was sent");
    assert_eq!(published(&unreachable, &["--to", "one", "--skip-host-check"])["epoch"], 3);

    for format in ["head", "manifest", "page"] {
        let mut old = serving(3);
        old["formats"][format] = json!([0]);
        let host = Host::start(old, || Response::new(500, ""));
        let repo = host.repo();
        let said = fails(&repo, &["publish", "--to", "one,two"], 2);
        assert!(said.contains(&format!("cannot read {format}s of version")), "{said}");
        assert_eq!((epoch_of(&repo, "one"), epoch_of(&repo, "two")), (None, None));
        assert_eq!(host.asked(), ["/v1/snapshot"]);
    }
}

#[test]
fn a_host_that_cannot_compute_expressions_gets_no_snapshot_that_needs_them() {
    let mut old = serving(3);
    old["expression_sets"] = json!([]);
    let host = Host::start(old, || Response::new(500, ""));
    let repo = host.repo();
    let said = fails(&repo, &["publish", "--to", "one"], 2);
    assert!(said.contains("it needs version 1 of expressions, the host has []") && said.contains("mezze edge build"), "{said}");
    assert_eq!(epoch_of(&repo, "one"), None);
}

#[test]
fn a_host_that_wants_signatures_gets_no_others() {
    let mut strict = serving(3);
    strict["trust"] = json!({ "required": true, "keys": ["0123456789abcdef"] });
    let host = Host::start(strict, || Response::new(500, ""));
    let repo = host.repo();
    let said = fails(&repo, &["publish", "--to", "one"], 2);
    assert!(said.contains("signing"), "{said}");
    assert_eq!(epoch_of(&repo, "one"), None);
}

#[test]
fn a_replica_whose_host_fails_its_probe_is_rolled_back_and_pinned_and_the_next_is_left_alone() {
    let values = |epoch: u64, steps: &str, body: &str| {
        let response = Response::new(200, body).with("x-mezze-epoch", epoch).with("content-type", "application/json");
        if steps.is_empty() { response } else { response.with("x-mezze-steps-back", steps) }
    };
    for (what, response) in [
        ("an error", Response::new(500, "out of order")),
        ("no epoch", Response::new(200, "{}")),
        ("an earlier epoch", values(3, "", "{}")),
        ("a page that is missing", values(4, "1", "{}")),
        ("other values", values(4, "", "{\"results\": [{\"values\": [99]}]}")),
        ("no JSON", values(4, "", "<html>")),
    ] {
        let host = Host::start(serving(1_000), move || response.clone());
        let repo = host.repo();
        for name in ["one", "two"] {
            published(&repo, &["--to", name, "--skip-host-check"]);
        }
        materialize(&repo, 41);
        let said = fails(&repo, &["publish", "--to", "one,two"], 1);
        assert!(said.contains("rolled back to the content of epoch 3, under epoch 5"), "{what}: {said}");
        assert!(said.contains("pin --to one --off"), "{what}: {said}");
        assert_eq!((epoch_of(&repo, "one"), epoch_of(&repo, "two")), (Some(5), Some(3)), "{what}");
        assert_eq!(host.asked().last().map(String::as_str), Some("/get-online-features"), "{what}");
        let head = Head::decode(&std::fs::read(repo.path("data/one/head")).expect("it is there")).expect("it is a head");
        let before = Head::decode(&std::fs::read(repo.path("data/two/head")).expect("it is there")).expect("it is a head");
        assert_eq!(head.snapshot, before.snapshot, "{what}: it serves what it served");
        fails(&repo, &["publish", "--to", "one", "--skip-host-check"], 2);
    }
}

#[test]
fn a_host_that_never_serves_the_epoch_is_a_reason_to_go_back() {
    let host = Host::start(serving(3), || Response::new(500, ""));
    let repo = host.repo();
    published(&repo, &["--to", "one", "--skip-host-check"]);
    materialize(&repo, 41);
    let said = fails(&repo, &["publish", "--to", "one", "--host-wait", "0"], 2);
    assert!(said.contains("does not serve epoch 4") && said.contains("rolled back"), "{said}");
    assert_eq!(epoch_of(&repo, "one"), Some(5));
}

#[test]
fn what_was_never_served_is_not_rolled_back() {
    let host = Host::start(serving(1_000), || Response::new(500, ""));
    let repo = host.repo();
    let said = fails(&repo, &["publish", "--to", "one,two"], 1);
    assert!(said.contains("served nothing before"), "{said}");
    assert_eq!((epoch_of(&repo, "one"), epoch_of(&repo, "two")), (Some(3), None));
}

/// With a host as it is: the next replica comes once it serves the snapshot and answers.
#[test]
fn a_host_that_is_well_lets_the_next_replica_be_published_to() {
    let repo = repo("  copy: { type: directory, path: data/copy }\n");
    published(&repo, &["--to", "copy"]);
    let mut command = repo.command(&["serve", "--from", "copy", "--port", "0", "--output", "json", "--refresh", "1"]);
    let mut server = Running(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it can be run"));
    let mut line = String::new();
    let stdout = server.0.stdout.take().expect("it is piped");
    BufReader::new(stdout).read_line(&mut line).expect("it says where it listens");
    let said: Value = serde_json::from_str(&line).expect("it is JSON");
    let address = said["address"].as_str().expect("it has an address");
    let probe = "probe: { service: everything, entities: { user_id: \"3\", amount: \"1.5\" } }";
    repo.write(
        "feature_store.yaml",
        &format!(
            "project: test\nregistry: data/registry\nonline_store: {{ type: directory, path: data/replica }}\nreplicas:\n  \
             copy: {{ type: directory, path: data/copy, host: {{ url: \"http://{address}\", {probe} }} }}\n  \
             two: {{ type: objects, path: data/two, audience: server }}\n"
        ),
    );
    materialize(&repo, 41);
    let run = repo.try_run(&["publish", "--to", "copy,two", "--host-wait", "60", "--output", "json"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let done: Value = serde_json::from_str(&run.stdout).expect("it is JSON");
    assert!(done["replicas"][0]["host"].as_str().is_some_and(|said| said.contains("answers the probe")), "{done}");
    assert_eq!((epoch_of(&repo, "copy"), epoch_of(&repo, "two")), (Some(4), Some(4)));
}
