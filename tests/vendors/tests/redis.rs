use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;

use crate::client::connect;
use crate::vendors::redis::{Options, Redis};

/// The first line that a command gets.
fn said(stream: impl Read + Write, command: &str) -> String {
    let mut reader = BufReader::new(stream);
    reader.get_mut().write_all(format!("{command}\r\n").as_bytes()).expect("it reads");
    let mut line = String::new();
    reader.read_line(&mut line).expect("it answers");
    line.trim_end().to_owned()
}

#[test]
fn a_server_keeps_keys_until_it_is_dropped() {
    let redis = Redis::start();
    let (address, socket) = (redis.address, redis.socket());
    assert_eq!(redis.url(), format!("redis://{address}"));
    assert_eq!(said(connect(address), "SET k v"), "+OK");
    assert_eq!(said(UnixStream::connect(&socket).expect("it listens"), "STRLEN k"), ":1");
    assert_eq!(said(connect(address), "CONFIG GET save"), "*2");
    drop(redis);
    assert!(std::net::TcpStream::connect(address).is_err());
    assert!(!socket.exists());
}

#[test]
fn servers_are_of_their_own() {
    let (one, two) = (Redis::start(), Redis::start());
    assert_eq!(said(connect(one.address), "SET k v"), "+OK");
    assert_eq!(said(connect(two.address), "EXISTS k"), ":0");
}

#[test]
fn a_password_is_asked_for() {
    let redis = Redis::start_with(&Options { password: Some("pass/word".into()), ..Options::default() });
    assert_eq!(redis.url(), format!("redis://:pass%2Fword@{}", redis.address));
    assert!(said(connect(redis.address), "GET k").starts_with("-NOAUTH"));
    assert_eq!(said(connect(redis.address), "AUTH pass/word"), "+OK");
}

#[test]
fn a_full_server_refuses_writes_and_keeps_what_it_has() {
    let redis = Redis::start_with(&Options { memory_bytes_max: Some(4 << 20), ..Options::default() });
    assert_eq!(said(connect(redis.address), "SET small v"), "+OK");
    // More than the limit: what is written after it is refused.
    let value = "v".repeat(8 << 20);
    let set = format!("*3\r\n$3\r\nSET\r\n$5\r\nlarge\r\n${}\r\n{value}", value.len());
    let first = said(connect(redis.address), &set);
    let second = said(connect(redis.address), "SET k v");
    assert!(first.starts_with("-OOM") || second.starts_with("-OOM"), "{first} {second}");
    assert_eq!(said(connect(redis.address), "GET small"), "$1");
}

#[test]
fn a_killed_server_is_gone() {
    let mut redis = Redis::start();
    redis.kill();
    assert!(std::net::TcpStream::connect(redis.address).is_err());
}
