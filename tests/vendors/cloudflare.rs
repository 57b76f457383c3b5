//! An imitation of the part of Cloudflare's REST API that Workers KV is written by. It is no Cloudflare.
//!
//! What it knows, under `/client/v4/accounts/{account}/storage/kv/namespaces/{namespace}`: `PUT bulk`, `POST bulk/delete`,
//! `POST bulk/get`, `GET`, `PUT` (plain or multipart) and `DELETE values/{key}`, `GET metadata/{key}`, `GET keys`.
//!
//! Limits it enforces, with where each is from:
//!
//! | limit | source |
//! |---|---|
//! | key of 1 to 512 bytes, not `.` or `..`; value 25 MiB; metadata 1,024 bytes of JSON | KV docs, platform limits |
//! | 1 write a second of one key: 429, in a bulk write the key is unsuccessful | KV docs, platform limits |
//! | bulk write and bulk delete of 10,000 pairs, 100 MB: 413 | API docs, KV; 100 MB is read as 100,000,000 bytes |
//! | bulk read of 100 keys: 400; of 25 MiB: 413 | KV docs, changelog of 2025-04-10; the local simulator's constants |
//! | listing of 10 to 1,000 keys a page | API docs, KV |
//! | expiration at least 60 s ahead | KV docs, platform limits |
//! | 1,200 calls in 5 minutes, then 429 for the rest of the window, with `retry-after`, `Ratelimit` and `Ratelimit-Policy` | API docs, fundamentals, limits |
//! | token: 401 where it is unknown, 403 where it may not write | API docs |
//!
//! Of the codes in errors, 10000 (authentication) is documented. 971 (too many calls), 7003 (no such account), 10009 (no such
//! key), 10013 (no such namespace) and 10048 (the day's writes are used up) are from users' reports; the others are made up, as
//! are the statuses for keys, values and metadata that are too large (those of the local simulator) and of a full storage: a
//! client must go by the status.
//!
//! What it does not imitate: several accounts and namespaces and their administration, the limit by address, reads in many
//! places that come late at different times (here all readers are late alike), misses that are cached, a bulk read's lossless
//! values (they are text), the legacy `DELETE bulk`, latency.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE, Engine as _};
use bytes::Bytes;
use serde_json::{Value, json};

use super::clock::{Clock, nanos};
use super::faults::{Call, Counters, Fault, Journal, Kind, When, Which, Work};
use super::http::{Answer, Request, Response, Server, decoded};
use super::store::{Stored, Versions};

/// A namespace behind the API. Clones are of the same one; the last that is dropped stops it.
#[derive(Clone, Debug)]
pub(crate) struct Cloudflare {
    server: Arc<Server>,
    state: Arc<Mutex<State>>,
    clock: Clock,
}

#[derive(Debug)]
struct State {
    journal: Journal,
    store: Versions,
    /// When each key was written last.
    written: BTreeMap<String, i64>,
    calls: Window,
    daily_writes: Window,
    storage_bytes_max: Option<u64>,
}

/// So many in a time that begins with the first.
#[derive(Debug)]
struct Window {
    count_max: Option<u64>,
    time: Duration,
    since: i64,
    count: u64,
}

/// What a call is for.
struct Route {
    kind: Kind,
    key: String,
}

/// A pair of a bulk write, checked.
struct Pair {
    key: String,
    stored: Stored,
}

impl Cloudflare {
    pub(crate) const ACCOUNT: &'static str = "0123456789abcdef0123456789abcdef";
    pub(crate) const NAMESPACE: &'static str = "fedcba9876543210fedcba9876543210";
    /// May do everything.
    pub(crate) const TOKEN: &'static str = "token-that-may-write";
    /// May read and list.
    pub(crate) const READ_TOKEN: &'static str = "token-that-may-read";

    /// An empty namespace.
    pub(crate) fn start(clock: &Clock) -> Self {
        let state = State {
            journal: Journal::default(),
            store: Versions::default(),
            written: BTreeMap::new(),
            calls: Window { count_max: Some(1_200), time: Duration::from_secs(300), since: 0, count: 0 },
            daily_writes: Window { count_max: None, time: Duration::from_secs(86_400), since: 0, count: 0 },
            storage_bytes_max: None,
        };
        let (state, clock) = (Arc::new(Mutex::new(state)), clock.clone());
        let (served, now) = (Arc::clone(&state), clock.clone());
        let server = Server::start(move |request| lock(&served).answer(request, now.now()));
        Self { server: Arc::new(server), state, clock }
    }

    /// What takes the place of the vendor's host and `/client/v4`.
    pub(crate) fn base_url(&self) -> String {
        self.server.url("/client/v4")
    }

    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.server.address
    }

    pub(crate) fn plan(&self, when: When, fault: Fault) {
        self.locked().journal.plan(when, fault);
    }

    /// Takes another number of calls in a window than 1,200 in 5 minutes.
    pub(crate) fn limit_calls(&self, count: u64, window: Duration) {
        let calls = &mut self.locked().calls;
        (calls.count_max, calls.time) = (Some(count), window);
    }

    /// Takes so many keys' writes in a day, as the free plan does.
    pub(crate) fn limit_daily_writes(&self, count: u64) {
        self.locked().daily_writes.count_max = Some(count);
    }

    /// Holds so many bytes of values.
    pub(crate) fn limit_storage(&self, bytes: u64) {
        self.locked().storage_bytes_max = Some(bytes);
    }

    /// From now on listings show what was so long ago.
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

    /// What has been written: bytes, and metadata as JSON.
    pub(crate) fn snapshot(&self) -> BTreeMap<String, (Bytes, Option<Value>)> {
        let keys = self.locked().store.snapshot(self.clock.now());
        keys.into_iter().map(|(key, (bytes, metadata))| (key, (bytes, metadata.as_deref().map(parsed)))).collect()
    }

    /// What a Worker reads now. It costs nothing.
    pub(crate) fn value(&self, key: &str) -> Option<Bytes> {
        self.locked().store.read(key, self.clock.now()).map(|stored| stored.bytes.clone())
    }

    /// Puts a value where it is, as someone else would: it is no call and costs nothing.
    pub(crate) fn insert(&self, key: &str, bytes: impl Into<Bytes>) {
        let stored = Stored { bytes: bytes.into(), metadata: None, expires: None, generation: 0 };
        self.locked().store.put(key, stored, self.clock.now());
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
        let taken = self.calls.take(1, now);
        let response = match &fault {
            _ if !taken => too_many(Some(self.calls.seconds_left(now))),
            Some(Fault::ConnectionCut(Work::NotDone)) => Response::default(),
            Some(Fault::DailyWrites) => daily_writes(),
            Some(Fault::Revoked) => unauthorized(),
            Some(Fault::Status(status)) => Response::new(*status, "<html>no JSON</html>").with("content-type", "text/html"),
            Some(Fault::StorageFull) => storage_full(),
            Some(Fault::TooMany(seconds)) => too_many(*seconds),
            Some(Fault::ConnectionCut(Work::Done) | Fault::Partial(_) | Fault::ResponseCut(_)) | None => {
                let partial = if let Some(Fault::Partial(which)) = &fault { Some(which) } else { None };
                let served = route.and_then(|route| self.serve(&route, request, partial, now));
                served.unwrap_or_else(|refused| refused)
            }
        };
        let window = self.calls.time.as_secs();
        let (count_max, left) = (self.calls.count_max.unwrap_or_default(), self.calls.seconds_left(now));
        let response = response
            .with("Ratelimit", format!("\"default\";r={};t={left}", count_max.saturating_sub(self.calls.count)))
            .with("Ratelimit-Policy", format!("\"default\";q={count_max};w={window}"));
        self.journal.end(call, response, fault.as_ref())
    }

    fn serve(&mut self, route: &Route, request: &Request, partial: Option<&Which>, now: i64) -> Result<Response, Response> {
        let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let is_read = matches!(route.kind, Kind::BulkRead | Kind::List | Kind::Metadata | Kind::Read);
        match token {
            Some(Cloudflare::TOKEN) => {}
            Some(Cloudflare::READ_TOKEN) if is_read => {}
            Some(Cloudflare::READ_TOKEN) => return Err(refused(403, 10000, "Authentication error")),
            _ => return Err(unauthorized()),
        }
        match route.kind {
            Kind::BulkDelete => self.bulk_delete(&request.body, partial, now),
            Kind::BulkRead => self.bulk_read(&request.body, now),
            Kind::BulkWrite => self.bulk_write(&request.body, partial, now),
            Kind::List => self.list(request, now),
            Kind::Delete | Kind::Metadata | Kind::Read | Kind::Write => {
                self.journal.pairs(1);
                check_key(&route.key)?;
                self.single(route, request, now)
            }
            Kind::Other => Err(refused(405, 10405, "method not allowed")),
        }
    }

    fn single(&mut self, route: &Route, request: &Request, now: i64) -> Result<Response, Response> {
        let key = &route.key;
        if route.kind == Kind::Write {
            return self.write(key, request, now);
        }
        if route.kind == Kind::Delete {
            self.store.delete(key, now);
            self.journal.counters.deletes += 1;
            return Ok(accepted(&json!({})));
        }
        self.journal.counters.reads += 1;
        let stored = self.store.read(key, now).ok_or_else(|| refused(404, 10009, "get: 'key not found'"))?;
        if route.kind == Kind::Metadata {
            return Ok(accepted(&stored.metadata.as_deref().map_or(Value::Null, parsed)));
        }
        Ok(Response::new(200, stored.bytes.to_vec()).with("content-type", "application/octet-stream"))
    }

    fn write(&mut self, key: &str, request: &Request, now: i64) -> Result<Response, Response> {
        let boundary = request.header("content-type").and_then(|media| media.strip_prefix("multipart/form-data; boundary="));
        let (value, metadata) = match boundary {
            Some(boundary) => fields(&request.body, boundary.trim_matches('"'))?,
            None => (request.body.clone(), None),
        };
        let metadata = metadata.map(|text| serde_json::from_str(&text)).transpose();
        let metadata = metadata.map_err(|error| refused(400, 10012, &format!("metadata: {error}")))?;
        let number = |name: &str| request.query(name).map(|text| text.parse()).transpose();
        let times = number("expiration").and_then(|at| Ok((at, number("expiration_ttl")?)));
        let (at, after) = times.map_err(|_| refused(400, 10012, "an expiration is a number"))?;
        let stored = checked(value.into(), metadata.as_ref(), at, after, now)?;
        if !self.may_write(key, now) {
            return Err(refused(429, 10033, "more than one write a second of one key"));
        }
        self.check_quota(1, stored.bytes.len(), now)?;
        self.put(Pair { key: key.to_owned(), stored }, now);
        Ok(accepted(&json!({})))
    }

    fn bulk_write(&mut self, body: &[u8], partial: Option<&Which>, now: i64) -> Result<Response, Response> {
        let items = bulk_list(body)?;
        self.journal.pairs(items.len());
        let pairs: Vec<Pair> = items.iter().map(|item| Pair::of(item, now)).collect::<Result<_, _>>()?;
        self.check_quota(pairs.len() as u64, pairs.iter().map(|pair| pair.stored.bytes.len()).sum(), now)?;
        let (count, mut unsuccessful) = (pairs.len(), Vec::new());
        for (index, pair) in pairs.into_iter().enumerate() {
            if partial.is_some_and(|which| which.is(index, &pair.key)) || !self.may_write(&pair.key, now) {
                unsuccessful.push(pair.key);
            } else {
                self.put(pair, now);
            }
        }
        Ok(bulk_result(count, &unsuccessful))
    }

    fn bulk_delete(&mut self, body: &[u8], partial: Option<&Which>, now: i64) -> Result<Response, Response> {
        let keys: Option<Vec<String>> = bulk_list(body)?.iter().map(|key| Some(key.as_str()?.to_owned())).collect();
        let keys = keys.ok_or_else(|| refused(400, 10012, "a key is text"))?;
        self.journal.pairs(keys.len());
        keys.iter().try_for_each(|key| check_key(key))?;
        let (count, mut unsuccessful) = (keys.len(), Vec::new());
        for (index, key) in keys.into_iter().enumerate() {
            if partial.is_some_and(|which| which.is(index, &key)) {
                unsuccessful.push(key);
            } else {
                self.store.delete(&key, now);
                self.journal.counters.deletes += 1;
            }
        }
        Ok(bulk_result(count, &unsuccessful))
    }

    fn bulk_read(&mut self, body: &[u8], now: i64) -> Result<Response, Response> {
        let asked = bulk(body)?;
        let keys: BTreeSet<&str> = asked["keys"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        self.journal.pairs(keys.len());
        if keys.is_empty() || keys.len() > READ_KEYS_MAX {
            return Err(refused(400, 10012, "1 to 100 keys can be read at once"));
        }
        keys.iter().try_for_each(|key| check_key(key))?;
        let (is_json, with_metadata) = (asked["type"] == "json", asked["withMetadata"] == true);
        let (mut values, mut size) = (serde_json::Map::new(), 0);
        for key in keys {
            self.journal.counters.reads += 1;
            let Some(stored) = self.store.read(key, now) else {
                values.insert(key.to_owned(), Value::Null);
                continue;
            };
            size += stored.bytes.len();
            let mut value = if is_json {
                serde_json::from_slice(&stored.bytes).map_err(|_| refused(400, 10012, "a value is no JSON"))?
            } else {
                Value::String(String::from_utf8_lossy(&stored.bytes).into_owned())
            };
            if with_metadata {
                value = json!({ "value": value, "metadata": stored.metadata.as_deref().map(parsed) });
            }
            values.insert(key.to_owned(), value);
        }
        if size > VALUE_BYTES_MAX {
            return Err(refused(413, 10012, "more than 25 MiB of values"));
        }
        Ok(accepted(&json!({ "values": values })))
    }

    fn list(&mut self, request: &Request, now: i64) -> Result<Response, Response> {
        let limit = request.query("limit").map_or(Ok(LIST_MAX), |limit| limit.parse()).unwrap_or(0);
        if !(LIST_MIN..=LIST_MAX).contains(&limit) {
            return Err(refused(400, 10012, "limit is from 10 to 1000"));
        }
        let after = match request.query("cursor").filter(|cursor| !cursor.is_empty()) {
            Some(cursor) => {
                let key = BASE64_URL_SAFE.decode(cursor).ok().and_then(|key| String::from_utf8(key).ok());
                Some(key.ok_or_else(|| refused(400, 10012, "that is no cursor"))?)
            }
            None => None,
        };
        self.journal.counters.lists += 1;
        let page = self.store.list(&request.query("prefix").unwrap_or_default(), after.as_deref(), limit, true, now);
        let named = page.keys.iter().map(|(key, stored)| {
            let mut named = json!({ "name": key });
            if let Some(metadata) = &stored.metadata {
                named["metadata"] = parsed(metadata);
            }
            if let Some(expires) = stored.expires {
                named["expiration"] = (expires / SECOND).into();
            }
            named
        });
        let named: Vec<Value> = named.collect();
        let cursor = page.next.map_or_else(String::new, |key| BASE64_URL_SAFE.encode(key));
        let mut body = result(&Value::Array(named));
        body["result_info"] = json!({ "count": page.keys.len(), "cursor": cursor });
        Ok(Response::json(200, &body))
    }

    /// Whether a second has passed since the key's last write.
    fn may_write(&self, key: &str, now: i64) -> bool {
        self.written.get(key).is_none_or(|written| now - written >= SECOND)
    }

    fn check_quota(&mut self, count: u64, bytes: usize, now: i64) -> Result<(), Response> {
        if self.storage_bytes_max.is_some_and(|most| self.store.bytes(now) + bytes as u64 > most) {
            return Err(storage_full());
        }
        if self.daily_writes.take(count, now) { Ok(()) } else { Err(daily_writes()) }
    }

    fn put(&mut self, pair: Pair, now: i64) {
        self.journal.counters.writes += 1;
        self.journal.counters.bytes += pair.stored.bytes.len() as u64;
        self.written.insert(pair.key.clone(), now);
        self.store.put(&pair.key, pair.stored, now);
    }
}

impl Window {
    /// Counts them, where they fit in.
    fn take(&mut self, count: u64, now: i64) -> bool {
        if self.count == 0 || now - self.since >= nanos(self.time) {
            (self.since, self.count) = (now, 0);
        }
        let fits = self.count_max.is_none_or(|most| self.count + count <= most);
        if fits {
            self.count += count;
        }
        fits
    }

    /// Until the next begins, rounded up.
    fn seconds_left(&self, now: i64) -> u64 {
        let left = (self.since + nanos(self.time) - now).max(0);
        (left as u64).div_ceil(SECOND as u64)
    }
}

impl Route {
    fn of(request: &Request) -> Result<Self, Response> {
        let unknown = || refused(404, 7003, "Could not route to the path, perhaps your object identifier is invalid?");
        let path = request.path().strip_prefix("/client/v4/accounts/").ok_or_else(unknown)?;
        let (account, path) = path.split_once('/').ok_or_else(unknown)?;
        let path = path.strip_prefix("storage/kv/namespaces/").filter(|_| account == Cloudflare::ACCOUNT).ok_or_else(unknown)?;
        let (namespace, path) = path.split_once('/').ok_or_else(unknown)?;
        if namespace != Cloudflare::NAMESPACE {
            return Err(refused(404, 10013, "namespace not found"));
        }
        let (kind, key) = match (request.method.as_str(), path.split_once('/').unwrap_or((path, ""))) {
            ("PUT", ("bulk", "")) => (Kind::BulkWrite, ""),
            ("POST", ("bulk", "delete")) => (Kind::BulkDelete, ""),
            ("POST", ("bulk", "get")) => (Kind::BulkRead, ""),
            ("GET", ("keys", "")) => (Kind::List, ""),
            ("GET", ("metadata", key)) => (Kind::Metadata, key),
            ("GET", ("values", key)) => (Kind::Read, key),
            ("PUT", ("values", key)) => (Kind::Write, key),
            ("DELETE", ("values", key)) => (Kind::Delete, key),
            (_, ("bulk" | "keys" | "metadata" | "values", _)) => (Kind::Other, ""),
            _ => return Err(unknown()),
        };
        // A key is one segment: its slashes are encoded.
        let key = Some(key).filter(|key| !key.contains('/')).and_then(decoded).ok_or_else(unknown)?;
        Ok(Self { kind, key })
    }
}

impl Pair {
    fn of(item: &Value, now: i64) -> Result<Self, Response> {
        let (Some(key), Some(value)) = (item["key"].as_str(), item["value"].as_str()) else {
            return Err(refused(400, 10012, "a pair has a key and a value, which are text"));
        };
        check_key(key)?;
        let bytes = match &item["base64"] {
            Value::Null | Value::Bool(false) => value.as_bytes().to_vec(),
            Value::Bool(true) => {
                BASE64_STANDARD.decode(value).map_err(|error| refused(400, 10012, &format!("{key}: not base64: {error}")))?
            }
            _ => return Err(refused(400, 10012, "base64 is true or false")),
        };
        let metadata = item.get("metadata").filter(|metadata| !metadata.is_null());
        let stored = checked(bytes.into(), metadata, item["expiration"].as_i64(), item["expiration_ttl"].as_i64(), now)?;
        Ok(Self { key: key.to_owned(), stored })
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A value within the limits.
fn checked(
    bytes: Bytes,
    metadata: Option<&Value>,
    at_seconds: Option<i64>,
    after_seconds: Option<i64>,
    now: i64,
) -> Result<Stored, Response> {
    if bytes.len() > VALUE_BYTES_MAX {
        return Err(refused(413, 10012, &format!("Value length of {} exceeds limit of {VALUE_BYTES_MAX}", bytes.len())));
    }
    let metadata = metadata.map(Value::to_string);
    if let Some(length) = metadata.as_ref().map(String::len).filter(|length| *length > METADATA_BYTES_MAX) {
        return Err(refused(413, 10012, &format!("Metadata length of {length} exceeds limit of {METADATA_BYTES_MAX}")));
    }
    let after = after_seconds.map(|after| now.saturating_add(after.saturating_mul(SECOND)));
    let expires = after.or_else(|| at_seconds.map(|at| at.saturating_mul(SECOND)));
    if expires.is_some_and(|expires| expires.saturating_sub(now) < EXPIRATION_SECONDS_MIN * SECOND) {
        return Err(refused(400, 10012, "an expiration is at least 60 seconds ahead"));
    }
    Ok(Stored { bytes, metadata, expires, generation: 0 })
}

fn check_key(key: &str) -> Result<(), Response> {
    match key {
        "" => Err(refused(400, 10012, "a key is not empty")),
        "." | ".." => Err(refused(400, 10012, &format!("\"{key}\" is not allowed as a key"))),
        key if key.len() > KEY_BYTES_MAX => Err(refused(
            414,
            10012,
            &format!("UTF-8 encoded length of {} exceeds key length limit of {KEY_BYTES_MAX}", key.len()),
        )),
        _ => Ok(()),
    }
}

/// The body of a bulk request.
fn bulk(body: &[u8]) -> Result<Value, Response> {
    if body.len() > BULK_BYTES_MAX {
        return Err(refused(413, 10012, "more than 100 MB"));
    }
    serde_json::from_slice(body).map_err(|error| refused(400, 10012, &format!("the body is not JSON: {error}")))
}

/// The body of a bulk request that is a list.
fn bulk_list(body: &[u8]) -> Result<Vec<Value>, Response> {
    let Value::Array(items) = bulk(body)? else { return Err(refused(400, 10012, "the body is no list")) };
    if items.len() > BULK_PAIRS_MAX {
        return Err(refused(413, 10012, "more than 10,000 pairs"));
    }
    Ok(items)
}

/// The fields `value` and `metadata` of a form.
fn fields(body: &[u8], boundary: &str) -> Result<(Vec<u8>, Option<String>), Response> {
    let broken = || refused(400, 10012, "that is no form");
    let find = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|window| window == what);
    let delimiter = format!("\r\n--{boundary}");
    // The first delimiter has no line before it.
    let whole = [b"\r\n", body].concat();
    let mut rest = whole.as_slice();
    let (mut value, mut metadata) = (None, None);
    rest = &rest[find(rest, delimiter.as_bytes()).ok_or_else(broken)? + delimiter.len()..];
    while !rest.starts_with(b"--") {
        let head = find(rest, b"\r\n\r\n").ok_or_else(broken)?;
        let end = head + 4 + find(&rest[head + 4..], delimiter.as_bytes()).ok_or_else(broken)?;
        let (name, bytes) = (String::from_utf8_lossy(&rest[..head]).into_owned(), rest[head + 4..end].to_vec());
        if name.contains("name=\"value\"") {
            value = Some(bytes);
        } else if name.contains("name=\"metadata\"") {
            metadata = Some(String::from_utf8(bytes).map_err(|_| broken())?);
        }
        rest = &rest[end + delimiter.len()..];
    }
    Ok((value.ok_or_else(broken)?, metadata))
}

/// JSON that this store has made.
fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("it was written as JSON")
}

fn result(result: &Value) -> Value {
    json!({ "success": true, "errors": [], "messages": [], "result": result })
}

fn accepted(value: &Value) -> Response {
    Response::json(200, &result(value))
}

fn bulk_result(count: usize, unsuccessful: &[String]) -> Response {
    accepted(&json!({ "successful_key_count": count - unsuccessful.len(), "unsuccessful_keys": unsuccessful }))
}

fn refused(status: u16, code: u32, message: &str) -> Response {
    let errors = json!([{ "code": code, "message": message }]);
    Response::json(status, &json!({ "success": false, "errors": errors, "messages": [], "result": null }))
}

fn unauthorized() -> Response {
    refused(401, 10000, "Authentication error")
}

fn daily_writes() -> Response {
    refused(429, 10048, "your account has reached the free usage limit for this operation for today")
}

fn storage_full() -> Response {
    refused(403, 10049, "your account has reached its storage limit")
}

fn too_many(seconds: Option<u64>) -> Response {
    let response = refused(429, 971, "Please wait and consider throttling your request speed");
    match seconds {
        Some(seconds) => response.with("retry-after", seconds),
        None => response,
    }
}

const SECOND: i64 = 1_000_000_000;
const KEY_BYTES_MAX: usize = 512;
const VALUE_BYTES_MAX: usize = 25 << 20;
const METADATA_BYTES_MAX: usize = 1_024;
const BULK_PAIRS_MAX: usize = 10_000;
const BULK_BYTES_MAX: usize = 100_000_000;
const READ_KEYS_MAX: usize = 100;
const LIST_MIN: usize = 10;
const LIST_MAX: usize = 1_000;
const EXPIRATION_SECONDS_MIN: i64 = 60;
