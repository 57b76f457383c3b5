//! Publishing into a key-value store: what is missing, in batches, and then looked at again.

use std::collections::HashSet;

use futures::StreamExt as _;
use mezze_core::Span;

use super::plan::{Listed, PublishPlan, batches, entry, is_as_wanted, sample_size};
use super::session::Session;
use super::{Progress, Stage};
use crate::Error;
use crate::keys::{KeySize, ReplicaKeys};
use crate::target::{Entry, NotDone};

/// Writes what the plan says, and verifies that the store has all of the snapshot.
pub(super) async fn upload(
    session: &Session<'_>,
    keys: &ReplicaKeys,
    plan: &PublishPlan,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<(), Error> {
    write_all(session, keys, &plan.writes, progress).await?;
    if plan.writes.is_empty() {
        return Ok(());
    }
    verify(session, keys, plan, progress).await
}

async fn write_all(
    session: &Session<'_>,
    keys: &ReplicaKeys,
    writes: &[KeySize],
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<(), Error> {
    let limits = session.target.limits();
    let bytes_total: u64 = writes.iter().map(|key| key.bytes).sum();
    let mut shown = Progress { stage: Stage::Write, keys_done: 0, keys: writes.len() as u64, bytes_done: 0, bytes: bytes_total };
    progress(shown);
    let mut left = writes.to_vec();
    for round in 0..=ROUNDS {
        let mut failed: Vec<NotDone> = Vec::new();
        {
            let mut under_way = futures::stream::iter(batches(&left, limits))
                .map(async |batch| -> Result<(u64, u64, Vec<NotDone>), Error> {
                    let mut entries: Vec<Entry> = Vec::with_capacity(batch.len());
                    for key in batch {
                        entries.push(entry(keys, &key.key).await?);
                    }
                    let failed = session.write(&entries).await?;
                    let names = names_of(&failed);
                    let done = batch.iter().filter(|key| !names.contains(key.key.as_str()));
                    let (count, bytes) = done.fold((0, 0), |(count, bytes), key| (count + 1, bytes + key.bytes));
                    Ok((count, bytes, failed))
                })
                .buffer_unordered(limits.in_flight.max(1));
            while let Some(result) = under_way.next().await {
                let (count, bytes, not_done) = result?;
                shown.keys_done += count;
                shown.bytes_done += bytes;
                progress(shown);
                failed.extend(not_done);
            }
        }
        let Some(first) = failed.first() else { return Ok(()) };
        if round == ROUNDS {
            return Err(Error::Unavailable {
                operation: "write",
                key: format!("{} of {}", first.key, session.target.place()),
                detail: format!("{} keys were not taken {} times over: {}", failed.len(), ROUNDS + 1, first.detail),
            });
        }
        let names = names_of(&failed);
        left.retain(|key| names.contains(key.key.as_str()));
        session.sleep(Span::from_seconds(1 << round)).await?;
    }
    Ok(())
}

fn names_of(failed: &[NotDone]) -> HashSet<&str> {
    failed.iter().map(|failed| failed.key.as_str()).collect()
}

/// Lists every key of the snapshot with its digest, and reads a sample whole.
async fn verify(
    session: &Session<'_>,
    keys: &ReplicaKeys,
    plan: &PublishPlan,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<(), Error> {
    let wanted = keys.keys_of(keys.head().snapshot).await?;
    for round in 0..=ROUNDS {
        let mut listed = Listed::default();
        let mut wrong = Vec::new();
        let mut shown =
            Progress { stage: Stage::Verify, keys_done: 0, keys: wanted.len() as u64, bytes_done: 0, bytes: plan.bytes };
        for key in &wanted {
            // What was found before and not written since was looked at in this very run.
            let known = plan.found.contains(&key.key);
            if !known && !is_as_wanted(session, keys, key, listed.find(session, &key.key).await?).await? {
                wrong.push(key.clone());
            }
            shown.keys_done += 1;
            shown.bytes_done += key.bytes;
            if shown.keys_done.is_multiple_of(1_000) {
                progress(shown);
            }
        }
        progress(shown);
        let Some(first) = wrong.first() else { break };
        if round == ROUNDS {
            let detail = format!("{} keys are missing or other than written, after {ROUNDS} more tries", wrong.len());
            return Err(Error::Corrupt { key: format!("{} of {}", first.key, session.target.place()), detail });
        }
        // A listing may be late: it gets time first, and only then the keys are written again.
        session.sleep(Span::from_seconds(2 << round)).await?;
        if round % 2 == 1 {
            write_all(session, keys, &wrong, progress).await?;
        }
    }
    let count = sample_size(session.target.limits().listing);
    let step = (plan.writes.len() / count).max(1);
    let offset = usize::from(keys.head().snapshot.bytes().first().copied().unwrap_or(0)) % step;
    for key in plan.writes.iter().skip(offset).step_by(step).take(count) {
        let expected = entry(keys, &key.key).await?;
        let mut round = 0;
        loop {
            let found = session.read(&key.key).await?;
            if found.as_ref().is_some_and(|found| found.bytes == expected.value) {
                break;
            }
            if round == ROUNDS {
                let detail = match found {
                    Some(_) => "read back, it is not what was written",
                    None => "it was written and listed, and cannot be read",
                };
                let key = format!("{} of {}", key.key, session.target.place());
                return Err(Error::Corrupt { key, detail: detail.to_owned() });
            }
            session.sleep(Span::from_seconds(2 << round)).await?;
            if round % 2 == 1 {
                write_all(session, keys, std::slice::from_ref(key), &|_| ()).await?;
            }
            round += 1;
        }
    }
    Ok(())
}

/// How often keys are written once more.
const ROUNDS: u32 = 5;
