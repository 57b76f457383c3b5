//! A place that stops working after a number of changes, as if its process were killed there.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use mezze_core::Span;
use mezze_replica::{Backend, Clock as _, Error, ObjectStat, Store};

use crate::TestClock;

/// Lets the first so many changes through and fails every one after them. Reading goes on working.
#[derive(Debug)]
pub(crate) struct Faulty {
    inner: Arc<dyn Backend>,
    left: Arc<AtomicI64>,
    /// How long a read of a range takes, by which clock.
    slow: Option<(Arc<TestClock>, Span)>,
}

impl Faulty {
    /// A store that fails after `changes` changes, and the count of those that are left.
    pub(crate) fn over(store: &Store, changes: i64) -> (Store, Arc<AtomicI64>) {
        let left = Arc::new(AtomicI64::new(changes));
        (Store::of(Self { inner: store.backend(), left: Arc::clone(&left), slow: None }), left)
    }

    /// A store that never fails, and takes its time.
    pub(crate) fn slow(store: &Store, clock: &Arc<TestClock>, span: Span) -> Store {
        let left = Arc::new(AtomicI64::new(i64::MAX));
        Store::of(Self { inner: store.backend(), left, slow: Some((Arc::clone(clock), span)) })
    }

    fn change(&self, key: &str) -> Result<(), Error> {
        if self.left.fetch_sub(1, Ordering::SeqCst) > 0 {
            return Ok(());
        }
        Err(Error::Unavailable { operation: "write", key: key.to_owned(), detail: "killed by the test".to_owned() })
    }
}

#[async_trait::async_trait]
impl Backend for Faulty {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn folder(&self) -> Option<&Path> {
        self.inner.folder()
    }

    async fn read(&self, key: &str) -> Result<Option<Bytes>, Error> {
        self.inner.read(key).await
    }

    async fn read_range(&self, key: &str, offset: u64, length: u64) -> Result<Option<Bytes>, Error> {
        if let Some((clock, span)) = &self.slow {
            clock.sleep(*span).await;
        }
        self.inner.read_range(key, offset, length).await
    }

    async fn stat(&self, key: &str) -> Result<Option<ObjectStat>, Error> {
        self.inner.stat(key).await
    }

    async fn replace(&self, key: &str, bytes: Bytes) -> Result<(), Error> {
        self.change(key)?;
        self.inner.replace(key, bytes).await
    }

    async fn create(&self, key: &str, bytes: Bytes) -> Result<bool, Error> {
        self.change(key)?;
        self.inner.create(key, bytes).await
    }

    async fn adopt(&self, key: &str, file: &Path) -> Result<(), Error> {
        self.change(key)?;
        self.inner.adopt(key, file).await
    }

    async fn list(&self, folder: &str) -> Result<Vec<ObjectStat>, Error> {
        self.inner.list(folder).await
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        self.change(key)?;
        self.inner.delete(key).await
    }

    fn scratch(&self) -> Result<PathBuf, Error> {
        self.inner.scratch()
    }
}
