//! `.lock`: keeps a second writer away from a database, in the way of `zc.lockfile`, and tells who was the last.
//!
//! Python's own writes its process id and nothing else. Behind ours stands a word, so that we know whether
//! another program has had the database open since: what it wrote is not ours to judge.

use std::{
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::Arc,
};
use zeolith_disk::{Access, Disk, DiskFile, Lock};
use zeolith_storage::{Result, StorageError};

/// The lock of a database; it ends when this is dropped.
pub(crate) struct DatabaseLock {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
}

impl DatabaseLock {
    /// Takes the lock at `path`, or tells who may have it. What the file says stays as it is.
    pub(crate) fn take(disk: &dyn Disk, path: &Path) -> Result<Self> {
        let failed = |source| StorageError::Io { what: "locking", path: path.to_path_buf(), source };
        let file = disk.open(path, Access::WriteOrCreate).map_err(failed)?;
        if file.try_lock().map_err(failed)? == Lock::Busy {
            return Err(StorageError::Locked(format!(
                "Couldn't lock '{}': another process has the database open{}",
                path.display(),
                holder(&*file)
            )));
        }
        Ok(Self { file, path: path.to_path_buf() })
    }

    /// Writes down durably that the database is ours now.
    pub(crate) fn claim(&self) -> Result<()> {
        self.sign()?;
        let claimed = self.file.set_len(SIGNATURE_LEN as u64).and_then(|()| self.file.sync_all());
        claimed.map_err(|source| self.failed(source))
    }

    /// Writes down who has the database now, which was ours before. Always as long, so that a crash leaves the
    /// one or the other.
    pub(crate) fn sign(&self) -> Result<()> {
        let holder = format!("{} {OURS}", std::process::id());
        let signature = format!(" {holder:<width$}\n", width = SIGNATURE_LEN - 2);
        let written = self.file.write_all_at(&mut [IoSlice::new(signature.as_bytes())], 0);
        written.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> StorageError {
        StorageError::Io { what: "locking", path: self.path.clone(), source }
    }
}

/// Whether the last program that had the database at `path` open for writing knows what we know.
pub(crate) fn was_ours(disk: &dyn Disk, path: &Path) -> bool {
    let content = disk.open(path, Access::Read).and_then(|file| content(&*file));
    content.is_ok_and(|content| {
        let mut words = content.split_ascii_whitespace();
        words.next().is_some_and(|pid| pid.parse::<u32>().is_ok()) && words.eq([OURS])
    })
}

/// What the lock file says about its holder.
fn holder(file: &dyn DiskFile) -> String {
    let content = content(file).unwrap_or_default();
    match content.split_ascii_whitespace().next().and_then(|pid| pid.parse::<u32>().ok()) {
        Some(pid) => format!(" (process {pid}, as the file says)"),
        None => String::new(),
    }
}

fn content(file: &dyn DiskFile) -> io::Result<String> {
    let mut buffer = [0; CONTENT_MAX];
    let len = file.read_at(&mut buffer, 0)?;
    Ok(String::from_utf8_lossy(&buffer[..len]).into_owned())
}

const OURS: &str = "zeolith";
/// Room for a process id and the word.
const SIGNATURE_LEN: usize = 22;
const CONTENT_MAX: usize = 64;
