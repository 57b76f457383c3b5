//! Objects behind a URL.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutPayload, WriteMultipart};
use url::Url;

use crate::Error;
use crate::store::{Backend, ObjectStat, unavailable};

/// A prefix of an object store. Its conditional writes (`If-None-Match`) make an object that is there stay.
#[derive(Debug)]
pub(crate) struct RemoteFolder {
    url: String,
    store: Arc<dyn ObjectStore>,
    prefix: ObjectPath,
}

impl RemoteFolder {
    pub(crate) fn open(location: &str) -> Result<Self, Error> {
        let refused = |detail: String| Error::Location { location: location.to_owned(), detail };
        let url = Url::parse(location).map_err(|error| refused(error.to_string()))?;
        if url.password().is_some() {
            return Err(Error::Location {
                location: format!("{}://...", url.scheme()),
                detail: "a URL must not hold a password; set the environment variables of the service".to_owned(),
            });
        }
        let options = std::env::vars().map(|(name, value)| (name.to_ascii_lowercase(), value));
        let (store, prefix) = object_store::parse_url_opts(&url, options).map_err(|error| refused(error.to_string()))?;
        Ok(Self { url: location.to_owned(), store: Arc::from(store), prefix })
    }

    fn path(&self, key: &str) -> ObjectPath {
        let mut path = self.prefix.clone();
        for part in key.split('/') {
            path = path.join(part);
        }
        path
    }

    fn failed(&self, operation: &'static str, key: &str, error: &object_store::Error) -> Error {
        Error::Unavailable { operation, key: format!("{}/{key}", self.url.trim_end_matches('/')), detail: error.to_string() }
    }

    fn found<T>(&self, operation: &'static str, key: &str, result: Result<T, object_store::Error>) -> Result<Option<T>, Error> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed(operation, key, &error)),
        }
    }
}

#[async_trait]
impl Backend for RemoteFolder {
    fn place(&self) -> String {
        self.url.clone()
    }

    fn folder(&self) -> Option<&Path> {
        None
    }

    async fn read(&self, key: &str) -> Result<Option<Bytes>, Error> {
        let Some(object) = self.found("read", key, self.store.get(&self.path(key)).await)? else { return Ok(None) };
        object.bytes().await.map(Some).map_err(|error| self.failed("read", key, &error))
    }

    async fn read_range(&self, key: &str, offset: u64, length: u64) -> Result<Option<Bytes>, Error> {
        let range = offset..offset.saturating_add(length);
        self.found("read", key, self.store.get_range(&self.path(key), range).await)
    }

    async fn stat(&self, key: &str) -> Result<Option<ObjectStat>, Error> {
        let stat = self.found("read", key, self.store.head(&self.path(key)).await)?;
        Ok(stat.map(|stat| ObjectStat::new(key, stat.size, stat.last_modified.timestamp_nanos_opt().unwrap_or_default())))
    }

    async fn replace(&self, key: &str, bytes: Bytes) -> Result<(), Error> {
        let put = self.store.put(&self.path(key), PutPayload::from_bytes(bytes)).await;
        put.map(drop).map_err(|error| self.failed("write", key, &error))
    }

    async fn create(&self, key: &str, bytes: Bytes) -> Result<bool, Error> {
        let put = self.store.put_opts(&self.path(key), PutPayload::from_bytes(bytes), PutMode::Create.into()).await;
        match put {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(false),
            Err(error) => Err(self.failed("create", key, &error)),
        }
    }

    async fn adopt(&self, key: &str, file: &Path) -> Result<(), Error> {
        use tokio::io::AsyncReadExt as _;
        let mut file_handle = tokio::fs::File::open(file).await.map_err(|error| unavailable("read", file, &error))?;
        let upload = self.store.put_multipart(&self.path(key)).await.map_err(|error| self.failed("write", key, &error))?;
        let mut upload = WriteMultipart::new(upload);
        let mut chunk = vec![0; UPLOAD_CHUNK_BYTES];
        loop {
            let count = file_handle.read(&mut chunk).await.map_err(|error| unavailable("read", file, &error))?;
            let Some(bytes) = chunk.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
            upload.wait_for_capacity(UPLOADS_AT_ONCE).await.map_err(|error| self.failed("write", key, &error))?;
            upload.write(bytes);
        }
        upload.finish().await.map(drop).map_err(|error| self.failed("write", key, &error))?;
        tokio::fs::remove_file(file).await.map_err(|error| unavailable("delete", file, &error))
    }

    async fn list(&self, folder: &str) -> Result<Vec<ObjectStat>, Error> {
        let prefix = self.path(folder);
        let found: Result<Vec<_>, _> = self.store.list(Some(&prefix)).try_collect().await;
        let mut objects = Vec::new();
        for stat in self.found("list", folder, found)?.unwrap_or_default() {
            let Some(rest) = stat.location.prefix_match(&prefix) else { continue };
            let rest: Vec<_> = rest.map(|part| part.as_ref().to_owned()).collect();
            let modified = stat.last_modified.timestamp_nanos_opt().unwrap_or_default();
            objects.push(ObjectStat::new(format!("{folder}/{}", rest.join("/")), stat.size, modified));
        }
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(objects)
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        self.found("delete", key, self.store.delete(&self.path(key)).await).map(drop)
    }

    fn scratch(&self) -> Result<PathBuf, Error> {
        Ok(std::env::temp_dir())
    }
}

const UPLOAD_CHUNK_BYTES: usize = 1 << 20;
const UPLOADS_AT_ONCE: usize = 4;
