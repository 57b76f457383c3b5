//! HTTP/1.1 over threads that share one listening socket.
//!
//! Each thread runs its own single-threaded runtime: a connection never moves between cores and no request waits for a
//! lock of the executor. What a request means is not decided here but by an [`Answer`].

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use mezze_core::{MediaType, Snapshot, Timestamp};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// What answers the requests of a [`Server`].
pub trait Answer: Send + Sync + 'static {
    /// Answers one request: appends the response's body to `out` and says what else the response is made of.
    fn answer(&self, body: &[u8], exchange: Exchange, out: &mut Vec<u8>) -> impl Future<Output = Answered> + Send;

    /// Whether requests can be answered at all: what `GET /health` tells.
    fn is_ready(&self) -> bool;
}

/// The wire formats of one exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The format of the request's body.
    pub request: MediaType,
    /// The format that the response's body must have.
    pub response: MediaType,
}

/// An answer, but for its body.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The HTTP status.
    pub status: u16,
    /// Which snapshot answered, if one did.
    pub served: Option<Served>,
    /// After how many seconds the client may ask again.
    pub retry_after_seconds: Option<u32>,
}

/// Which snapshot answered, in the form of headers.
#[derive(Clone, Debug)]
pub struct Served {
    /// `x-mezze-snapshot`.
    pub snapshot: HeaderValue,
    /// `x-mezze-epoch`.
    pub epoch: HeaderValue,
    /// `x-mezze-age`: seconds since the snapshot was published.
    pub age_seconds: u64,
}

impl Served {
    /// The headers that name a snapshot which answered at `now`.
    pub fn new(snapshot: &Snapshot, now: Timestamp) -> Self {
        let hex = snapshot.id().to_string();
        Self {
            // Hex digits are always fit for a header.
            snapshot: HeaderValue::from_str(&hex).unwrap_or_else(|_| HeaderValue::from_static("")),
            epoch: HeaderValue::from(snapshot.epoch()),
            age_seconds: u64::try_from(now.since(snapshot.issued_at()).seconds()).unwrap_or(0),
        }
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
    /// Bytes of a request body; a longer one is refused with status 413.
    pub body_bytes_max: usize,
    /// How long a request may take to arrive, and how long an idle connection is kept.
    pub receive_timeout: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            connections_max: 4_096,
            body_bytes_max: 8 << 20,
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
            let shared = Arc::new(Shared { answer: Arc::clone(&answer), options, body_bytes: AtomicUsize::new(512) });
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
    /// The size of the last response: the next one's buffer is made that large.
    body_bytes: AtomicUsize,
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
    match (request.uri().path(), request.method()) {
        ("/get-online-features", &Method::POST) => online_features(shared, request).await,
        ("/get-online-features", _) => not_allowed("POST"),
        ("/health", &Method::GET | &Method::HEAD) => {
            let mut response = Response::new(Full::default());
            if !shared.answer.is_ready() {
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            }
            response
        }
        ("/health", _) => not_allowed("GET, HEAD"),
        _ => detail(StatusCode::NOT_FOUND, "Not Found"),
    }
}

async fn online_features<A: Answer>(shared: &Shared<A>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let exchange = match exchange(request.headers()) {
        Ok(exchange) => exchange,
        Err(refusal) => return *refusal,
    };
    let options = &shared.options;
    let body = match tokio::time::timeout(options.receive_timeout, receive(request.into_body(), options.body_bytes_max)).await {
        Ok(Ok(body)) => body,
        Ok(Err(refusal)) => return refusal,
        Err(_) => return closing(detail(StatusCode::REQUEST_TIMEOUT, "the request did not arrive in time")),
    };
    let mut out = Vec::with_capacity(shared.body_bytes.load(Ordering::Relaxed));
    let answered = shared.answer.answer(&body, exchange, &mut out).await;
    shared.body_bytes.store(out.len().next_multiple_of(512), Ordering::Relaxed);
    let mut response = Response::new(Full::new(Bytes::from(out)));
    *response.status_mut() = StatusCode::from_u16(answered.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.reserve(6);
    // Errors are JSON, whatever the client accepts.
    let media_type = if answered.status == 200 { exchange.response } else { MediaType::Json };
    headers.insert(header::CONTENT_TYPE, content_type(media_type));
    if let Some(served) = answered.served {
        headers.insert(SNAPSHOT_HEADER, served.snapshot);
        headers.insert(EPOCH_HEADER, served.epoch);
        headers.insert(AGE_HEADER, HeaderValue::from(served.age_seconds));
    }
    if let Some(seconds) = answered.retry_after_seconds {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Which formats the request's headers speak of. A body without a type is JSON, and so is one of the type that `curl -d`
/// sends unasked.
fn exchange(headers: &HeaderMap) -> Result<Exchange, Box<Response<Full<Bytes>>>> {
    let request = match headers.get(header::CONTENT_TYPE) {
        None => MediaType::Json,
        Some(value) => match media_type(value.as_bytes()) {
            b"application/json" | b"application/x-www-form-urlencoded" => MediaType::Json,
            b"application/msgpack" | b"application/x-msgpack" | b"application/vnd.msgpack" => MediaType::MessagePack,
            _ => {
                let message = "the content-type must be application/json or application/msgpack";
                return Err(Box::new(closing(detail(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))));
            }
        },
    };
    // Without a preference of the client the response speaks as the request does.
    let accepted = headers.get(header::ACCEPT).map(HeaderValue::as_bytes).unwrap_or_default();
    let mut accepted = accepted.split(|byte| *byte == b',').map(media_type);
    let response = accepted
        .find_map(|media_type| match media_type {
            b"application/json" => Some(MediaType::Json),
            b"application/msgpack" | b"application/x-msgpack" | b"application/vnd.msgpack" => Some(MediaType::MessagePack),
            _ => None,
        })
        .unwrap_or(request);
    Ok(Exchange { request, response })
}

/// The type of a header value without its parameters.
fn media_type(value: &[u8]) -> &[u8] {
    value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii()
}

/// The whole body, within its limit.
async fn receive(mut body: Incoming, bytes_max: usize) -> Result<Bytes, Response<Full<Bytes>>> {
    let too_large = || {
        let message = format!("the request's body has more than {bytes_max} bytes");
        closing(detail(StatusCode::PAYLOAD_TOO_LARGE, &message))
    };
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(too_large());
    }
    let mut whole = Bytes::new();
    let mut joined = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Err(closing(detail(StatusCode::BAD_REQUEST, "the request's body ends early")));
        };
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + joined.len() + data.len() > bytes_max {
            return Err(too_large());
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

fn content_type(media_type: MediaType) -> HeaderValue {
    HeaderValue::from_static(media_type.name())
}

fn not_allowed(methods: &'static str) -> Response<Full<Bytes>> {
    let mut response = detail(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    response
}

/// The refusal of a request that never became one for features, in the shape of Feast's framework. `message` must not need
/// escapes in JSON.
fn detail(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(format!("{{\"detail\":\"{message}\"}}"))));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, content_type(MediaType::Json));
    response
}

/// The connection ends with this response: what the client still sends of its request will not be read.
fn closing(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The header that names the snapshot which answered.
pub const SNAPSHOT_HEADER: HeaderName = HeaderName::from_static("x-mezze-snapshot");
/// The header that tells the epoch which answered.
pub const EPOCH_HEADER: HeaderName = HeaderName::from_static("x-mezze-epoch");
/// The header that tells the age, in seconds, of the snapshot which answered.
pub const AGE_HEADER: HeaderName = HeaderName::from_static("x-mezze-age");

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
