//! The components of guest/examples, built once. Tests of other crates take this file by its path.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The component of the crate `mezze-example-NAME`.
pub(crate) fn component(name: &str) -> Vec<u8> {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests");
        let output = Command::new(env!("CARGO"))
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
            .args(["build", "--locked", "--profile", "guest", "--target", "wasm32-unknown-unknown"])
            .args(["-p", "mezze-example-burden", "-p", "mezze-example-hostile", "--target-dir"])
            .arg(&target)
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .output()
            .expect("cargo can be run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        target.join("wasm32-unknown-unknown/guest")
    });
    let module = std::fs::read(folder.join(format!("mezze_example_{name}.wasm"))).expect("cargo built it");
    let encoder = wit_component::ComponentEncoder::default().validate(true).module(&module).expect("it is a module");
    let mut encoder = encoder;
    encoder.encode().expect("it is a transform")
}
