//! HTTP/1.1 over threads that share one listening socket.
//!
//! Each thread runs its own single-threaded runtime: a connection never moves between cores and no request waits for a
//! lock of the executor. What a request means is not decided here but by an [`Answer`].

use std::borrow::Cow;
use std::convert::Infallible;
use std::future::Future;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use mezze_core::{Ask, HttpConfig, HttpRequest, HttpResponse, MediaType, REQUEST_HEADERS, Route, route};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// What answers the requests of a [`Server`].
pub trait Answer: Send + Sync + 'static {
    /// How requests are answered: who may ask, and how much.
    fn config(&self) -> &HttpConfig;

    /// Answers one request, whose body is empty where none is read.
    fn answer(&self, ask: Ask, body: Bytes) -> impl Future<Output = HttpResponse> + Send;

    /// What `GET /metrics` says, in Prometheus's text format; where there is none, the path is unknown.
    fn metrics(&self) -> Option<String> {
        None
    }
}

/// How a [`Server`] runs.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ServerOptions {
    /// Threads; each serves its connections alone.
    pub threads: usize,
    /// Connections a thread keeps at once; more wait in the listener's queue.
    pub connections_max: usize,
    /// How long a request may take to arrive, and how long an idle connection is kept.
    pub receive_timeout: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            connections_max: 4_096,
            receive_timeout: Duration::from_secs(60),
        }
    }
}

/// A server that runs. Dropping it stops it as [`Server::stop`] does, without any grace.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<Option<Duration>>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Serves connections of `listener` until stopped.
    ///
    /// # Errors
    /// Where the socket or a thread cannot be set up.
    pub fn start<A: Answer>(answer: Arc<A>, listener: TcpListener, options: ServerOptions) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (stop, stopped) = watch::channel(None);
        let mut server = Self { address, stop, threads: Vec::new() };
        for index in 0..options.threads.max(1) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
            let listener = listener.try_clone()?;
            let shared = Arc::new(Shared { answer: Arc::clone(&answer), options });
            let stopped = stopped.clone();
            let thread = std::thread::Builder::new()
                .name(format!("mezze-http-{index}"))
                .spawn(move || runtime.block_on(serve(shared, listener, stopped)))?;
            server.threads.push(thread);
        }
        Ok(server)
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops: takes no more connections, closes the idle ones, lets requests in flight finish for as long as `grace`, and
    /// returns when all is done.
    pub fn stop(mut self, grace: Duration) {
        self.shut_down(grace);
    }

    fn shut_down(&mut self, grace: Duration) {
        self.stop.send_replace(Some(grace));
        for thread in self.threads.drain(..) {
            // A thread that panicked has already said so on standard error.
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shut_down(Duration::ZERO);
    }
}

/// What the connections of one thread share.
struct Shared<A> {
    answer: Arc<A>,
    options: ServerOptions,
}

async fn serve<A: Answer>(shared: Arc<Shared<A>>, listener: TcpListener, stopped: watch::Receiver<Option<Duration>>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let slots = Arc::new(Semaphore::new(shared.options.connections_max));
    let mut connections = JoinSet::new();
    let mut stopping = stopped.clone();
    let grace = loop {
        let accepted = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, listener.accept().await)
        };
        tokio::select! {
            biased;
            grace = stopping.wait_for(Option::is_some) => break grace.ok().and_then(|grace| *grace).unwrap_or_default(),
            Some(_) = connections.join_next() => {}
            (slot, accepted) = accepted => match accepted {
                Ok((stream, _)) => {
                    // Responses are written whole: waiting for more to send would only add delay.
                    let _ = stream.set_nodelay(true);
                    let connection = connection(Arc::clone(&shared), stream, stopped.clone());
                    connections.spawn(async move {
                        connection.await;
                        drop(slot);
                    });
                }
                // Out of file descriptors, most likely: let some connections end first.
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
        }
    };
    drop(listener);
    let _ = tokio::time::timeout(grace, async { while connections.join_next().await.is_some() {} }).await;
}

async fn connection<A: Answer>(
    shared: Arc<Shared<A>>,
    stream: tokio::net::TcpStream,
    mut stopped: watch::Receiver<Option<Duration>>,
) {
    let timeout = shared.options.receive_timeout;
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(respond(&shared, request).await) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(timeout);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    // Errors of a connection are its client's: it went away, or does not speak HTTP and was told so.
    let stop = async {
        let _ = stopped.wait_for(Option::is_some).await;
    };
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stop => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

async fn respond<A: Answer>(shared: &Shared<A>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let config = shared.answer.config();
    let (parts, incoming) = request.into_parts();
    let routed = {
        let header = |name: &&'static str| Some((*name, parts.headers.get(*name)?.to_str().ok()?));
        let headers: Vec<(&str, &str)> = REQUEST_HEADERS.iter().filter_map(header).collect();
        let (method, path, query) = (parts.method.as_str(), parts.uri.path(), parts.uri.query());
        if path == METRICS
            && let Some(text) = shared.answer.metrics()
        {
            // Who may ask for the state of health may ask for it in numbers.
            return match route(config, &HttpRequest { method, path: "/health", query: None, headers: &headers }) {
                Route::Respond(response) => finished(response),
                Route::Ask(_) => finished(HttpResponse::new(200, "text/plain; version=0.0.4", text.into())),
            };
        }
        route(config, &HttpRequest { method, path, query, headers: &headers })
    };
    let ask = match routed {
        Route::Respond(response) => return finished(response),
        Route::Ask(ask) => ask,
    };
    let body = if ask.reads_body() {
        let timeout = shared.options.receive_timeout;
        match tokio::time::timeout(timeout, receive(incoming, config.limits.request_bytes_max)).await {
            Ok(Ok(body)) => body,
            Ok(Err(Unread::TooLarge)) => return closing(finished(ask.body_too_large(config))),
            Ok(Err(Unread::Ended)) => return closing(finished(ask.body_unreadable())),
            Err(_) => {
                let body = br#"{"detail":"the request did not arrive in time"}"#;
                let response = HttpResponse::new(408, MediaType::Json.name(), body.into());
                return closing(finished(response));
            }
        }
    } else {
        Bytes::new()
    };
    finished(shared.answer.answer(ask, body).await)
}

/// A response as hyper sends it; one of the sample goes to standard error too.
fn finished(response: HttpResponse) -> Response<Full<Bytes>> {
    if let Some(line) = &response.log {
        log(line);
    }
    for fault in &response.faults {
        log(&format!("warning: {fault}"));
    }
    let mut sent = Response::new(Full::new(Bytes::from(response.body)));
    *sent.status_mut() = StatusCode::from_u16(response.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = sent.headers_mut();
    headers.reserve(response.headers.len());
    for (name, value) in response.headers {
        let value = match value {
            Cow::Borrowed(value) => Ok(HeaderValue::from_static(value)),
            Cow::Owned(value) => HeaderValue::try_from(value),
        };
        // All values are numbers, hex digits, or origins that the configuration has checked.
        if let Ok(value) = value {
            headers.append(HeaderName::from_static(name), value);
        }
    }
    sent
}

/// A line whole, whatever other threads write.
fn log(line: &str) {
    let mut whole = String::with_capacity(line.len() + 1);
    whole.push_str(line);
    whole.push('\n');
    // Nobody may be there to read it.
    let _ = io::stderr().write_all(whole.as_bytes());
}

/// Why a body is not here.
enum Unread {
    Ended,
    TooLarge,
}

/// The whole body, within its limit.
async fn receive(mut body: Incoming, bytes_max: usize) -> Result<Bytes, Unread> {
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(Unread::TooLarge);
    }
    let mut whole = Bytes::new();
    let mut joined = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Err(Unread::Ended) };
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + joined.len() + data.len() > bytes_max {
            return Err(Unread::TooLarge);
        }
        // Most bodies come in one piece, which is then not copied.
        match (whole.is_empty(), joined.is_empty()) {
            (true, true) => whole = data,
            (_, false) => joined.extend_from_slice(&data),
            (false, true) => {
                joined.reserve(whole.len() + data.len());
                joined.extend_from_slice(&std::mem::take(&mut whole));
                joined.extend_from_slice(&data);
            }
        }
    }
    Ok(if joined.is_empty() { whole } else { Bytes::from(joined) })
}

/// The connection ends with this response: what the client still sends of its request will not be read.
fn closing(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The path of numbers about the server.
const METRICS: &str = "/metrics";
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
