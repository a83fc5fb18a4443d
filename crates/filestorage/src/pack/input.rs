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
    buffer: Vec<u8>,
    start: u64,
}

impl<'a> Input<'a> {
    /// The file up to `end`, which is the end of a transaction.
    pub(super) const fn new(file: &'a DataFile, end: u64) -> Self {
        Self { file, end, buffer: Vec::new(), start: 0 }
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
        if self.number(position + header.len)? != header.len {
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

    /// The number at `position`.
    pub(super) fn number(&mut self, position: u64) -> Result<u64> {
        let bytes = self.bytes(position, NUMBER_LEN as u64)?;
        Ok(crate::format::u64_at(bytes, 0))
    }

    /// `len` bytes at `position`.
    pub(super) fn bytes(&mut self, position: u64, len: u64) -> Result<&[u8]> {
        let past = position.checked_add(len).filter(|past| *past <= self.end);
        let Some(past) = past else {
            return Err(self.file.corrupt(position, "the file ends too early".into()));
        };
        if position < self.start || past > self.start + self.buffer.len() as u64 {
            self.fill(position, len)?;
        }
        let from = (position - self.start) as usize;
        Ok(&self.buffer[from..from + len as usize])
    }

    fn fill(&mut self, position: u64, len: u64) -> Result<()> {
        let wanted = len.max(PIECE).min(self.end - position);
        self.buffer.clear();
        self.start = position;
        // A large record's memory is given back with the next piece.
        self.buffer.shrink_to(PIECE as usize);
        self.buffer.resize(wanted as usize, 0);
        let read = self.file.read_exact(&mut self.buffer, position, Patience::Wait);
        if read.is_err() {
            self.buffer.clear();
        }
        read
    }
}

const PIECE: u64 = 1 << 20;
