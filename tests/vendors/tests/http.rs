use std::io::{BufReader, Read, Write};
use std::net::TcpStream;

use crate::client::{ask, connect};
use crate::vendors::http::{Answer, Request, Response, Server, decoded, encoded};

/// Says what it was asked.
fn echo() -> Server {
    Server::start(|request| {
        let said = format!("{} {} {:?}", request.method, request.target, String::from_utf8_lossy(&request.body));
        let mut response = Response::new(200, said);
        match request.path() {
            "/chunked" => response.is_chunked = true,
            "/close" => return Answer::Close,
            "/cut-body" => return Answer::CutBody(response),
            "/cut-head" => return Answer::CutHead(response),
            "/hang" => return Answer::Hang,
            "/length" => response = response.with("content-length", 7),
            "/raw" => return Answer::Raw(b"HTTP/1.1 299 Raw\r\n\r\nraw".into()),
            _ => {}
        }
        Answer::Whole(response)
    })
}

#[test]
fn a_connection_takes_many_requests_with_bodies_by_length_and_in_chunks() {
    let server = echo();
    let mut stream = connect(server.address);
    let requests = "PUT /a?x=1 HTTP/1.1\r\nContent-Length: 2\r\n\r\nhiPOST /chunked HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n\
                    3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\ntrailer: 1\r\n\r\nHEAD /length HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n";
    stream.write_all(requests.as_bytes()).expect("it reads");
    let mut reader = BufReader::new(stream);
    let mut next = |is_head_only| Response::read(&mut reader, is_head_only).expect("it answers");
    assert_eq!(next(false).body, b"PUT /a?x=1 \"hi\"");
    let chunked = next(false);
    assert!(chunked.is_chunked);
    assert_eq!(chunked.body, b"POST /chunked \"abc0123456789\"");
    assert_eq!(next(true).header("Content-Length"), Some("7"));
    assert_eq!(next(false).body, b"GET /b \"\"");
}

#[test]
fn a_large_body_in_chunks_comes_whole() {
    let server = Server::start(|request| {
        let mut response = Response::new(200, request.body.clone());
        response.is_chunked = true;
        Answer::Whole(response)
    });
    let body: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    assert_eq!(ask(server.address, "PUT /", &[], &body).expect("it answers").body, body);
}

#[test]
fn a_cut_response_is_cut_where_it_is_said() {
    let server = echo();
    let raw = |path: &str| {
        let mut stream = connect(server.address);
        write!(stream, "GET {path} HTTP/1.1\r\n\r\n").expect("it reads");
        let mut said = String::new();
        stream.read_to_string(&mut said).expect("it ends");
        said
    };
    assert_eq!(raw("/close"), "");
    let head = raw("/cut-head");
    assert!(head.starts_with("HTTP/1.1 200 OK") && !head.contains("\r\n\r\n"), "{head}");
    let body = raw("/cut-body");
    assert!(body.ends_with("\r\n\r\nGET /cut"), "{body}");
    assert!(body.contains("content-length: 16\r\n"), "{body}");
    assert!(ask(server.address, "GET /cut-body", &[], b"").is_none());
    assert_eq!(raw("/raw"), "HTTP/1.1 299 Raw\r\n\r\nraw");
}

#[test]
fn a_server_that_is_dropped_ends_its_connections_and_takes_no_more() {
    let server = echo();
    let address = server.address;
    let mut waiting = connect(address);
    waiting.write_all(b"GET /hang HTTP/1.1\r\n\r\n").expect("it reads");
    let mut idle = connect(address);
    idle.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("it reads");
    assert_ne!(idle.read(&mut [0; 1 << 10]).expect("it answers"), 0);
    drop(server);
    // Closed or reset; whichever, it ends.
    assert_eq!(idle.read(&mut [0]).unwrap_or(0), 0);
    assert_eq!(waiting.read(&mut [0]).unwrap_or(0), 0);
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn many_connections_are_served_at_once() {
    let server = echo();
    // Each is open before any of them asks.
    let streams: Vec<TcpStream> = (0..64).map(|_| connect(server.address)).collect();
    for mut stream in &streams {
        stream.write_all(b"GET /many HTTP/1.1\r\n\r\n").expect("it reads");
    }
    for stream in streams.into_iter().rev() {
        assert_eq!(Response::read(&mut BufReader::new(stream), false).expect("it answers").body, b"GET /many \"\"");
    }
}

#[test]
fn targets_are_taken_apart_and_text_is_decoded() {
    let request = Request { target: "/p/a%2Fb?prefix=x%20y+z&limit=&cursor=YQ==".into(), ..Request::default() };
    assert_eq!(request.path(), "/p/a%2Fb");
    assert_eq!(request.query("prefix").as_deref(), Some("x y z"));
    assert_eq!(request.query("limit").as_deref(), Some(""));
    assert_eq!(request.query("cursor").as_deref(), Some("YQ=="));
    assert_eq!(request.query("none"), None);
    assert_eq!(decoded("a%2Fü%C3%BC").as_deref(), Some("a/üü"));
    for broken in ["%", "%2", "%zz", "%ff"] {
        assert_eq!(decoded(broken), None, "{broken}");
    }
    assert_eq!(decoded(&encoded("a/ü ~%")).as_deref(), Some("a/ü ~%"));
}
