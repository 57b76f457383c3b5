//! Keys, values and what readers see of them that comes late.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::clock::nanos;

/// What is under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) bytes: Bytes,
    /// As text: JSON where the vendor's metadata is JSON.
    pub(crate) metadata: Option<String>,
    /// When it goes, in nanoseconds since 1970.
    pub(crate) expires: Option<i64>,
    /// A number that grows with each write, where the vendor has one.
    pub(crate) generation: u64,
}

/// A write, or without a value a deletion.
#[derive(Debug)]
struct Version {
    at: i64,
    stored: Option<Stored>,
}

/// All keys, each with its last state and the states before it that late readers see.
#[derive(Debug, Default)]
pub(crate) struct Versions {
    keys: BTreeMap<String, Vec<Version>>,
    listing_lag: i64,
    read_lag: i64,
}

/// A page of a listing.
pub(crate) struct Page {
    pub(crate) keys: Vec<(String, Stored)>,
    /// After which key the next page begins.
    pub(crate) next: Option<String>,
}

impl Versions {
    /// From now on listings show what was `lag` ago. It is to be said before the writes that come late.
    pub(crate) fn lag_listings(&mut self, lag: Duration) {
        self.listing_lag = nanos(lag);
    }

    /// From now on reads give what was `lag` ago. It is to be said before the writes that come late.
    pub(crate) fn lag_reads(&mut self, lag: Duration) {
        self.read_lag = nanos(lag);
    }

    pub(crate) fn put(&mut self, key: &str, stored: Stored, now: i64) {
        self.change(key, Some(stored), now);
    }

    /// Whether the key was there.
    pub(crate) fn delete(&mut self, key: &str, now: i64) -> bool {
        let was_there = self.newest(key, now).is_some();
        if was_there {
            self.change(key, None, now);
        }
        was_there
    }

    /// What was written last, whoever sees it already.
    pub(crate) fn newest(&self, key: &str, now: i64) -> Option<&Stored> {
        seen(self.keys.get(key)?, now, now)
    }

    /// What a reader sees.
    pub(crate) fn read(&self, key: &str, now: i64) -> Option<&Stored> {
        seen(self.keys.get(key)?, now - self.read_lag, now)
    }

    /// Keys with a prefix, after a key, as listings show them or as they are.
    pub(crate) fn list(&self, prefix: &str, after: Option<&str>, count_max: usize, is_late: bool, now: i64) -> Page {
        let at = if is_late { now - self.listing_lag } else { now };
        let from = after.filter(|after| *after > prefix).unwrap_or(prefix).to_owned();
        let range = self.keys.range(from..).take_while(|(key, _)| key.starts_with(prefix));
        let mut found = range
            .filter(|(key, _)| after.is_none_or(|after| key.as_str() > after))
            .filter_map(|(key, versions)| Some((key.clone(), seen(versions, at, now)?.clone())));
        let keys: Vec<_> = found.by_ref().take(count_max).collect();
        let next = found.next().and_then(|_| keys.last()).map(|(key, _)| key.clone());
        Page { keys, next }
    }

    /// Bytes of all values.
    pub(crate) fn bytes(&self, now: i64) -> u64 {
        self.keys.values().filter_map(|versions| seen(versions, now, now)).map(|stored| stored.bytes.len() as u64).sum()
    }

    /// All that was written last.
    pub(crate) fn snapshot(&self, now: i64) -> BTreeMap<String, (Bytes, Option<String>)> {
        let keys = self.list("", None, usize::MAX, false, now).keys;
        keys.into_iter().map(|(key, stored)| (key, (stored.bytes, stored.metadata))).collect()
    }

    fn change(&mut self, key: &str, stored: Option<Stored>, now: i64) {
        let versions = self.keys.entry(key.to_owned()).or_default();
        versions.push(Version { at: now, stored });
        // Nobody sees what was before the last state that the latest reader sees.
        let horizon = now - self.listing_lag.max(self.read_lag);
        let kept = versions.iter().rposition(|version| version.at <= horizon).unwrap_or(0);
        versions.drain(..kept);
    }
}

/// The state at a time, where it has not expired by now.
fn seen(versions: &[Version], at: i64, now: i64) -> Option<&Stored> {
    let stored = versions.iter().rfind(|version| version.at <= at)?.stored.as_ref()?;
    stored.expires.is_none_or(|expires| expires > now).then_some(stored)
}
