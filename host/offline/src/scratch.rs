//! Temporary files: in one folder for the process, which is removed when the last of them is done with, or by the next process
//! where this one was killed.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use tempfile::TempDir;

use crate::error::{OfflineError, Result};

static ROOT: OnceLock<PathBuf> = OnceLock::new();
static SHARED: Mutex<Weak<Scratch>> = Mutex::new(Weak::new());

const PREFIX: &str = "mezze-scratch-";
const LOCK: &str = "lock";

/// Makes temporary files go to a folder, from the first to come on. Only the first call counts.
pub fn set_temp_folder(folder: PathBuf) {
    let _ = ROOT.set(folder);
}

/// A folder for temporary files.
#[derive(Debug)]
pub(crate) struct Scratch {
    folder: TempDir,
    /// Locked as long as this process lives, whatever ends it.
    _lock: File,
}

/// A folder for temporary files of a process: it goes when this is dropped or, where the process is killed, with the next process
/// that uses the same place.
#[derive(Debug)]
pub struct TempFolder {
    folder: TempDir,
    _scratch: Arc<Scratch>,
}

impl TempFolder {
    /// An empty one.
    ///
    /// # Errors
    /// Where none can be made.
    pub fn new() -> Result<Self> {
        let scratch = Scratch::shared()?;
        let folder = scratch.folder();
        let folder =
            folder.map_err(|error| OfflineError::Write { path: scratch.path().to_owned(), reason: error.to_string() })?;
        Ok(Self { folder, _scratch: scratch })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Scratch {
    /// The process's folder, made if there is none.
    pub(crate) fn shared() -> Result<Arc<Self>> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(scratch) = shared.upgrade() {
            return Ok(scratch);
        }
        let root = ROOT.get().cloned().unwrap_or_else(std::env::temp_dir);
        let made = Self::create(&root)
            .map_err(|error| OfflineError::Write { path: root.clone(), reason: format!("no temporary folder: {error}") })?;
        let made = Arc::new(made);
        *shared = Arc::downgrade(&made);
        Ok(made)
    }

    fn create(root: &Path) -> std::io::Result<Self> {
        remove_abandoned(root);
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(root)?;
        // Under its name the lock is there only once it is held, so that nobody takes the folder for abandoned.
        let new = folder.path().join("new");
        let lock = File::create_new(&new)?;
        lock.lock()?;
        std::fs::rename(&new, folder.path().join(LOCK))?;
        Ok(Self { folder, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A folder of its own within this one.
    pub(crate) fn folder(&self) -> std::io::Result<TempDir> {
        tempfile::Builder::new().prefix("sources-").tempdir_in(self.path())
    }
}

/// Removes folders of processes that are no more.
fn remove_abandoned(root: &Path) {
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let path = entry.path();
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let Ok(lock) = File::open(path.join(LOCK)) else { continue };
        if is_free(&lock) {
            // Another process may be removing it too.
            let _ = std::fs::remove_dir_all(&path);
        }
    }
}

fn is_free(lock: &File) -> bool {
    match lock.try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => false,
    }
}

/// Locks an output that is being written, so that [`remove_unfinished`] leaves it alone.
pub(crate) fn hold(file: &File) {
    // Where the file system has no locks, an output whose process was killed stays.
    let _ = file.try_lock();
}

/// Removes outputs in a folder that processes which are no more left unfinished.
pub(crate) fn remove_unfinished(folder: &Path, prefix: &str, suffix: &str) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(prefix)
            && name.ends_with(suffix)
            && let Ok(file) = File::open(entry.path())
            && is_free(&file)
            && file.metadata().is_ok_and(|metadata| metadata.is_file())
        {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_processes_that_are_no_more_are_removed_and_others_stay() {
        let root = tempfile::tempdir().unwrap();
        let alive = Scratch::create(root.path()).unwrap();
        let dead = root.path().join(format!("{PREFIX}dead"));
        std::fs::create_dir(&dead).unwrap();
        File::create(dead.join(LOCK)).unwrap();
        let being_made = root.path().join(format!("{PREFIX}made"));
        std::fs::create_dir(&being_made).unwrap();
        let other = root.path().join("other");
        std::fs::create_dir(&other).unwrap();
        let next = Scratch::create(root.path()).unwrap();
        assert!(!dead.exists());
        assert!(alive.path().exists() && next.path().exists() && being_made.exists() && other.exists());
        let path = next.path().to_owned();
        drop(next);
        assert!(!path.exists());
    }

    #[test]
    fn unfinished_outputs_are_removed_once_nobody_writes_them() {
        let folder = tempfile::tempdir().unwrap();
        let (left, held) = (folder.path().join(".x-left.tmp"), folder.path().join(".x-held.tmp"));
        File::create(&left).unwrap();
        let file = File::create(&held).unwrap();
        hold(&file);
        remove_unfinished(folder.path(), ".x-", ".tmp");
        assert!(!left.exists() && held.exists());
    }
}
