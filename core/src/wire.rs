//! Requests and responses as bytes: Feast's JSON, and MessagePack of the same structure. docs/WIRE.md is the reference.

mod body;
pub(crate) mod encoder;
mod error;
mod json_read;
mod json_write;
#[cfg(feature = "message-pack")]
mod msgpack_read;
#[cfg(feature = "message-pack")]
mod msgpack_write;
mod request_read;
mod response_write;
#[cfg(test)]
mod tests;

use alloc::borrow::ToOwned;

pub use error::{WireError, write_error_json};
#[cfg(feature = "expressions")]
pub use response_write::value_text;
#[cfg(feature = "expressions")]
pub(crate) use response_write::{UUID_TEXT_BYTES, uuid_text, zoned_text};

/// How many values one request may hold, nested ones and feature references included: it bounds the memory that a small body
/// can ask for.
pub const REQUEST_VALUES_MAX: usize = 1 << 20;

/// What requests and responses are written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MediaType {
    /// `application/json`.
    #[default]
    Json,
    /// `application/msgpack`.
    #[cfg(feature = "message-pack")]
    MessagePack,
}

impl MediaType {
    /// Its name in `Content-Type`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            #[cfg(feature = "message-pack")]
            Self::MessagePack => "application/msgpack",
        }
    }

    /// Its name in errors.
    const fn noun(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            #[cfg(feature = "message-pack")]
            Self::MessagePack => "MessagePack",
        }
    }

    /// The media type of a body by its `Content-Type`; JSON where there is none.
    ///
    /// # Errors
    /// [`WireError::UnsupportedMediaType`] where it is another one.
    pub fn from_content_type(content_type: Option<&str>) -> Result<Self, WireError> {
        let Some(content_type) = content_type else { return Ok(Self::Json) };
        let name = content_type.split(';').next().unwrap_or_default().trim();
        match Self::named(name) {
            Some(media_type) => Ok(media_type),
            None => Err(WireError::UnsupportedMediaType { found: name.to_owned() }),
        }
    }

    /// The media type of a response by the request's `Accept`: MessagePack where the client prefers it to JSON, or names it first
    /// of two that it likes equally; JSON otherwise, even where the client accepts neither, as Feast's servers do.
    pub fn negotiate(accept: Option<&str>) -> Self {
        let mut best = (Self::Json, 0);
        for range in accept.unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let Some(media_type) = parts.next().and_then(Self::named) else { continue };
            let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
            let weight = weight.map_or(WEIGHT_MAX, thousandths);
            if weight > best.1 {
                best = (media_type, weight);
            }
        }
        best.0
    }

    /// Whether an `Accept` names any of the media types; where it does not, a client that sent a body may be answered in kind.
    pub fn is_preferred(accept: Option<&str>) -> bool {
        let ranges = accept.unwrap_or_default().split(',');
        ranges.filter_map(|range| range.split(';').next()).any(|name| Self::named(name.trim()).is_some())
    }

    fn named(name: &str) -> Option<Self> {
        let is = |known: &&str| name.eq_ignore_ascii_case(known);
        #[cfg(feature = "message-pack")]
        if ["application/msgpack", "application/x-msgpack", "application/vnd.msgpack"].iter().any(is) {
            return Some(Self::MessagePack);
        }
        is(&"application/json").then_some(Self::Json)
    }
}

/// The weight of a media range in thousandths, RFC 9110's `qvalue`; nothing where it is none.
fn thousandths(weight: &str) -> u32 {
    let (whole, fraction) = weight.split_once('.').unwrap_or((weight, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return 0;
    }
    match whole {
        "1" => WEIGHT_MAX,
        "0" => [0, 1, 2].into_iter().fold(0, |sum, place| {
            sum * 10 + fraction.as_bytes().get(place).map_or(0, |byte| u32::from(byte.saturating_sub(b'0')))
        }),
        _ => 0,
    }
}

const WEIGHT_MAX: u32 = 1000;
