//! The engine that instances share.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::bindings::ServingPre;
use crate::store::Host;
use crate::{SERVING, ServingStore, cache};

/// What instances may cost.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RuntimeConfig {
    /// Where the compiled component is kept between runs; nowhere, if not given. Whoever may write there may run code as this
    /// process: it has to be a folder of its user.
    pub cache: Option<PathBuf>,
    /// Another component of the world `serving` than the one that is built in, such as `mezze edge build component` writes with the
    /// transforms of a repository.
    pub component: Option<Vec<u8>>,
    /// Instances at once.
    pub instances_max: u32,
    /// Bytes of memory of one instance.
    pub memory_max: usize,
    /// How long one call may take; a little more may pass before it is stopped.
    pub deadline: Duration,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self { cache: None, component: None, instances_max: 64, memory_max: 256 << 20, deadline: Duration::from_secs(1) }
    }
}

/// The compiled component and the engine that runs it. Shared by all instances.
pub struct Runtime {
    pub(crate) engine: Engine,
    pub(crate) component: ServingPre<Host>,
    pub(crate) config: RuntimeConfig,
    ticker: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

/// The component cannot be run, or a call of it was ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// A call trapped, took too long or too much memory. The instance is gone; the process and other instances are unharmed.
    #[error("the component was stopped: {0}")]
    Stopped(String),
    /// The component or its engine cannot be set up.
    #[error("the component cannot be run: {0}")]
    Setup(String),
    /// A head cannot be used; the snapshot before answers on.
    #[error("the snapshot cannot be opened: {0}")]
    Unusable(String),
    /// The manifest is not in the head: read this key and open again.
    #[error("the head does not hold the manifest; it is under the key m/{0}")]
    ManifestNeeded(String),
    /// A page could not be had or is damaged.
    #[error("{0}")]
    Page(String),
}

impl Runtime {
    /// Compiles the component, or takes the compiled one of an earlier run, and sets up the engine.
    ///
    /// # Errors
    /// [`RuntimeError::Setup`].
    pub fn new(config: RuntimeConfig) -> Result<Arc<Self>, RuntimeError> {
        let setup = |error: wasmtime::Error| RuntimeError::Setup(format!("{error:#}"));
        let mut pool = PoolingAllocationConfig::default();
        // One with transforms is as many components more, and one that tells them apart.
        let parts = if config.component.is_some() { PARTS_MAX } else { 1 };
        pool.total_component_instances(config.instances_max)
            .total_core_instances(config.instances_max.saturating_mul(4 * parts))
            .total_memories(config.instances_max.saturating_mul(2 * parts))
            .total_tables(config.instances_max.saturating_mul(4 * parts))
            .max_core_instances_per_component(4 * parts)
            .max_memories_per_component(2 * parts)
            .max_tables_per_component(4 * parts)
            .max_memory_size(config.memory_max)
            .linear_memory_keep_resident(256 << 10);
        let mut engine = Config::new();
        engine.epoch_interruption(true).concurrency_support(false).allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let engine = Engine::new(&engine).map_err(setup)?;
        let bytes = config.component.as_deref().unwrap_or(SERVING);
        let component = match &config.cache {
            Some(folder) => cache::load(&engine, bytes, folder, "serving")?,
            None => Component::new(&engine, bytes).map_err(setup)?,
        };
        // The component imports nothing, so there is nothing to link.
        let linked = Linker::<Host>::new(&engine).instantiate_pre(&component).map_err(setup)?;
        let component = ServingPre::new(linked).map_err(setup)?;
        let stop = Arc::new(AtomicBool::new(false));
        let ticker = {
            let (engine, stop) = (engine.clone(), Arc::clone(&stop));
            let tick = tick(config.deadline);
            let run = move || {
                while !stop.load(Ordering::Relaxed) {
                    std::thread::park_timeout(tick);
                    engine.increment_epoch();
                }
            };
            std::thread::Builder::new().name("mezze-deadline".into()).spawn(run)
        };
        let ticker = ticker.map_err(|error| RuntimeError::Setup(format!("no thread can be started: {error}")))?;
        Ok(Arc::new(Self { engine, component, config, ticker: Some(ticker), stop }))
    }

    /// An instance that keeps at most `page_bytes` of pages.
    ///
    /// # Errors
    /// [`RuntimeError::Stopped`] where there are `instances_max` already.
    pub fn store(self: &Arc<Self>, page_bytes: u64) -> Result<ServingStore, RuntimeError> {
        ServingStore::new(Arc::clone(self), page_bytes)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(ticker) = self.ticker.take() {
            ticker.thread().unpark();
            let _ = ticker.join();
        }
    }
}

/// How often deadlines are looked at.
fn tick(deadline: Duration) -> Duration {
    (deadline / TICKS as u32).max(Duration::from_millis(1))
}

/// Components that one with transforms is made of.
const PARTS_MAX: u32 = 32;
/// Ticks that a call may take.
pub(crate) const TICKS: u64 = 10;
