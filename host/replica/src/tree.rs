//! The objects with the leaves of the trees over segments' pages.
//!
//! A key-value store has each page with its path to the root; a folder has one object a segment and table, from which its reader
//! makes the tree.

use mezze_core::{DIGEST_BYTES, Digest, SegmentId, Tree};

use crate::layout::tree_key;
use crate::{Error, Store};

/// The bytes of the object that [`tree_key`](crate::tree_key) names: the leaves in order of bucket, and a BLAKE3 of them.
pub fn tree_bytes(leaves: &[Digest]) -> Vec<u8> {
    let mut bytes = leaves.concat();
    let checksum = blake3::hash(&bytes);
    bytes.extend_from_slice(checksum.as_bytes());
    bytes
}

/// The tree over the pages of a segment's table, which has so many.
///
/// # Errors
/// [`Error::Missing`], [`Error::Corrupt`] or [`Error::Unavailable`].
pub async fn read_tree(store: &Store, segment: SegmentId, table: u16, bucket_count: u32) -> Result<Tree, Error> {
    let key = tree_key(segment, table);
    let bytes = store.require(&key).await?;
    let corrupt = |detail: String| Error::Corrupt { key: store.full_name(&key), detail };
    let (leaves, checksum) = bytes.split_last_chunk::<DIGEST_BYTES>().ok_or_else(|| corrupt("it is too short".into()))?;
    if blake3::hash(leaves) != *checksum {
        return Err(corrupt("its checksum is wrong".into()));
    }
    let (leaves, rest) = leaves.as_chunks::<DIGEST_BYTES>();
    if !rest.is_empty() || leaves.len() != bucket_count as usize {
        return Err(corrupt(format!("it has {} leaves, its segment {bucket_count} pages", leaves.len())));
    }
    Ok(Tree::new(leaves.to_vec()))
}
