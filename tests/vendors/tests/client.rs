//! A client that shows responses as they come, cut ones too.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::vendors::http::Response;

/// Sends a request by its method and target on a connection of its own; `None` where its response is not whole.
pub(crate) fn ask(address: SocketAddr, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<Response> {
    let mut stream = connect(address);
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let head = format!("{line} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("the server reads");
    stream.write_all(body).expect("the server reads");
    Response::read(&mut BufReader::new(stream), line.starts_with("HEAD "))
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the server listens");
    // Whatever hangs is to fail.
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket has a time-out");
    stream
}
