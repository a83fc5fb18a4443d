//! A disk in memory, for tests and benchmarks: quick, and gone with the process.
//!
//! Nothing is ever lost or refused, but for what passes the capacity. Clones are the same disk.

use crate::{Access, Allocation, Disk, DiskFile, Lock};
use std::{
    collections::BTreeMap,
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// Files by name. No folder has to be made first.
#[derive(Clone)]
pub struct MemoryDisk {
    files: Arc<Mutex<BTreeMap<PathBuf, Arc<Content>>>>,
    /// How many files there have been.
    made: Arc<AtomicU64>,
    file_size_max: u64,
}

struct Content {
    number: u64,
    bytes: RwLock<Vec<u8>>,
    is_locked: AtomicBool,
}

impl MemoryDisk {
    /// A disk on which no file gets longer than so many bytes.
    #[must_use]
    pub fn new(file_size_max: u64) -> Self {
        Self { files: Arc::default(), made: Arc::default(), file_size_max }
    }

    /// Makes a file, in the place of one that may be there.
    pub fn put(&self, path: &Path, bytes: Vec<u8>) {
        self.names().insert(path.to_path_buf(), self.content(bytes));
    }

    /// What is in a file, if there is one of this name.
    #[must_use]
    pub fn get(&self, path: &Path) -> Option<Vec<u8>> {
        let content = self.names().get(path).cloned()?;
        Some(content.bytes.read().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// How many bytes all files have together.
    #[must_use]
    pub fn size(&self) -> u64 {
        let len = |content: &Arc<Content>| content.bytes.read().unwrap_or_else(PoisonError::into_inner).len();
        self.names().values().map(|content| len(content) as u64).sum()
    }

    fn content(&self, bytes: Vec<u8>) -> Arc<Content> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        Arc::new(Content { number, bytes: RwLock::new(bytes), is_locked: AtomicBool::new(false) })
    }

    fn names(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Arc<Content>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for MemoryDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let mut names = self.names();
        let found = names.get(path).cloned();
        let content = match (found, access) {
            (None, Access::Read | Access::Write) => return Err(io::ErrorKind::NotFound.into()),
            (Some(_), Access::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (None, Access::WriteOrCreate | Access::CreateNew | Access::Truncate) => {
                let content = self.content(Vec::new());
                names.insert(path.to_path_buf(), Arc::clone(&content));
                content
            }
            (Some(content), Access::Truncate) => {
                content.bytes.write().unwrap_or_else(PoisonError::into_inner).clear();
                content
            }
            (Some(content), Access::Read | Access::Write | Access::WriteOrCreate) => content,
        };
        let has_lock = AtomicBool::new(false);
        Ok(Arc::new(Handle { content, file_size_max: self.file_size_max, has_lock }))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.names().contains_key(path))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.names().remove(path).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut names = self.names();
        let content = names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        names.insert(to.to_path_buf(), content);
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut names = self.names();
        if names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let content = names.get(from).cloned().ok_or(io::ErrorKind::NotFound)?;
        names.insert(to.to_path_buf(), content);
        Ok(())
    }

    fn sync_directory(&self, _directory: &Path) -> io::Result<()> {
        Ok(())
    }
}

/// A file as somebody has opened it. What it was opened for is not held against it.
struct Handle {
    content: Arc<Content>,
    file_size_max: u64,
    has_lock: AtomicBool,
}

impl Handle {
    fn within_capacity(&self, position: u64, len: u64) -> io::Result<usize> {
        let end = position.checked_add(len).filter(|end| *end <= self.file_size_max);
        end.and_then(|end| usize::try_from(end).ok()).ok_or_else(|| io::ErrorKind::StorageFull.into())
    }
}

impl DiskFile for Handle {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let bytes = self.content.bytes.read().unwrap_or_else(PoisonError::into_inner);
        let rest = usize::try_from(position).ok().and_then(|position| bytes.get(position..));
        let rest = rest.unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn read_at_now(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.read_at(buffer, position)
    }

    fn write_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        let len: usize = slices.iter().map(|slice| slice.len()).sum();
        let end = self.within_capacity(position, len as u64)?;
        let mut bytes = self.content.bytes.write().unwrap_or_else(PoisonError::into_inner);
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        let mut at = end - len;
        for slice in slices {
            bytes[at..at + slice.len()].copy_from_slice(slice);
            at += slice.len();
        }
        Ok(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = self.within_capacity(len, 0)?;
        self.content.bytes.write().unwrap_or_else(PoisonError::into_inner).resize(len, 0);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.content.bytes.read().unwrap_or_else(PoisonError::into_inner).len() as u64)
    }

    fn number(&self) -> io::Result<u64> {
        Ok(self.content.number)
    }

    fn allocate(&self, position: u64, len: u64) -> io::Result<Allocation> {
        self.within_capacity(position, len).map(|_| Allocation::Reserved)
    }

    fn try_lock(&self) -> io::Result<Lock> {
        if self.has_lock.load(Ordering::Acquire) {
            return Ok(Lock::Taken);
        }
        if self.content.is_locked.swap(true, Ordering::AcqRel) {
            return Ok(Lock::Busy);
        }
        self.has_lock.store(true, Ordering::Release);
        Ok(Lock::Taken)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.has_lock.load(Ordering::Acquire) {
            self.content.is_locked.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_past_the_end_has_zeros_before_it() {
        let disk = MemoryDisk::new(100);
        let file = disk.open(Path::new("f"), Access::CreateNew).unwrap();
        assert_eq!(file.write_at(&[IoSlice::new(b"ab"), IoSlice::new(b"c")], 2).unwrap(), 3);
        assert_eq!(disk.get(Path::new("f")).unwrap(), b"\0\0abc");
        let mut buffer = [1; 4];
        assert_eq!(file.read_at(&mut buffer, 4).unwrap(), 1);
        assert_eq!(file.read_at(&mut buffer, 9).unwrap(), 0);
        assert_eq!((buffer, disk.size()), ([b'c', 1, 1, 1], 5));
    }

    #[test]
    fn a_file_that_would_pass_the_capacity_stays_as_it_is() {
        let disk = MemoryDisk::new(4);
        let file = disk.open(Path::new("f"), Access::WriteOrCreate).unwrap();
        assert_eq!(file.write_at(&[IoSlice::new(b"abcd")], 0).unwrap(), 4);
        let refused = file.write_at(&[IoSlice::new(b"e")], 4).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        assert!(file.allocate(u64::MAX, 2).is_err());
        assert_eq!(file.len().unwrap(), 4);
    }

    #[test]
    fn a_lock_ends_with_the_handle_that_took_it() {
        let disk = MemoryDisk::new(4);
        let path = Path::new("f");
        let first = disk.open(path, Access::WriteOrCreate).unwrap();
        let second = disk.open(path, Access::Write).unwrap();
        assert_eq!(first.try_lock().unwrap(), Lock::Taken);
        assert_eq!(second.try_lock().unwrap(), Lock::Busy);
        drop(first);
        assert_eq!(second.try_lock().unwrap(), Lock::Taken);
    }

    #[test]
    fn a_renamed_file_takes_the_place_of_another_and_open_handles_follow_the_content() {
        let disk = MemoryDisk::new(10);
        let (a, b) = (Path::new("a"), Path::new("b"));
        disk.put(a, b"new".to_vec());
        disk.put(b, b"old".to_vec());
        let old = disk.open(b, Access::Read).unwrap();
        disk.rename(a, b).unwrap();
        assert_eq!((disk.get(b), disk.exists(a).unwrap()), (Some(b"new".to_vec()), false));
        let mut buffer = [0; 3];
        old.read_exact_at(&mut buffer, 0).unwrap();
        assert_eq!(&buffer, b"old");
        assert_eq!(disk.link(b, b).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }
}
