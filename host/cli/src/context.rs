//! The repository that a command works on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mezze_core::Timestamp;
use mezze_model::{Definitions, Registry, ReplicaConfig, ReplicaKind, SigningConfig, StoreConfig, Version};
use mezze_replica::{CloudflareKv, FastlyKv, Host, ObjectKeys, Origin, RedisKeys, Replica, Signer, SpinKeys, Store, Target};

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
        if mezze_model::diff(Some(&version.definitions), &self.with_known(&version.definitions)).is_changed() {
            self.output.note("note: the definitions have changed since the last `mezze apply`; the applied ones are used");
        }
        Ok(version)
    }

    /// The definitions as the files have them, with the features that were found in sources when they were applied.
    pub(crate) async fn with_schemas(&self) -> Outcome<Definitions> {
        Ok(match self.registry()?.latest().await? {
            Some(version) => self.with_known(&version.definitions),
            None => self.definitions.clone(),
        })
    }

    /// The definitions as the files have them, with what an earlier apply has found out.
    fn with_known(&self, applied: &Definitions) -> Definitions {
        let mut known = with_known_schemas(&self.definitions, applied);
        crate::transforms::with_known(&mut known, applied, &self.repo);
        known
    }

    pub(crate) fn origin(&self) -> Outcome<Origin> {
        Ok(Origin::new(Store::open(&self.config.online_store, &self.repo)?))
    }

    /// The origin's store, or that of a replica by its name.
    pub(crate) fn store(&self, replica: Option<&str>) -> Outcome<Store> {
        let Some(name) = replica else { return Ok(Store::open(&self.config.online_store, &self.repo)?) };
        let config = self.replica_config(name)?;
        match &config.kind {
            ReplicaKind::Directory { path } => Ok(Store::open(path, &self.repo)?),
            kind => Err(Failure::input(format!("replica `{name}` is of type {}, which has no files of segments", kind.name()))
                .hint("only replicas of type directory can be read here; `mezze status --to` and `mezze verify --to` read the others")),
        }
    }

    /// What feature_store.yaml says of a replica.
    pub(crate) fn replica_config(&self, name: &str) -> Outcome<&ReplicaConfig> {
        self.config.replicas.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.config.replicas.keys().map(String::as_str).collect();
            let hint = if known.is_empty() {
                "feature_store.yaml names none; add one under `replicas:`".to_owned()
            } else {
                format!("feature_store.yaml names {}", known.join(", "))
            };
            Failure::input(format!("no replica is called `{name}`")).hint(hint)
        })
    }

    /// A replica by its name, ready to be written to.
    pub(crate) fn replica(&self, name: &str) -> Outcome<Replica> {
        let config = self.replica_config(name)?;
        Ok(Replica { name: name.to_owned(), target: open_target(config, &self.repo)?, audience: config.audience })
    }

    /// The host that serves a replica, where feature_store.yaml names one.
    pub(crate) fn host(&self, name: &str) -> Outcome<Option<Host>> {
        let Some(host) = &self.replica_config(name)?.host else { return Ok(None) };
        let token = host.token_env.as_deref().map(secret).transpose()?;
        Ok(Some(Host::new(&host.url, token.as_deref(), host.token_env.as_deref().unwrap_or_default())?))
    }

    /// What signs heads, where feature_store.yaml says so.
    pub(crate) fn signer(&self) -> Outcome<Option<Signer>> {
        let (text, place) = match &self.config.signing {
            None => return Ok(None),
            Some(SigningConfig::File(path)) => {
                let path = self.repo.join(path);
                let text = std::fs::read_to_string(&path).map_err(|error| Failure::io("cannot read", &path, &error))?;
                (text, path.display().to_string())
            }
            Some(SigningConfig::Env(name)) => (secret(name)?, format!("environment variable {name}")),
            Some(_) => return Err(Failure::input("this kind of signing key cannot be read by this build")),
        };
        text.parse().map(Some).map_err(|error| Failure::input(format!("{place}: {error}")))
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
            // Those of on-demand views are in the files.
            if let Some(view) = views.iter().find(|view| view.name == projection.view) {
                projection.features = view.schema.iter().map(|feature| feature.name.clone()).collect();
            }
        }
    }
    known
}

fn open_target(config: &ReplicaConfig, repo: &Path) -> Outcome<Target> {
    Ok(match &config.kind {
        ReplicaKind::Directory { path } => Target::Folder(Store::open(path, repo)?),
        ReplicaKind::Objects { path } => Target::Keys(Arc::new(ObjectKeys::new(Store::open(path, repo)?))),
        ReplicaKind::CloudflareKv { account_id, namespace_id, token_env, api } => {
            let api = api.as_deref().unwrap_or(CloudflareKv::API);
            Target::Keys(Arc::new(CloudflareKv::new(api, account_id, namespace_id, &secret(token_env)?, token_env)?))
        }
        ReplicaKind::FastlyKv { store_id, token_env, api } => {
            let api = api.as_deref().unwrap_or(FastlyKv::API);
            Target::Keys(Arc::new(FastlyKv::new(api, store_id, &secret(token_env)?, token_env)?))
        }
        ReplicaKind::Redis { url, password_env } => {
            let password = password_env.as_deref().map(secret).transpose()?;
            let password_env = password_env.as_deref().unwrap_or("password_env (not set in feature_store.yaml)");
            Target::Keys(Arc::new(RedisKeys::new(url, password.as_deref(), password_env)?))
        }
        ReplicaKind::SpinSqlite { path, store } => Target::Keys(Arc::new(SpinKeys::new(&repo.join(path), store))),
        // Kinds of replicas that this build does not know do not get past the definitions.
        _ => return Err(Failure::input("this kind of replica cannot be opened by this build")),
    })
}

/// A secret from the environment.
fn secret(name: &str) -> Outcome<String> {
    match std::env::var(name) {
        Ok(value) if !value.trim().is_empty() => Ok(value),
        _ => Err(Failure::input(format!("the environment variable {name} is not set"))
            .hint("it holds a secret; feature_store.yaml names the variable, never the secret")),
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
