//! Bounded transforms in wasmtime, as a host of their interface sees them.

#[path = "../../../../tests/common/guests.rs"]
mod guests;
mod hostile;
mod instance;
mod link;
mod modules;
