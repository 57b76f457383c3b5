//! HTTP as vendors' interfaces speak it.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use mezze_core::Span;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Client, Method, StatusCode};

use crate::Error;

/// Calls an interface with a secret in a header.
pub(crate) struct Api {
    client: Client,
    base: String,
    /// The interface, for messages.
    name: &'static str,
    /// Where the secret came from, for messages.
    token_env: String,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("base", &self.base).finish_non_exhaustive()
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A call.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) operation: &'static str,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Option<Bytes>,
    /// What it is about, for messages.
    pub(crate) about: &'a str,
}

impl Api {
    /// `header` is the secret's header, with what stands before the secret in it.
    pub(crate) fn new(
        name: &'static str,
        base: &str,
        header: (&'static str, &str),
        token: &str,
        token_env: &str,
    ) -> Result<Self, Error> {
        let refused = |detail: String| Error::Location { location: base.to_owned(), detail };
        let is_local = ["http://127.0.0.1:", "http://localhost:", "http://[::1]:"].iter().any(|local| base.starts_with(local));
        if !base.starts_with("https://") && !is_local {
            return Err(refused("a token goes over https:// alone (or to this machine)".to_owned()));
        }
        let mut value = HeaderValue::from_str(&format!("{}{}", header.1, token.trim())).map_err(|_| Error::Denied {
            place: name.to_owned(),
            detail: "the token has characters that no token has".to_owned(),
            token_env: token_env.to_owned(),
        })?;
        value.set_sensitive(true);
        let mut headers = HeaderMap::new();
        headers.insert(header.0, value);
        let client = Client::builder()
            .default_headers(headers)
            .user_agent(concat!("mezze/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .timeout(CALL)
            .build()
            .map_err(|error| refused(error.to_string()))?;
        Ok(Self { client, base: base.trim_end_matches('/').to_owned(), name, token_env: token_env.to_owned() })
    }

    /// Makes a call. A reply that says that the call cannot be made, or not now, is an error.
    pub(crate) async fn call(&self, call: Call<'_>) -> Result<Reply, Error> {
        let unavailable = |error: reqwest::Error| Error::Unavailable {
            operation: call.operation,
            key: format!("{} of {}", call.about, self.name),
            detail: describe(error),
        };
        let mut request = self.client.request(call.method.clone(), format!("{}{}", self.base, call.path));
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        if let Some(body) = &call.body {
            request = request.body(body.clone());
        }
        let response = request.send().await.map_err(unavailable)?;
        let status = response.status();
        let headers = response.headers().clone();
        let body = response.bytes().await.map_err(unavailable)?;
        let reply = Reply { status, headers, body };
        match status {
            // Vendors have no status of its own for an account that has used up what it may use; waiting and other tokens do not help.
            StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS if reply.says_full() && reply.retry_after().is_none() => {
                Err(Error::Full { place: self.name.to_owned(), detail: reply.said() })
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(Error::Denied { place: self.name.to_owned(), detail: reply.said(), token_env: self.token_env.clone() })
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                Err(Error::Busy { place: self.name.to_owned(), detail: reply.said(), retry_after: reply.retry_after() })
            }
            StatusCode::INSUFFICIENT_STORAGE | StatusCode::PAYMENT_REQUIRED => {
                Err(Error::Full { place: self.name.to_owned(), detail: reply.said() })
            }
            status if status.is_server_error() => Err(Error::Unavailable {
                operation: call.operation,
                key: format!("{} of {}", call.about, self.name),
                detail: reply.said(),
            }),
            _ => Ok(reply),
        }
    }

    /// An error for a reply that nothing can be done about.
    pub(crate) fn refused(&self, operation: &str, about: &str, reply: &Reply) -> Error {
        if reply.says_full() {
            return Error::Full { place: self.name.to_owned(), detail: reply.said() };
        }
        Error::Refused(format!("{} refuses to {operation} {about}: {}", self.name, reply.said()))
    }

    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }
}

impl Reply {
    /// What a reply that is an error says, short enough for a message.
    pub(crate) fn said(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let text: String = text.trim().chars().take(SAID_CHARS).collect();
        if text.is_empty() { format!("HTTP {}", self.status.as_u16()) } else { format!("HTTP {}: {text}", self.status.as_u16()) }
    }

    /// Whether a quota is used up, which passes by days or money alone.
    pub(crate) fn says_full(&self) -> bool {
        let said = String::from_utf8_lossy(&self.body).to_ascii_lowercase();
        ["free usage", "quota", "storage is full", "storage limit", "used up"].iter().any(|word| said.contains(word))
    }

    fn retry_after(&self) -> Option<Span> {
        let seconds: i64 = self.headers.get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
        (0..=RETRY_AFTER_MAX_SECONDS).contains(&seconds).then(|| Span::from_seconds(seconds))
    }
}

/// An error with its causes, without the URL: that is long, and known.
pub(crate) fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// A key as a part of a path.
pub(crate) fn escape(key: &str) -> String {
    utf8_percent_encode(key, RESERVED).to_string()
}

/// All that is not unreserved in RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

const CONNECT: Duration = Duration::from_secs(10);
/// A call that takes longer has failed. Shorter than a lease, so that no write of a lost lease is still under way.
const CALL: Duration = Duration::from_secs(60);
const RETRY_AFTER_MAX_SECONDS: i64 = 3_600;
const SAID_CHARS: usize = 300;
