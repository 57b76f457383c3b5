//! Feast's HTTP contract over a snapshot.

mod http;
mod online;

pub use http::{Answer, Server, ServerOptions};
pub use online::{Online, now};
