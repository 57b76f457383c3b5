//! The files of a source.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::scalar::ScalarValue;
use futures::TryStreamExt;
use mezze_core::Timestamp;
use mezze_model::SourceFormat;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Location;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, ObjectStoreScheme};
use url::Url;

use crate::error::{OfflineError, Result};

/// What the messages say about extensions.
pub(crate) const KNOWN_EXTENSIONS: &str = ".parquet and .pq (Parquet), .csv (CSV), .json, .jsonl and .ndjson (JSON lines), .arrow, .arrows, .feather and .ipc (Arrow IPC)";
/// What Hive writes for a null partition value.
const HIVE_NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// The files that a path stands for.
#[derive(Clone, Debug)]
pub struct SourceFiles {
    /// The format of all of them.
    pub format: SourceFormat,
    /// The files, in order of name; never none.
    pub files: Vec<SourceFile>,
}

impl SourceFiles {
    /// The columns that the partition folders give, in order of name; the same for every file.
    pub fn partition_fields(&self) -> Vec<Field> {
        let constants = self.files.first().map(|file| file.constants.as_slice()).unwrap_or_default();
        constants.iter().map(|(name, value)| Field::new(name, value.data_type(), true)).collect()
    }

    /// The bytes of all files.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

/// One file of a source.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// The store that holds it.
    pub store: Arc<dyn ObjectStore>,
    /// Where the store holds it.
    pub location: Location,
    /// Its path, if it is a local file.
    pub local: Option<PathBuf>,
    /// Its size in bytes.
    pub size: u64,
    /// The values that its partition folders (`day=2026-11-23`) give, in order of name.
    pub constants: Vec<(String, ScalarValue)>,
    /// When it was last modified.
    pub last_modified: Timestamp,
    /// The store's tag of its content, if it gives one.
    pub etag: Option<String>,
    /// Its name in messages and in ledgers: the path as it was written, with what a folder or glob adds to it.
    pub name: String,
}

/// Where a file is, for other processes: as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredAt {
    /// In a store: the URL of the store, without the file, and the file's place there.
    Store {
        /// Such as `s3://bucket/`.
        url: String,
        /// Such as `features/users.parquet`.
        location: String,
    },
    /// In the file system, by its absolute path.
    File(PathBuf),
}

impl SourceFile {
    /// Where the file is.
    pub fn stored_at(&self) -> StoredAt {
        if let Some(path) = &self.local {
            return StoredAt::File(path.clone());
        }
        let (scheme, rest) = self.name.split_once("://").unwrap_or_default();
        let host = rest.split('/').next().unwrap_or_default();
        StoredAt::Store { url: format!("{scheme}://{host}/"), location: self.location.to_string() }
    }
}

impl StoredAt {
    /// What reads the file: its store, with credentials from the environment, its place there, and its path if it is local.
    ///
    /// # Errors
    /// Where the store's URL is of no kind that is known.
    pub fn open(&self) -> Result<(Arc<dyn ObjectStore>, Location, Option<PathBuf>)> {
        match self {
            Self::File(path) => {
                let location = Location::from_absolute_path(path);
                let location = location.map_err(|error| bad_path(&path.display().to_string(), error.to_string()))?;
                Ok((Arc::new(LocalFileSystem::new()), location, Some(path.clone())))
            }
            Self::Store { url, location } => {
                let parsed = Url::parse(url).map_err(|error| bad_path(url, format!("not a URL: {error}")))?;
                let (store, _) = object_store::parse_url_opts(&parsed, store_options())
                    .map_err(|source| OfflineError::Store { file: url.clone(), source })?;
                let location = Location::parse(location).map_err(|error| bad_path(location, error.to_string()))?;
                Ok((Arc::from(store), location, None))
            }
        }
    }
}

/// Identifies the content of a source file, so that a ledger can tell a new or changed file from one that was read before.
///
/// Of a local file it is a hash of the content; of a remote one what the store says about it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileDigest(String);

impl FileDigest {
    /// The digest as text, such as `blake3:…`, `etag:…`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for FileDigest {
    /// A digest that was written down before.
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for FileDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl SourceFile {
    /// Identifies the file's content.
    pub async fn digest(&self) -> Result<FileDigest> {
        let Some(local) = self.local.clone() else {
            let tag = match &self.etag {
                Some(etag) => format!("etag:{}:{etag}", self.size),
                None => format!("modified:{}:{}", self.size, self.last_modified),
            };
            return Ok(FileDigest(tag));
        };
        let name = self.name.clone();
        tokio::task::spawn_blocking(move || {
            let failed = |source| OfflineError::Read { file: name.clone(), source };
            let mut file = fs::File::open(&local).map_err(failed)?;
            let mut hasher = blake3::Hasher::new();
            let mut buffer = vec![0; 1 << 20];
            loop {
                let count = file.read(&mut buffer).map_err(failed)?;
                match buffer.get(..count) {
                    Some(bytes) if count > 0 => hasher.update(bytes),
                    _ => break,
                };
            }
            Ok(FileDigest(format!("blake3:{}", hasher.finalize().to_hex())))
        })
        .await?
    }
}

/// The name of a format, as definitions write it.
pub(crate) fn format_name(format: SourceFormat) -> &'static str {
    match format {
        SourceFormat::Arrow => "arrow",
        SourceFormat::Csv => "csv",
        SourceFormat::Json => "json",
        SourceFormat::Parquet => "parquet",
    }
}

/// The format that a file name's extension says.
pub fn format_of(name: &str) -> Option<SourceFormat> {
    let file = name.rsplit('/').next().unwrap_or(name);
    let (_, extension) = file.rsplit_once('.')?;
    match extension.to_ascii_lowercase().as_str() {
        "parquet" | "pq" => Some(SourceFormat::Parquet),
        "csv" => Some(SourceFormat::Csv),
        "json" | "jsonl" | "ndjson" => Some(SourceFormat::Json),
        "arrow" | "arrows" | "feather" | "ipc" => Some(SourceFormat::Arrow),
        _ => None,
    }
}

/// A file that matched, before its partition folders are read.
struct Found {
    store: Arc<dyn ObjectStore>,
    local: Option<PathBuf>,
    meta: ObjectMeta,
    name: String,
}

/// The files that `path` stands for: a file, a folder with all below it, a glob (`*`, `?`, `[a-z]`, `**`) or a URL of any of
/// these (`file://`, `s3://`, `gs://`, `az://`, with credentials from the environment). A relative path is relative to `base`.
///
/// Names that begin with `.` or `_` and empty files are passed over, unless `path` names the file itself. Folders of the form
/// `column=value` give columns, of the type that `declared` says or else int64 if all values are integers, or text.
pub async fn resolve(
    base: &Path,
    path: &str,
    format: Option<SourceFormat>,
    declared: &BTreeMap<String, DataType>,
) -> Result<SourceFiles> {
    if path.is_empty() {
        return Err(bad_path("\"\"", "the path is empty"));
    }
    let mut found = match path.split_once("://") {
        Some(("file", _)) => {
            let local = Url::parse(path).ok().and_then(|url| url.to_file_path().ok());
            let local = local.ok_or_else(|| bad_path(path, "not a file URL: it needs three slashes and an absolute path"))?;
            let local = local.to_str().ok_or_else(|| bad_path(path, "not UTF-8"))?.to_owned();
            find_local(base.to_owned(), local).await?
        }
        Some(_) => find_remote(path).await?,
        None => find_local(base.to_owned(), path.to_owned()).await?,
    };
    if found.is_empty() {
        let reason = if has_glob(path) {
            "no file matches; names that begin with . or _ and empty files are passed over"
        } else {
            "the folder has no files; names that begin with . or _ and empty files are passed over"
        };
        return Err(OfflineError::NothingMatches { path: path.to_owned(), reason: reason.to_owned() });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    let format = match format {
        Some(format) => format,
        None => common_format(path, &found)?,
    };
    let constants = partitions(path, &found, declared)?;
    let files = found.into_iter().zip(constants).map(|(file, constants)| SourceFile {
        store: file.store,
        location: file.meta.location,
        local: file.local,
        size: file.meta.size,
        constants,
        last_modified: Timestamp::from_nanos(file.meta.last_modified.timestamp_nanos_opt().unwrap_or(i64::MAX)),
        etag: file.meta.e_tag,
        name: file.name,
    });
    Ok(SourceFiles { format, files: files.collect() })
}

/// The one format that the names of all files say.
fn common_format(path: &str, found: &[Found]) -> Result<SourceFormat> {
    let mut common: Option<(SourceFormat, &str)> = None;
    for file in found {
        let format = format_of(&file.name).ok_or_else(|| OfflineError::UnknownExtension { file: file.name.clone() })?;
        match common {
            Some((first, name)) if first != format => {
                return Err(OfflineError::MixedFormats {
                    path: path.to_owned(),
                    first: name.to_owned(),
                    first_format: format_name(first),
                    second: file.name.clone(),
                    second_format: format_name(format),
                });
            }
            _ => common = Some((format, &file.name)),
        }
    }
    common.map(|(format, _)| format).ok_or_else(|| OfflineError::UnknownExtension { file: path.to_owned() })
}

fn bad_path(path: &str, reason: impl Into<String>) -> OfflineError {
    OfflineError::BadPath { path: path.to_owned(), reason: reason.into() }
}

/// Whether a path has characters that only a glob has.
fn has_glob(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

/// Splits a glob into the folder that it begins with and the pattern below it.
fn split_glob(path: &str) -> (&str, &str) {
    let meta = path.find(['*', '?', '[']).unwrap_or(path.len());
    match path.get(..meta).and_then(|head| head.rfind('/')) {
        Some(slash) => path.split_at_checked(slash + 1).unwrap_or((path, "")),
        None => ("", path),
    }
}

/// What a glob matches, below the folder it begins with.
struct Pattern(glob::Pattern);

impl Pattern {
    fn new(path: &str, pattern: &str) -> Result<Self> {
        let pattern = if pattern.ends_with('/') { format!("{pattern}**/*") } else { pattern.to_owned() };
        glob::Pattern::new(&pattern).map(Self).map_err(|error| bad_path(path, format!("not a glob: {error}")))
    }

    fn matches(&self, below: &str) -> bool {
        let options =
            glob::MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };
        self.0.matches_with(below, options)
    }
}

/// Whether a file below a folder or glob is passed over for its name.
fn is_hidden(below: &str) -> bool {
    below.split('/').any(|part| part.starts_with(['.', '_']) && !part.contains('='))
}

async fn find_local(base: PathBuf, path: String) -> Result<Vec<Found>> {
    tokio::task::spawn_blocking(move || find_local_blocking(&base, &path)).await?
}

fn find_local_blocking(base: &Path, path: &str) -> Result<Vec<Found>> {
    let store: Arc<dyn ObjectStore> = Arc::new(LocalFileSystem::new());
    let start = base.join(path);
    let mut found = Vec::new();
    match fs::metadata(&start) {
        Ok(about) if about.is_file() => found.push(found_local(&store, start, path.to_owned(), &about)?),
        Ok(_) => walk(&store, &start, path.trim_end_matches('/'), "", &|_| true, &mut found)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && has_glob(path) => {
            let (folder, pattern) = split_glob(path);
            let pattern = Pattern::new(path, pattern)?;
            let start = base.join(folder);
            if start.is_dir() {
                walk(&store, &start, folder.trim_end_matches('/'), "", &|below| pattern.matches(below), &mut found)?;
            } else {
                let reason = format!("there is no folder {folder}");
                return Err(OfflineError::NothingMatches { path: path.to_owned(), reason });
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let reason = if Path::new(path).is_absolute() {
                "there is no such file or folder".to_owned()
            } else {
                format!("there is no such file or folder in {}", base.display())
            };
            return Err(OfflineError::NothingMatches { path: path.to_owned(), reason });
        }
        Err(source) => return Err(OfflineError::Read { file: path.to_owned(), source }),
    }
    Ok(found)
}

fn found_local(store: &Arc<dyn ObjectStore>, path: PathBuf, name: String, about: &fs::Metadata) -> Result<Found> {
    let absolute = std::path::absolute(&path).map_err(|source| OfflineError::Read { file: name.clone(), source })?;
    let location = Location::from_absolute_path(&absolute).map_err(|error| bad_path(&name, error.to_string()))?;
    let last_modified = about.modified().map(Into::into).unwrap_or_default();
    let meta = ObjectMeta { location, last_modified, size: about.len(), e_tag: None, version: None };
    Ok(Found { store: Arc::clone(store), local: Some(absolute), meta, name })
}

/// Collects the files below `folder`, whose path as written is `prefix`, and below that `below`.
fn walk(
    store: &Arc<dyn ObjectStore>,
    folder: &Path,
    prefix: &str,
    below: &str,
    matches: &dyn Fn(&str) -> bool,
    found: &mut Vec<Found>,
) -> Result<()> {
    let failed = |source| OfflineError::Read { file: folder.display().to_string(), source };
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Ok(file_name) = entry.file_name().into_string() else {
            return Err(bad_path(&entry.path().display().to_string(), "the file name is not UTF-8"));
        };
        if is_hidden(&file_name) {
            continue;
        }
        let below = if below.is_empty() { file_name } else { format!("{below}/{file_name}") };
        // Follows symbolic links; one that points nowhere is an error, for its rows would be missing silently.
        let about = fs::metadata(entry.path())
            .map_err(|source| OfflineError::Read { file: entry.path().display().to_string(), source })?;
        if about.is_dir() {
            walk(store, &entry.path(), prefix, &below, matches, found)?;
        } else if about.len() > 0 && matches(&below) {
            let name = if prefix.is_empty() { below } else { format!("{prefix}/{below}") };
            found.push(found_local(store, entry.path(), name, &about)?);
        }
    }
    Ok(())
}

async fn find_remote(path: &str) -> Result<Vec<Found>> {
    let (scheme, rest) = path.split_once("://").unwrap_or(("", path));
    // `?` is a glob's here, not the begin of a query: the URL that is parsed ends before the glob.
    let (host, key) = rest.split_once('/').unwrap_or((rest, ""));
    let (folder, pattern) = if has_glob(key) { split_glob(key) } else { (key, "") };
    let url =
        Url::parse(&format!("{scheme}://{host}/{folder}")).map_err(|error| bad_path(path, format!("not a URL: {error}")))?;
    if matches!(ObjectStoreScheme::parse(&url), Ok((ObjectStoreScheme::Http | ObjectStoreScheme::Memory, _)) | Err(_)) {
        return Err(bad_path(path, "no store for this URL: it may be file://, s3://, gs://, az:// or abfss://"));
    }
    let (store, prefix) = object_store::parse_url_opts(&url, store_options())
        .map_err(|source| OfflineError::Store { file: path.to_owned(), source })?;
    let store: Arc<dyn ObjectStore> = Arc::from(store);
    let failed = |source| OfflineError::Store { file: path.to_owned(), source };
    if pattern.is_empty() && !path.ends_with('/') {
        match store.head(&prefix).await {
            Ok(meta) => return Ok(vec![Found { store, local: None, meta, name: path.to_owned() }]),
            Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    let matcher = if pattern.is_empty() { None } else { Some(Pattern::new(path, pattern)?) };
    let listed: Vec<ObjectMeta> = store.list(Some(&prefix)).try_collect().await.map_err(failed)?;
    let written = format!("{scheme}://{host}/{folder}");
    let written = written.trim_end_matches('/');
    let mut found = Vec::new();
    for meta in listed {
        let Some(below) = meta
            .location
            .prefix_match(&prefix)
            .map(|parts| parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/"))
        else {
            continue;
        };
        if below.is_empty() || meta.size == 0 || is_hidden(&below) {
            continue;
        }
        if matcher.as_ref().is_none_or(|matcher| matcher.matches(&below)) {
            found.push(Found { store: Arc::clone(&store), local: None, meta, name: format!("{written}/{below}") });
        }
    }
    Ok(found)
}

/// The environment variables that configure object stores: credentials, regions, endpoints.
fn store_options() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| ["AWS_", "GOOGLE_", "AZURE_"].iter().any(|prefix| name.starts_with(prefix)))
        .collect()
}

/// The partition values of each file, in order of column name.
fn partitions(path: &str, found: &[Found], declared: &BTreeMap<String, DataType>) -> Result<Vec<Vec<(String, ScalarValue)>>> {
    let texts: Vec<BTreeMap<String, Option<String>>> = found.iter().map(|file| partition_texts(&file.name)).collect();
    let Some(first) = texts.first() else { return Ok(Vec::new()) };
    let columns: BTreeSet<&String> = first.keys().collect();
    if let Some((file, _)) = found.iter().zip(&texts).find(|(_, texts)| !texts.keys().eq(columns.iter().copied())) {
        let one = found.first().map(|file| file.name.as_str()).unwrap_or_default();
        return Err(bad_path(path, format!("{one} and {} do not lie in the same partition folders (column=value)", file.name)));
    }
    let mut types = BTreeMap::new();
    for column in columns {
        let values = || texts.iter().filter_map(|texts| texts.get(column).and_then(Option::as_deref));
        let data_type = declared.get(column).cloned().unwrap_or_else(|| {
            // `007` is a name, not a number.
            let integer = |text: &str| text.parse::<i64>().is_ok_and(|number| number.to_string() == text);
            if values().all(integer) && values().next().is_some() { DataType::Int64 } else { DataType::Utf8 }
        });
        types.insert(column.clone(), data_type);
    }
    let typed = |(file, texts): (&Found, &BTreeMap<String, Option<String>>)| {
        let value = |(column, text): (&String, &Option<String>)| {
            let data_type = types.get(column).unwrap_or(&DataType::Utf8);
            let value = partition_value(text.as_deref(), data_type).ok_or_else(|| {
                let text = text.as_deref().unwrap_or_default();
                bad_path(&file.name, format!("partition folder {column}={text}: {text:?} is no {data_type}"))
            });
            Ok((column.clone(), value?))
        };
        texts.iter().map(value).collect()
    };
    found.iter().zip(&texts).map(typed).collect()
}

/// The `column=value` folders of a path.
fn partition_texts(name: &str) -> BTreeMap<String, Option<String>> {
    let folders = name.rsplit_once('/').map_or("", |(folders, _)| folders);
    let pairs = folders.split('/').filter_map(|folder| folder.split_once('='));
    pairs
        .filter(|(column, _)| !column.is_empty())
        .map(|(column, value)| (unescape(column), (value != HIVE_NULL).then(|| unescape(value))))
        .collect()
}

/// Undoes the percent escapes that Hive writes for characters that a folder name cannot have.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = (*first == b'%').then(|| after.get(..2)).flatten();
        let escaped = escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(escaped.unwrap_or(*first));
        rest = after.get(if escaped.is_some() { 2 } else { 0 }..).unwrap_or_default();
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// A partition's value of this type; `None` where the text is none.
fn partition_value(text: Option<&str>, data_type: &DataType) -> Option<ScalarValue> {
    let Some(text) = text else { return ScalarValue::try_from(data_type).ok() };
    match data_type {
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
            Some(ScalarValue::TimestampNanosecond(Some(Timestamp::parse(text)?.nanos()), zone.clone()))
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            Some(ScalarValue::TimestampMicrosecond(Some(Timestamp::parse(text)?.nanos().div_euclid(1_000)), zone.clone()))
        }
        _ => ScalarValue::try_from_string(text.to_owned(), data_type).ok(),
    }
}
