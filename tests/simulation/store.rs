//! The key-value store: a central copy, and points of presence that come to see it late, key by key.

use async_trait::async_trait;
use bytes::Bytes;
use mezze_core::{Fetched, HEAD_KEY, Read, ReadKey, Span};
use mezze_replica::{Entry, Error, KeyList, KeyValue, ListedKey, ListingKind, NotDone, TargetLimits, Value};

use crate::executor::Sim;
use crate::origin::{latency, pause};
use crate::world::{Copy, SECOND, Setting, Stored, World, Write};

/// The store's own interface.
pub(crate) struct Kv {
    sim: Sim,
    limits: TargetLimits,
    /// Pages are kept back until there is a head that names them: what a publish in the wrong order does.
    head_first: bool,
    kept_back: std::sync::Mutex<Vec<Entry>>,
}

impl std::fmt::Debug for Kv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the store")
    }
}

impl Kv {
    pub(crate) fn new(sim: &Sim, setting: &Setting, head_first: bool) -> Self {
        let mut limits = TargetLimits::own(setting.listing);
        limits.batch_keys = 5;
        limits.delete_keys = 7;
        limits.in_flight = 3;
        limits.propagation = Span::from_nanos(setting.propagation);
        limits.calls = setting.limited.then(|| (20, Span::from_seconds(30)));
        Self { sim: sim.clone(), limits, head_first, kept_back: std::sync::Mutex::default() }
    }

    /// What stands before every call: the store may have no time, and whoever calls may be suspended.
    async fn begin(&self, may_pause: bool) -> Result<(), Error> {
        let wait = {
            let mut world = self.sim.world();
            let rate = world.setting.faults.busy;
            if world.random.chance(rate) {
                world.stats.count("busy");
                let retry_after = world.random.chance(500).then(|| Span::from_seconds(world.random.between(0, 20)));
                return Err(Error::Busy { place: self.place(), detail: "HTTP 429".to_owned(), retry_after });
            }
            if may_pause { pause(&mut world) } else { 0 }
        };
        if wait > 0 {
            self.sim.wait(wait).await;
        }
        Ok(())
    }

    async fn look<T>(&self, operation: &'static str, look: impl FnOnce(&mut World) -> T + Send) -> Result<T, Error> {
        self.begin(true).await?;
        let (wait, fails) = {
            let mut world = self.sim.world();
            let rate = world.setting.faults.call;
            (latency(&mut world), world.random.chance(rate))
        };
        self.sim.wait(wait).await;
        if fails { Err(self.failed(operation)) } else { Ok(look(&mut self.sim.world())) }
    }

    async fn change<T: Send + 'static>(
        &self,
        operation: &'static str,
        change: impl FnOnce(&mut World) -> T + Send + 'static,
    ) -> Result<T, Error> {
        self.begin(false).await?;
        let rate = self.sim.world().setting.faults.call;
        self.sim.call(rate, change).await.ok_or_else(|| self.failed(operation))
    }

    fn failed(&self, operation: &'static str) -> Error {
        Error::Unavailable { operation, key: self.place(), detail: "as the seed says".to_owned() }
    }

    fn kept_back(&self) -> Vec<Entry> {
        crate::executor::locked(&self.kept_back).clone()
    }
}

#[async_trait]
impl KeyValue for Kv {
    fn place(&self) -> String {
        "the store".to_owned()
    }

    fn limits(&self) -> &TargetLimits {
        &self.limits
    }

    async fn read(&self, key: &str) -> Result<Option<Value>, Error> {
        if let Some(entry) = self.kept_back().into_iter().find(|entry| entry.key == key) {
            return Ok(Some(Value { bytes: entry.value, version: None }));
        }
        self.look("read", |world| {
            let versioned = world.setting.versioned;
            world
                .read_key(key)
                .map(|stored| Value { bytes: stored.value.clone(), version: versioned.then(|| stored.version.to_string()) })
        })
        .await
    }

    async fn list(&self, prefix: &str, cursor: Option<&str>) -> Result<KeyList, Error> {
        let mut list = self.look("list", |world| world.list(prefix, cursor.unwrap_or_default())).await?;
        list.keys.extend(self.kept_back().iter().filter(|entry| entry.key.starts_with(prefix)).map(|entry| ListedKey {
            key: entry.key.clone(),
            bytes: None,
            digest: self.digest_of(entry),
        }));
        Ok(list)
    }

    async fn write(&self, batch: &[Entry]) -> Result<Vec<NotDone>, Error> {
        if self.head_first {
            crate::executor::locked(&self.kept_back).extend_from_slice(batch);
            return Ok(Vec::new());
        }
        let batch = batch.to_vec();
        self.change("write", move |world| world.write_batch(batch)).await
    }

    async fn replace(&self, entry: &Entry, version: Option<&str>) -> Result<(), Error> {
        let (value, version) = (entry.clone(), version.map(str::to_owned));
        let taken = self.change("write", move |world| {
            let found = world.central.get(&value.key).map(|stored| stored.version.to_string());
            if world.setting.versioned && found != version {
                return false;
            }
            world.put_key(&value);
            true
        });
        let taken = taken.await?;
        let kept_back = std::mem::take(&mut *crate::executor::locked(&self.kept_back));
        if !kept_back.is_empty() {
            self.change("write", move |world| kept_back.iter().for_each(|entry| world.put_key(entry))).await?;
        }
        if taken { Ok(()) } else { Err(Error::Conflict { what: "the head".to_owned() }) }
    }

    async fn delete(&self, keys: &[String]) -> Result<Vec<NotDone>, Error> {
        let keys = keys.to_vec();
        self.change("delete", move |world| {
            let rate = world.setting.faults.not_done;
            let mut failed = Vec::new();
            for key in keys {
                let fails = world.random.chance(rate);
                if !fails || world.random.chance(500) {
                    world.remove_key(&key);
                }
                if fails {
                    failed.push(NotDone { key, detail: "as the seed says".to_owned() });
                }
            }
            failed
        })
        .await
    }

    fn digest_of(&self, entry: &Entry) -> Option<String> {
        match self.limits.listing {
            ListingKind::Written => Some(entry.digest.clone()),
            ListingKind::Computed => Some(computed(&entry.value)),
            ListingKind::Names => None,
        }
    }
}

impl World {
    fn write_batch(&mut self, batch: Vec<Entry>) -> Vec<NotDone> {
        let (not_done, lost) = (self.setting.faults.not_done, self.setting.faults.lost);
        let mut failed = Vec::new();
        for entry in batch {
            let fails = self.random.chance(not_done);
            // It may say that it did what it did not, and that it did not what it did.
            let is_lost = self.random.chance(if fails { 500 } else { lost });
            if is_lost {
                self.note(|| format!("the store loses {}", entry.key));
            } else {
                self.put_key(&entry);
            }
            if fails {
                self.stats.count("keys not done");
                failed.push(NotDone { key: entry.key, detail: "as the seed says".to_owned() });
            }
        }
        failed
    }

    fn put_key(&mut self, entry: &Entry) {
        let version = self.central.get(&entry.key).map_or(0, |stored| stored.version) + 1;
        let stored = Stored { value: entry.value.clone(), digest: entry.digest.clone(), version };
        self.note(|| format!("the store has {}, {} bytes", entry.key, entry.value.len()));
        self.stats.count("keys written");
        self.central.insert(entry.key.clone(), stored.clone());
        self.spread(&entry.key, Some(stored));
        if entry.key == HEAD_KEY { self.watch_head(&entry.value) } else { self.watch_key(&entry.key) }
    }

    fn remove_key(&mut self, key: &str) {
        if self.central.remove(key).is_none() {
            return;
        }
        self.note(|| format!("the store has no {key} any more"));
        self.stats.count("keys pruned");
        self.spread(key, None);
        self.watch_key(key);
    }

    /// Lets the points of presence see a write, each in its time.
    fn spread(&mut self, key: &str, stored: Option<Stored>) {
        let (now, propagation) = (self.agenda.now, self.setting.propagation);
        let visible = (0..self.setting.points).map(|_| now + self.random.between(0, propagation)).collect();
        let writes = self.writes.entry(key.to_owned()).or_default();
        let horizon = now - propagation.max(self.setting.listing_lag_max);
        while writes.len() > 1 && writes[1].at < horizon {
            writes.remove(0);
        }
        writes.push(Write { at: now, stored, visible });
    }

    /// A key as it was a little earlier.
    fn read_key(&mut self, key: &str) -> Option<&Stored> {
        let at = self.agenda.now - self.random.between(0, self.setting.read_lag_max);
        let seen = self.writes.get(key)?.iter().rev().find(|write| write.at <= at)?;
        seen.stored.as_ref()
    }

    /// A part of the keys, some as they were a little earlier.
    fn list(&mut self, prefix: &str, after: &str) -> KeyList {
        let lag = self.random.between(0, self.setting.listing_lag_max);
        let now = self.agenda.now;
        let mut keys = Vec::new();
        let names: Vec<String> =
            self.writes.keys().filter(|key| key.starts_with(prefix) && key.as_str() > after).cloned().collect();
        for key in names {
            let at = now - if lag > 0 { self.random.between(0, lag) } else { 0 };
            let seen = self.writes[&key].iter().rev().find(|write| write.at <= at);
            let Some(stored) = seen.and_then(|write| write.stored.as_ref()) else { continue };
            if keys.len() == LIST_KEYS {
                let cursor = keys.last().map(|listed: &ListedKey| listed.key.clone());
                return KeyList { keys, cursor };
            }
            let digest = match self.setting.listing {
                ListingKind::Written => Some(stored.digest.clone()),
                ListingKind::Computed => Some(computed(&stored.value)),
                ListingKind::Names => None,
            };
            keys.push(ListedKey { key, bytes: self.setting.lists_bytes.then_some(stored.value.len() as u64), digest });
        }
        KeyList { keys, cursor: None }
    }

    /// A read at a point of presence.
    pub(crate) fn fetch(&mut self, point: usize, read: &Read) -> Fetched {
        let rate = self.setting.faults.read;
        if self.random.chance(rate) {
            return Fetched::Failed("as the seed says".to_owned());
        }
        let key = read.key.to_string();
        let is_short = read.fresh || read.key == ReadKey::Head;
        let now = self.agenda.now;
        if let Some(copy) = self.points[point].copies.get(&key) {
            let keeps = match (is_short, &copy.value) {
                (true, _) => self.setting.cache_min,
                (false, Some(_)) => self.setting.cache_max,
                (false, None) => self.setting.miss_max,
            };
            if now - copy.at < keeps {
                return found(copy.value.clone());
            }
        }
        let writes = self.writes.get(&key).map(Vec::as_slice).unwrap_or_default();
        let seen = writes.iter().rev().find(|write| write.visible[point] <= now);
        let mut value = seen.and_then(|write| write.stored.as_ref()).map(|stored| stored.value.clone());
        let rate = self.setting.faults.damage;
        if value.is_some() && self.random.chance(rate) {
            let mut bytes = value.take().map(Vec::from).unwrap_or_default();
            let bit = self.random.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            self.stats.count("damaged copies");
            self.note(|| format!("point {point} damages {key}"));
            value = Some(bytes.into());
        }
        self.points[point].copies.insert(key, Copy { value: value.clone(), at: now });
        found(value)
    }
}

fn found(value: Option<Bytes>) -> Fetched {
    value.map_or(Fetched::Missing, |value| Fetched::Value(value.to_vec()))
}

/// A digest as stores compute them: FNV-1a.
fn computed(value: &[u8]) -> String {
    let hash = value.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    format!("{hash:016x}")
}

/// Keys of one listing.
const LIST_KEYS: usize = 9;
/// The longest that any point of presence may go on showing a head, after another has taken its place.
pub(crate) const fn shown_after(setting: &Setting, head_seconds: u32) -> i64 {
    setting.propagation + setting.cache_min + (head_seconds as i64 + 60) * SECOND
}
