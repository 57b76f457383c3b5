//! The core of Mezze: what every host shares, from a Cloudflare Worker to a native server.
//!
//! Values and their types, entity keys, the page format, manifest and head, the lookup and its wire formats. It is sans-IO:
//! it knows no clock, no network, no file and no host, and holds no state of its own. A lookup takes two calls:
//!
//! 1. [`Snapshot::plan`] says which pages a [`Request`] needs. Nothing is fetched.
//! 2. The host fetches them in its own way, verifies each once with [`PageRef::verify`], and hands them to [`Plan::answer`].
//!
//! It needs `alloc`, not `std`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod base64;
mod bytes;
mod cache;
mod coerce;
#[cfg(feature = "expressions")]
mod expression;
mod float;
mod head;
mod http;
mod id;
mod key;
mod manifest;
mod names;
#[cfg(feature = "expressions")]
mod on_demand;
mod page;
#[cfg(feature = "expressions")]
mod pipeline;
mod plan;
mod request;
mod response;
mod schema;
mod serve;
mod snapshot;
mod sort;
mod time;
#[cfg(feature = "expressions")]
mod transform;
mod trust;
mod types;
mod value;
#[cfg_attr(
    not(feature = "message-pack"),
    allow(
        dead_code,
        unused_imports,
        unused_variables,
        reason = "readers and writers of two formats share what one of them needs"
    )
)]
mod wire;

pub use bytes::FormatError;
pub use cache::PageCache;
#[cfg(feature = "expressions")]
pub use coerce::coerce_value;
#[cfg(feature = "expressions")]
pub use expression::{
    Constant, EXPRESSION_BYTES_MAX, EXPRESSION_SET, ExpressionColumn, Function, LinkInput, PROGRAM_REGISTERS_MAX, Program,
    ProgramStep, Values,
};
pub use head::{HEAD_KEY, HEAD_MAGIC, HEAD_VERSION, Head, INLINE_MANIFEST_BYTES_MAX, PREVIOUS_MAX, PreviousSnapshot};
pub use http::{
    Ask, ConfigError, Exchange, Fetched, Gateway, HttpConfig, HttpRequest, HttpResponse, REQUEST_HEADERS, Read, ReadKey, Route,
    STEPS_BACK_MAX, Served, Step, route,
};
pub use id::{PageKey, ParseIdError, SegmentId, SnapshotId};
pub use key::{KeyHash, KeyPart, encode_key};
pub use manifest::{
    KEY_COLUMNS_MAX, MANIFEST_MAGIC, MANIFEST_VERSION, Manifest, ManifestRequestSource, Segment, Service, ServiceProjection,
    Table,
};
#[cfg(feature = "expressions")]
pub use on_demand::{ON_DEMAND_TABLE, OnDemandInput, OnDemandView};
pub use page::{
    ColumnData, ColumnInput, PAGE_BYTES_LIMIT, PAGE_BYTES_MAX_DEFAULT, PAGE_MAGIC, PAGE_VERSION, PageError, PageInput, PageRef,
    PageWriteError, PageWriter, PatchInput, ROW_BYTES_MAX, SEGMENT_FOOTER_BYTES, SEGMENT_MAGIC, SEGMENT_VERSION, SegmentIndex,
    SegmentWriter, ViewInput,
};
#[cfg(feature = "expressions")]
pub use pipeline::{Compute, Made, Pipeline, PipelineView};
pub use plan::{AnswerError, INLINE_SEGMENT, LimitKind, Limits, Plan, PlanError};
pub use request::{EntityColumn, Expired, Request, Selection};
pub use response::{Cell, Column, Response, RowState, Status};
pub use schema::{Audience, FeatureSchema, KeyColumn, TableSchema, ViewSchema};
pub use serve::Refusal;
pub use snapshot::{OpenError, Snapshot};
pub use time::{NANOS_PER_SECOND, RFC3339_BYTES_MAX, Span, Timestamp};
#[cfg(feature = "expressions")]
pub use transform::{
    NoTransforms, RunTransforms, Transform, TransformCall, TransformFault, TransformFaultKind, TransformId, TransformLimits,
    ViewFault,
};
#[cfg(feature = "trust")]
pub use trust::manifest_digest;
pub use trust::{
    DIGEST_BYTES, Digest, HeadSignature, KeyId, PATH_BYTES_MAX, PUBLIC_KEY_PREFIX, ParseKeyError, PublicKey, SECRET_KEY_PREFIX,
    SIGNATURE_MAGIC, SIGNATURE_VERSION, SignedHead, Tree, Trust, TrustError, path_bytes, signed_message,
};
pub use types::{KeyType, ParseTypeError, Physical, StructField, TYPE_DEPTH_MAX, ValueType};
pub use value::{PayloadError, UUID_BYTES, Value, canonical_f32, canonical_f64, decode_payload, encode_payload, parse_uuid};
#[cfg(feature = "expressions")]
pub use wire::value_text;
pub use wire::{MediaType, REQUEST_VALUES_MAX, WireError, write_error_json};
