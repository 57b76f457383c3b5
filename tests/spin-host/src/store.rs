//! Where the values of a key-value store are: in a SQLite file, as Spin has them, or at a server of the test's.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rusqlite::{Connection, OptionalExtension as _, params};
use tokio::net::TcpStream;

/// A key-value store. A clone is the same store.
#[derive(Clone)]
pub struct Store(Place);

#[derive(Clone)]
enum Place {
    /// A server's address. Each read is a request of its own, so that a test can delay, fail or never end any of them.
    Http(Arc<str>),
    /// One connection, as Spin has it: reads wait for each other.
    Sqlite { label: Arc<str>, connection: Arc<Mutex<Connection>> },
}

impl Store {
    pub(crate) fn http(address: &str) -> Self {
        Self(Place::Http(address.into()))
    }

    /// Opens a file, which is made if it is not there.
    pub(crate) fn sqlite(label: &str, file: &Path) -> wasmtime::Result<Self> {
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let connection = Connection::open(file)?;
        // Others may write meanwhile.
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.execute(
            "CREATE TABLE IF NOT EXISTS spin_key_value (
                store TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (store, key))",
            [],
        )?;
        Ok(Self(Place::Sqlite { label: label.into(), connection: Arc::new(Mutex::new(connection)) }))
    }

    pub(crate) async fn get(&self, key: String) -> Result<Option<Vec<u8>>, String> {
        if let Place::Http(address) = &self.0 {
            return fetch(address, &key).await.map_err(|error| format!("{address}: {error}"));
        }
        self.query(move |connection, label| {
            let mut select = connection.prepare_cached("SELECT value FROM spin_key_value WHERE store=?1 AND key=?2")?;
            select.query_row(params![label, key], |row| row.get(0)).optional()
        })
        .await
    }

    pub(crate) async fn keys(&self) -> Result<Vec<String>, String> {
        self.query(|connection, label| {
            let mut select = connection.prepare_cached("SELECT key FROM spin_key_value WHERE store=?1")?;
            select.query_map([label], |row| row.get(0))?.collect()
        })
        .await
    }

    pub(crate) async fn set(&self, key: String, value: Vec<u8>) -> Result<(), String> {
        self.query(move |connection, label| {
            let upsert = "INSERT INTO spin_key_value (store, key, value) VALUES (?1, ?2, ?3)
                ON CONFLICT(store, key) DO UPDATE SET value=?3";
            connection.execute(upsert, params![label, key, value]).map(drop)
        })
        .await
    }

    pub(crate) async fn delete(&self, key: String) -> Result<(), String> {
        self.query(move |connection, label| {
            connection.execute("DELETE FROM spin_key_value WHERE store=?1 AND key=?2", params![label, key]).map(drop)
        })
        .await
    }

    /// Runs a query where it may wait.
    async fn query<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection, &str) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, String> {
        let Place::Sqlite { label, connection } = self.0.clone() else {
            return Err("a store at a server can only be read by key".to_owned());
        };
        let queried = tokio::task::spawn_blocking(move || {
            query(&connection.lock().unwrap_or_else(PoisonError::into_inner), &label).map_err(|error| error.to_string())
        });
        queried.await.map_err(|error| error.to_string())?
    }
}

async fn fetch(address: &str, key: &str) -> Result<Option<Vec<u8>>, Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(TcpStream::connect(address).await?)).await?;
    // What goes wrong on the connection is also what the request ends with.
    tokio::spawn(connection);
    let target = format!("/{}?urlencoded=true", percent_encoded(key));
    let response = sender.send_request(Request::get(target).header("host", address).body(String::new())?).await?;
    match response.status() {
        StatusCode::OK => Ok(Some(response.into_body().collect().await?.to_bytes().into())),
        StatusCode::NOT_FOUND => Ok(None),
        status => Err(format!("the answer is {status}").into()),
    }
}

fn percent_encoded(key: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    key.bytes().map(encode).collect()
}
