//! The core from outside: pages and lookups.
mod gateway;
mod golden;
mod lookup;
mod page;
mod patch;
mod trust;
mod trust_gateway;
mod wire;
