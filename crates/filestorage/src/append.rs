//! Writes pieces one after the other at the end of the file: those in memory with as few calls as can be,
//! those in a spool through a buffer.

use crate::prepare::Piece;
use std::io::{self, IoSlice};
use zeolith_disk::DiskFile;
use zeolith_storage::Spooled;

/// Writes pieces one after the other.
pub(crate) struct Appender<'a> {
    file: &'a dyn DiskFile,
    position: u64,
    /// What comes next, if it is all in memory.
    slices: Vec<IoSlice<'a>>,
    /// What comes before the slices: once something of a transaction was in a spool, the small pieces around it
    /// go this way too.
    buffer: Vec<u8>,
}

impl<'a> Appender<'a> {
    /// The first piece will stand at `position`.
    pub(crate) const fn new(file: &'a dyn DiskFile, position: u64) -> Self {
        Self { file, position, slices: Vec::new(), buffer: Vec::new() }
    }

    /// Takes the next piece; it may be written later.
    pub(crate) fn push(&mut self, piece: Piece<'a>) -> io::Result<()> {
        match piece {
            Piece::Here(bytes) if self.slices.is_empty() && self.fits(bytes.len()) => {
                self.buffer.extend_from_slice(bytes);
                Ok(())
            }
            Piece::Here(bytes) => {
                self.slices.push(IoSlice::new(bytes));
                Ok(())
            }
            Piece::Spooled(spooled) => self.copy(spooled),
        }
    }

    /// Writes what has not been written.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let here = std::mem::take(&mut self.slices);
        let mut slices = Vec::with_capacity(here.len() + 1);
        slices.push(IoSlice::new(&self.buffer));
        slices.extend(here);
        let len: usize = slices.iter().map(|slice| slice.len()).sum();
        self.file.write_all_at(&mut slices, self.position)?;
        self.position += len as u64;
        self.buffer.clear();
        Ok(())
    }

    fn copy(&mut self, spooled: &Spooled) -> io::Result<()> {
        let len = usize::try_from(spooled.len()).map_err(io::Error::other)?;
        if !self.slices.is_empty() || !self.fits(len) {
            self.flush()?;
        }
        if self.buffer.capacity() < BUFFER {
            self.buffer.reserve_exact(BUFFER - self.buffer.len());
        }
        let mut done = 0;
        while done < len {
            let some = (len - done).min(BUFFER - self.buffer.len());
            let start = self.buffer.len();
            self.buffer.resize(start + some, 0);
            spooled.read(done as u64, &mut self.buffer[start..])?;
            done += some;
            if done < len {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Whether the buffer is in use and has room.
    fn fits(&self, len: usize) -> bool {
        self.buffer.capacity() >= BUFFER && len <= BUFFER - self.buffer.len()
    }
}

/// Bytes that are written at once from a spool.
const BUFFER: usize = 1 << 20;
