//! `mezze get-historical-features`

use std::path::PathBuf;
use std::sync::Arc;

use mezze_core::RunTransforms;
use mezze_offline::{
    EntitySource, FeatureSelection, HistoricalRequest, PhaseReport, Progress as Step, Summary, get_historical_features,
};
use serde_json::{Value as Json, json};

use crate::args::{Global, HistoricalArgs, ResourceArgs};
use crate::bytes::{ByteSize, half_of_memory, peak_memory};
use crate::commands::cluster::with_engine;
use crate::context::{Context, block_on};
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Output, Table, count, duration, size};
use crate::progress::Progress;
use crate::transforms;

pub(crate) fn run(args: &HistoricalArgs, global: &Global, output: Output) -> Outcome {
    let entity_rows = match (&args.entities, &args.entities_sql, args.start, args.end) {
        (Some(path), None, None, None) => EntitySource::File(path.clone()),
        (None, Some(query), None, None) => EntitySource::Sql(query.clone()),
        (None, None, Some(start), Some(end)) if start <= end => EntitySource::Range { start, end },
        (None, None, Some(_), Some(_)) => return Err(Failure::input("--start is later than --end")),
        _ => {
            return Err(Failure::input("entity rows are missing")
                .hint("give --entities FILE, --entities-sql QUERY, or --start and --end for every entity as of the end"));
        }
    };
    let context = Context::load(global, output)?;
    let selection = match &args.selection.service {
        Some(service) => FeatureSelection::Service(service.clone()),
        None => FeatureSelection::Features(args.selection.features.clone()),
    };
    let resources = Resources::of(&args.resources)?;
    let threads = resources.threads;
    let progress = Progress::new(output);
    let line = progress.clone();
    let mut request = HistoricalRequest {
        workers: None,
        transforms: None,
        entity_rows,
        selection,
        full_feature_names: args.selection.full_feature_names,
        filter_by_created_timestamp: args.filter_by_created_timestamp,
        threads,
        memory: resources.memory,
        explain: args.explain,
        // Paths of an argument are relative to where the command runs, not to the repository.
        folder: PathBuf::from("."),
        output: args.out.clone(),
        format: None,
        progress: Some(Arc::new(move |step| match step {
            Step::Preparing { view } => line.say(format!("looking at the source of {view}")),
            Step::Joining { bytes } => line.say(format!("joining {} of sources", size(bytes))),
            Step::Written { rows } => line.rows("written", rows),
            _ => {}
        })),
    };
    let summary = block_on(Some(threads), async {
        let definitions = context.applied().await?.definitions;
        let carried = transforms::for_jobs(&context, &definitions).await?;
        request.transforms = carried.map(|carried| Arc::new(carried) as Arc<dyn RunTransforms + Send + Sync>);
        with_engine(&args.engine, &progress, output, async |workers| {
            request.workers = workers;
            Ok(get_historical_features(&context.repo, &definitions, request).await?)
        })
        .await
    })?;
    drop(progress);
    let explain = args.explain;
    output.result(
        || summary_json(&summary),
        || {
            let mut text = summary_text(&summary);
            if explain {
                text.push_str(&explained(&summary, output));
            }
            text
        },
    )
}

fn phase_json(phase: &PhaseReport) -> Json {
    json!({
        "phase": phase.name, "rows": phase.rows, "bytes_read": phase.bytes_read, "rows_pruned": phase.rows_pruned,
        "bytes_pruned": phase.bytes_pruned, "cpu_seconds": phase.cpu.as_secs_f64(),
        "bare_decode_seconds": phase.bare.map(|bare| bare.as_secs_f64()),
    })
}

/// What was done, phase by phase.
fn explained(summary: &Summary, output: Output) -> String {
    let mut text = summary.plan.clone();
    let mut table = Table::new(&["phase", "rows#", "read#", "rows pruned#", "pruned#", "CPU#", "bare decode#"]);
    let milliseconds = |time: std::time::Duration| format!("{:.1} ms", time.as_secs_f64() * 1000.0);
    let bytes = |bytes: u64| if bytes == 0 { String::new() } else { size(bytes) };
    let rows = |rows: u64| if rows == 0 { String::new() } else { count(rows) };
    for phase in &summary.phases {
        table.row([
            phase.name.to_owned(),
            rows(phase.rows),
            bytes(phase.bytes_read),
            rows(phase.rows_pruned),
            bytes(phase.bytes_pruned),
            milliseconds(phase.cpu),
            phase.bare.map(milliseconds).unwrap_or_default(),
        ]);
    }
    text.push_str(&table.render(output));
    let bare: f64 = summary.phases.iter().filter_map(|phase| phase.bare).map(|bare| bare.as_secs_f64()).sum();
    let all: f64 = summary.phases.iter().map(|phase| phase.cpu.as_secs_f64()).sum();
    if bare > 0.0 {
        text.push_str(&format!("the whole took {:.2} times the CPU of decoding the same columns and no more\n", all / bare));
    }
    let times = if summary.chunks == 1 { "once".to_owned() } else { format!("{} times", count(summary.chunks)) };
    text.push_str(&format!("entity rows filled their memory {times}; {} written to temporary files\n", size(summary.spilled)));
    text
}

fn summary_json(summary: &Summary) -> Json {
    let views: Vec<Json> = summary.views.iter().map(|view| json!({ "view": view.view, "matched": view.matched })).collect();
    json!({
        "out": summary.output.to_string_lossy(), "rows": summary.rows, "bytes": summary.bytes,
        "seconds": summary.elapsed.as_secs_f64(), "peak_memory_bytes": peak_memory(), "views": views, "chunks": summary.chunks,
        "spilled_bytes": summary.spilled,
        "phases": summary.phases.iter().map(phase_json).collect::<Vec<_>>(),
    })
}

pub(crate) fn summary_text(summary: &Summary) -> String {
    let mut text = format!(
        "wrote {} rows to {} ({}) in {}\n",
        count(summary.rows),
        summary.output.display(),
        size(summary.bytes),
        duration(summary.elapsed)
    );
    for view in &summary.views {
        let part = if summary.rows == 0 { 0.0 } else { view.matched as f64 * 100.0 / summary.rows as f64 };
        text.push_str(&format!("  {}: {} rows have values ({part:.1} %)\n", view.view, count(view.matched)));
    }
    text
}

pub(crate) fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What a run may take of the machine.
#[derive(Clone, Debug)]
pub(crate) struct Resources {
    pub(crate) threads: usize,
    pub(crate) memory: Option<usize>,
    pub(crate) temp_folder: Option<PathBuf>,
}

/// With less, hardly anything but the process itself fits.
const MEMORY_MIN: u64 = 64 << 20;

impl Resources {
    /// All cores, and as much memory as is needed.
    pub(crate) fn all() -> Self {
        Self { threads: default_threads(), memory: None, temp_folder: None }
    }

    /// Checks them, and makes temporary files go where they shall.
    pub(crate) fn of(args: &ResourceArgs) -> Outcome<Self> {
        if let Some(folder) = &args.temp_folder {
            if !folder.is_dir() {
                return Err(Failure::input(format!("{} is not a folder", folder.display()))
                    .hint("--temp-folder names one that is there, on a disk with room for temporary files"));
            }
            mezze_offline::set_temp_folder(folder.clone());
        }
        let memory = match args.memory {
            Some(ByteSize(bytes)) if bytes < MEMORY_MIN => {
                return Err(Failure::input(format!("--memory {} is too little", ByteSize(bytes))).hint("give at least 64MiB"));
            }
            Some(ByteSize(bytes)) => Some(bytes),
            None => half_of_memory(),
        };
        Ok(Self {
            threads: args.threads.map_or_else(default_threads, usize::from),
            memory: memory.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
            temp_folder: args.temp_folder.clone(),
        })
    }
}

impl From<mezze_offline::OfflineError> for Failure {
    fn from(error: mezze_offline::OfflineError) -> Self {
        let exit = if error.is_input() { Exit::Input } else { Exit::Failed };
        Self::of(exit, &error)
    }
}
