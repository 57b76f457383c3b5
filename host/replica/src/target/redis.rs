//! Redis and Valkey.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, ErrorKind, RedisError, Script};
use tokio::sync::OnceCell;

use super::{Entry, KeyList, KeyValue, ListedKey, ListingKind, NotDone, TargetLimits, Value};
use crate::Error;

/// A database of Redis, under the very keys: what Spin's `redis` stores read.
pub struct RedisKeys {
    place: String,
    token_env: String,
    client: Client,
    /// Made by the first call, in whose runtime it lives.
    connection: OnceCell<ConnectionManager>,
    digests: Script,
    limits: TargetLimits,
}

impl fmt::Debug for RedisKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisKeys").field("place", &self.place).finish_non_exhaustive()
    }
}

impl RedisKeys {
    /// The database at a URL: `redis://host:port/number`, or `rediss://` for TLS. The password is given apart; `password_env` says
    /// in messages where it came from.
    ///
    /// # Errors
    /// [`Error::Location`] where the URL is none, or has a password in it.
    pub fn new(url: &str, password: Option<&str>, password_env: &str) -> Result<Self, Error> {
        let parsed = url::Url::parse(url).ok().filter(|url| matches!(url.scheme(), "redis" | "rediss"));
        let refused = |detail: &str| Error::Location { location: "the Redis URL".to_owned(), detail: detail.to_owned() };
        let Some(mut parsed) = parsed else {
            return Err(refused("expected redis://host:port/number, or rediss:// for TLS"));
        };
        if parsed.password().is_some() {
            return Err(refused("a URL must not hold a password; name an environment variable in `password_env`"));
        }
        let place = parsed.to_string();
        if let Some(password) = password {
            parsed.set_password(Some(password)).map_err(|()| refused("it can have no password"))?;
        }
        // Its message may show the URL.
        let client = Client::open(parsed.as_str()).map_err(|_| refused("expected redis://host:port/number"))?;
        let limits = TargetLimits { value_bytes: 512 << 20, list_keys: SCAN_KEYS, ..TargetLimits::own(ListingKind::Computed) };
        let connection = OnceCell::new();
        Ok(Self { place, token_env: password_env.to_owned(), client, connection, digests: Script::new(DIGESTS), limits })
    }

    async fn connection(&self) -> Result<ConnectionManager, Error> {
        let make = async || {
            let config = ConnectionManagerConfig::new().set_number_of_retries(1);
            self.client.get_connection_manager_lazy(config).map_err(|error| self.failed("open", "a connection", &error))
        };
        self.connection.get_or_try_init(make).await.cloned()
    }

    fn failed(&self, operation: &'static str, key: &str, error: &RedisError) -> Error {
        let detail = error.to_string();
        if error.kind() == ErrorKind::AuthenticationFailed || matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM")) {
            return Error::Denied { place: self.place.clone(), detail, token_env: self.token_env.clone() };
        }
        if error.code() == Some("OOM") {
            return Error::Full { place: self.place.clone(), detail };
        }
        Error::Unavailable { operation, key: format!("{key} of {}", self.place), detail }
    }
}

#[async_trait]
impl KeyValue for RedisKeys {
    fn place(&self) -> String {
        self.place.clone()
    }

    fn limits(&self) -> &TargetLimits {
        &self.limits
    }

    async fn read(&self, key: &str) -> Result<Option<Value>, Error> {
        let mut connection = self.connection().await?;
        let value: Option<Vec<u8>> =
            redis::cmd("GET").arg(key).query_async(&mut connection).await.map_err(|error| self.failed("read", key, &error))?;
        Ok(value.map(|bytes| Value { bytes: Bytes::from(bytes), version: None }))
    }

    async fn list(&self, prefix: &str, cursor: Option<&str>) -> Result<KeyList, Error> {
        let failed = |error: RedisError| self.failed("list", "the keys", &error);
        let mut connection = self.connection().await?;
        let (next, keys): (String, Vec<Vec<u8>>) = redis::cmd("SCAN")
            .arg(cursor.unwrap_or("0"))
            .arg("MATCH")
            .arg(format!("{prefix}*"))
            .arg("COUNT")
            .arg(SCAN_KEYS)
            .query_async(&mut connection)
            .await
            .map_err(failed)?;
        // Keys of others in the same database may be anything.
        let keys: Vec<String> = keys.into_iter().filter_map(|key| String::from_utf8(key).ok()).collect();
        let mut listed = Vec::with_capacity(keys.len());
        if !keys.is_empty() {
            let mut call = self.digests.prepare_invoke();
            keys.iter().for_each(|key| {
                call.key(key);
            });
            let facts: Vec<(i64, String)> = call.invoke_async(&mut connection).await.map_err(failed)?;
            for (key, (bytes, digest)) in keys.into_iter().zip(facts) {
                // Gone since.
                let Ok(bytes) = u64::try_from(bytes) else { continue };
                listed.push(ListedKey { key, bytes: Some(bytes), digest: Some(digest) });
            }
        }
        Ok(KeyList { keys: listed, cursor: (next != "0").then_some(next) })
    }

    async fn write(&self, batch: &[Entry]) -> Result<Vec<NotDone>, Error> {
        let mut connection = self.connection().await?;
        let mut command = redis::cmd("MSET");
        for entry in batch {
            command.arg(&entry.key).arg(&entry.value[..]);
        }
        command.query_async::<()>(&mut connection).await.map_err(|error| self.failed("write", "a batch", &error))?;
        Ok(Vec::new())
    }

    async fn replace(&self, entry: &Entry, _version: Option<&str>) -> Result<(), Error> {
        self.write(std::slice::from_ref(entry)).await.map(drop)
    }

    async fn delete(&self, keys: &[String]) -> Result<Vec<NotDone>, Error> {
        let mut connection = self.connection().await?;
        let mut command = redis::cmd("UNLINK");
        keys.iter().for_each(|key| {
            command.arg(key);
        });
        command.query_async::<i64>(&mut connection).await.map_err(|error| self.failed("delete", "keys", &error))?;
        Ok(Vec::new())
    }

    fn digest_of(&self, entry: &Entry) -> Option<String> {
        Some(sha1_smol::Sha1::from(&entry.value[..]).digest().to_string())
    }
}

/// Size and SHA-1 of each value, without sending it: the one digest that the server can compute.
const DIGESTS: &str = r"
local found = {}
for number, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key)['ok']
  if kind == 'string' then
    local value = redis.call('GET', key)
    found[number] = { string.len(value), redis.sha1hex(value) }
  else
    found[number] = { -1, '' }
  end
end
return found";
/// Keys that one step of a listing looks at.
const SCAN_KEYS: usize = 500;
