//! The script for CI, against a shared origin in a real S3-compatible server.

mod common;
#[path = "vendors/mod.rs"]
mod vendors;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::Repo;
use vendors::s3::S3;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/ci/publish.sh");

/// A checkout as CI makes one: definitions and data, and nothing of other runs.
fn checkout(s3: &S3, replica: &Path) -> Repo {
    let repo = Repo::every_type();
    repo.write(
        "feature_store.yaml",
        &format!(
            "project: test\nregistry: {}\nonline_store: {{ type: directory, path: \"{}\" }}\nreplicas:\n  \
             prod: {{ type: spin-sqlite, path: {} }}\n",
            s3.url("registry"),
            s3.url("origin"),
            replica.display()
        ),
    );
    repo
}

fn script(s3: &S3, repo: &Repo, end: &str) -> Command {
    let mut command = Command::new(SCRIPT);
    command.arg(repo.path("")).args(["prod", end]).env("MEZZE", env!("CARGO_BIN_EXE_mezze")).env("CI", "true");
    s3.configure(&mut command);
    command
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn mezze(s3: &S3, repo: &Repo, arguments: &[&str]) -> Output {
    let mut command = repo.command(arguments);
    s3.configure(&mut command);
    command.output().expect("it can be run")
}

/// The epoch that the replica serves, by the command's own look at it.
fn served(s3: &S3, repo: &Repo) -> (u64, u64, u64) {
    let output = mezze(s3, repo, &["status", "--to", "prod", "--output", "json"]);
    assert!(output.status.success(), "{}", said(&output));
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    let replica = &status["replicas"][0];
    let number = |value: &serde_json::Value| value.as_u64().expect("it is a number");
    (number(&replica["epoch"]), number(&status["newest_epoch"]), number(&replica["keys_to_write"]))
}

#[test]
fn two_runs_at_once_in_ci_give_one_epoch_each_or_lose_with_their_own_code() {
    let s3 = S3::start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let replica: PathBuf = folder.path().join("kv.db");
    let first = checkout(&s3, &replica);
    let output = script(&s3, &first, "2030-01-01").output().expect("it can be run");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(served(&s3, &first), (1, 1, 0));

    for round in 0..3 {
        let checkouts = [checkout(&s3, &replica), checkout(&s3, &replica)];
        for (number, repo) in checkouts.iter().enumerate() {
            // Each has rows of its own: two contents that want the same epoch.
            let row = format!("{{\"user_id\": {number}, \"ts\": \"2027-0{}-01T00:00:00Z\", \"age\": {round}}}\n", round + 1);
            repo.write(&format!("data/users/run-{round}-{number}.json"), &row);
        }
        let runs = checkouts.each_ref().map(|repo| {
            let mut command = script(&s3, repo, "2030-01-01");
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().expect("it can be run")
        });
        let outputs = runs.map(|run| run.wait_with_output().expect("it ends"));
        let codes = outputs.each_ref().map(|output| output.status.code());
        assert!(codes.iter().all(|code| matches!(code, Some(0 | 3))), "{codes:?}: {}{}", said(&outputs[0]), said(&outputs[1]));
        assert!(codes.contains(&Some(0)), "{codes:?}: {}{}", said(&outputs[0]), said(&outputs[1]));
        // Whoever lost runs again, as CI would, and then both have published.
        for (repo, code) in checkouts.iter().zip(codes) {
            if code == Some(3) {
                let output = script(&s3, repo, "2030-01-01").output().expect("it can be run");
                assert_eq!(output.status.code(), Some(0), "{}", said(&output));
            }
        }
        let (epoch, newest, missing) = served(&s3, &first);
        assert_eq!((epoch, missing), (newest, 0));
    }
    // Every epoch has one record, and the replica one whole snapshot.
    let records = common::files(&s3.bucket().join("origin/epochs"));
    assert!(records.len() >= 4, "{records:?}");
}

#[test]
fn a_folder_as_origin_is_refused_in_ci() {
    let repo = Repo::every_type_served();
    repo.write(
        "feature_store.yaml",
        "project: test\nregistry: data/registry\nonline_store: { type: directory, path: data/replica }\nreplicas:\n  \
         prod: { type: spin-sqlite, path: kv.db }\n",
    );
    let run = |arguments: &[&str]| repo.command(arguments).env("CI", "true").output().expect("it can be run");
    let refused = run(&["publish", "--to", "prod"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(said(&refused).contains("another run would give the same epochs to other contents"), "{}", said(&refused));
    assert!(!repo.path("kv.db").exists());
    let allowed = run(&["publish", "--to", "prod", "--shared-folder"]);
    assert_eq!(allowed.status.code(), Some(0), "{}", said(&allowed));
}
