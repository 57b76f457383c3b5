//! Spin's own key-value store: an SQLite file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, params};

use super::{Entry, KeyList, KeyValue, ListedKey, ListingKind, NotDone, TargetLimits, Value};
use crate::Error;

/// A store in the file of Spin's key-value stores. Spin may be reading it.
#[derive(Debug)]
pub struct SpinKeys {
    path: PathBuf,
    store: String,
    limits: TargetLimits,
}

impl SpinKeys {
    /// The store of this label. The file and its folder are made by the first write.
    pub fn new(path: &Path, store: &str) -> Self {
        Self {
            path: path.to_path_buf(),
            store: store.to_owned(),
            limits: TargetLimits { list_keys: LIST_KEYS, ..TargetLimits::own(ListingKind::Computed) },
        }
    }

    /// Runs on the file; `None` where there is no file and none is to be made.
    fn run<T>(
        &self,
        operation: &'static str,
        make: bool,
        run: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, Error> {
        let key = || format!("{} of {}", self.store, self.path.display());
        let failed = |detail: String| Error::Unavailable { operation, key: key(), detail };
        if !make && !self.path.exists() {
            return Ok(None);
        }
        if make && let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| failed(error.to_string()))?;
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = Connection::open_with_flags(&self.path, flags).and_then(|mut file| {
            file.busy_timeout(BUSY)?;
            file.execute(TABLE, [])?;
            run(&mut file)
        });
        opened.map(Some).map_err(|error| match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Error::Full { place: self.place(), detail: error.to_string() },
            Some(ErrorCode::NotADatabase | ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
                Error::Refused(format!("cannot {operation} {}: {error}", key()))
            }
            _ => failed(error.to_string()),
        })
    }
}

#[async_trait]
impl KeyValue for SpinKeys {
    fn place(&self) -> String {
        format!("Spin store {} in {}", self.store, self.path.display())
    }

    fn limits(&self) -> &TargetLimits {
        &self.limits
    }

    async fn read(&self, key: &str) -> Result<Option<Value>, Error> {
        let read = |file: &mut Connection| {
            let select = "SELECT value FROM spin_key_value WHERE store = ?1 AND key = ?2";
            file.query_row(select, params![self.store, key], |row| row.get::<_, Vec<u8>>(0)).optional()
        };
        let found = self.run("read", false, read)?.flatten();
        Ok(found.map(|bytes| Value { bytes: Bytes::from(bytes), version: None }))
    }

    async fn list(&self, prefix: &str, cursor: Option<&str>) -> Result<KeyList, Error> {
        let list = |file: &mut Connection| {
            // The primary key gives a range of keys in order.
            let mut select = file.prepare(
                "SELECT key, value FROM spin_key_value WHERE store = ?1 AND key > ?2 AND key >= ?3 ORDER BY key LIMIT ?4",
            )?;
            let rows = select.query_map(params![self.store, cursor.unwrap_or_default(), prefix, LIST_KEYS as i64], |row| {
                let (key, value): (String, Vec<u8>) = (row.get(0)?, row.get(1)?);
                Ok(ListedKey { key, bytes: Some(value.len() as u64), digest: Some(digest(&value)) })
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        let mut keys = self.run("list", false, list)?.unwrap_or_default();
        let full = keys.len() == LIST_KEYS;
        let read = keys.len();
        keys.retain(|listed| listed.key.starts_with(prefix));
        let cursor = keys.last().filter(|_| full && keys.len() == read).map(|listed| listed.key.clone());
        Ok(KeyList { keys, cursor })
    }

    async fn write(&self, batch: &[Entry]) -> Result<Vec<NotDone>, Error> {
        let write = |file: &mut Connection| {
            let transaction = file.transaction()?;
            {
                let mut insert = transaction.prepare(INSERT)?;
                for entry in batch {
                    insert.execute(params![self.store, entry.key, &entry.value[..]])?;
                }
            }
            transaction.commit()
        };
        self.run("write", true, write)?;
        Ok(Vec::new())
    }

    async fn replace(&self, entry: &Entry, _version: Option<&str>) -> Result<(), Error> {
        self.write(std::slice::from_ref(entry)).await.map(drop)
    }

    async fn delete(&self, keys: &[String]) -> Result<Vec<NotDone>, Error> {
        let delete = |file: &mut Connection| {
            let transaction = file.transaction()?;
            {
                let mut delete = transaction.prepare("DELETE FROM spin_key_value WHERE store = ?1 AND key = ?2")?;
                for key in keys {
                    delete.execute(params![self.store, key])?;
                }
            }
            transaction.commit()
        };
        self.run("delete", false, delete)?;
        Ok(Vec::new())
    }

    fn digest_of(&self, entry: &Entry) -> Option<String> {
        Some(digest(&entry.value))
    }
}

fn digest(value: &[u8]) -> String {
    blake3::hash(value).to_hex().to_string()
}

/// How long another writer may hold the file.
const BUSY: Duration = Duration::from_secs(5);
/// What Spin makes of an empty file.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS spin_key_value (
    store TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (store, key))";
const INSERT: &str = "INSERT INTO spin_key_value (store, key, value) VALUES (?1, ?2, ?3)
    ON CONFLICT (store, key) DO UPDATE SET value = ?3";
/// Keys of one listing; their values are read.
const LIST_KEYS: usize = 200;
