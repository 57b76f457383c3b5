//! The core of Mezze.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod base64;
mod bytes;
pub use bytes::FormatError;
mod coerce;
mod head;
pub use head::{HEAD_KEY, HEAD_MAGIC, HEAD_VERSION, Head, INLINE_MANIFEST_BYTES_MAX, PREVIOUS_MAX, PreviousSnapshot};
mod manifest;
pub use manifest::{
    KEY_COLUMNS_MAX, MANIFEST_MAGIC, MANIFEST_VERSION, Manifest, ManifestRequestSource, Segment, Service, ServiceProjection,
    Table,
};
mod id;
pub use id::{PageKey, ParseIdError, SegmentId, SnapshotId};
mod key;
pub use key::{KeyHash, KeyPart, encode_key};
mod request;
pub use request::{EntityColumn, Expired, Request, Selection};
mod response;
pub use response::{Cell, Column, Response, RowState, Status};
mod schema;
pub use schema::{Audience, FeatureSchema, KeyColumn, TableSchema, ViewSchema};
mod time;
pub use time::{NANOS_PER_SECOND, RFC3339_BYTES_MAX, Span, Timestamp};
mod types;
pub use types::{KeyType, ParseTypeError, Physical, StructField, TYPE_DEPTH_MAX, ValueType};
mod value;
pub use value::{PayloadError, UUID_BYTES, Value, canonical_f32, canonical_f64, decode_payload, encode_payload, parse_uuid};
