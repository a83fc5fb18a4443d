//! The Disk seam: everything that touches files goes through it, and the real disk stands behind it.
//!
//! Two object-safe traits: [`Disk`] names files, [`DiskFile`] reads and writes one of them at given
//! positions. Knows nothing of what is in the files. A simulated disk that loses and tears unsynced
//! writes fits behind the same traits. For tests there are, as features, `faults`, a disk that fails on demand,
//! and `memory`, one that has no files.

#[cfg(feature = "faults")]
pub mod faults;
mod give_back;
mod lease;
#[cfg(feature = "memory")]
pub mod memory;
mod real;

pub use real::RealDisk;

use std::{
    io::{self, IoSlice},
    path::Path,
    sync::Arc,
};

/// Names files: opens, removes and renames them.
///
/// # Errors
/// Every method passes on what the operating system said.
pub trait Disk: Send + Sync {
    /// Opens a file as `access` says.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>>;

    /// Whether something has this name.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Gives a file another name, replacing what had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file a second name, which nothing has yet. A disk that can't says `Unsupported`.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let _ = (from, to);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Makes creations, removals and renamings in `directory` durable.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;
}

/// One open file. All reads and writes name their position, so threads can share it.
///
/// # Errors
/// Every method passes on what the operating system said.
pub trait DiskFile: Send + Sync {
    /// Reads some bytes at `position`, waiting for the device if need be; 0 at the end of the file.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;

    /// Like [`Self::read_at`], but fails with [`io::ErrorKind::WouldBlock`] instead of waiting.
    fn read_at_now(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;

    /// Writes some of the bytes of `slices`, one after the other, at `position`.
    fn write_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<usize>;

    /// Starts writing to the device what was written to the file at `position`, without waiting: a sync has less
    /// to do then. A disk that can't leaves it to the sync.
    fn start_writing(&self, position: u64, len: u64) {
        let _ = (position, len);
    }

    /// Whether it is worth while to read and write in several threads at a time. A disk on which one order of calls
    /// must always lead to the same, so that a run can be repeated, says no.
    fn overlaps(&self) -> bool {
        false
    }

    /// Whether what is overwritten stays where it is on the device. File systems that copy on write take new space for
    /// it. A disk that can't tell says yes.
    fn overwrites_in_place(&self) -> bool {
        true
    }

    /// Makes the content durable, and the length if it is needed to read the content.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes the content and everything about the file durable.
    fn sync_all(&self) -> io::Result<()>;

    /// Cuts the file off at `len`, or fills it up with zeros; gives back space reserved beyond.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// The length of the file.
    fn len(&self) -> io::Result<u64>;

    /// A number that the file keeps under every name, that a copy of it does not have, and that no other file
    /// on the disk has at the same time (the number of its inode).
    fn number(&self) -> io::Result<u64>;

    /// Who else can see what is in the file. A disk that can't tell says so.
    fn onlookers(&self) -> io::Result<Onlookers> {
        Ok(Onlookers::Unknown)
    }

    /// Whether the file has no byte.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reserves space for `len` bytes at `position` without changing the length of the file.
    fn allocate(&self, position: u64, len: u64) -> io::Result<Allocation>;

    /// Takes the lock of the file (`flock`) if nobody has it. It ends with the file's last handle.
    fn try_lock(&self) -> io::Result<Lock>;
}

impl dyn DiskFile + '_ {
    /// Fills `buffer` from `position`.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file ends before, or what the operating system said.
    pub fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.read_at(rest, position + done as u64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes all of `slices` at `position`, in as few calls as the operating system allows.
    ///
    /// # Errors
    /// What the operating system said; some of the bytes may have been written.
    pub fn write_all_at(&self, slices: &mut [IoSlice<'_>], mut position: u64) -> io::Result<()> {
        let mut rest = slices;
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let batch = rest.get(..SLICES_MAX).unwrap_or(rest);
            match self.write_at(batch, position) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    position += count as u64;
                    IoSlice::advance_slices(&mut rest, count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// What is wanted of a file when it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading; the file must exist.
    Read,
    /// Reading and writing; the file must exist.
    Write,
    /// Reading and writing; the file is made if missing.
    WriteOrCreate,
    /// Reading and writing; the file must not exist.
    CreateNew,
    /// Reading and writing; the file is made if missing and emptied if not.
    Truncate,
}

/// Who else can see what is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Onlookers {
    /// Nobody, now or ever: the file has no name, and no other handle.
    None,
    /// Whoever has another handle.
    Handles,
    /// Everybody: it has a name.
    Names,
    /// The disk can't tell.
    Unknown,
}

/// What came of a wish to reserve space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// The space is there.
    Reserved,
    /// The file system can't reserve space.
    Unsupported,
}

/// What came of a wish for a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// It is ours.
    Taken,
    /// Somebody else has it.
    Busy,
}

/// How many slices Linux takes in one call (`IOV_MAX`).
const SLICES_MAX: usize = 1024;
