//! Reading snapshots from where they live: heads, manifests, and pages into a cache of verified ones.

use std::sync::{Arc, PoisonError, RwLock};

use futures::stream::{self, StreamExt as _};
use mezze_core::{HEAD_KEY, Head, PageKey, PageRef, Plan, SegmentId, Snapshot};

use crate::cache::PageCache;
use crate::origin::{decode_manifest, read_manifest};
use crate::segments::Segments;
use crate::{Error, Store};

/// Reads the snapshots of one origin or replica, and follows its head. Shared by the threads of a server.
///
/// Only keys that a head has named are read. A page is verified once, when it comes into the cache; a page that is missing
/// or damaged is an error, never a value.
#[derive(Debug)]
pub struct Reader {
    store: Store,
    pages: PageCache,
    current: RwLock<Current>,
    segments: Segments,
}

/// A head, and the snapshots that it names, as far as they have been opened.
#[derive(Clone, Debug)]
struct Current {
    head: Arc<Head>,
    snapshot: Snapshot,
    previous: Vec<Snapshot>,
}

impl Reader {
    /// Opens the snapshot that the store's head names, with room for `cache_bytes` of pages.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`] where there is no head yet; otherwise as for [`Reader::refresh`].
    pub async fn open(store: Store, cache_bytes: usize) -> Result<Self, Error> {
        let head = read_head(&store).await?.ok_or_else(|| Error::NoSnapshot { place: store.place() })?;
        let snapshot = open_snapshot(&store, &head).await?;
        let current = Current { head: Arc::new(head), snapshot, previous: Vec::new() };
        Ok(Self { store, pages: PageCache::new(cache_bytes), current: RwLock::new(current), segments: Segments::default() })
    }

    /// Where it reads.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// The snapshot that answers now.
    pub fn snapshot(&self) -> Snapshot {
        self.read_current(|current| current.snapshot.clone())
    }

    /// Reads the head again, and switches to the snapshot that it names if its epoch is later. Requests that began before
    /// end with the snapshot that they began with. Returns the new snapshot, or `None` if there is no later one.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Format`], [`Error::Missing`] or [`Error::Unavailable`]; then the snapshot before
    /// answers on.
    pub async fn refresh(&self) -> Result<Option<Snapshot>, Error> {
        let Some(head) = read_head(&self.store).await? else { return Ok(None) };
        if head.epoch <= self.snapshot().epoch() {
            return Ok(None);
        }
        let snapshot = open_snapshot(&self.store, &head).await?;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if head.epoch <= current.head.epoch {
            return Ok(None);
        }
        *current = Current { head: Arc::new(head), snapshot: snapshot.clone(), previous: Vec::new() };
        drop(current);
        self.forget_segments();
        Ok(Some(snapshot))
    }

    /// The snapshot that answers where a page of the current one cannot be read: number 0 is the newest before it.
    /// `None` where the head names no further one.
    ///
    /// # Errors
    /// As for [`Reader::refresh`].
    pub async fn previous(&self, number: usize) -> Result<Option<Snapshot>, Error> {
        let (head, opened) = self.read_current(|current| (Arc::clone(&current.head), current.previous.get(number).cloned()));
        if opened.is_some() {
            return Ok(opened);
        }
        let Some(previous) = head.previous.get(number) else { return Ok(None) };
        let manifest = read_manifest(&self.store, previous.snapshot).await?;
        let manifest = decode_manifest(&self.store, previous.snapshot, &manifest)?;
        let snapshot = Snapshot::new(previous.snapshot, previous.epoch, previous.issued_at, manifest);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.head.epoch == head.epoch && current.previous.len() == number {
            current.previous.push(snapshot.clone());
        }
        Ok(Some(snapshot))
    }

    /// The pages of a plan, in its order, each verified.
    ///
    /// # Errors
    /// [`PageFault`] names the first page that is missing or damaged.
    pub async fn pages(&self, plan: &Plan) -> Result<Vec<Arc<[u8]>>, PageFault> {
        let mut pages: Vec<Option<Arc<[u8]>>> = plan.pages().iter().map(|key| self.pages.get(key)).collect();
        let missing: Vec<usize> = (0..).zip(&pages).filter(|(_, page)| page.is_none()).map(|(index, _)| index).collect();
        if !missing.is_empty() {
            // Files are read where they are; behind a URL many reads at once hide its latency.
            let at_once = if self.store.local_folder().is_some() { 1 } else { REMOTE_READS };
            let mut loaded =
                stream::iter(missing).map(|index| async move { (index, self.load(plan, index).await) }).buffered(at_once);
            while let Some((index, page)) = loaded.next().await {
                if let Some(slot) = pages.get_mut(index) {
                    *slot = Some(page?);
                }
            }
        }
        Ok(pages.into_iter().flatten().collect())
    }

    /// Bytes of pages in the cache.
    pub fn cached_bytes(&self) -> usize {
        self.pages.bytes()
    }

    async fn load(&self, plan: &Plan, index: usize) -> Result<Arc<[u8]>, PageFault> {
        let (Some(key), Some((segment, table))) = (plan.pages().get(index).copied(), plan.page_home(index)) else {
            return Err(PageFault { page: None, detail: "it is not of this plan".into() });
        };
        let fault = |detail: String| PageFault { page: Some(key), detail };
        let (bytes, bucket_count) = self.segments.read(&self.store, key).await.map_err(|error| fault(error.to_string()))?;
        if bucket_count != segment.bucket_count {
            let expected = segment.bucket_count;
            return Err(fault(format!("its file has {bucket_count} pages, the manifest says {expected}")));
        }
        let bytes: Arc<[u8]> = bytes.into();
        PageRef::verify(&bytes, &key, segment.bucket_count, &table.schema).map_err(|error| fault(error.to_string()))?;
        self.pages.put(key, Arc::clone(&bytes));
        Ok(bytes)
    }

    /// Closes the files of segments that neither the current head nor its previous snapshots need.
    fn forget_segments(&self) {
        let needed: Vec<SegmentId> = self.read_current(|current| {
            let tables = &current.snapshot.manifest().tables;
            tables.iter().flat_map(|table| table.base.iter().chain(&table.delta)).map(|segment| segment.id).collect()
        });
        self.segments.retain(&needed);
    }

    fn read_current<T>(&self, read: impl FnOnce(&Current) -> T) -> T {
        read(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A page cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", page.map_or_else(|| "a page".to_owned(), |page| format!("page {page}")))]
#[non_exhaustive]
pub struct PageFault {
    /// The page.
    pub page: Option<PageKey>,
    /// Why.
    pub detail: String,
}

/// The head of an origin or a replica, `None` where there is none yet.
///
/// # Errors
/// [`Error::Format`] where it is damaged, [`Error::Unavailable`] where the place fails.
pub async fn read_head(store: &Store) -> Result<Option<Head>, Error> {
    let Some(bytes) = store.read(HEAD_KEY).await? else { return Ok(None) };
    Head::decode(&bytes).map(Some).map_err(|source| Error::Format { key: store.full_name(HEAD_KEY), source })
}

async fn open_snapshot(store: &Store, head: &Head) -> Result<Snapshot, Error> {
    let bytes = match &head.manifest {
        Some(manifest) => manifest.clone(),
        None => read_manifest(store, head.snapshot).await?,
    };
    let manifest = decode_manifest(store, head.snapshot, &bytes)?;
    Ok(Snapshot::new(head.snapshot, head.epoch, head.issued_at, manifest))
}

/// Pages that are read at once from a service.
const REMOTE_READS: usize = 16;
