//! A small HTTP/1.1 server on loopback, whose handler may also cut connections: what the stores and sites of tests are made of.
//!
//! It keeps connections open, takes bodies by length and in chunks, and serves each connection on a thread of its own.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// A server on loopback. It stops when this is dropped: no connection is left open, none is taken any more.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    connections: Arc<Connections>,
    accepting: Option<JoinHandle<()>>,
}

/// The connections that are open.
#[derive(Debug, Default)]
struct Connections {
    stopping: AtomicBool,
    open: Mutex<BTreeMap<u64, TcpStream>>,
}

/// A request, read to its end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query, as they came.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// A response.
#[derive(Clone, Debug, Default)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether the body goes in chunks, not by its length.
    pub(crate) is_chunked: bool,
}

/// What a handler makes of a request.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// The connection is closed and nothing said.
    Close,
    /// The connection is closed after half of the body, which stays incomplete. An empty body goes whole.
    CutBody(Response),
    /// The connection is closed in the middle of the head.
    CutHead(Response),
    /// Nothing is said until the client gives up.
    Hang,
    /// These bytes, after which the connection is closed.
    Raw(Vec<u8>),
    Whole(Response),
}

impl Server {
    /// Serves on a free port of loopback.
    pub(crate) fn start(handler: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("it has an address");
        let connections = Arc::<Connections>::default();
        let handler = Arc::new(handler);
        let accepted = Arc::clone(&connections);
        let accepting = std::thread::spawn(move || {
            for (number, stream) in (0..).zip(listener.incoming().flatten()) {
                if !accepted.opened(number, &stream) {
                    return;
                }
                let (handler, connections) = (Arc::clone(&handler), Arc::clone(&accepted));
                std::thread::spawn(move || {
                    // A client that goes away ends it.
                    let _ = serve(&stream, handler.as_ref());
                    let _ = stream.shutdown(Shutdown::Both);
                    connections.locked().remove(&number);
                });
            }
        });
        Self { address, connections, accepting: Some(accepting) }
    }

    /// The URL of a path on it.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.connections.stopping.store(true, Ordering::SeqCst);
        for stream in self.connections.locked().values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        // The thread that accepts sees that it is over when it gets one more.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

impl Connections {
    fn locked(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, TcpStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a connection, to be able to end it; `false` where the server stops.
    fn opened(&self, number: u64, stream: &TcpStream) -> bool {
        let mut open = self.locked();
        if self.stopping.load(Ordering::SeqCst) {
            return false;
        }
        open.insert(number, stream.try_clone().expect("a socket can be cloned"));
        true
    }
}

impl Request {
    /// Reads one; `None` where the client has closed the connection or does not speak HTTP.
    pub(crate) fn read(reader: &mut impl BufRead) -> Option<Self> {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let mut words = line.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        let headers = read_headers(reader)?;
        let body = read_body(&headers, reader)?.unwrap_or_default();
        Some(Self { method, target, headers, body })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// The path, as it came.
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// A parameter of the query, decoded.
    pub(crate) fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let (_, value) = pairs.find(|(known, _)| *known == name)?;
        decoded(&value.replace('+', " "))
    }
}

impl Response {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, body: body.into(), ..Self::default() }
    }

    pub(crate) fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::new(status, body.to_string()).with("content-type", "application/json")
    }

    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// Reads one; `None` where it is incomplete.
    pub(crate) fn read(reader: &mut impl BufRead, is_head_only: bool) -> Option<Self> {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let status = line.split(' ').nth(1)?.trim().parse().ok()?;
        let mut response = Self { status, headers: read_headers(reader)?, ..Self::default() };
        if is_head_only || status == 204 || status == 304 {
            return Some(response);
        }
        response.is_chunked = response.header("transfer-encoding").is_some();
        match read_body(&response.headers, reader)? {
            Some(body) => response.body = body,
            None => drop(reader.read_to_end(&mut response.body).ok()?),
        }
        // It is framed anew where it is sent on.
        response.headers.retain(|(name, _)| !FRAMING.contains(&name.to_ascii_lowercase().as_str()));
        Some(response)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// Its bytes, and how many of them are the head.
    fn bytes(&self, is_head_only: bool) -> (Vec<u8>, usize) {
        let mut bytes = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.headers {
            bytes += &format!("{name}: {value}\r\n");
        }
        // One to `HEAD` may tell the length of the body that it does not have.
        let has_body = self.status != 204 && self.status != 304 && self.header("content-length").is_none();
        if self.is_chunked && has_body {
            bytes += "transfer-encoding: chunked\r\n";
        } else if has_body {
            bytes += &format!("content-length: {}\r\n", self.body.len());
        }
        let mut bytes = (bytes + "\r\n").into_bytes();
        let head = bytes.len();
        if has_body && !is_head_only && self.is_chunked {
            for chunk in self.body.chunks(CHUNK_BYTES) {
                bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
                bytes.extend(chunk);
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"0\r\n\r\n");
        } else if has_body && !is_head_only {
            bytes.extend(&self.body);
        }
        (bytes, head)
    }
}

/// Text without its percent signs; `None` where that is no text.
pub(crate) fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &rest[2..];
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// Text as one segment of a path, or a value in a query.
pub(crate) fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn serve(stream: &TcpStream, handler: &impl Fn(&Request) -> Answer) -> std::io::Result<()> {
    // Heads and bodies go in one piece, which need not wait for more.
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(request) = Request::read(&mut reader) {
        let is_head_only = request.method == "HEAD";
        match handler(&request) {
            Answer::Close => return Ok(()),
            Answer::CutBody(response) => {
                let (bytes, head) = response.bytes(is_head_only);
                return writer.write_all(&bytes[..head + (bytes.len() - head) / 2]);
            }
            Answer::CutHead(response) => {
                let (bytes, head) = response.bytes(is_head_only);
                return writer.write_all(&bytes[..head / 2]);
            }
            Answer::Hang => {
                reader.read_line(&mut String::new())?;
                return Ok(());
            }
            Answer::Raw(bytes) => return writer.write_all(&bytes),
            Answer::Whole(response) => writer.write_all(&response.bytes(is_head_only).0)?,
        }
        if request.header("connection").is_some_and(|kept| kept.eq_ignore_ascii_case("close")) {
            return Ok(());
        }
    }
    Ok(())
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

fn read_headers(reader: &mut impl BufRead) -> Option<Vec<(String, String)>> {
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line.trim().is_empty() {
            return Some(headers);
        }
        let (name, value) = line.split_once(':')?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
}

/// The body that the headers speak of; `Some(None)` where they speak of none, `None` where it is incomplete.
fn read_body(headers: &[(String, String)], reader: &mut impl BufRead) -> Option<Option<Vec<u8>>> {
    if header(headers, "transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        return read_chunks(reader).map(Some);
    }
    let Some(length) = header(headers, "content-length") else { return Some(None) };
    let (length, mut body) = (length.parse().ok()?, Vec::new());
    reader.take(length).read_to_end(&mut body).ok()?;
    (body.len() as u64 == length).then_some(Some(body))
}

fn read_chunks(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let size = u64::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
        let before = body.len();
        reader.take(size).read_to_end(&mut body).ok()?;
        if (body.len() - before) as u64 != size {
            return None;
        }
        // The end of the chunk, and after the last one the trailers.
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line.trim().is_empty() {
                break;
            }
        }
        if size == 0 {
            return Some(body);
        }
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        412 => "Precondition Failed",
        413 => "Payload Too Large",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Status",
    }
}

const FRAMING: [&str; 3] = ["connection", "content-length", "transfer-encoding"];
const CHUNK_BYTES: usize = 4096;
