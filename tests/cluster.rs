//! Many machines make what one makes: a scheduler and executors as processes, whichever of them die.

mod common;
#[path = "vendors/mod.rs"]
mod vendors;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use common::{Repo, files, mezze};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::properties::WriterProperties;
use vendors::s3::S3;

/// A service, killed when dropped.
struct Service {
    process: Child,
    address: String,
    _lines: Lines<BufReader<ChildStdout>>,
}

impl Service {
    /// Starts one and waits until it is ready.
    fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, |_| {})
    }

    /// The same, with what it finds in its environment.
    fn start_with(arguments: &[&str], configure: impl FnOnce(&mut Command)) -> Self {
        let mut command = mezze();
        configure(&mut command);
        command.args(["cluster", "--output", "json"]).args(arguments);
        let mut process =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it can be run");
        let mut lines = BufReader::new(process.stdout.take().expect("it has an output")).lines();
        let line = lines.next().expect("it says that it is ready").expect("output is text");
        let said: serde_json::Value = serde_json::from_str(&line).expect("it is JSON");
        let address = said["address"].as_str().expect("it has an address").to_owned();
        Self { process, address, _lines: lines }
    }

    fn scheduler(address: &str) -> Self {
        Self::start(&["scheduler", "--bind", address])
    }

    fn executor(scheduler: &str, folder: &Path) -> Self {
        let folder = folder.to_str().expect("it is text");
        Self::start(&["executor", "--scheduler", scheduler, "--slots", "2", "--memory", "256MiB", "--temp-folder", folder])
    }

    /// As `kill -9` does it.
    fn kill(&mut self) {
        self.process.kill().expect("it can be killed");
        self.process.wait().expect("it ends");
    }

    /// Asks it to stop, and waits until it has.
    fn stop(&mut self) -> Option<i32> {
        signal(&self.process, "TERM");
        self.process.wait().expect("it ends").code()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn signal(process: &Child, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &process.id().to_string()]).status();
    assert!(status.expect("there is a kill").success());
}

/// A scheduler and two executors.
struct Fixture {
    scheduler: Service,
    executors: Vec<Service>,
    folder: tempfile::TempDir,
}

impl Fixture {
    fn start() -> Self {
        let scheduler = Service::scheduler("127.0.0.1:0");
        let mut started = Self { scheduler, executors: Vec::new(), folder: tempfile::tempdir().expect("a temporary folder") };
        started.add();
        started.add();
        started
    }

    fn add(&mut self) {
        self.executors.push(Service::executor(&self.scheduler.address, self.folder.path()));
    }

    fn engine(&self) -> String {
        format!("ballista://{}", self.scheduler.address)
    }
}

const DEFINITIONS: &str = "\
entities:
  - { name: user, join_keys: [user_id], value_type: int64 }
  - { name: item, join_keys: [item], value_type: string }
sources:
  - { name: users, path: data/users, timestamp_field: ts, created_timestamp_column: created }
  - { name: pair_rows, path: data/pairs, timestamp_field: ts, format: csv }
  - { name: items, path: data/items.parquet, timestamp_field: ts }
  - { name: today_rows, path: data/today.csv, timestamp_field: ts }
feature_views:
  - name: profile
    entities: [user]
    source: users
    ttl: 40d
    schema: [{ name: score, dtype: float64 }, { name: name, dtype: string }, { name: day, dtype: int64 }]
  - { name: pairs, entities: [user, item], source: pair_rows, schema: [{ name: clicks, dtype: int64 }] }
  - { name: goods, entities: [item], source: items, ttl: 30d, schema: [{ name: price, dtype: float64 }] }
  - { name: today, entities: [], source: today_rows, schema: [{ name: rate, dtype: float64 }] }
feature_services:
  - { name: everything, features: [profile, pairs, goods, today] }
";

/// Numbers that look like chance, and are the same in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    /// A number, or in one of `of` cases none.
    fn pick(&mut self, end: u64, of: u64) -> Option<i64> {
        let number = self.below(end) as i64;
        self.maybe(of, number)
    }

    /// One value in `of` is null.
    fn maybe<T>(&mut self, of: u64, value: T) -> Option<T> {
        (self.below(of) > 0).then_some(value)
    }
}

const DAY: i64 = 86_400_000_000;
/// 2026-01-01.
const START: i64 = 1_767_225_600_000_000;

fn times(values: Vec<Option<i64>>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC"))
}

fn write_parquet(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    fs::create_dir_all(path.parent().expect("it is in the repository")).expect("the folder can be made");
    let columns = columns.into_iter().map(|(name, column)| (name, column, true));
    let rows = RecordBatch::try_from_iter_with_nullable(columns).expect("they are of one length");
    let file = fs::File::create(path).expect("the file can be made");
    // Small row groups, so that a file has several parts.
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(500)).build();
    let mut writer = ArrowWriter::try_new(file, rows.schema(), Some(properties)).expect("it can be written");
    writer.write(&rows).and_then(|()| writer.close()).expect("it can be written");
}

/// Views of one, two and no keys, of integers and texts, with ties in all times, nulls everywhere, and partition folders.
fn repository(seed: u64) -> Repo {
    let repo = Repo::new(DEFINITIONS);
    let mut chance = Chance(seed);
    for day in 0..5 {
        let rows = 2_000;
        // Few instants and creation times, so that many rows tie in one or both, within a file and between files.
        let at: Vec<_> = (0..rows).map(|_| chance.pick(60, 50).map(|at| START + at * DAY)).collect();
        let created: Vec<_> = (0..rows).map(|_| chance.pick(4, 9).map(|at| START + at * DAY)).collect();
        let users: Int64Array = (0..rows).map(|_| chance.pick(300, 40)).collect();
        let scores: Float64Array = (0..rows).map(|row| chance.maybe(6, f64::from(row) * 0.5)).collect();
        let names: StringArray = (0..rows).map(|row| chance.maybe(7, format!("{day} {}", row % 97))).collect();
        let path = repo.path(&format!("data/users/day={day}/rows.parquet"));
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("ts", times(at)),
            ("created", times(created)),
            ("user_id", Arc::new(users)),
            ("score", Arc::new(scores)),
            ("name", Arc::new(names)),
        ];
        write_parquet(&path, columns);
    }
    for file in 0..3 {
        let mut rows = "user_id,item,ts,clicks\n".to_owned();
        for row in 0..400 {
            let (user, item, day) = (chance.below(30), chance.below(20), 1 + chance.below(28));
            let clicks = chance.maybe(5, row).map(|row| (row + file * 1000).to_string()).unwrap_or_default();
            rows += &format!("{user},i{item},2026-01-{day:02}T00:00:00Z,{clicks}\n");
        }
        repo.write(&format!("data/pairs/{file}.csv"), &rows);
    }
    let rows = 3_000;
    let at: Vec<_> = (0..rows).map(|_| Some(START + chance.below(90) as i64 * DAY)).collect();
    let items: StringArray = (0..rows).map(|_| chance.pick(40, 30).map(|item| format!("i{item}"))).collect();
    let prices: Float64Array = (0..rows).map(|row| chance.maybe(8, f64::from(row))).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![("ts", times(at)), ("item", Arc::new(items)), ("price", Arc::new(prices))];
    write_parquet(&repo.path("data/items.parquet"), columns);
    repo.write("data/today.csv", "ts,rate\n2026-01-05T00:00:00Z,1.5\n2026-02-02T00:00:00Z,2.5\n");
    let rows = 5_000;
    let at: Vec<_> = (0..rows).map(|_| chance.pick(100, 60).map(|at| START + at * DAY)).collect();
    let users: Int64Array = (0..rows).map(|_| chance.pick(320, 30)).collect();
    let items: StringArray = (0..rows).map(|_| chance.pick(45, 30).map(|item| format!("i{item}"))).collect();
    let labels: Int64Array = (0..rows).map(Some).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("label", Arc::new(labels)),
        ("event_timestamp", times(at)),
        ("user_id", Arc::new(users)),
        ("item", Arc::new(items)),
    ];
    write_parquet(&repo.path("labels.parquet"), columns);
    repo.run(&["apply"]);
    repo
}

/// All rows of a training set, in order, as text.
fn rows(path: &Path) -> Vec<String> {
    let file = fs::File::open(path).expect("it is there");
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|builder| builder.build()).expect("it is Parquet");
    let batches: Vec<RecordBatch> = reader.collect::<Result<_, _>>().expect("it is whole");
    let mut rows = vec![format!("{:?}", batches.first().expect("it has rows").schema())];
    let mut writer = arrow::util::display::FormatOptions::default();
    writer = writer.with_null("null");
    for batch in &batches {
        let columns: Vec<_> = batch
            .columns()
            .iter()
            .map(|column| arrow::util::display::ArrayFormatter::try_new(column, &writer).expect("it can be shown"))
            .collect();
        for row in 0..batch.num_rows() {
            rows.push(columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join("|"));
        }
    }
    rows
}

/// How a training set is asked for: many small tasks.
fn historical<'a>(engine: &'a str, out: &'a str) -> Vec<&'a str> {
    let mut arguments = vec!["get-historical-features", "--entities", "labels.parquet", "--service", "everything", "--out", out];
    arguments.extend(["--engine", engine, "--task-rows", "1500", "--task-bytes", "20000", "--executor-wait", "60"]);
    arguments
}

fn materialize<'a>(engine: &'a str, end: &'a str) -> Vec<&'a str> {
    vec!["materialize", "2026-01-01", end, "--engine", engine, "--task-bytes", "20000"]
}

fn same_rows(expected: &[String], found: &[String], what: &str) {
    assert_eq!(expected.len(), found.len(), "{what}: rows");
    if let Some((row, (expected, found))) = expected.iter().zip(found).enumerate().find(|(_, (a, b))| a != b) {
        panic!("{what}: row {row} is {found}, expected {expected}");
    }
}

/// The files of an origin but for its epochs, which have the time of the run in them.
fn origin(repo: &Repo) -> BTreeMap<String, Vec<u8>> {
    let folder = repo.path("data/replica");
    let named = files(&folder)
        .into_iter()
        .map(|(path, bytes)| (path.strip_prefix(&folder).expect("it is in the folder").to_string_lossy().into_owned(), bytes));
    named.filter(|(name, _)| name != "head" && !name.starts_with("epochs") && !name.contains("lock")).collect()
}

/// A run of a client, whose progress is followed.
struct Client {
    process: Child,
    lines: Lines<BufReader<ChildStderr>>,
    said: Vec<String>,
}

impl Client {
    fn start(repo: &Repo, arguments: &[&str]) -> Self {
        Self::start_with(repo, arguments, |_| {})
    }

    fn start_with(repo: &Repo, arguments: &[&str], configure: impl FnOnce(&mut Command)) -> Self {
        let mut command = repo.command(arguments);
        configure(&mut command);
        let mut process = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it can be run");
        let lines = BufReader::new(process.stderr.take().expect("it has one")).lines();
        Self { process, lines, said: Vec::new() }
    }

    /// Waits until so many tasks are done; `false` where it ends before.
    fn has_done(&mut self, tasks: usize) -> bool {
        for line in self.lines.by_ref() {
            let line = line.expect("errors are text");
            let done = line.split(' ').next().and_then(|number| number.parse::<usize>().ok());
            let found = line.ends_with("tasks are done") && done.is_some_and(|done| done >= tasks);
            self.said.push(line);
            if found {
                return true;
            }
        }
        false
    }

    /// Waits until it ends: its exit code, and all that it said.
    fn end(mut self) -> (Option<i32>, String) {
        for line in self.lines.by_ref() {
            self.said.push(line.expect("errors are text"));
        }
        (self.process.wait().expect("it ends").code(), self.said.join("\n"))
    }
}

#[test]
fn a_cluster_makes_what_one_process_makes_whichever_executors_are_killed() {
    let repo = repository(7);
    repo.run(&historical("local", "local.parquet"));
    let expected = rows(&repo.path("local.parquet"));
    assert_eq!(expected.len(), 5_001);
    let mut cluster = Fixture::start();
    let engine = cluster.engine();
    let (code, said) = Client::start(&repo, &historical(&engine, "cluster.parquet")).end();
    assert_eq!(code, Some(0), "{said}");
    same_rows(&expected, &rows(&repo.path("cluster.parquet")), "nobody was killed");
    let tasks = said.lines().filter_map(|line| line.strip_suffix(" tasks are done")?.split_once(" of ")?.1.parse::<usize>().ok());
    let tasks = tasks.max().expect("it says how far it is");
    assert!(tasks >= 20, "{tasks} tasks");

    // Ten times, at another point of the run each time.
    for point in 0..10 {
        let mut client = Client::start(&repo, &historical(&engine, "killed.parquet"));
        let done = point * tasks / 10;
        assert!(client.has_done(done), "it ended before {done} tasks were done");
        cluster.executors.remove(0).kill();
        cluster.add();
        let (code, said) = client.end();
        assert_eq!(code, Some(0), "killed after {done} tasks: {said}");
        same_rows(&expected, &rows(&repo.path("killed.parquet")), &format!("killed after {done} tasks"));
        fs::remove_file(repo.path("killed.parquet")).expect("it is there");
    }

    // Snapshots, byte by byte; a second one that is a delta, and one from which an executor goes.
    let (local, remote) = (repo.copy(), repo.copy());
    for (end, kill) in [("2026-02-15", None), ("2026-03-01", Some(3)), ("2026-04-01", None)] {
        local.run(&materialize("local", end));
        let mut client = Client::start(&remote, &materialize(&engine, end));
        if let Some(tasks) = kill {
            assert!(client.has_done(tasks));
            cluster.executors.remove(0).kill();
            cluster.add();
        }
        let (code, said) = client.end();
        assert_eq!(code, Some(0), "{said}");
        let (expected, found) = (origin(&local), origin(&remote));
        assert_eq!(expected.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>(), "until {end}");
        assert!(expected.len() > 4, "{:?}", expected.keys());
        let other = expected.iter().find(|(name, bytes)| found.get(*name) != Some(bytes));
        assert!(other.is_none(), "until {end}: {:?} differs", other.map(|(name, _)| name));
    }

    // Executors that are asked to stop do, and so does the scheduler.
    for executor in &mut cluster.executors {
        assert_eq!(executor.stop(), Some(0));
    }
    assert_eq!(cluster.scheduler.stop(), Some(0));
    // What those that were killed left went with the next ones.
    let left: Vec<_> = fs::read_dir(cluster.folder.path()).expect("it is there").flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn every_way_to_ask_gives_the_same_from_a_cluster() {
    let repo = repository(11);
    let cluster = Fixture::start();
    let engine = cluster.engine();
    let query = "SELECT label, item, user_id, event_timestamp FROM 'labels.parquet' WHERE label % 3 = 0 ORDER BY label DESC";
    let ways: [&[&str]; 3] = [
        &["--entities-sql", query, "--features", "profile:score,profile:day,goods:price"],
        &["--start", "2026-01-10", "--end", "2026-02-20", "--features", "profile:name,profile:score"],
        &["--entities", "labels.parquet", "--service", "everything", "--filter-by-created-timestamp", "--full-feature-names"],
    ];
    for way in ways {
        for (engine, out) in [("local", "local.parquet"), (engine.as_str(), "cluster.parquet")] {
            let mut arguments = vec!["get-historical-features", "--out", out, "--engine", engine, "--task-bytes", "30000"];
            arguments.extend(way);
            repo.run(&arguments);
        }
        same_rows(&rows(&repo.path("local.parquet")), &rows(&repo.path("cluster.parquet")), &format!("{way:?}"));
    }
    // What a summary counts is the same, too, and so are other formats.
    for out in ["rows.csv", "rows.json"] {
        let mut counted = Vec::new();
        for engine in ["local", &engine] {
            let mut arguments = historical(engine, out);
            arguments.extend(["--output", "json"]);
            let summary: serde_json::Value = serde_json::from_str(&repo.run(&arguments)).expect("it is JSON");
            counted.push((summary["views"].clone(), fs::read(repo.path(out)).expect("it is there")));
        }
        assert!(counted[0] == counted[1], "{out}: {} and {}", counted[0].0, counted[1].0);
    }
    // New rows alone are read by the next run.
    let (local, remote) = (repo.copy(), repo.copy());
    for repo in [&local, &remote] {
        let engine = if std::ptr::eq(repo, &remote) { engine.as_str() } else { "local" };
        repo.run(&["materialize-incremental", "2026-02-01", "--engine", engine]);
        repo.write("data/pairs/9.csv", "user_id,item,ts,clicks\n1,i1,2026-03-01T00:00:00Z,77\n");
        repo.run(&["materialize-incremental", "2026-04-01", "--engine", engine]);
    }
    assert!(origin(&local) == origin(&remote));
}

#[test]
fn a_scheduler_may_come_back_and_all_executors_may_be_others() {
    let repo = repository(19);
    repo.run(&historical("local", "local.parquet"));
    let expected = rows(&repo.path("local.parquet"));
    let mut cluster = Fixture::start();
    let engine = cluster.engine();
    for what in ["the scheduler", "all executors"] {
        let mut client = Client::start(&repo, &historical(&engine, "cluster.parquet"));
        assert!(client.has_done(4));
        if what == "the scheduler" {
            let address = cluster.scheduler.address.clone();
            cluster.scheduler.kill();
            cluster.scheduler = Service::scheduler(&address);
        } else {
            cluster.executors.iter_mut().for_each(Service::kill);
            cluster.executors.clear();
            cluster.add();
        }
        let (code, said) = client.end();
        assert_eq!(code, Some(0), "{what}: {said}");
        same_rows(&expected, &rows(&repo.path("cluster.parquet")), what);
        fs::remove_file(repo.path("cluster.parquet")).expect("it is there");
    }
}

#[test]
fn a_run_that_is_cancelled_leaves_nothing_and_the_cluster_goes_on() {
    let repo = repository(13);
    let cluster = Fixture::start();
    let engine = cluster.engine();
    for (name, after) in [("INT", 0), ("TERM", 20)] {
        let mut client = Client::start(&repo, &historical(&engine, "cancelled.parquet"));
        assert!(client.has_done(after));
        signal(&client.process, name);
        let (code, said) = client.end();
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("error: cancelled"), "{said}");
        let left = fs::read_dir(repo.path("")).expect("it is there").flatten().map(|entry| entry.file_name());
        let left: Vec<_> = left.filter(|name| name.to_string_lossy().contains(".tmp") || name == "cancelled.parquet").collect();
        assert!(left.is_empty(), "{left:?}");
    }
    repo.run(&historical("local", "local.parquet"));
    repo.run(&historical(&engine, "cluster.parquet"));
    same_rows(&rows(&repo.path("local.parquet")), &rows(&repo.path("cluster.parquet")), "after two that were cancelled");
}

#[test]
fn what_is_missing_is_named_with_what_to_do() {
    let repo = repository(17);
    let refused = |engine: &str, wait: &str| {
        let mut arguments = historical(engine, "refused.parquet");
        arguments.extend(["--executor-wait", wait]);
        // The last one counts.
        let at = arguments.iter().position(|argument| *argument == "--executor-wait").expect("it is there");
        arguments.drain(at..at + 2);
        let run = repo.try_run(&arguments);
        assert!(!repo.path("refused.parquet").exists());
        (run.code, run.stderr)
    };
    // A port that nobody listens on: it was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let (code, said) = refused(&format!("ballista://{free}"), "1");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("the scheduler {free} cannot be reached: connection refused")), "{said}");
    assert!(said.contains("mezze cluster scheduler"), "{said}");
    let (code, said) = refused("spark://here:1", "1");
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("ballista://10.0.0.7:50050"), "{said}");

    let scheduler = Service::scheduler("127.0.0.1:0");
    let engine = format!("ballista://{}", scheduler.address);
    let (code, said) = refused(&engine, "1");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("has had no executor for 1 seconds; start some with `mezze cluster executor"), "{said}");

    // A file that the client sees and the executor cannot read as what it is, and one that is not there for it.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let executor = Service::executor(&scheduler.address, folder.path());
    let bytes = fs::read(repo.path("data/items.parquet")).expect("it is there");
    let mut damaged = bytes.clone();
    for byte in damaged.iter_mut().take(bytes.len() / 2).skip(4) {
        *byte = 0xff;
    }
    fs::write(repo.path("data/items.parquet"), damaged).expect("it can be written");
    let (code, said) = refused(&engine, "60");
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("error: executor 127.0.0.1:") && said.contains("data/items.parquet"), "{said}");
    // The service is as well as before.
    fs::write(repo.path("data/items.parquet"), bytes).expect("it can be written");
    repo.run(&historical(&engine, "well.parquet"));

    // An executor might be on another machine, where a file is not. This one sleeps while the client looks at the file.
    signal(&executor.process, "STOP");
    let mut client = Client::start(&repo, &historical(&engine, "missing.parquet"));
    assert!(client.has_done(0));
    fs::rename(repo.path("data/items.parquet"), repo.path("data/elsewhere.parquet")).expect("it can be moved");
    signal(&executor.process, "CONT");
    let (code, said) = client.end();
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("data/items.parquet") && said.contains("put them on storage that all of them share"), "{said}");
    assert!(!repo.path("missing.parquet").exists());
}

#[test]
fn sources_and_outputs_may_be_in_an_object_store() {
    let repo = repository(23);
    repo.run(&historical("local", "local.parquet"));
    repo.run(&materialize("local", "2026-04-01"));
    let (expected, segments) = (rows(&repo.path("local.parquet")), segments(&repo.path("data/replica")));

    let s3 = S3::start();
    for (path, bytes) in files(&repo.path("data")) {
        let name = path.strip_prefix(repo.path("")).expect("it is in the repository");
        if !name.starts_with("data/replica") && !name.starts_with("data/registry") {
            let to = s3.bucket().join(name);
            fs::create_dir_all(to.parent().expect("it is in the bucket")).expect("the folder can be made");
            fs::write(to, bytes).expect("it can be written");
        }
    }
    // The server fails where it is asked for a folder as for an object.
    let folders = DEFINITIONS.replace("data/users,", "data/users/,").replace("data/pairs,", "data/pairs/,");
    repo.write("features/all.yaml", &folders.replace("path: data/", &format!("path: {}/", s3.url("data"))));
    let store = format!("project: test\nregistry: other\nonline_store: {{ type: directory, path: \"{}\" }}\n", s3.url("origin"));
    repo.write("feature_store.yaml", &store);
    let run = |arguments: &[&str]| {
        let (code, said) = Client::start_with(&repo, arguments, |command| s3.configure(command)).end();
        assert_eq!(code, Some(0), "{arguments:?}: {said}");
    };
    run(&["apply"]);
    // The scheduler knows nothing of the store.
    let scheduler = Service::scheduler("127.0.0.1:0");
    let engine = format!("ballista://{}", scheduler.address);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let place = folder.path().to_str().expect("it is text");
    let start = || {
        let arguments =
            ["executor", "--scheduler", &scheduler.address, "--slots", "2", "--memory", "256MiB", "--temp-folder", place];
        Service::start_with(&arguments, |command| s3.configure(command))
    };
    let mut executors = [start(), start()];
    let out = s3.url("out/train.parquet");
    let mut client = Client::start_with(&repo, &historical(&engine, &out), |command| s3.configure(command));
    assert!(client.has_done(6));
    executors[0].kill();
    let (code, said) = client.end();
    assert_eq!(code, Some(0), "{said}");
    same_rows(&expected, &rows(&s3.bucket().join("out/train.parquet")), "an object");
    run(&materialize(&engine, "2026-04-01"));
    assert!(!segments.is_empty() && segments == self::segments(&s3.bucket().join("origin")));
}

/// The pages of an origin.
fn segments(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let named = files(&folder.join("s"))
        .into_iter()
        .map(|(path, bytes)| (path.strip_prefix(folder).expect("it is in the folder").to_string_lossy().into_owned(), bytes));
    named.collect()
}
