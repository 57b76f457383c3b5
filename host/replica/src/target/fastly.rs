//! Fastly's KV Store, over its REST interface.

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures::StreamExt as _;
use mezze_core::Span;
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::client::{Api, Call, escape};
use super::{Entry, KeyList, KeyValue, ListedKey, ListingKind, NotDone, TargetLimits, Value};
use crate::Error;

/// A KV Store of Fastly.
#[derive(Debug)]
pub struct FastlyKv {
    api: Api,
    store: String,
    path: String,
    limits: TargetLimits,
}

#[derive(Serialize)]
struct Line<'a> {
    key: &'a str,
    value: String,
    metadata: &'a str,
}

#[derive(Deserialize)]
struct BatchReply {
    #[serde(default)]
    errors: Vec<serde_json::Map<String, serde_json::Value>>,
}

#[derive(Deserialize)]
struct ListReply {
    #[serde(default)]
    data: Vec<String>,
    meta: Option<ListMeta>,
}

#[derive(Deserialize)]
struct ListMeta {
    next_cursor: Option<String>,
}

impl FastlyKv {
    /// A store, with a token that may write to it. `api` is the interface's URL, [`FastlyKv::API`] but for tests.
    ///
    /// # Errors
    /// [`Error::Location`] or [`Error::Denied`] where URL or token cannot be ones.
    pub fn new(api: &str, store: &str, token: &str, token_env: &str) -> Result<Self, Error> {
        let api = Api::new("Fastly KV Store", api, ("fastly-key", ""), token, token_env)?;
        let path = format!("/resources/stores/kv/{}", escape(store));
        Ok(Self { api, store: store.to_owned(), path, limits: Self::limits() })
    }

    /// The interface's URL.
    pub const API: &'static str = "https://api.fastly.com";

    /// Of the KV Store. The vendor publishes no bounds of a batch and no rates: batches are those that others report to pass, two
    /// under way, and a 429 is obeyed. Prices are not published either.
    pub const fn limits() -> TargetLimits {
        TargetLimits {
            key_bytes: 1_024,
            value_bytes: 25_000_000,
            batch_keys: 500,
            batch_bytes: 4 << 20,
            list_keys: LIST_KEYS,
            delete_keys: 100,
            in_flight: 2,
            calls: None,
            propagation: Span::from_seconds(1),
            listing: ListingKind::Names,
            price: None,
        }
    }

    fn call<'a>(&self, operation: &'static str, method: Method, path: &str, about: &'a str) -> Call<'a> {
        Call { operation, method, path: format!("{}{path}", self.path), headers: Vec::new(), body: None, about }
    }
}

#[async_trait]
impl KeyValue for FastlyKv {
    fn place(&self) -> String {
        format!("Fastly KV Store {}", self.store)
    }

    fn limits(&self) -> &TargetLimits {
        &self.limits
    }

    async fn read(&self, key: &str) -> Result<Option<Value>, Error> {
        let reply = self.api.call(self.call("read", Method::GET, &format!("/keys/{}", escape(key)), key)).await?;
        match reply.status {
            StatusCode::NOT_FOUND => {
                // A store that does not exist says so.
                if reply.said().contains("store") {
                    return Err(self.api.refused("read", key, &reply));
                }
                Ok(None)
            }
            status if status.is_success() => {
                let version = reply.headers.get("generation").and_then(|version| version.to_str().ok()).map(str::to_owned);
                Ok(Some(Value { bytes: reply.body, version }))
            }
            _ => Err(self.api.refused("read", key, &reply)),
        }
    }

    async fn list(&self, prefix: &str, cursor: Option<&str>) -> Result<KeyList, Error> {
        let mut path = format!("/keys?consistency=strong&limit={LIST_KEYS}&prefix={}", escape(prefix));
        if let Some(cursor) = cursor {
            path = format!("{path}&cursor={}", escape(cursor));
        }
        let reply = self.api.call(self.call("list", Method::GET, &path, "the keys")).await?;
        if !reply.status.is_success() {
            return Err(self.api.refused("list", "the keys", &reply));
        }
        let list: ListReply = serde_json::from_slice(&reply.body).map_err(|error| Error::Unavailable {
            operation: "list",
            key: self.place(),
            detail: format!("its reply is not what it should be: {error}"),
        })?;
        let keys = list.data.into_iter().map(|key| ListedKey { key, bytes: None, digest: None }).collect();
        Ok(KeyList { keys, cursor: list.meta.and_then(|meta| meta.next_cursor).filter(|cursor| !cursor.is_empty()) })
    }

    async fn write(&self, batch: &[Entry]) -> Result<Vec<NotDone>, Error> {
        let mut body = Vec::new();
        for entry in batch {
            let line = Line { key: &entry.key, value: BASE64_STANDARD.encode(&entry.value), metadata: &entry.digest };
            serde_json::to_writer(&mut body, &line).map_err(|error| Error::Refused(error.to_string()))?;
            body.push(b'\n');
        }
        let mut call = self.call("write", Method::PUT, "/batch", "a batch");
        call.headers.push(("content-type", "application/x-ndjson".to_owned()));
        call.body = Some(Bytes::from(body));
        let reply = self.api.call(call).await?;
        if !reply.status.is_success() {
            return Err(self.api.refused("write", "a batch", &reply));
        }
        let parsed: BatchReply = serde_json::from_slice(&reply.body).map_err(|error| Error::Unavailable {
            operation: "write",
            key: self.place(),
            detail: format!("its reply is not what it should be: {error}"),
        })?;
        if parsed.errors.is_empty() {
            return Ok(Vec::new());
        }
        let named: Vec<&str> = parsed.errors.iter().filter_map(|error| error.get("key")?.as_str()).collect();
        // The form of an error is not published: without a key of the batch in each, any of them may have failed.
        let all_named = named.len() == parsed.errors.len() && named.iter().all(|key| batch.iter().any(|entry| entry.key == *key));
        let failed = batch.iter().filter(|entry| !all_named || named.contains(&entry.key.as_str()));
        Ok(failed.map(|entry| NotDone { key: entry.key.clone(), detail: reply.said() }).collect())
    }

    async fn replace(&self, entry: &Entry, version: Option<&str>) -> Result<(), Error> {
        let add = if version.is_some() { "" } else { "?add=true" };
        let path = format!("/keys/{}{add}", escape(&entry.key));
        let mut call = self.call("write", Method::PUT, &path, &entry.key);
        call.headers.push(("metadata", entry.digest.clone()));
        if let Some(version) = version {
            call.headers.push(("if-generation-match", version.to_owned()));
        }
        call.body = Some(entry.value.clone());
        let reply = self.api.call(call).await?;
        match reply.status {
            StatusCode::PRECONDITION_FAILED => {
                // It may be this very value, written by a call whose reply was lost.
                match self.read(&entry.key).await? {
                    Some(found) if found.bytes == entry.value => Ok(()),
                    _ => Err(Error::Conflict { what: format!("{} of {}", entry.key, self.place()) }),
                }
            }
            status if status.is_success() => Ok(()),
            _ => Err(self.api.refused("write", &entry.key, &reply)),
        }
    }

    async fn delete(&self, keys: &[String]) -> Result<Vec<NotDone>, Error> {
        let removals = futures::stream::iter(keys.to_vec()).map(async |key| {
            let path = format!("/keys/{}?force=true", escape(&key));
            let reply = self.api.call(self.call("delete", Method::DELETE, &path, &key)).await;
            match reply {
                Ok(reply) if reply.status.is_success() || reply.status == StatusCode::NOT_FOUND => Ok(None),
                Ok(reply) => Err(self.api.refused("delete", &key, &reply)),
                Err(error) if error.is_transient() => Ok(Some(NotDone { key, detail: error.to_string() })),
                Err(error) => Err(error),
            }
        });
        let results: Vec<Result<Option<NotDone>, Error>> = removals.buffer_unordered(self.limits.in_flight).collect().await;
        Ok(results.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    fn digest_of(&self, _entry: &Entry) -> Option<String> {
        None
    }
}

/// Keys of one listing.
const LIST_KEYS: usize = 1_000;
