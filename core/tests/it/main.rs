//! The core from outside: pages and lookups.
mod golden;
mod lookup;
mod page;
mod wire;
