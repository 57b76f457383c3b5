//! The origin: where snapshots are made and epochs are given out.

use mezze_core::{
    HEAD_KEY, Head, INLINE_MANIFEST_BYTES_MAX, Manifest, PREVIOUS_MAX, PreviousSnapshot, SegmentId, SnapshotId, Timestamp,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::layout::{
    CREATED, EPOCHS, FORGETS, MANIFESTS, REPLICAS, SEGMENTS, STATES, epoch_key, forget_key, manifest_key, number_of, pin_key,
    record_key, segment_key, state_key,
};
use crate::local::SCRATCH_FOLDER;
use crate::record::{EpochRecord, ForgetRecord, Pin, PublishRecord, Reason, seal, unseal};
use crate::{Error, FolderLock, Store};

/// The place that holds every segment and manifest, decides which epoch names which snapshot, and keeps what builds and
/// publishes need to know. Replicas are copies of parts of it and decide nothing.
///
/// The order of writes is what keeps it whole: segments, manifest, build state, then the epoch's record (created only if no
/// one else did), then the head. Whatever is written before the epoch's record is named by nothing, so a run that ends
/// early leaves the previous snapshot as it was; a head that was not replaced is replaced by whoever comes next.
#[derive(Clone, Debug)]
pub struct Origin {
    store: Store,
}

/// An epoch to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewEpoch {
    /// The newest epoch that the maker knew, `None` if there was none: the new one is the next.
    pub after: Option<u64>,
    /// The epoch whose content it goes on from.
    pub parent: Option<u64>,
    /// The snapshot; its manifest and segments are written already.
    pub snapshot: SnapshotId,
    /// What makes it.
    pub reason: Reason,
    /// The time now.
    pub issued_at: Timestamp,
}

impl Origin {
    /// The origin in this place.
    pub const fn new(store: Store) -> Self {
        Self { store }
    }

    /// The place.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// The newest epoch that is not for one replica alone, or `None` before the first.
    ///
    /// # Errors
    /// [`Error::Corrupt`] or [`Error::Unavailable`].
    pub async fn latest(&self) -> Result<Option<EpochRecord>, Error> {
        for number in self.epoch_numbers().await?.into_iter().rev() {
            // One that is gone since was old.
            if let Some(record) = self.epoch(number).await?.filter(|record| record.replica.is_none()) {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// The newest epoch.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`] before the first, and the errors of [`Origin::latest`].
    pub async fn require_latest(&self) -> Result<EpochRecord, Error> {
        self.latest().await?.ok_or_else(|| Error::NoSnapshot { place: self.store.place() })
    }

    /// The record of an epoch.
    ///
    /// # Errors
    /// [`Error::Refused`] where there is none, and the errors of [`Origin::epoch`].
    pub async fn require_epoch(&self, epoch: u64) -> Result<EpochRecord, Error> {
        let none = || Error::Refused(format!("{} has no epoch {epoch} any more", self.store.place()));
        self.epoch(epoch).await?.ok_or_else(none)
    }

    /// The epochs that still have a record, oldest first.
    ///
    /// # Errors
    /// [`Error::Corrupt`] or [`Error::Unavailable`].
    pub async fn epochs(&self) -> Result<Vec<EpochRecord>, Error> {
        let mut records = Vec::new();
        for number in self.epoch_numbers().await? {
            records.extend(self.epoch(number).await?);
        }
        Ok(records)
    }

    /// The record of an epoch, or `None` if there is none (any more).
    ///
    /// # Errors
    /// [`Error::Corrupt`] or [`Error::Unavailable`].
    pub async fn epoch(&self, epoch: u64) -> Result<Option<EpochRecord>, Error> {
        let key = epoch_key(epoch);
        let Some(bytes) = self.store.read(&key).await? else { return Ok(None) };
        let record: EpochRecord = unseal(&self.store.full_name(&key), &bytes)?;
        if record.epoch != epoch {
            let detail = format!("it says epoch {}, expected {epoch}", record.epoch);
            return Err(Error::Corrupt { key: self.store.full_name(&key), detail });
        }
        Ok(Some(record))
    }

    /// Gives the next epoch to a snapshot whose objects are all written, and makes the head name the newest epoch.
    ///
    /// # Errors
    /// [`Error::Conflict`] where someone else took the epoch: then nothing was changed.
    pub async fn commit(&self, new: NewEpoch) -> Result<EpochRecord, Error> {
        let mut epoch = new.after.map_or(1, |after| after.saturating_add(1));
        loop {
            if let Some(record) = self.create_epoch(epoch, new, None).await? {
                self.refresh_head().await?;
                return Ok(record);
            }
            // Epochs of single replicas do not count: what they hold is not what is current.
            if self.epoch(epoch).await?.is_none_or(|taken| taken.replica.is_none()) {
                return Err(Error::Conflict { what: format!("epoch {epoch} of {}", self.store.place()) });
            }
            epoch = epoch.saturating_add(1);
        }
    }

    /// Writes an epoch's record, or returns `None` where the epoch is taken.
    async fn create_epoch(&self, epoch: u64, new: NewEpoch, replica: Option<&str>) -> Result<Option<EpochRecord>, Error> {
        let NewEpoch { parent, snapshot, reason, issued_at, .. } = new;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let replica = replica.map(str::to_owned);
        let record = EpochRecord { epoch, parent, snapshot, reason, replica, issued_at, version };
        let is_ours = self.store.create(&epoch_key(epoch), seal(&record)?).await?
            // A service's reply may be lost, and the call made again finds what it wrote the first time.
            || self.epoch(epoch).await?.is_some_and(|found| found == record);
        Ok(is_ours.then_some(record))
    }

    /// Gives the next epoch to one replica alone, with the content of another epoch. The origin's head stays.
    async fn create_own_epoch(
        &self,
        replica: &str,
        content: &EpochRecord,
        reason: Reason,
        now: Timestamp,
    ) -> Result<EpochRecord, Error> {
        loop {
            let after = self.epoch_numbers().await?.last().copied();
            let new = NewEpoch { after, parent: Some(content.epoch), snapshot: content.snapshot, reason, issued_at: now };
            let epoch = after.map_or(1, |after| after.saturating_add(1));
            // Someone else may take it, and then the one after it is as good.
            if let Some(record) = self.create_epoch(epoch, new, Some(replica)).await? {
                return Ok(record);
            }
        }
    }

    /// Gives a replica that has an epoch of its own a later one, with the content of `latest`.
    pub(crate) async fn commit_for(&self, replica: &str, latest: &EpochRecord, now: Timestamp) -> Result<EpochRecord, Error> {
        self.create_own_epoch(replica, latest, Reason::Resume, now).await
    }

    /// Gives one replica an epoch with earlier content, and pins it there. The replica is to be published to next. `to` is an epoch;
    /// `None` goes back to the content before what it serves.
    ///
    /// # Errors
    /// As for [`Origin::rollback`], and [`Error::Refused`] where nothing was published to it.
    pub async fn rollback_replica(
        &self,
        replica: &str,
        to: Option<u64>,
        holder: &str,
        now: Timestamp,
    ) -> Result<EpochRecord, Error> {
        let served = self.publish_record(replica).await?;
        let served = served.ok_or_else(|| Error::Refused(format!("nothing was published to replica {replica} yet")))?;
        let served = self.require_epoch(served.epoch).await?;
        let target = self.rollback_target(&served, to).await?;
        let record = self.create_own_epoch(replica, &target, Reason::Rollback, now).await?;
        self.set_pin(replica, Some(Pin { epoch: record.epoch, pinned_at: now, holder: holder.to_owned() })).await?;
        Ok(record)
    }

    /// What a replica is pinned to.
    ///
    /// # Errors
    /// [`Error::Corrupt`] or [`Error::Unavailable`].
    pub async fn pin(&self, replica: &str) -> Result<Option<Pin>, Error> {
        let key = pin_key(replica);
        let Some(bytes) = self.store.read(&key).await? else { return Ok(None) };
        unseal(&self.store.full_name(&key), &bytes).map(Some)
    }

    /// Makes a replica stay at an epoch, or follow the origin again.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the place fails.
    pub async fn set_pin(&self, replica: &str, pin: Option<Pin>) -> Result<(), Error> {
        match pin {
            Some(pin) => self.store.replace(&pin_key(replica), seal(&pin)?).await,
            None => self.store.delete(&pin_key(replica)).await,
        }
    }

    /// What a replica was last given, `None` if nothing was.
    ///
    /// # Errors
    /// [`Error::Corrupt`] or [`Error::Unavailable`].
    pub async fn publish_record(&self, replica: &str) -> Result<Option<PublishRecord>, Error> {
        let key = record_key(replica);
        let Some(bytes) = self.store.read(&key).await? else { return Ok(None) };
        unseal(&self.store.full_name(&key), &bytes).map(Some)
    }

    /// Makes the head name the newest epoch, if it does not: after a run that ended between the two. Never goes back.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Missing`] or [`Error::Unavailable`].
    pub async fn refresh_head(&self) -> Result<Option<Head>, Error> {
        let _lock = FolderLock::head(&self.store)?;
        let Some(mut latest) = self.latest().await? else { return Ok(None) };
        loop {
            let current = self.store.read(HEAD_KEY).await?.and_then(|bytes| Head::decode(&bytes).ok());
            if let Some(head) = current.filter(|head| head.epoch == latest.epoch && head.snapshot == latest.snapshot) {
                return Ok(Some(head));
            }
            let head = self.head_of(&latest).await?;
            self.store.replace(HEAD_KEY, encode_head(&head)?).await?;
            // Places without locks: someone with a later epoch may have written before us.
            let newest = self.require_latest().await?;
            if newest.epoch == latest.epoch {
                return Ok(Some(head));
            }
            latest = newest;
        }
    }

    /// The head that names this epoch, with the snapshots that readers may fall back to.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Missing`] or [`Error::Unavailable`].
    pub async fn head_of(&self, record: &EpochRecord) -> Result<Head, Error> {
        let mut previous: Vec<PreviousSnapshot> = Vec::new();
        let mut at = record.clone();
        while previous.len() < PREVIOUS_MAX && at.reason != Reason::Forget {
            let Some(parent) = at.parent else { break };
            let Some(parent) = self.epoch(parent).await? else { break };
            let known = parent.snapshot == record.snapshot || previous.iter().any(|known| known.snapshot == parent.snapshot);
            if !known {
                // A prune may have removed it.
                if self.store.stat(&manifest_key(parent.snapshot)).await?.is_none() {
                    break;
                }
                previous.push(PreviousSnapshot { epoch: parent.epoch, issued_at: parent.issued_at, snapshot: parent.snapshot });
            }
            at = parent;
        }
        let manifest = self.manifest_bytes(record.snapshot).await?;
        let manifest = (manifest.len() <= INLINE_MANIFEST_BYTES_MAX).then_some(manifest);
        Ok(Head { epoch: record.epoch, issued_at: record.issued_at, snapshot: record.snapshot, previous, manifest })
    }

    /// Writes a manifest.
    ///
    /// # Errors
    /// [`Error::Refused`] where it is too large, [`Error::Unavailable`] where the place fails.
    pub async fn write_manifest(&self, manifest: &Manifest) -> Result<SnapshotId, Error> {
        let bytes = manifest
            .encode()
            .ok_or_else(|| Error::Refused("the manifest has a name or a list of more than 65535 bytes or items".to_owned()))?;
        let snapshot = Manifest::id_of(&bytes);
        let key = manifest_key(snapshot);
        if self.store.read(&key).await?.is_none_or(|found| found != bytes) {
            self.store.replace(&key, bytes).await?;
        }
        Ok(snapshot)
    }

    /// The manifest of a snapshot.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Corrupt`], [`Error::Format`] or [`Error::Unavailable`].
    pub async fn manifest(&self, snapshot: SnapshotId) -> Result<Manifest, Error> {
        let bytes = self.manifest_bytes(snapshot).await?;
        decode_manifest(&self.store, snapshot, &bytes)
    }

    async fn manifest_bytes(&self, snapshot: SnapshotId) -> Result<Vec<u8>, Error> {
        read_manifest(&self.store, snapshot).await
    }

    /// What the builder wrote beside a snapshot, or `None` if it wrote nothing.
    ///
    /// # Errors
    /// [`Error::Corrupt`] or [`Error::Unavailable`].
    pub async fn state<T: DeserializeOwned>(&self, snapshot: SnapshotId) -> Result<Option<T>, Error> {
        let key = state_key(snapshot);
        let Some(bytes) = self.store.read(&key).await? else { return Ok(None) };
        unseal(&self.store.full_name(&key), &bytes).map(Some)
    }

    /// Writes what the builder needs to know when it goes on from this snapshot.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the place fails.
    pub async fn write_state(&self, snapshot: SnapshotId, state: &(impl Serialize + Sync)) -> Result<(), Error> {
        self.store.replace(&state_key(snapshot), seal(state)?).await
    }

    /// The publish records of the replicas that were published to, in order of name.
    ///
    /// # Errors
    /// [`Error::Corrupt`] or [`Error::Unavailable`].
    pub async fn publish_records(&self) -> Result<Vec<PublishRecord>, Error> {
        let mut records = Vec::new();
        for object in self.store.list(REPLICAS).await? {
            if object.key.ends_with("/record") {
                let bytes = self.store.require(&object.key).await?;
                records.push(unseal(&self.store.full_name(&object.key), &bytes)?);
            }
        }
        Ok(records)
    }

    /// The segments that the origin holds of these tables, named by a snapshot or not.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the place fails.
    pub async fn segments(&self, tables: &[u16]) -> Result<Vec<SegmentId>, Error> {
        let segment = |key: &str| {
            let (id, table) = key.strip_prefix(SEGMENTS)?.strip_prefix('/')?.split_once('/')?;
            tables.contains(&table.parse().ok()?).then(|| id.parse().ok())?
        };
        let mut segments: Vec<SegmentId> =
            self.store.list(SEGMENTS).await?.iter().filter_map(|object| segment(&object.key)).collect();
        segments.dedup();
        Ok(segments)
    }

    /// Writes what a replica was given.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the place fails.
    pub(crate) async fn write_publish_record(&self, record: &PublishRecord) -> Result<(), Error> {
        self.store.replace(&record_key(&record.replica), seal(record)?).await
    }

    /// Writes what a removal of entities leaves to be done.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the place fails.
    pub async fn write_forget_record(&self, record: &ForgetRecord) -> Result<(), Error> {
        self.store.replace(&forget_key(record.epoch), seal(record)?).await
    }

    /// The removals of entities whose rows may still lie in some segment.
    ///
    /// # Errors
    /// [`Error::Corrupt`] or [`Error::Unavailable`].
    pub async fn forget_records(&self) -> Result<Vec<ForgetRecord>, Error> {
        let mut records = Vec::new();
        for object in self.store.list(FORGETS).await? {
            let bytes = self.store.require(&object.key).await?;
            records.push(unseal(&self.store.full_name(&object.key), &bytes)?);
        }
        Ok(records)
    }

    /// Removes everything that an origin is made of: the head first, so that no reader finds half of it. Returns how many
    /// objects that were. Other objects in the place stay, and so do replicas.
    ///
    /// # Errors
    /// [`Error::Held`] while a snapshot is built, [`Error::Unavailable`] where the place fails.
    pub async fn teardown(&self) -> Result<usize, Error> {
        let lock = FolderLock::prune(&self.store)?;
        let mut removed = 0;
        if self.store.stat(HEAD_KEY).await?.is_some() {
            self.store.delete(HEAD_KEY).await?;
            removed += 1;
        }
        for folder in [EPOCHS, MANIFESTS, SEGMENTS, CREATED, STATES, FORGETS, REPLICAS, SCRATCH_FOLDER] {
            for object in self.store.list(folder).await? {
                self.store.delete(&object.key).await?;
                removed += 1;
            }
        }
        lock.remove(&self.store)?;
        Ok(removed)
    }

    /// Makes an earlier snapshot current again, under a new epoch. `to` is an epoch; `None` goes back to the content before
    /// the newest.
    ///
    /// # Errors
    /// [`Error::Refused`] where there is no such epoch, its objects were pruned, or entities were forgotten since;
    /// [`Error::Conflict`] where someone else took the next epoch.
    pub async fn rollback(&self, to: Option<u64>, now: Timestamp) -> Result<EpochRecord, Error> {
        let _lock = FolderLock::build(&self.store)?;
        let latest = self.require_latest().await?;
        let target = self.rollback_target(&latest, to).await?;
        self.commit(NewEpoch {
            after: Some(latest.epoch),
            parent: Some(target.epoch),
            snapshot: target.snapshot,
            reason: Reason::Rollback,
            issued_at: now,
        })
        .await
    }

    /// The epoch whose content is to replace that of `served`; all of its objects are there.
    async fn rollback_target(&self, served: &EpochRecord, to: Option<u64>) -> Result<EpochRecord, Error> {
        let target = match to {
            Some(epoch) => epoch,
            None => self.before(served).await?,
        };
        let known = self.epoch_numbers().await?;
        let Some(target) = self.epoch(target).await? else {
            let known = known.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
            return Err(Error::Refused(format!("there is no epoch {target} to go back to; there are {known}")));
        };
        if target.snapshot == served.snapshot {
            return Err(Error::Refused(format!(
                "epoch {} has the snapshot that is served now: {}",
                target.epoch, target.snapshot
            )));
        }
        for number in known.into_iter().filter(|number| *number > target.epoch) {
            if self.epoch(number).await?.is_some_and(|record| record.reason == Reason::Forget) {
                return Err(Error::Refused(format!(
                    "epoch {} would serve entities again that were forgotten in epoch {number}; materialize instead",
                    target.epoch
                )));
            }
        }
        self.check_complete(&target).await?;
        Ok(target)
    }

    /// The epoch of the content before this one's.
    async fn before(&self, record: &EpochRecord) -> Result<u64, Error> {
        let mut at = record.clone();
        while let Some(parent) = at.parent {
            match self.epoch(parent).await? {
                Some(found) if found.snapshot != record.snapshot => return Ok(found.epoch),
                Some(found) => at = found,
                None => break,
            }
        }
        Err(Error::Refused(format!("there is no snapshot before that of epoch {}", record.epoch)))
    }

    /// Checks that every object that an epoch needs is there.
    async fn check_complete(&self, record: &EpochRecord) -> Result<(), Error> {
        let pruned = |key: String| {
            Error::Refused(format!("epoch {} cannot be served any more: {} was pruned", record.epoch, self.store.full_name(&key)))
        };
        let key = manifest_key(record.snapshot);
        if self.store.stat(&key).await?.is_none() {
            return Err(pruned(key));
        }
        for key in segment_keys(&self.manifest(record.snapshot).await?) {
            if self.store.stat(&key).await?.is_none() {
                return Err(pruned(key));
            }
        }
        Ok(())
    }

    async fn epoch_numbers(&self) -> Result<Vec<u64>, Error> {
        let mut numbers: Vec<u64> = self.store.list(EPOCHS).await?.iter().filter_map(|object| number_of(&object.key)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }
}

/// The segments that a snapshot needs, each with the number of its table.
pub(crate) fn segments_of(manifest: &Manifest) -> impl Iterator<Item = (SegmentId, u16)> {
    let tables = manifest.tables.iter().zip(0_u16..);
    tables.flat_map(|(table, number)| table.base.iter().chain(&table.delta).map(move |segment| (segment.id, number)))
}

/// The keys of the segment files that a snapshot needs.
pub(crate) fn segment_keys(manifest: &Manifest) -> impl Iterator<Item = String> {
    segments_of(manifest).map(|(segment, table)| segment_key(segment, table))
}

/// The snapshots that a head names, in its order.
pub(crate) fn named_by(head: &Head) -> impl Iterator<Item = SnapshotId> {
    std::iter::once(head.snapshot).chain(head.previous.iter().map(|previous| previous.snapshot))
}

/// The epochs that a head names, in its order.
pub(crate) fn epochs_of(head: &Head) -> impl Iterator<Item = u64> {
    std::iter::once(head.epoch).chain(head.previous.iter().map(|previous| previous.epoch))
}

pub(crate) fn encode_head(head: &Head) -> Result<Vec<u8>, Error> {
    head.encode().ok_or_else(|| Error::Refused("the manifest has 4 GiB or more".to_owned()))
}

pub(crate) async fn read_manifest(store: &Store, snapshot: SnapshotId) -> Result<Vec<u8>, Error> {
    store.require(&manifest_key(snapshot)).await.map(Into::into)
}

pub(crate) fn decode_manifest(store: &Store, snapshot: SnapshotId, bytes: &[u8]) -> Result<Manifest, Error> {
    let key = store.full_name(&manifest_key(snapshot));
    let found = Manifest::id_of(bytes);
    if found != snapshot {
        return Err(Error::Corrupt { key, detail: format!("its content has the id {found}") });
    }
    Manifest::decode(bytes).map_err(|source| Error::Format { key, source })
}
