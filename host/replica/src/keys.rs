//! The keys of a replica, out of an origin: what a key-value store holds once a snapshot is in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use mezze_core::{
    Audience, HEAD_KEY, Head, INLINE_MANIFEST_BYTES_MAX, Manifest, PageKey, ReadKey, SegmentId, SnapshotId, Timestamp,
};

use crate::origin::{decode_manifest, read_manifest};
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

/// What the newest head names.
#[derive(Debug, Default)]
struct Shown {
    epoch: u64,
    issued_at: Timestamp,
    head: Bytes,
    /// Encoded manifests by the keys' text.
    manifests: BTreeMap<String, Bytes>,
    /// Segments and table numbers that the manifests name.
    tables: BTreeSet<(SegmentId, u16)>,
}

impl ReplicaKeys {
    /// The keys of the origin, or folder replica, at `store`, for hosts of this audience.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`] where there is no head yet, [`Error::Refused`] where nothing of it is public and only that is
    /// wanted; otherwise as for [`ReplicaKeys::refresh`].
    pub async fn open(store: Store, audience: Audience) -> Result<Self, Error> {
        let keys = Self { store, audience, segments: Segments::default(), shown: RwLock::default() };
        if !keys.refresh().await? {
            return Err(Error::NoSnapshot { place: keys.store.place() });
        }
        Ok(keys)
    }

    /// The epoch of the head that was read last.
    pub fn epoch(&self) -> u64 {
        self.shown().epoch
    }

    /// When that head was made.
    pub fn issued_at(&self) -> Timestamp {
        self.shown().issued_at
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
        let mut shown = Shown { epoch: head.epoch, issued_at: head.issued_at, ..Shown::default() };
        let (snapshot, newest) = self.show(head.snapshot, &mut shown).await?;
        let mut previous = Vec::with_capacity(head.previous.len());
        for mut earlier in head.previous {
            // One that is gone, or has nothing that is public, cannot answer.
            if let Ok((snapshot, _)) = self.show(earlier.snapshot, &mut shown).await {
                earlier.snapshot = snapshot;
                previous.push(earlier);
            }
        }
        let manifest = (newest.len() <= INLINE_MANIFEST_BYTES_MAX).then(|| newest.to_vec());
        let encoded = Head { snapshot, previous, manifest, ..head }.encode();
        shown.head = encoded.ok_or_else(|| Error::Refused("the manifest is too large for a head".to_owned()))?.into();
        *self.shown.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(shown);
        Ok(true)
    }

    /// Adds a snapshot as this audience sees it; returns its id and manifest.
    async fn show(&self, snapshot: SnapshotId, shown: &mut Shown) -> Result<(SnapshotId, Bytes), Error> {
        let bytes = read_manifest(&self.store, snapshot).await?;
        let manifest = decode_manifest(&self.store, snapshot, &bytes)?;
        let (manifest, bytes) = match self.audience {
            Audience::Server => (manifest, bytes),
            Audience::Public => {
                let part = manifest.public_part();
                if part.tables.iter().all(|table| table.schema.views.is_empty()) {
                    let place = self.store.place();
                    return Err(Error::Refused(format!(
                        "no view in {place} is `audience: public`, and a browser may hold no other"
                    )));
                }
                let bytes = part.encode().ok_or_else(|| Error::Refused("the manifest is too large".to_owned()))?;
                (part, bytes)
            }
        };
        let bytes = Bytes::from(bytes);
        let id = Manifest::id_of(&bytes);
        for (table, number) in manifest.tables.iter().zip(0_u16..) {
            shown.tables.extend(table.base.iter().chain(&table.delta).map(|segment| (segment.id, number)));
        }
        shown.manifests.insert(ReadKey::Manifest(id).to_string(), bytes.clone());
        Ok((id, bytes))
    }

    /// The value of a key as of the last refresh; `None` where there is no such key.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Format`], [`Error::Missing`] or [`Error::Unavailable`] where the origin is damaged or fails.
    pub async fn read(&self, key: &str) -> Result<Option<Bytes>, Error> {
        if key == HEAD_KEY {
            return Ok(Some(self.shown().head.clone()));
        }
        if let Some(manifest) = self.shown().manifests.get(key) {
            return Ok(Some(manifest.clone()));
        }
        let Some(page) = page_key(key) else { return Ok(None) };
        if !self.shown().tables.contains(&(page.segment, page.table)) {
            return Ok(None);
        }
        if page.bucket >= self.segments.bucket_count(&self.store, page.segment, page.table).await? {
            return Ok(None);
        }
        let (bytes, _) = self.segments.read(&self.store, page).await?;
        Ok(Some(bytes.into()))
    }

    /// All keys as of the last refresh, in the order in which they are to be written: the head last.
    ///
    /// # Errors
    /// As for [`ReplicaKeys::read`].
    pub async fn keys(&self) -> Result<Vec<String>, Error> {
        let shown = self.shown();
        let mut keys = Vec::new();
        for (segment, table) in &shown.tables {
            let (segment, table) = (*segment, *table);
            let bucket_count = self.segments.bucket_count(&self.store, segment, table).await?;
            keys.extend((0..bucket_count).map(|bucket| PageKey::new(segment, table, bucket).to_string()));
        }
        keys.extend(shown.manifests.keys().cloned());
        keys.push(HEAD_KEY.to_owned());
        Ok(keys)
    }

    fn shown(&self) -> Arc<Shown> {
        Arc::clone(&self.shown.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A page's key from its text.
fn page_key(text: &str) -> Option<PageKey> {
    let mut parts = text.strip_prefix("p/")?.split('/');
    let (segment, table, bucket) = (parts.next()?, parts.next()?, parts.next()?);
    let key = PageKey::new(segment.parse().ok()?, table.parse().ok()?, bucket.parse().ok()?);
    // Each has one text.
    (key.to_string() == text).then_some(key)
}
