//! Mezze on Cloudflare Workers: what `worker.js` has of requests, and of reads from Workers KV, to [`Gateway`] and back.
//!
//! Only text and bytes cross to JavaScript. An object of the platform costs more to reach from here than a feature does to look up.

use std::cell::RefCell;
use std::mem;

use mezze_carried::Carried;
use mezze_core::{
    Ask, ConfigError, Fetched, Gateway, HttpConfig, HttpRequest, HttpResponse, REQUEST_HEADERS, Read, ReadKey, Route, Step,
    Timestamp, route,
};
use wasm_bindgen::prelude::wasm_bindgen;

thread_local! {
    /// Of this isolate: it answers many requests, some at the same time.
    static GATEWAY: RefCell<Result<Gateway, ConfigError>> = RefCell::new(Ok(gateway_of(HttpConfig::edge(READS_MAX))));
}

/// The transforms that this bundle carries, each in a module of its own.
static TRANSFORMS: Carried = Carried::new(digests, run);

#[wasm_bindgen(raw_module = "./transforms.js")]
extern "C" {
    fn digests() -> Vec<u8>;
    fn run(call: &[u8]) -> Vec<u8>;
}

/// The request headers that matter, with spaces between.
#[wasm_bindgen(js_name = headerNames)]
pub fn header_names() -> String {
    REQUEST_HEADERS.join(" ")
}

/// The variables there are, with spaces between.
#[wasm_bindgen(js_name = variableNames)]
pub fn variable_names() -> String {
    HttpConfig::VARIABLES.map(|(name, _)| name).join(" ")
}

/// Sets a variable, before the first request.
#[wasm_bindgen(js_name = setVariable)]
pub fn set_variable(name: &str, value: &str) {
    GATEWAY.with_borrow_mut(|gateway| {
        if let Ok(known) = gateway {
            *gateway = known.config().clone().with_variable(name, value).map(gateway_of);
        }
    });
}

/// How long to wait for a key, in milliseconds.
#[wasm_bindgen(js_name = readMillis)]
pub fn read_millis() -> u32 {
    with_gateway(|gateway| gateway.config().read_millis).unwrap_or_default()
}

/// One request under way.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Exchange {
    state: State,
    fetched: Vec<Fetched>,
}

#[derive(Debug)]
enum State {
    /// Its body may have to be read.
    Asked(Ask),
    /// Keys may have to be read.
    Begun(mezze_core::Exchange),
    Done(HttpResponse),
}

#[wasm_bindgen]
impl Exchange {
    /// A request: its method, its URL, and headers as `name:value`, each a line.
    #[wasm_bindgen(constructor)]
    pub fn new(head: &str) -> Self {
        let mut lines = head.split('\n');
        let method = lines.next().unwrap_or_default();
        let (path, query) = path_and_query(lines.next().unwrap_or_default());
        let headers: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(':')).collect();
        let request = HttpRequest { method, path, query, headers: &headers };
        let state = match with_gateway(|gateway| route(gateway.config(), &request)) {
            Ok(Route::Ask(ask)) => State::Asked(ask),
            Ok(Route::Respond(response)) => State::Done(response),
            Err(error) => State::Done(error.into()),
        };
        Self { state, fetched: Vec::new() }
    }

    /// How many bytes of the body may be read; nothing where none are needed.
    #[wasm_bindgen(js_name = bodyBytesMax)]
    pub fn body_bytes_max(&self) -> Option<u32> {
        let State::Asked(ask) = &self.state else { return None };
        let allowed = with_gateway(|gateway| gateway.config().limits.request_bytes_max).ok()?;
        ask.reads_body().then(|| u32::try_from(allowed).unwrap_or(u32::MAX))
    }

    /// The body, whole.
    pub fn body(&mut self, bytes: Vec<u8>) {
        self.replace(|ask| State::Begun(mezze_core::Exchange::new(ask, bytes)));
    }

    /// The body has more bytes than it may.
    #[wasm_bindgen(js_name = bodyTooLarge)]
    pub fn body_too_large(&mut self) {
        self.replace(|ask| State::Done(with_gateway(|gateway| ask.body_too_large(gateway.config())).unwrap_or_else(Into::into)));
    }

    /// The body ends early.
    #[wasm_bindgen(js_name = bodyUnreadable)]
    pub fn body_unreadable(&mut self) {
        self.replace(|ask| State::Done(ask.body_unreadable()));
    }

    fn replace(&mut self, next: impl FnOnce(Ask) -> State) {
        self.state = match mem::replace(&mut self.state, State::Done(HttpResponse::default())) {
            State::Asked(ask) => next(ask),
            other => other,
        };
    }

    /// The next step, at this time in milliseconds: the keys to read, all at once, each a line of its `cacheTtl` and its name; or
    /// nothing, and then the response is there.
    pub fn step(&mut self, now: f64) -> Option<String> {
        self.body(Vec::new());
        let State::Begun(exchange) = &mut self.state else { return None };
        let fetched = mem::take(&mut self.fetched);
        // What the clock of JavaScript says is a whole number.
        let now = Timestamp::from_nanos((now as i64).saturating_mul(1_000_000));
        match with_gateway(|gateway| gateway.step(exchange, fetched, now)) {
            Ok(Step::Read(reads)) => return Some(reads.iter().map(line).collect::<Vec<_>>().join("\n")),
            Ok(Step::Done(response)) => self.state = State::Done(response),
            Err(error) => self.state = State::Done(error.into()),
        }
        None
    }

    /// The next of those keys has this value.
    pub fn found(&mut self, value: Vec<u8>) {
        self.fetched.push(Fetched::Value(value));
    }

    /// There is no such key.
    pub fn missing(&mut self) {
        self.fetched.push(Fetched::Missing);
    }

    /// Its value has not come in time.
    pub fn late(&mut self) {
        self.fetched.push(Fetched::late(read_millis()));
    }

    /// The store has failed.
    pub fn failed(&mut self, said: String) {
        self.fetched.push(Fetched::Failed(said));
    }

    /// The response's status, and its headers as `name:value`, each a line.
    pub fn head(&self) -> String {
        let State::Done(response) = &self.state else { return "500".into() };
        response.headers.iter().fold(response.status.to_string(), |head, (name, value)| head + "\n" + name + ":" + value)
    }

    /// The response's body. It can be taken once.
    pub fn content(&mut self) -> Vec<u8> {
        let State::Done(response) = &mut self.state else { return Vec::new() };
        mem::take(&mut response.body)
    }

    /// What is to be logged, each a line: the response, if it is one of the sample, and what of it could not be computed.
    pub fn log(&self) -> Option<String> {
        let State::Done(response) = &self.state else { return None };
        let faults = response.faults.iter().map(|fault| format!("warning: {fault}"));
        let lines: Vec<String> = response.log.iter().cloned().chain(faults).collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }
}

fn gateway_of(config: HttpConfig) -> Gateway {
    Gateway::new(config).with_transforms(&TRANSFORMS)
}

/// Lends the isolate's gateway, if its variables are usable.
fn with_gateway<T>(use_it: impl FnOnce(&mut Gateway) -> T) -> Result<T, ConfigError> {
    GATEWAY.with_borrow_mut(|gateway| gateway.as_mut().map(use_it).map_err(|error| error.clone()))
}

/// The path and the query of an absolute URL, as they are written.
fn path_and_query(url: &str) -> (&str, Option<&str>) {
    let url = url.split_once('#').map_or(url, |(url, _)| url);
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.find(['/', '?']).and_then(|at| rest.get(at..)).unwrap_or_default();
    rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)))
}

fn line(read: &Read) -> String {
    let seconds = if read.fresh || read.key == ReadKey::Head { CACHE_SECONDS_MIN } else { CACHE_SECONDS_MAX };
    format!("{seconds} {}", read.key)
}

/// KV reads of one request; the platform allows 1,000.
const READS_MAX: usize = 200;
/// The platform's shortest `cacheTtl`.
const CACHE_SECONDS_MIN: u64 = 30;
/// Pages and manifests never change.
const CACHE_SECONDS_MAX: u64 = 31_536_000;
