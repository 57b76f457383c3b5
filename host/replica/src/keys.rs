//! The keys of a replica, out of an origin: what a key-value store holds once a snapshot is in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use mezze_core::{
    Audience, HEAD_KEY, Head, INLINE_MANIFEST_BYTES_MAX, Manifest, PageKey, ReadKey, SegmentId, SnapshotId, Timestamp,
};

use crate::origin::{decode_manifest, encode_head, read_manifest, segments_of};
use crate::reader::read_head;
use crate::segments::Segments;
use crate::{Error, Store};

/// Reads an origin by the keys of its replicas: `head`, `m/<snapshot>` and `p/<segment>/<table>/<bucket>`.
///
/// For [`Audience::Public`] there is only what anyone may hold ([`Manifest::public_part`]): other tables have no keys, and the
/// snapshots have ids of their own, under the epochs of the origin.
#[derive(Debug)]
pub struct ReplicaKeys {
    store: Store,
    audience: Audience,
    segments: Segments,
    shown: RwLock<Arc<Shown>>,
}

/// What one head names.
#[derive(Debug)]
struct Shown {
    /// As this audience sees it.
    head: Head,
    head_bytes: Bytes,
    /// Encoded manifests by the keys' text.
    manifests: BTreeMap<String, Bytes>,
    /// Segments and table numbers that each snapshot's manifest names.
    tables: BTreeMap<SnapshotId, BTreeSet<(SegmentId, u16)>>,
}

/// A key, and how large its value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySize {
    /// The key.
    pub key: String,
    /// Bytes of its value.
    pub bytes: u64,
}

impl ReplicaKeys {
    /// The keys of the origin, or folder replica, at `store`, for hosts of this audience.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`] where there is no head yet, [`Error::Refused`] where nothing of it is public and only that is
    /// wanted; otherwise as for [`ReplicaKeys::refresh`].
    pub async fn open(store: Store, audience: Audience) -> Result<Self, Error> {
        let head = read_head(&store).await?.ok_or_else(|| Error::NoSnapshot { place: store.place() })?;
        Self::of(store, audience, head).await
    }

    /// The keys of what one head of the origin names.
    ///
    /// # Errors
    /// As for [`ReplicaKeys::open`].
    pub async fn of(store: Store, audience: Audience, head: Head) -> Result<Self, Error> {
        let shown = RwLock::new(Arc::new(Shown::of(&store, audience, head).await?));
        Ok(Self { store, audience, segments: Segments::default(), shown })
    }

    /// The head as this audience sees it.
    pub(crate) fn head(&self) -> Head {
        self.shown().head.clone()
    }

    pub(crate) fn head_bytes(&self) -> Bytes {
        self.shown().head_bytes.clone()
    }

    /// A snapshot's manifest.
    pub(crate) fn manifest(&self, snapshot: SnapshotId) -> Option<Bytes> {
        self.shown().manifests.get(&ReadKey::Manifest(snapshot).to_string()).cloned()
    }

    /// Bytes of a snapshot's manifest.
    pub(crate) fn manifest_bytes(&self, snapshot: SnapshotId) -> u64 {
        self.manifest(snapshot).map_or(0, |manifest| manifest.len() as u64)
    }

    /// The epoch of the head that was read last.
    pub fn epoch(&self) -> u64 {
        self.shown().head.epoch
    }

    /// When that head was made.
    pub fn issued_at(&self) -> Timestamp {
        self.shown().head.issued_at
    }

    /// Reads the origin's head again. Whether it is a later one.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Format`], [`Error::Missing`] or [`Error::Unavailable`]; the keys stay as they were.
    pub async fn refresh(&self) -> Result<bool, Error> {
        let Some(head) = read_head(&self.store).await? else { return Ok(false) };
        if head.epoch <= self.epoch() {
            return Ok(false);
        }
        let shown = Arc::new(Shown::of(&self.store, self.audience, head).await?);
        *self.shown.write().unwrap_or_else(PoisonError::into_inner) = shown;
        Ok(true)
    }

    /// The value of a key as of the last refresh; `None` where there is no such key.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Format`], [`Error::Missing`] or [`Error::Unavailable`] where the origin is damaged or fails.
    pub async fn read(&self, key: &str) -> Result<Option<Bytes>, Error> {
        if key == HEAD_KEY {
            return Ok(Some(self.head_bytes()));
        }
        if let Some(manifest) = self.shown().manifests.get(key) {
            return Ok(Some(manifest.clone()));
        }
        let Some(page) = page_key(key) else { return Ok(None) };
        if !self.shown().tables.values().any(|tables| tables.contains(&(page.segment, page.table))) {
            return Ok(None);
        }
        if page.bucket >= self.segments.bucket_count(&self.store, page.segment, page.table).await? {
            return Ok(None);
        }
        Ok(Some(self.segments.read_with_path(&self.store, page).await?.into()))
    }

    /// All keys as of the last refresh, in the order in which they are to be written: the head last.
    ///
    /// # Errors
    /// As for [`ReplicaKeys::read`].
    pub async fn keys(&self) -> Result<Vec<String>, Error> {
        let shown = self.shown();
        let mut keys = Vec::new();
        let tables: BTreeSet<_> = shown.tables.values().flatten().collect();
        for (segment, table) in tables {
            let (segment, table) = (*segment, *table);
            let bucket_count = self.segments.bucket_count(&self.store, segment, table).await?;
            keys.extend((0..bucket_count).map(|bucket| PageKey::new(segment, table, bucket).to_string()));
        }
        keys.extend(shown.manifests.keys().cloned());
        keys.push(HEAD_KEY.to_owned());
        Ok(keys)
    }

    /// The keys that one of the head's snapshots needs, but the head.
    ///
    /// # Errors
    /// As for [`ReplicaKeys::read`].
    pub(crate) async fn keys_of(&self, snapshot: SnapshotId) -> Result<Vec<KeySize>, Error> {
        let shown = self.shown();
        let mut keys = Vec::new();
        for (segment, table) in shown.tables.get(&snapshot).into_iter().flatten() {
            let sizes = self.segments.page_sizes(&self.store, *segment, *table).await?;
            keys.extend(sizes.into_iter().zip(0..).map(|(bytes, bucket)| {
                let key = PageKey::new(*segment, *table, bucket).to_string();
                KeySize { key, bytes }
            }));
        }
        let bytes = self.manifest_bytes(snapshot);
        keys.push(KeySize { key: ReadKey::Manifest(snapshot).to_string(), bytes });
        Ok(keys)
    }

    /// What a listing shows for the value of a key: see [`Entry::digest`](crate::Entry).
    ///
    /// # Errors
    /// As for [`ReplicaKeys::read`].
    pub(crate) async fn digest(&self, key: &str) -> Result<String, Error> {
        if let Some(page) = page_key(key) {
            // Known without reading the page, and it decides the path behind it, too.
            return Ok(hex(&self.segments.leaf(&self.store, page).await?));
        }
        let value = self.read(key).await?.ok_or_else(|| Error::Missing { key: key.to_owned() })?;
        Ok(digest_of(&value))
    }

    fn shown(&self) -> Arc<Shown> {
        Arc::clone(&self.shown.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Shown {
    async fn of(store: &Store, audience: Audience, head: Head) -> Result<Self, Error> {
        let newest = part_of(store, audience, head.snapshot).await?;
        let mut previous = Vec::with_capacity(head.previous.len());
        let mut parts = Vec::with_capacity(1 + head.previous.len());
        for mut earlier in head.previous {
            // One that is gone, or has nothing that is public, cannot answer.
            if let Ok(part) = part_of(store, audience, earlier.snapshot).await {
                earlier.snapshot = part.id;
                previous.push(earlier);
                parts.push(part);
            }
        }
        let manifest = (newest.bytes.len() <= INLINE_MANIFEST_BYTES_MAX).then(|| newest.bytes.to_vec());
        let head = Head { snapshot: newest.id, previous, manifest, ..head };
        let head_bytes = Bytes::from(encode_head(&head)?);
        parts.push(newest);
        let tables = parts.iter().map(|part| (part.id, part.tables().collect())).collect();
        let manifests = parts.into_iter().map(|part| (ReadKey::Manifest(part.id).to_string(), part.bytes)).collect();
        Ok(Self { head, head_bytes, manifests, tables })
    }
}

/// What of a snapshot an audience sees.
pub(crate) struct Part {
    pub(crate) id: SnapshotId,
    manifest: Manifest,
    bytes: Bytes,
}

impl Part {
    /// Segments and table numbers.
    pub(crate) fn tables(&self) -> impl Iterator<Item = (SegmentId, u16)> {
        segments_of(&self.manifest)
    }
}

/// A snapshot of a store, as an audience sees it.
pub(crate) async fn part_of(store: &Store, audience: Audience, snapshot: SnapshotId) -> Result<Part, Error> {
    let bytes = read_manifest(store, snapshot).await?;
    let manifest = decode_manifest(store, snapshot, &bytes)?;
    let (manifest, bytes) = match audience {
        Audience::Server => (manifest, bytes),
        Audience::Public => {
            let part = manifest.public_part();
            if part.tables.iter().all(|table| table.schema.views.is_empty()) {
                let place = store.place();
                return Err(Error::Refused(format!("no view in {place} is `audience: public`, and a browser may hold no other")));
            }
            let bytes = part.encode().ok_or_else(|| Error::Refused("the manifest is too large".to_owned()))?;
            (part, bytes)
        }
    };
    let bytes = Bytes::from(bytes);
    Ok(Part { id: Manifest::id_of(&bytes), manifest, bytes })
}

/// 32 hex digits of a value's BLAKE3.
pub(crate) fn digest_of(value: &[u8]) -> String {
    hex(blake3::hash(value).as_bytes())
}

fn hex(digest: &[u8; 32]) -> String {
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// A page's key from its text.
fn page_key(text: &str) -> Option<PageKey> {
    let mut parts = text.strip_prefix("p/")?.split('/');
    let (segment, table, bucket) = (parts.next()?, parts.next()?, parts.next()?);
    let key = PageKey::new(segment.parse().ok()?, table.parse().ok()?, bucket.parse().ok()?);
    // Each has one text.
    (key.to_string() == text).then_some(key)
}
