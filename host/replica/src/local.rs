//! Objects as files in a folder, with the syncs that make a write last.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use bytes::Bytes;

use crate::store::{Backend, ObjectStat, unavailable};
use crate::{Error, Store};

/// A folder. The file of a key is the key's path in it.
///
/// A write goes to a file in `tmp/`, is synced, moved to its place, and the folder is synced: so an object is whole or not
/// there, and a power cut after a write does not undo it. Calls block; they are short, or made by commands that wait for them.
#[derive(Debug)]
pub(crate) struct LocalFolder {
    folder: PathBuf,
}

impl LocalFolder {
    pub(crate) fn open(folder: &Path) -> Result<Self, Error> {
        let refused =
            |error: std::io::Error| Error::Location { location: folder.display().to_string(), detail: error.to_string() };
        fs::create_dir_all(folder).map_err(refused)?;
        Ok(Self { folder: folder.to_path_buf() })
    }

    fn path(&self, key: &str) -> Result<PathBuf, Error> {
        if key.split('/').any(|part| matches!(part, "" | "." | "..")) || key.contains(['\\', ':', '\0']) {
            return Err(Error::Refused(format!("`{key}` is no key of an object")));
        }
        Ok(self.folder.join(key))
    }

    /// Writes and syncs a file in the scratch folder.
    fn write_scratch(&self, bytes: &[u8]) -> Result<PathBuf, Error> {
        let folder = self.scratch()?;
        // Tried names are few: a name is taken only by a process of the same number that was killed.
        for number in 0_u32.. {
            let path = folder.join(format!("{}-{:?}-{number}.new", std::process::id(), std::thread::current().id()));
            let mut file = match File::create_new(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(unavailable("create", &path, &error)),
            };
            let written = file.write_all(bytes).and_then(|()| file.sync_all());
            if let Err(error) = written {
                let _ = fs::remove_file(&path);
                return Err(unavailable("write", &path, &error));
            }
            return Ok(path);
        }
        Err(Error::Refused(format!("no free name in {}", folder.display())))
    }

    /// Creates the folder of a file, and syncs every folder that gained an entry by it.
    fn create_parent(&self, path: &Path) -> Result<PathBuf, Error> {
        let parent = path.parent().unwrap_or(&self.folder).to_path_buf();
        let mut missing = Vec::new();
        let mut at = parent.as_path();
        while !at.exists() {
            missing.push(at.to_path_buf());
            let Some(above) = at.parent() else { break };
            at = above;
        }
        for folder in missing.iter().rev() {
            match fs::create_dir(folder) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(unavailable("create", folder, &error)),
                _ => sync_folder(folder.parent().unwrap_or(folder))?,
            }
        }
        Ok(parent)
    }
}

#[async_trait]
impl Backend for LocalFolder {
    fn place(&self) -> String {
        self.folder.display().to_string()
    }

    fn folder(&self) -> Option<&Path> {
        Some(&self.folder)
    }

    async fn read(&self, key: &str) -> Result<Option<Bytes>, Error> {
        let path = self.path(key)?;
        found(fs::read(&path), "read", &path).map(|bytes| bytes.map(Bytes::from))
    }

    async fn read_range(&self, key: &str, offset: u64, length: u64) -> Result<Option<Bytes>, Error> {
        let path = self.path(key)?;
        let Some(mut file) = found(File::open(&path), "read", &path)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(offset))
            .and_then(|_| file.take(length).read_to_end(&mut bytes))
            .map_err(|error| unavailable("read", &path, &error))?;
        Ok(Some(bytes.into()))
    }

    async fn stat(&self, key: &str) -> Result<Option<ObjectStat>, Error> {
        let path = self.path(key)?;
        let stat = found(fs::metadata(&path), "read", &path)?;
        Ok(stat.filter(fs::Metadata::is_file).map(|stat| ObjectStat::new(key, stat.len(), modified(&stat))))
    }

    async fn replace(&self, key: &str, bytes: Bytes) -> Result<(), Error> {
        let path = self.path(key)?;
        let scratch = self.write_scratch(&bytes)?;
        self.adopt_at(&scratch, &path).inspect_err(|_| {
            let _ = fs::remove_file(&scratch);
        })
    }

    async fn create(&self, key: &str, bytes: Bytes) -> Result<bool, Error> {
        let path = self.path(key)?;
        let parent = self.create_parent(&path)?;
        let scratch = self.write_scratch(&bytes)?;
        // A link fails if the name is taken, and the name never shows a part of the file.
        let linked = fs::hard_link(&scratch, &path);
        let _ = fs::remove_file(&scratch);
        match linked {
            Ok(()) => sync_folder(&parent).map(|()| true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(unavailable("create", &path, &error)),
        }
    }

    async fn adopt(&self, key: &str, file: &Path) -> Result<(), Error> {
        self.adopt_at(file, &self.path(key)?)
    }

    async fn list(&self, folder: &str) -> Result<Vec<ObjectStat>, Error> {
        let mut objects = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            let path = self.path(&folder)?;
            let Some(entries) = found(fs::read_dir(&path), "list", &path)? else { continue };
            for entry in entries {
                let entry = entry.map_err(|error| unavailable("list", &path, &error))?;
                let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
                // A file that goes while the folder is read is not there.
                let Some(stat) = found(entry.metadata(), "list", &entry.path())? else { continue };
                let key = format!("{folder}/{name}");
                if stat.is_dir() {
                    folders.push(key);
                } else {
                    objects.push(ObjectStat::new(key, stat.len(), modified(&stat)));
                }
            }
        }
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(objects)
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        let path = self.path(key)?;
        if found(fs::remove_file(&path), "delete", &path)?.is_some() {
            // Folders that this leaves empty go too; one that is not empty stays.
            for folder in path.ancestors().skip(1).take_while(|folder| *folder != self.folder) {
                if fs::remove_dir(folder).is_err() {
                    break;
                }
            }
        }
        Ok(())
    }

    fn scratch(&self) -> Result<PathBuf, Error> {
        let folder = self.folder.join(SCRATCH_FOLDER);
        fs::create_dir_all(&folder).map_err(|error| unavailable("create", &folder, &error))?;
        Ok(folder)
    }
}

impl LocalFolder {
    fn adopt_at(&self, file: &Path, path: &Path) -> Result<(), Error> {
        let parent = self.create_parent(path)?;
        fs::rename(file, path).map_err(|error| unavailable("write", path, &error))?;
        sync_folder(&parent)
    }
}

/// An exclusive or shared hold on a folder of files, given back when dropped or when its process ends, however it ends.
#[derive(Debug)]
pub struct FolderLock {
    _file: Option<File>,
}

impl FolderLock {
    /// Waits for no one else to replace the head of this store. Stores that are not folders have no such lock.
    pub(crate) fn head(store: &Store) -> Result<Self, Error> {
        let Some((file, path)) = Self::file(store, "lock.head")? else { return Ok(Self { _file: None }) };
        file.lock().map_err(|error| unavailable("lock", &path, &error))?;
        Ok(Self { _file: Some(file) })
    }

    /// Says that segments are being built here, so that a prune keeps away. Many may say so at once.
    ///
    /// # Errors
    /// [`Error::Held`] while a prune runs.
    pub fn build(store: &Store) -> Result<Self, Error> {
        let Some((file, path)) = Self::file(store, "lock.build")? else { return Ok(Self { _file: None }) };
        match file.try_lock_shared() {
            Ok(()) => Ok(Self { _file: Some(file) }),
            Err(fs::TryLockError::WouldBlock) => Err(held(store, "a prune")),
            Err(fs::TryLockError::Error(error)) => Err(unavailable("lock", &path, &error)),
        }
    }

    /// Keeps builds away while objects are removed.
    pub(crate) fn prune(store: &Store) -> Result<Self, Error> {
        let Some((file, path)) = Self::file(store, "lock.build")? else { return Ok(Self { _file: None }) };
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: Some(file) }),
            Err(fs::TryLockError::WouldBlock) => Err(held(store, "a run that builds a snapshot")),
            Err(fs::TryLockError::Error(error)) => Err(unavailable("lock", &path, &error)),
        }
    }

    /// Removes the files of all locks, at the end of an origin.
    pub(crate) fn remove(self, store: &Store) -> Result<(), Error> {
        let Some(folder) = store.local_folder() else { return Ok(()) };
        for name in ["lock.head", "lock.build"] {
            let path = folder.join(name);
            found(fs::remove_file(&path), "delete", &path)?;
        }
        // It was there for unfinished files only.
        let _ = fs::remove_dir(folder.join(SCRATCH_FOLDER));
        Ok(())
    }

    fn file(store: &Store, name: &str) -> Result<Option<(File, PathBuf)>, Error> {
        let Some(folder) = store.local_folder() else { return Ok(None) };
        let path = folder.join(name);
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        file.map(|file| Some((file, path.clone()))).map_err(|error| unavailable("create", &path, &error))
    }
}

fn held(store: &Store, holder: &str) -> Error {
    Error::Held { what: store.place(), holder: holder.to_owned(), until: "it ends".to_owned() }
}

fn found<T>(result: std::io::Result<T>, operation: &'static str, path: &Path) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(unavailable(operation, path, &error)),
    }
}

fn sync_folder(folder: &Path) -> Result<(), Error> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(|error| unavailable("write", folder, &error))
}

fn modified(stat: &fs::Metadata) -> i64 {
    let since = stat.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

pub(crate) const SCRATCH_FOLDER: &str = "tmp";
