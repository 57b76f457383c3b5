//! Removing what nobody needs.

use std::collections::BTreeSet;

use mezze_core::{Head, Manifest, SegmentId, SnapshotId, Span, Timestamp};

use crate::layout::{CREATED, MANIFESTS, SEGMENTS, STATES, epoch_key, forget_key, manifest_key};
use crate::local::SCRATCH_FOLDER;
use crate::origin::{decode_manifest, read_manifest, segment_keys};
use crate::reader::read_head;
use crate::record::Reason;
use crate::{Error, FolderLock, Lease, ObjectStat, Origin, Store};

/// What to keep, and whether to remove the rest.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Prune<'a> {
    /// Newest epochs of the origin to keep, at least the newest.
    pub epochs_kept: usize,
    /// The time now.
    pub now: Timestamp,
    /// Whether to remove, or only to say what would be removed.
    pub mode: PruneMode,
    /// The directory replicas: only what their heads do not name is removed from them.
    pub replicas: &'a [(String, Store)],
    /// Who prunes, for others who find a replica's lease taken.
    pub holder: &'a str,
}

/// Whether a prune removes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PruneMode {
    /// Only say what would be removed.
    DryRun,
    /// Remove.
    #[default]
    Remove,
}

/// What a prune removed, or would.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PruneReport {
    /// The objects by place, each with its size.
    pub removed: Vec<(String, ObjectStat)>,
    /// Bytes of all of them.
    pub bytes_removed: u64,
    /// Bytes of the segments that stay in the origin.
    pub segment_bytes_kept: u64,
    /// What became of the removals of entities.
    pub forgets: Vec<ForgetStatus>,
}

/// Where rows of forgotten entities still lie.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ForgetStatus {
    /// The epoch that no longer served them.
    pub epoch: u64,
    /// Entities removed then.
    pub entity_count: u64,
    /// The segments that may still hold their rows, by place. None: they are gone from every place.
    pub remaining: Vec<(String, SegmentId)>,
}

impl<'a> Prune<'a> {
    /// A prune that keeps three epochs.
    pub const fn new(now: Timestamp, holder: &'a str) -> Self {
        Self { epochs_kept: EPOCHS_KEPT, now, mode: PruneMode::Remove, replicas: &[], holder }
    }

    /// Removes from the origin what its newest epochs, its head and the replicas do not need, and from each directory
    /// replica what its head does not name.
    ///
    /// # Errors
    /// [`Error::Held`] while a snapshot is built or a replica is published to, and the errors of reading and removing.
    pub async fn run(&self, origin: &Origin) -> Result<PruneReport, Error> {
        let _lock = FolderLock::prune(origin.store())?;
        let mut report = PruneReport::default();
        let mut stored: Vec<(String, SegmentId)> = Vec::new();
        self.prune_origin(origin, &mut report, &mut stored).await?;
        for (name, store) in self.replicas {
            // The length only matters if this run is killed.
            let lease = Lease::take(origin, name, self.holder, self.now, Span::from_seconds(LEASE_SECONDS)).await?;
            let pruned = self.prune_replica(store, &mut report, &mut stored).await;
            lease.release().await?;
            pruned?;
        }
        self.follow_forgets(origin, &mut report, &stored).await?;
        report.bytes_removed = report.removed.iter().map(|(_, object)| object.size).sum();
        Ok(report)
    }

    async fn prune_origin(
        &self,
        origin: &Origin,
        report: &mut PruneReport,
        stored: &mut Vec<(String, SegmentId)>,
    ) -> Result<(), Error> {
        let store = origin.store();
        let mut epochs = origin.epochs().await?;
        let Some(latest) = epochs.last().cloned() else { return Ok(()) };
        // What is older than a removal of entities is not served or gone back to.
        let forget = epochs.iter().rposition(|record| record.reason == Reason::Forget).unwrap_or(0);
        let first_kept = epochs.len().saturating_sub(self.epochs_kept.max(1)).max(forget);
        let kept_epochs = epochs.split_off(first_kept);
        let mut kept: BTreeSet<SnapshotId> = kept_epochs.iter().map(|record| record.snapshot).collect();
        kept.extend(named_by_head(&origin.head_of(&latest).await?));
        if let Some(head) = read_head(store).await? {
            kept.extend(named_by_head(&head));
        }
        for record in origin.publish_records().await? {
            kept.extend(record.snapshots);
        }
        for record in &epochs {
            // Only the oldest go, so that what happened between two epochs that stay is known.
            let key = epoch_key(record.epoch);
            self.remove(store, store.stat(&key).await?, report).await?;
        }
        self.remove_unnamed(store, &kept, report, stored).await?;
        for object in store.list(STATES).await? {
            if !names_any(&object.key, &kept) {
                self.remove(store, Some(object), report).await?;
            }
        }
        let kept_keys = self.segments_of(store, &kept).await?;
        for object in store.list(SEGMENTS).await? {
            if kept_keys.contains(&object.key) {
                report.segment_bytes_kept += object.size;
            }
        }
        Ok(())
    }

    async fn prune_replica(
        &self,
        store: &Store,
        report: &mut PruneReport,
        stored: &mut Vec<(String, SegmentId)>,
    ) -> Result<(), Error> {
        let Some(head) = read_head(store).await? else { return Ok(()) };
        let kept = named_by_head(&head).collect();
        self.remove_unnamed(store, &kept, report, stored).await
    }

    /// Removes manifests and segments that no kept snapshot has, and unfinished files.
    async fn remove_unnamed(
        &self,
        store: &Store,
        kept: &BTreeSet<SnapshotId>,
        report: &mut PruneReport,
        stored: &mut Vec<(String, SegmentId)>,
    ) -> Result<(), Error> {
        let kept_keys = self.segments_of(store, kept).await?;
        for object in store.list(MANIFESTS).await? {
            if !names_any(&object.key, kept) && self.may_go(store, &object) {
                self.remove(store, Some(object), report).await?;
            }
        }
        for object in store.list(SEGMENTS).await? {
            if !kept_keys.contains(&object.key) && self.may_go(store, &object) {
                self.remove(store, Some(object), report).await?;
            } else if let Some(segment) = object.key.split('/').nth(1).and_then(|id| id.parse().ok()) {
                stored.push((store.place(), segment));
            }
        }
        for object in store.list(CREATED).await? {
            let segment = object.key.replacen(CREATED, SEGMENTS, 1);
            if !kept_keys.contains(&segment) && self.may_go(store, &object) {
                self.remove(store, Some(object), report).await?;
            }
        }
        for object in store.list(SCRATCH_FOLDER).await? {
            if self.is_old(&object) {
                self.remove(store, Some(object), report).await?;
            }
        }
        Ok(())
    }

    /// The keys of the segment files that these snapshots need. A snapshot that is not here needs none here.
    async fn segments_of(&self, store: &Store, snapshots: &BTreeSet<SnapshotId>) -> Result<BTreeSet<String>, Error> {
        let mut keys = BTreeSet::new();
        for snapshot in snapshots {
            if store.stat(&manifest_key(*snapshot)).await?.is_some() {
                let bytes = read_manifest(store, *snapshot).await?;
                let manifest: Manifest = decode_manifest(store, *snapshot, &bytes)?;
                keys.extend(segment_keys(&manifest));
            }
        }
        Ok(keys)
    }

    async fn follow_forgets(
        &self,
        origin: &Origin,
        report: &mut PruneReport,
        stored: &[(String, SegmentId)],
    ) -> Result<(), Error> {
        for record in origin.forget_records().await? {
            let remaining: Vec<_> = stored.iter().filter(|(_, segment)| record.segments.contains(segment)).cloned().collect();
            if remaining.is_empty() && self.mode == PruneMode::Remove {
                origin.store().delete(&forget_key(record.epoch)).await?;
            }
            report.forgets.push(ForgetStatus { epoch: record.epoch, entity_count: record.entity_count, remaining });
        }
        Ok(())
    }

    /// In a folder, the lock says that nobody builds. Elsewhere only age says that no build is about to name an object.
    fn may_go(&self, store: &Store, object: &ObjectStat) -> bool {
        store.local_folder().is_some() || self.is_old(object)
    }

    fn is_old(&self, object: &ObjectStat) -> bool {
        object.modified < self.now.saturating_sub(Span::from_seconds(GRACE_SECONDS)).nanos()
    }

    async fn remove(&self, store: &Store, object: Option<ObjectStat>, report: &mut PruneReport) -> Result<(), Error> {
        let Some(object) = object else { return Ok(()) };
        if self.mode == PruneMode::Remove {
            store.delete(&object.key).await?;
        }
        report.removed.push((store.place(), object));
        Ok(())
    }
}

fn named_by_head(head: &Head) -> impl Iterator<Item = SnapshotId> {
    std::iter::once(head.snapshot).chain(head.previous.iter().map(|previous| previous.snapshot))
}

fn names_any(key: &str, snapshots: &BTreeSet<SnapshotId>) -> bool {
    let id = key.rsplit('/').next().and_then(|id| id.parse::<SnapshotId>().ok());
    // What is not a snapshot's object is not ours to remove.
    id.is_none_or(|id| snapshots.contains(&id))
}

/// Epochs that a prune keeps if it is not told otherwise: what a head can name.
const EPOCHS_KEPT: usize = 3;
/// Objects younger than this may belong to a run that has not named them yet.
const GRACE_SECONDS: i64 = 24 * 3_600;
const LEASE_SECONDS: i64 = 600;
