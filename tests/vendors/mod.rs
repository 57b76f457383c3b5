//! Vendors' stores for tests of whatever writes to them.
//!
//! - [`cloudflare`] and [`fastly`] imitate the vendors' APIs on loopback, with their limits, and with faults that a test plans.
//!   They go by a virtual [`clock`], so that no test waits. What they cannot show is in the documentation of each.
//! - [`redis`] and [`s3`] start real servers, which `tests/run` installs.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod clock;
pub(crate) mod cloudflare;
pub(crate) mod fastly;
pub(crate) mod faults;
pub(crate) mod http;
pub(crate) mod redis;
pub(crate) mod s3;
pub(crate) mod store;

use std::path::PathBuf;

/// A program that `tests/run` has installed, or one of these names on the path.
fn program(installed: &str, names: &[&str]) -> Option<PathBuf> {
    let tools = std::env::var_os("MEZZE_TOOLS").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/mezze/tools"));
    let installed = tools.or_else(home).map(|folder| folder.join(installed));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).flat_map(|folder| names.iter().map(move |name| folder.join(name)));
    installed.into_iter().chain(on_path).find(|program| program.exists())
}
