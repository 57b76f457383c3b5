//! What a publish will write, and whether the store takes it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use mezze_core::{HEAD_KEY, PreviousSnapshot};

use super::session::Session;
use crate::keys::{KeySize, ReplicaKeys};
use crate::target::{Entry, ListedKey, ListingKind};
use crate::{Error, TargetLimits};

/// What a publish has to do. Made without writing anything.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct PublishPlan {
    /// Keys that the snapshot needs, but the head.
    pub keys: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Bytes of the newest manifest.
    pub manifest_bytes: u64,
    /// Keys that the store has already, as they should be.
    pub present: u64,
    /// Keys to write, with the sizes of their values.
    pub writes: Vec<KeySize>,
    /// Bytes of those values.
    pub write_bytes: u64,
    /// What that takes.
    pub estimate: Estimate,
    /// The earlier snapshots that the store has all of.
    pub(crate) complete: Vec<PreviousSnapshot>,
    /// Of the snapshot's keys, those that were found as they should be.
    pub(crate) found: BTreeSet<String>,
}

/// What writing keys takes, by the limits and prices of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Estimate {
    /// Calls: listings before and after, batches, samples, and the head.
    pub calls: u64,
    /// How long that takes at the least, by the store's rate of calls.
    pub seconds_min: i64,
    /// What it costs in US dollars, where the store has a price.
    pub dollars: Option<f64>,
    /// What keeping the snapshot costs a month, where the store has a price.
    pub dollars_month: Option<f64>,
}

impl Estimate {
    /// Of writing these keys of a snapshot whose keys take `lists` calls to list, and whose values have `bytes` in all.
    pub fn of(limits: &TargetLimits, writes: &[KeySize], lists: u64, bytes: u64) -> Self {
        let batches = batches(writes, limits).count() as u64;
        let samples = sample_size(limits.listing).min(writes.len()) as u64;
        // The listings after it have what was written, too.
        let lists = if batches == 0 { lists } else { 2 * lists + (writes.len() / limits.list_keys.max(1)) as u64 };
        let calls = lists + batches + samples + 2;
        let seconds_min = limits.calls.map_or(0, |(most, window)| {
            let windows = calls.saturating_sub(1) / most.max(1) as u64;
            i64::try_from(windows).unwrap_or(i64::MAX).saturating_mul(window.seconds())
        });
        let dollars = limits.price.map(|price| {
            (writes.len() as f64 + 1.0) * price.million_writes / 1e6
                + lists as f64 * price.million_lists / 1e6
                + (samples + 1) as f64 * price.million_reads / 1e6
        });
        let dollars_month = limits.price.map(|price| bytes as f64 * price.gigabyte_month / 1e9);
        Self { calls, seconds_min, dollars, dollars_month }
    }
}

impl PublishPlan {
    /// Compares what a snapshot needs with what the store lists.
    pub(crate) async fn make(session: &Session<'_>, keys: &ReplicaKeys) -> Result<Self, Error> {
        let head = keys.head();
        let limits = session.target.limits();
        let wanted = keys.keys_of(head.snapshot).await?;
        preflight(session.target.place(), limits, &wanted, keys.head_bytes().len())?;
        let mut listed = Listed::default();
        let mut plan = Self { manifest_bytes: keys.manifest_bytes(head.snapshot), ..Self::default() };
        for key in &wanted {
            plan.keys += 1;
            plan.bytes += key.bytes;
            if is_as_wanted(session, keys, key, listed.find(session, &key.key).await?).await? {
                plan.present += 1;
                plan.found.insert(key.key.clone());
            } else {
                plan.write_bytes += key.bytes;
                plan.writes.push(key.clone());
            }
        }
        for previous in &head.previous {
            let mut complete = true;
            for key in keys.keys_of(previous.snapshot).await? {
                // Its digests were compared when it was the newest.
                complete &= listed.find(session, &key.key).await?.is_some();
            }
            if complete {
                plan.complete.push(*previous);
            }
        }
        plan.estimate = Estimate::of(limits, &plan.writes, session.calls().lists, plan.bytes);
        Ok(plan)
    }
}

/// Checks sizes before anything is sent.
fn preflight(place: String, limits: &TargetLimits, wanted: &[KeySize], head_bytes: usize) -> Result<(), Error> {
    let limit = |what: String| Err(Error::Limit { place: place.clone(), what });
    for key in wanted {
        if key.key.len() > limits.key_bytes {
            return limit(format!("key of more than {} bytes: `{}` has {}", limits.key_bytes, key.key, key.key.len()));
        }
        if key.bytes > limits.value_bytes as u64 {
            return limit(format!("value of more than {} bytes: {} has {}", limits.value_bytes, key.key, key.bytes));
        }
    }
    if head_bytes > limits.value_bytes {
        return limit(format!("value of more than {} bytes: {HEAD_KEY} has {head_bytes}", limits.value_bytes));
    }
    Ok(())
}

/// Cuts keys into batches that the store takes.
pub(crate) fn batches<'a>(keys: &'a [KeySize], limits: &TargetLimits) -> impl Iterator<Item = &'a [KeySize]> + use<'a> {
    let (most_keys, most_bytes) = (limits.batch_keys.max(1), limits.batch_bytes as u64);
    let mut rest = keys;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = rest.iter().take(most_keys).take_while(|key| {
            bytes += key.bytes;
            bytes <= most_bytes
        });
        // A value larger than a batch goes alone.
        let count = fits.count().max(1).min(rest.len());
        let (batch, after) = rest.split_at_checked(count)?;
        rest = after;
        (!batch.is_empty()).then_some(batch)
    })
}

/// Values that are read whole after a publish.
pub(crate) const fn sample_size(listing: ListingKind) -> usize {
    match listing {
        ListingKind::Written | ListingKind::Computed => 16,
        // Its listing says nothing of what was written.
        ListingKind::Names => 64,
    }
}

/// Whether a listing's key is what it should be.
pub(crate) async fn is_as_wanted(
    session: &Session<'_>,
    keys: &ReplicaKeys,
    wanted: &KeySize,
    listed: Option<&ListedKey>,
) -> Result<bool, Error> {
    let Some(listed) = listed else { return Ok(false) };
    if listed.bytes.is_some_and(|bytes| bytes != wanted.bytes) {
        return Ok(false);
    }
    let expected = match session.target.limits().listing {
        ListingKind::Names => return Ok(true),
        ListingKind::Written => {
            let entry = Entry { key: wanted.key.clone(), value: Bytes::new(), digest: keys.digest(&wanted.key).await? };
            session.target.digest_of(&entry)
        }
        ListingKind::Computed => session.target.digest_of(&entry(keys, &wanted.key).await?),
    };
    Ok(expected.is_none() || expected == listed.digest)
}

/// A key with its value, to write.
pub(crate) async fn entry(keys: &ReplicaKeys, key: &str) -> Result<Entry, Error> {
    let value = keys.read(key).await?.ok_or_else(|| Error::Missing { key: key.to_owned() })?;
    Ok(Entry { key: key.to_owned(), value, digest: keys.digest(key).await? })
}

/// Listings, by the prefix that keys were looked for under.
#[derive(Default)]
pub(crate) struct Listed {
    prefixes: BTreeMap<String, BTreeMap<String, ListedKey>>,
}

impl Listed {
    pub(crate) async fn find(&mut self, session: &Session<'_>, key: &str) -> Result<Option<&ListedKey>, Error> {
        let prefix = prefix_of(key);
        if !self.prefixes.contains_key(prefix) {
            let keys = session.list(prefix).await?;
            let keys = keys.into_iter().map(|listed| (listed.key.clone(), listed)).collect();
            self.prefixes.insert(prefix.to_owned(), keys);
        }
        Ok(self.prefixes.get(prefix).and_then(|keys| keys.get(key)))
    }
}

/// What keys are listed by: manifests together, pages by segment and table.
pub(crate) fn prefix_of(key: &str) -> &str {
    key.rfind('/').and_then(|slash| key.get(..=slash)).unwrap_or(key)
}
