//! A real Redis server of its own for a test. It keeps nothing.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A running server. It is stopped when this is dropped.
#[derive(Debug)]
pub(crate) struct Redis {
    pub(crate) address: SocketAddr,
    password: Option<String>,
    child: Child,
    folder: tempfile::TempDir,
}

/// How a server is to be started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// Whoever does not say it is refused.
    pub(crate) password: Option<String>,
    /// Writes beyond it are refused with `OOM`. The server itself takes about a million.
    pub(crate) memory_bytes_max: Option<u64>,
}

impl Redis {
    pub(crate) fn start() -> Self {
        Self::start_with(&Options::default())
    }

    pub(crate) fn start_with(options: &Options) -> Self {
        let program = super::program("bin/redis-server", &["redis-server", "valkey-server"]);
        let program = program.expect(
            "no redis-server: run `tests/run`, which installs it, or install the package redis-server (or valkey-server)",
        );
        let folder = tempfile::tempdir().expect("a temporary folder");
        // It takes the port that it is told; should another have taken that in the meantime, there are more.
        for _ in 0..16 {
            let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
            let address = address.expect("loopback has a free port");
            let mut command = Command::new(&program);
            command
                .args(["--save", "", "--appendonly", "no", "--daemonize", "no", "--bind", "127.0.0.1", "--unixsocket"])
                .arg(folder.path().join("socket"))
                .arg("--dir")
                .arg(folder.path())
                .args(["--port", &address.port().to_string()]);
            if let Some(password) = &options.password {
                command.args(["--requirepass", password]);
            }
            if let Some(bytes) = options.memory_bytes_max {
                command.args(["--maxmemory", &bytes.to_string(), "--maxmemory-policy", "noeviction"]);
            }
            let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("redis-server can be run");
            let mut said = BufReader::new(child.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
            if said.any(|line| line.contains("eady to accept connections")) {
                // What it says later must go somewhere.
                std::thread::spawn(move || said.for_each(drop));
                return Self { address, password: options.password.clone(), child, folder };
            }
            let _ = child.wait();
            let _ = fs::remove_file(folder.path().join("socket"));
        }
        panic!("{} does not start: run it to see why", program.display());
    }

    /// `redis://...`, with the password.
    pub(crate) fn url(&self) -> String {
        let user = self.password.as_ref().map_or_else(String::new, |password| format!(":{}@", super::http::encoded(password)));
        format!("redis://{user}{}", self.address)
    }

    /// Where it listens too.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// Ends it at once, as a crash does. Its keys are lost.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
