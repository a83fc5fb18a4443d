//! The packed file while it is made, from its beginning on, in large pieces.

use super::behind::{Behind, Writer};
use crate::{file::DataFile, format::MAGIC};
use std::{io, path::Path, sync::Arc};
use zeolith_disk::{Access, Disk};
use zeolith_storage::{Result, StorageError};

/// The packed file while it is written.
pub(super) struct Output {
    pub(super) data: DataFile,
    buffer: Vec<u8>,
    /// Where the buffer belongs.
    written: u64,
    hand: Hand,
    /// Bytes written since somebody asked.
    fresh: u64,
}

/// Who writes.
enum Hand {
    Here(Writer),
    Behind(Behind),
}

impl Output {
    /// A new file that has its magic.
    pub(super) fn create(disk: &dyn Disk, path: &Path) -> Result<Self> {
        let file = disk.open(path, Access::Truncate);
        let file = file.map_err(|source| failed(path, source))?;
        let data = DataFile { file, path: path.to_path_buf() };
        let hand = Hand::Here(Writer::new(&data));
        Ok(Self { data, buffer: MAGIC.to_vec(), written: 0, hand, fresh: 0 })
    }

    /// Where the next byte goes.
    pub(super) fn position(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<()> {
        while self.buffer.len() + bytes.len() >= PIECE {
            let (part, rest) = bytes.split_at(PIECE - self.buffer.len());
            self.buffer.extend_from_slice(part);
            self.flush()?;
            bytes = rest;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Overwrites what has been pushed at `position`: a number that is known only afterwards.
    pub(super) fn patch(&mut self, position: u64, bytes: &[u8; 8]) -> Result<()> {
        if let Some(at) = position.checked_sub(self.written).map(|at| at as usize) {
            self.buffer[at..at + bytes.len()].copy_from_slice(bytes);
            return Ok(());
        }
        // It may lie on both sides.
        self.flush()?;
        let written = match &mut self.hand {
            Hand::Here(writer) => writer.overwrite(bytes, position),
            Hand::Behind(behind) => behind.overwrite(bytes, position),
        };
        written.map_err(|source| failed(&self.data.path, source))
    }

    fn flush(&mut self) -> Result<()> {
        if let Hand::Here(writer) = &self.hand
            && self.written >= WRITTEN_HERE
            && self.data.file.overlaps()
            && let Some(behind) = Behind::start(writer)
        {
            self.hand = Hand::Behind(behind);
        }
        let bytes = std::mem::take(&mut self.buffer);
        let len = bytes.len() as u64;
        let emptied = match &mut self.hand {
            Hand::Here(writer) => writer.append(&bytes, self.written).map(|()| bytes),
            Hand::Behind(behind) => behind.append(bytes, self.written),
        };
        self.buffer = emptied.map_err(|source| failed(&self.data.path, source))?;
        self.buffer.clear();
        self.written += len;
        self.fresh += len;
        Ok(())
    }

    /// Makes everything durable.
    pub(super) fn sync(&mut self) -> Result<()> {
        self.flush()?;
        let synced = match &mut self.hand {
            Hand::Here(writer) => writer.sync(self.written),
            Hand::Behind(behind) => behind.sync(self.written),
        };
        synced.map_err(|source| failed(&self.data.path, source))
    }

    /// How many bytes were written since the last time.
    pub(super) const fn take_written(&mut self) -> u64 {
        std::mem::replace(&mut self.fresh, 0)
    }

    /// The finished file under the name that it gets.
    pub(super) fn data_as(&self, path: &Path) -> DataFile {
        DataFile { file: Arc::clone(&self.data.file), path: path.to_path_buf() }
    }
}

pub(super) fn failed(path: &Path, source: io::Error) -> StorageError {
    StorageError::Io { what: "packing to", path: path.to_path_buf(), source }
}

/// How much is written at once.
const PIECE: usize = 256 << 10;
/// A file that gets no longer is not worth a thread.
const WRITTEN_HERE: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use zeolith_disk::{
        RealDisk,
        faults::{ENOSPC, Faults, FaultyDisk, Operation},
    };

    /// Pushes transactions of all sizes and their lengths afterwards; what the file should be then.
    fn filled(output: &mut Output) -> Result<Vec<u8>> {
        let mut expected = MAGIC.to_vec();
        for turn in 0..400_u64 {
            let begin = expected.len();
            let piece = vec![
                turn as u8;
                [70_000, 200, 1 << 20, 31_234, 3 << 20][turn as usize % 5]
                    / (turn as usize / 50 + 1)
            ];
            expected.extend_from_slice(&piece);
            output.push(&piece)?;
            let place = begin + piece.len() / 2 - 4;
            expected[place..place + 8].copy_from_slice(&turn.to_be_bytes());
            output.patch(place as u64, &turn.to_be_bytes())?;
            assert_eq!(output.position(), expected.len() as u64);
            if turn % 90 == 89 {
                output.sync()?;
                assert_eq!(output.data.file.len().unwrap(), expected.len() as u64);
            }
        }
        output.sync()?;
        Ok(expected)
    }

    #[test]
    fn what_is_pushed_and_patched_is_in_the_file_in_its_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let mut output = Output::create(&RealDisk, &path).unwrap();
        let expected = filled(&mut output).unwrap();
        assert!(matches!(output.hand, Hand::Behind(_)));
        assert!(std::fs::read(&path).unwrap() == expected);
        assert_eq!(output.take_written(), expected.len() as u64);
    }

    #[test]
    fn after_a_write_that_fails_nothing_is_written_and_whoever_asks_hears_of_it() {
        for (operation, spared) in [(Operation::Write, 20), (Operation::Write, 60), (Operation::Sync, 8)] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("f");
            let faults = Faults::default();
            let mut output = Output::create(&FaultyDisk::new(RealDisk, faults.clone()), &path).unwrap();
            // Only one fails: whoever went on would leave a hole.
            faults.fail(operation, spared, 1, ENOSPC);
            let error = filled(&mut output).unwrap_err();
            let is_it =
                matches!(&error, StorageError::Io { source, .. } if source.raw_os_error() == Some(ENOSPC));
            assert!(is_it, "{error}");
            let len = output.data.file.len().unwrap();
            assert!(output.push(&[1; 1 << 20]).is_err());
            assert!(output.sync().is_err());
            drop(output);
            assert_eq!(std::fs::metadata(&path).unwrap().len(), len);
        }
    }
}
