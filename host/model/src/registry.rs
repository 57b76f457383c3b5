//! The registry: what was applied, version by version, in objects that are created once and never changed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::TryStreamExt as _;
use mezze_core::{Timestamp, TransformId};
use object_store::path::Path as Key;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt as _, PutMode, PutPayload, local::LocalFileSystem};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::definitions::Definitions;
use crate::json::{digest, to_json};
use crate::load::from_node;
use crate::node::Node;

/// A folder or an object-store prefix with a numbered object for each version of the definitions that was applied.
///
/// A version's object is created only if there is none of its number: of two applies at the same time one is refused.
#[derive(Clone, Debug)]
pub struct Registry {
    store: Arc<dyn ObjectStore>,
    prefix: Key,
    place: String,
    /// The folder, if it is one.
    folder: Option<PathBuf>,
}

/// One version of the definitions.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Version {
    /// Its number, from 1.
    pub number: u64,
    /// When it was recorded, by the clock of whoever did.
    pub applied_at: Timestamp,
    /// Who recorded it.
    pub applied_by: String,
    /// The definitions.
    pub definitions: Definitions,
    /// Their digest, see [`digest`].
    pub digest: [u8; 32],
}

/// A registry cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// Someone else recorded this version first. Nothing was changed.
    #[error(
        "version {number} of the registry {place} was recorded by another apply at the same time; look at `mezze plan` again"
    )]
    Conflict {
        /// The version.
        number: u64,
        /// The registry.
        place: String,
    },
    /// A version's object is not what was written.
    #[error("version {number} of the registry {place} is damaged: {detail}")]
    Damaged {
        /// The version.
        number: u64,
        /// The registry.
        place: String,
        /// What is wrong.
        detail: String,
    },
    /// The place is neither a folder nor a URL of a known service.
    #[error("cannot open the registry {place}: {detail}")]
    Location {
        /// What was given.
        place: String,
        /// What is wrong.
        detail: String,
    },
    /// The version was written by a later Mezze.
    #[error("version {number} of the registry {place} has the format {found}, this build reads {FORMAT}; update mezze")]
    Newer {
        /// The version.
        number: u64,
        /// The registry.
        place: String,
        /// The format found.
        found: u32,
    },
    /// The place did not do what it was asked to.
    #[error("cannot {operation} the registry {place}: {detail}")]
    Unavailable {
        /// `read` or `write`.
        operation: &'static str,
        /// The registry.
        place: String,
        /// What the system or service said.
        detail: String,
    },
}

impl RegistryError {
    /// Whether another apply was first.
    pub const fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }
}

/// A version as it is written.
#[derive(Deserialize, Serialize)]
struct Record {
    format: u32,
    number: u64,
    applied_at_nanos: i64,
    applied_by: String,
    digest: String,
    project: String,
    definitions: Json,
}

/// The version of the records' format.
const FORMAT: u32 = 1;

impl Version {
    /// The digest as 64 hex digits.
    pub fn digest_hex(&self) -> String {
        hex(&self.digest)
    }
}

impl Registry {
    /// The registry in a folder (relative to `repo`), or under an object-store URL. Credentials of services come from the
    /// environment.
    ///
    /// # Errors
    /// [`RegistryError::Location`] where it cannot be opened.
    pub fn open(location: &str, repo: &Path) -> Result<Self, RegistryError> {
        let refused = |detail: String| RegistryError::Location { place: location.to_owned(), detail };
        if location.contains("://") && !location.starts_with("file://") {
            let url = url::Url::parse(location).map_err(|error| refused(error.to_string()))?;
            let variables = std::env::vars().map(|(name, value)| (name.to_ascii_lowercase(), value));
            let (store, prefix) = object_store::parse_url_opts(&url, variables).map_err(|error| refused(error.to_string()))?;
            return Ok(Self { store: store.into(), prefix, place: location.to_owned(), folder: None });
        }
        let folder = repo.join(location.strip_prefix("file://").unwrap_or(location));
        std::fs::create_dir_all(&folder).map_err(|error| refused(crate::load::plain(&error)))?;
        let store = LocalFileSystem::new_with_prefix(&folder).map_err(|error| refused(error.to_string()))?;
        let place = folder.display().to_string();
        Ok(Self { store: Arc::new(store), prefix: Key::default(), place, folder: Some(folder) })
    }

    /// The folder or URL, for messages.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The version recorded last, `None` before the first.
    ///
    /// # Errors
    /// [`RegistryError::Damaged`], [`RegistryError::Newer`] or [`RegistryError::Unavailable`].
    pub async fn latest(&self) -> Result<Option<Version>, RegistryError> {
        match self.numbers().await?.last() {
            Some(number) => self.version(*number).await.map(Some),
            None => Ok(None),
        }
    }

    /// The versions there are, oldest first.
    ///
    /// # Errors
    /// [`RegistryError::Unavailable`] where the place fails.
    pub async fn numbers(&self) -> Result<Vec<u64>, RegistryError> {
        let objects: Vec<_> =
            self.store.list(Some(&self.prefix)).try_collect().await.map_err(|error| self.unavailable("read", &error))?;
        let mut numbers: Vec<u64> = objects.iter().filter_map(|object| number_of(&object.location)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// One version.
    ///
    /// # Errors
    /// [`RegistryError::Damaged`], [`RegistryError::Newer`] or [`RegistryError::Unavailable`].
    pub async fn version(&self, number: u64) -> Result<Version, RegistryError> {
        let read = async { self.store.get(&self.key(number)).await?.bytes().await };
        let bytes = read.await.map_err(|error| self.unavailable("read", &error))?;
        let damaged = |detail: String| RegistryError::Damaged { number, place: self.place.clone(), detail };
        let record: Record = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if record.format != FORMAT {
            return Err(RegistryError::Newer { number, place: self.place.clone(), found: record.format });
        }
        if record.number != number {
            return Err(damaged(format!("it says that it is version {}", record.number)));
        }
        let text = record.definitions.to_string();
        let node: Node = serde_saphyr::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        let definitions = from_node(&record.project, &node, "definitions").map_err(|error| damaged(error.to_string()))?;
        let digest = digest(&definitions);
        if hex(&digest) != record.digest {
            return Err(damaged(format!("its digest is {}, recorded is {}", hex(&digest), record.digest)));
        }
        Ok(Version {
            number,
            applied_at: Timestamp::from_nanos(record.applied_at_nanos),
            applied_by: record.applied_by,
            definitions,
            digest,
        })
    }

    /// Records definitions as the version after `previous`, the last that the caller knows; `None` for the first.
    ///
    /// # Errors
    /// [`RegistryError::Conflict`] where someone else recorded that version; then nothing was changed.
    /// [`RegistryError::Unavailable`] where the place fails.
    pub async fn append(
        &self,
        previous: Option<u64>,
        definitions: &Definitions,
        applied_by: &str,
        now: Timestamp,
    ) -> Result<Version, RegistryError> {
        let number = previous.unwrap_or(0).saturating_add(1);
        let digest = digest(definitions);
        let record = Record {
            format: FORMAT,
            number,
            applied_at_nanos: now.nanos(),
            applied_by: applied_by.to_owned(),
            digest: hex(&digest),
            project: definitions.project.clone(),
            definitions: to_json(definitions),
        };
        let unwritable = |error: serde_json::Error| RegistryError::Unavailable {
            operation: "write",
            place: self.place.clone(),
            detail: error.to_string(),
        };
        let mut bytes = serde_json::to_vec_pretty(&record).map_err(unwritable)?;
        bytes.push(b'\n');
        match self.store.put_opts(&self.key(number), PutPayload::from(bytes), PutMode::Create.into()).await {
            Ok(_) => {
                self.sync(number)?;
                let (applied_by, definitions) = (applied_by.to_owned(), definitions.clone());
                Ok(Version { number, applied_at: now, applied_by, definitions, digest })
            }
            Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {
                Err(RegistryError::Conflict { number, place: self.place.clone() })
            }
            Err(error) => Err(self.unavailable("write", &error)),
        }
    }

    /// Keeps a component that applied definitions name by its digest, which its bytes have.
    ///
    /// # Errors
    /// [`RegistryError::Unavailable`] where the place fails.
    pub async fn put_transform(&self, id: &TransformId, bytes: Vec<u8>) -> Result<(), RegistryError> {
        // Of one digest there is one content; what has another is damaged.
        if self.transform(id).await?.is_some() {
            return Ok(());
        }
        self.store
            .put(&self.transform_key(id), PutPayload::from(bytes))
            .await
            .map_err(|error| self.unavailable("write", &error))?;
        Ok(())
    }

    /// A component by its digest; `None` where it was never kept, or is not what it was.
    ///
    /// # Errors
    /// [`RegistryError::Unavailable`] where the place fails.
    pub async fn transform(&self, id: &TransformId) -> Result<Option<Vec<u8>>, RegistryError> {
        let read = async { self.store.get(&self.transform_key(id)).await?.bytes().await };
        match read.await {
            Ok(bytes) if *blake3::hash(&bytes).as_bytes() == id.bytes() => Ok(Some(bytes.into())),
            Ok(_) | Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.unavailable("read", &error)),
        }
    }

    /// The digests of the components that are kept.
    ///
    /// # Errors
    /// [`RegistryError::Unavailable`] where the place fails.
    pub async fn transforms(&self) -> Result<Vec<TransformId>, RegistryError> {
        let folder = self.prefix.clone().join("transforms");
        let objects: Vec<_> =
            self.store.list(Some(&folder)).try_collect().await.map_err(|error| self.unavailable("read", &error))?;
        Ok(objects.iter().filter_map(|object| object.location.filename()?.strip_suffix(".wasm")?.parse().ok()).collect())
    }

    fn transform_key(&self, id: &TransformId) -> Key {
        self.prefix.clone().join("transforms").join(format!("{id}.wasm"))
    }

    /// Removes every version, the oldest first, and then all components. Returns how many there were.
    ///
    /// # Errors
    /// [`RegistryError::Unavailable`] where the place fails.
    pub async fn teardown(&self) -> Result<usize, RegistryError> {
        let numbers = self.numbers().await?;
        for number in &numbers {
            self.store.delete(&self.key(*number)).await.map_err(|error| self.unavailable("write", &error))?;
        }
        let transforms = self.prefix.clone().join("transforms");
        let kept: Vec<_> =
            self.store.list(Some(&transforms)).try_collect().await.map_err(|error| self.unavailable("read", &error))?;
        for object in kept {
            self.store.delete(&object.location).await.map_err(|error| self.unavailable("write", &error))?;
        }
        if let Some(folder) = &self.folder {
            // It is empty, unless others keep something there.
            let _ = std::fs::remove_dir(folder.join("transforms"));
        }
        Ok(numbers.len())
    }

    /// Makes a version that was just written outlast a power cut, where it is a file.
    fn sync(&self, number: u64) -> Result<(), RegistryError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let synced = File::open(folder.join(format!("{number:020}.json")))
            .and_then(|file| file.sync_all())
            .and_then(|()| File::open(folder)?.sync_all());
        synced.map_err(|error| RegistryError::Unavailable {
            operation: "write",
            place: self.place.clone(),
            detail: crate::load::plain(&error),
        })
    }

    fn key(&self, number: u64) -> Key {
        self.prefix.clone().join(format!("{number:020}.json"))
    }

    fn unavailable(&self, operation: &'static str, error: &StoreError) -> RegistryError {
        RegistryError::Unavailable { operation, place: self.place.clone(), detail: error.to_string() }
    }
}

fn number_of(key: &Key) -> Option<u64> {
    let digits = key.filename()?.strip_suffix(".json")?;
    if digits.len() == 20 { digits.parse().ok() } else { None }
}

fn hex(digest: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*digest).to_hex().to_string()
}
