//! What the vendors' local runtimes read, to serve a bundle on this machine.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use crate::BundleFile;

/// workerd's configuration for the bundle of these files in its folder: listens on `listen`, and reads keys from the HTTP server
/// at `keys`.
pub fn workerd_config(files: &[BundleFile], listen: SocketAddr, keys: SocketAddr, variables: &[(String, String)]) -> String {
    let module = |file: &BundleFile| {
        let kind = if file.path.ends_with(".wasm") { "wasm" } else { "esModule" };
        format!("    (name = \"{path}\", {kind} = embed \"{path}\"),\n", path = file.path)
    };
    // The first is the one that runs.
    let modules: String = files.iter().filter(|file| file.is_code).map(module).collect();
    let variables: Vec<String> =
        variables.iter().map(|(name, value)| format!(", (name = {}, text = {})", quoted(name), quoted(value))).collect();
    format!(
        r#"using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [ (name = "main", worker = .mezze), (name = "keys", external = (address = "{keys}", http = ())) ],
  sockets = [ (name = "http", address = "{listen}", http = (), service = "main") ],
);
const mezze :Workerd.Worker = (
  modules = [
{modules}  ],
  bindings = [ (name = "MEZZE", kvNamespace = "keys"){variables} ],
  compatibilityDate = "{COMPATIBILITY_DATE}",
);
"#,
        variables = variables.concat(),
    )
}

/// The part of `fastly.toml` that Viceroy reads: its stores. Each key comes with the file that holds its value.
pub fn fastly_local_server<'a>(keys: impl IntoIterator<Item = (&'a str, &'a Path)>, variables: &[(String, String)]) -> String {
    let mut text = String::from("\n[local_server.kv_stores]\n");
    for (key, file) in keys {
        // Writing to text does not fail.
        let _ = writeln!(
            text,
            "[[local_server.kv_stores.mezze]]\nkey = {}\nfile = {}",
            quoted(key),
            quoted(&file.display().to_string())
        );
    }
    if !variables.is_empty() {
        text += "[local_server.config_stores.mezze]\nformat = \"inline-toml\"\n[local_server.config_stores.mezze.contents]\n";
        for (name, value) in variables {
            let _ = writeln!(text, "{name} = {}", quoted(value));
        }
    }
    text
}

/// Spin's runtime configuration: the store `default` is this SQLite file.
pub fn spin_runtime_config(store: &Path) -> String {
    format!("[key_value_store.default]\ntype = \"spin\"\npath = {}\n", quoted(&store.display().to_string()))
}

/// A text as TOML and Cap'n Proto have it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        if matches!(letter, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(letter);
    }
    quoted.push('"');
    quoted
}

/// What the worker was tested with.
pub(crate) const COMPATIBILITY_DATE: &str = "2026-04-01";
