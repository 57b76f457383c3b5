//! The bundle for browsers in Node.

use std::fs;
use std::process::Command;

use base64::prelude::{BASE64_STANDARD, Engine as _};

use super::{build, build_with};
use crate::common::mezze;

/// The answers of the bundle for browsers, in Node.
pub(super) fn answers(keys: &[(String, Vec<u8>)], requests: &[String]) -> Vec<serde_json::Value> {
    answers_with(&build_with(&["browser", "--expressions"]), keys, requests)
}

/// The same of another bundle.
pub(super) fn answers_with(
    folder: &tempfile::TempDir,
    keys: &[(String, Vec<u8>)],
    requests: &[String],
) -> Vec<serde_json::Value> {
    let write = |name: &str, json: serde_json::Value| {
        let path = folder.path().join(name);
        fs::write(&path, json.to_string()).expect("the file can be written");
        path
    };
    let keys: serde_json::Map<String, serde_json::Value> =
        keys.iter().map(|(key, value)| (key.clone(), BASE64_STANDARD.encode(value).into())).collect();
    let (keys, requests) = (write("keys.json", keys.into()), write("requests.json", requests.into()));
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/edges/node.mjs");
    let output = Command::new("node").arg(script).arg(folder.path().join("bundle")).args([keys, requests]).output();
    let output = output.expect("node can be run: install npm, which brings it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).expect("it is text");
    lines.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

#[test]
fn the_ten_lines_of_the_page_on_embedding_run_in_node() {
    let page = include_str!("../../docs/EMBEDDING.md");
    let (_, rest) = page.split_once("```js\n").expect("the page has them");
    let (module, _) = rest.split_once("```").expect("they end");
    assert!(module.lines().count() <= 12, "{module}");
    let folder = build("browser");
    let bundle = folder.path().join("bundle");
    fs::write(bundle.join("embed.mjs"), module).expect("the file can be written");
    let run = |repo: &str, arguments: &[&str]| {
        let run = mezze().current_dir(folder.path().join(repo)).args(arguments).output().expect("the command can be run");
        assert!(run.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&run.stderr));
    };
    run("", &["init", "credit"]);
    run("credit", &["apply"]);
    run("credit", &["materialize", "2024-01-01", "2026-08-30"]);
    run("credit", &["edge", "export", "browser", "--out", "../bundle/snapshot"]);
    let output = Command::new("node").arg(bundle.join("embed.mjs")).output().expect("node can be run");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "Ironford 1n\n", "{}", String::from_utf8_lossy(&output.stderr));
}
