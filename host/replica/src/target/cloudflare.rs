//! Workers KV, over its REST interface.

use std::collections::BTreeMap;

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use mezze_core::Span;
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::client::{Api, Call, Reply, escape};
use super::{Entry, KeyList, KeyValue, ListedKey, ListingKind, NotDone, Price, TargetLimits, Value};
use crate::Error;

/// A namespace of Workers KV.
#[derive(Debug)]
pub struct CloudflareKv {
    api: Api,
    namespace: String,
    path: String,
    limits: TargetLimits,
}

/// What every reply but a value is.
#[derive(Deserialize)]
struct Envelope<T> {
    result: Option<T>,
    result_info: Option<ResultInfo>,
}

#[derive(Deserialize)]
struct ResultInfo {
    #[serde(default)]
    cursor: String,
}

#[derive(Serialize)]
struct Pair<'a> {
    key: &'a str,
    value: String,
    base64: bool,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct BulkResult {
    #[serde(default)]
    unsuccessful_keys: Vec<String>,
}

#[derive(Deserialize)]
struct ListedName {
    name: String,
    metadata: Option<Metadata>,
}

/// What is written beside a value, and comes back in listings.
#[derive(Deserialize, Serialize)]
struct Metadata {
    /// Its digest.
    #[serde(default)]
    digest: String,
}

impl CloudflareKv {
    /// A namespace, with a token that may write to it. `api` is the interface's URL, [`CloudflareKv::API`] but for tests.
    ///
    /// # Errors
    /// [`Error::Location`] or [`Error::Denied`] where URL or token cannot be ones.
    pub fn new(api: &str, account: &str, namespace: &str, token: &str, token_env: &str) -> Result<Self, Error> {
        let api = Api::new("Workers KV", api, ("authorization", "Bearer "), token, token_env)?;
        let path = format!("/client/v4/accounts/{}/storage/kv/namespaces/{}", escape(account), escape(namespace));
        Ok(Self { api, namespace: namespace.to_owned(), path, limits: Self::limits() })
    }

    /// The interface's URL.
    pub const API: &'static str = "https://api.cloudflare.com";

    /// Of Workers KV and its REST interface.
    pub const fn limits() -> TargetLimits {
        TargetLimits {
            key_bytes: 512,
            value_bytes: 25 << 20,
            batch_keys: 10_000,
            // 100 MB of JSON; base64 makes four bytes of three. Half of it, so that a batch is a matter of seconds.
            batch_bytes: 32 << 20,
            list_keys: LIST_KEYS,
            delete_keys: 10_000,
            in_flight: 3,
            calls: Some((1_200, Span::from_seconds(300))),
            propagation: Span::from_seconds(60),
            listing: ListingKind::Written,
            price: Some(Price {
                million_writes: 5.0,
                million_lists: 5.0,
                million_reads: 0.5,
                gigabyte_month: 0.5,
                source: "Cloudflare's list price of 2026, without what a plan includes",
            }),
        }
    }

    async fn json<T: for<'de> Deserialize<'de>>(&self, call: Call<'_>) -> Result<Envelope<T>, Error> {
        let (operation, about) = (call.operation, call.about.to_owned());
        let reply = self.api.call(call).await?;
        if !reply.status.is_success() {
            return Err(self.api.refused(operation, &about, &reply));
        }
        serde_json::from_slice(&reply.body).map_err(|error| Error::Unavailable {
            operation,
            key: format!("{about} of {}", self.api.name()),
            detail: format!("its reply is not what it should be: {error}"),
        })
    }

    fn call<'a>(&self, operation: &'static str, method: Method, path: &str, about: &'a str) -> Call<'a> {
        Call { operation, method, path: format!("{}{path}", self.path), headers: Vec::new(), body: None, about }
    }
}

#[async_trait]
impl KeyValue for CloudflareKv {
    fn place(&self) -> String {
        format!("Workers KV namespace {}", self.namespace)
    }

    fn limits(&self) -> &TargetLimits {
        &self.limits
    }

    async fn read(&self, key: &str) -> Result<Option<Value>, Error> {
        let reply = self.api.call(self.call("read", Method::GET, &format!("/values/{}", escape(key)), key)).await?;
        match reply.status {
            // The same status for a namespace that does not exist has another body.
            StatusCode::NOT_FOUND if !said_no_namespace(&reply) => Ok(None),
            status if status.is_success() => Ok(Some(Value { bytes: reply.body, version: None })),
            _ => Err(self.api.refused("read", key, &reply)),
        }
    }

    async fn list(&self, prefix: &str, cursor: Option<&str>) -> Result<KeyList, Error> {
        let mut path = format!("/keys?limit={LIST_KEYS}&prefix={}", escape(prefix));
        if let Some(cursor) = cursor {
            path = format!("{path}&cursor={}", escape(cursor));
        }
        let reply: Envelope<Vec<ListedName>> = self.json(self.call("list", Method::GET, &path, "the keys")).await?;
        let keys = reply.result.unwrap_or_default().into_iter().map(|listed| ListedKey {
            key: listed.name,
            bytes: None,
            digest: listed.metadata.map(|metadata| metadata.digest),
        });
        let cursor = reply.result_info.map(|info| info.cursor).filter(|cursor| !cursor.is_empty());
        Ok(KeyList { keys: keys.collect(), cursor })
    }

    async fn write(&self, batch: &[Entry]) -> Result<Vec<NotDone>, Error> {
        let pairs: Vec<Pair<'_>> = batch
            .iter()
            .map(|entry| Pair {
                key: &entry.key,
                value: BASE64_STANDARD.encode(&entry.value),
                base64: true,
                metadata: Metadata { digest: entry.digest.clone() },
            })
            .collect();
        let body = serde_json::to_vec(&pairs).map_err(|error| Error::Refused(error.to_string()))?;
        let mut call = self.call("write", Method::PUT, "/bulk", "a batch");
        call.headers.push(("content-type", "application/json".to_owned()));
        call.body = Some(Bytes::from(body));
        let reply: Envelope<BulkResult> = self.json(call).await?;
        Ok(not_done(reply))
    }

    async fn replace(&self, entry: &Entry, _version: Option<&str>) -> Result<(), Error> {
        match self.write(std::slice::from_ref(entry)).await?.pop() {
            None => Ok(()),
            Some(failed) => {
                Err(Error::Busy { place: self.place(), detail: format!("it did not take {}", failed.key), retry_after: None })
            }
        }
    }

    async fn delete(&self, keys: &[String]) -> Result<Vec<NotDone>, Error> {
        let body = serde_json::to_vec(keys).map_err(|error| Error::Refused(error.to_string()))?;
        let mut call = self.call("delete", Method::POST, "/bulk/delete", "keys");
        call.headers.push(("content-type", "application/json".to_owned()));
        call.body = Some(Bytes::from(body));
        let reply: Envelope<BulkResult> = self.json(call).await?;
        Ok(not_done(reply))
    }

    fn digest_of(&self, entry: &Entry) -> Option<String> {
        Some(entry.digest.clone())
    }
}

fn not_done(reply: Envelope<BulkResult>) -> Vec<NotDone> {
    let keys = reply.result.map(|result| result.unsuccessful_keys).unwrap_or_default();
    keys.into_iter().map(|key| NotDone { key, detail: "named under unsuccessful_keys".to_owned() }).collect()
}

fn said_no_namespace(reply: &Reply) -> bool {
    #[derive(Deserialize)]
    struct Errors {
        #[serde(default)]
        errors: Vec<BTreeMap<String, serde_json::Value>>,
    }
    let Ok(Errors { errors }) = serde_json::from_slice(&reply.body) else { return false };
    let says_namespace = |error: &BTreeMap<String, serde_json::Value>| {
        error.get("message").and_then(|message| message.as_str()).is_some_and(|message| message.contains("namespace"))
    };
    errors.iter().any(says_namespace)
}

/// Keys of one listing: the most there are.
const LIST_KEYS: usize = 1_000;
