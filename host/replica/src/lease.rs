//! Leases: who may write to a replica.

use mezze_core::{Span, Timestamp};

use crate::layout::{lease_folder, lease_key, number_of};
use crate::record::{LeaseRecord, seal, unseal};
use crate::{Clock, Error, Origin, Store};

/// The right to write to a replica, until it ends or a later one is given out.
///
/// Leases are numbered objects in the origin, each created only if it is not there, so that places without compare-and-swap
/// will do. The highest number is the one that holds. Its number, the fence, goes into what is written under it: a
/// holder that was away for too long finds a higher one and must stop.
#[derive(Debug)]
pub struct Lease {
    store: Store,
    replica: String,
    record: LeaseRecord,
    /// Something that was written under it may still be done until then.
    kept_until: Option<Timestamp>,
}

impl Lease {
    /// Takes the lease of a replica for `length` from `now`.
    ///
    /// # Errors
    /// [`Error::Held`] while another holder's lease runs, [`Error::Conflict`] where someone took it at the same time.
    pub async fn take(origin: &Origin, replica: &str, holder: &str, now: Timestamp, length: Span) -> Result<Self, Error> {
        let store = origin.store().clone();
        let newest = newest(&store, replica).await?;
        if let Some(held) = newest.as_ref().filter(|held| !held.released && held.expires_at > now) {
            return Err(Error::Held {
                what: format!("replica {replica}"),
                holder: held.holder.clone(),
                until: held.expires_at.to_string(),
            });
        }
        let fence = newest.map_or(1, |newest| newest.fence.saturating_add(1));
        let expires_at = now.saturating_add(length);
        let record = LeaseRecord { fence, holder: holder.to_owned(), expires_at, released: false };
        let key = lease_key(replica, fence);
        let sealed = seal(&record)?;
        // A service's reply may be lost, and the call made again finds what it wrote the first time.
        let is_ours = store.create(&key, sealed.clone()).await? || store.read(&key).await?.is_some_and(|found| found == sealed);
        if !is_ours {
            return Err(Error::Conflict { what: format!("lease {fence} of replica {replica}") });
        }
        Ok(Self { store, replica: replica.to_owned(), record, kept_until: None })
    }

    /// Its number: higher than that of every lease before it.
    pub const fn fence(&self) -> u64 {
        self.record.fence
    }

    /// For how long it still runs.
    pub const fn left(&self, now: Timestamp) -> Span {
        self.record.expires_at.since(now)
    }

    /// Checks that it still holds at `now`: to be asked before each write that others can see.
    ///
    /// # Errors
    /// [`Error::Conflict`] where it ended, or someone else has a later one.
    pub async fn check(&self, now: Timestamp) -> Result<(), Error> {
        let newest = newest(&self.store, &self.replica).await?;
        if newest.is_some_and(|newest| newest.fence == self.record.fence) && now < self.record.expires_at {
            return Ok(());
        }
        Err(Error::Conflict { what: format!("the lease of replica {}", self.replica) })
    }

    /// Makes it run for `length` from `now`.
    ///
    /// # Errors
    /// [`Error::Conflict`] where it ended, or someone else has a later one.
    pub async fn renew(&mut self, now: Timestamp, length: Span) -> Result<(), Error> {
        self.check(now).await?;
        let renewed = LeaseRecord { expires_at: now.saturating_add(length), ..self.record.clone() };
        self.write(&renewed).await?;
        self.record = renewed;
        Ok(())
    }

    /// Checks that it holds for longer than any call takes, and makes it run for `length` anew where a third of it is over.
    ///
    /// # Errors
    /// As for [`Lease::check`].
    pub(crate) async fn hold(&mut self, clock: &dyn Clock, length: Span) -> Result<(), Error> {
        for _ in 0..HOLDS {
            let now = clock.now();
            if self.left(now).nanos() < length.nanos() / 3 * 2 {
                self.renew(now, length).await?;
            } else {
                self.check(now).await?;
            }
            // To look may have taken long itself.
            if self.left(clock.now()).nanos() > length.nanos() / 2 {
                return Ok(());
            }
        }
        Err(Error::Conflict { what: format!("the lease of replica {}", self.replica) })
    }

    /// Lets nobody else have it before `until`, unless it ends by itself.
    pub(crate) fn keep_until(&mut self, until: Timestamp) {
        self.kept_until = self.kept_until.max(Some(until));
    }

    /// Gives it back, so that the next holder need not wait for its end, unless what was written under it may still be done.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the origin fails: then it ends by itself.
    pub async fn release(mut self) -> Result<(), Error> {
        match self.kept_until {
            Some(until) => self.record.expires_at = self.record.expires_at.min(until),
            None => self.record.released = true,
        }
        self.write(&self.record).await?;
        // Lower numbers say nothing any more; the highest has to stay, so that no number is given out twice.
        for object in self.store.list(&lease_folder(&self.replica)).await? {
            if number_of(&object.key).is_some_and(|fence| fence < self.record.fence) {
                self.store.delete(&object.key).await?;
            }
        }
        Ok(())
    }

    async fn write(&self, record: &LeaseRecord) -> Result<(), Error> {
        self.store.replace(&lease_key(&self.replica, record.fence), seal(record)?).await
    }
}

async fn newest(store: &Store, replica: &str) -> Result<Option<LeaseRecord>, Error> {
    let leases = store.list(&lease_folder(replica)).await?;
    let Some(key) = leases.into_iter().map(|object| object.key).rfind(|key| number_of(key).is_some()) else { return Ok(None) };
    let bytes = store.require(&key).await?;
    unseal(&store.full_name(&key), &bytes).map(Some)
}

/// How often it is looked at until that is fast enough.
const HOLDS: u32 = 3;
