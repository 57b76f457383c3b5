//! Keys of the objects of origins and replicas. docs/ORIGIN.md says what each holds.

use mezze_core::{SegmentId, SnapshotId};

/// The key of a manifest.
pub fn manifest_key(snapshot: SnapshotId) -> String {
    format!("{MANIFESTS}/{snapshot}")
}

/// The key of the file with the pages that a segment has in one table.
pub fn segment_key(segment: SegmentId, table: u16) -> String {
    format!("{SEGMENTS}/{segment}/{table}")
}

/// The key of the creation times of a segment's rows, which builds need and readers do not.
pub fn created_key(segment: SegmentId, table: u16) -> String {
    format!("{CREATED}/{segment}/{table}")
}

/// The key of the hashes of a segment's pages, which signed replicas are verified by.
pub fn tree_key(segment: SegmentId, table: u16) -> String {
    format!("{TREES}/{segment}/{table}")
}

/// The key of an epoch's record.
pub(crate) fn epoch_key(epoch: u64) -> String {
    format!("{EPOCHS}/{epoch:020}")
}

/// The key of the build state that goes with a snapshot.
pub(crate) fn state_key(snapshot: SnapshotId) -> String {
    format!("{STATES}/{snapshot}")
}

/// The key of what a removal of entities leaves to be done.
pub(crate) fn forget_key(epoch: u64) -> String {
    format!("{FORGETS}/{epoch:020}")
}

/// The key of a replica's publish record.
pub(crate) fn record_key(replica: &str) -> String {
    format!("{REPLICAS}/{replica}/record")
}

/// The key of what a replica is pinned to.
pub(crate) fn pin_key(replica: &str) -> String {
    format!("{REPLICAS}/{replica}/pin")
}

/// The folder of a replica's leases.
pub(crate) fn lease_folder(replica: &str) -> String {
    format!("{REPLICAS}/{replica}/leases")
}

/// The key of one lease of a replica.
pub(crate) fn lease_key(replica: &str, fence: u64) -> String {
    format!("{}/{fence:020}", lease_folder(replica))
}

/// The number at the end of a key.
pub(crate) fn number_of(key: &str) -> Option<u64> {
    let digits = key.rsplit('/').next().filter(|digits| digits.len() == 20)?;
    digits.parse().ok()
}

pub(crate) const MANIFESTS: &str = "m";
pub(crate) const SEGMENTS: &str = "s";
pub(crate) const CREATED: &str = "c";
pub(crate) const TREES: &str = "t";
pub(crate) const EPOCHS: &str = "epochs";
pub(crate) const STATES: &str = "state";
pub(crate) const FORGETS: &str = "forgets";
pub(crate) const REPLICAS: &str = "replicas";
