//! What a request asks for.

use alloc::{borrow::ToOwned, string::String, vec::Vec};

use super::reply::{HttpResponse, Replies};
use super::text::{decode, pairs, segments};
use super::{ConfigError, HttpConfig};
use crate::{EntityColumn, Expired, LimitKind, MediaType, PlanError, Refusal, Request, Selection, Value};

/// A request, but for its body.
#[derive(Clone, Copy, Debug)]
pub struct HttpRequest<'a> {
    /// The method, in upper case.
    pub method: &'a str,
    /// The path as it was sent, percent-encoded.
    pub path: &'a str,
    /// What follows the `?`.
    pub query: Option<&'a str>,
    /// Names in lower case, and values; only those of [`REQUEST_HEADERS`] matter.
    pub headers: &'a [(&'a str, &'a str)],
}

/// The request headers that matter.
pub const REQUEST_HEADERS: [&str; 6] = ["accept", "authorization", "content-type", "if-none-match", "origin", "x-mezze-epoch"];

impl<'a> HttpRequest<'a> {
    fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }
}

/// Where a request goes.
#[derive(Clone, Debug)]
pub enum Route {
    /// It has its response.
    Respond(HttpResponse),
    /// It needs a snapshot.
    Ask(Ask),
}

/// A request that needs a snapshot, as its line and headers have it.
#[derive(Clone, Debug)]
pub struct Ask {
    pub(super) kind: Kind,
    pub(super) replies: Replies,
    /// The format of the response.
    pub(super) accept: MediaType,
    /// The newest epoch that the client has seen.
    pub(super) epoch_seen: Option<u64>,
    /// The bodies that the client has.
    pub(super) if_none_match: Option<String>,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// The features that a body of this format asks for.
    Body(MediaType),
    /// The features of a URL.
    Query(Request),
    /// What is served.
    Snapshot,
    /// Whether anything is served.
    Health,
}

impl Ask {
    /// Whether the request has a body to read, of at most `limits.request_bytes_max` bytes.
    pub fn reads_body(&self) -> bool {
        matches!(self.kind, Kind::Body(_))
    }

    /// The format of its response.
    pub fn accept(&self) -> MediaType {
        self.accept
    }

    /// The response to a body that has more bytes than that, or says so in its `content-length`. It need not be read to its end.
    pub fn body_too_large(&self, config: &HttpConfig) -> HttpResponse {
        let allowed = config.limits.request_bytes_max;
        // How many it has is not known: it was not read to its end.
        let error = PlanError::Limit { kind: LimitKind::RequestBytes, asked: allowed.saturating_add(1), allowed };
        self.replies.refused(&error.into())
    }

    /// The response to a body that ended early or could not be read.
    pub fn body_unreadable(&self) -> HttpResponse {
        self.replies.detail(400, "the request's body ends early")
    }
}

/// What every request gets where the host's variables are unusable.
impl From<ConfigError> for HttpResponse {
    fn from(error: ConfigError) -> Self {
        let refusal = Refusal { status: 500, class: "FeastError", message: alloc::format!("{error}"), retry_after_seconds: None };
        Replies::default().refused(&refusal)
    }
}

/// Where a request goes, by its line and headers.
pub fn route(config: &HttpConfig, request: &HttpRequest<'_>) -> Route {
    let allow_origin = config.allowed_origin(request.header("origin"));
    let mut replies = Replies {
        allow_origin,
        varies_by_origin: config.varies_by_origin(),
        private: config.token.is_some(),
        head: request.method == "HEAD",
        etag_seed: None,
    };
    let segments = segments(request.path);
    let methods = match segments.as_slice() {
        ["get-online-features"] => "POST",
        ["v1", "features", _] | ["v1", "snapshot"] | ["health"] => "GET, HEAD",
        _ => "",
    };
    let health = segments == ["health"];
    if request.method == "OPTIONS" && !methods.is_empty() {
        return Route::Respond(replies.preflight(methods));
    }
    if !health && !config.admits(request.header("authorization")) {
        return Route::Respond(replies.unauthorized());
    }
    if methods.is_empty() {
        return Route::Respond(replies.detail(404, "Not Found"));
    }
    if !methods.split(", ").any(|method| method == request.method) {
        return Route::Respond(replies.not_allowed(methods));
    }
    let asked = ask(request, &segments);
    let (kind, sent) = match asked {
        Ok(asked) => asked,
        Err(refusal) => return Route::Respond(replies.refused(&refusal)),
    };
    let Ok(epoch_seen) = request.header("x-mezze-epoch").map(str::parse).transpose() else {
        return Route::Respond(replies.refused(&bad("header x-mezze-epoch: expected a whole number")));
    };
    let accept = request.header("accept");
    let accept = if MediaType::is_preferred(accept) { MediaType::negotiate(accept) } else { sent };
    if let Kind::Query(request) = &kind {
        replies.etag_seed = Some(seed(request, accept));
    }
    let if_none_match = request.header("if-none-match").map(ToOwned::to_owned);
    Route::Ask(Ask { kind, replies, accept, epoch_seen, if_none_match })
}

/// What is asked for, and the format that its answer has where the client has no wish.
fn ask(request: &HttpRequest<'_>, segments: &[&str]) -> Result<(Kind, MediaType), Refusal> {
    let kind = match segments {
        ["get-online-features"] => {
            let content_type = request.header("content-type");
            // What `curl -d` says unasked.
            let form = content_type.is_some_and(|name| name.starts_with("application/x-www-form-urlencoded"));
            let sent = MediaType::from_content_type(content_type.filter(|_| !form))?;
            return Ok((Kind::Body(sent), sent));
        }
        ["v1", "features", service] => {
            let service = decode(service, false).filter(|service| !service.is_empty());
            let service = service.ok_or_else(|| bad("the path must be /v1/features/ and the name of a feature service"))?;
            Kind::Query(query(&service, request.query.unwrap_or_default())?)
        }
        ["v1", "snapshot"] => Kind::Snapshot,
        _ => Kind::Health,
    };
    Ok((kind, MediaType::Json))
}

/// The request that a URL makes: every parameter is an entity column, and one that comes again its next row; but for the fields
/// that a body has.
fn query(service: &str, query: &str) -> Result<Request, Refusal> {
    let pairs = pairs(query).ok_or_else(|| bad("the query is not UTF-8"))?;
    let mut request = Request::new(Selection::Service(service.to_owned()), Vec::new());
    for (name, value) in pairs {
        match name.as_str() {
            "full_feature_names" => {
                request.full_feature_names = match value.as_str() {
                    "true" => true,
                    "false" => false,
                    _ => return Err(bad("query parameter `full_feature_names`: expected true or false")),
                }
            }
            "expired" => {
                request.expired = match value.as_str() {
                    "null" => Expired::Null,
                    "value" => Expired::Value,
                    _ => return Err(bad("query parameter `expired`: expected null or value")),
                }
            }
            _ => match request.entities.iter_mut().find(|column| column.name == name) {
                Some(column) => column.values.push(Value::String(value)),
                None => request.entities.push(EntityColumn::new(name, [Value::String(value)].into())),
            },
        }
    }
    Ok(request)
}

/// What tells this URL's bodies from those of others, whatever its spelling.
fn seed(request: &Request, accept: MediaType) -> Vec<u8> {
    let mut seed = Vec::new();
    push_text(accept.name(), &mut seed);
    if let Selection::Service(service) = &request.selection {
        push_text(service, &mut seed);
    }
    for column in &request.entities {
        push_text(&column.name, &mut seed);
        seed.extend_from_slice(&(column.values.len() as u64).to_le_bytes());
        for value in &column.values {
            // All of them came from the URL as text.
            push_text(if let Value::String(text) = value { text } else { "" }, &mut seed);
        }
    }
    seed.push(u8::from(request.full_feature_names));
    seed.push(u8::from(request.expired == Expired::Value));
    seed
}

fn push_text(text: &str, seed: &mut Vec<u8>) {
    seed.extend_from_slice(&(text.len() as u64).to_le_bytes());
    seed.extend_from_slice(text.as_bytes());
}

fn bad(message: &str) -> Refusal {
    Refusal { status: 400, class: "FeastError", message: message.into(), retry_after_seconds: None }
}
