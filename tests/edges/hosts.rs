//! The hosts: real runtimes with the bundles, and the native server.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::kv::Kv;
use crate::common::{self, Repo};

/// A runtime that serves a bundle. It is stopped when this is dropped.
pub(crate) struct Host {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    child: Child,
    /// What its bundle lies in.
    _folder: tempfile::TempDir,
}

impl Host {
    /// The most memory that the process has had at once.
    pub(crate) fn peak_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it has a peak");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("it is a number") << 10
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program that `tests/run` has installed.
pub(crate) fn tool(name: &str, path: &str) -> PathBuf {
    let folder = std::env::var_os("MEZZE_TOOLS").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").expect("there is a home")).join(".cache/mezze/tools"),
        PathBuf::from,
    );
    let program = folder.join(path);
    assert!(program.exists(), "{name} is not at {}: run `tests/run`, which installs it", program.display());
    program
}

/// A bundle in a folder of its own.
pub(crate) fn build(target: &str) -> tempfile::TempDir {
    build_with(&[target])
}

/// The same, with options.
pub(crate) fn build_with(arguments: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let built = common::mezze().args(["edge", "build"]).args(arguments).arg("--out").arg(folder.path().join("bundle")).output();
    let built = built.expect("the command can be run");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    folder
}

/// The bundle of a repository, with what it carries.
pub(crate) fn build_of(repo: &Repo, arguments: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = repo.command(&["edge", "build"]);
    if arguments.first() == Some(&"fastly") {
        command.args(arguments).arg("--viceroy").arg(tool("Viceroy", "bin/viceroy"));
    } else {
        command.args(arguments);
    }
    let built = command.arg("--out").arg(folder.path().join("bundle")).output().expect("the command can be run");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    folder
}

/// Real workerd, with the bundle for Cloudflare.
pub(crate) fn workerd(kv: &Kv, variables: &[(&str, &str)]) -> Host {
    workerd_with(build("cloudflare"), kv, variables)
}

/// The same with another bundle.
pub(crate) fn workerd_with(folder: tempfile::TempDir, kv: &Kv, variables: &[(&str, &str)]) -> Host {
    let bundle = folder.path().join("bundle");
    let name_of = |path: PathBuf| path.strip_prefix(&bundle).expect("it is in the bundle").to_string_lossy().into_owned();
    let mut names: Vec<String> = common::files(&bundle).into_iter().map(|(path, _)| name_of(path)).collect();
    // The first is the one that runs.
    names.sort_by_key(|name| name != "worker.js");
    let module = |name: &String| {
        let kind = if name.ends_with(".js") { "esModule" } else { "wasm" };
        (!name.ends_with(".toml")).then(|| format!("(name = \"{name}\", {kind} = embed \"{name}\")"))
    };
    let modules: Vec<String> = names.iter().filter_map(module).collect();
    let variables: String = variables.iter().map(|(name, value)| format!(", (name = \"{name}\", text = \"{value}\")")).collect();
    let config = format!(
        r#"using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [ (name = "main", worker = .mezze), (name = "kv", external = (address = "{kv}", http = ())) ],
  sockets = [ (name = "http", address = "127.0.0.1:0", http = (), service = "main") ],
);
const mezze :Workerd.Worker = (
  modules = [ {modules} ],
  bindings = [ (name = "MEZZE", kvNamespace = "kv"){variables} ],
  compatibilityDate = "2026-04-01",
);
"#,
        kv = kv.address,
        modules = modules.join(", "),
    );
    fs::write(bundle.join("config.capnp"), config).expect("the file can be written");
    let mut child = Command::new(tool("workerd", "node_modules/@cloudflare/workerd-linux-64/bin/workerd"))
        .args(["serve", "config.capnp", "--control-fd=1"])
        .current_dir(&bundle)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("workerd can be run");
    // It says on which port it listens.
    let mut said = String::new();
    BufReader::new(child.stdout.as_mut().expect("it is piped")).read_line(&mut said).expect("it says something");
    let said: serde_json::Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("workerd did not start: {said}"));
    let port = said["port"].as_u64().expect("it listens on a port") as u16;
    Host { name: "workerd", address: SocketAddr::from(([127, 0, 0, 1], port)), child, _folder: folder }
}

/// Real Viceroy, with the bundle for Fastly. Its store is what it starts with.
pub(crate) fn viceroy(keys: &[(String, Vec<u8>)], variables: &[(&str, &str)]) -> Host {
    viceroy_with(build("fastly"), keys, variables)
}

/// The same with another bundle.
pub(crate) fn viceroy_with(folder: tempfile::TempDir, keys: &[(String, Vec<u8>)], variables: &[(&str, &str)]) -> Host {
    let bundle = folder.path().join("bundle");
    let mut config = fs::read_to_string(bundle.join("fastly.toml")).expect("the bundle has it");
    config += "\n[local_server]\n[local_server.config_stores.mezze]\nformat = \"inline-toml\"\n[local_server.config_stores.mezze.contents]\n";
    for (name, value) in variables {
        config += &format!("{name} = \"{value}\"\n");
    }
    config += "[local_server.kv_stores]\n";
    let stored = folder.path().join("store");
    fs::create_dir(&stored).expect("the folder can be made");
    for (number, (key, value)) in keys.iter().enumerate() {
        let file = stored.join(number.to_string());
        fs::write(&file, value).expect("the file can be written");
        config += &format!("[[local_server.kv_stores.mezze]]\nkey = \"{key}\"\nfile = \"{}\"\n", file.display());
    }
    fs::write(bundle.join("fastly.toml"), config).expect("the file can be written");
    // It takes the port that it is told; this one was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("loopback has a free port");
    let mut child = Command::new(tool("Viceroy", "bin/viceroy"))
        .args(["serve", "--addr", &address.to_string(), "-C", "fastly.toml", "mezze.wasm"])
        .current_dir(&bundle)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("viceroy can be run");
    // It does not say when it listens.
    while TcpStream::connect(address).is_err() {
        let ended = child.try_wait().expect("it can be asked");
        assert!(ended.is_none(), "Viceroy did not start: {ended:?}");
        std::thread::yield_now();
    }
    Host { name: "Viceroy", address, child, _folder: folder }
}

/// The Spin test host, with the bundle for Spin over a store that a test can change.
pub(crate) fn spin(kv: &Kv, variables: &[(&str, &str)]) -> Host {
    spin_with(build("spin"), kv, variables)
}

/// The same with another bundle.
pub(crate) fn spin_with(folder: tempfile::TempDir, kv: &Kv, variables: &[(&str, &str)]) -> Host {
    let listen = ["up", "--from", "spin.toml", "--listen", "127.0.0.1:0", "--kv"];
    let mut child = Command::new(tool("the Spin test host", "bin/spin-host"))
        .args(listen)
        .arg(kv.address.to_string())
        .current_dir(folder.path().join("bundle"))
        .envs(variables.iter().map(|(name, value)| (format!("SPIN_VARIABLE_{name}"), value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the Spin test host can be run");
    let mut said = String::new();
    BufReader::new(child.stdout.as_mut().expect("it is piped")).read_line(&mut said).expect("it says something");
    let address = said.trim().strip_prefix("Serving http://").unwrap_or_else(|| panic!("it did not start: {said}"));
    Host { name: "Spin", address: address.parse().expect("it is an address"), child, _folder: folder }
}

/// `mezze serve`.
pub(crate) fn native(repo: &Repo, variables: &[(&str, &str)]) -> Host {
    let mut child = repo
        .command(&["serve", "--port", "0", "--output", "json", "--refresh", "1"])
        .envs(variables.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the command can be run");
    let mut said = String::new();
    BufReader::new(child.stdout.as_mut().expect("it is piped")).read_line(&mut said).expect("it says something");
    let said: serde_json::Value = serde_json::from_str(&said).expect("it is JSON");
    let address = said["address"].as_str().expect("it listens").parse().expect("it is an address");
    Host { name: "native", address, child, _folder: tempfile::tempdir().expect("a temporary folder") }
}
