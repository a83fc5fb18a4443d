//! Writes the packed file from its beginning on, in large pieces.

use crate::{file::DataFile, format::MAGIC};
use std::{
    io::{self, IoSlice},
    path::Path,
    sync::Arc,
};
use zeolith_disk::{Access, Disk};
use zeolith_storage::{Result, StorageError};

/// The packed file while it is written.
pub(super) struct Output {
    pub(super) data: DataFile,
    buffer: Vec<u8>,
    /// Where the buffer belongs.
    written: u64,
    /// Up to where everything is durable.
    synced: u64,
    /// Bytes written since somebody asked.
    fresh: u64,
}

impl Output {
    /// A new file that has its magic.
    pub(super) fn create(disk: &dyn Disk, path: &Path) -> Result<Self> {
        let file = disk.open(path, Access::Truncate);
        let file = file.map_err(|source| failed(path, source))?;
        let data = DataFile { file, path: path.to_path_buf() };
        Ok(Self { data, buffer: MAGIC.to_vec(), written: 0, synced: 0, fresh: 0 })
    }

    /// Where the next byte goes.
    pub(super) fn position(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.len() >= PIECE {
            self.flush()?;
            for part in bytes.chunks(LARGE_PART) {
                self.write(part)?;
            }
            return Ok(());
        }
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE { self.flush() } else { Ok(()) }
    }

    /// Overwrites what has been pushed at `position`: a number that is known only afterwards.
    pub(super) fn patch(&mut self, position: u64, bytes: &[u8; 8]) -> Result<()> {
        match position.checked_sub(self.written).map(|at| at as usize) {
            Some(at) => self.buffer[at..at + bytes.len()].copy_from_slice(bytes),
            None => {
                // It may lie on both sides.
                self.flush()?;
                let written = self.data.file.write_all_at(&mut [IoSlice::new(bytes)], position);
                written.map_err(|source| failed(&self.data.path, source))?;
            }
        }
        Ok(())
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        self.write(&buffer)?;
        self.buffer = buffer;
        self.buffer.clear();
        Ok(())
    }

    /// Makes everything durable.
    pub(super) fn sync(&mut self) -> Result<()> {
        self.flush()?;
        self.data.file.sync_all().map_err(|source| failed(&self.data.path, source))?;
        self.synced = self.written;
        Ok(())
    }

    /// How many bytes were written since the last time.
    pub(super) const fn take_written(&mut self) -> u64 {
        std::mem::replace(&mut self.fresh, 0)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.data.file.write_all_at(&mut [IoSlice::new(bytes)], self.written);
        written.map_err(|source| failed(&self.data.path, source))?;
        self.data.file.start_writing(self.written, bytes.len() as u64);
        self.written += bytes.len() as u64;
        self.fresh += bytes.len() as u64;
        if self.written - self.synced >= UNSYNCED_MAX {
            // A commit's sync waits for whatever else the file system has to write, so that is kept little.
            self.data.file.sync_data().map_err(|source| failed(&self.data.path, source))?;
            self.synced = self.written;
        }
        Ok(())
    }

    /// The finished file under the name that it gets.
    pub(super) fn data_as(&self, path: &Path) -> DataFile {
        DataFile { file: Arc::clone(&self.data.file), path: path.to_path_buf() }
    }
}

pub(super) fn failed(path: &Path, source: io::Error) -> StorageError {
    StorageError::Io { what: "packing to", path: path.to_path_buf(), source }
}

const PIECE: usize = 1 << 20;
/// A large record is written in parts of this length.
const LARGE_PART: usize = 4 << 20;
/// So many bytes may be on their way to the disk.
const UNSYNCED_MAX: u64 = 4 << 20;
