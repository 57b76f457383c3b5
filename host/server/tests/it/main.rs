//! The HTTP contract, tested over raw sockets on the loopback interface.

mod client;
mod online;
mod transport;
mod trust;
