//! An app for Fastly Compute that reads a request's body and answers with a fixed one.

use std::time::Duration;

use fastly::http::serve::Serve;
use fastly::{Error, Request, Response};

fn main() -> Result<(), Error> {
    // Its sandbox serves again as Mezze's does.
    let serve =
        Serve::new().with_max_requests(1_000).with_timeout(Duration::from_secs(5)).with_max_lifetime(Duration::from_secs(100));
    serve.run(respond).into_result().map_err(|error| match error {})
}

fn respond(mut request: Request) -> Response {
    let body = request.take_body_bytes();
    // Nobody is to say that the body need not be read.
    let status = if body.len() > BODY_BYTES_MAX { 413 } else { 200 };
    Response::from_status(status).with_header("content-type", "application/json").with_body(RESPONSE)
}

/// A response of Mezze's for one entity with ten features.
const RESPONSE: &[u8] = include_bytes!("../../response.json");
const BODY_BYTES_MAX: usize = 1 << 20;
