//! Compiled components in a folder.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use wasmtime::Engine;
use wasmtime::component::Component;

use crate::RuntimeError;

/// A compiled component: from `folder` if it is there and whole, otherwise compiled and put there, as one of a kind.
pub(crate) fn load(engine: &Engine, bytes: &[u8], folder: &Path, kind: &str) -> Result<Component, RuntimeError> {
    let setup = |error: wasmtime::Error| RuntimeError::Setup(format!("{error:#}"));
    let digest = blake3::hash(bytes).to_hex();
    // wasmtime checks on its own that what it loads was made by the same version with the same settings.
    let path = folder.join(format!("{kind}-{}-{}.cwasm", env!("CARGO_PKG_VERSION"), digest.get(..16).unwrap_or_default()));
    if let Some(component) = read(engine, &path) {
        return Ok(component);
    }
    let component = Component::new(engine, bytes).map_err(setup)?;
    let compiled = component.serialize().map_err(setup)?;
    // A cache that cannot be written costs time at the next start, and nothing else.
    let _ = write(folder, &path, &compiled);
    Ok(component)
}

/// A compiled component behind its digest, if the file is whole.
fn read(engine: &Engine, path: &Path) -> Option<Component> {
    let file = fs::read(path).ok()?;
    let (digest, compiled) = file.split_first_chunk::<{ blake3::OUT_LEN }>()?;
    if blake3::hash(compiled) != *digest {
        return None;
    }
    #[expect(unsafe_code, reason = "wasmtime runs what it is given as native code")]
    // SAFETY: the bytes are what `Component::serialize` gave: the digest says that they are whole, and the folder is its
    // user's, as `RuntimeConfig::cache` demands.
    let component = unsafe { Component::deserialize(engine, compiled) };
    component.ok()
}

fn write(folder: &Path, path: &Path, compiled: &[u8]) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(blake3::hash(compiled).as_bytes())?;
    file.write_all(compiled)?;
    file.persist(path)?;
    Ok(())
}
