//! Mezze on Fastly Compute: requests from the platform to [`Gateway`] and back, its reads from a KV Store.
//!
//! Resources: the KV Store `mezze`; if there are any, the Config Store `mezze` and the Secret Store `mezze` with variables named as
//! [`HttpConfig::VARIABLES`].
#![expect(clippy::print_stdout, reason = "it is what log tailing shows")]

use std::io::Read as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fastly::config_store::ConfigStore;
use fastly::http::serve::Serve;
use fastly::kv_store::{KVStore, KVStoreError};
use fastly::secret_store::SecretStore;
use fastly::{Request, Response};
use mezze_core::{
    Ask, Exchange, Fetched, Gateway, HttpConfig, HttpRequest, HttpResponse, REQUEST_HEADERS, Read, Route, Step, Timestamp, route,
};

fn main() {
    let mut gateway = HttpConfig::edge(READS_MAX).with_variables(variable).map(gateway_of);
    // Where a sandbox may serve again, head and pages are here already. Nothing depends on it.
    let serve = Serve::new().with_max_requests(REQUESTS_MAX).with_timeout(IDLE_MAX).with_max_lifetime(LIFETIME_MAX);
    let summary = serve.run(|request| match &mut gateway {
        Ok(gateway) => send(respond(gateway, request)),
        Err(error) => send(error.clone().into()),
    });
    // Every request is answered. A `main` that returned a `Result` would have all that shows errors in the bundle.
    let Ok(()) = summary.into_result();
}

fn gateway_of(config: HttpConfig) -> Gateway {
    let gateway = Gateway::new(config);
    #[cfg(feature = "transforms")]
    let gateway = gateway.with_transforms(&mezze_carried::Linked);
    gateway
}

fn respond(gateway: &mut Gateway, mut request: Request) -> HttpResponse {
    let header = |name: &&'static str| Some((*name, request.get_header_str(*name)?));
    let headers: Vec<(&str, &str)> = REQUEST_HEADERS.iter().filter_map(header).collect();
    let line = HttpRequest {
        method: request.get_method_str(),
        path: request.get_path(),
        query: request.get_query_str(),
        headers: &headers,
    };
    let ask = match route(gateway.config(), &line) {
        Route::Respond(response) => return response,
        Route::Ask(ask) => ask,
    };
    let body = match body(gateway, &ask, &mut request) {
        Ok(body) => body,
        Err(response) => return response,
    };
    let mut exchange = Exchange::new(ask, body);
    let mut fetched = Vec::new();
    loop {
        match gateway.step(&mut exchange, fetched, now()) {
            Step::Read(reads) => fetched = fetch_all(&reads),
            Step::Done(response) => return response,
        }
    }
}

/// The request's body, read no further than allowed.
fn body(gateway: &Gateway, ask: &Ask, request: &mut Request) -> Result<Vec<u8>, HttpResponse> {
    let mut body = Vec::new();
    if !ask.reads_body() {
        return Ok(body);
    }
    let bytes_max = gateway.config().limits.request_bytes_max;
    let read = request.take_body().take(bytes_max as u64 + 1).read_to_end(&mut body);
    match read {
        Ok(_) if body.len() > bytes_max => Err(ask.body_too_large(gateway.config())),
        Ok(_) => Ok(body),
        Err(_) => Err(ask.body_unreadable()),
    }
}

/// Reads keys: all lookups are under way before the first is waited for.
fn fetch_all(reads: &[Read]) -> Vec<Fetched> {
    let store = match KVStore::open("mezze") {
        Ok(Some(store)) => store,
        Ok(None) => return vec![Fetched::Failed("this service has no KV Store `mezze`".into()); reads.len()],
        Err(error) => return vec![Fetched::Failed(error.to_string()); reads.len()],
    };
    let pending: Vec<_> = reads.iter().map(|read| store.build_lookup().execute_async(&read.key.to_string())).collect();
    let wait = |pending: Result<_, KVStoreError>| match pending.and_then(|pending| store.pending_lookup_wait(pending)) {
        Ok(mut found) => Fetched::Value(found.take_body_bytes()),
        Err(KVStoreError::ItemNotFound) => Fetched::Missing,
        Err(error) => Fetched::Failed(error.to_string()),
    };
    pending.into_iter().map(wait).collect()
}

/// A variable: the secret of this name, or else the configuration's.
fn variable(name: &str) -> Option<String> {
    let secret = SecretStore::open("mezze").ok().and_then(|store| store.try_get(name).ok().flatten());
    let secret = secret.and_then(|secret| String::from_utf8(secret.try_plaintext().ok()?.to_vec()).ok());
    secret.or_else(|| ConfigStore::try_open("mezze").ok()?.try_get(name).ok()?)
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_nanos(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

fn send(response: HttpResponse) -> Response {
    if let Some(line) = &response.log {
        println!("{line}");
    }
    for fault in &response.faults {
        println!("warning: {fault}");
    }
    let mut sent = Response::from_status(response.status);
    for (name, value) in &response.headers {
        sent.append_header(*name, &**value);
    }
    sent.with_body(response.body)
}

/// The platform's bound on reads of one request.
const READS_MAX: usize = 32;
/// Requests that one sandbox serves at the most, how long it waits for the next, and how long it lives.
const REQUESTS_MAX: usize = 1_000;
const IDLE_MAX: Duration = Duration::from_secs(5);
const LIFETIME_MAX: Duration = Duration::from_secs(100);
