//! Mezze on Spin: requests from the platform to [`Gateway`] and back, its reads from the key-value store `default`.
//!
//! Variables of the component are named as [`HttpConfig::VARIABLES`], in lower case.
#![expect(clippy::print_stdout, reason = "it is what the component's log has")]

use std::cell::RefCell;
use std::pin::pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::future::{Either, join_all, select};
use futures_util::{Stream, StreamExt};
use mezze_core::{
    Ask, ConfigError, Exchange, Fetched, Gateway, HttpConfig, HttpRequest, HttpResponse, REQUEST_HEADERS, Read, Route, Step,
    Timestamp, route,
};
use spin_sdk::http::body::IncomingBodyExt;
use spin_sdk::http::{FullBody, Request, Response};
use spin_sdk::key_value::Store;
use spin_sdk::time::sleep;
use spin_sdk::{http_service, variables};

thread_local! {
    /// Of this instance: it may answer many requests, some at the same time. Nothing depends on it.
    static GATEWAY: RefCell<Option<Gateway>> = const { RefCell::new(None) };
}

type Sent = Response<FullBody<Bytes>>;

#[http_service]
async fn handle(request: Request) -> Sent {
    match respond(request).await {
        Ok(response) => send(response),
        Err(error) => send(error.into()),
    }
}

async fn respond(request: Request) -> Result<HttpResponse, ConfigError> {
    make_gateway().await?;
    let (parts, incoming) = request.into_parts();
    let header = |name: &&'static str| Some((*name, parts.headers.get(*name)?.to_str().ok()?));
    let headers: Vec<(&str, &str)> = REQUEST_HEADERS.iter().filter_map(header).collect();
    let line = HttpRequest { method: parts.method.as_str(), path: parts.uri.path(), query: parts.uri.query(), headers: &headers };
    let ask = match with_gateway(|gateway| route(gateway.config(), &line)) {
        Route::Respond(response) => return Ok(response),
        Route::Ask(ask) => ask,
    };
    let body = if ask.reads_body() {
        match body(&ask, incoming.stream()).await {
            Ok(body) => body,
            Err(response) => return Ok(response),
        }
    } else {
        Vec::new()
    };
    let mut exchange = Exchange::new(ask, body);
    let mut fetched = Vec::new();
    loop {
        match with_gateway(|gateway| gateway.step(&mut exchange, fetched, now())) {
            Step::Read(reads) => fetched = fetch_all(&reads).await,
            Step::Done(response) => return Ok(response),
        }
    }
}

/// Makes the instance's gateway, if this is its first request.
async fn make_gateway() -> Result<(), ConfigError> {
    if GATEWAY.with_borrow(Option::is_some) {
        return Ok(());
    }
    let mut config = HttpConfig::edge(READS_MAX);
    for (name, _) in HttpConfig::VARIABLES {
        // A variable that is declared and not set is empty.
        if let Ok(value) = variables::get(name.to_ascii_lowercase()).await
            && !value.is_empty()
        {
            config = config.with_variable(name, &value)?;
        }
    }
    GATEWAY.with_borrow_mut(|slot| _ = slot.get_or_insert_with(|| gateway_of(config)));
    Ok(())
}

fn gateway_of(config: HttpConfig) -> Gateway {
    Gateway::new(config).with_transforms(&mezze_carried::Linked)
}

/// Lends the instance's gateway. Never across an await.
fn with_gateway<T>(use_it: impl FnOnce(&mut Gateway) -> T) -> T {
    GATEWAY.with_borrow_mut(|slot| use_it(slot.get_or_insert_with(|| gateway_of(HttpConfig::edge(READS_MAX)))))
}

/// The request's body, read no further than allowed.
async fn body<E>(ask: &Ask, mut stream: impl Stream<Item = Result<Bytes, E>> + Unpin) -> Result<Vec<u8>, HttpResponse> {
    let (bytes_max, too_large) =
        with_gateway(|gateway| (gateway.config().limits.request_bytes_max, ask.body_too_large(gateway.config())));
    let mut body = Vec::new();
    while let Some(chunk) = stream.next().await {
        let Ok(chunk) = chunk else { return Err(ask.body_unreadable()) };
        if body.len() + chunk.len() > bytes_max {
            return Err(too_large);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Reads keys, all at once.
async fn fetch_all(reads: &[Read]) -> Vec<Fetched> {
    let millis = with_gateway(|gateway| gateway.config().read_millis);
    match Store::open_default().await {
        Ok(store) => join_all(reads.iter().map(|read| fetch_one(&store, read, millis))).await,
        Err(error) => reads.iter().map(|_| Fetched::Failed(error.to_string())).collect(),
    }
}

async fn fetch_one(store: &Store, read: &Read, millis: u32) -> Fetched {
    let found = pin!(store.get(read.key.to_string()));
    let late = pin!(sleep(Duration::from_millis(millis.into())));
    match select(found, late).await {
        Either::Left((Ok(Some(bytes)), _)) => Fetched::Value(bytes),
        Either::Left((Ok(None), _)) => Fetched::Missing,
        Either::Left((Err(error), _)) => Fetched::Failed(error.to_string()),
        Either::Right(_) => Fetched::late(millis),
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_nanos(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

fn send(response: HttpResponse) -> Sent {
    if let Some(line) = &response.log {
        println!("{line}");
    }
    for fault in &response.faults {
        println!("warning: {fault}");
    }
    let mut sent = Response::new(FullBody::new(Bytes::from(response.body)));
    *sent.status_mut() = response.status.try_into().unwrap_or_default();
    for (name, value) in response.headers {
        if let Ok(value) = value.parse() {
            sent.headers_mut().append(name, value);
        }
    }
    sent
}

/// Keys that one request reads at the most: with a hosted store's 1,000 a second, ten such requests.
const READS_MAX: usize = 100;
