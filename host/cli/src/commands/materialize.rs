//! `mezze materialize`, `materialize-incremental`, `forget`

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mezze_core::{RunTransforms, Timestamp};
use mezze_model::{Definitions, FeatureView};
use mezze_offline::pit::RowSink;
use mezze_offline::{NewestOptions, NewestRows, OfflineError, RecordBatch, Workers, WrittenView, newest_rows};
use mezze_replica::Origin;
use mezze_snapshot::{BuildState, FoldedFile, Materialize, MaterializeReport, SnapshotError, StagedRows, Staging, StagingArea};
use serde_json::{Value as Json, json};

use crate::args::{EngineArgs, ForgetArgs, Global, IncrementalArgs, MaterializeArgs};
use crate::bytes::peak_memory;
use crate::commands::cluster::with_engine;
use crate::commands::historical::Resources;
use crate::commands::online::pairs;
use crate::context::{Context, block_on, now};
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Output, Table, count, duration, size};
use crate::progress::Progress;
use crate::transforms;

/// Which rows a run folds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Window {
    /// Those with event times from the first to the second, both included, of all files.
    Between(Timestamp, Timestamp),
    /// Those up to an event time, of the files that were not folded before or have changed.
    Upto(Timestamp),
}

/// What a run did.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) report: MaterializeReport,
    pub(crate) views: Vec<ViewDone>,
    pub(crate) elapsed: Duration,
}

/// What a run read of a view.
#[derive(Debug)]
pub(crate) struct ViewDone {
    pub(crate) view: String,
    /// Newest rows: one an entity.
    pub(crate) rows: u64,
    /// How many times the keys and times of its rows were read.
    pub(crate) passes: u64,
    /// Bytes of its rows that waited in temporary files.
    pub(crate) spilled: u64,
    pub(crate) files_read: usize,
    pub(crate) files_known: usize,
    pub(crate) bytes_read: u64,
}

pub(crate) fn window(args: &MaterializeArgs, global: &Global, output: Output) -> Outcome {
    if args.start > args.end {
        return Err(Failure::input("START is later than END").hint("give the earlier instant first"));
    }
    let resources = Resources::of(&args.resources)?;
    run(Window::Between(args.start, args.end), &args.views, &resources, args.compact, &args.engine, global, output)
}

pub(crate) fn incremental(args: &IncrementalArgs, global: &Global, output: Output) -> Outcome {
    let resources = Resources::of(&args.resources)?;
    run(Window::Upto(args.end), &args.views, &resources, args.compact, &args.engine, global, output)
}

fn run(
    window: Window,
    views: &[String],
    resources: &Resources,
    compact: bool,
    engine: &EngineArgs,
    global: &Global,
    output: Output,
) -> Outcome {
    let context = Context::load(global, output)?;
    let progress = Progress::new(output);
    let done = block_on(Some(resources.threads), async {
        let definitions = context.applied().await?.definitions;
        let origin = context.origin()?;
        with_engine(engine, &progress, output, async |workers| {
            let run = Run { window, views, resources, compact, workers: workers.as_deref(), progress: &progress };
            materialize(&context, &definitions, &origin, run).await
        })
        .await
    })?;
    drop(progress);
    output.result(|| done.json(), || done.text(output))
}

/// What a run is to do, and with what.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    pub(crate) window: Window,
    /// The views; all that are online if there are none.
    pub(crate) views: &'a [String],
    pub(crate) resources: &'a Resources,
    pub(crate) compact: bool,
    /// Who reads the sources; this process if not given.
    pub(crate) workers: Option<&'a dyn Workers>,
    pub(crate) progress: &'a Progress,
}

/// Folds rows into the next snapshot.
pub(crate) async fn materialize(context: &Context, definitions: &Definitions, origin: &Origin, work: Run<'_>) -> Outcome<Done> {
    let start = Instant::now();
    let Run { window, views, resources, compact, progress, .. } = work;
    let chosen = chosen_views(definitions, views)?;
    let mut run = Materialize::new(origin, definitions, now());
    run.threads = resources.threads;
    run.memory = resources.memory;
    run.temp_folder = resources.temp_folder.as_deref();
    run.compact = compact;
    let area = run.staging();
    let mut state = run.state().await?;
    // Views that are gone are not known any more.
    state.views.retain(|view, _| definitions.feature_view(view).is_some());
    let transforms = transforms::for_jobs(context, definitions).await?;
    let transforms = transforms.map(|carried| Arc::new(carried) as Arc<dyn RunTransforms + Send + Sync>);
    let mut rows = Vec::new();
    let mut done = Vec::new();
    for view in chosen {
        progress.say(format!("reading the newest rows of {}", view.name));
        let (newest, staged) = fold(context, definitions, view, work, &area, &state, transforms.as_ref()).await?;
        note_folded(&mut state, view, window, &newest);
        let read = || newest.files.iter().filter(|file| file.read);
        done.push(ViewDone {
            view: view.name.clone(),
            rows: newest.report.rows,
            passes: newest.report.passes,
            spilled: staged.iter().map(StagedRows::spilled_bytes).sum(),
            files_read: read().count(),
            files_known: newest.files.len() - read().count(),
            bytes_read: read().map(|file| file.size).sum(),
        });
        rows.extend(staged);
    }
    progress.say("writing the snapshot");
    let report = run.run_staged(rows, &state).await?;
    Ok(Done { report, views: done, elapsed: start.elapsed() })
}

fn chosen_views<'a>(definitions: &'a Definitions, names: &[String]) -> Outcome<Vec<&'a FeatureView>> {
    let online: Vec<&FeatureView> = definitions.feature_views.iter().filter(|view| definitions.is_materialized(view)).collect();
    if names.is_empty() {
        if online.is_empty() {
            return Err(Failure::input("no feature view is online").hint("a view is, unless it says `online: false`"));
        }
        return Ok(online);
    }
    names
        .iter()
        .map(|name| {
            let written = definitions.on_demand_feature_view(name).and_then(|view| definitions.written_from(view));
            let found = online.iter().find(|view| view.name == *name).copied();
            found.or(written).ok_or_else(|| {
                let known: Vec<&str> = online.iter().map(|view| view.name.as_str()).collect();
                Failure::input(format!("no online feature view is called `{name}`"))
                    .hint(format!("there are {}", known.join(", ")))
            })
        })
        .collect()
}

async fn fold(
    context: &Context,
    definitions: &Definitions,
    view: &FeatureView,
    work: Run<'_>,
    area: &StagingArea,
    state: &BuildState,
    transforms: Option<&Arc<dyn RunTransforms + Send + Sync>>,
) -> Outcome<(NewestRows, Vec<StagedRows>)> {
    let (start, end) = match work.window {
        Window::Between(start, end) => (Some(start), end),
        Window::Upto(end) => (None, end),
    };
    let needed = |file: &str, digest: &mezze_offline::FileDigest| match work.window {
        Window::Between(..) => true,
        Window::Upto(end) => state.needs(&view.name, file, digest.as_str(), end.nanos()),
    };
    let Resources { threads, memory, .. } = *work.resources;
    // Beside the keys, rows are decoded and wait to be built.
    let options = NewestOptions { start, end, threads, memory: memory.map(|memory| memory / 8 * 3) };
    // What is computed from a view's rows waits beside them, in the memory that is for one.
    let together = usize::from(view.online) + definitions.written_with(view).count();
    let stage =
        |view: &str| area.stage(view, together).ok_or_else(|| Failure::input(format!("feature view `{view}` has no table")));
    let written = definitions
        .written_with(view)
        .map(|written| Ok((WrittenView::new(definitions, written, transforms.cloned())?, stage(&written.name)?)));
    let sink = Arc::new(Sink {
        own: if view.online { Some(stage(&view.name)?) } else { None },
        written: written.collect::<Outcome<_>>()?,
        failed: Mutex::new(None),
    });
    let taker = Arc::clone(&sink) as Arc<dyn RowSink>;
    let newest = newest_rows(&context.repo, definitions, view, &needed, options, work.workers, taker).await;
    // Why rows were refused says more than that the reading was ended.
    if let Some(failed) = sink.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(failed.into());
    }
    let staged = sink.own.iter().chain(sink.written.iter().map(|(_, staging)| staging)).map(Staging::finish);
    let staged = staged.collect::<Result<Vec<_>, _>>()?;
    Ok((newest?, staged))
}

/// Hands newest rows on to where they wait: the view's own, and what is computed from them.
struct Sink {
    own: Option<Staging>,
    written: Vec<(WrittenView, Staging)>,
    failed: Mutex<Option<OfflineError>>,
}

impl RowSink for Sink {
    fn take(&self, _: usize, batch: RecordBatch) -> bool {
        let own = self.own.as_ref().is_none_or(|staging| staging.push(&batch));
        own && self.written.iter().all(|(view, staging)| match view.rows(&batch) {
            Ok(rows) => staging.push(&rows),
            Err(error) => {
                self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                false
            }
        })
    }
}

/// Notes which rows of which files are folded now.
fn note_folded(state: &mut BuildState, view: &FeatureView, window: Window, newest: &NewestRows) {
    let ledger = state.views.entry(view.name.clone()).or_default();
    let (from, until) = match window {
        Window::Between(start, end) => (start.nanos(), end.nanos()),
        Window::Upto(end) => (i64::MIN, end.nanos()),
    };
    // A file that is gone leaves its rows, but says nothing any more.
    ledger.files.retain(|name, _| newest.files.iter().any(|file| file.name == *name));
    for file in newest.files.iter().filter(|file| file.read) {
        let digest = file.digest.as_str().to_owned();
        let known = ledger.files.get(&file.name).filter(|known| known.digest == digest);
        // A window that touches what was folded before makes one of both.
        let folded = match known {
            Some(known) if known.from_nanos <= until && from <= known.until_nanos => {
                FoldedFile { digest, from_nanos: known.from_nanos.min(from), until_nanos: known.until_nanos.max(until) }
            }
            _ => FoldedFile { digest, from_nanos: from, until_nanos: until },
        };
        ledger.files.insert(file.name.clone(), folded);
    }
}

pub(crate) fn forget(args: &ForgetArgs, global: &Global, output: Output) -> Outcome {
    let context = Context::load(global, output)?;
    let mut key = BTreeMap::new();
    for (name, value) in pairs(&args.entity)? {
        if key.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(Failure::input(format!("the join key `{name}` is there twice"))
                .hint("one entity at a time: give each join key of a table once"));
        }
    }
    block_on(None, async {
        let definitions = context.applied().await?.definitions;
        let origin = context.origin()?;
        // Without a snapshot there is nothing to forget.
        origin.require_latest().await?;
        let mut run = Materialize::new(&origin, &definitions, now());
        run.compact = args.compact;
        let report = run.forget(&key).await?;
        let shown: Vec<String> = key.iter().map(|(name, value)| format!("{name}={value}")).collect();
        output.result(
            || json!({ "entity": key, "epoch": report.record.as_ref().map(|record| record.epoch) }),
            || match &report.record {
                Some(record) => format!(
                    "forgot {}: epoch {} does not have it; `mezze prune` says when its rows are gone from every place\n",
                    shown.join(", "),
                    record.epoch
                ),
                None => format!("{} was forgotten already\n", shown.join(", ")),
            },
        )
    })
}

impl Done {
    pub(crate) fn json(&self) -> Json {
        let views: Vec<Json> = self
            .views
            .iter()
            .map(|view| {
                json!({
                    "view": view.view, "rows": view.rows, "files_read": view.files_read, "files_unchanged": view.files_known,
                    "bytes_read": view.bytes_read, "passes": view.passes, "spilled_bytes": view.spilled,
                })
            })
            .collect();
        let tables: Vec<Json> = self
            .report
            .tables
            .iter()
            .map(|table| {
                json!({
                    "table": table.table, "entities": table.entities, "rows_taken": table.rows_taken,
                    "rows_stale": table.rows_stale, "pages_written": table.pages_written,
                    "bytes_written": table.bytes_written, "delta_rows": table.delta_rows, "rebuilt": table.rebuilt,
                    "parts": table.parts,
                })
            })
            .collect();
        json!({
            "epoch": self.report.record.as_ref().map(|record| record.epoch),
            "snapshot": self.report.snapshot.map(|snapshot| snapshot.to_string()),
            "changed": self.report.record.is_some(), "seconds": self.elapsed.as_secs_f64(),
            "peak_memory_bytes": peak_memory(), "views": views, "tables": tables,
        })
    }

    pub(crate) fn text(&self, output: Output) -> String {
        let mut text = String::new();
        for view in &self.views {
            let unchanged = if view.files_known > 0 {
                format!(", {} unchanged files not read", count(view.files_known as u64))
            } else {
                String::new()
            };
            text.push_str(&format!(
                "{}: {} entities in {} files ({}){unchanged}\n",
                view.view,
                count(view.rows),
                count(view.files_read as u64),
                size(view.bytes_read)
            ));
        }
        let mut table = Table::new(&["table", "entities#", "taken#", "older#", "pages written#", "bytes#", "delta rows#"]);
        for report in &self.report.tables {
            table.row([
                if report.table.is_empty() { "(no key)".into() } else { report.table.clone() },
                count(report.entities),
                count(report.rows_taken),
                count(report.rows_stale),
                count(report.pages_written),
                size(report.bytes_written),
                count(report.delta_rows),
            ]);
        }
        text.push_str(&table.render(output));
        let snapshot = self.report.snapshot.map(|snapshot| snapshot.to_string()).unwrap_or_default();
        match &self.report.record {
            Some(record) => {
                text.push_str(&format!("epoch {}: snapshot {snapshot}, in {}\n", record.epoch, duration(self.elapsed)))
            }
            None => text.push_str(&format!("nothing has changed: snapshot {snapshot} is current\n")),
        }
        text
    }
}

impl From<SnapshotError> for Failure {
    fn from(error: SnapshotError) -> Self {
        if let SnapshotError::Origin(error) = error {
            return error.into();
        }
        let exit = if error.is_limit() {
            Exit::Limit
        } else if error.is_input() {
            Exit::Input
        } else {
            Exit::Failed
        };
        Self::of(exit, &error)
    }
}
