//! Spin's own key-value store: an SQLite file.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use rusqlite::{Connection, params};

use crate::Error;

/// Writes keys into the file of Spin's key-value stores, in this store and in one transaction: a reader sees all of them or none.
/// Makes file and folder where they are missing. Spin may be reading it.
///
/// # Errors
/// [`Error::Unavailable`] where the file cannot be written, or is no such file.
pub fn write_spin_store(path: &Path, store: &str, keys: &[(String, Bytes)]) -> Result<(), Error> {
    let failed = |detail: String| Error::Unavailable { operation: "write", key: path.display().to_string(), detail };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| failed(error.to_string()))?;
    }
    let write = || -> rusqlite::Result<()> {
        let mut file = Connection::open(path)?;
        file.busy_timeout(BUSY)?;
        file.execute(TABLE, [])?;
        let transaction = file.transaction()?;
        {
            let mut insert = transaction.prepare(INSERT)?;
            for (key, value) in keys {
                insert.execute(params![store, key, &value[..]])?;
            }
        }
        transaction.commit()
    };
    write().map_err(|error| failed(error.to_string()))
}

/// How long another writer may hold the file.
const BUSY: Duration = Duration::from_secs(5);
/// What Spin makes of an empty file.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS spin_key_value (
    store TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (store, key))";
const INSERT: &str = "INSERT INTO spin_key_value (store, key, value) VALUES (?1, ?2, ?3)
    ON CONFLICT (store, key) DO UPDATE SET value = ?3";
