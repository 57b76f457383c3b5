//! The head: the one mutable key of a replica. It names the snapshot that answers.

use alloc::vec::Vec;

use crate::bytes::{FormatError, Read, Reader, Writer};
use crate::trust::split;
use crate::{SnapshotId, Timestamp};

/// What a replica serves now. docs/FORMAT.md has its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Counts publishes and rollbacks; it never goes down, and no epoch ever names two contents.
    pub epoch: u64,
    /// When this head was made, by the clock of whoever made it.
    pub issued_at: Timestamp,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The snapshots before it, newest first, at most [`PREVIOUS_MAX`]: what answers if a page of this one is missing.
    pub previous: Vec<PreviousSnapshot>,
    /// The encoded manifest of the snapshot, if it is at most [`INLINE_MANIFEST_BYTES_MAX`]; otherwise it is under the key
    /// `m/<snapshot>`.
    pub manifest: Option<Vec<u8>>,
}

/// A snapshot that a replica served before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreviousSnapshot {
    /// Its epoch.
    pub epoch: u64,
    /// When the head of that epoch was made: what it answers is as old as that.
    pub issued_at: Timestamp,
    /// Its id; its manifest is under the key `m/<id>`.
    pub snapshot: SnapshotId,
}

impl Head {
    /// Its bytes.
    ///
    /// # Errors
    /// `None` where the manifest has 4 GiB or more.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let mut out = Writer::new(HEAD_MAGIC, HEAD_VERSION);
        out.u64(self.epoch);
        out.i64(self.issued_at.nanos());
        out.raw(&self.snapshot.bytes());
        let previous = self.previous.get(..PREVIOUS_MAX).unwrap_or(&self.previous);
        out.list(previous, |out, previous| {
            out.u64(previous.epoch);
            out.i64(previous.issued_at.nanos());
            out.raw(&previous.snapshot.bytes());
        });
        out.blob(self.manifest.as_deref().unwrap_or_default());
        out.finish()
    }

    /// Reads what [`Head::encode`] wrote. A signature may be behind it, which is not looked at: see [`SignedHead`](crate::SignedHead).
    ///
    /// # Errors
    /// [`FormatError`] where the bytes are damaged or of a later version.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        Self::read(bytes).map_err(|error| *error)
    }

    fn read(value: &[u8]) -> Read<Self> {
        let (bytes, _) = split(value);
        let mut from = Reader::open("head", bytes, HEAD_MAGIC, HEAD_VERSION)?;
        let epoch = from.u64("epoch")?;
        let issued_at = from.timestamp("issue time")?;
        let snapshot = SnapshotId::from_bytes(from.array("snapshot")?);
        let previous = from.list("previous snapshots", |from| {
            let epoch = from.u64("previous epoch")?;
            let issued_at = from.timestamp("previous issue time")?;
            Ok(PreviousSnapshot { epoch, issued_at, snapshot: SnapshotId::from_bytes(from.array("previous snapshot")?) })
        })?;
        if previous.len() > PREVIOUS_MAX {
            return Err(from.corrupt("previous snapshots"));
        }
        let manifest_bytes = usize::try_from(from.u32("manifest")?).map_err(|_| from.corrupt("manifest"))?;
        let manifest = from.take(manifest_bytes, "manifest")?;
        let manifest = if manifest.is_empty() { None } else { Some(manifest.into()) };
        from.finish()?;
        Ok(Self { epoch, issued_at, snapshot, previous, manifest })
    }
}

/// The key of the head in a replica.
pub const HEAD_KEY: &str = "head";
/// The first bytes of a head.
pub const HEAD_MAGIC: [u8; 4] = *b"MZHD";
/// The version of the head's format.
pub const HEAD_VERSION: u16 = 1;
/// Snapshots before the newest that a head names.
pub const PREVIOUS_MAX: usize = 2;
/// A manifest up to this size travels in the head.
pub const INLINE_MANIFEST_BYTES_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn heads_read_back_and_damage_is_found() {
        let head = Head {
            epoch: 7,
            issued_at: Timestamp::from_seconds(1_700_000_000),
            snapshot: SnapshotId::from_bytes([3; 16]),
            previous: vec![PreviousSnapshot {
                epoch: 6,
                issued_at: Timestamp::from_seconds(1_600_000_000),
                snapshot: SnapshotId::from_bytes([2; 16]),
            }],
            manifest: Some(vec![1, 2, 3]),
        };
        let bytes = head.encode().expect("it is small");
        assert_eq!(Head::decode(&bytes), Ok(head));
        for end in 0..bytes.len() {
            assert!(Head::decode(&bytes[..end]).is_err(), "prefix {end}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Head::decode(&damaged).is_err(), "bit {bit}");
        }
    }
}
