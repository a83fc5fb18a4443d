//! A disk in memory that can be full, fail, lie cold and lose power.
//!
//! Every change stays in a list until a sync makes it durable. When the process dies everything written is
//! still there, and as little durable as before; when the power fails, a [`Crash`] says what of the list
//! survives. What a sync that failed was about may be shown until then and is not in the list any more.

mod crash;

pub use crash::Crash;

use crate::random::Random;
use std::{
    collections::BTreeMap,
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use zeolith_disk::{Access, Allocation, Disk, DiskFile, Lock};

/// The disk as one server process sees it; clones are the same disk.
#[derive(Clone, Debug)]
pub(crate) struct SimDisk(Arc<Mutex<State>>);

#[derive(Clone, Debug)]
struct State {
    files: BTreeMap<u64, Content>,
    names: BTreeMap<PathBuf, u64>,
    /// What a power failure leaves for certain.
    durable_names: BTreeMap<PathBuf, u64>,
    /// What it may leave or not, in the order in which it was done.
    unsynced: Vec<Change>,
    next: u64,
    random: Random,
    faults: Faults,
    /// The process that used it has ended: nothing works any more.
    dead: bool,
    /// A pack is at the step in which nobody may commit.
    switching: bool,
}

#[derive(Clone, Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    /// Space that is there even when the disk is full.
    reserved: u64,
    locked_by: Option<u64>,
}

#[derive(Clone, Debug)]
enum Change {
    /// Whole sectors.
    Write {
        file: u64,
        position: u64,
        bytes: Vec<u8>,
    },
    SetLen {
        file: u64,
        len: u64,
    },
    Names(Vec<(PathBuf, Option<u64>)>),
}

/// What goes wrong at present.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    /// No space beyond what is reserved.
    pub(crate) full: bool,
    /// So many syncs fail.
    pub(crate) syncs: u32,
    /// So many writes fail.
    pub(crate) writes: u32,
    /// In so many of 1000 cases a read would have to wait.
    pub(crate) cold: u64,
    /// The process dies in the middle of the change after so many.
    pub(crate) dies_in: Option<u32>,
    /// Which syncs do nothing and say that all went well.
    pub(crate) lies: Lies,
}

/// What the syncs of some files are worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Lies {
    /// All are honest.
    #[default]
    None,
    /// None is.
    All,
    /// Those of the file with the watermark are not.
    Watermark,
}

impl SimDisk {
    pub(crate) fn new(random: Random) -> Self {
        Self(Arc::new(Mutex::new(State {
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced: Vec::new(),
            next: 0,
            random,
            faults: Faults::default(),
            dead: false,
            switching: false,
        })))
    }

    pub(crate) fn with_faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.lock().faults);
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.lock().dead
    }

    /// A pack begins.
    pub(crate) fn pack_begins(&self) {
        self.lock().switching = false;
    }

    /// Whether the pack that began last has come to its last step, in which it holds what commits need.
    pub(crate) fn is_switching(&self) -> bool {
        self.lock().switching
    }

    /// Ends the process that uses it, and gives what the next one finds.
    pub(crate) fn crash(&self, crash: Crash) -> Self {
        let mut state = self.lock();
        state.dead = true;
        Self(Arc::new(Mutex::new(state.survivors(crash))))
    }

    /// What is in a file now, durable or not.
    pub(crate) fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.lock();
        state.names.get(path).and_then(|file| state.files.get(file)).map(|content| content.bytes.clone())
    }

    /// For whoever opens the database there is no watermark.
    pub(crate) fn forget_watermark(&self) {
        let mut state = self.lock();
        state.names.remove(Path::new(WATERMARK));
        state.durable_names.remove(Path::new(WATERMARK));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn alive(&self) -> io::Result<()> {
        if self.dead { Err(error(EIO)) } else { Ok(()) }
    }

    /// Before a change: whether this is where the process dies.
    fn dies_now(&mut self) -> io::Result<bool> {
        self.alive()?;
        match &mut self.faults.dies_in {
            Some(0) => Ok(true),
            Some(left) => {
                *left -= 1;
                Ok(false)
            }
            None => Ok(false),
        }
    }

    fn change(&mut self, change: Change) -> io::Result<()> {
        if self.dies_now()? {
            self.dead = true;
            return Err(error(EIO));
        }
        self.apply(change);
        Ok(())
    }

    fn apply(&mut self, mut change: Change) {
        match &mut change {
            Change::Write { file, position, bytes } => {
                if let Some(content) = self.files.get_mut(file) {
                    put(&mut content.bytes, *position, bytes);
                    (*position, *bytes) = whole_sectors(&content.bytes, *position, bytes.len());
                }
            }
            Change::SetLen { file, len } => {
                if let Some(content) = self.files.get_mut(file) {
                    content.bytes.resize(*len as usize, 0);
                    content.reserved = *len;
                }
            }
            Change::Names(names) => rename(&mut self.names, names),
        }
        self.unsynced.push(change);
    }

    fn sync(&mut self, file: u64) -> io::Result<()> {
        if self.dies_now()? {
            self.dead = true;
            return Err(error(EIO));
        }
        if self.faults.syncs > 0 {
            self.faults.syncs -= 1;
            self.lose_what_was_written(file);
            return Err(error(EIO));
        }
        if self.lies_about(file) {
            return Ok(());
        }
        let Some(content) = self.files.get_mut(&file) else { return Ok(()) };
        let durable = &mut content.durable;
        self.unsynced.retain(|change| match change {
            Change::Write { file: of, position, bytes } if *of == file => {
                put(durable, *position, bytes);
                false
            }
            Change::SetLen { file: of, len } if *of == file => {
                durable.resize(*len as usize, 0);
                false
            }
            _ => true,
        });
        Ok(())
    }

    /// After a sync that failed, the system takes some of what was to be synced for written.
    fn lose_what_was_written(&mut self, file: u64) {
        let permille = self.random.pick(&[0, 500, 1000]);
        let random = &mut self.random;
        self.unsynced.retain(|change| match change {
            Change::Write { file: of, .. } if *of == file => !random.chance(permille),
            _ => true,
        });
    }

    fn lies_about(&self, file: u64) -> bool {
        match self.faults.lies {
            Lies::None => false,
            Lies::All => true,
            Lies::Watermark => self.names.get(Path::new(WATERMARK)) == Some(&file),
        }
    }

    /// Writes what there is space for.
    fn write(&mut self, file: u64, slices: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        let dies = self.dies_now()?;
        let mut bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        if dies {
            let torn = self.random.between(0, bytes.len() as u64);
            bytes.truncate(torn as usize);
            self.apply(Change::Write { file, position, bytes });
            self.dead = true;
            return Err(error(EIO));
        }
        if self.faults.writes > 0 {
            self.faults.writes -= 1;
            bytes.truncate(bytes.len() / 2);
            self.apply(Change::Write { file, position, bytes });
            return Err(error(EIO));
        }
        if self.faults.full {
            let content = self.files.get(&file).ok_or_else(|| error(EIO))?;
            let space = content.reserved.max(content.bytes.len() as u64).saturating_sub(position);
            bytes.truncate(space as usize);
            if bytes.is_empty() {
                return Err(error(ENOSPC));
            }
        }
        let written = bytes.len();
        self.apply(Change::Write { file, position, bytes });
        Ok(written)
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.lock();
        state.alive()?;
        state.switching |= path == Path::new(OLD);
        let found = state.names.get(path).copied();
        let file = match (found, access) {
            (Some(_), Access::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (None, Access::Read | Access::Write) => return Err(io::ErrorKind::NotFound.into()),
            (Some(file), Access::Truncate) => {
                state.change(Change::SetLen { file, len: 0 })?;
                file
            }
            (Some(file), _) => file,
            (None, _) => {
                state.next += 1;
                let file = state.next;
                state.files.insert(file, Content::default());
                state.change(Change::Names(vec![(path.to_path_buf(), Some(file))]))?;
                file
            }
        };
        state.next += 1;
        let handle = state.next;
        drop(state);
        Ok(Arc::new(SimFile { disk: self.clone(), file, handle }))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let state = self.lock();
        state.alive()?;
        Ok(state.names.contains_key(path))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.alive()?;
        if !state.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change(Change::Names(vec![(path.to_path_buf(), None)]))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.alive()?;
        let file = state.names.get(from).copied().ok_or(io::ErrorKind::NotFound)?;
        state.change(Change::Names(vec![(to.to_path_buf(), Some(file)), (from.to_path_buf(), None)]))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.alive()?;
        let file = state.names.get(from).copied().ok_or(io::ErrorKind::NotFound)?;
        if state.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.change(Change::Names(vec![(to.to_path_buf(), Some(file))]))
    }

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        let mut state = self.lock();
        if state.dies_now()? {
            state.dead = true;
            return Err(error(EIO));
        }
        let State { unsynced, durable_names, .. } = &mut *state;
        unsynced.retain(|change| match change {
            Change::Names(names) => {
                rename(durable_names, names);
                false
            }
            Change::Write { .. } | Change::SetLen { .. } => true,
        });
        Ok(())
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    file: u64,
    handle: u64,
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let state = self.disk.lock();
        state.alive()?;
        let content = state.files.get(&self.file).ok_or_else(|| error(EIO))?;
        let rest = content.bytes.get(position as usize..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn read_at_now(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        {
            let mut state = self.disk.lock();
            let cold = state.faults.cold;
            if state.random.chance(cold) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
        self.read_at(buffer, position)
    }

    fn write_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        self.disk.lock().write(self.file, slices, position)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.lock().sync(self.file)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.disk.lock().sync(self.file)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.lock().change(Change::SetLen { file: self.file, len })
    }

    fn len(&self) -> io::Result<u64> {
        let state = self.disk.lock();
        state.alive()?;
        Ok(state.files.get(&self.file).map_or(0, |content| content.bytes.len() as u64))
    }

    fn number(&self) -> io::Result<u64> {
        self.disk.lock().alive()?;
        Ok(self.file)
    }

    fn allocate(&self, position: u64, len: u64) -> io::Result<Allocation> {
        let mut state = self.disk.lock();
        state.alive()?;
        if state.faults.full {
            return Err(error(ENOSPC));
        }
        if let Some(content) = state.files.get_mut(&self.file) {
            content.reserved = content.reserved.max(position + len);
        }
        Ok(Allocation::Reserved)
    }

    fn try_lock(&self) -> io::Result<Lock> {
        let mut state = self.disk.lock();
        state.alive()?;
        let content = state.files.get_mut(&self.file).ok_or_else(|| error(EIO))?;
        if content.locked_by.is_some_and(|handle| handle != self.handle) {
            return Ok(Lock::Busy);
        }
        content.locked_by = Some(self.handle);
        Ok(Lock::Taken)
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        if let Some(content) = self.disk.lock().files.get_mut(&self.file)
            && content.locked_by == Some(self.handle)
        {
            content.locked_by = None;
        }
    }
}

/// Bytes at a position, with zeros before if the content ends earlier.
fn put(content: &mut Vec<u8>, position: u64, bytes: &[u8]) {
    let (start, end) = (position as usize, position as usize + bytes.len());
    if content.len() < end {
        content.resize(end, 0);
    }
    content[start..end].copy_from_slice(bytes);
}

/// The sectors of a file in which these bytes are, as they are in memory. Nothing less is ever on its way to the disk:
/// it can't get what was written last into a sector without what was there before.
fn whole_sectors(content: &[u8], position: u64, len: usize) -> (u64, Vec<u8>) {
    let start = position - position % SECTOR;
    let end = (position + len as u64).next_multiple_of(SECTOR).min(content.len() as u64);
    (start, content[start as usize..end as usize].to_vec())
}

fn rename(names: &mut BTreeMap<PathBuf, u64>, changes: &[(PathBuf, Option<u64>)]) {
    for (path, file) in changes {
        match file {
            Some(file) => names.insert(path.clone(), *file),
            None => names.remove(path),
        };
    }
}

fn error(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

/// The watermark of the database that the server has.
const WATERMARK: &str = "var/Data.fs.synced";
/// The file before the last pack; the next one takes hold of it before it switches.
const OLD: &str = "var/Data.fs.old";
/// What the power either lets reach the disk or not.
const SECTOR: u64 = 512;
const EIO: i32 = 5;
const ENOSPC: i32 = 28;
