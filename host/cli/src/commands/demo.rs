//! `mezze demo`: all of Mezze on sample data, and a check that three ways of reading agree to the byte.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use mezze_core::{HEAD_KEY, HttpConfig, PageKey, SegmentIndex, Timestamp};
use mezze_model::check_against;
use mezze_offline::{EntitySource, FeatureSelection, HistoricalRequest, get_historical_features};
use mezze_replica::{Reader, Store, segment_key};
use mezze_runtime::{Lookup, PageName, Runtime, RuntimeConfig};
use mezze_server::{Online, Server, ServerOptions};
use serde_json::{Value as Json, json};

use crate::args::{DemoArgs, Global};
use crate::commands::historical::{Resources, default_threads};
use crate::commands::materialize::{Run, Window, materialize};
use crate::commands::online::{CACHE_BYTES, answer};
use crate::context::{Context, block_on, holder, now};
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Format, Output, Paint, count, duration, size};
use crate::progress::Progress;
use crate::sample::{self, AS_OF};

const SERVICE: &str = "credit_v1";
/// Reads through each way, for the times.
const READS: u32 = 200;

pub(crate) fn run(args: &DemoArgs, global: &Global, output: Output) -> Outcome {
    let scratch;
    let folder = match &args.keep {
        Some(folder) => folder.clone(),
        None => {
            scratch =
                tempfile::tempdir().map_err(|error| Failure::io("cannot make a folder in", &std::env::temp_dir(), &error))?;
            scratch.path().join("credit")
        }
    };
    let mut story = Story { output, facts: serde_json::Map::new() };
    let started = Instant::now();

    sample::write(&folder, "credit")?;
    story.tell(
        "init",
        &format!("made a sample repository of a made-up lender in {}", folder.display()),
        json!({ "folder": folder.to_string_lossy() }),
    )?;
    let global = Global { chdir: folder.clone(), output: global.output, color: global.color, quiet: true };
    let quiet = output.quiet();
    let context = Context::load(&global, quiet)?;
    block_on(None, async {
        apply(&context, &mut story).await?;
        join(&context, &folder, &mut story).await?;
        let reader = snapshot(&context, &mut story).await?;
        read_back(&context, &reader, &mut story).await
    })?;
    story.end(started, args.keep.as_deref())
}

/// What happened, told as it happens, or as one JSON object at the end.
struct Story {
    output: Output,
    facts: serde_json::Map<String, Json>,
}

impl Story {
    fn tell(&mut self, step: &str, text: &str, facts: Json) -> Outcome {
        self.facts.insert(step.into(), facts);
        match self.output.format {
            Format::Json => Ok(()),
            Format::Text => self.output.line(&format!("{}{text}", self.output.paint(Paint::Head, &format!("{step:<13}")))),
        }
    }

    fn end(self, started: Instant, kept: Option<&Path>) -> Outcome {
        let elapsed = started.elapsed();
        match self.output.format {
            Format::Json => {
                let mut facts = self.facts;
                facts.insert("seconds".into(), json!(elapsed.as_secs_f64()));
                self.output.line(&format!("{:#}", Json::Object(facts)))
            }
            Format::Text => {
                let next = match kept {
                    Some(folder) => format!("the repository is in {}; its README.md leads on", folder.display()),
                    None => "to go on by hand: `mezze init credit`, or `mezze demo --keep credit`".into(),
                };
                self.output.line(&format!("\nall of it took {}; {next}", duration(elapsed)))
            }
        }
    }
}

async fn apply(context: &Context, story: &mut Story) -> Outcome {
    let mut definitions = context.definitions.clone();
    let mut columns = std::collections::BTreeMap::new();
    for source in &definitions.sources {
        columns.insert(source.name.clone(), mezze_offline::source_columns(&context.repo, &definitions, source).await?);
    }
    if let Some(problem) = check_against(&mut definitions, &columns).first() {
        return Err(Failure::input(problem.to_string()));
    }
    let version = context.registry()?.append(None, &definitions, &holder(), now()).await?;
    story.tell(
        "apply",
        &format!(
            "checked {} entities, {} feature views and {} feature service against their sources, recorded version {}",
            definitions.entities.len(),
            definitions.feature_views.len(),
            definitions.feature_services.len(),
            version.number
        ),
        json!({ "version": version.number, "feature_views": definitions.feature_views.len() }),
    )
}

async fn join(context: &Context, folder: &Path, story: &mut Story) -> Outcome {
    let definitions = context.applied().await?.definitions;
    let request = HistoricalRequest {
        workers: None,
        transforms: None,
        entity_rows: EntitySource::File("data/loans.parquet".into()),
        selection: FeatureSelection::Service(SERVICE.into()),
        full_feature_names: false,
        filter_by_created_timestamp: false,
        threads: default_threads(),
        memory: None,
        explain: false,
        folder: folder.to_path_buf(),
        output: "train.parquet".into(),
        format: None,
        progress: None,
    };
    let summary = get_historical_features(&context.repo, &definitions, request).await?;
    let features: usize = definitions
        .feature_service(SERVICE)
        .map_or(0, |service| service.projections.iter().map(|projection| projection.features.len()).sum());
    story.tell(
        "join",
        &format!(
            "{} loans got {features} features each, as they were known when it was applied for: train.parquet, {}, in {}",
            count(summary.rows),
            size(summary.bytes),
            duration(summary.elapsed)
        ),
        json!({
            "rows": summary.rows, "features": features, "bytes": summary.bytes, "seconds": summary.elapsed.as_secs_f64(),
        }),
    )
}

async fn snapshot(context: &Context, story: &mut Story) -> Outcome<Arc<Reader>> {
    let definitions = context.applied().await?.definitions;
    let origin = context.origin()?;
    let window = Window::Between(Timestamp::EPOCH, AS_OF);
    let progress = Progress::new(context.output);
    let run = Run { window, views: &[], resources: &Resources::all(), compact: false, workers: None, progress: &progress };
    let done = materialize(context, &definitions, &origin, run).await?;
    drop(progress);
    let reader = Arc::new(Reader::open(Store::open(&context.config.online_store, &context.repo)?, CACHE_BYTES).await?);
    let tables = &done.report.tables;
    let snapshot = reader.snapshot();
    story.tell(
        "materialize",
        &format!(
            "{} entities in {} tables became {} pages ({}), in {}: snapshot {}, epoch {}",
            count(tables.iter().map(|table| table.entities).sum()),
            tables.len(),
            count(tables.iter().map(|table| table.pages_written).sum()),
            size(tables.iter().map(|table| table.bytes_written).sum()),
            duration(done.elapsed),
            snapshot.id(),
            snapshot.epoch()
        ),
        json!({
            "snapshot": snapshot.id().to_string(), "epoch": snapshot.epoch(), "seconds": done.elapsed.as_secs_f64(),
            "entities": tables.iter().map(|table| table.entities).sum::<u64>(),
            "pages": tables.iter().map(|table| table.pages_written).sum::<u64>(),
        }),
    )?;
    Ok(reader)
}

async fn read_back(context: &Context, reader: &Arc<Reader>, story: &mut Story) -> Outcome {
    let (zipcode, dob_ssn) = sample::borrower();
    let body = json!({
        "feature_service": SERVICE, "entities": { "zipcode": [zipcode], "dob_ssn": [dob_ssn], "loan_amnt": [12_000] },
    })
    .to_string();

    let start = Instant::now();
    let mut native = Vec::new();
    for _ in 0..READS {
        native = answer(reader, body.as_bytes(), now()).await?;
    }
    let native_time = start.elapsed() / READS;
    story.tell(
        "command line",
        &format!("{} bytes of features for borrower {dob_ssn}, in {}", native.len(), duration(native_time)),
        json!({ "bytes": native.len(), "microseconds": native_time.as_micros() as u64 }),
    )?;

    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| Failure::of(Exit::Failed, &error))?;
    let online = Arc::new(Online::new(Arc::clone(reader), HttpConfig::server()));
    let server = Server::start(online, listener, ServerOptions::default()).map_err(|error| Failure::of(Exit::Failed, &error))?;
    let start = Instant::now();
    let served = post(server.address(), &body, READS).map_err(|error| Failure::of(Exit::Failed, &error))?;
    let served_time = start.elapsed() / READS;
    server.stop(std::time::Duration::from_secs(5));
    story.tell(
        "HTTP",
        &format!("POST /get-online-features gave {}, in {}", same(&native, &served)?, duration(served_time)),
        json!({ "same_bytes": true, "microseconds": served_time.as_micros() as u64 }),
    )?;

    let stopped = |error: mezze_runtime::RuntimeError| Failure::of(Exit::Failed, &error);
    let start = Instant::now();
    let runtime = Runtime::new(RuntimeConfig::default()).map_err(stopped)?;
    let mut store = runtime.store(CACHE_BYTES as u64).map_err(stopped)?;
    let head = reader.store().require(HEAD_KEY).await?;
    store.open(&head, None, now().nanos()).map_err(stopped)?;
    let set_up = start.elapsed();
    let origin = context.repo.join(&context.config.online_store);
    let mut component = Vec::new();
    let start = Instant::now();
    for _ in 0..READS {
        let lookup = Lookup::json(body.as_bytes(), now().nanos());
        component = store.lookup(&lookup, |page| read_page(&origin, page)).map_err(stopped)?.body;
    }
    let component_time = start.elapsed() / READS;
    story.tell(
        "WebAssembly",
        &format!(
            "the component ({}, compiled in {}) gave {}, in {}",
            size(mezze_runtime::SERVING.len() as u64),
            duration(set_up),
            same(&native, &component)?,
            duration(component_time)
        ),
        json!({ "same_bytes": true, "microseconds": component_time.as_micros() as u64 }),
    )
}

fn same(expected: &[u8], found: &[u8]) -> Outcome<&'static str> {
    if expected == found {
        return Ok("the same bytes");
    }
    Err(Failure::new(
        Exit::Failed,
        format!("the answers differ:\n  {}\n  {}", String::from_utf8_lossy(expected), String::from_utf8_lossy(found)),
    ))
}

/// Posts a request so many times over one connection; the last response's body.
fn post(address: SocketAddr, body: &str, times: u32) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let message = format!(
        "POST /get-online-features HTTP/1.1\r\nhost: demo\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut last = Vec::new();
    for _ in 0..times {
        stream.write_all(message.as_bytes())?;
        let mut reply = Vec::new();
        let mut buffer = [0; 16 << 10];
        last = loop {
            let count = stream.read(&mut buffer)?;
            if count == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            reply.extend_from_slice(buffer.get(..count).unwrap_or_default());
            let Some(head_end) = reply.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let head = String::from_utf8_lossy(reply.get(..head_end).unwrap_or_default()).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse::<usize>().ok());
            let received = reply.get(head_end + 4..).unwrap_or_default();
            if length.is_some_and(|length| received.len() >= length) {
                break received.to_vec();
            }
        };
    }
    Ok(last)
}

/// A page from a folder of snapshots.
fn read_page(folder: &Path, page: &PageName) -> Option<Vec<u8>> {
    let key = PageKey::new(format!("{:032x}", page.segment).parse().ok()?, page.table, page.bucket);
    let path: PathBuf = folder.join(segment_key(key.segment, key.table));
    let file = std::fs::read(path).ok()?;
    let tail = file.len().checked_sub(usize::try_from(SegmentIndex::tail_bytes(&file).ok()?).ok()?)?;
    let range = SegmentIndex::decode(file.get(tail..)?).ok()?.page_range(key.bucket)?;
    Some(file.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)?.to_vec())
}
