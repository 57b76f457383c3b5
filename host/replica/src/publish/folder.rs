//! Publishing to a directory replica: a folder or object-store prefix with the objects that one snapshot needs.

use mezze_core::{Manifest, PreviousSnapshot};

use super::{Contents, Hold, Progress, Stage};
use crate::layout::{manifest_key, tree_key};
use crate::origin::{decode_manifest, named_by, read_manifest, segment_keys, segments_of};
use crate::record::EpochRecord;
use crate::{Error, Origin, Store};

/// Copies what the epoch's snapshot needs.
pub(super) async fn copy(
    hold: &Hold<'_>,
    origin: &Origin,
    record: &EpochRecord,
    target: &Store,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Contents, Error> {
    let manifest = origin.manifest(record.snapshot).await?;
    let keys: Vec<String> = object_keys(&manifest).collect();
    let mut copied = Copied { hold, present: 0, written: 0, bytes: 0 };
    let mut shown = Progress { stage: Stage::Write, keys_done: 0, keys: keys.len() as u64 + 1, bytes_done: 0, bytes: 0 };
    for key in keys.into_iter().chain([manifest_key(record.snapshot)]) {
        progress(shown);
        copied.copy(origin.store(), target, &key).await?;
        shown.keys_done += 1;
        shown.bytes_done = copied.bytes;
    }
    let mut head = origin.head_of(record).await?;
    let mut previous = Vec::new();
    for candidate in head.previous {
        if is_complete(target, &candidate).await? {
            previous.push(candidate);
        }
    }
    head.previous = previous;
    let named = named_by(&head).collect();
    Ok(Contents { head, named, present: copied.present, written: copied.written, bytes: copied.bytes })
}

/// The objects of a snapshot's segments: their pages, and the hashes of those.
fn object_keys(manifest: &Manifest) -> impl Iterator<Item = String> {
    let trees = segments_of(manifest).map(|(segment, table)| tree_key(segment, table));
    segment_keys(manifest).chain(trees)
}

/// Whether the replica has all objects of an earlier snapshot.
async fn is_complete(target: &Store, snapshot: &PreviousSnapshot) -> Result<bool, Error> {
    if target.stat(&manifest_key(snapshot.snapshot)).await?.is_none() {
        return Ok(false);
    }
    let bytes = read_manifest(target, snapshot.snapshot).await?;
    let Ok(manifest) = decode_manifest(target, snapshot.snapshot, &bytes) else { return Ok(false) };
    for key in object_keys(&manifest) {
        if target.stat(&key).await?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

struct Copied<'a> {
    hold: &'a Hold<'a>,
    present: u64,
    written: u64,
    bytes: u64,
}

impl Copied<'_> {
    async fn copy(&mut self, from: &Store, to: &Store, key: &str) -> Result<(), Error> {
        let Some(source) = from.stat(key).await? else { return Err(Error::Missing { key: from.full_name(key) }) };
        let same_size = to.stat(key).await?.is_some_and(|found| found.size == source.size);
        if same_size && self.digest(from, key, source.size).await? == self.digest(to, key, source.size).await? {
            self.present += 1;
            return Ok(());
        }
        let mut hasher = blake3::Hasher::new();
        let mut object = to.begin(key)?;
        let mut at = 0;
        while at < source.size {
            let chunk = self.read_chunk(from, key, at, source.size).await?;
            hasher.update(&chunk);
            object.append(&chunk)?;
            at += chunk.len() as u64;
        }
        self.hold.check().await?;
        object.finish().await?;
        if self.digest(to, key, source.size).await? != hasher.finalize() {
            let detail = format!("read back, it is not what {} has", from.full_name(key));
            return Err(Error::Corrupt { key: to.full_name(key), detail });
        }
        self.written += 1;
        self.bytes += source.size;
        Ok(())
    }

    async fn digest(&self, store: &Store, key: &str, size: u64) -> Result<blake3::Hash, Error> {
        let mut hasher = blake3::Hasher::new();
        let mut at = 0;
        while at < size {
            let chunk = self.read_chunk(store, key, at, size).await?;
            hasher.update(&chunk);
            at += chunk.len() as u64;
        }
        Ok(hasher.finalize())
    }

    /// The next bytes of an object, at least one. A large object takes longer than a lease: it is kept with every chunk.
    async fn read_chunk(&self, store: &Store, key: &str, at: u64, size: u64) -> Result<bytes::Bytes, Error> {
        self.hold.check().await?;
        let chunk = store.read_range(key, at, CHUNK_BYTES.min(size - at)).await?;
        let chunk = chunk.ok_or_else(|| Error::Missing { key: store.full_name(key) })?;
        if chunk.is_empty() {
            let detail = format!("it ends at byte {at} of {size}");
            return Err(Error::Corrupt { key: store.full_name(key), detail });
        }
        Ok(chunk)
    }
}

const CHUNK_BYTES: u64 = 8 << 20;
