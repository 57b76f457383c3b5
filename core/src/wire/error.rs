//! Errors of the wire, and the body that tells a client of any error.

use alloc::{string::String, vec::Vec};
use core::fmt;

use super::MediaType;
use super::json_write::{push_text, push_text_within_text};
use crate::PayloadError;

/// A request cannot be read, or a response cannot be written.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum WireError {
    /// The body is well-formed, but no request: a field is missing, of the wrong type, there twice or nested too deep.
    Invalid {
        /// Which field, and what was expected.
        detail: String,
    },
    /// The entity columns have different lengths.
    Ragged {
        /// The first column and its length.
        first: (String, usize),
        /// The first column of another length, and that length.
        other: (String, usize),
    },
    /// The body is not of its media type.
    Syntax {
        /// The media type.
        media_type: MediaType,
        /// What is wrong and where.
        detail: String,
    },
    /// The request holds more than [`REQUEST_VALUES_MAX`](super::REQUEST_VALUES_MAX) values.
    TooManyValues,
    /// The media type of the body is none that requests come in.
    UnsupportedMediaType {
        /// The media type.
        found: String,
    },
    /// A value of the response is damaged.
    Value {
        /// The column.
        column: String,
        /// The row, from 0.
        row: usize,
        /// What is wrong with it.
        cause: PayloadError,
    },
}

impl WireError {
    /// The HTTP status that says whose fault it is: 422 for what is no request, as Feast's servers have it; 413 for what is too
    /// much; 415 for a foreign media type; 500 for a damaged value; 400 otherwise.
    pub const fn http_status(&self) -> u16 {
        match self {
            Self::Invalid { .. } => 422,
            Self::Ragged { .. } | Self::Syntax { .. } => 400,
            Self::TooManyValues => 413,
            Self::UnsupportedMediaType { .. } => 415,
            Self::Value { .. } => 500,
        }
    }

    /// The class of Feast's SDK that says the same, for Feast's clients.
    pub const fn feast_class(&self) -> &'static str {
        "FeastError"
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid { detail } => write!(f, "request: {}", Short(detail)),
            Self::Ragged { first: (first, first_length), other: (other, other_length) } => write!(
                f,
                "entity column `{}` has {first_length} values and `{}` has {other_length}; give each column one value per entity row",
                Short(first),
                Short(other)
            ),
            Self::Syntax { media_type, detail } => write!(f, "request body is not {}: {}", media_type.noun(), Short(detail)),
            Self::TooManyValues => {
                write!(f, "request has more than {} values; split it", super::REQUEST_VALUES_MAX)
            }
            Self::UnsupportedMediaType { found } => {
                write!(f, "content type `{}` is not supported, expected application/json or application/msgpack", Short(found))
            }
            Self::Value { column, row, cause } => write!(f, "column `{column}`, row {row}: {cause}"),
        }
    }
}

impl core::error::Error for WireError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Value { cause, .. } => Some(cause),
            _ => None,
        }
    }
}

/// Text that may quote the request: both ends of it, so that no request is sent back whole.
struct Short<'t>(&'t str);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0;
        if text.len() <= QUOTED_BYTES_MAX {
            return f.write_str(text);
        }
        let head = text.floor_char_boundary(QUOTED_BYTES_MAX / 2);
        let tail = text.ceil_char_boundary(text.len() - QUOTED_BYTES_MAX / 2);
        write!(f, "{}..{}", text.get(..head).unwrap_or_default(), text.get(tail..).unwrap_or_default())
    }
}

const QUOTED_BYTES_MAX: usize = 400;

/// Appends the body of an error response, as Feast's clients read it: a JSON string that holds a JSON object with the module and
/// class of an error of Feast's SDK and the message. It is JSON whatever media type the client accepts.
pub fn write_error_json(class: &str, message: &str, out: &mut Vec<u8>) {
    out.reserve(class.len() + message.len() + 80);
    let mut object = Vec::with_capacity(message.len() + 80);
    object.extend_from_slice(br#"{"module": "feast.errors", "class": "#);
    push_text(class, &mut object);
    object.extend_from_slice(br#", "message": "#);
    push_text(message, &mut object);
    object.push(b'}');
    push_text_within_text(&object, out);
}
