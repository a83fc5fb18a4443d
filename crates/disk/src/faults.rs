//! A disk for tests that fails on demand: the next write, sync or reservation gets an error.
//!
//! Passes everything else on to the disk behind it.

use crate::{Access, Allocation, Disk, DiskFile, Lock, Onlookers};
use std::{
    io::{self, IoSlice},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

/// What can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Any read, waiting or not.
    Read,
    /// Only reads that may not wait.
    ReadNow,
    /// Writes.
    Write,
    /// Both kinds of sync of a file.
    Sync,
    /// Cutting a file off.
    SetLen,
    /// Reserving space.
    Allocate,
}

/// The switchboard of a [`FaultyDisk`]: clones steer the same disk.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<Switchboard>>);

#[derive(Debug, Default)]
struct Switchboard {
    faults: Vec<Fault>,
    /// What was asked for, whether it failed or not.
    asked: Vec<Operation>,
}

#[derive(Clone, Copy, Debug)]
struct Fault {
    operation: Operation,
    /// How many such operations still go well.
    spared: u64,
    /// How many fail then; `u64::MAX` for all.
    failing: u64,
    errno: i32,
}

impl Faults {
    /// After `spared` more operations of this kind, `failing` of them fail with `errno`.
    pub fn fail(&self, operation: Operation, spared: u64, failing: u64, errno: i32) {
        self.lock().faults.push(Fault { operation, spared, failing, errno });
    }

    /// Everything works again.
    pub fn heal(&self) {
        self.lock().faults.clear();
    }

    /// How often this was asked for, failures included.
    #[must_use]
    pub fn count(&self, operation: Operation) -> usize {
        self.lock().asked.iter().filter(|asked| **asked == operation).count()
    }

    fn check(&self, operation: Operation) -> io::Result<()> {
        let mut switchboard = self.lock();
        switchboard.asked.push(operation);
        let faults = &mut switchboard.faults;
        let Some(fault) = faults.iter_mut().find(|fault| fault.operation == operation && fault.failing > 0)
        else {
            return Ok(());
        };
        if fault.spared > 0 {
            fault.spared -= 1;
            return Ok(());
        }
        fault.failing = fault.failing.saturating_sub(u64::from(fault.failing != u64::MAX));
        Err(io::Error::from_raw_os_error(fault.errno))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Switchboard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// No space left on device.
pub const ENOSPC: i32 = 28;
/// Input/output error.
pub const EIO: i32 = 5;

/// A disk whose operations fail as its [`Faults`] say.
pub struct FaultyDisk<D> {
    disk: D,
    faults: Faults,
}

impl<D: Disk> FaultyDisk<D> {
    /// Puts the faults before `disk`.
    pub const fn new(disk: D, faults: Faults) -> Self {
        Self { disk, faults }
    }
}

impl<D: Disk> Disk for FaultyDisk<D> {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(path, access)?;
        Ok(Arc::new(FaultyFile { file, faults: self.faults.clone() }))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.link(from, to)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.disk.sync_directory(directory)
    }
}

struct FaultyFile {
    file: Arc<dyn DiskFile>,
    faults: Faults,
}

impl DiskFile for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.faults.check(Operation::Read)?;
        self.file.read_at(buffer, position)
    }

    fn read_at_now(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.faults.check(Operation::Read)?;
        self.faults.check(Operation::ReadNow)?;
        self.file.read_at_now(buffer, position)
    }

    /// Writes half of the first slice before it fails, as a full disk does.
    fn write_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        if let Err(error) = self.faults.check(Operation::Write) {
            if let Some(half) = slices.first().and_then(|slice| slice.get(..slice.len() / 2)) {
                self.file.write_at(&[IoSlice::new(half)], position)?;
            }
            return Err(error);
        }
        self.file.write_at(slices, position)
    }

    fn start_writing(&self, position: u64, len: u64) {
        self.file.start_writing(position, len);
    }

    fn overlaps(&self) -> bool {
        self.file.overlaps()
    }

    fn overwrites_in_place(&self) -> bool {
        self.file.overwrites_in_place()
    }

    fn sync_data(&self) -> io::Result<()> {
        self.faults.check(Operation::Sync)?;
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.faults.check(Operation::Sync)?;
        self.file.sync_all()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.faults.check(Operation::SetLen)?;
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn number(&self) -> io::Result<u64> {
        self.file.number()
    }

    fn onlookers(&self) -> io::Result<Onlookers> {
        self.file.onlookers()
    }

    fn allocate(&self, position: u64, len: u64) -> io::Result<Allocation> {
        self.faults.check(Operation::Allocate)?;
        self.file.allocate(position, len)
    }

    fn try_lock(&self) -> io::Result<Lock> {
        self.file.try_lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RealDisk;

    #[test]
    fn a_fault_strikes_after_the_spared_operations_and_heals() {
        let folder = tempfile::tempdir().unwrap();
        let faults = Faults::default();
        let disk = FaultyDisk::new(RealDisk, faults.clone());
        let file = disk.open(&folder.path().join("f"), Access::CreateNew).unwrap();
        faults.fail(Operation::Sync, 1, 1, EIO);
        assert!(file.sync_data().is_ok());
        assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(EIO));
        assert!(file.sync_data().is_ok());
        faults.fail(Operation::Write, 0, u64::MAX, ENOSPC);
        assert!(file.write_at(&[IoSlice::new(b"abcd")], 0).is_err());
        assert_eq!(file.len().unwrap(), 2);
        faults.heal();
        assert_eq!(file.write_at(&[IoSlice::new(b"abcd")], 0).unwrap(), 4);
    }
}
