//! Keys as objects: a folder or an object store that browsers read over HTTP.

use async_trait::async_trait;
use futures::StreamExt as _;

use super::{Entry, KeyList, KeyValue, ListedKey, ListingKind, NotDone, TargetLimits, Value};
use crate::{Error, Store};

/// A folder, or a prefix of an object store, that has an object under each key.
#[derive(Debug)]
pub struct ObjectKeys {
    store: Store,
    limits: TargetLimits,
}

impl ObjectKeys {
    /// Objects in this place.
    pub fn new(store: Store) -> Self {
        let remote = store.local_folder().is_none();
        let limits = TargetLimits {
            batch_keys: 64,
            delete_keys: 64,
            in_flight: if remote { 4 } else { 1 },
            ..TargetLimits::own(ListingKind::Names)
        };
        Self { store, limits }
    }
}

#[async_trait]
impl KeyValue for ObjectKeys {
    fn place(&self) -> String {
        self.store.place()
    }

    fn limits(&self) -> &TargetLimits {
        &self.limits
    }

    async fn read(&self, key: &str) -> Result<Option<Value>, Error> {
        Ok(self.store.read(key).await?.map(|bytes| Value { bytes, version: None }))
    }

    async fn list(&self, prefix: &str, _cursor: Option<&str>) -> Result<KeyList, Error> {
        let listed = self.store.list(prefix.trim_end_matches('/')).await?;
        let keys = listed.into_iter().map(|object| ListedKey { key: object.key, bytes: Some(object.size), digest: None });
        Ok(KeyList { keys: keys.collect(), cursor: None })
    }

    async fn write(&self, batch: &[Entry]) -> Result<Vec<NotDone>, Error> {
        let writes = futures::stream::iter(batch.to_vec()).map(async |entry| self.store.replace(&entry.key, entry.value).await);
        let results: Vec<Result<(), Error>> = writes.buffer_unordered(AT_ONCE).collect().await;
        results.into_iter().collect::<Result<(), Error>>()?;
        Ok(Vec::new())
    }

    async fn replace(&self, entry: &Entry, _version: Option<&str>) -> Result<(), Error> {
        self.store.replace(&entry.key, entry.value.clone()).await
    }

    async fn delete(&self, keys: &[String]) -> Result<Vec<NotDone>, Error> {
        let removals = futures::stream::iter(keys.to_vec()).map(async |key| self.store.delete(&key).await);
        let results: Vec<Result<(), Error>> = removals.buffer_unordered(AT_ONCE).collect().await;
        results.into_iter().collect::<Result<(), Error>>()?;
        Ok(Vec::new())
    }

    fn digest_of(&self, _entry: &Entry) -> Option<String> {
        None
    }
}

/// Objects of a batch that are written at a time.
const AT_ONCE: usize = 16;
