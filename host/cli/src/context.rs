//! The repository that a command works on.

use std::path::{Path, PathBuf};

use mezze_core::Timestamp;
use mezze_model::{Definitions, Registry, ReplicaConfig, StoreConfig, Version};
use mezze_replica::{Origin, Store};

use crate::args::Global;
use crate::failure::{Failure, Outcome};
use crate::output::Output;

/// A repository: its folder, its configuration, and its definitions as the files have them.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) repo: PathBuf,
    pub(crate) config: StoreConfig,
    pub(crate) definitions: Definitions,
    pub(crate) output: Output,
}

impl Context {
    /// Reads the repository's files.
    pub(crate) fn load(global: &Global, output: Output) -> Outcome<Self> {
        let repo = mezze_model::load(&global.chdir, &|name| std::env::var(name).ok())?;
        Ok(Self { repo: global.chdir.clone(), config: repo.config, definitions: repo.definitions, output })
    }

    pub(crate) fn registry(&self) -> Outcome<Registry> {
        Ok(Registry::open(&self.config.registry, &self.repo)?)
    }

    /// The definitions that were applied last: what joins and snapshots go by.
    pub(crate) async fn applied(&self) -> Outcome<Version> {
        let version = self.registry()?.latest().await?.ok_or_else(|| {
            Failure::input(format!("nothing is recorded in the registry {}", self.config.registry))
                .hint("run `mezze apply` first")
        })?;
        if mezze_model::diff(Some(&version.definitions), &with_known_schemas(&self.definitions, &version.definitions))
            .is_changed()
        {
            self.output.note("note: the definitions have changed since the last `mezze apply`; the applied ones are used");
        }
        Ok(version)
    }

    pub(crate) fn origin(&self) -> Outcome<Origin> {
        Ok(Origin::new(Store::open(&self.config.online_store, &self.repo)?))
    }

    /// The origin's store, or that of a replica by its name.
    pub(crate) fn store(&self, replica: Option<&str>) -> Outcome<Store> {
        let Some(name) = replica else { return Ok(Store::open(&self.config.online_store, &self.repo)?) };
        let Some(config) = self.config.replicas.get(name) else {
            let known: Vec<&str> = self.config.replicas.keys().map(String::as_str).collect();
            let hint = if known.is_empty() {
                "feature_store.yaml names none; add one under `replicas:`".to_owned()
            } else {
                format!("feature_store.yaml names {}", known.join(", "))
            };
            return Err(Failure::input(format!("no replica is called `{name}`")).hint(hint));
        };
        open_replica(config, &self.repo)
    }

    /// The replicas that are folders or object stores, by name.
    pub(crate) fn replicas(&self) -> Outcome<Vec<(String, Store)>> {
        self.config.replicas.iter().map(|(name, config)| Ok((name.clone(), open_replica(config, &self.repo)?))).collect()
    }
}

/// Definitions with the schemas that an earlier apply took from the sources, where the files leave them out.
fn with_known_schemas(definitions: &Definitions, applied: &Definitions) -> Definitions {
    let mut known = definitions.clone();
    for view in known.feature_views.iter_mut().filter(|view| view.schema.is_empty()) {
        if let Some(applied) = applied.feature_view(&view.name) {
            view.schema.clone_from(&applied.schema);
        }
    }
    let views = known.feature_views.clone();
    for service in &mut known.feature_services {
        for projection in service.projections.iter_mut().filter(|projection| projection.features.is_empty()) {
            if let Some(view) = views.iter().find(|view| view.name == projection.view) {
                projection.features = view.schema.iter().map(|feature| feature.name.clone()).collect();
            }
        }
    }
    known
}

fn open_replica(config: &ReplicaConfig, repo: &Path) -> Outcome<Store> {
    match config {
        ReplicaConfig::Directory { path } => Ok(Store::open(path, repo)?),
        // Kinds of replicas that this build does not know do not get past the definitions.
        _ => Err(Failure::input("this kind of replica cannot be opened by this build")),
    }
}

/// Runs a command's asynchronous part.
pub(crate) fn block_on<T>(threads: Option<usize>, future: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all();
    if let Some(threads) = threads {
        builder.worker_threads(threads);
    }
    let runtime = builder.build().map_err(|error| Failure::of(crate::failure::Exit::Failed, &error))?;
    runtime.block_on(future)
}

/// The time by the system's clock.
pub(crate) fn now() -> Timestamp {
    mezze_server::now()
}

/// An instant as text: RFC 3339 in UTC.
pub(crate) fn show_instant(at: Timestamp) -> String {
    at.rfc3339(&mut [0; mezze_core::RFC3339_BYTES_MAX]).to_owned()
}

/// Who runs, for others who find something in use.
pub(crate) fn holder() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "this machine" } else { host.trim() };
    format!("process {} on {host}", std::process::id())
}
