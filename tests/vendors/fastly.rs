//! An imitation of the part of Fastly's API that a KV store is written by. It is no Fastly.
//!
//! What it knows, under `/resources/stores/kv/{store}`: `GET`, `HEAD`, `PUT` and `DELETE keys/{key}` with generations, `PUT batch`,
//! `GET keys`.
//!
//! Limits it enforces, with where each is from:
//!
//! | limit | source |
//! |---|---|
//! | key of 1 to 1,024 bytes, without CR and LF, not `.` or `..`, not below `.well-known/acme-challenge/` | the SDK for Rust |
//! | value of 25 MB (read as 25,000,000 bytes) | docs, working with KV stores |
//! | metadata of 2,000 bytes | API docs, KV store item; the CLI |
//! | `if-generation-match` and `add=true`: 412 without a body | the client for Go and its recorded responses |
//! | batch is `application/x-ndjson`; what fails is in `errors` with index, key, code and reason, the status is 200 | API docs, KV store item; the client for Rust |
//! | listing of 100 keys a page unless `limit` says otherwise, 1,000 at most; `consistency` `strong` or `eventual` | the client for Go |
//! | writes in a second, then 429 with `Retry-After` | **a guess**: the vendor publishes no number, 1,000 is a third party's |
//!
//! A batch may spend more than what is left of a second, which the next seconds then lack: no batch is too large for ever. The
//! bodies of errors other than 412, the statuses of values and metadata that are too large, of a batch of another media type and
//! of quotas are made up, as is `Retry-After` itself: a client must go by the status.
//!
//! What it does not imitate: stores' administration and their links to services, `append`, `prepend`, reads in many places that
//! come late at different times (here all readers are late alike), `background_fetch`, the price of anything, latency.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE, Engine as _};
use bytes::Bytes;
use serde_json::{Value, json};

use super::clock::Clock;
use super::faults::{Call, Counters, Fault, Journal, Kind, When, Which, Work};
use super::http::{Answer, Request, Response, Server, decoded};
use super::store::{Stored, Versions};

/// A store behind the API. Clones are of the same one; the last that is dropped stops it.
#[derive(Clone, Debug)]
pub(crate) struct Fastly {
    server: Arc<Server>,
    state: Arc<Mutex<State>>,
    clock: Clock,
}

#[derive(Debug)]
struct State {
    journal: Journal,
    store: Versions,
    generation: u64,
    requests: Rate,
    items: Rate,
}

/// So many a second. What is spent beyond that is a debt that time pays.
#[derive(Debug)]
struct Rate {
    per_second: u64,
    /// When nothing is spent any more.
    paid_at: i64,
}

struct Route {
    kind: Kind,
    key: String,
}

/// Why a request, or a line of a batch, is refused.
struct Refusal {
    status: u16,
    reason: String,
}

impl Fastly {
    pub(crate) const STORE: &'static str = "0Store1234567890abcdef";
    pub(crate) const TOKEN: &'static str = "token-that-may-write";

    /// An empty store.
    pub(crate) fn start(clock: &Clock) -> Self {
        let rate = || Rate { per_second: 1_000, paid_at: 0 };
        let (journal, store) = (Journal::default(), Versions::default());
        let state = Arc::new(Mutex::new(State { journal, store, generation: 0, requests: rate(), items: rate() }));
        let (served, now) = (Arc::clone(&state), clock.clone());
        let server = Server::start(move |request| lock(&served).answer(request, now.now()));
        Self { server: Arc::new(server), state, clock: clock.clone() }
    }

    /// What takes the place of the vendor's host.
    pub(crate) fn base_url(&self) -> String {
        self.server.url("")
    }

    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.server.address
    }

    pub(crate) fn plan(&self, when: When, fault: Fault) {
        self.locked().journal.plan(when, fault);
    }

    /// Takes so many calls a second.
    pub(crate) fn limit_requests(&self, per_second: u64) {
        self.locked().requests.per_second = per_second;
    }

    /// Takes so many written and deleted keys a second.
    pub(crate) fn limit_items(&self, per_second: u64) {
        self.locked().items.per_second = per_second;
    }

    /// From now on eventual listings show what was so long ago.
    pub(crate) fn lag_listings(&self, lag: Duration) {
        self.locked().store.lag_listings(lag);
    }

    /// From now on reads give what was so long ago.
    pub(crate) fn lag_reads(&self, lag: Duration) {
        self.locked().store.lag_reads(lag);
    }

    /// The calls so far, in order.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.locked().journal.calls.clone()
    }

    pub(crate) fn counters(&self) -> Counters {
        self.locked().journal.counters
    }

    /// What has been written: bytes and metadata.
    pub(crate) fn snapshot(&self) -> BTreeMap<String, (Bytes, Option<String>)> {
        self.locked().store.snapshot(self.clock.now())
    }

    /// What a service reads now. It costs nothing.
    pub(crate) fn value(&self, key: &str) -> Option<Bytes> {
        self.locked().store.read(key, self.clock.now()).map(|stored| stored.bytes.clone())
    }

    /// The generation of a key's last write.
    pub(crate) fn generation(&self, key: &str) -> Option<u64> {
        self.locked().store.newest(key, self.clock.now()).map(|stored| stored.generation)
    }

    /// Puts a value where it is, as someone else would: it is no call and costs nothing.
    pub(crate) fn insert(&self, key: &str, bytes: impl Into<Bytes>) {
        let stored = Stored { bytes: bytes.into(), metadata: None, expires: None, generation: 0 };
        self.locked().put(key, stored, self.clock.now());
    }

    /// Takes a key away, as someone else would.
    pub(crate) fn remove(&self, key: &str) -> bool {
        self.locked().store.delete(key, self.clock.now())
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    fn answer(&mut self, request: &Request, now: i64) -> Answer {
        let route = Route::of(request);
        let kind = route.as_ref().map_or(Kind::Other, |route| route.kind);
        let (call, fault) = self.journal.begin(kind, request);
        let served = match &fault {
            Some(Fault::ConnectionCut(Work::NotDone)) => Ok(Response::default()),
            Some(Fault::DailyWrites) => Err(Refusal::new(403, "the account's writes are used up")),
            Some(Fault::Revoked) => Err(unauthorized()),
            Some(Fault::Status(status)) => Ok(Response::new(*status, "<html>no JSON</html>").with("content-type", "text/html")),
            Some(Fault::StorageFull) => Err(Refusal::new(403, "the store's storage is full")),
            Some(Fault::TooMany(seconds)) => Ok(too_many(*seconds)),
            Some(Fault::ConnectionCut(Work::Done) | Fault::Partial(_) | Fault::ResponseCut(_)) | None => {
                let partial = if let Some(Fault::Partial(which)) = &fault { Some(which) } else { None };
                match self.requests.spend(1, now) {
                    Ok(()) => route.and_then(|route| self.serve(&route, request, partial, now)),
                    Err(seconds) => Ok(too_many(Some(seconds))),
                }
            }
        };
        self.journal.end(call, served.unwrap_or_else(Refusal::response), fault.as_ref())
    }

    fn serve(&mut self, route: &Route, request: &Request, partial: Option<&Which>, now: i64) -> Result<Response, Refusal> {
        if request.header("fastly-key") != Some(Fastly::TOKEN) {
            return Err(unauthorized());
        }
        match route.kind {
            Kind::BulkWrite => return self.batch(request, partial, now),
            Kind::List => return self.list(request, now),
            _ => {}
        }
        self.journal.pairs(1);
        check_key(&route.key)?;
        if route.kind == Kind::Read {
            return self.read(&route.key, now);
        }
        if let Err(seconds) = self.items.spend(1, now) {
            return Ok(too_many(Some(seconds)));
        }
        if route.kind == Kind::Delete { self.delete(&route.key, request, now) } else { self.write(&route.key, request, now) }
    }

    fn read(&mut self, key: &str, now: i64) -> Result<Response, Refusal> {
        self.journal.counters.reads += 1;
        let stored = self.store.read(key, now).ok_or_else(not_found)?;
        let response = Response::new(200, stored.bytes.to_vec())
            .with("content-type", "application/octet-stream")
            .with("Generation", stored.generation)
            .with("Stored-Content-Length", stored.bytes.len());
        Ok(match &stored.metadata {
            Some(metadata) => response.with("Metadata", metadata),
            None => response,
        })
    }

    fn write(&mut self, key: &str, request: &Request, now: i64) -> Result<Response, Refusal> {
        let is_given = |name: &str| request.query(name).is_some_and(|value| value == "true");
        if is_given("append") || is_given("prepend") {
            return Err(Refusal::new(400, "append and prepend are not imitated"));
        }
        let after = request.header("time_to_live_sec").map(str::parse).transpose();
        let after = after.map_err(|_| Refusal::new(400, "time_to_live_sec is a number"))?;
        let stored = checked(request.body.clone().into(), request.header("metadata"), after, now)?;
        self.check_generation(key, request, now)?;
        if is_given("add") && self.store.newest(key, now).is_some() {
            return Err(Refusal::new(412, ""));
        }
        self.journal.counters.writes += 1;
        self.journal.counters.bytes += stored.bytes.len() as u64;
        self.put(key, stored, now);
        Ok(Response::new(200, ""))
    }

    fn delete(&mut self, key: &str, request: &Request, now: i64) -> Result<Response, Refusal> {
        self.check_generation(key, request, now)?;
        self.journal.counters.deletes += 1;
        let is_forced = request.query("force").is_some_and(|value| value == "true");
        if self.store.delete(key, now) || is_forced { Ok(Response::new(204, "")) } else { Err(not_found()) }
    }

    fn check_generation(&self, key: &str, request: &Request, now: i64) -> Result<(), Refusal> {
        let Some(wanted) = request.header("if-generation-match") else { return Ok(()) };
        let wanted: u64 = wanted.parse().map_err(|_| Refusal::new(400, "a generation is a number"))?;
        let is = self.store.newest(key, now).map_or(0, |stored| stored.generation);
        if is == wanted { Ok(()) } else { Err(Refusal::new(412, "")) }
    }

    fn batch(&mut self, request: &Request, partial: Option<&Which>, now: i64) -> Result<Response, Refusal> {
        if request.header("content-type") != Some("application/x-ndjson") {
            return Err(Refusal::new(415, "a batch is application/x-ndjson"));
        }
        let lines: Vec<&[u8]> = request.body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).collect();
        self.journal.pairs(lines.len());
        if let Err(seconds) = self.items.spend(lines.len() as u64, now) {
            return Ok(too_many(Some(seconds)));
        }
        let mut errors = Vec::new();
        for (index, line) in lines.into_iter().enumerate() {
            let line: Value = serde_json::from_slice(line).unwrap_or_default();
            let key = line["key"].as_str().unwrap_or_default();
            let stored = match partial {
                Some(which) if which.is(index, key) => Err(Refusal::new(500, "the item's operation was not completed")),
                _ => item(&line, now),
            };
            match stored {
                Err(Refusal { status, reason }) => {
                    errors.push(json!({ "index": index, "key": key, "code": status.to_string(), "reason": reason }));
                }
                Ok(stored) => {
                    self.journal.counters.writes += 1;
                    self.journal.counters.bytes += stored.bytes.len() as u64;
                    self.put(key, stored, now);
                }
            }
        }
        let (kind, title) = if errors.is_empty() { ("", "success") } else { ("batch", "partial failure") };
        Ok(Response::json(200, &json!({ "type": kind, "title": title, "errors": errors })))
    }

    fn list(&mut self, request: &Request, now: i64) -> Result<Response, Refusal> {
        let limit = request.query("limit").map_or(Ok(LIST_DEFAULT), |limit| limit.parse()).unwrap_or(0);
        if !(1..=LIST_MAX).contains(&limit) {
            return Err(Refusal::new(400, "limit is from 1 to 1000"));
        }
        let is_late = match request.query("consistency").as_deref() {
            None | Some("eventual") => true,
            Some("strong") => false,
            Some(_) => return Err(Refusal::new(400, "consistency is strong or eventual")),
        };
        let cursor = request.query("cursor").filter(|cursor| !cursor.is_empty());
        let after = cursor.map(|cursor| BASE64_URL_SAFE.decode(cursor).ok().and_then(|key| String::from_utf8(key).ok()));
        if after == Some(None) {
            return Err(Refusal::new(400, "that is no cursor"));
        }
        let (prefix, after) = (request.query("prefix").unwrap_or_default(), after.flatten());
        self.journal.counters.lists += 1;
        let page = self.store.list(&prefix, after.as_deref(), limit, is_late, now);
        let keys: Vec<&str> = page.keys.iter().map(|(key, _)| key.as_str()).collect();
        let mut meta = json!({ "limit": limit });
        if !prefix.is_empty() {
            meta["prefix"] = prefix.into();
        }
        if let Some(next) = page.next {
            meta["next_cursor"] = BASE64_URL_SAFE.encode(next).into();
        }
        Ok(Response::json(200, &json!({ "data": keys, "meta": meta })))
    }

    fn put(&mut self, key: &str, stored: Stored, now: i64) {
        // Microseconds, as the vendor's seem to be, and never the same twice.
        self.generation = (self.generation + 1).max((now / 1_000).unsigned_abs());
        self.store.put(key, Stored { generation: self.generation, ..stored }, now);
    }
}

impl Rate {
    /// Spends, or says how many seconds to wait.
    fn spend(&mut self, count: u64, now: i64) -> Result<(), u64> {
        let owed = self.paid_at.saturating_sub(now).max(0);
        if owed >= SECOND {
            return Err(((owed - SECOND + 1) as u64).div_ceil(SECOND as u64));
        }
        self.paid_at = now + owed + (count * SECOND as u64 / self.per_second) as i64;
        Ok(())
    }
}

impl Route {
    fn of(request: &Request) -> Result<Self, Refusal> {
        let unknown = || Refusal::new(404, "Record not found");
        let path = request.path().strip_prefix("/resources/stores/kv/").ok_or_else(unknown)?;
        let path = path.strip_prefix(Fastly::STORE).and_then(|path| path.strip_prefix('/')).ok_or_else(unknown)?;
        let (kind, key) = match (request.method.as_str(), path.split_once('/')) {
            ("PUT", None) if path == "batch" => (Kind::BulkWrite, ""),
            ("GET", None) if path == "keys" => (Kind::List, ""),
            ("GET" | "HEAD", Some(("keys", key))) => (Kind::Read, key),
            ("PUT", Some(("keys", key))) => (Kind::Write, key),
            ("DELETE", Some(("keys", key))) => (Kind::Delete, key),
            _ => return Err(unknown()),
        };
        // A key is one segment: its slashes are encoded.
        let key = Some(key).filter(|key| !key.contains('/')).and_then(decoded).ok_or_else(unknown)?;
        Ok(Self { kind, key })
    }
}

impl Refusal {
    fn new(status: u16, reason: &str) -> Self {
        Self { status, reason: reason.to_owned() }
    }

    fn response(self) -> Response {
        match self.status {
            412 => Response::new(412, ""),
            status => Response::json(status, &json!({ "msg": self.reason, "detail": self.reason })),
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a line of a batch writes.
fn item(line: &Value, now: i64) -> Result<Stored, Refusal> {
    let key = line["key"].as_str().ok_or_else(|| Refusal::new(400, "the line is no object with a key"))?;
    check_key(key)?;
    let value = line["value"].as_str().and_then(|value| BASE64_STANDARD.decode(value).ok());
    let value = value.ok_or_else(|| Refusal::new(400, "the value is not base64"))?;
    checked(value.into(), line["metadata"].as_str(), line["time_to_live_sec"].as_i64(), now)
}

/// A value within the limits.
fn checked(bytes: Bytes, metadata: Option<&str>, after_seconds: Option<i64>, now: i64) -> Result<Stored, Refusal> {
    if bytes.len() > VALUE_BYTES_MAX {
        return Err(Refusal::new(413, "a value has 25 MB at most"));
    }
    if metadata.is_some_and(|metadata| metadata.len() > METADATA_BYTES_MAX) {
        return Err(Refusal::new(400, "metadata has 2000 bytes at most"));
    }
    let expires = after_seconds.map(|after| now.saturating_add(after.saturating_mul(SECOND)));
    Ok(Stored { bytes, metadata: metadata.map(str::to_owned), expires, generation: 0 })
}

fn check_key(key: &str) -> Result<(), Refusal> {
    let fault = match key {
        "" => "a key is not empty",
        "." | ".." => "a key is not . or ..",
        key if key.len() > KEY_BYTES_MAX => "a key has 1024 bytes at most",
        key if key.contains(['\r', '\n']) => "a key has no line ends",
        key if key.starts_with(".well-known/acme-challenge/") => "a key is not below .well-known/acme-challenge/",
        _ => return Ok(()),
    };
    Err(Refusal::new(400, fault))
}

fn unauthorized() -> Refusal {
    Refusal::new(401, "Provided credentials are missing or invalid")
}

fn not_found() -> Refusal {
    Refusal::new(404, "Record not found")
}

fn too_many(seconds: Option<u64>) -> Response {
    let response = Refusal::new(429, "Too many requests").response();
    match seconds {
        Some(seconds) => response.with("Retry-After", seconds),
        None => response,
    }
}

const SECOND: i64 = 1_000_000_000;
const KEY_BYTES_MAX: usize = 1_024;
const VALUE_BYTES_MAX: usize = 25_000_000;
const METADATA_BYTES_MAX: usize = 2_000;
const LIST_DEFAULT: usize = 100;
const LIST_MAX: usize = 1_000;
