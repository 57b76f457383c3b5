//! Removing what nobody needs.

use std::collections::BTreeSet;

use mezze_core::{Audience, HEAD_KEY, Head, Manifest, ReadKey, SegmentId, SnapshotId, Span};

use crate::keys::part_of;
use crate::layout::{CREATED, MANIFESTS, SEGMENTS, STATES, TREES, epoch_key, forget_key, manifest_key};
use crate::local::SCRATCH_FOLDER;
use crate::origin::{decode_manifest, epochs_of, named_by, read_manifest, segment_keys, segments_of};
use crate::publish::{Hold, RETIRED, Session};
use crate::reader::read_head;
use crate::record::{PublishRecord, Reason};
use crate::{Clock, Error, FolderLock, ObjectStat, Origin, Store, Target};

/// What to keep, and whether to remove the rest.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Prune<'a> {
    /// Newest epochs of the origin to keep, at least the newest; `None` leaves the origin as it is.
    pub epochs_kept: Option<usize>,
    /// The time, and how to wait.
    pub clock: &'a dyn Clock,
    /// Whether to remove, or only to say what would be removed.
    pub mode: PruneMode,
    /// The replicas: what no head named for a while is removed from them.
    pub replicas: &'a [Replica],
    /// Who prunes, for others who find a replica's lease taken.
    pub holder: &'a str,
    /// How long what a head named stays at a replica: as long as readers may hold that head. No more than [`Prune::GRACE`].
    pub grace: Span,
}

/// A replica by its name.
#[derive(Clone, Debug)]
pub struct Replica {
    /// The name.
    pub name: String,
    /// Where it is.
    pub target: Target,
    /// Whom its hosts show what they have.
    pub audience: Audience,
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
    /// The segments that may still hold their rows, by place.
    pub remaining: Vec<(String, SegmentId)>,
    /// Replicas that were published to and not looked at now. Without any, and nothing remaining, the rows are gone from every
    /// place.
    pub unseen: Vec<String>,
}

impl std::fmt::Debug for Prune<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prune").field("mode", &self.mode).field("replicas", &self.replicas).finish_non_exhaustive()
    }
}

impl<'a> Prune<'a> {
    /// An hour: longer than any reader keeps a head that it was given.
    pub const GRACE: Span = RETIRED;

    /// A prune that keeps three epochs.
    pub const fn new(clock: &'a dyn Clock, holder: &'a str) -> Self {
        Self { epochs_kept: Some(EPOCHS_KEPT), clock, mode: PruneMode::Remove, replicas: &[], holder, grace: Self::GRACE }
    }

    /// Removes from the origin what its newest epochs, its head and the replicas do not need, and from each replica what no head
    /// has named for an hour.
    ///
    /// # Errors
    /// [`Error::Held`] while a snapshot is built or a replica is published to, and the errors of reading and removing.
    pub async fn run(&self, origin: &Origin) -> Result<PruneReport, Error> {
        let mut report = PruneReport::default();
        let mut stored: Vec<(String, SegmentId)> = Vec::new();
        {
            let _lock = FolderLock::prune(origin.store())?;
            self.prune_origin(origin, &mut report, &mut stored).await?;
        }
        for replica in self.replicas {
            let hold = Hold::take(origin, &replica.name, self.holder, self.clock, Span::from_seconds(LEASE_SECONDS)).await?;
            let pruned = match &replica.target {
                Target::Folder(store) => self.prune_folder(origin, &replica.name, store, &mut report, &mut stored).await,
                Target::Keys(target) => {
                    let session = Session::new(&**target, self.clock, Some(&hold));
                    self.prune_keys(origin, replica, &session, &mut report, &mut stored).await
                }
            };
            if let (Err(_), Target::Keys(target)) = (&pruned, &replica.target) {
                // Listings may still show what was removed.
                hold.keep_until(self.clock.now().saturating_add(target.limits().propagation)).await;
            }
            hold.release().await?;
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
        let Some(latest) = origin.latest().await? else { return Ok(()) };
        let records = origin.publish_records().await?;
        // The newest keeps its record, and so do all after it, which are of single replicas: no number is given out twice.
        let mut first_needed = latest.epoch;
        let mut kept = BTreeSet::new();
        for record in &records {
            first_needed = first_needed.min(record.epoch);
            kept.extend(self.readable(record));
            if let Some(pin) = origin.pin(&record.replica).await? {
                first_needed = first_needed.min(pin.epoch);
                kept.extend(origin.epoch(pin.epoch).await?.map(|epoch| epoch.snapshot));
            }
        }
        // What is older than a removal of entities is not served or gone back to.
        let forget = epochs.iter().rposition(|record| record.reason == Reason::Forget).unwrap_or(0);
        let epochs_kept = self.epochs_kept.unwrap_or(usize::MAX);
        let first_kept = epochs.len().saturating_sub(epochs_kept.max(1)).max(if self.epochs_kept.is_some() { forget } else { 0 });
        let kept_epochs = epochs.split_off(first_kept);
        kept.extend(kept_epochs.iter().map(|record| record.snapshot));
        kept.extend(named_by(&origin.head_of(&latest).await?));
        if let Some(head) = read_head(store).await? {
            kept.extend(named_by(&head));
        }
        if self.epochs_kept.is_none() {
            // Nothing goes, but what is there has to be known.
            for object in store.list(SEGMENTS).await? {
                stored.extend(segment_of(&object.key, 1).map(|segment| (store.place(), segment)));
            }
            return Ok(());
        }
        for record in epochs.iter().filter(|record| record.epoch < first_needed) {
            // Only the oldest go, so that what happened between two epochs that stay is known.
            let key = epoch_key(record.epoch);
            self.remove(store, store.stat(&key).await?, report).await?;
        }
        // A publish says what it is going to name, and then names only what has its epoch's record still.
        for record in origin.publish_records().await? {
            kept.extend(self.readable(&record));
        }
        self.remove_unnamed(store, &kept, report, stored).await?;
        for object in store.list(STATES).await? {
            if !names_any(&object.key, &kept) && self.may_go(store, &object) {
                self.remove_old(store, object, report).await?;
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

    /// The snapshots that readers of a replica may answer from, by its publishers' record.
    fn readable(&self, record: &PublishRecord) -> impl Iterator<Item = SnapshotId> {
        let now = self.clock.now();
        let retired = record.retired.iter().filter(|retired| now.since(retired.at) < self.grace).map(|retired| retired.snapshot);
        let named = record.snapshots.iter().copied();
        named.chain(retired).collect::<Vec<_>>().into_iter()
    }

    async fn prune_folder(
        &self,
        origin: &Origin,
        replica: &str,
        store: &Store,
        report: &mut PruneReport,
        stored: &mut Vec<(String, SegmentId)>,
    ) -> Result<(), Error> {
        let Some(head) = read_head(store).await? else { return Ok(()) };
        let mut kept: BTreeSet<SnapshotId> = named_by(&head).collect();
        kept.extend(origin.publish_record(replica).await?.iter().flat_map(|record| self.readable(record)));
        self.remove_unnamed(store, &kept, report, stored).await
    }

    async fn prune_keys(
        &self,
        origin: &Origin,
        replica: &Replica,
        session: &Session<'_>,
        report: &mut PruneReport,
        stored: &mut Vec<(String, SegmentId)>,
    ) -> Result<(), Error> {
        let Some(value) = session.read(HEAD_KEY).await? else { return Ok(()) };
        let place = session.target.place();
        let format = |source| Error::Format { key: format!("{HEAD_KEY} of {place}"), source };
        let head = Head::decode(&value.bytes).map_err(format)?;
        // The head's names are those of its audience; the origin knows the same epochs by its own.
        let mut named = BTreeSet::new();
        for epoch in epochs_of(&head) {
            named.extend(origin.epoch(epoch).await?.map(|record| record.snapshot));
        }
        if named.is_empty() {
            return Err(Error::Refused(format!(
                "replica {} at {place} serves epoch {}, which {} does not know: it belongs to another origin",
                replica.name,
                head.epoch,
                origin.store().place()
            )));
        }
        let mut kept = named.clone();
        kept.extend(origin.publish_record(&replica.name).await?.iter().flat_map(|record| self.readable(record)));
        // A publish of it may have ended half-way, and will go on.
        kept.extend(origin.latest().await?.map(|latest| latest.snapshot));
        let mut manifests: BTreeSet<SnapshotId> = named_by(&head).collect();
        let mut tables = BTreeSet::new();
        for snapshot in named_by(&head) {
            // Whatever the origin still knows of what the head names, readers go by the manifests beside it.
            let inline = head.manifest.as_deref().filter(|_| snapshot == head.snapshot);
            tables.extend(tables_beside(session, snapshot, inline).await?);
        }
        for snapshot in kept {
            if origin.store().stat(&manifest_key(snapshot)).await?.is_some() {
                let part = part_of(origin.store(), replica.audience, snapshot).await?;
                manifests.insert(part.id);
                tables.extend(part.tables());
            } else if replica.audience == Audience::Server {
                manifests.insert(snapshot);
                tables.extend(tables_beside(session, snapshot, None).await?);
            } else if !named.contains(&snapshot) {
                // Under which name it is here nobody knows any more: for the hour that readers may have it, everything stays.
                return Ok(());
            }
        }
        let mut unneeded = Vec::new();
        for listed in session.list("p/").await? {
            let mut parts = listed.key.split('/').skip(1);
            let segment: Option<SegmentId> = parts.next().and_then(|id| id.parse().ok());
            let table: Option<u16> = parts.next().and_then(|table| table.parse().ok());
            // What is not a page's key is not ours to remove.
            let (Some(segment), Some(table)) = (segment, table) else { continue };
            if tables.contains(&(segment, table)) {
                stored.push((place.clone(), segment));
            } else {
                unneeded.push(listed);
            }
        }
        stored.dedup();
        unneeded.extend(session.list("m/").await?.into_iter().filter(|listed| !names_any(&listed.key, &manifests)));
        for listed in &unneeded {
            report.removed.push((place.clone(), ObjectStat::new(&listed.key, listed.bytes.unwrap_or(0), 0)));
        }
        if self.mode == PruneMode::DryRun {
            return Ok(());
        }
        let keys: Vec<String> = unneeded.into_iter().map(|listed| listed.key).collect();
        for batch in keys.chunks(session.target.limits().delete_keys.max(1)) {
            let mut left = batch.to_vec();
            for round in 0..=DELETE_ROUNDS {
                let failed = session.delete(&left).await?;
                let Some(first) = failed.first() else { break };
                if round == DELETE_ROUNDS {
                    return Err(Error::Unavailable {
                        operation: "delete",
                        key: format!("{} of {place}", first.key),
                        detail: first.detail.clone(),
                    });
                }
                left = failed.into_iter().map(|failed| failed.key).collect();
                session.sleep(Span::from_seconds(1 << round)).await?;
            }
        }
        if !keys.is_empty() {
            // A publish goes by listings: they must not show what is gone.
            session.sleep(session.target.limits().propagation).await?;
        }
        Ok(())
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
                self.remove_old(store, object, report).await?;
            }
        }
        for object in store.list(SEGMENTS).await? {
            if !kept_keys.contains(&object.key) && self.may_go(store, &object) {
                self.remove_old(store, object, report).await?;
            } else {
                stored.extend(segment_of(&object.key, 1).map(|segment| (store.place(), segment)));
            }
        }
        for beside in [CREATED, TREES] {
            for object in store.list(beside).await? {
                let segment = object.key.replacen(beside, SEGMENTS, 1);
                if !kept_keys.contains(&segment) && self.may_go(store, &object) {
                    self.remove_old(store, object, report).await?;
                }
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
        let published = origin.publish_records().await?.into_iter().map(|record| record.replica);
        let unseen: Vec<String> = published.filter(|name| self.replicas.iter().all(|replica| replica.name != *name)).collect();
        for record in origin.forget_records().await? {
            let mut remaining: Vec<_> = stored.iter().filter(|(_, segment)| record.segments.contains(segment)).cloned().collect();
            remaining.sort_unstable();
            remaining.dedup();
            if remaining.is_empty() && unseen.is_empty() && self.mode == PruneMode::Remove {
                origin.store().delete(&forget_key(record.epoch)).await?;
            }
            let unseen = unseen.clone();
            report.forgets.push(ForgetStatus { epoch: record.epoch, entity_count: record.entity_count, remaining, unseen });
        }
        Ok(())
    }

    /// In a folder, the lock says that nobody builds. Elsewhere only age says that no build is about to name an object.
    fn may_go(&self, store: &Store, object: &ObjectStat) -> bool {
        store.local_folder().is_some() || self.is_old(object)
    }

    fn is_old(&self, object: &ObjectStat) -> bool {
        object.modified < self.clock.now().saturating_sub(Span::from_seconds(GRACE_SECONDS)).nanos()
    }

    /// Removes an object that nobody named when it was listed, if no build has written it anew since.
    async fn remove_old(&self, store: &Store, object: ObjectStat, report: &mut PruneReport) -> Result<(), Error> {
        let found = if store.local_folder().is_some() { Some(object) } else { store.stat(&object.key).await? };
        self.remove(store, found.filter(|found| self.may_go(store, found)), report).await
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

/// The segments and table numbers that a snapshot needs, by its manifest in the replica; none where it is not there, since nobody can
/// answer from it.
async fn tables_beside(
    session: &Session<'_>,
    snapshot: SnapshotId,
    inline: Option<&[u8]>,
) -> Result<Vec<(SegmentId, u16)>, Error> {
    let key = ReadKey::Manifest(snapshot).to_string();
    let bytes = match inline {
        Some(bytes) => bytes.to_vec(),
        None => match session.read(&key).await? {
            Some(value) => value.bytes.into(),
            None => return Ok(Vec::new()),
        },
    };
    let name = || format!("{key} of {}", session.target.place());
    if Manifest::id_of(&bytes) != snapshot {
        return Err(Error::Corrupt { key: name(), detail: "its content has another id".to_owned() });
    }
    let manifest = Manifest::decode(&bytes).map_err(|source| Error::Format { key: name(), source })?;
    Ok(segments_of(&manifest).collect())
}

/// The segment that a key names in this part of it.
fn segment_of(key: &str, part: usize) -> Option<SegmentId> {
    key.split('/').nth(part).and_then(|id| id.parse().ok())
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
/// Long enough that what was removed last is gone from listings as well before anyone else has the lease, if the prune is killed.
const LEASE_SECONDS: i64 = 240;
/// How often the keys of a removal that were not done are tried again.
const DELETE_ROUNDS: u32 = 5;
