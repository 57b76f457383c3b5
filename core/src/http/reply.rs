//! Responses: status, headers and body.

use alloc::{borrow::Cow, format, string::String, string::ToString, vec::Vec};
use core::fmt;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::info::write_info;
use super::route::{Ask, Kind};
use super::{HttpConfig, log};
use crate::{AnswerError, Limits, MediaType, PageRef, Plan, Refusal, Snapshot, Timestamp};

/// A response, complete but for its way to the client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpResponse {
    /// The status.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    /// The body; empty where the method was `HEAD`.
    pub body: Vec<u8>,
    /// A line of JSON for the host's log, if this response is one of the sample.
    pub log: Option<String>,
    /// What of it could not be computed, for the host's counts and log.
    #[cfg(feature = "expressions")]
    pub faults: Vec<crate::ViewFault>,
}

/// Which snapshot answers.
#[derive(Clone, Copy)]
pub struct Served<'a> {
    /// The snapshot.
    pub snapshot: &'a Snapshot,
    /// How many snapshots before the newest it is, since pages of those could not be read.
    pub steps_back: usize,
    /// Whether its head is signed.
    pub signed: bool,
    /// The instant that its age is counted to.
    pub now: Timestamp,
    /// What runs the components of its on-demand views.
    #[cfg(feature = "expressions")]
    pub transforms: &'a (dyn crate::RunTransforms + Sync),
}

impl<'a> Served<'a> {
    /// The newest snapshot, on a host without components.
    pub const fn newest(snapshot: &'a Snapshot, signed: bool, now: Timestamp) -> Self {
        Self {
            snapshot,
            steps_back: 0,
            signed,
            now,
            #[cfg(feature = "expressions")]
            transforms: &crate::NoTransforms,
        }
    }

    /// The same, where so many newer ones could not be read.
    pub const fn steps_back(self, steps_back: usize) -> Self {
        Self { steps_back, ..self }
    }
}

impl fmt::Debug for Served<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served").field("snapshot", &self.snapshot).field("steps_back", &self.steps_back).finish_non_exhaustive()
    }
}

/// What all responses to one request have in common.
#[derive(Clone, Debug, Default)]
pub(super) struct Replies {
    pub(super) allow_origin: Option<String>,
    pub(super) varies_by_origin: bool,
    pub(super) private: bool,
    pub(super) head: bool,
    /// What tells the request from others, where its response may be cached.
    pub(super) etag_seed: Option<Vec<u8>>,
}

impl Replies {
    fn response(&self, status: u16) -> HttpResponse {
        let mut response = HttpResponse { status, ..HttpResponse::default() };
        if let Some(origin) = &self.allow_origin {
            response.push("access-control-allow-origin", origin.clone());
            response.push("access-control-expose-headers", EXPOSED_HEADERS);
        }
        response
    }

    /// Adds the body, and what follows from it.
    fn with_body(&self, mut response: HttpResponse, content_type: &'static str, body: Vec<u8>) -> HttpResponse {
        response.push("content-type", content_type);
        if !self.head {
            response.body = body;
        }
        response
    }

    /// A refusal that is not of features, in the shape of Feast's framework.
    pub(super) fn detail(&self, status: u16, message: &'static str) -> HttpResponse {
        let mut response = self.response(status);
        self.push_cache_control(&mut response, None);
        let body = format!("{{\"detail\":\"{message}\"}}");
        self.with_body(response, MediaType::Json.name(), body.into())
    }

    pub(super) fn refused(&self, refusal: &Refusal) -> HttpResponse {
        let mut response = self.response(refusal.status);
        if let Some(seconds) = refusal.retry_after_seconds {
            response.push("retry-after", seconds.to_string());
        }
        self.push_cache_control(&mut response, None);
        let mut body = Vec::new();
        refusal.write(&mut body);
        self.with_body(response, MediaType::Json.name(), body)
    }

    pub(super) fn unauthorized(&self) -> HttpResponse {
        let mut response = self.detail(401, "a bearer token is needed, or the one given is not right");
        response.push("www-authenticate", "Bearer");
        response
    }

    pub(super) fn not_allowed(&self, methods: &'static str) -> HttpResponse {
        let mut response = self.detail(405, "Method Not Allowed");
        response.push("allow", methods);
        response
    }

    /// What a browser asks before it lets a page of another origin ask.
    pub(super) fn preflight(&self, methods: &'static str) -> HttpResponse {
        let mut response = self.response(204);
        response.push("allow", methods);
        if self.allow_origin.is_some() {
            response.push("access-control-allow-methods", methods);
            response.push("access-control-allow-headers", "accept, authorization, content-type, if-none-match, x-mezze-epoch");
            response.push("access-control-max-age", "86400");
        }
        if self.varies_by_origin {
            response.push("vary", "Origin");
        }
        response
    }

    /// How long a cache may keep the response: so many seconds, or not at all.
    fn push_cache_control(&self, response: &mut HttpResponse, seconds: Option<u64>) {
        let control = match seconds {
            _ if self.private => "private, no-store".into(),
            Some(seconds) => format!("public, max-age={seconds}").into(),
            None => Cow::Borrowed("no-store"),
        };
        response.push("cache-control", control);
    }

    fn push_vary(&self, response: &mut HttpResponse) {
        response.push("vary", if self.varies_by_origin { "Accept, X-Mezze-Epoch, Origin" } else { "Accept, X-Mezze-Epoch" });
    }
}

impl Ask {
    /// The plan of the features that it asks for; `None` where it asks for none.
    ///
    /// # Errors
    /// [`Refusal`] where it does not fit the snapshot or the limits.
    pub fn plan(&self, snapshot: &Snapshot, body: &[u8], now: Timestamp, limits: &Limits) -> Result<Option<Plan>, Refusal> {
        match &self.kind {
            Kind::Body(media_type) => snapshot.plan_body(body, *media_type, now, limits).map(Some),
            Kind::Query(request) => Ok(Some(snapshot.plan(request, now, limits)?)),
            Kind::Snapshot | Kind::Health => Ok(None),
        }
    }

    /// The newest epoch that the client has seen, where that is newer than the snapshot's: then it gets [`Ask::too_old`].
    pub fn is_newer_than(&self, snapshot: &Snapshot) -> bool {
        self.epoch_seen.is_some_and(|seen| seen > snapshot.epoch())
    }

    /// The response where no snapshot here is as new as the client has seen.
    pub fn too_old(&self, config: &HttpConfig, served: &Served<'_>) -> HttpResponse {
        let seen = self.epoch_seen.unwrap_or_default();
        let message = format!("this host is at epoch {}, the request wants {seen} or later", served.snapshot.epoch());
        let refusal =
            Refusal { status: 409, class: "FeastError", message, retry_after_seconds: Some(1.max(config.head_seconds)) };
        let mut response = self.replies.refused(&refusal);
        response.push_served(served);
        response
    }

    /// The response to a refused request.
    pub fn refused(&self, refusal: &Refusal) -> HttpResponse {
        self.replies.refused(refusal)
    }

    /// The response without features: what is served, or that something is.
    pub fn describe(&self, config: &HttpConfig, served: &Served<'_>) -> HttpResponse {
        let mut response = self.replies.response(200);
        response.push_served(served);
        self.replies.push_cache_control(&mut response, None);
        if matches!(self.kind, Kind::Health) {
            return response;
        }
        self.replies.push_vary(&mut response);
        let mut body = Vec::new();
        write_info(config, served, self.accept, &mut body);
        self.replies.with_body(response, self.accept.name(), body)
    }

    /// The features, from pages in the order of [`Plan::pages`].
    ///
    /// # Errors
    /// [`AnswerError`] where a page is missing or damaged: then another snapshot may answer.
    pub fn reply(
        &self,
        config: &HttpConfig,
        served: &Served<'_>,
        plan: &Plan,
        pages: &[Option<PageRef<'_>>],
    ) -> Result<HttpResponse, AnswerError> {
        #[cfg(feature = "expressions")]
        let features = plan.answer_with(pages, served.transforms)?;
        #[cfg(feature = "expressions")]
        if let Some(refusal) = Refusal::of_overrun(&features, served.transforms) {
            return Ok(HttpResponse { faults: features.faults, ..self.refused(&refusal) });
        }
        #[cfg(not(feature = "expressions"))]
        let features = plan.answer(pages)?;
        let mut body = Vec::new();
        features.write(self.accept, &mut body).map_err(|error| AnswerError::Value { error })?;
        let mut response = self.replies.response(200);
        response.push_served(served);
        if let Some(seed) = &self.replies.etag_seed {
            let changes_at = plan.changes_at(&features);
            let etag = etag(seed, served.snapshot, changes_at);
            // Who answers from an older snapshot hopes to have the newest soon.
            let left = changes_at.map_or(i64::MAX, |at| at.since(plan.now()).seconds());
            let seconds = u64::try_from(left).unwrap_or(0).min(u64::from(config.cache_seconds));
            self.replies.push_cache_control(&mut response, (served.steps_back == 0).then_some(seconds));
            self.replies.push_vary(&mut response);
            let known = self.if_none_match.as_deref().is_some_and(|known| matches_etag(known, &etag));
            response.push("etag", etag);
            if known {
                response.status = 304;
                return Ok(response);
            }
        } else if self.replies.private {
            self.replies.push_cache_control(&mut response, None);
        }
        if log::is_sampled(config.log_one_in, plan.now(), &body) {
            response.log = log::line(served, plan, &features);
        }
        #[cfg(feature = "expressions")]
        {
            response.faults = features.faults;
        }
        Ok(self.replies.with_body(response, self.accept.name(), body))
    }
}

impl HttpResponse {
    /// A response with this body and type alone.
    pub fn new(status: u16, content_type: &'static str, body: Vec<u8>) -> Self {
        let headers = [("content-type", Cow::Borrowed(content_type))].into();
        Self { status, headers, body, ..Self::default() }
    }

    fn push(&mut self, name: &'static str, value: impl Into<Cow<'static, str>>) {
        self.headers.push((name, value.into()));
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| &**value)
    }

    fn push_served(&mut self, served: &Served<'_>) {
        let snapshot = served.snapshot;
        self.push("x-mezze-snapshot", snapshot.id().to_string());
        self.push("x-mezze-epoch", snapshot.epoch().to_string());
        let age = served.now.since(snapshot.issued_at()).seconds().max(0);
        self.push("x-mezze-age", age.to_string());
        if served.steps_back > 0 {
            self.push("x-mezze-steps-back", served.steps_back.to_string());
        }
    }
}

/// One tag for all responses of equal bodies to one URL: the values are the snapshot's, and a status changes only when the clock
/// passes `changes_at`.
fn etag(seed: &[u8], snapshot: &Snapshot, changes_at: Option<Timestamp>) -> String {
    let mut bytes = Vec::with_capacity(24 + seed.len());
    bytes.extend_from_slice(&snapshot.id().bytes());
    bytes.extend_from_slice(&changes_at.unwrap_or(Timestamp::MAX).nanos().to_le_bytes());
    bytes.extend_from_slice(seed);
    format!("\"{:016x}\"", xxh3_64_with_seed(&bytes, 0))
}

/// Whether an `If-None-Match` has this tag.
fn matches_etag(known: &str, etag: &str) -> bool {
    let mut known = known.split(',').map(str::trim);
    known.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == etag)
}

const EXPOSED_HEADERS: &str = "etag, retry-after, x-mezze-age, x-mezze-epoch, x-mezze-snapshot, x-mezze-steps-back";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_match_as_lists_have_them() {
        let tag = "\"00ff\"";
        for known in ["\"00ff\"", "W/\"00ff\"", "\"a\", \"00ff\"", "*"] {
            assert!(matches_etag(known, tag), "{known}");
        }
        for other in ["", "00ff", "\"00fe\"", "\"00ff"] {
            assert!(!matches_etag(other, tag), "{other}");
        }
    }
}
