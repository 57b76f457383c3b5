//! Feast's HTTP contract over a snapshot.

mod http;
mod keys;
mod metrics;
mod online;

pub use http::{Answer, Server, ServerOptions};
pub use keys::{StaticFile, serve_keys};
pub use online::{CarryTransforms, Online, now};
