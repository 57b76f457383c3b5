//! A replica's keys over HTTP: what workerd's KV bindings ask for, and what browsers read from static hosting.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use mezze_core::HEAD_KEY;
use mezze_replica::ReplicaKeys;
use tokio::net::TcpListener;

/// A file to serve beside the keys.
#[derive(Clone, Debug)]
pub struct StaticFile {
    /// Its path, without the first `/`.
    pub path: String,
    /// Its media type.
    pub media_type: &'static str,
    /// Its bytes.
    pub bytes: Bytes,
}

/// Serves the keys below `prefix`, and these files, until it is dropped: every `GET` of a key has its value, or 404. Meant for
/// this machine: there is no token and no limit.
pub async fn serve_keys(listener: TcpListener, keys: Arc<ReplicaKeys>, prefix: &'static str, files: Vec<StaticFile>) {
    let files = Arc::new(files);
    loop {
        // Out of file descriptors, most likely: the client tries again.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let (keys, files) = (Arc::clone(&keys), Arc::clone(&files));
        let service = service_fn(move |request| {
            let (keys, files) = (Arc::clone(&keys), Arc::clone(&files));
            async move { Ok::<_, Infallible>(respond(&keys, prefix, &files, &request).await) }
        });
        tokio::spawn(async move {
            // Errors of a connection are its client's.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn respond(keys: &ReplicaKeys, prefix: &str, files: &[StaticFile], request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let say = |status: StatusCode, text: String| {
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        response
    };
    if request.method() != Method::GET {
        return say(StatusCode::METHOD_NOT_ALLOWED, "only GET".into());
    }
    // Keys have no other letter that is encoded.
    let path = request.uri().path().trim_start_matches('/').replace("%2F", "/").replace("%2f", "/");
    if let Some(file) = files.iter().find(|file| file.path == path) {
        let mut response = Response::new(Full::new(file.bytes.clone()));
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(file.media_type));
        response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-cache"));
        return response;
    }
    let Some(key) = path.strip_prefix(prefix) else { return say(StatusCode::NOT_FOUND, String::new()) };
    match keys.read(key).await {
        Ok(Some(value)) => {
            let mut response = Response::new(Full::new(value));
            let lasts = if key == HEAD_KEY { "no-cache" } else { "public, max-age=31536000, immutable" };
            response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static(lasts));
            response
        }
        Ok(None) => say(StatusCode::NOT_FOUND, String::new()),
        Err(error) => say(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}
