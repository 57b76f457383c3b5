//! Mezze on Cloudflare Workers: requests from the platform to [`Gateway`] and back, its reads from Workers KV.
//!
//! Bindings: the KV namespace `MEZZE`, and variables or secrets named as [`HttpConfig::VARIABLES`].

use std::cell::RefCell;

use futures_util::StreamExt;
use futures_util::future::join_all;
use mezze_core::{
    Ask, ConfigError, Exchange, Fetched, Gateway, HttpConfig, HttpRequest, HttpResponse, REQUEST_HEADERS, Read, ReadKey, Route,
    Step, Timestamp, route,
};
use worker::kv::KvStore;
use worker::{Context, Date, Env, Headers, Request, Response, Result, console_log, event};

thread_local! {
    /// Of this isolate: it answers many requests, some at the same time.
    static GATEWAY: RefCell<Option<Gateway>> = const { RefCell::new(None) };
}

#[event(fetch)]
async fn fetch(mut request: Request, env: Env, _context: Context) -> Result<Response> {
    let routed = match with_gateway(&env, |gateway| route_of(gateway.config(), &request)) {
        Ok(routed) => routed?,
        Err(error) => return send(error.into()),
    };
    let ask = match routed {
        Route::Respond(response) => return send(response),
        Route::Ask(ask) => ask,
    };
    let body = match body(&ask, &mut request, &env).await {
        Ok(body) => body,
        Err(response) => return send(response),
    };
    let mut exchange = Exchange::new(ask, body);
    let mut fetched = Vec::new();
    loop {
        let now = Timestamp::from_nanos(Date::now().as_millis().cast_signed().saturating_mul(1_000_000));
        match with_gateway(&env, |gateway| gateway.step(&mut exchange, fetched, now)) {
            Ok(Step::Read(reads)) => fetched = fetch_all(&env, &reads).await,
            Ok(Step::Done(response)) => return send(response),
            Err(error) => return send(error.into()),
        }
    }
}

/// Lends the isolate's gateway, which the first request makes. Never across an await.
fn with_gateway<T>(env: &Env, use_it: impl FnOnce(&mut Gateway) -> T) -> std::result::Result<T, ConfigError> {
    GATEWAY.with_borrow_mut(|slot| {
        let gateway = match slot.take() {
            Some(gateway) => gateway,
            // A secret is a variable to the platform's API.
            None => Gateway::new(
                HttpConfig::edge(READS_MAX).with_variables(|name| env.var(name).ok().map(|value| value.to_string()))?,
            ),
        };
        Ok(use_it(slot.insert(gateway)))
    })
}

fn route_of(config: &HttpConfig, request: &Request) -> Result<Route> {
    let url = request.url()?;
    let method = request.inner().method();
    let mut values = Vec::with_capacity(REQUEST_HEADERS.len());
    for name in REQUEST_HEADERS {
        if let Some(value) = request.headers().get(name)? {
            values.push((name, value));
        }
    }
    let headers: Vec<(&str, &str)> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Ok(route(config, &HttpRequest { method: &method, path: url.path(), query: url.query(), headers: &headers }))
}

/// The request's body, read no further than allowed.
async fn body(ask: &Ask, request: &mut Request, env: &Env) -> std::result::Result<Vec<u8>, HttpResponse> {
    let mut body = Vec::new();
    if !ask.reads_body() || request.inner().body().is_none() {
        return Ok(body);
    }
    let (bytes_max, too_large) =
        with_gateway(env, |gateway| (gateway.config().limits.request_bytes_max, ask.body_too_large(gateway.config())))?;
    let announced = request.headers().get("content-length").ok().flatten().and_then(|length| length.parse::<usize>().ok());
    if announced.is_some_and(|length| length > bytes_max) {
        return Err(too_large);
    }
    let Ok(mut stream) = request.stream() else { return Err(ask.body_unreadable()) };
    while let Some(chunk) = stream.next().await {
        let Ok(chunk) = chunk else { return Err(ask.body_unreadable()) };
        if body.len() + chunk.len() > bytes_max {
            return Err(too_large);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Reads keys, all at once; the platform runs six at a time.
async fn fetch_all(env: &Env, reads: &[Read]) -> Vec<Fetched> {
    match env.kv("MEZZE") {
        Ok(kv) => join_all(reads.iter().map(|read| fetch_one(&kv, read))).await,
        Err(error) => reads.iter().map(|_| Fetched::Failed(error.to_string())).collect(),
    }
}

async fn fetch_one(kv: &KvStore, read: &Read) -> Fetched {
    let seconds = if read.fresh || read.key == ReadKey::Head { CACHE_SECONDS_MIN } else { CACHE_SECONDS_MAX };
    match kv.get(&read.key.to_string()).cache_ttl(seconds).bytes().await {
        Ok(Some(bytes)) => Fetched::Value(bytes),
        Ok(None) => Fetched::Missing,
        Err(error) => Fetched::Failed(error.to_string()),
    }
}

fn send(response: HttpResponse) -> Result<Response> {
    if let Some(line) = &response.log {
        console_log!("{line}");
    }
    let headers = Headers::new();
    for (name, value) in &response.headers {
        headers.append(name, value)?;
    }
    let builder = Response::builder().with_status(response.status).with_headers(headers);
    Ok(if response.body.is_empty() { builder.empty() } else { builder.fixed(response.body) })
}

/// KV reads of one request; the platform allows 1,000.
const READS_MAX: usize = 200;
/// The platform's shortest `cacheTtl`.
const CACHE_SECONDS_MIN: u64 = 30;
/// Pages and manifests never change.
const CACHE_SECONDS_MAX: u64 = 31_536_000;
