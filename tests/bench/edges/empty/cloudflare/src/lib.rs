//! An app for Cloudflare Workers that reads a request's body and answers with a fixed one.

use worker::{Context, Env, Request, Response, Result, event};

#[event(fetch)]
async fn fetch(mut request: Request, _env: Env, _context: Context) -> Result<Response> {
    let body = request.bytes().await?;
    let response = Response::builder().with_header("content-type", "application/json")?;
    // Nobody is to say that the body need not be read.
    Ok(response.with_status(if body.len() > BODY_BYTES_MAX { 413 } else { 200 }).fixed(RESPONSE.to_vec()))
}

/// A response of Mezze's for one entity with ten features.
const RESPONSE: &[u8] = include_bytes!("../../response.json");
const BODY_BYTES_MAX: usize = 1 << 20;
