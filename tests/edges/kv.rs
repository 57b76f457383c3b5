//! The key-value store that hosts read in tests.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// A key-value store over the protocol of workerd's KV bindings, on loopback. It can lose, damage and refuse keys.
#[derive(Clone)]
pub(crate) struct Kv {
    pub(crate) address: SocketAddr,
    keys: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    /// Keys that get an error.
    failing: Arc<Mutex<Vec<String>>>,
    /// Keys that are asked for and never answered.
    hanging: Arc<Mutex<Vec<String>>>,
}

impl Kv {
    pub(crate) fn start(keys: Vec<(String, Vec<u8>)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("it has an address");
        let kv = Self {
            address,
            keys: Arc::new(Mutex::new(keys.into_iter().collect())),
            failing: Arc::default(),
            hanging: Arc::default(),
        };
        let served = kv.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kv = served.clone();
                std::thread::spawn(move || kv.serve(stream));
            }
        });
        kv
    }

    fn serve(&self, stream: TcpStream) {
        let mut writer = stream.try_clone().expect("a socket can be cloned");
        let mut reader = BufReader::new(stream);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let mut header = String::new();
            while reader.read_line(&mut header).unwrap_or(0) > 2 {
                header.clear();
            }
            let target = line.split(' ').nth(1).unwrap_or_default();
            let key = target.split('?').next().unwrap_or_default().trim_start_matches('/').replace("%2F", "/");
            if self.hanging.lock().unwrap_or_else(PoisonError::into_inner).contains(&key) {
                // Until the client gives up.
                let _ = reader.read_line(&mut line);
                return;
            }
            let (status, body) = match self.keys.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
                _ if self.failing.lock().unwrap_or_else(PoisonError::into_inner).contains(&key) => ("500 Broken", vec![]),
                Some(value) => ("200 OK", value.clone()),
                None => ("404 Not Found", vec![]),
            };
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
            if writer.write_all(head.as_bytes()).and_then(|()| writer.write_all(&body)).is_err() {
                return;
            }
        }
    }

    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut BTreeMap<String, Vec<u8>>) -> T) -> T {
        change(&mut self.keys.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on this key gets an error.
    pub(crate) fn fail(&self, key: &str) {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner).push(key.to_owned());
    }

    /// From now on this key gets no answer.
    pub(crate) fn hang(&self, key: &str) {
        self.hanging.lock().unwrap_or_else(PoisonError::into_inner).push(key.to_owned());
    }
}
