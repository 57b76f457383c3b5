//! Data sets in object stores: written to a temporary file, and put in their place as a whole.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::path::Path as Location;
use object_store::{ObjectStore, ObjectStoreExt, WriteMultipart};

use crate::error::{OfflineError, Result};
use crate::scratch::TempFolder;
use crate::source::StoredAt;

/// Where a data set goes.
pub(crate) enum Target {
    /// A file, which takes care of itself.
    File,
    /// An object of a store, once the temporary file is whole.
    Object { store: Arc<dyn ObjectStore>, location: Location, url: String, folder: TempFolder },
}

/// Bytes of a part at the least; stores take 10,000 parts.
const PART_BYTES_MIN: u64 = 8 << 20;
const PARTS_MAX: u64 = 9_000;
/// Parts under way at a time.
const PARTS_AT_ONCE: usize = 4;

impl Target {
    /// What an output stands for, and the file to write: a path relative to `folder`, or a URL of an object store.
    pub(crate) fn of(folder: &Path, output: &Path) -> Result<(Self, PathBuf)> {
        let Some((scheme, rest)) = output.to_str().and_then(|text| text.split_once("://")) else {
            return Ok((Self::File, folder.join(output)));
        };
        let url = format!("{scheme}://{rest}");
        let failed = |reason: &str| OfflineError::Write { path: PathBuf::from(&url), reason: reason.to_owned() };
        let (host, key) = rest.split_once('/').ok_or_else(|| failed("the URL names no object, only a bucket"))?;
        let name =
            key.rsplit('/').next().filter(|name| !name.is_empty()).ok_or_else(|| failed("the URL ends like a folder's"))?;
        if !["s3", "gs", "az", "abfss"].contains(&scheme) {
            return Err(failed("no store for this URL: it may be s3://, gs://, az:// or abfss://, or a path"));
        }
        let at = StoredAt::Store { url: format!("{scheme}://{host}/"), location: key.to_owned() };
        let (store, location, _) = at.open()?;
        let temporary = TempFolder::new()?;
        let file = temporary.path().join(name);
        Ok((Self::Object { store, location, url, folder: temporary }, file))
    }

    /// Puts the file in its place, and says where that is.
    pub(crate) async fn put(self, file: PathBuf) -> Result<PathBuf> {
        let Self::Object { store, location, url, folder } = self else { return Ok(file) };
        let failed = |reason: String| OfflineError::Write { path: PathBuf::from(&url), reason };
        let mut input = File::open(&file).map_err(|error| failed(error.to_string()))?;
        let size = input.metadata().map_err(|error| failed(error.to_string()))?.len();
        let part = usize::try_from(size.div_ceil(PARTS_MAX).max(PART_BYTES_MIN)).unwrap_or(usize::MAX);
        let upload = store.put_multipart(&location).await.map_err(|error| failed(error.to_string()))?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, part);
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = match input.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) => {
                    let _ = upload.abort().await;
                    return Err(failed(error.to_string()));
                }
            };
            if let Err(error) = upload.wait_for_capacity(PARTS_AT_ONCE).await {
                let _ = upload.abort().await;
                return Err(failed(error.to_string()));
            }
            upload.write(buffer.get(..read).unwrap_or_default());
        }
        // Before this there is no such object, and after it the whole.
        upload.finish().await.map_err(|error| failed(error.to_string()))?;
        drop(folder);
        Ok(PathBuf::from(url))
    }
}
