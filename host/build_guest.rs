//! Part of build scripts: builds a crate of this workspace for a wasm target, with the same cargo, into a target folder of its own.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The file that cargo makes of `package`: `target/profile/name`.
pub(crate) fn build_guest(
    package: &str,
    target: &str,
    profile: &str,
    name: &str,
    arguments: &[&str],
) -> Result<PathBuf, Box<dyn Error>> {
    let folder = PathBuf::from(env::var("OUT_DIR")?).join("guest");
    let mut cargo = Command::new(env::var("CARGO")?);
    cargo
        .current_dir(root()?)
        .args(["build", "--package", package, "--profile", profile, "--locked", "--target", target, "--target-dir"])
        .arg(&folder)
        .args(arguments);
    // What was set for the host's build is not meant for the guest's.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        let foreign = [
            "CARGO_ENCODED_RUSTFLAGS",
            "RUSTFLAGS",
            "CARGO_BUILD_TARGET",
            "CARGO_TARGET_DIR",
            "RUSTC_WRAPPER",
            "RUSTC_WORKSPACE_WRAPPER",
        ];
        if foreign.contains(&&*name) || name.starts_with("CARGO_PROFILE_") || name.starts_with("CARGO_FEATURE_") {
            cargo.env_remove(&*name);
        }
    }
    let output = cargo.output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let hint = if said.contains("target may not be installed") || said.contains("can't find crate for") {
            format!("\nthe target {target} is missing; run `rustup target add {target}`")
        } else {
            String::new()
        };
        return Err(format!("{package} cannot be built:\n{said}{hint}").into());
    }
    Ok(folder.join(target).join(profile).join(name))
}

/// The repository's root.
pub(crate) fn root() -> Result<PathBuf, Box<dyn Error>> {
    Ok(Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../..").canonicalize()?)
}

/// Runs the build script again when one of these changes, given from the repository's root.
pub(crate) fn watch(paths: &[&str]) {
    for path in paths.iter().chain(&["core/src", "core/Cargo.toml", "Cargo.toml", "Cargo.lock", ".cargo/config.toml"]) {
        println!("cargo:rerun-if-changed=../../{path}");
    }
}
