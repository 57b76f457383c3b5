//! A load generator for `POST /get-online-features`: bounded in requests and in time, loopback only.
//!
//!     cargo run --release -p mezze-server --example load -- 127.0.0.1:6566 BODIES [CONNECTIONS] [REQUESTS] [SECONDS]
//!
//! BODIES is a file of request bodies, one a line, sent in turn. Prints one JSON object: requests, failures (a status other
//! than 200), seconds, requests per second and the latency's percentiles in microseconds.
#![expect(clippy::print_stdout, reason = "printing its figures is what it is for")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let address: SocketAddr = arguments.next().ok_or("expected HOST:PORT")?.parse()?;
    if !address.ip().is_loopback() {
        return Err("only loopback addresses are loaded".into());
    }
    let bodies = std::fs::read_to_string(arguments.next().ok_or("expected a file of request bodies")?)?;
    let mut number = |default: usize| arguments.next().map_or(Ok(default), |text| text.parse());
    let (connections, requests, seconds) = (number(16)?, number(100_000)?, number(30)?);
    let requests_of = |body: &str| {
        format!(
            "POST /get-online-features HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let messages: Arc<Vec<String>> = Arc::new(bodies.lines().filter(|line| !line.is_empty()).map(requests_of).collect());
    if messages.is_empty() {
        return Err("the file holds no request body".into());
    }
    let next = Arc::new(AtomicUsize::new(0));
    let start = Instant::now();
    let deadline = start + Duration::from_secs(seconds as u64);
    let workers: Vec<_> = (0..connections)
        .map(|_| {
            let (messages, next) = (Arc::clone(&messages), Arc::clone(&next));
            std::thread::spawn(move || drive(address, &messages, &next, requests, deadline))
        })
        .collect();
    let mut latencies = Vec::new();
    let mut failures = 0;
    for worker in workers {
        let (mut micros, failed) = worker.join().map_err(|_| "a connection's thread panicked")??;
        latencies.append(&mut micros);
        failures += failed;
    }
    let elapsed = start.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let percentile = |part: f64| latencies.get(((latencies.len() as f64 - 1.0) * part) as usize).copied().unwrap_or(0);
    println!(
        "{{\"requests\":{},\"failures\":{failures},\"seconds\":{elapsed:.3},\"per_second\":{:.0},\"p50_micros\":{},\"p99_micros\":{},\"max_micros\":{}}}",
        latencies.len(),
        latencies.len() as f64 / elapsed,
        percentile(0.5),
        percentile(0.99),
        percentile(1.0),
    );
    Ok(())
}

/// Sends requests over one connection, each after the response before it, until all are sent or time is up.
fn drive(
    address: SocketAddr,
    messages: &[String],
    next: &AtomicUsize,
    requests: usize,
    deadline: Instant,
) -> Result<(Vec<u32>, usize), Failure> {
    let mut stream = connect(address)?;
    let mut latencies = Vec::new();
    let mut failures = 0;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        if index >= requests || Instant::now() >= deadline {
            return Ok((latencies, failures));
        }
        let sent = Instant::now();
        stream.write_all(messages[index % messages.len()].as_bytes())?;
        let response = receive(&mut stream, &mut buffer)?;
        latencies.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX));
        failures += usize::from(response.status != 200);
        // A server that recycles its workers closes connections now and then.
        if response.closes {
            stream = connect(address)?;
        }
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream, Failure> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    Ok(stream)
}

struct Received {
    status: u16,
    closes: bool,
}

/// Reads one response that says its length.
fn receive(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<Received, Failure> {
    let mut filled = 0;
    loop {
        if filled == buffer.len() {
            buffer.resize(2 * filled, 0);
        }
        let count = stream.read(&mut buffer[filled..])?;
        if count == 0 {
            return Err("the server closed a connection before its response was whole".into());
        }
        filled += count;
        let Some(head_end) = buffer[..filled].windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&buffer[..head_end])?;
        let status = head.get(9..12).ok_or("a response without a status")?.parse()?;
        let header = |name: &str| {
            head.lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.trim())
        };
        let body_bytes: usize = header("content-length").ok_or("a response without content-length")?.parse()?;
        let closes = header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let whole = head_end + 4 + body_bytes;
        while filled < whole {
            buffer.resize(buffer.len().max(whole), 0);
            let count = stream.read(&mut buffer[filled..])?;
            if count == 0 {
                return Err("the server closed a connection before its response was whole".into());
            }
            filled += count;
        }
        return Ok(Received { status, closes });
    }
}
