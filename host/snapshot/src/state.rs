//! What the next run goes on from: written beside each snapshot.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The build state of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BuildState {
    /// Per view: the source files that it has folded, by name.
    pub views: BTreeMap<String, ViewLedger>,
    /// Entities that were forgotten. Rows of them up to that time do not come back.
    pub forgotten: Vec<Forgotten>,
}

/// What a view has folded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewLedger {
    /// The files, by name.
    pub files: BTreeMap<String, FoldedFile>,
}

/// A source file that was folded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoldedFile {
    /// The digest of its content, or what stands for it.
    pub digest: String,
    /// The latest event time of the rows that were folded; i64 maximum where all of them were.
    pub until_nanos: i64,
    /// The earliest event time of the rows that were folded; i64 minimum where all of them were.
    pub from_nanos: i64,
}

/// An entity that was forgotten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    /// The table.
    pub table: String,
    /// The hash of the key. The key itself is not kept: that is what it is about.
    pub hash: u64,
    /// Until when.
    pub until_nanos: i64,
}

impl BuildState {
    /// Whether a view needs to read a file to have all its rows up to `end_nanos`.
    pub fn needs(&self, view: &str, file: &str, digest: &str, end_nanos: i64) -> bool {
        let folded = self.views.get(view).and_then(|ledger| ledger.files.get(file));
        folded.is_none_or(|folded| folded.digest != digest || folded.from_nanos != i64::MIN || folded.until_nanos < end_nanos)
    }

    /// A digest of all that was folded: equal for equal inputs.
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for (view, ledger) in &self.views {
            for (file, folded) in &ledger.files {
                for part in [view.as_str(), file, &folded.digest] {
                    hasher.update(part.as_bytes());
                    hasher.update(&[0]);
                }
                hasher.update(&folded.from_nanos.to_le_bytes());
                hasher.update(&folded.until_nanos.to_le_bytes());
            }
        }
        hasher.finalize().into()
    }
}
