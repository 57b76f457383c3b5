//! The core from outside: pages and lookups.
mod expressions;
mod gateway;
mod golden;
mod lookup;
mod page;
mod patch;
mod pipeline;
mod trust;
mod trust_gateway;
mod wire;
