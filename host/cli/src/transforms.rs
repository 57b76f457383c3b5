//! The components of a repository: from their files when they are applied, from the registry from then on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use mezze_core::{ExpressionColumn, NoTransforms, RunTransforms, TransformCall, TransformFault, TransformFaultKind, TransformId};
use mezze_model::{Definitions, DescribedTransform, Registry};
use mezze_runtime::{Transforms, TransformsConfig, transform_id};
use mezze_server::CarryTransforms;

use crate::context::Context;
use crate::failure::{Exit, Failure, Outcome};

/// Components that the registry keeps, each taken from there when it is first needed.
#[derive(Debug)]
pub(crate) struct Carried {
    registry: Registry,
    config: TransformsConfig,
    /// Made with the first component: most repositories have none.
    engine: OnceLock<Arc<Transforms>>,
    /// Those that the registry had when it was last looked at.
    kept: Mutex<BTreeSet<TransformId>>,
    /// Why some cannot be run.
    unusable: Mutex<BTreeMap<TransformId, String>>,
}

impl Carried {
    pub(crate) fn new(context: &Context, config: TransformsConfig) -> Outcome<Self> {
        let registry = context.registry()?;
        Ok(Self { registry, config, engine: OnceLock::new(), kept: Mutex::default(), unusable: Mutex::default() })
    }

    /// Looks which components the registry keeps.
    pub(crate) async fn look(&self) -> Outcome {
        let kept = self.registry.transforms().await?.into_iter().collect();
        *lock(&self.kept) = kept;
        Ok(())
    }

    /// Takes a component from the registry, unless it is here. Where that cannot be, calls of it say why.
    pub(crate) async fn load(&self, id: &TransformId) {
        if self.engine.get().is_some_and(|engine| engine.carries(id)) {
            return;
        }
        if let Err(reason) = self.fetch(id).await {
            lock(&self.unusable).insert(*id, reason);
        }
    }

    async fn fetch(&self, id: &TransformId) -> Result<(), String> {
        let place = self.registry.place();
        let bytes = self.registry.transform(id).await.map_err(|error| error.to_string())?.ok_or_else(|| {
            format!("the registry {place} does not keep the transform {id}; `mezze apply` where its component is puts it there")
        })?;
        let engine = match self.engine.get() {
            Some(engine) => Arc::clone(engine),
            None => {
                let made = Arc::new(engine(self.config.clone()).map_err(|failure| failure.to_string())?);
                Arc::clone(self.engine.get_or_init(|| made))
            }
        };
        // Compiling takes its time: not in a thread that has other connections.
        let added = tokio::task::spawn_blocking(move || engine.add(&bytes)).await.map_err(|error| error.to_string())?;
        added.map_err(|error| format!("the transform {id}: {error}"))?;
        Ok(())
    }
}

impl RunTransforms for Carried {
    fn run(&self, call: &TransformCall<'_>) -> Result<Vec<ExpressionColumn<'static>>, TransformFault> {
        let id = &call.transform.id;
        match self.engine.get() {
            Some(engine) if engine.carries(id) => engine.run(call),
            _ => match lock(&self.unusable).get(id) {
                Some(reason) => Err(TransformFault { kind: TransformFaultKind::NotCarried, message: reason.clone() }),
                None => NoTransforms.run(call),
            },
        }
    }

    fn carried(&self) -> Vec<TransformId> {
        let mut carried = lock(&self.kept).clone();
        carried.extend(self.engine.get().map(|engine| engine.carried()).unwrap_or_default());
        carried.into_iter().collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl CarryTransforms for Carried {
    fn make_ready<'a>(&'a self, needed: &'a [TransformId]) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            for id in needed {
                self.load(id).await;
            }
        })
    }
}

/// An engine for components.
pub(crate) fn engine(config: TransformsConfig) -> Outcome<Transforms> {
    Transforms::new(config.with_cache(cache_folder())).map_err(|error| Failure::of(Exit::Failed, &error))
}

/// Where compiled components are kept, where the system has a place for that.
fn cache_folder() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))?;
    base.is_absolute().then(|| base.join("mezze").join("transforms"))
}

/// What runs the components that features of the definitions need; `None` where they have none.
pub(crate) async fn for_jobs(context: &Context, definitions: &Definitions) -> Outcome<Option<Carried>> {
    let ids: Vec<TransformId> = ids(definitions).collect();
    if ids.is_empty() {
        return Ok(None);
    }
    let carried = Carried::new(context, TransformsConfig::for_jobs())?;
    for id in &ids {
        carried.load(id).await;
    }
    Ok(Some(carried))
}

/// The digests of the components of all views.
pub(crate) fn ids(definitions: &Definitions) -> impl Iterator<Item = TransformId> {
    definitions.on_demand_feature_views.iter().filter_map(|view| view.transform.as_ref()?.id)
}

/// Reads the component at a path, and asks it what it takes and gives.
pub(crate) fn describe(transforms: &Transforms, path: &Path) -> Result<(DescribedTransform, Vec<u8>), String> {
    let bytes = std::fs::read(path).map_err(|error| {
        let why = crate::failure::plain(&error);
        format!("{} cannot be read: {why}; `mezze transform build` makes components", path.display())
    })?;
    let id = transforms.add(&bytes).map_err(|error| error.to_string())?;
    let schema = transforms.schema(&id).map_err(|error| error.to_string())?;
    Ok((DescribedTransform { id, inputs: schema.inputs, outputs: schema.outputs }, bytes))
}

/// Puts into definitions what is known of their components: the digests of the files, and of those that were applied also what they
/// take.
pub(crate) fn with_known(definitions: &mut Definitions, applied: &Definitions, repo: &Path) {
    for view in &mut definitions.on_demand_feature_views {
        let Some(transform) = &mut view.transform else { continue };
        if let Ok(bytes) = std::fs::read(repo.join(&transform.component)) {
            transform.id = Some(transform_id(&bytes));
        }
        let known = applied.on_demand_feature_views.iter().filter_map(|view| view.transform.as_ref());
        if let Some(known) = known.into_iter().find(|known| known.id.is_some() && known.id == transform.id) {
            transform.inputs.clone_from(&known.inputs);
        }
    }
}
