//! The small objects of an origin: JSON with a checksum behind it.

use std::collections::BTreeMap;
use std::fmt;

use mezze_core::{SegmentId, SnapshotId, Timestamp};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Error;

/// What an epoch names. It is written once and never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EpochRecord {
    /// The epoch.
    pub epoch: u64,
    /// The epoch whose content this one goes on from: what readers fall back to. For a rollback, the one that it returns to.
    pub parent: Option<u64>,
    /// The snapshot.
    #[serde(with = "text")]
    pub snapshot: SnapshotId,
    /// What made it.
    pub reason: Reason,
    /// The one replica that it is for, where it is not for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<String>,
    /// When, by the clock of whoever made it.
    #[serde(with = "nanos", rename = "issued_at_nanos")]
    pub issued_at: Timestamp,
    /// The version of Mezze that made it.
    pub version: String,
}

/// What made an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Reason {
    /// Tables were rewritten without a change of content.
    Compact,
    /// Entities were removed. What was before it is not served again.
    Forget,
    /// New rows.
    Materialize,
    /// A replica that had been rolled back by itself goes on with what the others have.
    Resume,
    /// An earlier snapshot was made current again.
    Rollback,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Compact => "compact",
            Self::Forget => "forget",
            Self::Materialize => "materialize",
            Self::Resume => "resume",
            Self::Rollback => "rollback",
        })
    }
}

/// What a replica was last given, as its publisher saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PublishRecord {
    /// The replica's name.
    pub replica: String,
    /// The folder or URL.
    pub place: String,
    /// The epoch that its head has.
    pub epoch: u64,
    /// The snapshots that its head names, the one that answers first.
    #[serde(with = "texts")]
    pub snapshots: Vec<SnapshotId>,
    /// When, by the publisher's clock.
    #[serde(with = "nanos", rename = "published_at_nanos")]
    pub published_at: Timestamp,
    /// The number of the lease under which it was written.
    pub fence: u64,
    /// Snapshots that earlier heads named: readers may answer from them for a while.
    #[serde(default)]
    pub retired: Vec<Retired>,
}

/// A snapshot that the head of a replica does not name any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Retired {
    /// The snapshot.
    #[serde(with = "text")]
    pub snapshot: SnapshotId,
    /// Since when, by the publisher's clock.
    #[serde(with = "nanos", rename = "at_nanos")]
    pub at: Timestamp,
}

/// The epoch that a replica stays at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Pin {
    /// The epoch.
    pub epoch: u64,
    /// Since when, by the clock of whoever said so.
    #[serde(with = "nanos", rename = "pinned_at_nanos")]
    pub pinned_at: Timestamp,
    /// Who said so.
    pub holder: String,
}

impl Pin {
    /// A pin to this epoch.
    pub const fn new(epoch: u64, pinned_at: Timestamp, holder: String) -> Self {
        Self { epoch, pinned_at, holder }
    }
}

/// What a removal of entities leaves to be done: these segments still hold their rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ForgetRecord {
    /// The epoch that no longer serves them.
    pub epoch: u64,
    /// Entities removed.
    pub entity_count: u64,
    /// All segments that the origin held then and that may hold rows of the entities.
    #[serde(with = "texts")]
    pub segments: Vec<SegmentId>,
}

impl ForgetRecord {
    /// The record of a removal.
    pub const fn new(epoch: u64, entity_count: u64, segments: Vec<SegmentId>) -> Self {
        Self { epoch, entity_count, segments }
    }
}

/// A hold on a replica. The object's key has the fence number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeaseRecord {
    pub(crate) fence: u64,
    pub(crate) holder: String,
    #[serde(with = "nanos", rename = "expires_at_nanos")]
    pub(crate) expires_at: Timestamp,
    pub(crate) released: bool,
}

/// The bytes of a record: a line of JSON, and a line with its checksum.
///
/// # Errors
/// [`Error::Refused`] where the record cannot be written as JSON.
pub(crate) fn seal(record: &impl Serialize) -> Result<Vec<u8>, Error> {
    let mut bytes = serde_json::to_vec(record).map_err(|error| Error::Refused(format!("a record cannot be written: {error}")))?;
    let checksum = blake3::hash(&bytes).to_hex();
    bytes.extend_from_slice(b"\n{\"blake3\":\"");
    bytes.extend_from_slice(checksum.as_bytes());
    bytes.extend_from_slice(b"\"}\n");
    Ok(bytes)
}

/// Reads what [`seal`] wrote; `key` is for messages.
///
/// # Errors
/// [`Error::Corrupt`] where the bytes are damaged.
pub(crate) fn unseal<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, Error> {
    let corrupt = |detail: String| Error::Corrupt { key: key.to_owned(), detail };
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let (Some(record), Some(checksum)) = (lines.next(), lines.next()) else {
        return Err(corrupt("it has no checksum line".to_owned()));
    };
    let expected: BTreeMap<String, String> = serde_json::from_slice(checksum).map_err(|error| corrupt(error.to_string()))?;
    let found = blake3::hash(record).to_hex();
    if expected.get("blake3").map(String::as_str) != Some(found.as_str()) || lines.any(|rest| !rest.is_empty()) {
        return Err(corrupt("its checksum does not match".to_owned()));
    }
    serde_json::from_slice(record).map_err(|error| corrupt(error.to_string()))
}

/// Instants as nanoseconds.
mod nanos {
    use super::*;

    pub(super) fn serialize<S: Serializer>(instant: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_i64(instant.nanos())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        i64::deserialize(from).map(Timestamp::from_nanos)
    }
}

/// Ids as hex.
mod text {
    use super::*;

    pub(super) fn serialize<S: Serializer>(id: &impl ToString, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&id.to_string())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, T: std::str::FromStr<Err: fmt::Display>>(
        from: D,
    ) -> Result<T, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// Lists of ids as hex.
mod texts {
    use super::*;

    pub(super) fn serialize<S: Serializer>(ids: &[impl ToString], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(ids.iter().map(ToString::to_string))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, T: std::str::FromStr<Err: fmt::Display>>(
        from: D,
    ) -> Result<Vec<T>, D::Error> {
        Vec::<String>::deserialize(from)?.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
    }
}
