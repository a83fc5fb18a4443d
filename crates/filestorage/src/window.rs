//! A stretch of a file in memory, for readers that go through it more or less in order.

use crate::{
    file::DataFile,
    format::{NUMBER_LEN, RECORD_HEADER_LEN, RecordHeader, TRANSACTION_HEADER_LEN, TransactionHeader},
};
use std::io;
use zeolith_storage::Result;

/// A stretch of a file in memory. What is not in it is read with what will likely be wanted next.
pub(crate) struct Window<'a> {
    file: &'a DataFile,
    buffer: Box<[u8]>,
    start: u64,
    len: usize,
}

impl<'a> Window<'a> {
    /// A window of `size` bytes, which no single look may exceed.
    pub(crate) fn new(file: &'a DataFile, size: usize) -> Self {
        Self { file, buffer: vec![0; size].into(), start: 0, len: 0 }
    }

    /// The header of a transaction, unchecked; `None` if the file ends inside it.
    pub(crate) fn transaction_header(&mut self, position: u64) -> Result<Option<TransactionHeader>> {
        let bytes = self.bytes(position, TRANSACTION_HEADER_LEN)?;
        Ok(bytes.first_chunk().map(TransactionHeader::decode))
    }

    /// The header of a data record, unchecked; `None` if the file ends inside it.
    pub(crate) fn record_header(&mut self, position: u64) -> Result<Option<RecordHeader>> {
        let bytes = self.bytes(position, RECORD_HEADER_LEN)?;
        Ok(bytes.first_chunk().map(RecordHeader::decode))
    }

    /// A transaction's trailing length or a backpointer; `None` if the file ends inside it.
    pub(crate) fn number(&mut self, position: u64) -> Result<Option<u64>> {
        let bytes = self.bytes(position, NUMBER_LEN)?;
        Ok(bytes.first_chunk().map(|bytes| u64::from_be_bytes(*bytes)))
    }

    /// `len` bytes at `position`, or fewer if the file ends before.
    pub(crate) fn bytes(&mut self, position: u64, len: usize) -> Result<&[u8]> {
        let inside = position >= self.start && position + len as u64 <= self.start + self.len as u64;
        if !inside {
            self.fill(position, len)?;
        }
        let from = (position - self.start) as usize;
        let to = (from + len).min(self.len);
        Ok(self.buffer.get(from..to).unwrap_or_default())
    }

    fn fill(&mut self, position: u64, len: usize) -> Result<()> {
        // Whoever goes backwards wants what lies before next.
        let backwards = position < self.start;
        let behind = if backwards { (self.buffer.len() - len) as u64 } else { 0 };
        self.start = position.saturating_sub(behind);
        self.len = 0;
        let needed = (position - self.start) as usize + len;
        while self.len < needed {
            let at = self.start + self.len as u64;
            match self.file.file.read_at(&mut self.buffer[self.len..], at) {
                Ok(0) => break,
                Ok(read) => self.len += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.file.io("reading", error)),
            }
        }
        Ok(())
    }
}
