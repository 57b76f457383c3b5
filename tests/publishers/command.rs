//! The command's part: exit codes, messages, secrets, processes.

use std::fs;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use mezze_core::Head;
use serde_json::Value;

use crate::common::Repo;
use crate::places::{RedisClient, run_with_s3, spin_value};
use crate::vendors::clock::Clock;
use crate::vendors::cloudflare::Cloudflare;
use crate::vendors::fastly::Fastly;
use crate::vendors::faults::{Fault, Kind, When};
use crate::vendors::redis::{Options, Redis};

/// A repository at its third epoch, which names these replicas.
pub(crate) fn repo(replicas: &str) -> Repo {
    static SERVED: Mutex<Weak<Repo>> = Mutex::new(Weak::new());
    let mut served = SERVED.lock().unwrap_or_else(PoisonError::into_inner);
    let shared = served.upgrade().unwrap_or_else(|| {
        let made = Arc::new(Repo::every_type_served());
        *served = Arc::downgrade(&made);
        made
    });
    drop(served);
    let repo = shared.copy();
    let origin = "project: test\nregistry: data/registry\nonline_store: { type: directory, path: data/replica }\nreplicas:\n";
    repo.write("feature_store.yaml", &format!("{origin}{replicas}"));
    repo
}

/// Makes the next epoch.
pub(crate) fn materialize(repo: &Repo, age: u32) {
    let row = format!("{{\"user_id\": 3, \"ts\": \"2026-03-01T00:00:00Z\", \"age\": {age}, \"name\": \"age {age}\"}}\n");
    repo.write(&format!("data/users/{age}.json"), &row);
    repo.run(&["materialize-incremental", "2030-01-01"]);
}

fn run(command: &mut Command) -> (Option<i32>, String) {
    said(&command.output().expect("the command can be run"))
}

/// The exit code, and all that was said.
fn said(output: &Output) -> (Option<i32>, String) {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.code(), String::from_utf8(both).expect("it is text"))
}

pub(crate) fn json(repo: &Repo, arguments: &[&str]) -> Value {
    let said = repo.run(&[arguments, &["--output", "json"]].concat());
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// The publish of one replica.
pub(crate) fn published(repo: &Repo, arguments: &[&str]) -> Value {
    json(repo, &[&["publish"], arguments].concat())["replicas"][0].take()
}

fn epoch_of(head: Option<Vec<u8>>) -> Option<u64> {
    Some(Head::decode(&head?).expect("it is a head").epoch)
}

fn object_epoch(repo: &Repo, folder: &str) -> Option<u64> {
    epoch_of(fs::read(repo.path(folder).join("head")).ok())
}

fn cloudflare_yaml(cloudflare: &Cloudflare, account: &str, namespace: &str) -> String {
    let api = format!("http://{}", cloudflare.address());
    format!("  kv: {{ type: cloudflare-kv, account_id: \"{account}\", namespace_id: \"{namespace}\", api: \"{api}\" }}\n")
}

fn fastly_yaml(fastly: &Fastly, store: &str) -> String {
    format!("  kv: {{ type: fastly-kv, store_id: \"{store}\", api: \"http://{}\" }}\n", fastly.address())
}

#[test]
fn a_wrong_token_is_named_by_its_variable_and_never_shown() {
    let clock = Clock::new();
    let (cloudflare, fastly) = (Cloudflare::start(&clock), Fastly::start(&clock));
    let redis = Redis::start_with(&Options { password: Some("the right one".into()), ..Options::default() });
    let token = "s3cr3t-of-nobody-0815";
    for (replica, variable) in [
        (cloudflare_yaml(&cloudflare, Cloudflare::ACCOUNT, Cloudflare::NAMESPACE), "CLOUDFLARE_API_TOKEN"),
        (fastly_yaml(&fastly, Fastly::STORE), "FASTLY_API_TOKEN"),
        (format!("  kv: {{ type: redis, url: \"redis://{}\", password_env: KV_PASSWORD }}\n", redis.address), "KV_PASSWORD"),
    ] {
        let repo = repo(&replica);
        for arguments in [&["publish", "--to", "kv"][..], &["publish", "--to", "kv", "--dry-run"], &["status", "--to", "kv"]] {
            let (code, said) = run(repo.command(arguments).env_remove(variable));
            assert_eq!(code, Some(2), "{variable}, {arguments:?}: {said}");
            assert!(said.contains(variable), "{said}");
            let (code, said) = run(repo.command(arguments).env(variable, token));
            assert_eq!(code, Some(1), "{variable}, {arguments:?}: {said}");
            assert!(said.contains(variable) && !said.contains(token), "{said}");
        }
        let (code, said) = run(repo.command(&["status"]).env(variable, token));
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains(variable) && !said.contains(token), "{said}");
    }
    assert_eq!((cloudflare.snapshot().len(), fastly.snapshot().len()), (0, 0));
}

#[test]
fn the_right_tokens_publish() {
    let clock = Clock::new();
    let cloudflare = Cloudflare::start(&clock);
    let repository = repo(&cloudflare_yaml(&cloudflare, Cloudflare::ACCOUNT, Cloudflare::NAMESPACE));
    let (code, said) = run(repository.command(&["publish", "--to", "kv"]).env("CLOUDFLARE_API_TOKEN", Cloudflare::TOKEN));
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(epoch_of(cloudflare.value("head").map(Vec::from)), Some(3));

    let password = "p@ss/word";
    let redis = Redis::start_with(&Options { password: Some(password.into()), ..Options::default() });
    let repository = repo(&format!("  kv: {{ type: redis, url: \"redis://{}\", password_env: KV }}\n", redis.address));
    let (code, said) = run(repository.command(&["publish", "--to", "kv"]).env("KV", password));
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains(password), "{said}");
    let (code, said) = run(repository.command(&["status", "--to", "kv"]).env("KV", password));
    assert!(code == Some(0) && said.contains("serves epoch 3"), "{said}");
}

#[test]
fn a_place_that_is_not_there_is_the_configurations_fault() {
    let clock = Clock::new();
    let (cloudflare, fastly) = (Cloudflare::start(&clock), Fastly::start(&clock));
    for replica in [
        cloudflare_yaml(&cloudflare, "another", Cloudflare::NAMESPACE),
        cloudflare_yaml(&cloudflare, Cloudflare::ACCOUNT, "another"),
        fastly_yaml(&fastly, "another"),
    ] {
        let repo = repo(&replica);
        let mut command = repo.command(&["publish", "--to", "kv"]);
        command.env("CLOUDFLARE_API_TOKEN", Cloudflare::TOKEN).env("FASTLY_API_TOKEN", Fastly::TOKEN);
        let (code, said) = run(&mut command);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("404"), "{said}");
    }
    assert_eq!((cloudflare.counters().writes, fastly.counters().writes), (0, 0));
    let unknown = repo("").try_run(&["publish", "--to", "nobody"]);
    assert_eq!(unknown.code, Some(2), "{}", unknown.stderr);
}

#[test]
fn what_is_full_has_its_own_exit_code() {
    let clock = Clock::new();
    let cloudflare = Cloudflare::start(&clock);
    cloudflare.plan(When::Kind(Kind::BulkWrite, 1), Fault::StorageFull);
    let repository = repo(&cloudflare_yaml(&cloudflare, Cloudflare::ACCOUNT, Cloudflare::NAMESPACE));
    let (code, said) = run(repository.command(&["publish", "--to", "kv"]).env("CLOUDFLARE_API_TOKEN", Cloudflare::TOKEN));
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("storage limit"), "{said}");
    let redis = Redis::start();
    RedisClient::connect(redis.address, 0).say(&[b"CONFIG", b"SET", b"maxmemory", b"1000"]);
    let repository = repo(&format!("  kv: {{ type: redis, url: \"redis://{}\" }}\n", redis.address));
    let full = repository.try_run(&["publish", "--to", "kv"]);
    assert_eq!(full.code, Some(4), "{}", full.stderr);
}

#[test]
fn a_public_replica_of_nothing_public_is_refused() {
    let repo = repo("  web: { type: objects, path: data/web, audience: public }\n");
    let refused = repo.try_run(&["publish", "--to", "web"]);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("public"), "{}", refused.stderr);
    assert!(crate::common::files(&repo.path("data/web")).is_empty());
}

#[test]
fn in_ci_a_folder_is_no_origin_of_what_goes_out() {
    let repo = repo("  kv: { type: spin-sqlite, path: data/kv.db }\n  copy: { type: directory, path: data/copy }\n");
    let (code, said) = run(repo.command(&["publish", "--to", "kv"]).env("CI", "true"));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--shared-folder") && !repo.path("data/kv.db").exists(), "{said}");
    for (ci, arguments) in [
        ("true", &["publish", "--to", "kv", "--dry-run"][..]),
        ("true", &["publish", "--to", "copy"]),
        ("false", &["publish", "--to", "kv"]),
        ("true", &["publish", "--to", "kv", "--shared-folder"]),
    ] {
        let (code, said) = run(repo.command(arguments).env("CI", ci));
        assert_eq!(code, Some(0), "{ci}, {arguments:?}: {said}");
    }
}

#[test]
fn a_replica_is_rolled_back_pinned_and_let_go() {
    let repo =
        repo("  web: { type: objects, path: data/web, audience: server }\n  kv: { type: spin-sqlite, path: data/kv.db }\n");
    materialize(&repo, 41);
    for name in ["web", "kv"] {
        published(&repo, &["--to", name]);
    }
    let served = || (object_epoch(&repo, "data/web"), epoch_of(spin_value(&repo.path("data/kv.db"), "head")));
    assert_eq!(served(), (Some(4), Some(4)));
    let rolled = json(&repo, &["rollback", "--to", "web"]);
    assert_eq!((&rolled["epoch"], &rolled["content_of_epoch"], &rolled["pinned"]), (&5.into(), &3.into(), &true.into()));
    assert_eq!(served(), (Some(5), Some(4)));
    let refused = repo.try_run(&["publish", "--to", "web"]);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("pin --to web --off"), "{}", refused.stderr);
    assert_eq!(json(&repo, &["status", "--to", "web"])["replicas"][0]["pinned_to_epoch"], 5);
    repo.run(&["pin", "--to", "web", "--off"]);
    assert_eq!(published(&repo, &["--to", "web"])["epoch"], 6);
    assert_eq!(served(), (Some(6), Some(4)));

    repo.run(&["pin", "--to", "kv"]);
    materialize(&repo, 42);
    let refused = repo.try_run(&["publish", "--to", "kv"]);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    repo.run(&["pin", "--to", "kv", "--off"]);
    for name in ["web", "kv"] {
        published(&repo, &["--to", name]);
    }
    assert_eq!(served(), (Some(7), Some(7)));
    // A second rollback, of the whole.
    repo.run(&["rollback", "--to-epoch", "4"]);
    assert_eq!(published(&repo, &["--to", "kv"])["epoch"], 8);
    let early = repo.try_run(&["rollback", "--to", "kv", "--to-epoch", "1"]);
    assert_eq!(early.code, Some(2), "an entity was forgotten since: {}", early.stderr);
    assert_eq!(served(), (Some(7), Some(8)));
}

#[test]
fn plans_states_and_prunes_say_what_is_so() {
    let repo = repo("  kv: { type: spin-sqlite, path: data/kv.db }\n");
    let plan = published(&repo, &["--to", "kv", "--dry-run"]);
    assert!(!repo.path("data/kv.db").exists(), "a dry run makes no file");
    let status = json(&repo, &["status", "--to", "kv"])["replicas"][0].take();
    assert_eq!((&status["epoch"], &status["keys_to_write"]), (&Value::Null, &plan["writes"]));
    let done = published(&repo, &["--to", "kv"]);
    assert_eq!((&plan["writes"], &plan["write_bytes"]), (&done["objects_written"], &done["bytes_written"]));
    assert!(done["calls"].as_u64() <= plan["calls"].as_u64(), "{plan} {done}");
    let status = json(&repo, &["status", "--to", "kv"])["replicas"][0].take();
    assert_eq!((&status["epoch"], &status["epochs_behind"], &status["keys_to_write"]), (&3.into(), &0.into(), &0.into()));
    materialize(&repo, 41);
    let status = json(&repo, &["status", "--to", "kv"])["replicas"][0].take();
    assert_eq!((&status["epoch"], &status["epochs_behind"]), (&3.into(), &1.into()));
    assert_eq!(status["keys_to_write"], published(&repo, &["--to", "kv", "--dry-run"])["writes"]);
    assert_eq!(published(&repo, &["--to", "kv"])["epoch_before"], 3);

    // The replica alone: the origin stays, and it is not even an hour since the snapshots before were current.
    let origin = crate::common::files(&repo.path("data/replica/s")).len();
    let pruned = json(&repo, &["prune", "--to", "kv"]);
    assert_eq!(pruned["removed"], Value::Array(vec![]));
    assert_eq!(crate::common::files(&repo.path("data/replica/s")).len(), origin);
    assert_eq!(epoch_of(spin_value(&repo.path("data/kv.db"), "head")), Some(4));
}

/// A process that is ended with the test.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until something is so. Whatever hangs is to fail.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "not within a minute: {what}");
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn a_watch_publishes_what_is_new_until_it_is_stopped() {
    let repo = repo(
        "  web: { type: objects, path: data/web, audience: server }\n  two: { type: objects, path: data/two, audience: server }\n",
    );
    let mut command = repo.command(&["publish", "--to", "web,two", "--watch", "1", "--output", "json"]);
    let mut watch = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it can be run"));
    until("it publishes what is there", || object_epoch(&repo, "data/web") == Some(3));
    materialize(&repo, 41);
    until("it publishes what is new", || object_epoch(&repo, "data/web") == Some(4));
    assert!(watch.0.try_wait().expect("it can be asked").is_none(), "it goes on");
    // A pinned replica stays, whatever is new: it is looked at before the other.
    repo.run(&["pin", "--to", "web"]);
    materialize(&repo, 42);
    until("it publishes to the other", || object_epoch(&repo, "data/two") == Some(5));
    drop(watch);
    assert_eq!(object_epoch(&repo, "data/web"), Some(4));
}

#[test]
fn of_two_processes_one_publishes() {
    let fastly = Fastly::start(&Clock::new());
    // The first has to wait in the middle of its publish, and holds the lease meanwhile.
    fastly.plan(When::Kind(Kind::BulkWrite, 1), Fault::TooMany(Some(2)));
    let repo = repo(&fastly_yaml(&fastly, Fastly::STORE));
    let publish = || {
        let mut command = repo.command(&["publish", "--to", "kv"]);
        command.env("FASTLY_API_TOKEN", Fastly::TOKEN).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let first = publish().spawn().expect("it can be run");
    until("the first has its lease", || fastly.calls().iter().any(|call| call.kind == Kind::BulkWrite));
    let (code, said_second) = run(&mut publish());
    assert_eq!(code, Some(3), "{said_second}");
    assert!(said_second.contains("in use by process"), "{said_second}");
    let (code, said_first) = said(&first.wait_with_output().expect("it ends"));
    assert_eq!(code, Some(0), "{said_first}");
    assert_eq!(epoch_of(fastly.value("head").map(Vec::from)), Some(3));
    let counters = fastly.counters();
    let (code, again) = run(&mut publish());
    assert_eq!((code, fastly.counters().writes), (Some(0), counters.writes), "{again}");
}

#[test]
fn the_command_publishes_to_s3() {
    run_with_s3("command::s3");
}

#[test]
#[ignore = "another test runs it in a process of its own"]
fn s3() {
    let repo = repo(
        "  web: { type: objects, path: s3://bucket/web, audience: server }\n  copy: { type: directory, path: s3://bucket/copy }\n",
    );
    for name in ["web", "copy"] {
        assert_eq!(published(&repo, &["--to", name])["epoch"], 3);
        assert_eq!(published(&repo, &["--to", name])["objects_written"], 0);
    }
    let request = ["get-online-features", "--features", "profile:age,profile:name", "-e", "user_id=3", "--output", "json"];
    let there = repo.run(&[&request[..], &["--from", "copy"]].concat());
    assert_eq!(there, repo.run(&request));
}
