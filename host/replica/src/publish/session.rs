//! Calls of a key-value store under a lease: paced, repeated where that may help, and counted.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use mezze_core::{Span, Timestamp};

use crate::target::{Entry, KeyList, KeyValue, ListedKey, NotDone, Value};
use crate::{Clock, Error, Lease, Origin};

/// The lease of one run, which its calls share.
pub(crate) struct Hold<'a> {
    lease: futures::lock::Mutex<Lease>,
    clock: &'a dyn Clock,
    /// For how long it is taken anew.
    length: Span,
}

/// One run's use of a store.
pub(crate) struct Session<'a> {
    pub(crate) target: &'a dyn KeyValue,
    clock: &'a dyn Clock,
    /// A run that only looks has none.
    hold: Option<&'a Hold<'a>>,
    paced: Mutex<Paced>,
}

/// What calls were made.
#[derive(Debug, Default)]
struct Paced {
    /// When the last calls were made.
    recent: VecDeque<Timestamp>,
    calls: Calls,
}

/// Calls of a store's interface, and keys in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Calls {
    /// All calls, those that failed included.
    pub calls: u64,
    /// Calls that were made again.
    pub repeated: u64,
    /// Calls that listed.
    pub lists: u64,
    /// Keys that were read.
    pub reads: u64,
    /// Keys that were written, each time.
    pub writes: u64,
    /// Keys that were removed.
    pub deletes: u64,
    /// Bytes of the values that were written.
    pub bytes_written: u64,
}

impl<'a> Hold<'a> {
    pub(crate) async fn take(
        origin: &Origin,
        replica: &str,
        holder: &str,
        clock: &'a dyn Clock,
        length: Span,
    ) -> Result<Self, Error> {
        let lease = Lease::take(origin, replica, holder, clock.now(), length).await?;
        Ok(Self { lease: futures::lock::Mutex::new(lease), clock, length })
    }

    /// Checks that the lease is still this run's and runs for longer than a call, and takes it anew where a third of it is over.
    pub(crate) async fn check(&self) -> Result<(), Error> {
        self.lease.lock().await.hold(self.clock, self.length).await
    }

    pub(crate) async fn fence(&self) -> u64 {
        self.lease.lock().await.fence()
    }

    /// Lets nobody else have it before then.
    pub(crate) async fn keep_until(&self, until: Timestamp) {
        self.lease.lock().await.keep_until(until);
    }

    pub(crate) async fn release(self) -> Result<(), Error> {
        self.lease.into_inner().release().await
    }
}

impl<'a> Session<'a> {
    pub(crate) fn new(target: &'a dyn KeyValue, clock: &'a dyn Clock, hold: Option<&'a Hold<'a>>) -> Self {
        Self { target, clock, hold, paced: Mutex::default() }
    }

    pub(crate) fn calls(&self) -> Calls {
        self.count(|calls| *calls)
    }

    fn count<T>(&self, change: impl FnOnce(&mut Calls) -> T) -> T {
        change(&mut self.paced.lock().unwrap_or_else(PoisonError::into_inner).calls)
    }

    pub(crate) async fn read(&self, key: &str) -> Result<Option<Value>, Error> {
        self.count(|calls| calls.reads += 1);
        self.attempt(async || self.target.read(key).await).await
    }

    /// All keys with this prefix.
    pub(crate) async fn list(&self, prefix: &str) -> Result<Vec<ListedKey>, Error> {
        let mut keys = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            self.count(|calls| calls.lists += 1);
            let KeyList { keys: some, cursor: next } =
                self.attempt(async || self.target.list(prefix, cursor.as_deref()).await).await?;
            keys.extend(some);
            match next {
                Some(next) if cursor.as_ref() != Some(&next) => cursor = Some(next),
                _ => return Ok(keys),
            }
        }
    }

    pub(crate) async fn write(&self, batch: &[Entry]) -> Result<Vec<NotDone>, Error> {
        self.count(|calls| {
            calls.writes += batch.len() as u64;
            calls.bytes_written += batch.iter().map(|entry| entry.value.len() as u64).sum::<u64>();
        });
        self.attempt(async || self.under_lease(async || self.target.write(batch).await).await).await
    }

    pub(crate) async fn replace(&self, entry: &Entry, version: Option<&str>) -> Result<(), Error> {
        self.count(|calls| {
            calls.writes += 1;
            calls.bytes_written += entry.value.len() as u64;
        });
        self.attempt(async || self.under_lease(async || self.target.replace(entry, version).await).await).await
    }

    pub(crate) async fn delete(&self, keys: &[String]) -> Result<Vec<NotDone>, Error> {
        self.count(|calls| calls.deletes += keys.len() as u64);
        self.attempt(async || self.under_lease(async || self.target.delete(keys).await).await).await
    }

    /// Waits, and keeps the lease meanwhile.
    pub(crate) async fn sleep(&self, span: Span) -> Result<(), Error> {
        let mut left = span.nanos();
        while left > 0 {
            let step = match &self.hold {
                Some(hold) => left.min((hold.length.nanos() / 3).max(1)),
                None => left,
            };
            self.clock.sleep(Span::from_nanos(step)).await;
            left -= step;
            self.check().await?;
        }
        Ok(())
    }

    async fn check(&self) -> Result<(), Error> {
        match self.hold {
            Some(hold) => hold.check().await,
            None => Ok(()),
        }
    }

    /// Makes a call that changes something.
    async fn under_lease<T>(&self, mut call: impl AsyncFnMut() -> Result<T, Error>) -> Result<T, Error> {
        self.check().await?;
        let begun = self.clock.now();
        let result = call().await;
        if let (Err(Error::Unavailable { .. }), Some(hold)) = (&result, self.hold) {
            let seen = begun.saturating_add(Span::from_seconds(CALL_SECONDS)).saturating_add(self.target.limits().propagation);
            hold.keep_until(seen).await;
        }
        result
    }

    /// Makes a call, again where it failed for a reason that may pass.
    async fn attempt<T>(&self, mut call: impl AsyncFnMut() -> Result<T, Error>) -> Result<T, Error> {
        let mut tries = 0;
        let mut busy = 0;
        loop {
            self.pace().await?;
            let error = match call().await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let pause = match &error {
                Error::Busy { retry_after, .. } if busy < BUSY_TRIES => {
                    busy += 1;
                    retry_after.unwrap_or_else(|| pause(busy))
                }
                Error::Unavailable { .. } if tries < TRIES => {
                    tries += 1;
                    pause(tries)
                }
                _ => return Err(error),
            };
            self.count(|calls| calls.repeated += 1);
            self.sleep(pause).await?;
        }
    }

    /// Waits until the store takes another call.
    async fn pace(&self) -> Result<(), Error> {
        loop {
            let now = self.clock.now();
            let wait = {
                let mut paced = self.paced.lock().unwrap_or_else(PoisonError::into_inner);
                let wait = self.target.limits().calls.and_then(|(most, window)| {
                    while paced.recent.front().is_some_and(|at| now.since(*at) >= window) {
                        paced.recent.pop_front();
                    }
                    let oldest = paced.recent.front().filter(|_| paced.recent.len() >= most)?;
                    Some(Span::from_nanos(window.nanos() - now.since(*oldest).nanos()))
                });
                if wait.is_none() {
                    paced.calls.calls += 1;
                    if self.target.limits().calls.is_some() {
                        paced.recent.push_back(now);
                    }
                }
                wait
            };
            match wait {
                None => return Ok(()),
                Some(wait) => self.sleep(wait).await?,
            }
        }
    }
}

/// A second, for stores that take a key once in that time, and twice as long each time, up to half a minute.
fn pause(times: u32) -> Span {
    Span::from_nanos((PAUSE_NANOS << times.saturating_sub(1).min(6)).min(PAUSE_NANOS_MAX))
}

/// No call takes longer. One that failed may still be done until then, and be seen later still: nobody else may write before.
const CALL_SECONDS: i64 = 60;
/// Repeats of a call that fails: together a minute.
const TRIES: u32 = 6;
/// Repeats of a call that the store has no time for.
const BUSY_TRIES: u32 = 20;
const PAUSE_NANOS: i64 = 1_000_000_000;
const PAUSE_NANOS_MAX: i64 = 30_000_000_000;
