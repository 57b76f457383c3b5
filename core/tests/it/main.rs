//! The core from outside: pages and lookups.
mod lookup;
mod page;
