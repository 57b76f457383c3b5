//! Reading snapshots from where they live: heads, manifests, and pages into a cache of verified ones.

use std::sync::{Arc, PoisonError, RwLock};

use futures::stream::{self, StreamExt as _};
use mezze_core::{HEAD_KEY, Head, PageKey, PageRef, Plan, SegmentId, SignedHead, Snapshot, Timestamp, Trust};

use crate::cache::PageCache;
use crate::layout::manifest_key;
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
    trust: Trust,
    pages: PageCache,
    current: RwLock<Current>,
    segments: Segments,
}

/// A head, and the snapshots that it names, as far as they have been opened.
#[derive(Clone, Debug)]
struct Current {
    head: Arc<SignedHead>,
    snapshot: Snapshot,
    previous: Vec<Snapshot>,
}

impl Reader {
    /// Opens the snapshot that the store's head names, with room for `cache_bytes` of pages.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`] where there is no head yet; otherwise as for [`Reader::refresh`].
    pub async fn open(store: Store, cache_bytes: usize) -> Result<Self, Error> {
        Self::open_trusting(store, cache_bytes, Trust::none(), Timestamp::MIN).await
    }

    /// The same, for heads that `trust` accepts, and manifests and pages that they vouch for.
    ///
    /// # Errors
    /// [`Error::Untrusted`] where it does not accept them; otherwise as for [`Reader::open`].
    pub async fn open_trusting(store: Store, cache_bytes: usize, trust: Trust, now: Timestamp) -> Result<Self, Error> {
        let (head, snapshot) = match read_signed_head(&store).await? {
            Some((value, head)) => open_snapshot(&store, &trust, &value, head, now).await?,
            None => return Err(Error::NoSnapshot { place: store.place() }),
        };
        let current = Current { head: Arc::new(head), snapshot, previous: Vec::new() };
        let (pages, segments) = (PageCache::new(cache_bytes), Segments::default());
        Ok(Self { store, trust, pages, current: RwLock::new(current), segments })
    }

    /// Where it reads.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Whose snapshots it reads.
    pub const fn trust(&self) -> &Trust {
        &self.trust
    }

    /// The snapshot that answers now.
    pub fn snapshot(&self) -> Snapshot {
        self.read_current(|current| current.snapshot.clone())
    }

    /// Whether the head is signed, by whomever.
    pub fn is_signed(&self) -> bool {
        self.read_current(|current| current.head.signature.is_some())
    }

    /// Checks that the snapshot that answers now may do so: it may have been signed too long ago by now. A head that was signed
    /// anew changes that: see [`Reader::refresh`].
    ///
    /// # Errors
    /// [`Error::Untrusted`].
    pub fn check_age(&self, now: Timestamp) -> Result<(), Error> {
        let checked = self.read_current(|current| self.trust.check_age(current.head.signature.as_ref(), now));
        checked.map_err(|source| Error::Untrusted { key: self.store.full_name(HEAD_KEY), source })
    }

    /// Reads the head again, and switches to the snapshot that it names if its epoch is later. Requests that began before
    /// end with the snapshot that they began with. Returns the new snapshot, or `None` if there is no later one.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Format`], [`Error::Missing`], [`Error::Unavailable`] or [`Error::Untrusted`]; then the
    /// snapshot before answers on.
    pub async fn refresh(&self, now: Timestamp) -> Result<Option<Snapshot>, Error> {
        let Some((value, head)) = read_signed_head(&self.store).await? else { return Ok(None) };
        if !self.read_current(|current| self.trust.is_news(&current.head, &head)) {
            return Ok(None);
        }
        let (head, snapshot) = open_snapshot(&self.store, &self.trust, &value, head, now).await?;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if !self.trust.is_news(&current.head, &head) {
            return Ok(None);
        }
        if current.head.head.epoch == head.head.epoch {
            // Only signed anew.
            current.head = Arc::new(head);
            current.previous.clear();
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
        let Some(previous) = head.head.previous.get(number) else { return Ok(None) };
        let manifest = read_manifest(&self.store, previous.snapshot).await?;
        let key = || self.store.full_name(&manifest_key(previous.snapshot));
        let checked = self.trust.check_manifest(head.signature.as_ref(), number + 1, &manifest);
        checked.map_err(|source| Error::Untrusted { key: key(), source })?;
        let manifest = decode_manifest(&self.store, previous.snapshot, &manifest)?;
        let snapshot = Snapshot::new(previous.snapshot, previous.epoch, previous.issued_at, manifest);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&current.head, &head) && current.previous.len() == number {
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
        let page =
            PageRef::verify(&bytes, &key, segment.bucket_count, &table.schema).map_err(|error| fault(error.to_string()))?;
        if self.trust.is_required() {
            let path = self.segments.path(&self.store, key).await.map_err(|error| fault(error.to_string()))?;
            let checked = self.trust.check_page(&[&bytes, &path[..]].concat(), &page, &key, segment);
            checked.map_err(|error| fault(error.to_string()))?;
        }
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

/// The value of the head's key, and what it is.
async fn read_signed_head(store: &Store) -> Result<Option<(bytes::Bytes, SignedHead)>, Error> {
    let Some(value) = store.read(HEAD_KEY).await? else { return Ok(None) };
    let head = SignedHead::decode(&value).map_err(|source| Error::Format { key: store.full_name(HEAD_KEY), source })?;
    Ok(Some((value, head)))
}

/// The snapshot of a head that was read from this value.
async fn open_snapshot(
    store: &Store,
    trust: &Trust,
    value: &[u8],
    mut signed: SignedHead,
    now: Timestamp,
) -> Result<(SignedHead, Snapshot), Error> {
    let untrusted = |key: &str, source| Error::Untrusted { key: store.full_name(key), source };
    trust.check_head(value, &signed, now).map_err(|source| untrusted(HEAD_KEY, source))?;
    let head = &mut signed.head;
    let bytes = match head.manifest.take() {
        Some(manifest) => manifest,
        None => read_manifest(store, head.snapshot).await?,
    };
    let checked = trust.check_manifest(signed.signature.as_ref(), 0, &bytes);
    checked.map_err(|source| untrusted(&manifest_key(head.snapshot), source))?;
    let manifest = decode_manifest(store, head.snapshot, &bytes)?;
    let snapshot = Snapshot::new(head.snapshot, head.epoch, head.issued_at, manifest);
    Ok((signed, snapshot))
}

/// Pages that are read at once from a service.
const REMOTE_READS: usize = 16;
