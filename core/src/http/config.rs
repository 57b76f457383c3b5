//! How a host serves, from the variables that its platform gives it.

use alloc::{borrow::ToOwned, string::String, vec::Vec};
use core::fmt;

use super::text::same;
use crate::{Limits, ParseKeyError, PublicKey, Span, Trust};

/// How requests are answered. Every host takes it from variables of the same names ([`HttpConfig::with_variable`]).
#[derive(Clone)]
#[non_exhaustive]
pub struct HttpConfig {
    /// The bearer token that requests for features must bring; open to all where there is none.
    pub token: Option<String>,
    /// The origins whose pages may read responses; `*` is any.
    pub cors_origins: Vec<String>,
    /// The longest that a cache may keep a `GET` response, in seconds.
    pub cache_seconds: u32,
    /// How often the head is read again, in seconds.
    pub head_seconds: u32,
    /// Bytes of verified pages to keep.
    pub page_cache_bytes: usize,
    /// Keys that one request may read, heads, manifests and second tries included.
    pub reads_max: usize,
    /// How long a host waits for one key, in milliseconds, where its platform lets it choose.
    pub read_millis: u32,
    /// What one request may cost.
    pub limits: Limits,
    /// Of how many responses about one is logged; none where 0.
    pub log_one_in: u32,
    /// Which heads are served from; all that are whole where there are no keys.
    pub trust: Trust,
}

/// A variable has a value that it cannot have.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigError {
    /// The variable.
    pub variable: String,
    /// What was expected.
    pub expected: &'static str,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The value may be a secret: it is not shown.
        write!(f, "variable {} is not usable: expected {}", self.variable, self.expected)
    }
}

impl core::error::Error for ConfigError {}

impl fmt::Debug for HttpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpConfig")
            .field("token", &self.token.as_ref().map(|_| "..."))
            .field("cors_origins", &self.cors_origins)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl HttpConfig {
    /// The variables there are, with what they do.
    pub const VARIABLES: [(&'static str, &'static str); 13] = [
        ("MEZZE_TOKEN", "the bearer token that requests must bring; open without it"),
        ("MEZZE_CORS_ORIGINS", "origins whose pages may read responses, separated by commas, or *"),
        ("MEZZE_CACHE_SECONDS", "the longest that a cache may keep a GET response"),
        ("MEZZE_HEAD_SECONDS", "how often the head is read again"),
        ("MEZZE_PAGE_CACHE_BYTES", "bytes of verified pages to keep in memory"),
        ("MEZZE_READ_MILLIS", "how long to wait for one key of the store"),
        ("MEZZE_BODY_BYTES_MAX", "bytes of a request's body"),
        ("MEZZE_ENTITIES_MAX", "entity rows of a request"),
        ("MEZZE_PAGES_MAX", "pages that a request may need"),
        ("MEZZE_LOG_ONE_IN", "of how many responses one is logged; 0 logs none"),
        ("MEZZE_TRUST_KEYS", "public keys, separated by commas: only snapshots that one of them signed are served"),
        ("MEZZE_HEAD_AGE_MAX_SECONDS", "the longest since the head was signed; any time without it"),
        ("MEZZE_EPOCH_MIN", "the lowest epoch that is served"),
    ];

    /// An open host with this bound on a request's reads, and bounds that fit 128 MB of memory: bodies of 1 MiB, 1,000 entities,
    /// 100,000 values, 32 MiB of pages.
    pub const fn edge(reads_max: usize) -> Self {
        // A head, its manifest, and once more either of them.
        let pages_max = reads_max.saturating_sub(4);
        let limits = Limits::server()
            .with_request_bytes_max(1 << 20)
            .with_entities_max(1_000)
            .with_values_max(100_000)
            .with_pages_max(pages_max);
        Self {
            token: None,
            cors_origins: Vec::new(),
            cache_seconds: 60,
            head_seconds: 30,
            page_cache_bytes: 32 << 20,
            reads_max,
            read_millis: 2_000,
            limits,
            log_one_in: 0,
            trust: Trust::none(),
        }
    }

    /// An open host with its own memory, which reads in its own way: the limits of [`Limits::server`].
    pub const fn server() -> Self {
        let mut config = Self::edge(usize::MAX);
        config.limits = Limits::server();
        config
    }

    /// This configuration with a variable of [`HttpConfig::VARIABLES`] set; other variables change nothing.
    ///
    /// # Errors
    /// [`ConfigError`] where it cannot have this value.
    pub fn with_variable(mut self, variable: &str, value: &str) -> Result<Self, ConfigError> {
        let wrong = |expected| ConfigError { variable: variable.to_owned(), expected };
        let number = |max: u32| {
            let parsed = value.trim().parse::<u32>().ok().filter(|number| *number <= max);
            parsed.ok_or_else(|| wrong("a whole number within its bounds"))
        };
        match variable {
            "MEZZE_TOKEN" => {
                let usable = value.len() >= TOKEN_BYTES_MIN && value.bytes().all(|byte| byte.is_ascii_graphic());
                self.token = Some(usable.then(|| value.to_owned()).ok_or_else(|| wrong("16 or more visible ASCII characters"))?);
            }
            "MEZZE_CORS_ORIGINS" => {
                let origins = value.split(',').map(str::trim).filter(|origin| !origin.is_empty());
                self.cors_origins = origins.map(ToOwned::to_owned).collect();
                let known = |origin: &String| origin == "*" || origin.contains("://") && !origin.ends_with('/');
                if !self.cors_origins.iter().all(known) {
                    return Err(wrong("origins such as https://example.com, separated by commas, or *"));
                }
            }
            "MEZZE_CACHE_SECONDS" => self.cache_seconds = number(31_536_000)?,
            "MEZZE_HEAD_SECONDS" => self.head_seconds = number(86_400)?,
            "MEZZE_PAGE_CACHE_BYTES" => self.page_cache_bytes = number(u32::MAX)? as usize,
            "MEZZE_READ_MILLIS" => self.read_millis = number(60_000)?.max(1),
            "MEZZE_BODY_BYTES_MAX" => self.limits.request_bytes_max = number(64 << 20)? as usize,
            "MEZZE_ENTITIES_MAX" => self.limits.entities_max = number(1_000_000)? as usize,
            "MEZZE_PAGES_MAX" => self.limits.pages_max = number(1_000_000)? as usize,
            "MEZZE_TRUST_KEYS" => {
                let texts = value.split(',').map(str::trim).filter(|text| !text.is_empty());
                let keys: Vec<PublicKey> =
                    texts.map(str::parse).collect::<Result<_, ParseKeyError>>().map_err(|error| wrong(error.expected()))?;
                // A host that was to trust someone must not come to trust everyone.
                if keys.is_empty() {
                    return Err(wrong(ParseKeyError::Form.expected()));
                }
                self.trust.set_keys(keys);
            }
            "MEZZE_HEAD_AGE_MAX_SECONDS" => {
                self.trust.head_age_max = Some(Span::from_seconds(number(u32::MAX)?.max(1).into()));
            }
            "MEZZE_EPOCH_MIN" => self.trust.epoch_min = value.trim().parse().map_err(|_| wrong("a whole number"))?,
            "MEZZE_LOG_ONE_IN" => self.log_one_in = number(u32::MAX)?,
            _ => {}
        }
        Ok(self)
    }

    /// This configuration with all its variables that `value_of` knows.
    ///
    /// # Errors
    /// [`ConfigError`] for the first that cannot have its value.
    pub fn with_variables(self, mut value_of: impl FnMut(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let config = Self::VARIABLES.iter().try_fold(self, |config, (variable, _)| match value_of(variable) {
            Some(value) => config.with_variable(variable, &value),
            None => Ok(config),
        })?;
        // Whoever sets a bound wants it kept, and a head that nobody signed can say anything.
        let trust = &config.trust;
        let unheeded = match () {
            () if trust.is_required() => return Ok(config),
            () if trust.head_age_max.is_some() => "MEZZE_HEAD_AGE_MAX_SECONDS",
            () if trust.epoch_min > 0 => "MEZZE_EPOCH_MIN",
            () => return Ok(config),
        };
        Err(ConfigError { variable: unheeded.to_owned(), expected: "MEZZE_TRUST_KEYS beside it" })
    }

    /// Whether a request with this `Authorization` may have features. The token is compared in a time that does not depend on
    /// where it differs.
    pub(super) fn admits(&self, authorization: Option<&str>) -> bool {
        let Some(token) = &self.token else { return true };
        let Some((scheme, given)) = authorization.unwrap_or_default().split_once(' ') else { return false };
        scheme.eq_ignore_ascii_case("bearer") && same(given.trim().as_bytes(), token.as_bytes())
    }

    /// What `Access-Control-Allow-Origin` says to a page of this origin.
    pub(super) fn allowed_origin(&self, origin: Option<&str>) -> Option<String> {
        if self.cors_origins.iter().any(|known| known == "*") {
            return Some("*".into());
        }
        let origin = origin?;
        self.cors_origins.iter().find(|known| *known == origin).cloned()
    }

    /// Whether a response depends on the origin of the page that asks.
    pub(super) fn varies_by_origin(&self) -> bool {
        !self.cors_origins.is_empty() && !self.cors_origins.iter().any(|known| known == "*")
    }
}

/// A shorter token can be guessed.
const TOKEN_BYTES_MIN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn variables_set_what_they_say_and_refuse_the_rest() {
        let config = HttpConfig::edge(32);
        assert_eq!(config.limits.pages_max, 28);
        let config = config.with_variable("MEZZE_HEAD_SECONDS", " 5 ").expect("it is a number");
        assert_eq!(config.head_seconds, 5);
        for (variable, value) in [
            ("MEZZE_HEAD_SECONDS", "-1"),
            ("MEZZE_HEAD_SECONDS", ""),
            ("MEZZE_HEAD_SECONDS", "90000"),
            ("MEZZE_TOKEN", "short"),
            ("MEZZE_TOKEN", "has a space in its middle"),
            ("MEZZE_CORS_ORIGINS", "nowhere.test"),
        ] {
            let error = config.clone().with_variable(variable, value).expect_err(value);
            assert_eq!(error.variable, variable);
            assert!(!error.to_string().contains(value) || value.is_empty(), "a value is not shown");
        }
    }

    #[test]
    fn only_the_whole_token_is_admitted() {
        let token = "0123456789abcdef";
        let config = HttpConfig::edge(32).with_variable("MEZZE_TOKEN", token).expect("it is long");
        assert!(config.admits(Some("Bearer 0123456789abcdef")));
        assert!(config.admits(Some("bearer  0123456789abcdef ")));
        for wrong in
            ["", "Bearer", "Bearer ", "Bearer 0123456789abcde", "Bearer 0123456789abcdeff", "Basic 0123456789abcdef", token]
        {
            assert!(!config.admits(Some(wrong)), "{wrong}");
        }
        assert!(!config.admits(None));
        assert!(HttpConfig::edge(32).admits(None));
    }
}
