//! The edges for real: the bundles in workerd, Viceroy, a host with Spin's interfaces, Node and Chromium, over keys of a replica,
//! give the same bytes as the native server; and never a wrong value when the store is late, fails or lies.
//!
//! `tests/run` installs the runtimes; `MEZZE_TOOLS` names another folder that has them.
#![expect(clippy::print_stdout, reason = "it prints which requests it compared")]

#[path = "edges/chromium.rs"]
mod chromium;
mod common;
#[path = "edges/conformance.rs"]
mod conformance;
#[path = "edges/dev.rs"]
mod dev;
#[path = "edges/faults.rs"]
mod faults;
#[path = "common/guests.rs"]
mod guests;
#[path = "edges/hosts.rs"]
mod hosts;
#[path = "edges/kv.rs"]
mod kv;
#[path = "edges/node.rs"]
mod node;
#[path = "edges/transforms.rs"]
mod transforms;
#[path = "edges/trust.rs"]
mod trust;

use hosts::{Host, build, build_of, build_with, native, spin, spin_with, tool, viceroy, viceroy_with, workerd, workerd_with};
use kv::Kv;
