//! An app for Spin that reads a request's body and answers with a fixed one.

use bytes::Bytes;
use futures_util::StreamExt;
use spin_sdk::http::body::IncomingBodyExt;
use spin_sdk::http::{FullBody, Request, Response};
use spin_sdk::http_service;

#[http_service]
async fn handle(request: Request) -> Response<FullBody<Bytes>> {
    let mut stream = request.into_body().stream();
    let mut body_bytes = 0;
    while let Some(Ok(chunk)) = stream.next().await {
        body_bytes += chunk.len();
    }
    let mut response = Response::new(FullBody::new(Bytes::from_static(RESPONSE)));
    // Nobody is to say that the body need not be read.
    *response.status_mut() = if body_bytes > BODY_BYTES_MAX { 413 } else { 200 }.try_into().unwrap_or_default();
    if let Ok(json) = "application/json".parse() {
        response.headers_mut().insert("content-type", json);
    }
    response
}

/// A response of Mezze's for one entity with ten features.
const RESPONSE: &[u8] = include_bytes!("../../response.json");
const BODY_BYTES_MAX: usize = 1 << 20;
