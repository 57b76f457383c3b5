//! Objects under keys, in a folder or behind a URL.

use std::fmt;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;

use crate::Error;
use crate::local::LocalFolder;
use crate::remote::RemoteFolder;

/// A set of objects under keys: `head`, `m/<id>`, `s/<id>/<table>`. A cheap handle; clones are of the same place.
///
/// Every write is whole or not there, and has reached the disk (or the service) when it returns.
#[derive(Clone, Debug)]
pub struct Store {
    backend: Arc<dyn Backend>,
}

/// What a place must do to hold objects. [`Store`] has the same operations for callers; this is for new kinds of places
/// and for tests that let operations fail.
#[async_trait]
pub trait Backend: fmt::Debug + Send + Sync {
    /// The folder or URL, for messages.
    fn place(&self) -> String;

    /// The folder of the objects, if they are files: then readers need not go through this interface.
    fn folder(&self) -> Option<&Path>;

    /// The object's bytes, or `None` if there is none.
    async fn read(&self, key: &str) -> Result<Option<Bytes>, Error>;

    /// `length` bytes of the object from `offset`, or `None` if there is no such object. Fewer at its end.
    async fn read_range(&self, key: &str, offset: u64, length: u64) -> Result<Option<Bytes>, Error>;

    /// The object's size and when it was written, or `None` if there is none.
    async fn stat(&self, key: &str) -> Result<Option<ObjectStat>, Error>;

    /// Writes the object, replacing one that is there, so that no reader ever sees a part of it.
    async fn replace(&self, key: &str, bytes: Bytes) -> Result<(), Error>;

    /// Writes the object if there is none: `Ok(false)` says that there was one, and that nothing was changed.
    async fn create(&self, key: &str, bytes: Bytes) -> Result<bool, Error>;

    /// Makes a finished and synced file from [`Backend::scratch`] the object, replacing one that is there.
    async fn adopt(&self, key: &str, file: &Path) -> Result<(), Error>;

    /// The objects whose keys begin with `folder` and a slash, in order of key.
    async fn list(&self, folder: &str) -> Result<Vec<ObjectStat>, Error>;

    /// Removes the object, if it is there.
    async fn delete(&self, key: &str) -> Result<(), Error>;

    /// A folder for unfinished files that [`Backend::adopt`] takes over.
    fn scratch(&self) -> Result<PathBuf, Error>;
}

/// What is known about an object without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObjectStat {
    /// Its key.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// When it was written, in nanoseconds since 1970, by the place's clock.
    pub modified: i64,
}

impl ObjectStat {
    /// The stat of an object.
    pub fn new(key: impl Into<String>, size: u64, modified: i64) -> Self {
        Self { key: key.into(), size, modified }
    }
}

impl Store {
    /// The objects in a folder (created if it is not there), or under an object-store URL such as `s3://bucket/path`,
    /// `gs://`, `az://` or `file:///`. A relative folder is relative to `base`. Credentials of services come from the
    /// environment, by the variables that each service's own tools use.
    ///
    /// # Errors
    /// [`Error::Location`] where that is no folder and no URL of a known service.
    pub fn open(location: &str, base: &Path) -> Result<Self, Error> {
        if let Some(path) = location.strip_prefix("file://") {
            return Self::folder(Path::new(path));
        }
        if location.contains("://") { Ok(Self::of(RemoteFolder::open(location)?)) } else { Self::folder(&base.join(location)) }
    }

    /// The objects in a folder, which is created if it is not there.
    ///
    /// # Errors
    /// [`Error::Location`] where it cannot be created.
    pub fn folder(path: &Path) -> Result<Self, Error> {
        LocalFolder::open(path).map(Self::of)
    }

    /// The objects of any other place.
    pub fn of(backend: impl Backend + 'static) -> Self {
        Self { backend: Arc::new(backend) }
    }

    /// The place itself, for places made of others.
    pub fn backend(&self) -> Arc<dyn Backend> {
        Arc::clone(&self.backend)
    }

    /// The folder or URL, for messages.
    pub fn place(&self) -> String {
        self.backend.place()
    }

    /// The folder of the objects, if they are files.
    pub fn local_folder(&self) -> Option<&Path> {
        self.backend.folder()
    }

    /// The object's bytes, or `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the place fails.
    pub async fn read(&self, key: &str) -> Result<Option<Bytes>, Error> {
        self.backend.read(key).await
    }

    /// The object's bytes.
    ///
    /// # Errors
    /// [`Error::Missing`] where there is none, [`Error::Unavailable`] where the place fails.
    pub async fn require(&self, key: &str) -> Result<Bytes, Error> {
        self.read(key).await?.ok_or_else(|| Error::Missing { key: self.full_name(key) })
    }

    /// `length` bytes of the object from `offset`, or `None` if there is no such object.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the place fails.
    pub async fn read_range(&self, key: &str, offset: u64, length: u64) -> Result<Option<Bytes>, Error> {
        self.backend.read_range(key, offset, length).await
    }

    /// The object's size and age, or `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the place fails.
    pub async fn stat(&self, key: &str) -> Result<Option<ObjectStat>, Error> {
        self.backend.stat(key).await
    }

    /// Writes the object, replacing one that is there.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the place fails.
    pub async fn replace(&self, key: &str, bytes: impl Into<Bytes> + Send) -> Result<(), Error> {
        self.backend.replace(key, bytes.into()).await
    }

    /// Writes the object if there is none: `Ok(false)` says that there was one, and that nothing was changed.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the place fails.
    pub async fn create(&self, key: &str, bytes: impl Into<Bytes> + Send) -> Result<bool, Error> {
        self.backend.create(key, bytes.into()).await
    }

    /// The objects whose keys begin with `folder` and a slash, in order of key.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the place fails.
    pub async fn list(&self, folder: &str) -> Result<Vec<ObjectStat>, Error> {
        self.backend.list(folder).await
    }

    /// Removes the object, if it is there.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the place fails.
    pub async fn delete(&self, key: &str) -> Result<(), Error> {
        self.backend.delete(key).await
    }

    /// Begins a large object that is written piece by piece.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where no file can be created for it.
    pub fn begin(&self, key: &str) -> Result<ObjectWriter, Error> {
        let folder = self.backend.scratch()?;
        let number = SCRATCH_NUMBER.fetch_add(1, Ordering::Relaxed);
        let file_path = folder.join(format!("{}-{number}.tmp", std::process::id()));
        let file = std::fs::File::create(&file_path).map_err(|error| unavailable("create", &file_path, &error))?;
        let file = BufWriter::with_capacity(WRITE_BUFFER_BYTES, file);
        Ok(ObjectWriter { backend: Arc::clone(&self.backend), key: key.to_owned(), scratch: Scratch { path: file_path }, file })
    }

    /// The object's key behind the place's name, for messages.
    pub fn full_name(&self, key: &str) -> String {
        let place = self.place();
        format!("{}/{key}", place.trim_end_matches('/'))
    }
}

/// A large object in the making. Nothing of it can be seen before [`ObjectWriter::finish`]; dropped, it leaves nothing.
#[derive(Debug)]
pub struct ObjectWriter {
    backend: Arc<dyn Backend>,
    key: String,
    file: BufWriter<std::fs::File>,
    scratch: Scratch,
}

impl ObjectWriter {
    /// Appends bytes.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the disk is full or fails.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(|error| unavailable("write", &self.scratch.path, &error))
    }

    /// Makes all that was appended the object. It has reached the disk or the service when this returns.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the place fails.
    pub async fn finish(self) -> Result<(), Error> {
        let Self { backend, key, file, scratch } = self;
        let failed = |error: &std::io::Error| unavailable("write", &scratch.path, error);
        let file = file.into_inner().map_err(|error| failed(error.error()))?;
        file.sync_all().map_err(|error| failed(&error))?;
        drop(file);
        backend.adopt(&key, &scratch.path).await
    }
}

/// A file that goes when this goes, unless it was moved away before.
#[derive(Debug)]
struct Scratch {
    path: PathBuf,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It may have been moved to its place, and what a killed run leaves is swept by a prune.
        let _ = std::fs::remove_file(&self.path);
    }
}

pub(crate) fn unavailable(operation: &'static str, path: &Path, error: &std::io::Error) -> Error {
    Error::Unavailable { operation, key: path.display().to_string(), detail: error.to_string() }
}

static SCRATCH_NUMBER: AtomicU64 = AtomicU64::new(0);
const WRITE_BUFFER_BYTES: usize = 1 << 20;
