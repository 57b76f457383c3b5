//! Key-value stores that snapshots are published to.

mod client;
mod cloudflare;
mod fastly;
mod limits;
mod objects;
mod redis;
mod spin;

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

use crate::Error;

pub(crate) use client::describe;
pub use cloudflare::CloudflareKv;
pub use fastly::FastlyKv;
pub use limits::{Listing as ListingKind, Price, TargetLimits};
pub use objects::ObjectKeys;
pub use redis::RedisKeys;
pub use spin::SpinKeys;

/// A key-value store that holds a replica: `head`, `m/<snapshot>` and `p/<segment>/<table>/<bucket>`.
///
/// Each call is one call of the store's own interface, and does not try again: whoever calls paces the calls and
/// repeats those that [`Error::is_transient`]. Every call may be repeated, done or not.
#[async_trait]
pub trait KeyValue: fmt::Debug + Send + Sync {
    /// What it is, for messages: never with a secret in it.
    fn place(&self) -> String;

    /// What it takes and what it costs.
    fn limits(&self) -> &TargetLimits;

    /// The value of a key, `None` where there is none.
    async fn read(&self, key: &str) -> Result<Option<Value>, Error>;

    /// The keys with this prefix, from `cursor` on.
    async fn list(&self, prefix: &str, cursor: Option<&str>) -> Result<KeyList, Error>;

    /// Writes a batch within [`TargetLimits::batch_keys`] and [`TargetLimits::batch_bytes`]. Not atomic.
    async fn write(&self, batch: &[Entry]) -> Result<Vec<NotDone>, Error>;

    /// Replaces the one key that changes, where the store can only if it has still the version that was read.
    ///
    /// # Errors
    /// [`Error::Conflict`] where someone else wrote it since.
    async fn replace(&self, entry: &Entry, version: Option<&str>) -> Result<(), Error>;

    /// Removes keys, at most [`TargetLimits::delete_keys`] of them. One that is not there counts as removed.
    async fn delete(&self, keys: &[String]) -> Result<Vec<NotDone>, Error>;

    /// What a listing says about this entry once it is written; `None` where it says nothing.
    fn digest_of(&self, entry: &Entry) -> Option<String>;
}

/// A value that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Its bytes.
    pub bytes: Bytes,
    /// What names this version of it, where the store counts versions.
    pub version: Option<String>,
}

/// A key to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Bytes,
    /// 32 hex digits that the value's content decides: what a store that keeps metadata shows in its listing.
    pub digest: String,
}

/// Some of the keys of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyList {
    /// The keys, in no order.
    pub keys: Vec<ListedKey>,
    /// Where the next call goes on; `None` at the end.
    pub cursor: Option<String>,
}

/// A key as a listing has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedKey {
    /// The key.
    pub key: String,
    /// The value's bytes, where the listing says so.
    pub bytes: Option<u64>,
    /// [`KeyValue::digest_of`] its value, where the listing says so.
    pub digest: Option<String>,
}

/// A key of a batch that the store did not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotDone {
    /// The key.
    pub key: String,
    /// What the store said.
    pub detail: String,
}
