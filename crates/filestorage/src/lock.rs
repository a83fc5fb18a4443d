//! `.lock`: keeps a second writer away from a database, in the way of `zc.lockfile`.

use std::{io::IoSlice, path::Path, sync::Arc};
use zeolith_disk::{Access, Disk, DiskFile, Lock};
use zeolith_storage::{Result, StorageError};

/// The lock of a database; it ends when this is dropped.
pub(crate) struct DatabaseLock {
    _file: Arc<dyn DiskFile>,
}

impl DatabaseLock {
    /// Takes the lock at `path`, or tells who may have it.
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
        file.set_len(0).map_err(failed)?;
        let content = format!(" {}\n", std::process::id());
        file.write_all_at(&mut [IoSlice::new(content.as_bytes())], 0).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

/// What the lock file says about its holder.
fn holder(file: &dyn DiskFile) -> String {
    let mut buffer = [0; 32];
    let len = file.read_at(&mut buffer, 0).unwrap_or(0);
    let content = buffer.get(..len).and_then(|bytes| std::str::from_utf8(bytes).ok());
    match content.and_then(|text| text.trim().parse::<u32>().ok()) {
        Some(pid) => format!(" (process {pid}, as the file says)"),
        None => String::new(),
    }
}
