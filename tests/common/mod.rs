//! What the tests of the whole share: repositories in temporary folders, and the `mezze` command run on them.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod corpus;
pub(crate) mod expressions;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A repository in a temporary folder.
pub(crate) struct Repo {
    folder: tempfile::TempDir,
}

/// How a run of the command ended.
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Repo {
    /// A repository of these definitions, without data.
    pub(crate) fn new(definitions: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let repo = Self { folder };
        repo.write(
            "feature_store.yaml",
            "project: test\nregistry: data/registry\nonline_store: { type: directory, path: data/replica }\n\
             replicas:\n  copy: { type: directory, path: data/copy }\n",
        );
        repo.write("features/all.yaml", definitions);
        repo
    }

    /// A repository with views of one, two and no keys, in JSON and CSV, with nulls, old rows and nested values.
    pub(crate) fn every_type() -> Self {
        let repo = Self::new(DEFINITIONS);
        repo.write("features/computed.yaml", &expressions::definitions());
        let mut users = String::new();
        for user in 1..=12 {
            // User 5's row is far older than the view's ttl.
            let time = if user == 5 { "2021-01-01T00:00:00Z".to_owned() } else { format!("2026-01-{user:02}T12:00:00.5Z") };
            let null = |value: String, at: i64| if user % at == 0 { "null".to_owned() } else { value };
            users += &format!(
                "{{\"user_id\": {user}, \"ts\": \"{time}\", \"age\": {}, \"name\": {}, \"score\": {}, \"ratio\": {}, \
                 \"active\": {}, \"seen\": {}, \"tags\": {}}}\n",
                null((20 + user).to_string(), 4),
                null(format!("\"user \\\"{user}\\\" ü\""), 6),
                null(format!("{}.25", user * 1_000_003), 5),
                null(format!("0.{user}"), 7),
                null((user % 2 == 0).to_string(), 3),
                null(format!("\"2025-12-{user:02}T00:00:00Z\""), 8),
                null(format!("[\"t{user}\", null, \"\"]"), 9),
            );
        }
        repo.write("data/users/1.json", &users);
        repo.write(
            "data/pairs.csv",
            "user_id,item,ts,clicks\n1,a,2026-01-01T00:00:00Z,5\n2,b,2026-01-02T00:00:00Z,\n3,ü,2026-01-03T00:00:00Z,7\n",
        );
        repo.write("data/kinds.json", KINDS);
        write_blobs(&repo.path("data/blobs.parquet"));
        repo.write("data/today.csv", "ts,rate\n2026-01-01T00:00:00Z,1.5\n2026-01-02T00:00:00Z,2.5\n");
        repo
    }

    /// [`Repo::every_type`], applied and materialised: a base, a delta, and a row that was forgotten.
    pub(crate) fn every_type_served() -> Self {
        let repo = Self::every_type();
        repo.run(&["apply"]);
        repo.run(&["materialize", "2020-01-01", "2030-01-01"]);
        // A second snapshot leaves a delta, so that both of its pages are looked into.
        repo.write(
            "data/users/2.json",
            "{\"user_id\": 3, \"ts\": \"2026-02-01T00:00:00Z\", \"age\": 33, \"name\": \"Drei\"}\n\
             {\"user_id\": 12, \"ts\": \"2026-02-02T00:00:00Z\", \"score\": 12.5}\n",
        );
        repo.run(&["materialize-incremental", "2030-01-01"]);
        repo.run(&["forget", "--entity", "user_id=11"]);
        repo
    }

    /// Another repository with the same files.
    pub(crate) fn copy(&self) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (path, bytes) in files(self.folder.path()) {
            let path = folder.path().join(path.strip_prefix(self.folder.path()).expect("it is in the folder"));
            fs::create_dir_all(path.parent().expect("it is in the folder")).expect("the folder can be made");
            fs::write(path, bytes).expect("the file can be written");
        }
        Self { folder }
    }

    /// A path in the repository.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file of the repository.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("it is in the repository")).expect("the folder can be made");
        fs::write(path, text).expect("the file can be written");
    }

    /// Runs the command, which must succeed; returns its standard output.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let run = self.try_run(arguments);
        assert_eq!(run.code, Some(0), "mezze {arguments:?}: {}{}", run.stdout, run.stderr);
        run.stdout
    }

    /// Runs the command.
    pub(crate) fn try_run(&self, arguments: &[&str]) -> Run {
        let output = self.command(arguments).output().expect("the command can be run");
        Run {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("output is text"),
            stderr: String::from_utf8(output.stderr).expect("errors are text"),
        }
    }

    /// What the command says to the body of a request: its exit code, and the body or the message.
    pub(crate) fn online(&self, body: &str) -> (Option<i32>, String) {
        self.write("request.json", body);
        let run = self.try_run(&["get-online-features", "--output", "json", "--request", "request.json"]);
        if run.code == Some(0) {
            return (run.code, run.stdout.strip_suffix('\n').expect("it ends a line").to_owned());
        }
        let said = run.stderr.lines().next().and_then(|line| line.strip_prefix("error: "));
        let said = said.unwrap_or_else(|| panic!("{}", run.stderr)).to_owned();
        (run.code, said)
    }

    /// The command, ready to be run in the repository.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = mezze();
        command.current_dir(self.folder.path()).args(arguments).stdin(Stdio::null());
        command
    }
}

/// The command without arguments.
pub(crate) fn mezze() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mezze"));
    // Neither a user's colours nor their repository count, nor whether CI runs the tests: in CI the command asks for more.
    command.env("NO_COLOR", "1").env_remove("MEZZE_REPO").env_remove("CI");
    command
}

/// Posts a request for features and returns status and body.
pub(crate) fn post(address: SocketAddr, body: &str) -> (u16, Vec<u8>) {
    let reply = send(address, "POST /get-online-features", &[], body.as_bytes());
    (reply.status, reply.body)
}

/// A response, as it came.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// The lines of the head after the first.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }
}

/// Sends a request by its method and target, and returns the response.
pub(crate) fn send(address: SocketAddr, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    // Whatever hangs is to fail.
    stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).expect("a socket has a time-out");
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let head = format!("{line} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("the server reads");
    // A server that has refused need not read on.
    let _ = stream.write_all(body);
    let mut reply = Vec::new();
    let read = stream.read_to_end(&mut reply);
    assert!(read.is_ok(), "{line} to {address}: {read:?} after {}", String::from_utf8_lossy(&reply));
    let head_end = reply.windows(4).position(|window| window == b"\r\n\r\n");
    let head_end = head_end.unwrap_or_else(|| panic!("{line}: no response: {}", String::from_utf8_lossy(&reply)));
    let head = String::from_utf8(reply[..head_end].to_vec()).expect("a head is text");
    let status = head[9..12].parse().expect("a status is a number");
    let body = &reply[head_end + 4..];
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { unchunk(body) } else { body.to_vec() };
    Reply { status, head: head.split_once("\r\n").map_or("", |(_, rest)| rest).to_owned(), body }
}

/// The bytes of a body that came in chunks.
fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let line_end = rest.windows(2).position(|window| window == b"\r\n").expect("a chunk has its size");
        let size = std::str::from_utf8(&rest[..line_end]).expect("a size is text");
        let size = usize::from_str_radix(size.trim(), 16).expect("a size is hex");
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&rest[line_end + 2..line_end + 2 + size]);
        rest = &rest[line_end + 4 + size..];
    }
}

/// All files below a folder with their content, in order of name.
pub(crate) fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("the folder is there") {
            let path = entry.expect("it can be read").path();
            if path.is_dir() { folders.push(path) } else { found.push((path.clone(), fs::read(path).expect("it can be read"))) }
        }
    }
    found.sort();
    found
}

/// The keys that a replica of an origin's folder has: head, manifests and pages.
pub(crate) fn replica_keys(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut keys = Vec::new();
    for (path, bytes) in files(folder) {
        let name = path.strip_prefix(folder).expect("it is in the folder").to_string_lossy().into_owned();
        if name == "head" || name.starts_with("m/") {
            keys.push((name, bytes));
        } else if name.starts_with("s/") {
            let tail = bytes.len() - mezze_core::SegmentIndex::tail_bytes(&bytes).expect("a segment has a footer") as usize;
            let index = mezze_core::SegmentIndex::decode(&bytes[tail..]).expect("it has an index");
            for bucket in 0..index.bucket_count() {
                let range = index.page_range(bucket).expect("it has the page");
                let page = bytes[range.start as usize..range.end as usize].to_vec();
                keys.push((mezze_core::PageKey::new(index.segment, index.table, bucket).to_string(), page));
            }
        }
    }
    keys
}

/// A row of every type that text can hold; nulls; values at the ends.
const KINDS: &str = r#"{"user_id": 1, "ts": "2026-01-01T00:00:00Z", "id": "01234567-89AB-cdef-0001-020304050607", "made": "01234567-89ab-11ef-8001-020304050607", "price": "1.10", "doc": "{\"a\": [1]}", "at": "2026-01-01T12:00:00+02:00", "marks": ["b", "a"], "weights": {"b": 0.5, "a": null}, "place": {"lat": 47.5, "zones": ["east", null]}, "grid": [[1, 2], [], null], "big": 9223372036854775807}
{"user_id": 2, "ts": "2026-01-02T00:00:00Z"}
{"user_id": 3, "ts": "2026-01-03T00:00:00Z", "id": "ffffffff-ffff-ffff-ffff-ffffffffffff", "price": "-0.000", "doc": "null", "at": "1969-12-31T23:59:59.999999999-12:00", "marks": [], "weights": {}, "place": {"lat": null, "zones": []}, "grid": [], "big": -9223372036854775808}
"#;

/// Bytes, which text files cannot hold.
fn write_blobs(path: &Path) {
    use arrow::array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, TimestampNanosecondArray};
    use std::sync::Arc;
    let at = TimestampNanosecondArray::from(vec![1_767_225_600_000_000_000; 3]).with_timezone("UTC");
    let raw = BinaryArray::from(vec![Some(&[0, 0xff, 0x80][..]), None, Some(&[])]);
    let columns: [(&str, ArrayRef); 3] =
        [("user_id", Arc::new(Int64Array::from(vec![1, 2, 3]))), ("ts", Arc::new(at)), ("raw", Arc::new(raw))];
    let rows = RecordBatch::try_from_iter(columns).expect("they are of one length");
    let file = fs::File::create(path).expect("the file can be made");
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, rows.schema(), None).expect("it can be written");
    writer.write(&rows).and_then(|()| writer.close()).expect("it can be written");
}

const DEFINITIONS: &str = "\
entities:
  - { name: user, join_keys: [user_id], value_type: int64 }
  - { name: item, join_keys: [item], value_type: string }
sources:
  - { name: users, path: data/users, timestamp_field: ts, format: json }
  - { name: pair_rows, path: data/pairs.csv, timestamp_field: ts }
  - { name: today_rows, path: data/today.csv, timestamp_field: ts }
  - { name: kinds_rows, path: data/kinds.json, timestamp_field: ts }
  - { name: blobs_rows, path: data/blobs.parquet, timestamp_field: ts }
request_sources:
  - { name: order, schema: [{ name: amount, dtype: float64 }] }
feature_views:
  - name: profile
    entities: [user]
    source: users
    ttl: 1500d
    schema:
      - { name: age, dtype: int32 }
      - { name: name, dtype: string }
      - { name: score, dtype: float64 }
      - { name: ratio, dtype: float32 }
      - { name: active, dtype: bool }
      - { name: seen, dtype: unix_timestamp }
      - { name: tags, dtype: list<string> }
  - name: kinds
    entities: [user]
    group: kinds
    source: kinds_rows
    schema:
      - { name: id, dtype: uuid }
      - { name: made, dtype: time_uuid }
      - { name: price, dtype: decimal }
      - { name: doc, dtype: json }
      - { name: at, dtype: zoned_timestamp }
      - { name: marks, dtype: set<string> }
      - { name: weights, dtype: map<float64> }
      - { name: place, dtype: \"struct<lat: float64, zones: list<string>>\" }
      - { name: grid, dtype: list<list<int64>> }
      - { name: big, dtype: int64 }
  - { name: blobs, entities: [user], group: kinds, source: blobs_rows, schema: [{ name: raw, dtype: bytes }] }
  - { name: pairs, entities: [user, item], source: pair_rows, ttl: 3650d, schema: [{ name: clicks, dtype: int64 }] }
  - { name: today, entities: [], source: today_rows, schema: [{ name: rate, dtype: float64 }] }
feature_services:
  - { name: everything, features: [profile, today], request_sources: [order] }
  - name: friends
    features:
      - profile:age
      - { view: profile, features: [age, name], alias: friend, join_key_map: { user_id: friend } }
";

/// The exit code of the command where HTTP has this status.
pub(crate) fn exit_code(status: u16) -> Option<i32> {
    Some(match status {
        200 => 0,
        413 => 4,
        _ => 2,
    })
}

/// The message of an error's body.
pub(crate) fn message_of(body: &[u8]) -> String {
    let said: String = serde_json::from_slice(body).expect("an error is a text");
    let said: serde_json::Value = serde_json::from_str(&said).expect("in it is JSON");
    said["message"].as_str().expect("an error has a message").to_owned()
}

/// The native core over the snapshots of a folder.
pub(crate) struct Core {
    runtime: tokio::runtime::Runtime,
    reader: mezze_replica::Reader,
}

impl Core {
    pub(crate) fn open(folder: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let store = mezze_replica::Store::folder(folder).expect("the folder is there");
        let reader = runtime.block_on(mezze_replica::Reader::open(store, 1 << 20)).expect("there is a snapshot");
        Self { runtime, reader }
    }

    pub(crate) fn lookup(&self, body: &str) -> (u16, Vec<u8>) {
        use mezze_core::{Limits, MediaType, PageRef};
        let mut out = Vec::new();
        match self.reader.snapshot().plan_body(body.as_bytes(), MediaType::Json, mezze_server::now(), &Limits::server()) {
            Err(refusal) => {
                refusal.write(&mut out);
                (refusal.status, out)
            }
            Ok(plan) => {
                let pages = self.runtime.block_on(self.reader.pages(&plan)).expect("the pages are whole");
                let pages: Vec<Option<PageRef<'_>>> = pages.iter().map(|page| PageRef::resident(page).ok()).collect();
                plan.write_answer(&pages, MediaType::Json, &mut out).expect("the pages are whole");
                (200, out)
            }
        }
    }
}

/// The serving component over the snapshots of a folder.
pub(crate) struct Component {
    store: mezze_runtime::ServingStore,
    folder: PathBuf,
}

impl Component {
    pub(crate) fn open(folder: &Path) -> Self {
        Self::open_in(folder, None)
    }

    /// The same in another component than the one that is built in.
    pub(crate) fn open_in(folder: &Path, component: Option<Vec<u8>>) -> Self {
        let mut config = mezze_runtime::RuntimeConfig::default();
        config.component = component;
        config.deadline = std::time::Duration::from_secs(10);
        let runtime = mezze_runtime::Runtime::new(config).expect("the component can be run");
        let mut store = runtime.store(1 << 20).expect("there is room for an instance");
        let head = fs::read(folder.join("head")).expect("there is a head");
        store.open(&head, None, 0).expect("the head is whole");
        Self { store, folder: folder.to_path_buf() }
    }

    pub(crate) fn lookup(&mut self, body: &str) -> (u16, Vec<u8>) {
        let now = mezze_server::now().nanos();
        let folder = &self.folder;
        let fetch = |page: &mezze_runtime::PageName| {
            let file = fs::read(folder.join(format!("s/{:032x}/{}", page.segment, page.table))).ok()?;
            let tail = file.len() - mezze_core::SegmentIndex::tail_bytes(&file).ok()? as usize;
            let range = mezze_core::SegmentIndex::decode(&file[tail..]).ok()?.page_range(page.bucket)?;
            Some(file[range.start as usize..range.end as usize].to_vec())
        };
        let served = self.store.lookup(&mezze_runtime::Lookup::json(body.as_bytes(), now), fetch).expect("the pages are whole");
        (served.status, served.body)
    }
}
