//! The bundle for browsers in Node.

use std::fs;
use std::process::Command;

use base64::prelude::{BASE64_STANDARD, Engine as _};

use super::build;

/// The answers of the bundle for browsers, in Node.
pub(super) fn answers(keys: &[(String, Vec<u8>)], requests: &[String]) -> Vec<serde_json::Value> {
    let folder = build("browser");
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
