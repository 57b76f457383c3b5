//! Instances of the component: what they import, and how many requests each serves.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Request, Response};
use tokio::time::Sleep;
use wasmtime::component::{
    Accessor, Component, FutureReader, GuestTaskId, HasSelf, Linker, Resource, ResourceTable, StreamReader,
};
use wasmtime::error::Context as _;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Result, StoreContextMut};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::handler::{HandlerState, Instance, Proxy, ShouldAccept, WorkerExpiration, WorkerState, WorkerStatus};
use wasmtime_wasi_http::p3::bindings::ServicePre;
use wasmtime_wasi_http::{
    Error as HttpError, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use crate::application::is_variable_name;
use crate::store::Store;

mod bindings {
    wasmtime::component::bindgen!({
        path: "wit",
        world: "imports",
        imports: {
            "spin:key-value/key-value.[drop]store": trappable,
            default: async | store | trappable,
        },
        with: { "spin:key-value/key-value.store": crate::store::Store },
    });
}
use bindings::spin::key_value::key_value;
use bindings::spin::variables::variables;

/// What one instance may take.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// Of memory, in bytes.
    pub(crate) memory_bytes: usize,
    /// Of requests, after each other or at the same time.
    pub(crate) requests: usize,
}

/// The compiled component and what its instances are made of.
pub(crate) struct Host {
    component: ServicePre<Guest>,
    shared: Arc<Shared>,
    limits: Limits,
}

/// What all instances have in common.
struct Shared {
    stores: BTreeMap<String, Store>,
    variables: BTreeMap<String, String>,
}

impl Host {
    /// Compiles a component's file.
    pub(crate) fn load(
        file: &Path,
        stores: BTreeMap<String, Store>,
        variables: BTreeMap<String, String>,
        limits: Limits,
    ) -> Result<Self> {
        let mut pool = PoolingAllocationConfig::default();
        pool.max_memory_size(limits.memory_bytes);
        let mut config = Config::new();
        config.wasm_component_model_async(true).allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let engine = Engine::new(&config)?;
        let mut linker = Linker::<Guest>::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
        wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
        key_value::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
        variables::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;

        let component = Component::from_file(&engine, file)
            .and_then(|component| ServicePre::new(linker.instantiate_pre(&component)?))
            .with_context(|| format!("cannot load {}", file.display()))?;
        Ok(Self { component, shared: Arc::new(Shared { stores, variables }), limits })
    }
}

impl HandlerState for Host {
    type StoreData = Guest;
    type WorkerExpiration = IdleTime;
    type WorkerState = Limits;

    async fn instantiate(&self) -> Result<Instance<Guest, IdleTime, Limits>> {
        let mut store = wasmtime::Store::new(self.component.engine(), Guest::new(self.shared.clone()));
        let service = self.component.instantiate_async(&mut store).await?;
        let expiration = IdleTime(Box::pin(tokio::time::sleep(Duration::ZERO)));
        Ok(Instance { store, proxy: Proxy::P3(service), view: Guest::http, expiration, state: self.limits })
    }
}

/// Ends an instance that has had nothing to do for a while.
pub(crate) struct IdleTime(Pin<Box<Sleep>>);

impl WorkerExpiration for IdleTime {
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>, status: WorkerStatus, since: Instant) -> Poll<()> {
        if status != WorkerStatus::Idle {
            return Poll::Pending;
        }
        let end = (since + IDLE_TIME).into();
        if self.0.deadline() != end {
            self.0.as_mut().reset(end);
        }
        self.0.as_mut().poll(context)
    }
}

impl WorkerState for Limits {
    type StoreData = Guest;
    type RequestData = ();

    fn should_accept_request(&self, concurrent: usize, total: usize) -> ShouldAccept {
        if total >= self.requests {
            ShouldAccept::Never
        } else if concurrent >= CONCURRENT_REQUESTS_MAX {
            ShouldAccept::No
        } else {
            ShouldAccept::Yes
        }
    }

    /// A request has as long as it takes.
    fn on_request_start(
        &self,
        _: StoreContextMut<'_, Guest>,
        (): (),
        _: GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + Sync>> {
        Box::pin(std::future::pending())
    }

    fn drop(&self, _: wasmtime::Store<Guest>, result: Result<()>) {
        if let Err(error) = result {
            eprintln!("spin-host: an instance ended: {error:?}");
        }
    }
}

/// What one instance has.
pub(crate) struct Guest {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    network: NoNetwork,
    shared: Arc<Shared>,
    stores_open: usize,
}

impl Guest {
    fn new(shared: Arc<Shared>) -> Self {
        // Standard output is the host's own.
        let wasi = WasiCtxBuilder::new().stdout(wasmtime_wasi::cli::stderr()).stderr(wasmtime_wasi::cli::stderr()).build();
        Self { table: ResourceTable::new(), wasi, http: WasiHttpCtx::new(), network: NoNetwork, shared, stores_open: 0 }
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.network }
    }
}

struct NoNetwork;

type Sent<T> = Box<dyn Future<Output = Result<T, HttpError>> + Send>;

impl WasiHttpHooks for NoNetwork {
    fn send_request(
        &mut self,
        _: Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Sent<()>,
    ) -> Sent<(Response<WasiBody>, Sent<()>)> {
        Box::new(async { Err(HttpError::HttpRequestDenied) })
    }
}

/// What a store's function returns: the outer error is a trap.
type Answer<T> = Result<Result<T, key_value::Error>>;

/// The host's functions run at the same time, so none holds on to the instance while it waits.
fn opened(guest: &Accessor<Guest, HasSelf<Guest>>, store: &Resource<Store>) -> Result<Store> {
    guest.with(|mut access| Ok(access.get().table.get(store)?.clone()))
}

impl key_value::Host for Guest {}

impl key_value::HostStore for Guest {
    fn drop(&mut self, store: Resource<Store>) -> Result<()> {
        self.table.delete(store)?;
        self.stores_open -= 1;
        Ok(())
    }
}

impl key_value::HostStoreWithStore<Guest> for HasSelf<Guest> {
    async fn open(guest: &Accessor<Guest, Self>, label: String) -> Answer<Resource<Store>> {
        guest.with(|mut access| {
            let guest = access.get();
            let Some(store) = guest.shared.stores.get(&label) else { return Ok(Err(key_value::Error::AccessDenied)) };
            if guest.stores_open == STORES_OPEN_MAX {
                return Ok(Err(key_value::Error::StoreTableFull));
            }
            guest.stores_open += 1;
            Ok(Ok(guest.table.push(store.clone())?))
        })
    }

    async fn get(guest: &Accessor<Guest, Self>, store: Resource<Store>, key: String) -> Answer<Option<Vec<u8>>> {
        Ok(opened(guest, &store)?.get(key).await.map_err(key_value::Error::Other))
    }

    async fn set(guest: &Accessor<Guest, Self>, store: Resource<Store>, key: String, value: Vec<u8>) -> Answer<()> {
        Ok(opened(guest, &store)?.set(key, value).await.map_err(key_value::Error::Other))
    }

    async fn delete(guest: &Accessor<Guest, Self>, store: Resource<Store>, key: String) -> Answer<()> {
        Ok(opened(guest, &store)?.delete(key).await.map_err(key_value::Error::Other))
    }

    async fn exists(guest: &Accessor<Guest, Self>, store: Resource<Store>, key: String) -> Answer<bool> {
        Ok(opened(guest, &store)?.get(key).await.map(|value| value.is_some()).map_err(key_value::Error::Other))
    }

    async fn get_keys(
        guest: &Accessor<Guest, Self>,
        store: Resource<Store>,
    ) -> Result<(StreamReader<String>, FutureReader<Result<(), key_value::Error>>)> {
        let (keys, end) = match opened(guest, &store)?.keys().await {
            Ok(keys) => (keys, Ok(())),
            Err(error) => (Vec::new(), Err(key_value::Error::Other(error))),
        };
        guest.with(|mut access| {
            let keys = StreamReader::new(&mut access, keys)?;
            Ok((keys, FutureReader::new(&mut access, async { wasmtime::error::Ok(end) })?))
        })
    }
}

impl variables::Host for Guest {}

impl variables::HostWithStore<Guest> for HasSelf<Guest> {
    async fn get(guest: &Accessor<Guest, Self>, name: String) -> Result<Result<String, variables::Error>> {
        guest.with(|mut access| {
            let value = access.get().shared.variables.get(&name).cloned();
            Ok(value.ok_or_else(|| {
                if is_variable_name(&name) { variables::Error::Undefined(name) } else { variables::Error::InvalidName(name) }
            }))
        })
    }
}

// As Spin has them.
const CONCURRENT_REQUESTS_MAX: usize = 16;
const IDLE_TIME: Duration = Duration::from_secs(1);
const STORES_OPEN_MAX: usize = 256;
