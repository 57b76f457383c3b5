//! Builds the serving component from `guest/serving`: with the same cargo, for wasm32-unknown-unknown, into a target folder of
//! its own, and encodes it as a component.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use wit_component::ComponentEncoder;

const TARGET: &str = "wasm32-unknown-unknown";

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../..").canonicalize()?;
    for watched in ["core/src", "core/Cargo.toml", "guest/serving", "wit", "Cargo.toml", "Cargo.lock", ".cargo/config.toml"] {
        println!("cargo:rerun-if-changed={}", root.join(watched).display());
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let folder = out.join("guest");
    let mut cargo = Command::new(env::var("CARGO")?);
    cargo
        .current_dir(&root)
        .args(["build", "--package", "mezze-serving", "--profile", "guest", "--locked", "--target", TARGET, "--target-dir"])
        .arg(&folder);
    // What was set for the host's build is not meant for the guest's.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        let foreign = ["CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_TARGET_DIR", "RUSTC_WRAPPER"];
        if foreign.contains(&&*name)
            || name.starts_with("CARGO_PROFILE_")
            || name == "RUSTC_WORKSPACE_WRAPPER"
            || name.starts_with("CARGO_FEATURE_")
        {
            cargo.env_remove(&*name);
        }
    }
    let output = cargo.output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let hint = if said.contains("target may not be installed") || said.contains("can't find crate for `core`") {
            format!("\nthe target {TARGET} is missing; run `rustup target add {TARGET}`")
        } else {
            String::new()
        };
        return Err(format!("the serving component cannot be built:\n{said}{hint}").into());
    }
    let module = fs::read(folder.join(TARGET).join("guest/mezze_serving.wasm"))?;
    let component = ComponentEncoder::default().validate(true).module(&module)?.encode()?;
    fs::write(out.join("serving.wasm"), component)?;
    Ok(())
}
