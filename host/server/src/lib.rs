//! Feast's HTTP contract over a snapshot.

mod http;
mod online;

pub use http::{AGE_HEADER, Answer, Answered, EPOCH_HEADER, Exchange, SNAPSHOT_HEADER, Served, Server, ServerOptions};
pub use online::{Online, now};
