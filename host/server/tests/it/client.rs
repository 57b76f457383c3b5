//! An HTTP client of the bare minimum, so that tests see the bytes that a server sends.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

/// A connection to a server.
pub(crate) struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

/// A response.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        Self { stream, received: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    /// Sends a request with a body and reads the response.
    pub(crate) fn post(&mut self, path: &str, headers: &[&str], body: &[u8]) -> Reply {
        let mut message = format!("POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n", body.len());
        for header in headers {
            message.push_str(header);
            message.push_str("\r\n");
        }
        message.push_str("\r\n");
        self.send(&[message.as_bytes(), body].concat());
        self.reply()
    }

    /// Reads one response.
    pub(crate) fn reply(&mut self) -> Reply {
        let head_end = loop {
            if let Some(end) = self.received.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            assert!(self.receive(), "the server closed the connection before a response");
        };
        let head = String::from_utf8(self.received[..head_end].to_vec()).expect("heads are text");
        let status = head[9..12].parse().expect("a status is a number");
        let headers: Vec<(String, String)> = head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let body_bytes: usize =
            headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, value)| value.parse().expect("a length"));
        let end = head_end + 4 + body_bytes;
        while self.received.len() < end {
            assert!(self.receive(), "the server closed the connection within a response");
        }
        let body = self.received[head_end + 4..end].to_vec();
        self.received.drain(..end);
        Reply { status, headers, body }
    }

    /// Whether the server has closed the connection, with nothing left to read. Waits for it.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.received.is_empty() && !self.receive()
    }

    fn receive(&mut self) -> bool {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(count) => {
                self.received.extend_from_slice(&buffer[..count]);
                count > 0
            }
            // A server that closes with unread bytes resets the connection.
            Err(_) => false,
        }
    }
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }
}
