//! A real S3-compatible server for a test: s3s-fs over a temporary folder, with a gateway before it.
//!
//! The server looks whether an object is there and only then writes it (`put_object` of s3s-fs 0.14.1, and of every later version so
//! far), so that of several that create it at once with `If-None-Match: *` more than one can win, which S3 rules out. The gateway
//! therefore passes on one write at a time. It is also what cuts connections where a test plans that. Otherwise each request and
//! each response goes through it unchanged, signatures included.
//!
//! What it does not show: rates (`503 Slow Down` comes where it is planned), `409 Conflict` of writes at one time, versions,
//! metadata of buckets, permissions.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use super::faults::{Call, Fault, Journal, Kind, When, Work};
use super::http::{Answer, Request, Response, Server};

/// A running server with one bucket. It is stopped when this is dropped.
#[derive(Debug)]
pub(crate) struct S3 {
    gateway: Server,
    journal: Arc<Mutex<Journal>>,
    child: Child,
    folder: tempfile::TempDir,
}

impl S3 {
    pub(crate) const BUCKET: &'static str = "bucket";
    const ACCESS_KEY: &'static str = "access-key";
    const SECRET_KEY: &'static str = "secret-key";

    pub(crate) fn start() -> Self {
        let program = super::program("bin/s3s-fs", &["s3s-fs"]);
        let program = program.expect("no s3s-fs: run `tests/run`, which installs it");
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(folder.path().join(Self::BUCKET)).expect("the folder can be made");
        let mut child = Command::new(program)
            .args(["--host", "127.0.0.1", "--port", "0"])
            .args(["--access-key", Self::ACCESS_KEY, "--secret-key", Self::SECRET_KEY])
            .arg(folder.path())
            .env("RUST_LOG", "s3s_fs=info")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("s3s-fs can be run");
        // It says on which port it listens.
        let mut said = BufReader::new(child.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
        let address = said.find_map(|line| {
            let (_, rest) = line.split_once("server is running at http://")?;
            rest.split(|byte: char| byte.is_whitespace() || byte == ',').next()?.parse().ok()
        });
        let address: SocketAddr = address.expect("s3s-fs says where it listens");
        // What it says later must go somewhere.
        std::thread::spawn(move || said.for_each(drop));
        let journal = Arc::<Mutex<Journal>>::default();
        let (kept, writing) = (Arc::clone(&journal), Mutex::new(()));
        let gateway = Server::start(move |request| answer(&kept, &writing, address, request));
        Self { gateway, journal, child, folder }
    }

    /// The URL of a folder in the bucket.
    pub(crate) fn url(&self, folder: &str) -> String {
        format!("s3://{}/{folder}", Self::BUCKET)
    }

    /// Gives a command what it needs to know to get to it.
    pub(crate) fn configure(&self, command: &mut Command) {
        command
            .env("AWS_ACCESS_KEY_ID", Self::ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", Self::SECRET_KEY)
            .env_remove("AWS_SESSION_TOKEN")
            .env("AWS_REGION", "us-east-1")
            .env_remove("AWS_ENDPOINT_URL")
            .env("AWS_ENDPOINT", self.gateway.url(""))
            .env("AWS_ALLOW_HTTP", "true");
    }

    /// The folder that has the bucket's objects as files.
    pub(crate) fn bucket(&self) -> PathBuf {
        self.folder.path().join(Self::BUCKET)
    }

    /// Plans a fault: that of a connection, a response or a status; others are ignored.
    pub(crate) fn plan(&self, when: When, fault: Fault) {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner).plan(when, fault);
    }

    /// The calls so far, in order.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner).calls.clone()
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn answer(journal: &Mutex<Journal>, writing: &Mutex<()>, server: SocketAddr, request: &Request) -> Answer {
    let (call, fault) = journal.lock().unwrap_or_else(PoisonError::into_inner).begin(kind(request), request);
    let response = match &fault {
        Some(Fault::ConnectionCut(Work::NotDone)) => Response::default(),
        Some(Fault::Status(status)) => Response::new(*status, ""),
        _ => {
            let is_write = !matches!(request.method.as_str(), "GET" | "HEAD");
            let _one_at_a_time = is_write.then(|| writing.lock().unwrap_or_else(PoisonError::into_inner));
            pass_on(server, request).unwrap_or_else(|| Response::new(502, ""))
        }
    };
    journal.lock().unwrap_or_else(PoisonError::into_inner).end(call, response, fault.as_ref())
}

fn kind(request: &Request) -> Kind {
    let is_upload = request.query("uploadId").is_some() || request.query("uploads").is_some();
    match request.method.as_str() {
        _ if is_upload => Kind::Other,
        "GET" if request.query("list-type").is_some() => Kind::List,
        "GET" => Kind::Read,
        "HEAD" => Kind::Metadata,
        "PUT" => Kind::Write,
        "DELETE" => Kind::Delete,
        "POST" if request.query("delete").is_some() => Kind::BulkDelete,
        _ => Kind::Other,
    }
}

/// The server's response to a request; `None` where it gives none.
fn pass_on(server: SocketAddr, request: &Request) -> Option<Response> {
    let mut stream = TcpStream::connect(server).ok()?;
    let mut head = format!("{} {} HTTP/1.1\r\nconnection: close\r\n", request.method, request.target);
    // The host too stays what was signed. The body goes by its length, however it came.
    let is_framing = |name: &str| ["connection", "content-length", "transfer-encoding"].contains(&name);
    for (name, value) in request.headers.iter().filter(|(name, _)| !is_framing(&name.to_ascii_lowercase())) {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("content-length: {}\r\n\r\n", request.body.len());
    stream.write_all(head.as_bytes()).ok()?;
    // A server that has refused need not read on.
    let _ = stream.write_all(&request.body);
    Response::read(&mut BufReader::new(stream), request.method == "HEAD")
}
