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
}

impl Output {
    /// A new file that has its magic.
    pub(super) fn create(disk: &dyn Disk, path: &Path) -> Result<Self> {
        let file = disk.open(path, Access::Truncate);
        let file = file.map_err(|source| failed(path, source))?;
        let data = DataFile { file, path: path.to_path_buf() };
        Ok(Self { data, buffer: MAGIC.to_vec(), written: 0 })
    }

    /// Where the next byte goes.
    pub(super) fn position(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.len() >= PIECE {
            self.flush()?;
            self.write(bytes)?;
            self.written += bytes.len() as u64;
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
        self.written += buffer.len() as u64;
        self.buffer = buffer;
        self.buffer.clear();
        Ok(())
    }

    /// Makes everything durable.
    pub(super) fn sync(&mut self) -> Result<()> {
        self.flush()?;
        self.data.file.sync_all().map_err(|source| failed(&self.data.path, source))
    }

    fn write(&self, bytes: &[u8]) -> Result<()> {
        let written = self.data.file.write_all_at(&mut [IoSlice::new(bytes)], self.written);
        written.map_err(|source| failed(&self.data.path, source))
    }

    /// The finished file under the name that it gets.
    pub(super) fn into_data(self, path: &Path) -> DataFile {
        DataFile { file: Arc::clone(&self.data.file), path: path.to_path_buf() }
    }
}

pub(super) fn failed(path: &Path, source: io::Error) -> StorageError {
    StorageError::Io { what: "packing to", path: path.to_path_buf(), source }
}

const PIECE: usize = 1 << 20;
