//! The origin's place: objects in memory, strongly consistent, that fail now and then.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use mezze_core::{Span, Timestamp};
use mezze_replica::{Backend, Clock, Error, ObjectStat};

use crate::executor::Sim;
use crate::world::{Object, SECOND, World};

/// The origin as one actor reaches it.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) sim: Sim,
    pub(crate) broken: BrokenOrigin,
    pub(crate) actor: &'static str,
}

/// How an actor's way to the origin is broken on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum BrokenOrigin {
    /// No other actor's leases are to be seen.
    ForeignLeases,
    #[default]
    None,
    /// The record of what replicas were given is not to be seen.
    PublishRecords,
}

/// An actor's clock.
#[derive(Clone)]
pub(crate) struct ActorClock {
    pub(crate) sim: Sim,
    pub(crate) skew: i64,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the origin")
    }
}

impl Place {
    fn key(&self, key: &str) -> String {
        if self.broken == BrokenOrigin::ForeignLeases {
            key.replace("/leases", &format!("/leases-{}", self.actor))
        } else {
            key.into()
        }
    }

    fn is_hidden(&self, key: &str) -> bool {
        self.broken == BrokenOrigin::PublishRecords && key.ends_with("/record")
    }

    /// A call that changes nothing.
    async fn look<T>(&self, operation: &'static str, key: &str, look: impl FnOnce(&World) -> T + Send) -> Result<T, Error> {
        let (pause, fails) = {
            let mut world = self.sim.world();
            let rate = world.setting.faults.origin;
            (latency(&mut world), world.random.chance(rate))
        };
        self.sim.wait(pause).await;
        if fails {
            return Err(failed(operation, key));
        }
        Ok(look(&self.sim.world()))
    }

    /// A call that changes something: it may fail and be done, or fail and be done later.
    async fn change<T: Send + 'static>(
        &self,
        operation: &'static str,
        key: &str,
        change: impl FnOnce(&mut World) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let rate = self.sim.world().setting.faults.origin;
        self.sim.call(rate, change).await.ok_or_else(|| failed(operation, key))
    }
}

impl Sim {
    /// Sends a call that changes something. Where it fails (`per_mille`), it is done or not, at the latest a minute after it
    /// was begun.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        per_mille: u32,
        change: impl FnOnce(&mut World) -> T + Send + 'static,
    ) -> Option<T> {
        let result = std::sync::Arc::new(std::sync::Mutex::new(None));
        let wait = {
            let mut world = self.world();
            let there = latency(&mut world);
            let back = latency(&mut world);
            if !world.random.chance(per_mille) {
                let slot = std::sync::Arc::clone(&result);
                world.land_in(there, move |world| {
                    let value = change(world);
                    *crate::executor::locked(&slot) = Some(value);
                });
                there + back
            } else {
                world.stats.count("failed calls");
                let fate = world.random.below(4);
                let (lands_in, fails_in) = match fate {
                    // Never sent; done, and the response is lost; on its way for long; no response at all.
                    0 => (None, there),
                    1 => (Some(there), there + back),
                    2 => (Some(world.random.between(there, CALL)), there),
                    _ => (Some(world.random.between(there, CALL)).filter(|_| world.random.chance(500)), CALL),
                };
                if let Some(lands_in) = lands_in {
                    world.land_in(lands_in, move |world| {
                        let _ = change(world);
                    });
                }
                fails_in
            }
        };
        self.wait(wait).await;
        crate::executor::locked(&result).take()
    }
}

/// Milliseconds most of the time, and seconds now and then.
pub(crate) fn latency(world: &mut World) -> i64 {
    let millis = if world.random.chance(20) { world.random.between(500, 8_000) } else { world.random.between(1, 80) };
    millis * SECOND / 1_000
}

fn failed(operation: &'static str, key: &str) -> Error {
    Error::Unavailable { operation, key: key.to_owned(), detail: "as the seed says".to_owned() }
}

#[async_trait]
impl Backend for Place {
    fn place(&self) -> String {
        "origin".to_owned()
    }

    fn folder(&self) -> Option<&Path> {
        None
    }

    async fn read(&self, key: &str) -> Result<Option<Bytes>, Error> {
        let name = self.key(key);
        let hidden = self.is_hidden(key);
        self.look("read", key, |world| world.origin.get(&name).filter(|_| !hidden).map(|object| object.bytes.clone())).await
    }

    async fn read_range(&self, key: &str, offset: u64, length: u64) -> Result<Option<Bytes>, Error> {
        let cut = |bytes: &Bytes| {
            let start = (offset as usize).min(bytes.len());
            bytes.slice(start..(start + length as usize).min(bytes.len()))
        };
        self.look("read", key, |world| world.origin.get(key).map(|object| cut(&object.bytes))).await
    }

    async fn stat(&self, key: &str) -> Result<Option<ObjectStat>, Error> {
        let stat = |object: &Object| ObjectStat::new(key, object.bytes.len() as u64, object.modified);
        self.look("read", key, |world| world.origin.get(key).map(stat)).await
    }

    async fn replace(&self, key: &str, bytes: Bytes) -> Result<(), Error> {
        let name = self.key(key);
        self.change("write", key, move |world| {
            let modified = world.agenda.now;
            world.note(|| format!("origin has {name}, {} bytes", bytes.len()));
            world.origin.insert(name, Object { bytes, modified });
        })
        .await
    }

    async fn create(&self, key: &str, bytes: Bytes) -> Result<bool, Error> {
        let name = self.key(key);
        self.change("create", key, move |world| {
            if world.origin.contains_key(&name) {
                return false;
            }
            world.note(|| format!("origin has new {name}"));
            world.watch_epoch_record(&name, &bytes);
            let modified = world.agenda.now;
            world.origin.insert(name, Object { bytes, modified });
            true
        })
        .await
    }

    async fn adopt(&self, _key: &str, _file: &Path) -> Result<(), Error> {
        Err(Error::Refused("nobody writes files here".to_owned()))
    }

    async fn list(&self, folder: &str) -> Result<Vec<ObjectStat>, Error> {
        let prefix = format!("{}/", self.key(folder));
        let broken = self.broken == BrokenOrigin::ForeignLeases;
        let own = format!("/leases-{}", self.actor);
        let hidden = self.broken == BrokenOrigin::PublishRecords;
        self.look("list", folder, |world| {
            let found = world.origin.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
            let found = found.filter(|(key, _)| !(hidden && key.ends_with("/record")));
            let stat = |(key, object): (&String, &Object)| {
                let key = if broken { key.replace(&own, "/leases") } else { key.clone() };
                ObjectStat::new(key, object.bytes.len() as u64, object.modified)
            };
            found.map(stat).collect()
        })
        .await
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        let name = self.key(key);
        self.change("delete", key, move |world| {
            if world.origin.remove(&name).is_some() {
                world.note(|| format!("origin has no {name} any more"));
                world.stats.count("objects pruned");
                world.watch_removal(&name);
            }
        })
        .await
    }

    fn scratch(&self) -> Result<PathBuf, Error> {
        Err(Error::Refused("nobody writes files here".to_owned()))
    }
}

#[async_trait]
impl Clock for ActorClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.sim.now() + self.skew)
    }

    async fn sleep(&self, span: Span) {
        let pause = pause(&mut self.sim.world());
        self.sim.wait(span.nanos() + pause).await;
    }
}

/// How much longer something takes than it should: mostly nothing, and sometimes longer than a lease.
pub(crate) fn pause(world: &mut World) -> i64 {
    let rate = world.setting.faults.pause;
    if !world.random.chance(rate) {
        return 0;
    }
    world.stats.count("pauses");
    world.random.between(1, 600) * SECOND
}

/// A call that takes longer has failed.
const CALL: i64 = 60 * SECOND;
