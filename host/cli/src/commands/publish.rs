//! `mezze publish`, `rollback`, `pin`

use std::sync::Arc;
use std::time::{Duration, Instant};

use mezze_core::Span;
use mezze_replica::{
    Clock as _, Host, HostState, Origin, Pin, Publish, PublishPlan, PublishReport, Reader, Replica, Signer, Stage, SystemClock,
};
use serde_json::{Value as Json, json};

use crate::args::{Global, PinArgs, PublishArgs, RollbackArgs};
use crate::commands::online::{CACHE_BYTES, answer};
use crate::context::{Context, block_on, holder, now};
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Output, count, duration, size};
use crate::progress::Progress;

pub(crate) fn publish(args: &PublishArgs, global: &Global, output: Output) -> Outcome {
    let context = Context::load(global, output)?;
    let replicas: Vec<Replica> = args.to.iter().map(|name| context.replica(name)).collect::<Outcome<_>>()?;
    refuse_private_origin(&context, args)?;
    let signer = context.signer()?;
    let mut hosts = Vec::new();
    for name in &args.to {
        hosts.push(if args.skip_host_check { None } else { context.host(name)? });
    }
    block_on(None, async {
        let run = Run { context: &context, origin: context.origin()?, holder: holder(), signer: signer.as_ref(), args };
        if args.dry_run {
            return run.dry_run(&replicas, &hosts).await;
        }
        let Some(seconds) = args.watch else { return run.publish_all(&replicas, &hosts).await };
        run.watch(&replicas, &hosts, Duration::from_secs(seconds)).await
    })
}

/// In CI, every run has a folder of its own: epochs from there would name other contents than those of the run before.
fn refuse_private_origin(context: &Context, args: &PublishArgs) -> Outcome {
    let in_ci = std::env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"));
    let is_folder = !context.config.online_store.contains("://");
    let goes_out = |name: &String| {
        context.config.replicas.get(name).is_some_and(|replica| match &replica.kind {
            mezze_model::ReplicaKind::Directory { path } => path.contains("://"),
            _ => true,
        })
    };
    if !in_ci || !is_folder || args.shared_folder || args.dry_run || !args.to.iter().any(goes_out) {
        return Ok(());
    }
    Err(Failure::input(format!(
        "the origin {} is a folder of this machine, and this is CI: another run would give the same epochs to other contents",
        context.config.online_store
    ))
    .hint("make `online_store` an object-store URL, s3://bucket/path, that every run shares")
    .hint("or, where all runs share this very folder, say so with --shared-folder"))
}

/// One run of the command.
struct Run<'a> {
    context: &'a Context,
    origin: Origin,
    holder: String,
    signer: Option<&'a Signer>,
    args: &'a PublishArgs,
}

/// What became of one replica.
struct Published {
    name: String,
    place: String,
    report: PublishReport,
    host: Option<String>,
    warnings: Vec<String>,
    took: Duration,
}

impl Run<'_> {
    fn publish<'a>(&'a self, replica: &'a Replica, progress: &'a (dyn Fn(mezze_replica::Progress) + Sync)) -> Publish<'a> {
        Publish { signer: self.signer, progress, ..Publish::to(replica, &self.holder, &SystemClock) }
    }

    async fn dry_run(&self, replicas: &[Replica], hosts: &[Option<Host>]) -> Outcome {
        let output = self.context.output;
        let mut plans = Vec::new();
        for (replica, host) in replicas.iter().zip(hosts) {
            let asked = self.ask_host(host.as_ref()).await?;
            let plan = self.publish(replica, &|_| ()).plan(&self.origin).await?;
            plans.push((replica, asked, plan));
        }
        output.result(
            || {
                let replicas: Vec<Json> = plans.iter().map(|(replica, _, plan)| plan_json(replica, plan)).collect();
                json!({ "dry_run": true, "replicas": replicas })
            },
            || plans.iter().map(|(replica, asked, plan)| plan_text(replica, asked.as_deref(), plan)).collect(),
        )
    }

    async fn publish_all(&self, replicas: &[Replica], hosts: &[Option<Host>]) -> Outcome {
        let output = self.context.output;
        // All hosts are asked before the first byte goes anywhere.
        for host in hosts {
            self.ask_host(host.as_ref()).await?;
        }
        let mut done = Vec::new();
        for (replica, host) in replicas.iter().zip(hosts) {
            match self.publish_one(replica, host.as_ref()).await {
                Ok(published) => {
                    published.warnings.iter().for_each(|warning| output.note(&format!("warning: {warning}")));
                    done.push(published);
                }
                Err(failure) => {
                    let names: Vec<&str> = done.iter().map(|published: &Published| published.name.as_str()).collect();
                    return Err(if names.is_empty() {
                        failure
                    } else {
                        failure.hint(format!("published before: {}", names.join(", ")))
                    });
                }
            }
        }
        output.result(
            || json!({ "replicas": done.iter().map(published_json).collect::<Vec<_>>() }),
            || done.iter().map(published_text).collect(),
        )
    }

    /// The version of expressions, and the components, that the newest snapshot needs.
    async fn needed(&self) -> Outcome<(u16, Vec<String>)> {
        let Some(record) = self.origin.latest().await? else { return Ok((0, Vec::new())) };
        let manifest = self.origin.manifest(record.snapshot).await?;
        let transforms = manifest.on_demand_views.iter().filter_map(|view| Some(view.transform()?.id.to_string()));
        Ok((manifest.expression_set(), transforms.collect()))
    }

    async fn publish_one(&self, replica: &Replica, host: Option<&Host>) -> Outcome<Published> {
        let began = Instant::now();
        let line = Progress::new(self.context.output);
        let show = |progress: mezze_replica::Progress| line.say(progress_text(&replica.name, progress, began.elapsed()));
        let report = self.publish(replica, &show).run(&self.origin).await?;
        let mut published = Published {
            name: replica.name.clone(),
            place: replica.target.place(),
            warnings: late_views(self.context, &self.origin, &report).await?,
            report,
            host: None,
            took: Duration::ZERO,
        };
        if let Some(host) = host {
            line.say(format!("{}: waiting for the host at {}", replica.name, host.url()));
            match self.check_host(replica, host, &published.report).await {
                Ok(said) => published.host = Some(said),
                Err(failure) => return Err(self.roll_back(replica, &published.report, failure).await),
            }
        }
        published.took = began.elapsed();
        Ok(published)
    }

    /// What the host says before anything is sent; an error where it cannot read what would be.
    async fn ask_host(&self, host: Option<&Host>) -> Outcome<Option<String>> {
        let Some(host) = host else { return Ok(None) };
        let signed_by = self.signer.map(|signer| signer.public_key().id().to_string());
        let (expression_set, transforms) = self.needed().await?;
        let state = host.check_can_read(signed_by.as_deref(), expression_set, &transforms).await.map_err(|error| {
            Failure::from(error).hint("nothing was sent; --skip-host-check publishes without asking the host")
        })?;
        Ok(Some(match state {
            HostState::Serving(info) => format!("the host at {} serves epoch {}", host.url(), info.epoch),
            HostState::Empty(said) => format!("the host at {} serves nothing yet: {said}", host.url()),
        }))
    }

    /// Waits until the host serves the snapshot, and asks it for features.
    async fn check_host(&self, replica: &Replica, host: &Host, report: &PublishReport) -> Outcome<String> {
        let epoch = report.record.epoch;
        let info = host.wait_for(epoch, Span::from_seconds(i64::from(self.args.host_wait)), &SystemClock).await?;
        let config = self.context.replica_config(&replica.name)?;
        let Some(probe) = config.host.as_ref().and_then(|host| host.probe.as_ref()) else {
            return Ok(format!("the host at {} serves epoch {}", host.url(), info.epoch));
        };
        let entities: serde_json::Map<String, Json> =
            probe.entities.iter().map(|(name, value)| (name.clone(), json!([value]))).collect();
        let body = json!({ "feature_service": probe.service, "entities": entities }).to_string().into_bytes();
        let probed = host.probe(body.clone()).await?;
        let said = String::from_utf8_lossy(&probed.body).chars().take(SAID_CHARS).collect::<String>();
        let failed = |what: String| Failure::new(Exit::Failed, format!("the probe of the host at {} {what}", host.url()));
        if probed.status != 200 {
            return Err(failed(format!("was answered with HTTP {}: {said}", probed.status)));
        }
        if probed.steps_back > 0 || probed.epoch.is_none_or(|answered| answered < epoch) {
            let answered = probed.epoch.map_or_else(|| "no epoch".to_owned(), |epoch| format!("epoch {epoch}"));
            return Err(failed(format!("was answered from {answered}, expected {epoch}: pages of it cannot be read there")));
        }
        // The origin's own answer, unless it is at another epoch by now.
        let reader = Reader::open(self.origin.store().clone(), CACHE_BYTES).await?;
        if reader.snapshot().epoch() == epoch {
            let expected: Json = serde_json::from_slice(&answer(&Arc::new(reader), &body, now()).await?)?;
            let found: Json = serde_json::from_slice(&probed.body)
                .map_err(|error| failed(format!("was answered with what is no JSON ({error}): {said}")))?;
            if values(&found) != values(&expected) {
                return Err(failed(format!("was answered with other values than the origin has: {said}")));
            }
        }
        Ok(format!("the host at {} serves epoch {} and answers the probe", host.url(), info.epoch))
    }

    /// Takes a replica back to what it served before, after its host failed.
    async fn roll_back(&self, replica: &Replica, report: &PublishReport, failure: Failure) -> Failure {
        let Some(before) = report.epoch_before.filter(|before| *before < report.record.epoch) else {
            return failure.hint("the replica served nothing before, so it was not rolled back");
        };
        let back = async {
            let record = self.origin.rollback_replica(&replica.name, Some(before), &self.holder, now()).await?;
            self.publish(replica, &|_| ()).run(&self.origin).await?;
            Ok::<_, mezze_replica::Error>(record)
        };
        match back.await {
            Ok(record) => failure
                .hint(format!(
                    "replica {} was rolled back to the content of epoch {before}, under epoch {}",
                    replica.name, record.epoch
                ))
                .hint(format!("it is pinned there; `mezze pin --to {} --off` lets it follow the origin again", replica.name)),
            Err(error) => failure.hint(format!(
                "replica {} could not be rolled back ({error}); `mezze rollback --to {}` tries again",
                replica.name, replica.name
            )),
        }
    }

    /// Publishes whatever is new, until it is stopped.
    async fn watch(&self, replicas: &[Replica], hosts: &[Option<Host>], every: Duration) -> Outcome {
        let output = self.context.output;
        output.note(&format!("looking every {} for news in {}; Ctrl-C ends it", duration(every), self.origin.store().place()));
        loop {
            for (replica, host) in replicas.iter().zip(hosts) {
                match self.publish_news(replica, host.as_ref()).await {
                    Ok(Some(published)) => output.result(|| published_json(&published), || published_text(&published))?,
                    Ok(None) => {}
                    // What is wrong now may be right the next time; a pinned replica stays what it is.
                    Err(failure) => output.note(&format!("{}: {failure}", replica.name)),
                }
            }
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                _ = tokio::signal::ctrl_c() => return Ok(()),
            }
        }
    }

    async fn publish_news(&self, replica: &Replica, host: Option<&Host>) -> Outcome<Option<Published>> {
        let Some(latest) = self.origin.latest().await? else { return Ok(None) };
        let is_pinned = self.origin.pin(&replica.name).await?.is_some();
        let record = self.origin.publish_record(&replica.name).await?;
        if !is_pinned && record.is_none_or(|record| record.snapshots.first() != Some(&latest.snapshot)) {
            return self.publish_one(replica, host).await.map(Some);
        }
        // A signature grows old though the snapshot stays.
        if self.signer.is_some() {
            match self.publish(replica, &|_| ()).run(&self.origin).await {
                // Not old enough yet.
                Err(mezze_replica::Error::Refused(_)) if is_pinned => {}
                signed => drop(signed?),
            }
        }
        Ok(None)
    }
}

pub(crate) fn rollback(args: &RollbackArgs, global: &Global, output: Output) -> Outcome {
    let context = Context::load(global, output)?;
    let replica = args.to.as_deref().map(|name| context.replica(name)).transpose()?;
    let signer = context.signer()?;
    block_on(None, async {
        let origin = context.origin()?;
        let holder = holder();
        let record = match &replica {
            None => origin.rollback(args.to_epoch, now()).await?,
            Some(replica) => {
                let record = origin.rollback_replica(&replica.name, args.to_epoch, &holder, now()).await?;
                let publish = Publish { signer: signer.as_ref(), ..Publish::to(replica, &holder, &SystemClock) };
                publish.run(&origin).await.map_err(|error| {
                    Failure::from(error).hint(format!("`mezze publish --to {}` goes on with the rollback", replica.name))
                })?;
                record
            }
        };
        let content = record.parent.unwrap_or(record.epoch);
        let name = replica.as_ref().map(|replica| replica.name.as_str());
        output.result(
            || {
                json!({
                    "replica": name, "epoch": record.epoch, "content_of_epoch": content,
                    "snapshot": record.snapshot.to_string(), "pinned": name.is_some(),
                })
            },
            || {
                let what = format!("epoch {} has the content of epoch {content}: snapshot {}\n", record.epoch, record.snapshot);
                match name {
                    None => what,
                    Some(name) => {
                        format!("replica {name}: {what}it is pinned there; `mezze pin --to {name} --off` lets it follow the origin again\n")
                    }
                }
            },
        )
    })
}

pub(crate) fn pin(args: &PinArgs, global: &Global, output: Output) -> Outcome {
    let context = Context::load(global, output)?;
    context.replica_config(&args.to)?;
    block_on(None, async {
        let origin = context.origin()?;
        let pin = if args.off {
            None
        } else {
            let record = origin.publish_record(&args.to).await?;
            let record = record.ok_or_else(|| Failure::input(format!("nothing was published to replica {} yet", args.to)))?;
            Some(Pin::new(record.epoch, SystemClock.now(), holder()))
        };
        let epoch = pin.as_ref().map(|pin| pin.epoch);
        origin.set_pin(&args.to, pin).await?;
        output.result(
            || json!({ "replica": args.to, "pinned_to_epoch": epoch }),
            || match epoch {
                Some(epoch) => format!("replica {} stays at epoch {epoch}\n", args.to),
                None => {
                    format!("replica {} follows the origin; `mezze publish --to {}` brings it up to date\n", args.to, args.to)
                }
            },
        )
    })
}

/// The values of a response, by feature.
fn values(response: &Json) -> Vec<Option<&Json>> {
    let results = response.get("results").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
    results.iter().map(|column| column.get("values")).collect()
}

/// Says of which views the newest row was served later than declared.
async fn late_views(context: &Context, origin: &Origin, report: &PublishReport) -> Outcome<Vec<String>> {
    let Some(snapshot) = report.record.snapshots.first() else { return Ok(Vec::new()) };
    let manifest = origin.manifest(*snapshot).await?;
    Ok(lags(context, &manifest, report.record.published_at)
        .into_iter()
        .filter(|lag| lag.is_late())
        .map(|lag| {
            format!(
                "the newest row of {} was served {} after its event; available_after says {}",
                lag.view,
                duration(Duration::from_secs(lag.seconds.unsigned_abs())),
                lag.declared
            )
        })
        .collect())
}

/// How long after its event the newest row of a view came to a replica.
pub(super) struct Lag {
    pub(super) view: String,
    pub(super) seconds: i64,
    pub(super) declared: Span,
}

impl Lag {
    /// Whether that is later than declared, where something is.
    pub(super) fn is_late(&self) -> bool {
        self.declared > Span::ZERO && self.seconds > self.declared.seconds()
    }
}

pub(super) fn lags(context: &Context, manifest: &mezze_core::Manifest, published_at: mezze_core::Timestamp) -> Vec<Lag> {
    let views = manifest.tables.iter().flat_map(|table| table.schema.views.iter().zip(&table.watermarks));
    views
        .filter(|(_, watermark)| **watermark != mezze_core::Timestamp::MIN)
        .map(|(view, watermark)| Lag {
            view: view.name.clone(),
            seconds: published_at.since(*watermark).seconds(),
            declared: context.definitions.feature_view(&view.name).map_or(Span::ZERO, |view| view.available_after),
        })
        .collect()
}

fn progress_text(name: &str, progress: mezze_replica::Progress, elapsed: Duration) -> String {
    let done = format!(
        "{} of {} keys, {} of {}",
        count(progress.keys_done),
        count(progress.keys),
        size(progress.bytes_done),
        size(progress.bytes)
    );
    match progress.stage {
        Stage::Write => {
            let left = (progress.bytes_done > 0 && progress.bytes > progress.bytes_done)
                .then(|| elapsed.mul_f64((progress.bytes - progress.bytes_done) as f64 / progress.bytes_done as f64));
            let left = left.map(|left| format!(", about {} left", duration(left))).unwrap_or_default();
            format!("{name}: writing {done}{left}")
        }
        Stage::Verify => format!("{name}: verifying {done}"),
        Stage::Wait => format!("{name}: the head before gets the time to reach every reader"),
    }
}

fn plan_json(replica: &Replica, plan: &PublishPlan) -> Json {
    json!({
        "replica": replica.name, "place": replica.target.place(), "keys": plan.keys, "bytes": plan.bytes,
        "manifest_bytes": plan.manifest_bytes, "present": plan.present, "writes": plan.writes.len(),
        "write_bytes": plan.write_bytes, "calls": plan.estimate.calls, "seconds_min": plan.estimate.seconds_min,
        "dollars": plan.estimate.dollars, "dollars_month": plan.estimate.dollars_month,
    })
}

fn plan_text(replica: &Replica, asked: Option<&str>, plan: &PublishPlan) -> String {
    let mut text = format!(
        "{} ({}): would write {} of {} keys ({} of {}) and the head, in {} calls\n",
        replica.name,
        replica.target.place(),
        count(plan.writes.len() as u64),
        count(plan.keys),
        size(plan.write_bytes),
        size(plan.bytes),
        count(plan.estimate.calls),
    );
    if plan.estimate.seconds_min > 0 {
        text.push_str(&format!(
            "  takes {} at the least, by its rate of calls\n",
            duration(Duration::from_secs(plan.estimate.seconds_min.unsigned_abs()))
        ));
    }
    match (plan.estimate.dollars, plan.estimate.dollars_month) {
        (Some(once), Some(month)) => text.push_str(&format!("  costs about ${once:.4}, and ${month:.4} a month to keep\n")),
        _ => text.push_str("  its vendor states no price\n"),
    }
    if let Some(asked) = asked {
        text.push_str(&format!("  {asked}\n"));
    }
    text
}

fn published_json(published: &Published) -> Json {
    let report = &published.report;
    json!({
        "replica": published.name, "place": published.place, "epoch": report.record.epoch,
        "snapshot": report.record.snapshots.first().map(ToString::to_string), "epoch_before": report.epoch_before,
        "objects_written": report.objects_written, "objects_present": report.objects_present,
        "bytes_written": report.bytes_written, "calls": report.calls.calls, "calls_repeated": report.calls.repeated,
        "host": published.host, "warnings": published.warnings, "seconds": published.took.as_secs_f64(),
    })
}

fn published_text(published: &Published) -> String {
    let report = &published.report;
    let snapshot = report.record.snapshots.first().map(ToString::to_string).unwrap_or_default();
    let mut text = format!(
        "published epoch {} (snapshot {snapshot}) to {}: {} objects written ({}), {} there already\n",
        report.record.epoch,
        published.place,
        count(report.objects_written),
        size(report.bytes_written),
        count(report.objects_present),
    );
    if let Some(host) = &published.host {
        text.push_str(&format!("  {host}\n"));
    }
    text
}

const SAID_CHARS: usize = 300;
