//! Transforms in wasmtime: each call in an instance of its own, bounded in instructions, memory, output and time.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use mezze_core::{
    ExpressionColumn, FeatureSchema, RunTransforms, TransformCall, TransformFault, TransformFaultKind, TransformId,
    TransformLimits, Values,
};
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, ResourceLimiter, Store, Trap};

use crate::RuntimeError;
use crate::cache;
use crate::transform_bindings::exports::mezze::features::computation as wit;
use crate::transform_bindings::{Transform as Instance, TransformPre};

/// How transforms are run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TransformsConfig {
    /// Where compiled components are kept between runs; nowhere, if not given. Whoever may write there may run code as this
    /// process: it has to be a folder of its user.
    pub cache: Option<PathBuf>,
    /// Calls at once; more wait.
    pub calls_max: u32,
    /// The shortest wall-clock time that a call has, whatever its definition says. A job that must not fail because its machine is
    /// busy gives calls a long one: their instructions are bounded all the same.
    pub millis_min: u32,
}

impl Default for TransformsConfig {
    fn default() -> Self {
        Self { cache: None, calls_max: 64, millis_min: 0 }
    }
}

impl TransformsConfig {
    /// For jobs: a call of many rows may take a minute.
    pub fn for_jobs() -> Self {
        Self { millis_min: 60_000, ..Self::default() }
    }

    /// The same with compiled components in a folder.
    #[must_use]
    pub fn with_cache(self, cache: Option<PathBuf>) -> Self {
        Self { cache, ..self }
    }
}

/// The components that a host carries, by digest, and the engine that runs them.
pub struct Transforms {
    engine: Engine,
    config: TransformsConfig,
    components: Mutex<BTreeMap<TransformId, Arc<TransformPre<Bounds>>>>,
    /// Calls that may still begin, and who waits for one to end.
    free: Mutex<u32>,
    freed: Condvar,
    ticker: Ticker,
}

/// What a component takes and gives.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TransformSchema {
    /// The columns that it takes, in order.
    pub inputs: Vec<FeatureSchema>,
    /// The features that it computes, in order.
    pub outputs: Vec<FeatureSchema>,
}

impl std::fmt::Debug for Transforms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transforms").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Transforms {
    /// Sets up the engine; no component is there yet.
    ///
    /// # Errors
    /// [`RuntimeError::Setup`].
    pub fn new(config: TransformsConfig) -> Result<Self, RuntimeError> {
        let mut pool = PoolingAllocationConfig::default();
        pool.total_component_instances(config.calls_max)
            .total_core_instances(config.calls_max.saturating_mul(CORE_INSTANCES_MAX as u32))
            .max_core_instances_per_component(CORE_INSTANCES_MAX as u32)
            .total_memories(config.calls_max.saturating_mul(MEMORIES_MAX as u32))
            .max_memories_per_component(MEMORIES_MAX as u32)
            .total_tables(config.calls_max.saturating_mul(TABLES_MAX as u32))
            .max_tables_per_component(TABLES_MAX as u32)
            .table_elements(TABLE_ELEMENTS_MAX)
            // What a call has written is cleared where it lies: giving it back to the system costs more. Linux since 6.7 says which
            // pages that is.
            .pagemap_scan(Enabled::Auto)
            .linear_memory_keep_resident(2 << 20);
        let mut engine = Config::new();
        engine
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
            .concurrency_support(false)
            .consume_fuel(true)
            .epoch_interruption(true)
            // The same bits as on every other host.
            .cranelift_nan_canonicalization(true)
            .wasm_relaxed_simd(false)
            .wasm_memory64(false);
        let engine = Engine::new(&engine).map_err(setup)?;
        let ticker = Ticker::start(engine.clone())?;
        let free = Mutex::new(config.calls_max.max(1));
        Ok(Self { engine, config, components: Mutex::default(), free, freed: Condvar::new(), ticker })
    }

    /// Takes a component in, and says what it is called.
    ///
    /// # Errors
    /// [`RuntimeError::Setup`] where it is no component, imports something, or is not of the world `transform`.
    pub fn add(&self, bytes: &[u8]) -> Result<TransformId, RuntimeError> {
        let id = transform_id(bytes);
        if self.carries(&id) {
            return Ok(id);
        }
        if !bytes.starts_with(COMPONENT) {
            let found = if bytes.starts_with(b"\0asm") { "a module of WebAssembly" } else { "no WebAssembly at all" };
            return Err(RuntimeError::Setup(format!(
                "it is no component, but {found}; `mezze transform build` makes components"
            )));
        }
        let component = match &self.config.cache {
            Some(folder) => cache::load(&self.engine, bytes, folder, "transform")?,
            None => Component::new(&self.engine, bytes).map_err(setup)?,
        };
        let imports: Vec<String> =
            component.component_type().imports(&self.engine).map(|(name, _)| format!("`{name}`")).collect();
        if !imports.is_empty() {
            return Err(RuntimeError::Setup(format!(
                "it imports {}; a transform imports nothing: it has no clock, no files and no network",
                imports.join(", ")
            )));
        }
        let linked = Linker::<Bounds>::new(&self.engine).instantiate_pre(&component).map_err(setup)?;
        let linked = TransformPre::new(linked)
            .map_err(|error| RuntimeError::Setup(format!("it is not of the world mezze:features/transform: {error:#}")))?;
        lock(&self.components).insert(id, Arc::new(linked));
        Ok(id)
    }

    /// Whether the component of this digest is there.
    pub fn carries(&self, id: &TransformId) -> bool {
        lock(&self.components).contains_key(id)
    }

    /// What a component takes and gives.
    ///
    /// # Errors
    /// [`RuntimeError::Setup`] where it is not there, does not say it within the limits that a transform has by default, or says
    /// something that is no schema.
    pub fn schema(&self, id: &TransformId) -> Result<TransformSchema, RuntimeError> {
        let refused = |reason: String| RuntimeError::Setup(format!("its schema cannot be read: {reason}"));
        let limits = TransformLimits::DEFAULT;
        let schema = self
            .call(id, &limits, SCHEMA_ROWS, |instance, store| instance.mezze_features_computation().call_describe(store))
            .map_err(|fault| refused(fault.message))?;
        let fields = |fields: Vec<wit::Field>, kind: &str| {
            let mut read: Vec<FeatureSchema> = Vec::with_capacity(fields.len());
            for field in fields {
                let value_type = field.dtype.parse().map_err(|error| refused(format!("{kind} {}: {error}", field.name)))?;
                if field.name.is_empty() || read.iter().any(|known| known.name == field.name) {
                    return Err(refused(format!("two {kind}s are called `{}`, or one has no name", field.name)));
                }
                read.push(FeatureSchema::new(field.name, value_type));
            }
            Ok(read)
        };
        let schema = TransformSchema { inputs: fields(schema.inputs, "input")?, outputs: fields(schema.outputs, "output")? };
        if schema.outputs.is_empty() {
            return Err(refused("it computes nothing: it has no outputs".into()));
        }
        Ok(schema)
    }

    /// Runs a call in an instance of its own.
    fn call<T>(
        &self,
        id: &TransformId,
        limits: &TransformLimits,
        rows: usize,
        call: impl FnOnce(&Instance, &mut Store<Bounds>) -> wasmtime::Result<T>,
    ) -> Result<T, TransformFault> {
        let Some(component) = lock(&self.components).get(id).cloned() else {
            return Err(fault(TransformFaultKind::NotCarried, format!("this host does not carry the transform {id}")));
        };
        let _permit = self.permit();
        let fuel = limits.fuel_of(rows);
        let millis = limits.millis.max(self.config.millis_min);
        let output_bytes = limits.output_bytes_of(rows);
        let memory_bytes = limits.memory_bytes as usize;
        let mut store = Store::new(&self.engine, Bounds { memory_bytes, used: 0, memory_refused: None });
        store.limiter(|bounds| bounds);
        // Lists that lie over each other in its memory could be more than all of it.
        store.set_hostcall_fuel(usize::try_from(output_bytes.saturating_add(RESULT_BYTES)).unwrap_or(usize::MAX));
        let _ticking = self.ticker.tick();
        store.set_epoch_deadline(u64::from(millis).div_ceil(TICK_MILLIS) + 1);
        let done = store
            .set_fuel(fuel)
            .and_then(|()| component.instantiate(&mut store))
            .and_then(|instance| call(&instance, &mut store));
        done.map_err(|error| {
            if let Some(wanted) = store.data().memory_refused {
                let message = format!("it wanted {wanted} bytes of memory, it may have {memory_bytes}");
                return fault(TransformFaultKind::Memory, message);
            }
            match error.downcast_ref::<Trap>() {
                Some(Trap::OutOfFuel) => TransformFault::fuel(limits, rows),
                Some(Trap::Interrupt) => fault(TransformFaultKind::Time, format!("it took longer than {millis} ms")),
                Some(trap) => fault(TransformFaultKind::Trap, format!("it trapped: {trap}")),
                None => {
                    let text = format!("{error:#}");
                    if text.contains("fuel allocated for hostcalls") {
                        return TransformFault::output_size(limits, rows);
                    }
                    fault(TransformFaultKind::Trap, format!("it was stopped: {text}"))
                }
            }
        })
    }

    /// Waits until there is room for one call more.
    fn permit(&self) -> Permit<'_> {
        let mut free = lock(&self.free);
        while *free == 0 {
            free = self.freed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= 1;
        Permit(self)
    }
}

/// The digest that names a component.
pub fn transform_id(bytes: &[u8]) -> TransformId {
    TransformId::from_bytes(*blake3::hash(bytes).as_bytes())
}

impl RunTransforms for Transforms {
    fn run(&self, call: &TransformCall<'_>) -> Result<Vec<ExpressionColumn<'static>>, TransformFault> {
        let rows = u32::try_from(call.rows).map_err(|_| TransformFault::too_many_rows(call.rows))?;
        let inputs: Vec<wit::Column> = call.inputs.iter().map(column_in).collect();
        let made = self.call(&call.transform.id, &call.transform.limits, call.rows, |instance, store| {
            instance.mezze_features_computation().call_run(store, rows, &inputs)
        })?;
        match made {
            Ok(columns) => Ok(columns.into_iter().map(column_out).collect()),
            Err(said) => Err(TransformFault::refused(&said)),
        }
    }

    fn carried(&self) -> Vec<TransformId> {
        lock(&self.components).keys().copied().collect()
    }
}

fn column_in(column: &ExpressionColumn<'_>) -> wit::Column {
    let values = match &column.values {
        // The core hands over none of it.
        Values::Null => wit::Values::Ints(Vec::new()),
        Values::Int(values) => wit::Values::Ints(values.to_vec()),
        Values::Float(values) => wit::Values::Floats(values.to_vec()),
        Values::Bytes { offsets, data, .. } => {
            wit::Values::Bytes(wit::Payloads { offsets: offsets.clone(), data: data.to_vec() })
        }
    };
    wit::Column { values, valid: column.valid.as_deref().map(<[u8]>::to_vec) }
}

fn column_out(column: wit::Column) -> ExpressionColumn<'static> {
    let values = match column.values {
        wit::Values::Ints(values) => Values::Int(values.into()),
        wit::Values::Floats(values) => Values::Float(values.into()),
        wit::Values::Bytes(wit::Payloads { offsets, data }) => Values::Bytes { offsets, data: data.into(), constant: false },
    };
    ExpressionColumn { values, valid: column.valid.map(Cow::Owned) }
}

const fn fault(kind: TransformFaultKind, message: String) -> TransformFault {
    TransformFault { kind, message }
}

fn setup(error: wasmtime::Error) -> RuntimeError {
    RuntimeError::Setup(format!("{error:#}"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One of the calls that may run at once.
struct Permit<'t>(&'t Transforms);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        *lock(&self.0.free) += 1;
        self.0.freed.notify_one();
    }
}

/// What an instance may have of the host.
struct Bounds {
    memory_bytes: usize,
    /// Bytes of all its memories.
    used: usize,
    /// What it wanted, where that was too much.
    memory_refused: Option<usize>,
}

impl ResourceLimiter for Bounds {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let used = self.used.saturating_sub(current).saturating_add(desired);
        if used > self.memory_bytes {
            self.memory_refused = Some(used);
            return Err(wasmtime::Error::msg("its memory is full"));
        }
        self.used = used;
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        TABLES_MAX
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX
    }
}

/// Counts time for deadlines, but only while something has one.
struct Ticker {
    shared: Arc<Ticking>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Ticking {
    calls: AtomicUsize,
    /// It has to be woken to count.
    sleeps: AtomicBool,
    stop: AtomicBool,
}

/// A call under way.
struct Tick<'t>(&'t Ticking);

impl Ticker {
    fn start(engine: Engine) -> Result<Self, RuntimeError> {
        let shared = Arc::new(Ticking::default());
        let seen = Arc::clone(&shared);
        let run = move || {
            let mut idle = 0;
            while !seen.stop.load(Ordering::SeqCst) {
                idle = if seen.calls.load(Ordering::SeqCst) == 0 { idle + 1 } else { 0 };
                if idle <= IDLE_TICKS {
                    std::thread::park_timeout(Duration::from_millis(TICK_MILLIS));
                    engine.increment_epoch();
                    continue;
                }
                seen.sleeps.store(true, Ordering::SeqCst);
                // A call that began before that does not wake it.
                if seen.calls.load(Ordering::SeqCst) == 0 && !seen.stop.load(Ordering::SeqCst) {
                    std::thread::park();
                }
                seen.sleeps.store(false, Ordering::SeqCst);
                idle = 0;
            }
        };
        let thread = std::thread::Builder::new().name("mezze-transforms".into()).spawn(run);
        let thread = thread.map_err(|error| RuntimeError::Setup(format!("no thread can be started: {error}")))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    fn tick(&self) -> Tick<'_> {
        self.shared.calls.fetch_add(1, Ordering::SeqCst);
        // Waking it takes longer than many a call: it sleeps only where there was none for a while.
        if self.shared.sleeps.load(Ordering::SeqCst)
            && let Some(thread) = &self.thread
        {
            thread.thread().unpark();
        }
        Tick(&self.shared)
    }
}

impl Drop for Tick<'_> {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// The first bytes of a component.
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
/// How often deadlines are looked at.
const TICK_MILLIS: u64 = 10;
/// Ticks without a call after which it sleeps.
const IDLE_TICKS: u32 = 100;
/// Core modules of one component: its own, adapters, and what its toolchain puts beside it.
const CORE_INSTANCES_MAX: usize = 16;
/// All of them together are within the call's limit.
const MEMORIES_MAX: usize = 8;
const TABLES_MAX: usize = 16;
const TABLE_ELEMENTS_MAX: usize = 100_000;
/// What lists, columns and messages of a result take beside their values.
const RESULT_BYTES: u64 = 64 << 10;
/// The rows that a call for the schema counts as: toolchains of other languages begin slowly.
const SCHEMA_ROWS: usize = 100;
