//! `mezze get-historical-features`

use std::path::PathBuf;

use mezze_offline::{EntitySource, FeatureSelection, HistoricalRequest, Progress as Step, Summary, get_historical_features};
use serde_json::{Value as Json, json};

use crate::args::{Global, HistoricalArgs};
use crate::context::{Context, block_on};
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Output, count, duration, size};
use crate::progress::Progress;

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
    let threads = args.threads.map_or_else(default_threads, usize::from);
    let progress = Progress::new(output);
    let line = progress.clone();
    let request = HistoricalRequest {
        entity_rows,
        selection,
        full_feature_names: args.selection.full_feature_names,
        filter_by_created_timestamp: args.filter_by_created_timestamp,
        threads,
        memory: None,
        // Paths of an argument are relative to where the command runs, not to the repository.
        folder: PathBuf::from("."),
        output: args.out.clone(),
        format: None,
        progress: Some(Box::new(move |step| match step {
            Step::Preparing { view } => line.say(format!("looking at the source of {view}")),
            Step::Joining { bytes } => line.say(format!("joining {} of sources", size(bytes))),
            Step::Written { rows } => line.rows("written", rows),
            _ => {}
        })),
    };
    let summary = block_on(Some(threads), async {
        let definitions = context.applied().await?.definitions;
        Ok(get_historical_features(&context.repo, &definitions, request).await?)
    })?;
    drop(progress);
    output.result(|| summary_json(&summary), || summary_text(&summary))
}

fn summary_json(summary: &Summary) -> Json {
    let views: Vec<Json> = summary.views.iter().map(|view| json!({ "view": view.view, "matched": view.matched })).collect();
    json!({
        "out": summary.output.to_string_lossy(), "rows": summary.rows, "bytes": summary.bytes,
        "seconds": summary.elapsed.as_secs_f64(), "views": views,
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

impl From<mezze_offline::OfflineError> for Failure {
    fn from(error: mezze_offline::OfflineError) -> Self {
        let exit = if error.is_input() { Exit::Input } else { Exit::Failed };
        Self::of(exit, &error)
    }
}
