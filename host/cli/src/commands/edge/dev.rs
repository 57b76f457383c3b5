//! `mezze edge dev`

use std::env;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mezze_core::HttpConfig;
use mezze_edge::{Bounded, BundleFile, Settings, Target, fastly_local_server, spin_runtime_config, workerd_config};
use mezze_replica::ReplicaKeys;
use mezze_server::{StaticFile, serve_keys};
use serde_json::json;
use tokio::process::{Child, Command};

use super::export;
use crate::args::{EdgeDevArgs, Global};
use crate::context::{Context, block_on};
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Format, Output};

pub(in crate::commands) fn run(args: &EdgeDevArgs, global: &Global, output: Output) -> Outcome {
    let context = Context::load(global, output)?;
    let target = Target::ALL.into_iter().find(|target| target.name() == args.target);
    let target = target.ok_or_else(|| Failure::input(format!("no target is called `{}`", args.target)))?;
    let variables = variables()?;
    let program = if target == Target::Browser { None } else { Some(runtime(target, args.runtime.as_deref())?) };
    block_on(Some(1), async {
        let keys = Arc::new(ReplicaKeys::open(context.store(args.from.as_deref())?, export::audience(&args.target)).await?);
        let listen = free_address(args.port)?;
        let folder = tempfile::tempdir().map_err(|error| Failure::of(Exit::Failed, &error))?;
        let transforms = super::carried::of_context(&context, target, &[], false).await?;
        let transforms = transforms.into_iter().map(|carried| carried.bounded).collect();
        let mut local = Local { target, program, folder, keys, listen, variables, transforms, child: None };
        local.begin().await?;
        local.say(output)?;
        let result = local.follow(args.refresh, output).await;
        local.stop().await;
        result
    })
}

/// A bundle that is being served.
struct Local {
    target: Target,
    program: Option<PathBuf>,
    folder: tempfile::TempDir,
    keys: Arc<ReplicaKeys>,
    listen: SocketAddr,
    variables: Vec<(String, String)>,
    /// Those that the repository had when it began.
    transforms: Vec<Bounded>,
    child: Option<Child>,
}

impl Local {
    fn files(&self) -> Outcome<Vec<BundleFile>> {
        let settings = Settings::default().with_expressions().with_transforms(self.transforms.clone());
        // The runtime is Viceroy, which makes the component too.
        let viceroy = self.program.clone().filter(|_| self.target == Target::Fastly);
        let settings = viceroy.into_iter().fold(settings, Settings::with_viceroy);
        super::bundles::files(self.target, &settings)
    }

    async fn begin(&mut self) -> Outcome {
        // Of the bundles for browsers, one that can serve any snapshot.
        let files = self.files()?;
        if self.target == Target::Browser {
            let files = files.into_iter().map(static_file).collect();
            let listener = listener(self.listen).await?;
            tokio::spawn(serve_keys(listener, Arc::clone(&self.keys), "snapshot/", files));
            return Ok(());
        }
        for file in &files {
            let path = self.folder.path().join(&*file.path);
            let failed = |error: std::io::Error| Failure::io("cannot write", &path, &error);
            fs::create_dir_all(path.parent().unwrap_or_else(|| self.folder.path())).map_err(failed)?;
            fs::write(&path, &file.bytes).map_err(failed)?;
        }
        match self.target {
            Target::Cloudflare => {
                let listener = listener(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
                let keys_at = listener.local_addr().map_err(|error| Failure::of(Exit::Failed, &error))?;
                tokio::spawn(serve_keys(listener, Arc::clone(&self.keys), "", Vec::new()));
                self.write("config.capnp", &workerd_config(&files, self.listen, keys_at, &self.variables))?;
            }
            Target::Fastly => self.write_fastly().await?,
            _ => {
                self.write("runtime-config.toml", &spin_runtime_config(&self.spin_store()))?;
                export::write_spin(&self.keys, &self.spin_store()).await?;
            }
        }
        self.start().await
    }

    fn write(&self, name: &str, text: &str) -> Outcome {
        let path = self.folder.path().join(name);
        fs::write(&path, text).map_err(|error| Failure::io("cannot write", &path, &error))
    }

    fn spin_store(&self) -> PathBuf {
        self.folder.path().join("sqlite_key_value.db")
    }

    /// Viceroy's store is what it starts with: values are files, named by their number.
    async fn write_fastly(&self) -> Outcome {
        let folder = self.folder.path().join("keys");
        let failed = |error: std::io::Error| Failure::io("cannot write", &folder, &error);
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(failed)?;
        }
        fs::create_dir(&folder).map_err(failed)?;
        let keys = self.keys.keys().await?;
        let mut files = Vec::with_capacity(keys.len());
        for (number, key) in keys.iter().enumerate() {
            let file = folder.join(number.to_string());
            fs::write(&file, export::value(&self.keys, key).await?).map_err(failed)?;
            files.push(file);
        }
        let named = keys.iter().map(String::as_str).zip(files.iter().map(PathBuf::as_path));
        let bundle = Target::Fastly.files(&Settings::default()).map_err(|error| Failure::of(Exit::Failed, &error))?;
        let manifest = bundle.iter().find(|file| file.path == "fastly.toml").map(|file| String::from_utf8_lossy(&file.bytes));
        let manifest = manifest.unwrap_or_default().into_owned();
        self.write("fastly.toml", &(manifest + &fastly_local_server(named, &self.variables)))
    }

    /// Starts the runtime and waits until it takes connections.
    async fn start(&mut self) -> Outcome {
        let Some(program) = &self.program else { return Ok(()) };
        let listen = self.listen.to_string();
        let mut command = Command::new(program);
        command.current_dir(self.folder.path()).stdin(Stdio::null()).stdout(Stdio::from(std::io::stderr())).kill_on_drop(true);
        match self.target {
            Target::Cloudflare => command.args(["serve", "config.capnp"]),
            Target::Fastly => command.args(["serve", "--addr", &listen, "-C", "fastly.toml", "mezze.wasm"]),
            _ => {
                command.args(["up", "--from", "spin.toml", "--listen", &listen, "--runtime-config-file", "runtime-config.toml"]);
                command.envs(self.variables.iter().map(|(name, value)| (format!("SPIN_VARIABLE_{name}"), value)))
            }
        };
        let mut child = command.spawn().map_err(|error| Failure::io("cannot run", program, &error))?;
        while tokio::net::TcpStream::connect(self.listen).await.is_err() {
            if let Some(status) = child.try_wait().map_err(|error| Failure::of(Exit::Failed, &error))? {
                return Err(Failure::new(Exit::Failed, format!("{} ended at once: {status}", program.display()))
                    .hint("what it said is above; check that it is the runtime that --help names"));
            }
            tokio::time::sleep(STARTING).await;
        }
        self.child = Some(child);
        Ok(())
    }

    fn say(&self, output: Output) -> Outcome {
        let (epoch, at) = (self.keys.epoch(), self.listen);
        let through = self.program.as_ref().map_or_else(|| "static hosting".to_owned(), |program| program.display().to_string());
        match output.format {
            Format::Json => {
                let line = json!({ "address": at.to_string(), "epoch": epoch, "target": self.target.name(), "runtime": through });
                output.line(&line.to_string())
            }
            Format::Text => {
                let page = if self.target == Target::Browser { "/demo.html" } else { "" };
                output.line(&format!("serving epoch {epoch} through {through} on http://{at}{page}  (Ctrl-C stops)"))
            }
        }
    }

    /// Follows the origin until Ctrl-C, or until the runtime ends by itself.
    async fn follow(&mut self, refresh: u64, output: Output) -> Outcome {
        let stopped = crate::commands::serve::stop_signal();
        tokio::pin!(stopped);
        loop {
            let ended = async {
                match &mut self.child {
                    Some(child) => child.wait().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = &mut stopped => return Ok(()),
                status = ended => {
                    let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                    return Err(Failure::new(Exit::Failed, format!("the runtime ended: {status}")));
                }
                () = tokio::time::sleep(Duration::from_secs(refresh)) => {}
            }
            match self.keys.refresh().await {
                Ok(false) => continue,
                Ok(true) => {}
                Err(error) => {
                    output.note(&format!("warning: cannot read a newer snapshot: {error}"));
                    continue;
                }
            }
            match self.target {
                // They read the keys from here.
                Target::Browser | Target::Cloudflare | Target::Component => {}
                Target::Fastly => {
                    self.stop().await;
                    self.write_fastly().await?;
                    self.start().await?;
                }
                Target::Spin => {
                    export::write_spin(&self.keys, &self.spin_store()).await?;
                }
            }
            output.note(&format!("epoch {} is there", self.keys.epoch()));
        }
    }

    async fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill().await;
        }
    }
}

/// The variables of this process that say how a bundle serves; each is checked here, before a runtime says so in its own way.
fn variables() -> Outcome<Vec<(String, String)>> {
    let mut variables = Vec::new();
    for (name, _) in HttpConfig::VARIABLES {
        if let Ok(value) = env::var(name) {
            let checked = HttpConfig::edge(usize::MAX).with_variable(name, &value);
            checked.map_err(|error| Failure::of(Exit::Input, &error))?;
            variables.push((name.to_owned(), value));
        }
    }
    Ok(variables)
}

/// The runtime's program.
fn runtime(target: Target, given: Option<&Path>) -> Outcome<PathBuf> {
    let (name, install) = match target {
        Target::Cloudflare => ("workerd", "`npm install workerd`, then --runtime node_modules/.bin/workerd"),
        Target::Fastly => ("viceroy", "`cargo install viceroy --version 0.22.0 --locked`"),
        _ => ("spin", "Spin 4.1 or later, see docs/edges/SPIN.md"),
    };
    if let Some(given) = given {
        return fs::canonicalize(given).map_err(|error| Failure::io("cannot run", given, &error));
    }
    let folders = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&folders).map(|folder| folder.join(name)).find(|file| file.is_file());
    found.ok_or_else(|| {
        Failure::new(Exit::Failed, format!("{name}, the runtime of {}, is not on the path", target.name()))
            .hint(format!("install it: {install}; or name its program with --runtime"))
    })
}

/// The address to serve at: with port 0 one that is free now.
fn free_address(port: u16) -> Outcome<SocketAddr> {
    let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let free = TcpListener::bind(wanted).and_then(|listener| listener.local_addr());
    free.map_err(|error| cannot_listen(wanted, &error))
}

async fn listener(at: SocketAddr) -> Outcome<tokio::net::TcpListener> {
    tokio::net::TcpListener::bind(at).await.map_err(|error| cannot_listen(at, &error))
}

fn cannot_listen(at: SocketAddr, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot listen on {at}: {}", crate::failure::plain(error)))
        .hint("another server may run there; choose a port with --port, 0 for any that is free")
}

fn static_file(file: BundleFile) -> StaticFile {
    let media_type = match Path::new(&*file.path).extension().and_then(|ending| ending.to_str()) {
        Some("js") => "text/javascript",
        Some("wasm") => "application/wasm",
        Some("html") => "text/html; charset=utf-8",
        Some("json") => "application/json",
        _ => "text/plain; charset=utf-8",
    };
    StaticFile { path: file.path.into_owned(), media_type, bytes: Bytes::from(file.bytes) }
}

/// How long between two looks whether a runtime that starts takes connections.
const STARTING: Duration = Duration::from_millis(50);
