//! Stores whose calls are looked at, counted, timed, held up and cut off.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use mezze_replica::{Backend, Entry, Error, KeyList, KeyValue, NotDone, ObjectStat, Store, Target, TargetLimits, Value};
use tokio::sync::{Notify, Semaphore};

use crate::vendors::clock::Clock;
use crate::world::Watcher;

/// Ends a run at its n-th call of whatever store, before or after that took effect.
#[derive(Debug, Default)]
pub(crate) struct Knife {
    calls: AtomicU64,
    at: u64,
    after: bool,
    cut: Notify,
}

impl Knife {
    pub(crate) fn new(at: u64, after: bool) -> Arc<Self> {
        Arc::new(Self { at, after, ..Self::default() })
    }

    /// Calls so far.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    /// Runs until the end or until the cut; `None` where it was cut.
    pub(crate) async fn run<T>(&self, run: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = run => Some(done),
            () = self.cut.notified() => None,
        }
    }

    async fn around<T>(&self, call: impl Future<Output = T>) -> T {
        if self.calls.fetch_add(1, Ordering::SeqCst) + 1 != self.at {
            return call.await;
        }
        if self.after {
            call.await;
        }
        self.cut.notify_one();
        std::future::pending().await
    }
}

/// A call of a key-value store.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) at: i64,
    pub(crate) what: What,
    pub(crate) keys: Vec<String>,
    /// Bytes of the values.
    pub(crate) bytes: usize,
    pub(crate) failed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Delete,
    List,
    Read,
    Replace,
    Write,
}

pub(crate) type Hook = Box<dyn Fn(&Entry) + Send + Sync>;

/// A key-value store whose calls are known.
pub(crate) struct Keys {
    inner: Arc<dyn KeyValue>,
    limits: TargetLimits,
    clock: Clock,
    knife: Option<Arc<Knife>>,
    watcher: Option<Arc<Watcher>>,
    /// Called before the head is replaced.
    before_head: Option<Hook>,
    /// Called with a key of the first batch once that is written.
    after_write: Mutex<Option<Hook>>,
    /// A write waits for a permit, where there is a gate.
    gate: Option<Arc<Gate>>,
    made: Mutex<Vec<Made>>,
}

/// Where writes wait.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) arrived: Notify,
    pub(crate) permits: Semaphore,
}

impl Keys {
    pub(crate) fn of(target: &Target, clock: &Clock) -> Self {
        let Target::Keys(inner) = target else { panic!("a folder has no keys") };
        let (inner, limits) = (Arc::clone(inner), inner.limits().clone());
        let (made, clock) = (Mutex::default(), clock.clone());
        Self {
            inner,
            limits,
            clock,
            knife: None,
            watcher: None,
            before_head: None,
            after_write: Mutex::default(),
            gate: None,
            made,
        }
    }

    pub(crate) fn with_limits(mut self, change: impl FnOnce(&mut TargetLimits)) -> Self {
        change(&mut self.limits);
        self
    }

    pub(crate) fn cut_by(mut self, knife: &Arc<Knife>) -> Self {
        self.knife = Some(Arc::clone(knife));
        self
    }

    /// A reader looks after every call that changes something.
    pub(crate) fn watched_by(mut self, watcher: &Arc<Watcher>) -> Self {
        self.watcher = Some(Arc::clone(watcher));
        self
    }

    pub(crate) fn before_head(mut self, hook: impl Fn(&Entry) + Send + Sync + 'static) -> Self {
        self.before_head = Some(Box::new(hook));
        self
    }

    pub(crate) fn once_after_write(self, hook: Hook) -> Self {
        Self { after_write: Mutex::new(Some(hook)), ..self }
    }

    pub(crate) fn gated(mut self) -> (Self, Arc<Gate>) {
        let gate = Arc::new(Gate { arrived: Notify::new(), permits: Semaphore::new(0) });
        self.gate = Some(Arc::clone(&gate));
        (self, gate)
    }

    pub(crate) fn made(&self) -> Vec<Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The calls that write.
    pub(crate) fn writes(&self) -> Vec<Made> {
        let mut made = self.made();
        made.retain(|made| matches!(made.what, What::Replace | What::Write));
        made
    }

    async fn around<T>(
        &self,
        what: What,
        keys: Vec<String>,
        bytes: usize,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let at = self.clock.now();
        let call = async {
            let result = call.await;
            let made = Made { at, what, keys, bytes, failed: result.is_err() };
            self.made.lock().unwrap_or_else(PoisonError::into_inner).push(made);
            if !matches!(what, What::List | What::Read)
                && let Some(watcher) = &self.watcher
            {
                watcher.look();
            }
            result
        };
        match &self.knife {
            Some(knife) => knife.around(call).await,
            None => call.await,
        }
    }
}

/// The target of wrapped keys, and the keys to look at.
pub(crate) fn target(keys: Keys) -> (Arc<Keys>, Target) {
    let keys = Arc::new(keys);
    (Arc::clone(&keys), Target::Keys(keys))
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("inner", &self.inner).finish_non_exhaustive()
    }
}

#[async_trait]
impl KeyValue for Keys {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn limits(&self) -> &TargetLimits {
        &self.limits
    }

    async fn read(&self, key: &str) -> Result<Option<Value>, Error> {
        self.around(What::Read, vec![key.to_owned()], 0, self.inner.read(key)).await
    }

    async fn list(&self, prefix: &str, cursor: Option<&str>) -> Result<KeyList, Error> {
        self.around(What::List, Vec::new(), 0, self.inner.list(prefix, cursor)).await
    }

    async fn write(&self, batch: &[Entry]) -> Result<Vec<NotDone>, Error> {
        if let Some(gate) = &self.gate {
            gate.arrived.notify_one();
            gate.permits.acquire().await.expect("it stays open").forget();
        }
        let keys = batch.iter().map(|entry| entry.key.clone()).collect();
        let bytes = batch.iter().map(|entry| entry.value.len()).sum();
        let failed = self.around(What::Write, keys, bytes, self.inner.write(batch)).await?;
        let hook = self.after_write.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let (Some(hook), Some(entry)) = (hook, batch.first()) {
            hook(entry);
        }
        Ok(failed)
    }

    async fn replace(&self, entry: &Entry, version: Option<&str>) -> Result<(), Error> {
        if let Some(hook) = &self.before_head {
            hook(entry);
        }
        self.around(What::Replace, vec![entry.key.clone()], entry.value.len(), self.inner.replace(entry, version)).await
    }

    async fn delete(&self, keys: &[String]) -> Result<Vec<NotDone>, Error> {
        self.around(What::Delete, keys.to_vec(), 0, self.inner.delete(keys)).await
    }

    fn digest_of(&self, entry: &Entry) -> Option<String> {
        self.inner.digest_of(entry)
    }
}

/// A place for objects whose calls a knife counts.
#[derive(Debug)]
struct Objects {
    inner: Arc<dyn Backend>,
    knife: Arc<Knife>,
}

/// The same store, whose calls a knife counts.
pub(crate) fn cut_store(store: &Store, knife: &Arc<Knife>) -> Store {
    Store::of(Objects { inner: store.backend(), knife: Arc::clone(knife) })
}

#[async_trait]
impl Backend for Objects {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn folder(&self) -> Option<&Path> {
        self.inner.folder()
    }

    async fn read(&self, key: &str) -> Result<Option<Bytes>, Error> {
        self.knife.around(self.inner.read(key)).await
    }

    async fn read_range(&self, key: &str, offset: u64, length: u64) -> Result<Option<Bytes>, Error> {
        self.knife.around(self.inner.read_range(key, offset, length)).await
    }

    async fn stat(&self, key: &str) -> Result<Option<ObjectStat>, Error> {
        self.knife.around(self.inner.stat(key)).await
    }

    async fn replace(&self, key: &str, bytes: Bytes) -> Result<(), Error> {
        self.knife.around(self.inner.replace(key, bytes)).await
    }

    async fn create(&self, key: &str, bytes: Bytes) -> Result<bool, Error> {
        self.knife.around(self.inner.create(key, bytes)).await
    }

    async fn adopt(&self, key: &str, file: &Path) -> Result<(), Error> {
        self.knife.around(self.inner.adopt(key, file)).await
    }

    async fn list(&self, folder: &str) -> Result<Vec<ObjectStat>, Error> {
        self.knife.around(self.inner.list(folder)).await
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        self.knife.around(self.inner.delete(key)).await
    }

    fn scratch(&self) -> Result<PathBuf, Error> {
        self.inner.scratch()
    }
}
