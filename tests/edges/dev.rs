//! `mezze edge dev` and `mezze edge export`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};

use super::{node, tool};
use crate::common::{Repo, files, replica_keys, send};

/// `mezze edge dev`, stopped when this is dropped.
struct Dev {
    child: Child,
    address: SocketAddr,
}

impl Drop for Dev {
    fn drop(&mut self) {
        // It stops its runtime before it ends.
        let ended = std::process::Command::new("kill").arg(self.child.id().to_string()).status();
        assert!(ended.is_ok_and(|status| status.success()), "it runs until now");
        let _ = self.child.wait();
    }
}

fn dev(repo: &Repo, target: &str, runtime: Option<&str>) -> Dev {
    let mut arguments = vec!["edge", "dev", target, "--port", "0", "--output", "json", "--refresh", "1"];
    let runtime = runtime.map(|path| tool(target, path).display().to_string());
    arguments.extend(runtime.iter().flat_map(|path| ["--runtime", path]));
    let mut command = repo.command(&arguments);
    command.env("MEZZE_HEAD_SECONDS", "0").stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("the command can be run");
    let mut said = String::new();
    BufReader::new(child.stdout.as_mut().expect("it is piped")).read_line(&mut said).expect("it says something");
    let said: serde_json::Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{target} did not start: {said}"));
    Dev { address: said["address"].as_str().expect("it listens").parse().expect("it is an address"), child }
}

#[test]
fn dev_serves_the_newest_snapshot_through_each_runtime() {
    for (target, runtime) in [
        ("cloudflare", "node_modules/@cloudflare/workerd-linux-64/bin/workerd"),
        ("fastly", "bin/viceroy"),
        ("spin", "bin/spin-host"),
    ] {
        let repo = Repo::every_type_served();
        let served = dev(&repo, target, Some(runtime));
        let reply = send(served.address, "GET /v1/features/everything?user_id=3&amount=1", &[], b"");
        assert_eq!((reply.status, reply.header("x-mezze-epoch")), (200, Some("3")), "{target}");
        repo.write("data/users/3.json", "{\"user_id\": 3, \"ts\": \"2026-03-01T00:00:00Z\", \"age\": 34}\n");
        repo.run(&["materialize-incremental", "2030-01-01"]);
        // It looks for a new snapshot once a second, and may start the runtime anew for it.
        assert!((0..1_000_000).any(|_| shows_epoch_4(served.address)), "{target} follows");
    }
}

/// Whether epoch 4 answers there; nothing may, while a runtime starts.
fn shows_epoch_4(address: SocketAddr) -> bool {
    let asked = b"GET /v1/snapshot HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";
    let mut said = String::new();
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    let answered = stream.write_all(asked).and_then(|()| stream.read_to_string(&mut said));
    answered.is_ok() && said.contains("x-mezze-epoch: 4")
}

#[test]
fn dev_serves_a_page_for_browsers_with_public_views_alone() {
    let repo = Repo::new(AUDIENCES);
    repo.write("data/rows.csv", "id,ts,shown,hidden\n1,2026-01-01T00:00:00Z,open,secret\n");
    repo.run(&["apply"]);
    repo.run(&["materialize", "2020-01-01", "2030-01-01"]);
    let served = dev(&repo, "browser", None);
    for (path, media_type) in [("demo.html", "text/html; charset=utf-8"), ("serving.core.wasm", "application/wasm")] {
        let reply = send(served.address, &format!("GET /{path}"), &[], b"");
        assert_eq!((reply.status, reply.header("content-type")), (200, Some(media_type)), "{path}");
    }
    assert_eq!(send(served.address, "GET /snapshot/head", &[], b"").header("cache-control"), Some("no-cache"));
    assert_eq!(send(served.address, "GET /snapshot/../feature_store.yaml", &[], b"").status, 404);
    // Not one page of the other views is to be had, by any name that the origin's own manifest has.
    for (key, _) in replica_keys(&repo.path("data/replica")).iter().filter(|(key, _)| key.starts_with("p/")) {
        let reply = send(served.address, &format!("GET /snapshot/{key}"), &[], b"");
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        assert!(!text.contains("secret"), "{key}");
    }
}

const AUDIENCES: &str = "\
entities: [{ name: thing, join_keys: [id], value_type: int64 }]
sources: [{ name: rows, path: data/rows.csv, timestamp_field: ts }]
feature_views:
  - { name: open, entities: [thing], source: rows, audience: public, schema: [{ name: shown, dtype: string }] }
  - { name: closed, entities: [thing], source: rows, schema: [{ name: hidden, dtype: string }] }
feature_services:
  - { name: all, features: [open, closed] }
  - { name: some, features: [open] }
";

#[test]
fn what_is_exported_for_browsers_has_nothing_but_public_views_and_answers() {
    let repo = Repo::new(AUDIENCES);
    repo.write("data/rows.csv", "id,ts,shown,hidden\n1,2026-01-01T00:00:00Z,open,secret\n");
    repo.run(&["apply"]);
    repo.run(&["materialize", "2020-01-01", "2030-01-01"]);
    repo.run(&["edge", "export", "browser", "--out", "public"]);
    let written = files(&repo.path("public"));
    for (path, bytes) in &written {
        let text = String::from_utf8_lossy(bytes).into_owned();
        assert!(!["secret", "hidden", "closed"].iter().any(|word| text.contains(word)), "{}", path.display());
    }
    let folder = repo.path("public");
    let name = |path: &std::path::Path| path.strip_prefix(&folder).expect("it is in it").to_string_lossy().into_owned();
    let keys: Vec<(String, Vec<u8>)> = written.iter().map(|(path, bytes)| (name(path), bytes.clone())).collect();
    let asked = [
        r#"{"feature_service": "some", "entities": {"id": [1]}}"#.to_owned(),
        r#"{"feature_service": "all", "entities": {"id": [1]}}"#.to_owned(),
        r#"{"features": ["closed:hidden"], "entities": {"id": [1]}}"#.to_owned(),
    ];
    let answers = node::answers(&keys, &asked);
    assert!(answers[0]["said"].as_str().is_some_and(|said| said.contains("open")), "{}", answers[0]);
    assert_eq!((&answers[1]["status"], &answers[2]["status"]), (&404.into(), &404.into()));
    // Nothing is there for a browser where no view is public.
    let closed = Repo::every_type_served();
    let run = closed.try_run(&["edge", "export", "browser", "--out", "public"]);
    assert_eq!(run.code, Some(2), "{}", run.stderr);
    assert!(run.stderr.contains("audience: public") && !closed.path("public").exists(), "{}", run.stderr);
}

#[test]
fn exports_hold_every_key_and_the_head_comes_last() {
    let repo = Repo::every_type_served();
    let expected = replica_keys(&repo.path("data/replica")).len();
    for target in ["cloudflare", "fastly"] {
        repo.run(&["edge", "export", target, "--out", target]);
        let mut keys = Vec::new();
        for (path, bytes) in files(&repo.path(target)) {
            let text = String::from_utf8(bytes).expect("it is text");
            let pairs: Vec<serde_json::Value> = if target == "cloudflare" {
                serde_json::from_str(&text).expect("it is a list")
            } else {
                text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
            };
            let is_head = path.file_stem().is_some_and(|name| name == "head");
            assert_eq!(is_head, pairs.iter().any(|pair| pair["key"] == "head"), "{}", path.display());
            keys.extend(pairs.into_iter().map(|pair| pair["key"].as_str().expect("it is text").to_owned()));
        }
        keys.sort();
        keys.dedup();
        // An origin keeps keys of older snapshots too, which no head names.
        assert!(keys.contains(&"head".to_owned()) && keys.len() > 4 && keys.len() <= expected, "{target}: {keys:?}");
        let again = repo.try_run(&["edge", "export", target, "--out", target]);
        assert_eq!(again.code, Some(2), "{}", again.stderr);
    }
}

#[test]
fn a_runtime_that_is_missing_is_named_with_what_to_install() {
    let repo = Repo::every_type_served();
    let mut command = repo.command(&["edge", "dev", "spin", "--port", "0"]);
    let output = command.env("PATH", repo.path("data")).output().expect("the command can be run");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("spin, the runtime of spin, is not on the path") && said.contains("--runtime"), "{said}");
}
