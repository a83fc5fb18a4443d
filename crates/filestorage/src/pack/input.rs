//! Reads a file once from its beginning to its end, in large pieces.

use crate::{
    file::DataFile,
    format::{NUMBER_LEN, RECORD_HEADER_LEN, RecordHeader, TransactionHeader},
};
use zeolith_storage::{Patience, Result};

/// A file that is read in the order of positions, as far as somebody says that it is whole.
pub(super) struct Input<'a> {
    pub(super) file: &'a DataFile,
    end: u64,
    /// How much is read at once.
    piece: u64,
    buffer: Vec<u8>,
    start: u64,
    /// How much of the buffer is bytes of the file.
    filled: usize,
    /// Bytes read since somebody asked.
    read: u64,
}

impl<'a> Input<'a> {
    /// The file up to `end`, which is the end of a transaction, to be read whole.
    pub(super) const fn new(file: &'a DataFile, end: u64) -> Self {
        Self::in_pieces(file, end, PIECE)
    }

    /// The same for somebody who leaves out more than `piece` bytes now and then.
    pub(super) const fn in_pieces(file: &'a DataFile, end: u64, piece: u64) -> Self {
        Self { file, end, piece, buffer: Vec::new(), start: 0, filled: 0, read: 0 }
    }

    /// From now on so much is read at once.
    pub(super) const fn set_piece(&mut self, piece: u64) {
        self.piece = piece;
    }

    /// Where the file ends for this reader.
    pub(super) const fn end(&self) -> u64 {
        self.end
    }

    /// How many bytes were read since the last time.
    pub(super) const fn take_read(&mut self) -> u64 {
        std::mem::replace(&mut self.read, 0)
    }

    /// The header of the transaction at `position`, which ends with its length before the end.
    pub(super) fn transaction(&mut self, position: u64) -> Result<TransactionHeader> {
        let room = self.end.saturating_sub(position).saturating_sub(NUMBER_LEN as u64);
        let header = match self.bytes(position, crate::format::TRANSACTION_HEADER_LEN as u64)?.first_chunk() {
            Some(bytes) => TransactionHeader::decode(bytes),
            None => return Err(self.file.corrupt(position, "the file ends too early".into())),
        };
        if header.len < header.header_len() || header.len > room {
            return Err(self.file.corrupt(position, "invalid transaction header".into()));
        }
        if self.number_aside(position + header.len)? != header.len {
            let what = "redundant transaction length check failed";
            return Err(self.file.corrupt(position, what.into()));
        }
        Ok(header)
    }

    /// The header of the record at `position` of a transaction whose records end at `end`.
    pub(super) fn record(&mut self, position: u64, transaction: u64, end: u64) -> Result<RecordHeader> {
        let header = match end.checked_sub(position) {
            Some(room) if room >= RECORD_HEADER_LEN as u64 => {
                self.bytes(position, RECORD_HEADER_LEN as u64)?.first_chunk().map(RecordHeader::decode)
            }
            _ => None,
        };
        header
            .filter(|header| header.record_len() <= end - position && header.transaction == transaction)
            .filter(|header| header.version_len == 0)
            .ok_or_else(|| self.file.corrupt(position, "data record exceeds transaction record".into()))
    }

    /// Whether the record at `position` says that its object does not exist from here on.
    pub(super) fn is_gone(&mut self, record: &RecordHeader, position: u64) -> Result<bool> {
        Ok(record.data_len == 0 && self.number(position + RECORD_HEADER_LEN as u64)? == 0)
    }

    /// The number at `position`.
    pub(super) fn number(&mut self, position: u64) -> Result<u64> {
        let bytes = self.bytes(position, NUMBER_LEN as u64)?;
        Ok(crate::format::u64_at(bytes, 0))
    }

    /// The number at `position`, without leaving what is in the buffer: it is read next.
    fn number_aside(&mut self, position: u64) -> Result<u64> {
        if self.holds(position, NUMBER_LEN as u64) {
            return self.number(position);
        }
        let mut bytes = [0; NUMBER_LEN];
        self.file.read_exact(&mut bytes, position, Patience::Wait)?;
        Ok(u64::from_be_bytes(bytes))
    }

    const fn holds(&self, position: u64, len: u64) -> bool {
        position >= self.start && position + len <= self.start + self.filled as u64
    }

    /// `len` bytes at `position`.
    pub(super) fn bytes(&mut self, position: u64, len: u64) -> Result<&[u8]> {
        if position.checked_add(len).is_none_or(|past| past > self.end) {
            return Err(self.file.corrupt(position, "the file ends too early".into()));
        }
        if !self.holds(position, len) {
            self.fill(position, len)?;
        }
        let from = (position - self.start) as usize;
        Ok(&self.buffer[from..from + len as usize])
    }

    fn fill(&mut self, position: u64, len: u64) -> Result<()> {
        let wanted = len.max(self.piece).min(self.end - position) as usize;
        (self.start, self.filled) = (position, 0);
        if wanted <= PIECE as usize && self.buffer.len() > PIECE as usize {
            // A large record's memory is given back with the next piece.
            self.buffer.truncate(PIECE as usize);
            self.buffer.shrink_to_fit();
        }
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        self.file.read_exact(&mut self.buffer[..wanted], position, Patience::Wait)?;
        self.filled = wanted;
        self.read += wanted as u64;
        Ok(())
    }
}

/// How much is read at once where everything is looked at.
pub(super) const PIECE: u64 = 1 << 20;
