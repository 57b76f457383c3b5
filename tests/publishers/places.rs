//! The places that snapshots are published to, and what is really in them.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use mezze_replica::{CloudflareKv, FastlyKv, ObjectKeys, RedisKeys, SpinKeys, Store, Target};
use rusqlite::OptionalExtension as _;

use crate::vendors::cloudflare::Cloudflare;
use crate::vendors::fastly::Fastly;
use crate::vendors::s3::S3;
use crate::world::Sees;

/// A replica's place.
pub(crate) struct Place {
    pub(crate) target: Target,
    pub(crate) sees: Sees,
}

impl Place {
    pub(crate) fn cloudflare(cloudflare: &Cloudflare) -> Self {
        let kv = cloudflare_kv(cloudflare, Cloudflare::TOKEN);
        let seen = cloudflare.clone();
        let sees = Sees::Keys(Arc::new(move |key| seen.value(key).map(Vec::from)));
        Self { target: Target::Keys(Arc::new(kv)), sees }
    }

    pub(crate) fn fastly(fastly: &Fastly) -> Self {
        let url = format!("http://{}", fastly.address());
        let kv = FastlyKv::new(&url, Fastly::STORE, Fastly::TOKEN, "FASTLY").expect("it is a store");
        let seen = fastly.clone();
        let sees = Sees::Keys(Arc::new(move |key| seen.value(key).map(Vec::from)));
        Self { target: Target::Keys(Arc::new(kv)), sees }
    }

    /// A database of a Redis server.
    pub(crate) fn redis(address: SocketAddr, database: u64) -> Self {
        let keys = RedisKeys::new(&format!("redis://{address}/{database}"), None, "REDIS").expect("it is a URL");
        let client = Mutex::new(RedisClient::connect(address, database));
        let sees = Sees::Keys(Arc::new(move |key| client.lock().unwrap_or_else(PoisonError::into_inner).get(key)));
        Self { target: Target::Keys(Arc::new(keys)), sees }
    }

    pub(crate) fn spin(file: &Path) -> Self {
        let keys = SpinKeys::new(file, "default");
        let file = file.to_path_buf();
        Self { target: Target::Keys(Arc::new(keys)), sees: Sees::Keys(Arc::new(move |key| spin_value(&file, key))) }
    }

    /// Objects in a folder.
    pub(crate) fn objects(folder: &Path) -> Self {
        let store = Store::folder(folder).expect("the folder can be made");
        Self { target: Target::Keys(Arc::new(ObjectKeys::new(store))), sees: files(folder.to_path_buf()) }
    }

    /// A directory replica in a folder.
    pub(crate) fn directory(folder: &Path) -> Self {
        let store = Store::folder(folder).expect("the folder can be made");
        Self { target: Target::Folder(store), sees: Sees::Files(folder.to_path_buf()) }
    }

    /// Objects in the bucket that the environment leads to.
    pub(crate) fn s3_objects(name: &str) -> Self {
        let (store, folder) = s3(name);
        Self { target: Target::Keys(Arc::new(ObjectKeys::new(store))), sees: files(folder) }
    }

    /// A directory replica there.
    pub(crate) fn s3_directory(name: &str) -> Self {
        let (store, folder) = s3(name);
        Self { target: Target::Folder(store), sees: Sees::Files(folder) }
    }
}

pub(crate) fn cloudflare_kv(cloudflare: &Cloudflare, token: &str) -> CloudflareKv {
    let url = format!("http://{}", cloudflare.address());
    CloudflareKv::new(&url, Cloudflare::ACCOUNT, Cloudflare::NAMESPACE, token, "CLOUDFLARE").expect("it is a namespace")
}

fn files(folder: PathBuf) -> Sees {
    Sees::Keys(Arc::new(move |key| fs::read(folder.join(key)).ok()))
}

/// A value in the file of Spin's stores; `None` where the file or its table is not there yet.
pub(crate) fn spin_value(file: &Path, key: &str) -> Option<Vec<u8>> {
    let file = rusqlite::Connection::open_with_flags(file, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    let select = "SELECT value FROM spin_key_value WHERE store = 'default' AND key = ?1";
    file.query_row(select, [key], |row| row.get(0)).optional().ok()?
}

fn s3(name: &str) -> (Store, PathBuf) {
    let bucket = std::env::var_os(BUCKET_VARIABLE).expect("another test runs this one");
    let store = Store::open(&format!("s3://{}/{name}", S3::BUCKET), Path::new("/")).expect("it is the URL of a store");
    (store, PathBuf::from(bucket).join(name))
}

/// Runs an ignored test in a process of its own, whose environment leads to an S3 server.
pub(crate) fn run_with_s3(test: &str) {
    let s3 = S3::start();
    let mut command = Command::new(std::env::current_exe().expect("a test is a program"));
    s3.configure(command.args(["--exact", test, "--ignored", "--nocapture"]).env(BUCKET_VARIABLE, s3.bucket()));
    let output = command.output().expect("it can be run");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

/// As much of a client of Redis as a test needs, independent of the one that publishes.
pub(crate) struct RedisClient(BufReader<TcpStream>);

impl RedisClient {
    pub(crate) fn connect(address: SocketAddr, database: u64) -> Self {
        let mut client = Self(BufReader::new(TcpStream::connect(address).expect("the server listens")));
        client.say(&[b"SELECT", database.to_string().as_bytes()]);
        client
    }

    pub(crate) fn get(&mut self, key: &str) -> Option<Vec<u8>> {
        self.say(&[b"GET", key.as_bytes()])
    }

    /// Says a command; `None` for nil, the bytes or the line otherwise.
    pub(crate) fn say(&mut self, words: &[&[u8]]) -> Option<Vec<u8>> {
        let mut command = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            command.extend(format!("${}\r\n", word.len()).bytes());
            command.extend(*word);
            command.extend(b"\r\n");
        }
        self.0.get_mut().write_all(&command).expect("the server reads");
        let mut line = String::new();
        self.0.read_line(&mut line).expect("the server answers");
        assert!(!line.starts_with('-'), "{line}");
        let Some(length) = line.strip_prefix('$') else { return Some(line.into_bytes()) };
        let mut value = vec![0; usize::try_from(length.trim().parse::<i64>().expect("a length is a number")).ok()? + 2];
        self.0.read_exact(&mut value).expect("the value is whole");
        value.truncate(value.len() - 2);
        Some(value)
    }
}

const BUCKET_VARIABLE: &str = "MEZZE_TEST_BUCKET";
