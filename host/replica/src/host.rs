//! The hosts that serve replicas, asked over HTTP: what they can read, what they serve, whether they answer.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use mezze_core::{HEAD_VERSION, MANIFEST_VERSION, PAGE_VERSION, Span};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, StatusCode};
use serde::Deserialize;

use crate::target::describe;
use crate::{Clock, Error};

/// A host that serves a replica.
pub struct Host {
    client: Client,
    url: String,
    token: Option<HeaderValue>,
    token_env: String,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("url", &self.url).finish_non_exhaustive()
    }
}

/// What a host says of itself: `GET /v1/snapshot`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
#[serde(default)]
pub struct HostInfo {
    /// The epoch that it serves.
    pub epoch: u64,
    /// The snapshot that it serves.
    pub snapshot: String,
    /// How old that is.
    pub age_seconds: i64,
    /// The project that it serves.
    pub project: String,
    /// The versions that it can read of each format.
    pub formats: Formats,
    /// The versions of expressions that it can compute.
    pub expression_sets: Vec<u16>,
    /// The digests of the components that it carries.
    #[serde(default)]
    pub transforms: Vec<String>,
    /// Whose signatures it wants.
    pub trust: Trust,
}

/// The versions that a host can read of each format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
#[serde(default)]
pub struct Formats {
    /// Of heads.
    pub head: Vec<u16>,
    /// Of manifests.
    pub manifest: Vec<u16>,
    /// Of pages.
    pub page: Vec<u16>,
}

/// Whose signatures a host wants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
#[serde(default)]
pub struct Trust {
    /// It takes nothing that is not signed.
    pub required: bool,
    /// The keys that it trusts.
    pub keys: Vec<String>,
}

/// What came of asking a host what it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostState {
    /// It serves a snapshot.
    Serving(Box<HostInfo>),
    /// It runs, and has no snapshot that it can serve; with what it says.
    Empty(String),
}

/// A host's response to a request for features.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Probed {
    /// The HTTP status.
    pub status: u16,
    /// The epoch that answered, where it says so.
    pub epoch: Option<u64>,
    /// How many snapshots before the newest answered.
    pub steps_back: u32,
    /// The response's body.
    pub body: Bytes,
}

impl Host {
    /// The host at a URL; `token_env` says in messages where the token came from.
    ///
    /// # Errors
    /// [`Error::Location`] where it is no URL, or a token would go over a line that is not encrypted.
    pub fn new(url: &str, token: Option<&str>, token_env: &str) -> Result<Self, Error> {
        let refused = |detail: &str| Error::Location { location: url.to_owned(), detail: detail.to_owned() };
        let parsed = url::Url::parse(url).map_err(|error| refused(&error.to_string()))?;
        let is_local = matches!(parsed.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
        match parsed.scheme() {
            "https" => {}
            "http" if is_local || token.is_none() => {}
            "http" => return Err(refused("a token goes over https:// alone (or to this machine)")),
            _ => return Err(refused("expected https://")),
        }
        let token = token.map(|token| {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
                .map_err(|_| refused("the token has characters that no token has"))?;
            value.set_sensitive(true);
            Ok::<_, Error>(value)
        });
        let client = Client::builder()
            .user_agent(concat!("mezze/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CALL)
            .timeout(CALL)
            .build()
            .map_err(|error| refused(&error.to_string()))?;
        let url = url.trim_end_matches('/').to_owned();
        Ok(Self { client, url, token: token.transpose()?, token_env: token_env.to_owned() })
    }

    /// Where it answers.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it serves.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where it does not answer, [`Error::Denied`] where it does not take the token.
    pub async fn state(&self) -> Result<HostState, Error> {
        let (status, _, body) = self.call(self.client.get(format!("{}/v1/snapshot", self.url))).await?;
        match status {
            StatusCode::OK => serde_json::from_slice(&body)
                .map(|info| HostState::Serving(Box::new(info)))
                .map_err(|error| self.failed(format!("GET /v1/snapshot is no description of a snapshot: {error}"))),
            StatusCode::SERVICE_UNAVAILABLE => Ok(HostState::Empty(said(&body))),
            status => Err(self.failed(format!("GET /v1/snapshot: HTTP {}: {}", status.as_u16(), said(&body)))),
        }
    }

    /// Checks that it can read what this version of Mezze writes, signed by the key of this id or not at all, and compute
    /// expressions of this version (0 where the snapshot has none).
    ///
    /// # Errors
    /// [`Error::Refused`] where it cannot, and those of [`Host::state`].
    pub async fn check_can_read(
        &self,
        signed_by: Option<&str>,
        expression_set: u16,
        transforms: &[String],
    ) -> Result<HostState, Error> {
        let state = self.state().await?;
        let HostState::Serving(info) = &state else { return Ok(state) };
        let formats = [
            ("heads", HEAD_VERSION, &info.formats.head),
            ("manifests", MANIFEST_VERSION, &info.formats.manifest),
            ("pages", PAGE_VERSION, &info.formats.page),
        ];
        for (what, written, readable) in formats {
            if !readable.contains(&written) {
                return Err(Error::Refused(format!(
                    "the host at {} cannot read {what} of version {written}, it reads {readable:?}: deploy a bundle of this version \
                     first (`mezze edge build`)",
                    self.url
                )));
            }
        }
        if expression_set > 0 && !info.expression_sets.contains(&expression_set) {
            return Err(Error::Refused(format!(
                "the host at {} cannot compute the on-demand features of this snapshot: it needs version {expression_set} of expressions, \
                 the host has {:?}; deploy a bundle that has it first (`mezze edge build`)",
                self.url, info.expression_sets
            )));
        }
        if let Some(missing) = transforms.iter().find(|id| !info.transforms.contains(id)) {
            return Err(Error::Refused(format!(
                "the host at {} does not carry the transform {missing}, which an on-demand view of this snapshot needs: deploy it there \
                 first",
                self.url
            )));
        }
        if info.trust.required {
            let Some(key) = signed_by else {
                return Err(Error::Refused(format!(
                    "the host at {} takes only signed snapshots: name a key under `signing:` in feature_store.yaml",
                    self.url
                )));
            };
            if !info.trust.keys.iter().any(|trusted| trusted == key) {
                return Err(Error::Refused(format!(
                    "the host at {} does not trust the key {key}, it trusts {}: add the public key to its MEZZE_TRUST_KEYS first",
                    self.url,
                    info.trust.keys.join(", ")
                )));
            }
        }
        Ok(state)
    }

    /// Waits until it serves this epoch or a later one.
    ///
    /// # Errors
    /// [`Error::Refused`] where it does not within `span`, with what it said last.
    pub async fn wait_for(&self, epoch: u64, span: Span, clock: &dyn Clock) -> Result<HostInfo, Error> {
        let began = clock.now();
        loop {
            let last = match self.state().await {
                Ok(HostState::Serving(info)) if info.epoch >= epoch => return Ok(*info),
                Ok(HostState::Serving(info)) => format!("it serves epoch {}", info.epoch),
                Ok(HostState::Empty(said)) => said,
                Err(error @ Error::Denied { .. }) => return Err(error),
                Err(error) => error.to_string(),
            };
            if clock.now().since(began) >= span {
                return Err(Error::Refused(format!(
                    "the host at {} does not serve epoch {epoch} after {} seconds: {last}",
                    self.url,
                    span.seconds()
                )));
            }
            clock.sleep(POLL).await;
        }
    }

    /// Asks for features.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where it does not answer, [`Error::Denied`] where it does not take the token.
    pub async fn probe(&self, body: Vec<u8>) -> Result<Probed, Error> {
        let request = self.client.post(format!("{}/get-online-features", self.url));
        let request = request.header(CONTENT_TYPE, "application/json").body(body);
        let (status, headers, body) = self.call(request).await?;
        let number = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        Ok(Probed {
            status: status.as_u16(),
            epoch: number("x-mezze-epoch").and_then(|epoch| epoch.parse().ok()),
            steps_back: number("x-mezze-steps-back").and_then(|steps| steps.parse().ok()).unwrap_or(0),
            body,
        })
    }

    async fn call(&self, mut request: reqwest::RequestBuilder) -> Result<(StatusCode, reqwest::header::HeaderMap, Bytes), Error> {
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token.clone());
        }
        let response = request.send().await.map_err(|error| self.failed(describe(error)))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.bytes().await.map_err(|error| self.failed(describe(error)))?;
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(Error::Denied {
                place: format!("the host at {}", self.url),
                detail: said(&body),
                token_env: self.token_env.clone(),
            });
        }
        Ok((status, headers, body))
    }

    fn failed(&self, detail: String) -> Error {
        Error::Unavailable { operation: "ask", key: format!("the host at {}", self.url), detail }
    }
}

/// What a body that is an error says, short enough for a message.
fn said(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        detail: String,
    }
    let text = match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => refusal.detail,
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    text.trim().chars().take(SAID_CHARS).collect()
}

const CALL: Duration = Duration::from_secs(20);
const POLL: Span = Span::from_seconds(1);
const SAID_CHARS: usize = 300;
