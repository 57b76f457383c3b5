//! Publishing to a directory replica: a folder or object-store prefix with the objects that one snapshot needs.

use mezze_core::{HEAD_KEY, Head, PreviousSnapshot, Span, Timestamp};

use crate::layout::manifest_key;
use crate::origin::{decode_manifest, encode_head, read_manifest, segment_keys};
use crate::record::PublishRecord;
use crate::{Error, Lease, Origin, Store};

/// Who publishes, where to and under which rules.
#[derive(Clone, Copy, Debug)]
pub struct Publish<'a> {
    /// The replica's name: that of its lease and record.
    pub replica: &'a str,
    /// Where its objects are.
    pub target: &'a Store,
    /// Who publishes, for others who find the lease taken: a host and process number.
    pub holder: &'a str,
    /// How long the lease runs if it is not renewed; it is renewed before each large object.
    pub lease: Span,
}

/// What a publish did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublishReport {
    /// What the replica serves now.
    pub record: PublishRecord,
    /// The epoch that it served before, `None` if it had none.
    pub epoch_before: Option<u64>,
    /// Objects that were there already, and are what they should be.
    pub objects_present: usize,
    /// Objects that were written.
    pub objects_written: usize,
    /// Bytes of the objects that were written.
    pub bytes_written: u64,
}

impl Publish<'_> {
    /// Makes the replica serve the origin's newest epoch.
    ///
    /// Only objects that are missing or damaged are written. Each is read back and compared before the head is replaced, which is
    /// the last write to the replica. Ended at any point, the replica serves what it served, and the next publish goes on.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`] before the first epoch, [`Error::Held`] or [`Error::Conflict`] while someone else publishes,
    /// [`Error::Refused`] where the replica is ahead of the origin or belongs to another, [`Error::Corrupt`] where what is read
    /// back is not what was written.
    pub async fn run(&self, origin: &Origin, clock: &(dyn Fn() -> Timestamp + Sync)) -> Result<PublishReport, Error> {
        let mut lease = Lease::take(origin, self.replica, self.holder, clock(), self.lease).await?;
        let result = self.run_under(&mut lease, origin, clock).await;
        // A lease that cannot be given back ends by itself; what was done counts.
        let released = lease.release().await;
        result.and_then(|report| released.map(|()| report))
    }

    async fn run_under(
        &self,
        lease: &mut Lease,
        origin: &Origin,
        clock: &(dyn Fn() -> Timestamp + Sync),
    ) -> Result<PublishReport, Error> {
        let latest = origin.require_latest().await?;
        let served = self.served().await?;
        if let Some(head) = &served {
            let foreign = head.epoch == latest.epoch && head.snapshot != latest.snapshot;
            if foreign || head.epoch > latest.epoch {
                return Err(Error::Refused(format!(
                    "replica {} at {} serves epoch {} (snapshot {}), the newest of {} is {} (snapshot {}): it belongs to another origin",
                    self.replica,
                    self.target.place(),
                    head.epoch,
                    head.snapshot,
                    origin.store().place(),
                    latest.epoch,
                    latest.snapshot,
                )));
            }
        }
        let manifest = origin.manifest(latest.snapshot).await?;
        let mut copied = Copied::default();
        for key in segment_keys(&manifest) {
            lease.renew(clock(), self.lease).await?;
            copied.copy(origin.store(), self.target, &key).await?;
        }
        copied.copy(origin.store(), self.target, &manifest_key(latest.snapshot)).await?;

        let mut head = origin.head_of(&latest).await?;
        let mut previous = Vec::new();
        for candidate in head.previous {
            if self.is_complete(&candidate).await? {
                previous.push(candidate);
            }
        }
        head.previous = previous;
        lease.check(clock()).await?;
        if served.as_ref() != Some(&head) {
            self.target.replace(HEAD_KEY, encode_head(&head)?).await?;
        }
        let mut snapshots = vec![head.snapshot];
        snapshots.extend(head.previous.iter().map(|previous| previous.snapshot));
        let record = PublishRecord {
            replica: self.replica.to_owned(),
            place: self.target.place(),
            epoch: head.epoch,
            snapshots,
            published_at: clock(),
            fence: lease.fence(),
        };
        origin.write_publish_record(&record).await?;
        Ok(PublishReport {
            record,
            epoch_before: served.map(|head| head.epoch),
            objects_present: copied.present,
            objects_written: copied.written,
            bytes_written: copied.bytes,
        })
    }

    /// The head that the replica serves. A damaged one is as none: it will be replaced.
    async fn served(&self) -> Result<Option<Head>, Error> {
        Ok(self.target.read(HEAD_KEY).await?.and_then(|bytes| Head::decode(&bytes).ok()))
    }

    /// Whether the replica has all objects of an earlier snapshot.
    async fn is_complete(&self, snapshot: &PreviousSnapshot) -> Result<bool, Error> {
        if self.target.stat(&manifest_key(snapshot.snapshot)).await?.is_none() {
            return Ok(false);
        }
        let bytes = read_manifest(self.target, snapshot.snapshot).await?;
        let Ok(manifest) = decode_manifest(self.target, snapshot.snapshot, &bytes) else { return Ok(false) };
        for key in segment_keys(&manifest) {
            if self.target.stat(&key).await?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[derive(Default)]
struct Copied {
    present: usize,
    written: usize,
    bytes: u64,
}

impl Copied {
    async fn copy(&mut self, from: &Store, to: &Store, key: &str) -> Result<(), Error> {
        let Some(source) = from.stat(key).await? else { return Err(Error::Missing { key: from.full_name(key) }) };
        let same_size = to.stat(key).await?.is_some_and(|found| found.size == source.size);
        if same_size && digest(from, key, source.size).await? == digest(to, key, source.size).await? {
            self.present += 1;
            return Ok(());
        }
        let mut hasher = blake3::Hasher::new();
        let mut object = to.begin(key)?;
        let mut at = 0;
        while at < source.size {
            let chunk = read_chunk(from, key, at, source.size).await?;
            hasher.update(&chunk);
            object.append(&chunk)?;
            at += chunk.len() as u64;
        }
        object.finish().await?;
        if digest(to, key, source.size).await? != hasher.finalize() {
            let detail = format!("read back, it is not what {} has", from.full_name(key));
            return Err(Error::Corrupt { key: to.full_name(key), detail });
        }
        self.written += 1;
        self.bytes += source.size;
        Ok(())
    }
}

async fn digest(store: &Store, key: &str, size: u64) -> Result<blake3::Hash, Error> {
    let mut hasher = blake3::Hasher::new();
    let mut at = 0;
    while at < size {
        let chunk = read_chunk(store, key, at, size).await?;
        hasher.update(&chunk);
        at += chunk.len() as u64;
    }
    Ok(hasher.finalize())
}

/// The next bytes of an object, at least one.
async fn read_chunk(store: &Store, key: &str, at: u64, size: u64) -> Result<bytes::Bytes, Error> {
    let chunk = store.read_range(key, at, CHUNK_BYTES.min(size - at)).await?;
    let chunk = chunk.ok_or_else(|| Error::Missing { key: store.full_name(key) })?;
    if chunk.is_empty() {
        let detail = format!("it ends at byte {at} of {size}");
        return Err(Error::Corrupt { key: store.full_name(key), detail });
    }
    Ok(chunk)
}

const CHUNK_BYTES: u64 = 8 << 20;
