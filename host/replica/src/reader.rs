//! Reading snapshots from where they live: heads, manifests, and pages into a cache of verified ones.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use futures::stream::{self, StreamExt as _};
use mezze_core::{HEAD_KEY, Head, PageKey, PageRef, Plan, SEGMENT_FOOTER_BYTES, SegmentId, SegmentIndex, Snapshot};

use crate::cache::PageCache;
use crate::layout::segment_key;
use crate::origin::{decode_manifest, read_manifest};
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
    segments: RwLock<HashMap<(SegmentId, u16), Arc<SegmentFile>>>,
}

/// A head, and the snapshots that it names, as far as they have been opened.
#[derive(Clone, Debug)]
struct Current {
    head: Arc<Head>,
    snapshot: Snapshot,
    previous: Vec<Snapshot>,
}

/// The pages of one segment's table.
#[derive(Debug)]
struct SegmentFile {
    index: SegmentIndex,
    key: String,
    /// The open file, if the store is a folder: it can be read on even after a prune.
    file: Option<File>,
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
        Ok(Self {
            store,
            pages: PageCache::new(cache_bytes),
            current: RwLock::new(current),
            segments: RwLock::new(HashMap::new()),
        })
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
        let snapshot = Snapshot::new(previous.snapshot, previous.epoch, head.issued_at, manifest);
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
        let file = self.segment(key).await.map_err(|error| fault(error.to_string()))?;
        if file.index.bucket_count() != segment.bucket_count {
            return Err(fault(format!(
                "its file has {} pages, the manifest says {}",
                file.index.bucket_count(),
                segment.bucket_count
            )));
        }
        let range = file.index.page_range(key.bucket).ok_or_else(|| fault("it is not in its file".into()))?;
        let length = range.end - range.start;
        let bytes: Arc<[u8]> = match &file.file {
            Some(open) => {
                let mut bytes = vec![0; usize::try_from(length).map_err(|error| fault(error.to_string()))?];
                read_exact_at(open, &mut bytes, range.start).map_err(|error| fault(error.to_string()))?;
                bytes.into()
            }
            None => {
                let bytes = self.store.read_range(&file.key, range.start, length).await;
                let bytes = bytes.map_err(|error| fault(error.to_string()))?;
                bytes.ok_or_else(|| fault("its file is gone".into()))?.as_ref().into()
            }
        };
        PageRef::verify(&bytes, &key, segment.bucket_count, &table.schema).map_err(|error| fault(error.to_string()))?;
        self.pages.put(key, Arc::clone(&bytes));
        Ok(bytes)
    }

    async fn segment(&self, page: PageKey) -> Result<Arc<SegmentFile>, Error> {
        let name = (page.segment, page.table);
        if let Some(known) = self.segments.read().unwrap_or_else(PoisonError::into_inner).get(&name) {
            return Ok(Arc::clone(known));
        }
        let opened = Arc::new(open_segment(&self.store, page.segment, page.table).await?);
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(segments.entry(name).or_insert(opened)))
    }

    /// Closes the files of segments that neither the current head nor its previous snapshots need.
    fn forget_segments(&self) {
        let needed: Vec<SegmentId> = self.read_current(|current| {
            let tables = &current.snapshot.manifest().tables;
            tables.iter().flat_map(|table| table.base.iter().chain(&table.delta)).map(|segment| segment.id).collect()
        });
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        // Requests under way may still open one again: that is a read more, and no harm.
        segments.retain(|(segment, _), _| needed.contains(segment));
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

async fn open_segment(store: &Store, segment: SegmentId, table: u16) -> Result<SegmentFile, Error> {
    let key = segment_key(segment, table);
    let name = store.full_name(&key);
    let format = |source| Error::Format { key: name.clone(), source };
    let (size, file) = match store.local_folder() {
        Some(folder) => {
            let (file, size) = open_file(&folder.join(&key)).map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => Error::Missing { key: name.clone() },
                _ => Error::Unavailable { operation: "read", key: name.clone(), detail: error.to_string() },
            })?;
            (size, Some(file))
        }
        None => (store.stat(&key).await?.ok_or_else(|| Error::Missing { key: name.clone() })?.size, None),
    };
    let read = async |bytes: u64| -> Result<Vec<u8>, Error> {
        let start = size.saturating_sub(bytes);
        let length = size - start;
        match &file {
            Some(file) => {
                let mut tail = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
                read_exact_at(file, &mut tail, start).map_err(|error| Error::Unavailable {
                    operation: "read",
                    key: name.clone(),
                    detail: error.to_string(),
                })?;
                Ok(tail)
            }
            None => {
                let tail = store.read_range(&key, start, length).await?;
                tail.map(Vec::from).ok_or_else(|| Error::Missing { key: name.clone() })
            }
        }
    };
    let footer = read(SEGMENT_FOOTER_BYTES as u64).await?;
    let tail_bytes = SegmentIndex::tail_bytes(&footer).map_err(format)?;
    if tail_bytes > size {
        return Err(Error::Corrupt { key: name, detail: "it is shorter than its index".into() });
    }
    let index = SegmentIndex::decode(&read(tail_bytes).await?).map_err(format)?;
    if index.segment != segment || index.table != table || index.pages_bytes() + tail_bytes != size {
        return Err(Error::Corrupt { key: name, detail: "it is another segment's file, or cut".into() });
    }
    Ok(SegmentFile { index, key, file })
}

fn open_file(path: &Path) -> std::io::Result<(File, u64)> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, offset)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => {
                bytes = bytes.get_mut(count..).unwrap_or_default();
                offset += count as u64;
            }
        }
    }
    Ok(())
}

/// Pages that are read at once from a service.
const REMOTE_READS: usize = 16;
