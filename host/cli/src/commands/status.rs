//! `mezze status`

use std::time::Duration;

use mezze_core::{Head, Timestamp};
use mezze_replica::{HostState, Origin, Publish, PublishPlan, Replica, SystemClock, Target, read_head};
use serde_json::{Value as Json, json};

use crate::args::{Global, StatusArgs};
use crate::commands::publish::{Lag, lags};
use crate::context::{Context, block_on, now, show_instant};
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Output, Table, count, duration, size};

/// What one place serves.
struct Served {
    name: String,
    place: String,
    head: Result<Option<Head>, String>,
    pinned: bool,
}

pub(crate) fn status(args: &StatusArgs, global: &Global, output: Output) -> Outcome {
    let context = Context::load(global, output)?;
    if !args.to.is_empty() {
        return block_on(None, close(&context, &args.to));
    }
    block_on(None, async {
        let origin = context.origin()?;
        let head = read_head(origin.store()).await.map_err(|error| error.to_string());
        let mut served = vec![Served { name: "origin".to_owned(), place: origin.store().place(), head, pinned: false }];
        for name in context.config.replicas.keys() {
            let (place, head) = match context.replica(name) {
                Ok(replica) => {
                    (replica.target.place(), served_by(&replica.target).await.map_err(|failure| failure.message().to_owned()))
                }
                Err(failure) => (context.replica_config(name)?.kind.name().to_owned(), Err(failure.message().to_owned())),
            };
            let pinned = origin.pin(name).await?.is_some();
            served.push(Served { name: name.clone(), place, head, pinned });
        }
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

async fn served_by(target: &Target) -> Outcome<Option<Head>> {
    let Some(bytes) = target.read_head(&SystemClock).await? else { return Ok(None) };
    let head = Head::decode(&bytes);
    head.map(Some).map_err(|error| Failure::new(Exit::Failed, format!("its head is damaged: {error}")))
}

/// A close look at one replica.
struct Close {
    replica: Replica,
    head: Option<Head>,
    pinned: Option<u64>,
    published_at: Option<Timestamp>,
    /// How its keys differ from the origin's; a folder's are not compared.
    plan: Option<PublishPlan>,
    host: Option<String>,
    lags: Vec<Lag>,
}

async fn close(context: &Context, names: &[String]) -> Outcome {
    let output = context.output;
    let origin = context.origin()?;
    let latest = origin.require_latest().await?;
    let mut looks = Vec::new();
    for name in names {
        let replica = context.replica(name)?;
        let head = served_by(&replica.target).await?;
        let record = origin.publish_record(name).await?;
        let published_at = record.as_ref().map(|record| record.published_at);
        let plan = match &replica.target {
            Target::Keys(_) => Some(Publish::to(&replica, "status", &SystemClock).plan(&origin).await?),
            Target::Folder(_) => None,
        };
        let served = record.and_then(|record| record.snapshots.first().copied());
        let lags = match (served, published_at) {
            (Some(snapshot), Some(at)) => lags(context, &origin.manifest(snapshot).await?, at),
            _ => Vec::new(),
        };
        let host = match context.host(name)? {
            None => None,
            Some(host) => Some(match host.state().await {
                Ok(HostState::Serving(info)) => {
                    format!("{} serves epoch {}, {} old", host.url(), info.epoch, age(info.age_seconds))
                }
                Ok(HostState::Empty(said)) => format!("{} serves nothing: {said}", host.url()),
                Err(error) => error.to_string(),
            }),
        };
        let pinned = origin.pin(name).await?.map(|pin| pin.epoch);
        looks.push(Close { replica, head, pinned, published_at, plan, host, lags });
    }
    let now = now();
    output.result(
        || json!({ "newest_epoch": latest.epoch, "replicas": looks.iter().map(|look| close_json(look, latest.epoch, now)).collect::<Vec<_>>() }),
        || looks.iter().map(|look| close_text(look, latest.epoch, now, output)).collect::<Vec<_>>().join("\n"),
    )
}

fn close_json(look: &Close, newest: u64, now: Timestamp) -> Json {
    let lags: Vec<Json> = look
        .lags
        .iter()
        .map(|lag| json!({
            "view": lag.view, "lag_seconds": lag.seconds, "available_after_seconds": lag.declared.seconds(), "late": lag.is_late(),
        }))
        .collect();
    json!({
        "name": look.replica.name, "place": look.replica.target.place(),
        "epoch": look.head.as_ref().map(|head| head.epoch),
        "snapshot": look.head.as_ref().map(|head| head.snapshot.to_string()),
        "age_seconds": look.head.as_ref().map(|head| now.since(head.issued_at).seconds()),
        "epochs_behind": look.head.as_ref().map(|head| newest.saturating_sub(head.epoch)),
        "pinned_to_epoch": look.pinned, "published_at": look.published_at.map(show_instant),
        "keys": look.plan.as_ref().map(|plan| plan.keys), "keys_to_write": look.plan.as_ref().map(|plan| plan.writes.len()),
        "host": look.host, "views": lags,
    })
}

fn close_text(look: &Close, newest: u64, now: Timestamp, output: Output) -> String {
    let mut text = format!("{} ({})\n", look.replica.name, look.replica.target.place());
    match &look.head {
        None => text.push_str("  serves nothing yet\n"),
        Some(head) => {
            let behind = newest.saturating_sub(head.epoch);
            text.push_str(&format!(
                "  serves epoch {} (snapshot {}), {} old, {}\n",
                head.epoch,
                head.snapshot,
                age(now.since(head.issued_at).seconds()),
                if behind == 0 { "the newest".to_owned() } else { format!("{behind} epochs behind the origin") },
            ));
        }
    }
    if let Some(epoch) = look.pinned {
        text.push_str(&format!("  pinned to epoch {epoch}\n"));
    }
    if let Some(plan) = &look.plan {
        let missing = plan.writes.len() as u64;
        text.push_str(&format!(
            "  {} of the {} keys of the newest snapshot are there; {} to write ({})\n",
            count(plan.keys - missing),
            count(plan.keys),
            count(missing),
            size(plan.write_bytes)
        ));
    }
    if let Some(host) = &look.host {
        text.push_str(&format!("  host: {host}\n"));
    }
    if !look.lags.is_empty() {
        let mut views = Table::new(&["view", "newest row served after", "declared"]);
        for lag in &look.lags {
            let declared = if lag.declared.nanos() == 0 { "-".to_owned() } else { lag.declared.to_string() };
            let late = if lag.is_late() { " (late)" } else { "" };
            views.row([lag.view.clone(), age(lag.seconds), format!("{declared}{late}")]);
        }
        text.push_str(&views.render(output));
    }
    text
}

fn age(seconds: i64) -> String {
    duration(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
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
            "epochs_behind": newest.map(|newest| newest.saturating_sub(head.epoch)), "pinned": served.pinned,
        }),
        Ok(None) => json!({ "name": served.name, "place": served.place, "epoch": null }),
        Err(error) => json!({ "name": served.name, "place": served.place, "error": error }),
    }
}

fn place_row(served: &Served, newest: Option<u64>, now: Timestamp) -> [String; 6] {
    let name = format!("{} ({})", served.name, served.place);
    match &served.head {
        Ok(Some(head)) => {
            let age = Duration::from_nanos(u64::try_from(now.since(head.issued_at).nanos()).unwrap_or(0));
            let behind = newest.map_or(0, |newest| newest.saturating_sub(head.epoch));
            let behind = match behind {
                _ if served.pinned => "pinned".into(),
                0 => "-".into(),
                behind => behind.to_string(),
            };
            let issued_at = show_instant(head.issued_at);
            [name, head.epoch.to_string(), behind, head.snapshot.to_string(), issued_at, duration(age)]
        }
        Ok(None) => [name, "-".into(), "-".into(), "no snapshot yet".into(), String::new(), String::new()],
        Err(error) => [name, "-".into(), "-".into(), error.clone(), String::new(), String::new()],
    }
}
