//! The disk of the operating system.
//!
//! A read that must not wait is `preadv2` with `RWF_NOWAIT`. Where a file system lacks that, the file
//! remembers it and says `WouldBlock` from then on, so that such reads go where waiting is allowed.
//!
//! No read changes when a file was last read (`O_NOATIME`), if the file is ours: looking whether it should took a
//! tenth of the time of a read from memory.

use crate::{Access, Allocation, Disk, DiskFile, Lock, Onlookers, lease};
use rustix::{
    fs::{Advice, FallocateFlags, OFlags},
    io::{Errno, ReadWriteFlags},
};
use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, IoSlice, IoSliceMut},
    num::NonZeroU64,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// The disk of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(access != Access::Read);
        match access {
            Access::Read | Access::Write => &mut options,
            Access::WriteOrCreate => options.create(true),
            Access::CreateNew => options.create_new(true),
            Access::Truncate => options.create(true).truncate(true),
        };
        let file = options.open(path)?;
        // Who does not own it may not, and need not.
        let _ = rustix::fs::fcntl_getfl(&file)
            .and_then(|flags| rustix::fs::fcntl_setfl(&file, flags | OFlags::NOATIME));
        Ok(Arc::new(RealFile { file, lacks_nowait: AtomicBool::new(false) }))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::hard_link(from, to)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        File::open(directory)?.sync_all()
    }
}

/// btrfs, ZFS, bcachefs, F2FS and NILFS.
const COPY_ON_WRITE: [u32; 5] = [0x9123_683e, 0x2fc1_2fc1, 0xca45_1a4e, 0xf2f5_2010, 0x3434];

struct RealFile {
    file: File,
    /// The file system has said that it can't tell whether a read would wait.
    lacks_nowait: AtomicBool,
}

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(buffer, position)
    }

    fn read_at_now(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        if self.lacks_nowait.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut slices = [IoSliceMut::new(buffer)];
        match rustix::io::preadv2(&self.file, &mut slices, position, ReadWriteFlags::NOWAIT) {
            Ok(count) => Ok(count),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                self.lacks_nowait.store(true, Ordering::Relaxed);
                Err(io::ErrorKind::WouldBlock.into())
            }
            Err(errno) => Err(errno.into()),
        }
    }

    fn write_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(&self.file, slices, position)?)
    }

    fn start_writing(&self, position: u64, len: u64) {
        // This drops what is clean from the page cache, and starts writing what is not.
        let _ = rustix::fs::fadvise(&self.file, position, NonZeroU64::new(len), Advice::DontNeed);
    }

    fn overlaps(&self) -> bool {
        true
    }

    fn overwrites_in_place(&self) -> bool {
        // As `statfs(2)` names them.
        rustix::fs::fstatfs(&self.file).map_or(true, |found| !COPY_ON_WRITE.contains(&(found.f_type as u32)))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn number(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.ino())
    }

    fn onlookers(&self) -> io::Result<Onlookers> {
        Ok(match self.file.metadata()?.nlink() {
            0 => lease::other_handles(&self.file),
            _ => Onlookers::Names,
        })
    }

    fn allocate(&self, position: u64, len: u64) -> io::Result<Allocation> {
        loop {
            match rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, position, len) {
                Ok(()) => return Ok(Allocation::Reserved),
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(Allocation::Unsupported),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn try_lock(&self) -> io::Result<Lock> {
        match self.file.try_lock() {
            Ok(()) => Ok(Lock::Taken),
            Err(TryLockError::WouldBlock) => Ok(Lock::Busy),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_in_pieces_reads_as_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = RealDisk.open(&folder.path().join("f"), Access::CreateNew).unwrap();
        let pieces: Vec<Vec<u8>> = (0..3000u32).map(|n| n.to_be_bytes().to_vec()).collect();
        let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        file.write_all_at(&mut slices, 5).unwrap();
        let mut read = vec![0; 12_000];
        file.read_exact_at(&mut read, 5).unwrap();
        assert_eq!(read, pieces.concat());
        assert_eq!(file.len().unwrap(), 12_005);
    }

    #[test]
    fn a_read_does_not_change_when_the_file_was_last_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let file = RealDisk.open(&path, Access::CreateNew).unwrap();
        file.write_all_at(&mut [IoSlice::new(b"bytes")], 0).unwrap();
        // Long before it was written, so that a read would be noted even where most are not.
        let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        let times = std::fs::FileTimes::new().set_accessed(long_ago);
        File::options().write(true).open(&path).unwrap().set_times(times).unwrap();
        file.read_exact_at(&mut [0; 5], 0).unwrap();
        assert_eq!(path.metadata().unwrap().accessed().unwrap(), long_ago);
    }

    #[test]
    fn a_read_that_may_not_wait_answers_from_memory_or_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let file = RealDisk.open(&folder.path().join("f"), Access::CreateNew).unwrap();
        file.write_all_at(&mut [IoSlice::new(b"cached")], 0).unwrap();
        let mut buffer = [0; 6];
        match file.read_at_now(&mut buffer, 0) {
            Ok(count) => assert_eq!((count, &buffer), (6, b"cached")),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }

    #[test]
    fn file_systems_that_copy_on_write_are_known() {
        let folder = tempfile::tempdir().unwrap();
        let file = RealDisk.open(&folder.path().join("f"), Access::CreateNew).unwrap();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let of_folder = |line: &&str| {
            let at = line.split(' ').nth(1).unwrap_or_default();
            folder.path().starts_with(at)
        };
        let longest =
            mounts.lines().filter(of_folder).max_by_key(|line| line.split(' ').nth(1).map(str::len));
        let kind = longest.and_then(|line| line.split(' ').nth(2)).unwrap_or_default();
        let copies = ["btrfs", "zfs", "bcachefs", "f2fs", "nilfs2"].contains(&kind);
        assert_eq!(file.overwrites_in_place(), !copies, "{kind}");
    }

    #[test]
    fn reserved_space_does_not_change_the_length() {
        let folder = tempfile::tempdir().unwrap();
        let file = RealDisk.open(&folder.path().join("f"), Access::WriteOrCreate).unwrap();
        file.allocate(0, 1 << 20).unwrap();
        assert_eq!(file.len().unwrap(), 0);
        assert!(file.is_empty().unwrap());
    }

    #[test]
    fn a_file_keeps_its_number_under_another_name_and_a_copy_has_another() {
        let folder = tempfile::tempdir().unwrap();
        let [here, there, copy] = ["here", "there", "copy"].map(|name| folder.path().join(name));
        let file = RealDisk.open(&here, Access::CreateNew).unwrap();
        std::fs::copy(&here, &copy).unwrap();
        RealDisk.rename(&here, &there).unwrap();
        let number = |path| RealDisk.open(path, Access::Read).unwrap().number().unwrap();
        assert_eq!(number(&there), file.number().unwrap());
        assert_ne!(number(&copy), file.number().unwrap());
    }

    #[test]
    fn a_lock_is_busy_until_its_file_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = RealDisk.open(&path, Access::WriteOrCreate).unwrap();
        let second = RealDisk.open(&path, Access::WriteOrCreate).unwrap();
        assert_eq!(first.try_lock().unwrap(), Lock::Taken);
        assert_eq!(second.try_lock().unwrap(), Lock::Busy);
        drop(first);
        assert_eq!(second.try_lock().unwrap(), Lock::Taken);
    }
}
