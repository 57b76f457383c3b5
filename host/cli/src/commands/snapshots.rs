//! `mezze status`, `publish`, `rollback`, `prune`, `forget`

use std::time::Duration;

use mezze_core::{Span, Timestamp};
use mezze_replica::{Origin, Prune, PruneMode, Publish, read_head};
use serde_json::{Value as Json, json};

use crate::args::{Global, PruneArgs, PublishArgs, RollbackArgs};
use crate::context::{Context, block_on, holder, now, show_instant};
use crate::failure::{Failure, Outcome};
use crate::output::{Output, Table, count, duration, size};

/// What one place serves.
struct Served {
    name: String,
    place: String,
    head: Result<Option<mezze_core::Head>, mezze_replica::Error>,
}

pub(crate) fn status(global: &Global, output: Output) -> Outcome {
    let context = Context::load(global, output)?;
    block_on(None, async {
        let mut places = vec![("origin".to_owned(), context.store(None)?)];
        places.extend(context.replicas()?);
        let mut served = Vec::new();
        for (name, store) in places {
            served.push(Served { name, place: store.place(), head: read_head(&store).await });
        }
        let origin = context.origin()?;
        let tables = tables_of(&origin).await?;
        let newest = served.first().and_then(|origin| Some(origin.head.as_ref().ok()?.as_ref()?.epoch));
        let now = now();
        output.result(
            || {
                let places: Vec<Json> = served.iter().map(|served| place_json(served, newest, now)).collect();
                json!({ "places": places, "tables": tables.iter().map(table_json).collect::<Vec<_>>() })
            },
            || {
                let mut text = Table::new(&["place", "epoch#", "behind#", "snapshot", "made", "age"]);
                for served in &served {
                    text.row(place_row(served, newest, now));
                }
                let mut text = text.render(output);
                if !tables.is_empty() {
                    let mut views = Table::new(&["table", "view", "newest event", "rows#", "delta rows#", "pages#", "bytes#"]);
                    for table in &tables {
                        for (view, watermark) in &table.views {
                            views.row([
                                table.name.clone(),
                                view.clone(),
                                watermark.map_or_else(|| "no rows".into(), show_instant),
                                count(table.base_rows),
                                count(table.delta_rows),
                                count(table.pages),
                                size(table.bytes),
                            ]);
                        }
                    }
                    text.push('\n');
                    text.push_str(&views.render(output));
                }
                text
            },
        )
    })
}

struct TableStatus {
    name: String,
    views: Vec<(String, Option<Timestamp>)>,
    base_rows: u64,
    delta_rows: u64,
    pages: u64,
    bytes: u64,
}

async fn tables_of(origin: &Origin) -> Outcome<Vec<TableStatus>> {
    let Some(latest) = origin.latest().await? else { return Ok(Vec::new()) };
    let manifest = origin.manifest(latest.snapshot).await?;
    Ok(manifest
        .tables
        .iter()
        .map(|table| {
            let segments = || table.base.iter().chain(&table.delta);
            let watermark = |at: &Timestamp| (*at != Timestamp::MIN).then_some(*at);
            TableStatus {
                name: if table.schema.name.is_empty() { "(no key)".into() } else { table.schema.name.clone() },
                views: table
                    .schema
                    .views
                    .iter()
                    .zip(&table.watermarks)
                    .map(|(view, at)| (view.name.clone(), watermark(at)))
                    .collect(),
                base_rows: table.base.as_ref().map_or_else(|| u64::from(table.inline.is_some()), |segment| segment.row_count),
                delta_rows: table.delta.as_ref().map_or(0, |segment| segment.row_count),
                pages: segments().map(|segment| u64::from(segment.bucket_count)).sum(),
                bytes: segments().map(|segment| segment.page_bytes).sum(),
            }
        })
        .collect())
}

fn table_json(table: &TableStatus) -> Json {
    let views: Vec<Json> = table
        .views
        .iter()
        .map(|(view, watermark)| json!({ "view": view, "newest_event": watermark.map(show_instant) }))
        .collect();
    json!({
        "table": table.name, "views": views, "base_rows": table.base_rows, "delta_rows": table.delta_rows,
        "pages": table.pages, "bytes": table.bytes,
    })
}

fn place_json(served: &Served, newest: Option<u64>, now: Timestamp) -> Json {
    match &served.head {
        Ok(Some(head)) => json!({
            "name": served.name, "place": served.place, "epoch": head.epoch, "snapshot": head.snapshot.to_string(),
            "issued_at": show_instant(head.issued_at), "age_seconds": now.since(head.issued_at).seconds(),
            "epochs_behind": newest.map(|newest| newest.saturating_sub(head.epoch)),
        }),
        Ok(None) => json!({ "name": served.name, "place": served.place, "epoch": null }),
        Err(error) => json!({ "name": served.name, "place": served.place, "error": error.to_string() }),
    }
}

fn place_row(served: &Served, newest: Option<u64>, now: Timestamp) -> [String; 6] {
    let name = format!("{} ({})", served.name, served.place);
    match &served.head {
        Ok(Some(head)) => {
            let age = Duration::from_nanos(u64::try_from(now.since(head.issued_at).nanos()).unwrap_or(0));
            let behind = newest.map_or(0, |newest| newest.saturating_sub(head.epoch));
            let behind = if behind == 0 { "-".into() } else { behind.to_string() };
            let issued_at = show_instant(head.issued_at);
            [name, head.epoch.to_string(), behind, head.snapshot.to_string(), issued_at, duration(age)]
        }
        Ok(None) => [name, "-".into(), "-".into(), "no snapshot yet".into(), String::new(), String::new()],
        Err(error) => [name, "-".into(), "-".into(), error.to_string(), String::new(), String::new()],
    }
}

pub(crate) fn publish(args: &PublishArgs, global: &Global, output: Output) -> Outcome {
    let context = Context::load(global, output)?;
    block_on(None, async {
        let target = context.store(Some(&args.to))?;
        let holder = holder();
        let publish = Publish { replica: &args.to, target: &target, holder: &holder, lease: LEASE };
        let report = publish.run(&context.origin()?, &now).await?;
        let snapshot = report.record.snapshots.first().map(ToString::to_string).unwrap_or_default();
        output.result(
            || {
                json!({
                    "replica": args.to, "place": target.place(), "epoch": report.record.epoch, "snapshot": snapshot,
                    "epoch_before": report.epoch_before, "objects_written": report.objects_written,
                    "objects_present": report.objects_present, "bytes_written": report.bytes_written,
                })
            },
            || {
                format!(
                    "published epoch {} (snapshot {snapshot}) to {}: {} objects written ({}), {} there already\n",
                    report.record.epoch,
                    target.place(),
                    report.objects_written,
                    size(report.bytes_written),
                    report.objects_present,
                )
            },
        )
    })
}

pub(crate) fn rollback(args: &RollbackArgs, global: &Global, output: Output) -> Outcome {
    let context = Context::load(global, output)?;
    block_on(None, async {
        let record = context.origin()?.rollback(args.to_epoch, now()).await?;
        let content = record.parent.unwrap_or(record.epoch);
        output.result(
            || json!({ "epoch": record.epoch, "content_of_epoch": content, "snapshot": record.snapshot.to_string() }),
            || format!("epoch {} has the content of epoch {content}: snapshot {}\n", record.epoch, record.snapshot),
        )
    })
}

pub(crate) fn prune(args: &PruneArgs, global: &Global, output: Output) -> Outcome {
    let context = Context::load(global, output)?;
    block_on(None, async {
        let replicas = context.replicas()?;
        let holder = holder();
        let mut prune = Prune::new(now(), &holder);
        prune.epochs_kept = usize::try_from(args.keep).unwrap_or(usize::MAX);
        prune.mode = if args.dry_run { PruneMode::DryRun } else { PruneMode::Remove };
        prune.replicas = &replicas;
        let report = prune.run(&context.origin()?).await?;
        output.result(
            || {
                let removed: Vec<Json> = report
                    .removed
                    .iter()
                    .map(|(place, object)| json!({ "place": place, "key": object.key, "bytes": object.size }))
                    .collect();
                let forgets: Vec<Json> = report
                    .forgets
                    .iter()
                    .map(|forget| {
                        let remaining: Vec<String> =
                            forget.remaining.iter().map(|(place, segment)| format!("{place}: {segment}")).collect();
                        json!({ "epoch": forget.epoch, "entities": forget.entity_count, "remaining": remaining })
                    })
                    .collect();
                json!({
                    "dry_run": args.dry_run, "removed": removed, "bytes_removed": report.bytes_removed,
                    "segment_bytes_kept": report.segment_bytes_kept, "forgets": forgets,
                })
            },
            || {
                let done = if args.dry_run { "would remove" } else { "removed" };
                let mut text = format!(
                    "{done} {} objects ({}); segments kept: {}\n",
                    count(report.removed.len() as u64),
                    size(report.bytes_removed),
                    size(report.segment_bytes_kept)
                );
                for forget in &report.forgets {
                    let what = format!("{} entities forgotten in epoch {}", count(forget.entity_count), forget.epoch);
                    text.push_str(&if forget.remaining.is_empty() {
                        format!("{what}: gone from every place\n")
                    } else {
                        let places: Vec<String> =
                            forget.remaining.iter().map(|(place, segment)| format!("{place} (segment {segment})")).collect();
                        format!("{what}: rows may still be in {}\n", places.join(", "))
                    });
                }
                text
            },
        )
    })
}

/// The names and values of `NAME=VALUE` arguments.
pub(crate) fn pairs(arguments: &[String]) -> Outcome<Vec<(&str, &str)>> {
    arguments
        .iter()
        .map(|argument| {
            argument.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(|| {
                Failure::input(format!("`--entity {argument}` is not of the form NAME=VALUE"))
                    .hint("for example --entity zipcode=76104")
            })
        })
        .collect()
}

/// How long a publish holds its replica if it is not heard of any more.
const LEASE: Span = Span::from_seconds(60);
