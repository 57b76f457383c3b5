//! Runs a Spin application of one HTTP component: a test host with Spin's interfaces on wasmtime. It is not Spin.
//!
//! Spin's command is in no package registry, so the tests of Mezze's bundle for Spin cannot install it. This host gives that
//! bundle what Spin gives it: WASI 0.2 and 0.3, `wasi:http/handler@0.3.0` with instances that serve many requests, the key-value
//! stores of a SQLite file with Spin's tables, variables, and no network. `spin-host up` understands the arguments of `spin up`
//! that are below; `--kv` and `--reuse` are its own.
//!
//! What it does not do: more than one component, routes other than `/...`, other triggers, other kinds of store, variables from
//! elsewhere than the environment, outgoing requests, `spin-*` request headers, limits of time. A manifest that asks for a
//! thing that is not here is refused.

mod application;
mod instance;
mod store;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use wasmtime::error::Context as _;
use wasmtime::{Result, bail};
use wasmtime_wasi_http::WasiBody;
use wasmtime_wasi_http::handler::ProxyHandler;

use application::Application;
use instance::{Host, Limits};
use store::Store;

const USAGE: &str = "\
usage: spin-host up --from PATH [arguments]
  --from PATH                  spin.toml or its folder
  --listen ADDRESS             where to serve, port 0 is any that is free (127.0.0.1:3000)
  --runtime-config-file PATH   where the stores are (the default store is .spin/sqlite_key_value.db beside spin.toml)
  --kv ADDRESS                 an HTTP server that has the default store: GET /KEY?urlencoded=true
  --max-instance-memory BYTES  what an instance may have (134217728)
  --reuse COUNT                requests that an instance serves at the most (128)";

#[tokio::main]
async fn main() -> ExitCode {
    let served = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => up(arguments).await,
        Err(error) => Err(error),
    };
    let Err(error) = served else { return ExitCode::SUCCESS };
    eprintln!("spin-host: {error:#}");
    ExitCode::FAILURE
}

struct Arguments {
    from: PathBuf,
    listen: String,
    runtime_config_file: Option<PathBuf>,
    kv: Option<String>,
    limits: Limits,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self> {
        if words.next().as_deref() != Some("up") {
            bail!("{USAGE}");
        }
        let (mut from, mut listen, mut runtime_config_file, mut kv) = (None, "127.0.0.1:3000".to_owned(), None, None);
        let mut limits = Limits { memory_bytes: 128 << 20, requests: 128 };
        while let Some(flag) = words.next() {
            let mut value = || words.next().with_context(|| format!("{flag} has no value"));
            let number = |value: String| {
                let number = value.parse::<NonZeroUsize>();
                number.with_context(|| format!("{flag} is `{value}`, expected a number above 0")).map(NonZeroUsize::get)
            };
            match &*flag {
                "--from" => from = Some(PathBuf::from(value()?)),
                "--listen" => listen = value()?,
                "--runtime-config-file" => runtime_config_file = Some(PathBuf::from(value()?)),
                "--kv" => kv = Some(value()?),
                "--max-instance-memory" => limits.memory_bytes = number(value()?)?,
                "--reuse" => limits.requests = number(value()?)?,
                _ => bail!("unknown argument `{flag}`\n{USAGE}"),
            }
        }
        let from = from.with_context(|| format!("--from is missing\n{USAGE}"))?;
        Ok(Self { from, listen, runtime_config_file, kv, limits })
    }
}

/// Serves an application. Returns only if it cannot start.
async fn up(arguments: Arguments) -> Result<()> {
    let application = Application::load(&arguments.from, arguments.runtime_config_file.as_deref())?;
    let mut stores = BTreeMap::new();
    for (label, file) in application.stores {
        let store = match &arguments.kv {
            Some(address) if label == "default" => Store::http(address),
            _ => Store::sqlite(&label, &file).with_context(|| format!("cannot open {}", file.display()))?,
        };
        stores.insert(label, store);
    }
    let listener = TcpListener::bind(&arguments.listen).await;
    let listener = listener.with_context(|| format!("cannot listen on {}", arguments.listen))?;
    let address = listener.local_addr()?;
    let handler = ProxyHandler::new(Host::load(&application.source, stores, application.variables, arguments.limits)?);

    let mut stdout = std::io::stdout();
    writeln!(stdout, "Serving http://{address}")?;
    stdout.flush()?;

    loop {
        // Too many connections are no reason to end.
        let Ok((stream, _)) = listener.accept().await else { continue };
        // A response goes out at once, not when the client has acknowledged its head.
        _ = stream.set_nodelay(true);
        let handler = handler.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| respond(handler.clone(), request));
            // It fails when the client goes away.
            _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn respond(handler: ProxyHandler<Host>, request: http::Request<Incoming>) -> Result<http::Response<WasiBody>, Infallible> {
    let answered = match make_absolute(request) {
        Ok(request) => handler.handle((), request.map(|body| body.map_err(Into::into).boxed_unsync())).await,
        Err(error) => Err(error.into()),
    };
    Ok(answered.unwrap_or_else(|error| {
        eprintln!("spin-host: no response: {error:#}");
        let mut response = http::Response::new(http_body_util::Empty::new().map_err(Into::into).boxed_unsync());
        *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
        response
    }))
}

/// Components see the scheme and the authority, which clients leave out of the first line.
fn make_absolute<B>(mut request: http::Request<B>) -> http::Result<http::Request<B>> {
    let authority = request.headers().get(http::header::HOST).map_or(&b"localhost"[..], http::HeaderValue::as_bytes);
    let mut uri = http::Uri::builder().scheme("http").authority(authority);
    if let Some(path_and_query) = request.uri().path_and_query() {
        uri = uri.path_and_query(path_and_query.clone());
    }
    *request.uri_mut() = uri.build()?;
    Ok(request)
}
