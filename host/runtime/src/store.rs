//! One instance of the component: an opened snapshot and verified pages.

use std::fmt;
use std::sync::Arc;

use wasmtime::component::ResourceAny;
use wasmtime::{Store, StoreLimits, StoreLimitsBuilder};

use crate::bindings::Serving;
use crate::bindings::exports::mezze::features::{lookup as wit, types};
use crate::runtime::TICKS;
use crate::{Runtime, RuntimeError};

/// What an instance's host side keeps: its bounds.
pub(crate) struct Host {
    limits: StoreLimits,
}

/// An instance of the serving component. It runs one call at a time; make one for each thread.
pub struct ServingStore {
    runtime: Arc<Runtime>,
    page_bytes: u64,
    /// `None` after a call was stopped: the next begins with a fresh instance.
    instance: Option<Instance>,
    /// Whom it trusts, and what was opened last, for a fresh instance.
    trust: Option<Trust>,
    opened: Option<Opened>,
}

struct Opened {
    head: Vec<u8>,
    manifest: Option<Vec<u8>>,
    /// It was accepted then; whether it may answer still is looked at with each lookup.
    now_nanos: i64,
}

/// Whose snapshots to open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Public keys in text, of which one has to have signed a head.
    pub keys: Vec<String>,
    /// The longest since a head was signed, in seconds; any time where there is none.
    pub head_age_max_seconds: Option<u32>,
    /// The lowest epoch to serve.
    pub epoch_min: u64,
}

struct Instance {
    store: Store<Host>,
    serving: Serving,
    resource: ResourceAny,
}

/// What requests and responses are written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MediaType {
    /// `application/json`.
    #[default]
    Json,
    /// `application/msgpack`.
    MessagePack,
}

/// What one request may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the request.
    pub request_bytes: u32,
    /// Entity rows.
    pub entities: u32,
    /// Values of the response.
    pub values: u32,
    /// Distinct pages to read.
    pub pages: u32,
}

impl Default for Limits {
    /// The limits of a server: 16 MiB, 10,000 entities, 1,000,000 values, 10,000 pages.
    fn default() -> Self {
        Self { request_bytes: 16 << 20, entities: 10_000, values: 1_000_000, pages: 10_000 }
    }
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Lookup<'a> {
    /// The body of `POST /get-online-features`.
    pub body: &'a [u8],
    /// What the body is written in.
    pub media: MediaType,
    /// What the answer is to be written in.
    pub accept: MediaType,
    /// The instant that freshness is judged by, in nanoseconds since 1970.
    pub now_nanos: i64,
    /// What it may cost.
    pub limits: Limits,
}

impl<'a> Lookup<'a> {
    /// A JSON request under a server's limits.
    pub fn json(body: &'a [u8], now_nanos: i64) -> Self {
        Self { body, media: MediaType::Json, accept: MediaType::Json, now_nanos, limits: Limits::default() }
    }
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The HTTP status.
    pub status: u16,
    /// The body: the same bytes as from every other host.
    pub body: Vec<u8>,
}

/// A page that is needed. Its [`Display`](fmt::Display) form is its key: `p/<segment>/<table>/<bucket>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PageName {
    /// The segment's id.
    pub segment: u128,
    /// The table's number.
    pub table: u16,
    /// The bucket.
    pub bucket: u32,
}

impl fmt::Display for PageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p/{:032x}/{}/{}", self.segment, self.table, self.bucket)
    }
}

/// A snapshot that was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotInfo {
    /// Its id.
    pub id: u128,
    /// The epoch of the head that named it.
    pub epoch: u64,
    /// When that head was made, in nanoseconds since 1970.
    pub issued_at_nanos: i64,
    /// The keys of the manifests of the snapshots before it, the newest first: each opens with the same head.
    pub earlier: Vec<String>,
}

impl ServingStore {
    pub(crate) fn new(runtime: Arc<Runtime>, page_bytes: u64) -> Result<Self, RuntimeError> {
        let mut store = Self { runtime, page_bytes, instance: None, trust: None, opened: None };
        store.instance = Some(store.instantiate()?);
        Ok(store)
    }

    fn instantiate(&self) -> Result<Instance, RuntimeError> {
        let limits = StoreLimitsBuilder::new().memory_size(self.runtime.config.memory_max).trap_on_grow_failure(true).build();
        let mut store = Store::new(&self.runtime.engine, Host { limits });
        store.limiter(|host| &mut host.limits);
        store.set_epoch_deadline(TICKS + 1);
        let serving = self.runtime.component.instantiate(&mut store).map_err(stopped)?;
        let constructed = serving.mezze_features_lookup().store().call_constructor(&mut store, self.page_bytes);
        let resource = constructed.map_err(stopped)?;
        Ok(Instance { store, serving, resource })
    }

    /// Calls the instance, a fresh one if the last call was stopped. A call that is stopped takes its instance with it.
    fn call<T>(
        &mut self,
        call: impl FnOnce(&wit::GuestStore<'_>, &mut Store<Host>, ResourceAny) -> wasmtime::Result<T>,
    ) -> Result<T, RuntimeError> {
        let mut instance = match self.instance.take() {
            Some(instance) => instance,
            None => {
                let mut instance = self.instantiate()?;
                let lookup = instance.serving.mezze_features_lookup();
                let guest = lookup.store();
                if let Some(trust) = &self.trust {
                    let set = guest.call_set_trust(&mut instance.store, instance.resource, &trust.wit());
                    set.map_err(stopped)?.map_err(RuntimeError::Unusable)?;
                }
                if let Some(Opened { head, manifest, now_nanos }) = &self.opened {
                    let opened = guest.call_open(&mut instance.store, instance.resource, head, manifest.as_deref(), *now_nanos);
                    opened.map_err(stopped)?.map_err(unusable)?;
                }
                instance
            }
        };
        instance.store.set_epoch_deadline(TICKS + 1);
        let lookup = instance.serving.mezze_features_lookup();
        let result = call(&lookup.store(), &mut instance.store, instance.resource).map_err(stopped)?;
        self.instance = Some(instance);
        Ok(result)
    }

    /// From now on opens only snapshots that `trust` accepts, and takes only pages that they vouch for; whatever was open is
    /// forgotten.
    ///
    /// # Errors
    /// [`RuntimeError::Unusable`] where a key is none: then nothing opens any more.
    pub fn set_trust(&mut self, trust: Trust) -> Result<(), RuntimeError> {
        self.opened = None;
        let wit = trust.wit();
        self.trust = Some(trust);
        let set = self.call(|store, instance, resource| store.call_set_trust(instance, resource, &wit))?;
        set.map_err(RuntimeError::Unusable)
    }

    /// Opens the snapshot that a head names: the newest, or with the manifest of one before it that the head names,
    /// that. Pages that it shares with the one before stay. `now_nanos` is what the age of a signature is counted to, in
    /// nanoseconds since 1970.
    ///
    /// # Errors
    /// [`RuntimeError::ManifestNeeded`] or [`RuntimeError::Unusable`]; the snapshot before answers on.
    pub fn open(&mut self, head: &[u8], manifest: Option<&[u8]>, now_nanos: i64) -> Result<SnapshotInfo, RuntimeError> {
        let opened = self.call(|store, instance, resource| store.call_open(instance, resource, head, manifest, now_nanos))?;
        let snapshot = opened.map_err(unusable)?;
        self.opened = Some(Opened { head: head.to_vec(), manifest: manifest.map(<[u8]>::to_vec), now_nanos });
        let (epoch, issued_at_nanos) = (snapshot.epoch, snapshot.issued_at);
        Ok(SnapshotInfo { id: whole(snapshot.id), epoch, issued_at_nanos, earlier: snapshot.earlier })
    }

    /// Answers a request. `fetch` reads a page that is not here yet, in any way: `None` says that it is not to be had.
    ///
    /// # Errors
    /// [`RuntimeError::Page`] where a page is missing or damaged, [`RuntimeError::Stopped`] where the call was ended.
    pub fn lookup(
        &mut self,
        lookup: &Lookup<'_>,
        mut fetch: impl FnMut(&PageName) -> Option<Vec<u8>>,
    ) -> Result<Served, RuntimeError> {
        let question = wit::Question {
            body: lookup.body.to_vec(),
            media: media(lookup.media),
            accept: media(lookup.accept),
            now: lookup.now_nanos,
            limits: types::Limits {
                request_bytes: lookup.limits.request_bytes,
                entities: lookup.limits.entities,
                values: lookup.limits.values,
                pages: lookup.limits.pages,
            },
        };
        // Once for what is missing and once for the answer: pages of a lookup stay until it is answered.
        for _ in 0..2 {
            match self.call(|store, instance, resource| store.call_lookup(instance, resource, &question))? {
                wit::Outcome::Answer(body) => return Ok(Served { status: 200, body }),
                wit::Outcome::Refused(refusal) => return Ok(Served { status: refusal.status, body: refusal.body }),
                wit::Outcome::Missing(missing) => {
                    for key in missing {
                        let name = PageName { segment: whole(key.segment), table: key.table, bucket: key.bucket };
                        let bytes = fetch(&name).ok_or_else(|| RuntimeError::Page(format!("page {name} is not to be had")))?;
                        let put = self.call(|store, instance, resource| store.call_put_page(instance, resource, key, &bytes))?;
                        put.map_err(RuntimeError::Page)?;
                    }
                }
            }
        }
        Err(RuntimeError::Page("pages that were brought are missing again".into()))
    }

    /// Bytes of the pages that the instance keeps.
    ///
    /// # Errors
    /// [`RuntimeError::Stopped`].
    pub fn resident_bytes(&mut self) -> Result<u64, RuntimeError> {
        self.call(|store, instance, resource| store.call_resident_bytes(instance, resource))
    }
}

impl Trust {
    fn wit(&self) -> types::Trust {
        types::Trust { keys: self.keys.clone(), head_age_max_seconds: self.head_age_max_seconds, epoch_min: self.epoch_min }
    }
}

fn stopped(error: wasmtime::Error) -> RuntimeError {
    RuntimeError::Stopped(error.root_cause().to_string())
}

fn unusable(error: wit::OpenError) -> RuntimeError {
    match error {
        wit::OpenError::ManifestNeeded(snapshot) => RuntimeError::ManifestNeeded(snapshot),
        wit::OpenError::Unusable(detail) => RuntimeError::Unusable(detail),
    }
}

const fn media(media: MediaType) -> types::MediaType {
    match media {
        MediaType::Json => types::MediaType::Json,
        MediaType::MessagePack => types::MediaType::MessagePack,
    }
}

fn whole((high, low): (u64, u64)) -> u128 {
    u128::from(high) << 64 | u128::from(low)
}
