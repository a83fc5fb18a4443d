//! `.synced`: up to where a `Data.fs` is known to be durable, for whoever opens it after a power failure.
//!
//! What lies before the watermark is never judged. What lies after it was perhaps being written when the power
//! failed: there a transaction with a blank piece has lost something (see `blank`). A transaction that has
//! blank pieces of its own is therefore finished only when the watermark has passed it.
//!
//! The file has two slots that are written in turn, so that one of them is always whole. The layout stands in
//! `docs/disk-format.md`.

use crate::{
    file::DataFile,
    format::{FIRST_TRANSACTION, u64_at},
    saved::with_suffix,
};
use std::{
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::Arc,
};
use zeolith_disk::{Access, Disk, DiskFile};
use zeolith_storage::{Patience, Result, StorageError};
use zeolith_types::Tid;

/// The watermark of an open database.
pub(crate) struct Watermark {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    current: Mark,
}

/// What one slot says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Rises with every mark; its last bit is the number of the slot.
    sequence: u64,
    /// The number of the file that it is about.
    file: u64,
    /// Up to where that file is durable.
    pub(crate) end: u64,
    /// The transaction that ends there.
    tid: Tid,
}

/// The name of the file beside the database at `path`.
pub(crate) fn path_beside(path: &Path) -> PathBuf {
    with_suffix(path, ".synced")
}

/// The newest mark that is about `data` as it is; `None` if there is no watermark, or why it is not believed.
pub(crate) fn find(
    disk: &dyn Disk,
    path: &Path,
    data: &DataFile,
    file_size: u64,
) -> std::result::Result<Option<Mark>, String> {
    let file = match disk.open(&path_beside(path), Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mut marks = Vec::with_capacity(2);
    for slot in 0..2 {
        let mut bytes = [0; MARK_LEN];
        match file.read_exact_at(&mut bytes, slot * SLOT_DISTANCE) {
            Ok(()) => marks.extend(Mark::decode(&bytes).filter(|mark| mark.sequence & 1 == slot)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    if marks.is_empty() {
        return Err("it was never written whole".into());
    }
    // The newest can be about a packed file that never came.
    let number = data.file.number().map_err(|error| error.to_string())?;
    let newest = marks.into_iter().filter(|mark| mark.file == number).max_by_key(|mark| mark.sequence);
    let mark = newest.ok_or("it is about another file")?;
    mark.check(data, file_size)?;
    Ok(Some(mark))
}

impl Watermark {
    /// Goes on from what was `found`, with a mark at `end`, up to where `data` has just been synced. Also when
    /// that is where the mark was: nobody knows whether it has been synced.
    pub(crate) fn resume(
        disk: &dyn Disk,
        path: &Path,
        found: Mark,
        data: &DataFile,
        end: u64,
    ) -> Result<Self> {
        let path = path_beside(path);
        let file = disk.open(&path, Access::Write);
        let file = file.map_err(|source| StorageError::Io { what: "opening", path: path.clone(), source })?;
        let mut watermark = Self { file, path, current: found };
        watermark.move_to(data, end)?;
        Ok(watermark)
    }

    /// Begins anew. No mark that is not believed may come back when a later one is torn, and none may be there
    /// before the lock says durably that it is ours, which is what `claim` is for.
    pub(crate) fn begin(
        disk: &dyn Disk,
        path: &Path,
        data: &DataFile,
        end: u64,
        claim: impl FnOnce() -> Result<()>,
    ) -> Result<Self> {
        let beside = path_beside(path);
        let failed = |source| StorageError::Io { what: "emptying", path: beside.clone(), source };
        let file = disk.open(&beside, Access::Truncate).map_err(failed)?;
        // With the space of both slots, so that no mark is lacking it when it is needed.
        file.write_all_at(&mut [IoSlice::new(&[0; 2 * SLOT_DISTANCE as usize])], 0).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        // For the names of the lock and of the database as well.
        disk.sync_directory(path.parent().unwrap_or(Path::new("."))).map_err(failed)?;
        claim()?;
        let watermark = Self { file, path: beside.clone(), current: Mark::of(data, end)? };
        watermark.write(&watermark.current)?;
        Ok(watermark)
    }

    /// `data` has been synced up to `end`.
    pub(crate) fn advance(&mut self, data: &DataFile, end: u64) -> Result<()> {
        if end > self.current.end { self.move_to(data, end).map(|_| ()) } else { Ok(()) }
    }

    /// The same for another file that will take the place of this one; what to `keep` if it does not.
    pub(crate) fn move_to(&mut self, data: &DataFile, end: u64) -> Result<Mark> {
        let next = Mark { sequence: self.current.sequence + 1, ..Mark::of(data, end)? };
        self.write(&next)?;
        Ok(std::mem::replace(&mut self.current, next))
    }

    /// The file that was moved to has not come: `mark`, which is still on the disk, counts again.
    pub(crate) fn keep(&mut self, mark: Mark) {
        assert!(mark.sequence + 1 == self.current.sequence, "the other slot is the one before");
        self.current = mark;
    }

    fn write(&self, mark: &Mark) -> Result<()> {
        let position = (mark.sequence & 1) * SLOT_DISTANCE;
        let bytes = mark.encode();
        let written = self.file.write_all_at(&mut [IoSlice::new(&bytes)], position);
        let synced = written.and_then(|()| self.file.sync_all());
        synced.map_err(|source| StorageError::Io { what: "writing", path: self.path.clone(), source })
    }
}

impl Mark {
    fn of(data: &DataFile, end: u64) -> Result<Self> {
        let file = data.file.number().map_err(|error| data.io("looking at", error))?;
        Ok(Self { sequence: 0, file, end, tid: last_tid(data, end)? })
    }

    /// Whether its file is as it says, or why not.
    fn check(&self, data: &DataFile, file_size: u64) -> std::result::Result<(), String> {
        if self.end > file_size {
            return Err(format!("it says {} bytes, the file has only {file_size}", self.end));
        }
        let tid = last_tid(data, self.end).map_err(|error| error.to_string())?;
        if tid != self.tid {
            return Err(format!("it says that {} ends at {}, the file says {tid}", self.tid, self.end));
        }
        Ok(())
    }

    fn encode(&self) -> [u8; MARK_LEN] {
        let mut bytes = [0; MARK_LEN];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.file.to_be_bytes());
        bytes[24..32].copy_from_slice(&self.end.to_be_bytes());
        bytes[32..40].copy_from_slice(&self.tid.to_bytes());
        let sum = crc32c(&bytes[..CHECKED_LEN]);
        bytes[CHECKED_LEN..].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8; MARK_LEN]) -> Option<Self> {
        let (checked, sum) = bytes.split_at(CHECKED_LEN);
        (checked.starts_with(&MAGIC) && crc32c(checked).to_be_bytes() == sum).then(|| Self {
            sequence: u64_at(bytes, 8),
            file: u64_at(bytes, 16),
            end: u64_at(bytes, 24),
            tid: Tid::new(u64_at(bytes, 32)),
        })
    }
}

/// The tid of the transaction that ends at `end`.
fn last_tid(data: &DataFile, end: u64) -> Result<Tid> {
    if end == FIRST_TRANSACTION {
        return Ok(Tid::ZERO);
    }
    let start = data.transaction_before(end, Patience::Wait)?;
    Ok(data.transaction(start, end, Patience::Wait)?.tid)
}

/// The checksum of Castagnoli, bit by bit: a mark is short.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |sum: u32, byte: &u8| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg()))
    };
    !bytes.iter().fold(!0, step)
}

const MAGIC: [u8; 8] = *b"ZEOSYNC1";
const MARK_LEN: usize = 44;
/// The checksum comes after so many bytes.
const CHECKED_LEN: usize = 40;
/// The slots are in different blocks of any file system.
const SLOT_DISTANCE: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_that_others_compute() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_mark_with_any_bit_changed_is_none() {
        let mark = Mark { sequence: 7, file: 4711, end: 1 << 33, tid: Tid::new(0x0123_4567_89ab_cdef) };
        let bytes = mark.encode();
        assert_eq!(Mark::decode(&bytes), Some(mark));
        for bit in 0..MARK_LEN * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Mark::decode(&damaged), None);
        }
    }

    #[test]
    fn the_layout_is_the_one_of_the_documentation() {
        let text = include_str!("../../../docs/disk-format.md");
        let offset_of = |field: &str| -> usize {
            let cells = |line: &'static str| line.trim_matches('|').split('|').map(str::trim);
            let mut rows = text.lines().filter(|line| line.starts_with('|')).map(cells);
            let mut row =
                rows.find(|row| row.clone().nth(2) == Some(field)).expect("the field is documented");
            row.next().unwrap().parse().unwrap()
        };
        let filled = |byte| u64::from_be_bytes([byte; 8]);
        let mark = Mark {
            sequence: filled(0xc1),
            file: filled(0xc2),
            end: filled(0xc3),
            tid: Tid::new(filled(0xc4)),
        };
        let bytes = mark.encode();
        for (field, byte) in [("sequence", 0xc1), ("file number", 0xc2), ("end", 0xc3), ("mark tid", 0xc4)] {
            let start = bytes.windows(8).position(|window| window == [byte; 8]).unwrap();
            assert_eq!(offset_of(field), start, "{field}");
        }
        assert_eq!(offset_of("checksum"), CHECKED_LEN);
        assert!(text.contains("`ZEOSYNC1`") && text.contains("bytes 0 and 4096"));
    }
}
