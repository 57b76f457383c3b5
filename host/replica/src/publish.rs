//! Publishing: a replica gets what one snapshot needs, and then the head that names it.

mod folder;
mod keys;
mod plan;
mod session;

use std::sync::Arc;

use bytes::Bytes;
use mezze_core::{Audience, HEAD_KEY, Head, SignedHead, SnapshotId, Span, Timestamp};

use crate::keys::{ReplicaKeys, digest_of};
use crate::origin::{encode_head, epochs_of, named_by, read_manifest};
use crate::record::{EpochRecord, PublishRecord, Retired};
use crate::target::{Entry, KeyValue};
use crate::{Clock, Error, Origin, Replica, Signer, Store};

pub use plan::{Estimate, PublishPlan};
pub use session::Calls;
pub(crate) use session::{Hold, Session};

/// Where a replica is.
#[derive(Clone, Debug)]
pub enum Target {
    /// A folder or object-store prefix with the files of segments, which `mezze serve` reads.
    Folder(Store),
    /// A store with pages under keys.
    Keys(Arc<dyn KeyValue>),
}

/// Who publishes, where to and under which rules.
#[derive(Clone, Copy)]
pub struct Publish<'a> {
    /// The replica's name: that of its lease and record.
    pub replica: &'a str,
    /// Where its objects are.
    pub target: &'a Target,
    /// Whom its hosts show what they have.
    pub audience: Audience,
    /// Who publishes, for others who find the lease taken: a host and process number.
    pub holder: &'a str,
    /// How long the lease runs if it is not renewed.
    pub lease: Span,
    /// What signs the head; it is not signed without.
    pub signer: Option<&'a Signer>,
    /// The time, and how to wait.
    pub clock: &'a dyn Clock,
    /// Told how far it is.
    pub progress: &'a (dyn Fn(Progress) + Sync),
}

/// How far a publish is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What it does.
    pub stage: Stage,
    /// Keys (of a folder: objects) done.
    pub keys_done: u64,
    /// Keys in all.
    pub keys: u64,
    /// Bytes of values done.
    pub bytes_done: u64,
    /// Bytes of values in all.
    pub bytes: u64,
}

/// What a publish does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Values are written.
    Write,
    /// What was written is listed and read back.
    Verify,
    /// The head before is given the time to reach every reader.
    Wait,
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
    pub objects_present: u64,
    /// Objects that were written.
    pub objects_written: u64,
    /// Bytes of the objects that were written.
    pub bytes_written: u64,
    /// The calls of a key-value store's interface.
    pub calls: Calls,
}

impl std::fmt::Debug for Publish<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publish").field("replica", &self.replica).field("target", &self.target).finish_non_exhaustive()
    }
}

impl Target {
    /// What it is, for messages.
    pub fn place(&self) -> String {
        match self {
            Self::Folder(store) => store.place(),
            Self::Keys(keys) => keys.place(),
        }
    }

    /// The bytes under the head's key, `None` where there is no head.
    ///
    /// # Errors
    /// The errors of reading.
    pub async fn read_head(&self, clock: &dyn Clock) -> Result<Option<Bytes>, Error> {
        Ok(match self {
            Self::Folder(store) => store.read(HEAD_KEY).await?,
            Self::Keys(keys) => Session::new(&**keys, clock, None).read(HEAD_KEY).await?.map(|value| value.bytes),
        })
    }
}

/// What was put where the head is going to point to.
struct Contents {
    head: Head,
    /// The head's snapshots by their names in the origin, in its order.
    named: Vec<SnapshotId>,
    present: u64,
    written: u64,
    bytes: u64,
}

impl<'a> Publish<'a> {
    /// A publish to a replica, unsigned and silent. Its lease is longer than a call of any vendor's interface may take.
    pub fn to(replica: &'a Replica, holder: &'a str, clock: &'a dyn Clock) -> Self {
        let Replica { name, target, audience } = replica;
        let lease = Span::from_seconds(LEASE_SECONDS);
        Self { replica: name, target, audience: *audience, holder, lease, signer: None, clock, progress: &|_| () }
    }

    /// Says what [`Publish::run`] would write to a key-value store. Changes nothing, and needs no lease.
    ///
    /// # Errors
    /// Those of [`Publish::run`], and [`Error::Refused`] for a folder.
    pub async fn plan(&self, origin: &Origin) -> Result<PublishPlan, Error> {
        let Target::Keys(target) = self.target else {
            return Err(Error::Refused(format!("{} is a folder: what is written there costs nothing", self.target.place())));
        };
        let before = origin.publish_record(self.replica).await?;
        let record = match self.pinned(origin, before.as_ref()).await? {
            Some(pinned) => pinned,
            None => origin.require_latest().await?,
        };
        let keys = ReplicaKeys::of(origin.store().clone(), self.audience, origin.head_of(&record).await?).await?;
        PublishPlan::make(&Session::new(&**target, self.clock, None), &keys).await
    }

    /// Makes the replica serve the origin's newest epoch; one that is pinned serves the epoch that it is pinned to.
    ///
    /// Only objects that are missing or damaged are written; a signature that has grown old is made anew. Each is listed or read back and compared before the head is replaced,
    /// which is the last write to the replica. Ended at any point, the replica serves what it served, and the next publish goes on.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`] before the first epoch, [`Error::Held`] or [`Error::Conflict`] while someone else publishes,
    /// [`Error::Refused`] where the replica is pinned and has all that it is pinned to, or was given a later epoch than that, or
    /// belongs to another origin, [`Error::Limit`] or
    /// [`Error::Full`] where it does not take the snapshot, [`Error::Denied`] where it does not take the token,
    /// [`Error::Corrupt`] where what is read back is not what was written.
    pub async fn run(&self, origin: &Origin) -> Result<PublishReport, Error> {
        let hold = Hold::take(origin, self.replica, self.holder, self.clock, self.lease).await?;
        let result = self.run_under(&hold, origin).await;
        // A lease that cannot be given back ends by itself; what was done counts.
        let released = hold.release().await;
        result.and_then(|report| released.map(|()| report))
    }

    async fn run_under(&self, hold: &Hold<'_>, origin: &Origin) -> Result<PublishReport, Error> {
        let before = origin.publish_record(self.replica).await?;
        let mut shown = Shown { before, snapshots: Vec::new(), is_replaced: false };
        let (contents, served, calls) = match self.target {
            Target::Folder(store) => {
                let found = store.read(HEAD_KEY).await?;
                let served = found.as_deref().and_then(|bytes| Head::decode(bytes).ok());
                let record = self.choose(origin, served.as_ref(), shown.before.as_ref()).await?;
                let mut contents = folder::copy(hold, origin, &record, store, self.progress).await?;
                self.check_owner(origin, served.as_ref(), &contents.head)?;
                let mut manifests = Vec::new();
                for snapshot in &contents.named {
                    manifests.push(Bytes::from(read_manifest(store, *snapshot).await?));
                }
                if self.head_value(&contents.head, &manifests, found.as_deref())?.is_some() {
                    self.announce(origin, &mut shown, served.as_ref(), &mut contents, hold).await?;
                    manifests.truncate(contents.named.len());
                    if let Some(value) = self.head_value(&contents.head, &manifests, found.as_deref())? {
                        hold.check().await?;
                        store.replace(HEAD_KEY, value).await?;
                        shown.is_replaced = true;
                    }
                }
                (contents, served, Calls::default())
            }
            Target::Keys(target) => {
                let session = Session::new(&**target, self.clock, Some(hold));
                let found = session.read(HEAD_KEY).await?;
                let served = found.as_ref().and_then(|value| Head::decode(&value.bytes).ok());
                let record = self.choose(origin, served.as_ref(), shown.before.as_ref()).await?;
                let of_origin = origin.head_of(&record).await?;
                let keys = ReplicaKeys::of(origin.store().clone(), self.audience, of_origin.clone()).await?;
                self.check_owner(origin, served.as_ref(), &keys.head())?;
                let plan = PublishPlan::make(&session, &keys).await?;
                keys::upload(&session, &keys, &plan, self.progress).await?;
                let head = Head { previous: plan.complete.clone(), ..keys.head() };
                let mut named = vec![of_origin.snapshot];
                for previous in &head.previous {
                    // The origin's names: a public replica's snapshots have others.
                    let known = of_origin.previous.iter().find(|known| known.epoch == previous.epoch);
                    named.extend(known.map(|known| known.snapshot));
                }
                let (written, bytes) = (plan.writes.len() as u64, plan.write_bytes);
                let mut contents = Contents { head, named, present: plan.present, written, bytes };
                let value = |head: &Head| {
                    let manifests: Vec<Bytes> = named_by(head).filter_map(|snapshot| keys.manifest(snapshot)).collect();
                    self.head_value(head, &manifests, found.as_ref().map(|found| &found.bytes[..]))
                };
                if value(&contents.head)?.is_some() {
                    self.wait_for_propagation(&session, shown.before.as_ref()).await?;
                    self.announce(origin, &mut shown, served.as_ref(), &mut contents, hold).await?;
                    if let Some(value) = value(&contents.head)? {
                        let entry = Entry { key: HEAD_KEY.to_owned(), digest: digest_of(&value), value };
                        session.replace(&entry, found.as_ref().and_then(|found| found.version.as_deref())).await?;
                        shown.is_replaced = true;
                    }
                }
                (contents, served, session.calls())
            }
        };
        let is_unchanged = !shown.is_replaced && contents.written == 0;
        if let Some(pin) = origin.pin(self.replica).await?.filter(|pin| is_unchanged && pin.epoch == contents.head.epoch) {
            return Err(Error::Refused(format!(
                "replica {} is pinned to epoch {} since {}; `mezze pin --to {} --off` lets it follow the origin again",
                self.replica, pin.epoch, pin.pinned_at, self.replica
            )));
        }
        hold.check().await?;
        let record = self.record(shown, &contents, hold.fence().await);
        origin.write_publish_record(&record).await?;
        Ok(PublishReport {
            record,
            epoch_before: served.map(|head| head.epoch),
            objects_present: contents.present,
            objects_written: contents.written,
            bytes_written: contents.bytes,
            calls,
        })
    }

    /// What to write under the head's key; `None` where that is there already, signed not long ago if it is to be signed.
    fn head_value(&self, head: &Head, manifests: &[Bytes], found: Option<&[u8]>) -> Result<Option<Bytes>, Error> {
        let bytes = encode_head(head)?;
        let Some(signer) = self.signer else {
            return Ok((found != Some(&bytes[..])).then(|| Bytes::from(bytes)));
        };
        let now = self.clock.now();
        if found.is_some_and(|found| found.starts_with(&bytes))
            && let Some(signature) = found.and_then(|found| SignedHead::decode(found).ok()).and_then(|found| found.signature)
            && signature.key == signer.public_key()
            && (0..SIGN_AGAIN.nanos()).contains(&now.since(signature.signed_at).nanos())
        {
            return Ok(None);
        }
        let manifests: Vec<&[u8]> = manifests.iter().map(|manifest| &manifest[..]).collect();
        Ok(Some(Bytes::from(signer.sign(&bytes, &manifests, now))))
    }

    /// The epoch that the replica is pinned to; `before` is what it was given last.
    async fn pinned(&self, origin: &Origin, before: Option<&PublishRecord>) -> Result<Option<EpochRecord>, Error> {
        let Some(pin) = origin.pin(self.replica).await? else { return Ok(None) };
        // It was pinned to what it served while a later epoch was on its way to it.
        if let Some(before) = before.filter(|before| before.epoch > pin.epoch) {
            return Err(Error::Refused(format!(
                "replica {0} is pinned to epoch {1} since {2}, but was given epoch {3}, and a replica never goes back; \
                 `mezze pin --to {0}` pins it where it is, with `--off` it follows the origin again",
                self.replica, pin.epoch, pin.pinned_at, before.epoch
            )));
        }
        origin.require_epoch(pin.epoch).await.map(Some)
    }

    /// The epoch to serve.
    async fn choose(&self, origin: &Origin, served: Option<&Head>, before: Option<&PublishRecord>) -> Result<EpochRecord, Error> {
        if let Some(pinned) = self.pinned(origin, before).await? {
            return Ok(pinned);
        }
        let latest = origin.require_latest().await?;
        // A store may go on showing the head before this one for a while; the record is never old.
        match served.map(|head| head.epoch).max(before.map(|before| before.epoch)) {
            // It was rolled back by itself, under an epoch of its own; to go on it needs a later one.
            Some(served) if served > latest.epoch => {
                let own = origin.epoch(served).await?.filter(|own| own.replica.as_deref() == Some(self.replica));
                match own {
                    // It has gone on already.
                    Some(own) if own.snapshot == latest.snapshot => Ok(own),
                    Some(_) => origin.commit_for(self.replica, &latest, self.clock.now()).await,
                    None => Ok(latest),
                }
            }
            _ => Ok(latest),
        }
    }

    fn check_owner(&self, origin: &Origin, served: Option<&Head>, head: &Head) -> Result<(), Error> {
        let Some(served) = served else { return Ok(()) };
        let foreign = served.epoch == head.epoch && served.snapshot != head.snapshot;
        if !foreign && served.epoch <= head.epoch {
            return Ok(());
        }
        Err(Error::Refused(format!(
            "replica {} at {} serves epoch {} (snapshot {}), the newest of {} is {} (snapshot {}): it belongs to another origin",
            self.replica,
            self.target.place(),
            served.epoch,
            served.snapshot,
            origin.store().place(),
            head.epoch,
            head.snapshot,
        )))
    }

    /// Waits until the head before this one has reached every reader.
    async fn wait_for_propagation(&self, session: &Session<'_>, before: Option<&PublishRecord>) -> Result<(), Error> {
        let Some(before) = before else { return Ok(()) };
        let span = session.target.limits().propagation;
        let passed = self.clock.now().since(before.published_at);
        // A clock that went back says nothing.
        if (0..span.nanos()).contains(&passed.nanos()) {
            (self.progress)(Progress { stage: Stage::Wait, keys_done: 0, keys: 0, bytes_done: 0, bytes: 0 });
            session.sleep(Span::from_nanos(span.nanos() - passed.nanos())).await?;
        }
        Ok(())
    }

    /// Says in the origin what is going to be named, before it is: a prune keeps that, whatever becomes of this run. What a prune
    /// took before is not named.
    ///
    /// A prune removes the records of epochs, then reads what was announced, and then removes snapshots. So an epoch that has its
    /// record after the announcement is safe.
    async fn announce(
        &self,
        origin: &Origin,
        shown: &mut Shown,
        served: Option<&Head>,
        contents: &mut Contents,
        hold: &Hold<'_>,
    ) -> Result<(), Error> {
        // A run that ended between its head and its record left a head that the record does not know.
        for epoch in served.into_iter().flat_map(epochs_of) {
            match origin.epoch(epoch).await? {
                Some(record) => shown.snapshots.push(record.snapshot),
                // A prune took the epoch meanwhile: it is one of those that were announced, however long ago.
                None => {
                    let before = shown.before.iter().flat_map(|before| &before.retired);
                    shown.snapshots.extend(before.map(|retired| retired.snapshot));
                }
            }
        }
        shown.snapshots.extend(shown.before.iter().flat_map(|before| &before.snapshots));
        hold.check().await?;
        let (now, fence) = (self.clock.now(), hold.fence().await);
        let mut record = match &shown.before {
            Some(before) => PublishRecord { fence, ..before.clone() },
            None => PublishRecord {
                replica: self.replica.to_owned(),
                place: self.target.place(),
                epoch: contents.head.epoch,
                snapshots: contents.named.clone(),
                published_at: now,
                fence,
                retired: Vec::new(),
            },
        };
        retire(&mut record.retired, shown.snapshots.iter().chain(&contents.named), now);
        origin.write_publish_record(&record).await?;
        origin.require_epoch(contents.head.epoch).await?;
        for (number, previous) in contents.head.previous.iter().enumerate() {
            if origin.epoch(previous.epoch).await?.is_none() {
                contents.head.previous.truncate(number);
                contents.named.truncate(number + 1);
                break;
            }
        }
        Ok(())
    }

    fn record(&self, shown: Shown, contents: &Contents, fence: u64) -> PublishRecord {
        let now = self.clock.now();
        let Shown { before, snapshots, is_replaced } = shown;
        let mut retired = before.as_ref().map(|before| before.retired.clone()).unwrap_or_default();
        retire(&mut retired, snapshots.iter().chain(before.iter().flat_map(|before| &before.snapshots)), now);
        retired.retain(|retired| !contents.named.contains(&retired.snapshot));
        let published_before = before.filter(|before| !is_replaced && before.epoch == contents.head.epoch);
        PublishRecord {
            replica: self.replica.to_owned(),
            place: self.target.place(),
            epoch: contents.head.epoch,
            snapshots: contents.named.clone(),
            published_at: published_before.map_or(now, |before| before.published_at),
            fence,
            retired,
        }
    }
}

/// What readers may have been shown before a publish.
struct Shown {
    /// The record of the last publish that came to its end.
    before: Option<PublishRecord>,
    /// The snapshots of heads that readers may still have, by their names in the origin.
    snapshots: Vec<SnapshotId>,
    /// Whether the head was replaced.
    is_replaced: bool,
}

/// Adds snapshots that no head names from now on, and drops those that nobody can have any more.
fn retire<'a>(retired: &mut Vec<Retired>, snapshots: impl Iterator<Item = &'a SnapshotId>, now: Timestamp) {
    retired.retain(|retired| is_recent(retired.at, now));
    for snapshot in snapshots {
        retired.retain(|retired| retired.snapshot != *snapshot);
        retired.push(Retired { snapshot: *snapshot, at: now });
    }
}

/// Whether readers may still answer from what a head stopped naming then.
fn is_recent(at: Timestamp, now: Timestamp) -> bool {
    now.since(at) < RETIRED
}

const LEASE_SECONDS: i64 = 120;
/// A signature older than this is made anew by the next publish, so that hosts which bound its age go on accepting the head.
const SIGN_AGAIN: Span = Span::from_seconds(600);
/// How long a snapshot stays after the last head that named it: longer than any reader keeps a head that it was given.
pub(crate) const RETIRED: Span = Span::from_seconds(3_600);
