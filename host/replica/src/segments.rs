//! Pages cut out of the files of segments.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use mezze_core::{Digest, PageKey, SEGMENT_FOOTER_BYTES, SegmentId, SegmentIndex, Tree, path_bytes};
use tokio::sync::OnceCell;

use crate::layout::segment_key;
use crate::tree::read_tree;
use crate::{Error, Store};

/// The segments whose indexes have been read. Shared by the threads of a server.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    open: RwLock<HashMap<(SegmentId, u16), Arc<SegmentFile>>>,
}

/// The pages of one segment's table.
#[derive(Debug)]
struct SegmentFile {
    index: SegmentIndex,
    key: String,
    /// The open file, if the store is a folder: it can be read on even after a prune.
    file: Option<File>,
    /// The hashes of its pages, once someone wanted them.
    tree: OnceCell<Tree>,
}

impl Segments {
    /// The bytes of a page, not verified, and how many pages its segment has.
    pub(crate) async fn read(&self, store: &Store, key: PageKey) -> Result<(Vec<u8>, u32), Error> {
        let file = self.segment(store, key.segment, key.table).await?;
        let name = || store.full_name(&file.key);
        let range = file.index.page_range(key.bucket);
        let range = range.ok_or_else(|| Error::Corrupt { key: name(), detail: format!("it has no page {}", key.bucket) })?;
        let length = range.end - range.start;
        let bytes = match &file.file {
            Some(open) => {
                let size = usize::try_from(length).map_err(|error| Error::Corrupt { key: name(), detail: error.to_string() })?;
                let mut bytes = vec![0; size];
                read_exact_at(open, &mut bytes, range.start).map_err(|error| Error::Unavailable {
                    operation: "read",
                    key: name(),
                    detail: error.to_string(),
                })?;
                bytes
            }
            None => {
                let bytes = store.read_range(&file.key, range.start, length).await?;
                bytes.ok_or_else(|| Error::Missing { key: name() })?.into()
            }
        };
        Ok((bytes, file.index.bucket_count()))
    }

    /// A page and behind it the path to the root of its segment's tree: the value of its key in a key-value store.
    pub(crate) async fn read_with_path(&self, store: &Store, key: PageKey) -> Result<Vec<u8>, Error> {
        let (mut bytes, _) = self.read(store, key).await?;
        bytes.extend(self.path(store, key).await?);
        Ok(bytes)
    }

    /// The path from a page to the root of its segment's tree, as the leaves beside the segment have it.
    pub(crate) async fn path(&self, store: &Store, key: PageKey) -> Result<Vec<u8>, Error> {
        let file = self.segment(store, key.segment, key.table).await?;
        Ok(file.tree(store).await?.path(key.bucket).unwrap_or_default())
    }

    /// How many pages a segment's table has.
    pub(crate) async fn bucket_count(&self, store: &Store, segment: SegmentId, table: u16) -> Result<u32, Error> {
        Ok(self.segment(store, segment, table).await?.index.bucket_count())
    }

    /// The hash of a page that its segment's tree is made of.
    pub(crate) async fn leaf(&self, store: &Store, key: PageKey) -> Result<Digest, Error> {
        let file = self.segment(store, key.segment, key.table).await?;
        let leaves = file.tree(store).await?.leaves();
        let leaf = usize::try_from(key.bucket).ok().and_then(|bucket| leaves.get(bucket)).copied();
        leaf.ok_or_else(|| Error::Corrupt { key: store.full_name(&file.key), detail: format!("it has no page {}", key.bucket) })
    }

    /// Bytes of each page of a segment's table with its path, in order of bucket.
    pub(crate) async fn page_sizes(&self, store: &Store, segment: SegmentId, table: u16) -> Result<Vec<u64>, Error> {
        let file = self.segment(store, segment, table).await?;
        let path = path_bytes(file.index.bucket_count()) as u64;
        let sizes = (0..file.index.bucket_count()).map(|bucket| {
            let range = file.index.page_range(bucket).unwrap_or(0..0);
            range.end - range.start + path
        });
        Ok(sizes.collect())
    }

    /// Closes the files of others. Requests under way may still open one again: that is a read more, and no harm.
    pub(crate) fn retain(&self, needed: &[SegmentId]) {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(segment, _), _| needed.contains(segment));
    }

    async fn segment(&self, store: &Store, segment: SegmentId, table: u16) -> Result<Arc<SegmentFile>, Error> {
        if let Some(known) = self.open.read().unwrap_or_else(PoisonError::into_inner).get(&(segment, table)) {
            return Ok(Arc::clone(known));
        }
        let opened = Arc::new(open_segment(store, segment, table).await?);
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(open.entry((segment, table)).or_insert(opened)))
    }
}

impl SegmentFile {
    async fn tree(&self, store: &Store) -> Result<&Tree, Error> {
        let SegmentIndex { segment, table, .. } = self.index;
        self.tree.get_or_try_init(|| read_tree(store, segment, table, self.index.bucket_count())).await
    }
}

async fn open_segment(store: &Store, segment: SegmentId, table: u16) -> Result<SegmentFile, Error> {
    let key = segment_key(segment, table);
    let name = store.full_name(&key);
    let format = |source| Error::Format { key: name.clone(), source };
    let (size, file) = match store.local_folder() {
        Some(folder) => {
            let (file, size) = open_file(&folder.join(&key)).map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => Error::Missing { key: name.clone() },
                _ => Error::Unavailable { operation: "read", key: name.clone(), detail: error.to_string() },
            })?;
            (size, Some(file))
        }
        None => (store.stat(&key).await?.ok_or_else(|| Error::Missing { key: name.clone() })?.size, None),
    };
    let read = async |bytes: u64| -> Result<Vec<u8>, Error> {
        let start = size.saturating_sub(bytes);
        let length = size - start;
        match &file {
            Some(file) => {
                let mut tail = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
                read_exact_at(file, &mut tail, start).map_err(|error| Error::Unavailable {
                    operation: "read",
                    key: name.clone(),
                    detail: error.to_string(),
                })?;
                Ok(tail)
            }
            None => {
                let tail = store.read_range(&key, start, length).await?;
                tail.map(Vec::from).ok_or_else(|| Error::Missing { key: name.clone() })
            }
        }
    };
    let footer = read(SEGMENT_FOOTER_BYTES as u64).await?;
    let tail_bytes = SegmentIndex::tail_bytes(&footer).map_err(format)?;
    if tail_bytes > size {
        return Err(Error::Corrupt { key: name, detail: "it is shorter than its index".into() });
    }
    let index = SegmentIndex::decode(&read(tail_bytes).await?).map_err(format)?;
    if index.segment != segment || index.table != table || index.pages_bytes() + tail_bytes != size {
        return Err(Error::Corrupt { key: name, detail: "it is another segment's file, or cut".into() });
    }
    Ok(SegmentFile { index, key, file, tree: OnceCell::new() })
}

fn open_file(path: &Path) -> std::io::Result<(File, u64)> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, offset)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => {
                bytes = bytes.get_mut(count..).unwrap_or_default();
                offset += count as u64;
            }
        }
    }
    Ok(())
}
