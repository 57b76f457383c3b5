//! The serving component in wasmtime, for hosts that take plug-ins; and transforms, for hosts that compute features.
//!
//! A [`Runtime`] compiles the component once (and keeps the compiled form in a folder, if it is given one); each
//! [`ServingStore`] is an instance with its own memory, bounded in memory and, per call, in time. The ten lines of
//! `examples/embed.rs` are all that a host needs.

mod cache;
mod runtime;
mod store;
mod transforms;

pub use runtime::{Runtime, RuntimeConfig, RuntimeError};
pub use store::{Limits, Lookup, MediaType, PageName, Served, ServingStore, SnapshotInfo, Trust};
pub use transforms::{TransformSchema, Transforms, TransformsConfig, transform_id};

/// The serving component, as the build made it from `guest/serving`.
pub const SERVING: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/serving.wasm"));

/// What wit/mezze.wit declares.
#[allow(missing_docs, unreachable_pub, reason = "generated; the interface is documented in wit/mezze.wit")]
mod bindings {
    wasmtime::component::bindgen!({ world: "serving", path: "../../wit" });
}

/// What wit/transform.wit declares.
#[allow(missing_docs, unreachable_pub, reason = "generated; the interface is documented in wit/transform.wit")]
mod transform_bindings {
    wasmtime::component::bindgen!({ world: "transform", path: "../../wit" });
}
