//! `mezze prune`

use mezze_core::Span;
use mezze_replica::{Prune, PruneMode, SystemClock};
use serde_json::{Value as Json, json};

use crate::args::{Global, PruneArgs};
use crate::context::{Context, block_on, holder};
use crate::failure::Outcome;
use crate::output::{Output, count, size};

pub(crate) fn prune(args: &PruneArgs, global: &Global, output: Output) -> Outcome {
    let context = Context::load(global, output)?;
    block_on(None, async {
        let mut replicas = Vec::new();
        for name in context.config.replicas.keys().filter(|_| args.to.is_empty()) {
            match context.replica(name) {
                Ok(replica) => replicas.push(replica),
                // Without a token the others are pruned all the same.
                Err(failure) => output.note(&format!("note: replica {name} is left as it is: {failure}")),
            }
        }
        for name in &args.to {
            replicas.push(context.replica(name)?);
        }
        let holder = holder();
        let mut prune = Prune::new(&SystemClock, &holder);
        prune.epochs_kept = args.to.is_empty().then(|| usize::try_from(args.keep).unwrap_or(usize::MAX));
        prune.mode = if args.dry_run { PruneMode::DryRun } else { PruneMode::Remove };
        prune.grace = Span::from_seconds(i64::from(args.grace));
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
                        json!({ "epoch": forget.epoch, "entities": forget.entity_count, "remaining": remaining, "unseen": forget.unseen })
                    })
                    .collect();
                json!({
                    "dry_run": args.dry_run, "removed": removed, "bytes_removed": report.bytes_removed,
                    "segment_bytes_kept": report.segment_bytes_kept, "forgets": forgets,
                })
            },
            || {
                let done = if args.dry_run { "would remove" } else { "removed" };
                let kept = if args.to.is_empty() {
                    format!("; segments kept: {}", size(report.segment_bytes_kept))
                } else {
                    String::new()
                };
                let mut text =
                    format!("{done} {} objects ({}){kept}\n", count(report.removed.len() as u64), size(report.bytes_removed));
                for forget in &report.forgets {
                    let what = format!("{} entities forgotten in epoch {}", count(forget.entity_count), forget.epoch);
                    text.push_str(&if forget.remaining.is_empty() && forget.unseen.is_empty() {
                        format!("{what}: gone from every place\n")
                    } else if forget.remaining.is_empty() {
                        format!("{what}: gone from every place that was looked at; not from {}\n", forget.unseen.join(", "))
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
