//! The tree of hashes over the pages of one segment and table.
//!
//! Level 0 are the leaves, one for each bucket in order. A node of the next level is made of two neighbours; where the last one has
//! none, 32 zero bytes stand for it. So every path has as many steps as the bucket count asks for, and the bits of the bucket's
//! number say on which side each step is: a path fits one bucket of one count only.

use alloc::vec::Vec;

use super::TrustError;
use super::crypto;
use super::signature::{DIGEST_BYTES, Digest};

/// A tree with all its levels, for whoever hands out paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// The leaves, then level after level; the last is the root alone.
    levels: Vec<Vec<Digest>>,
}

impl Tree {
    /// The leaf of a page.
    pub fn leaf(page: &[u8]) -> Digest {
        crypto::leaf(page)
    }

    /// The tree over these leaves, in order of bucket.
    pub fn new(leaves: Vec<Digest>) -> Self {
        let mut levels = Vec::new();
        let mut level = leaves;
        while level.len() > 1 {
            let next = level
                .chunks(2)
                .map(|pair| match pair {
                    [left, right] => crypto::node(left, right),
                    [left] => crypto::node(left, &ABSENT),
                    _ => ABSENT,
                })
                .collect();
            levels.push(core::mem::replace(&mut level, next));
        }
        levels.push(level);
        Self { levels }
    }

    /// Its root: of one leaf the leaf itself, of none 32 zero bytes.
    pub fn root(&self) -> Digest {
        self.levels.last().and_then(|level| level.first()).copied().unwrap_or(ABSENT)
    }

    /// The leaves.
    pub fn leaves(&self) -> &[Digest] {
        self.levels.first().map(Vec::as_slice).unwrap_or_default()
    }

    /// The path of a bucket's page: what stands behind the page in a key-value store. `None` where there is no such bucket.
    pub fn path(&self, bucket: u32) -> Option<Vec<u8>> {
        let mut at = bucket as usize;
        self.leaves().get(at)?;
        let steps = self.levels.len().saturating_sub(1);
        let mut path = Vec::with_capacity(steps * DIGEST_BYTES);
        for level in self.levels.iter().take(steps) {
            path.extend_from_slice(level.get(at ^ 1).unwrap_or(&ABSENT));
            at /= 2;
        }
        Some(path)
    }
}

/// Checks that a page, and the path behind it, are of a bucket of the tree with this root.
pub(super) fn check_path(page: &[u8], path: &[u8], bucket: u32, bucket_count: u32, root: &Digest) -> Result<(), TrustError> {
    let expected = path_bytes(bucket_count);
    if path.len() != expected || bucket >= bucket_count {
        return Err(TrustError::PathLength { expected, found: path.len() });
    }
    let (mut at, mut found) = (bucket, crypto::leaf(page));
    for step in path.as_chunks::<DIGEST_BYTES>().0 {
        found = if at % 2 == 0 { crypto::node(&found, step) } else { crypto::node(step, &found) };
        at /= 2;
    }
    if found == *root { Ok(()) } else { Err(TrustError::WrongRoot { expected: *root, found }) }
}

/// Bytes of the path of each page of a segment with so many buckets.
pub const fn path_bytes(bucket_count: u32) -> usize {
    let steps = u32::BITS - bucket_count.saturating_sub(1).leading_zeros();
    steps as usize * DIGEST_BYTES
}

/// Bytes of the longest path that there can be.
pub const PATH_BYTES_MAX: usize = u32::BITS as usize * DIGEST_BYTES;
/// What stands for a neighbour that is not there.
const ABSENT: Digest = [0; DIGEST_BYTES];
