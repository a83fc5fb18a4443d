//! Reads headers, data and chains of records at their positions in one `Data.fs`.
//!
//! Everything is checked against the end that the caller gives, so that nothing in a damaged file makes a
//! reader loop, allocate without bound or look past what is committed.

use crate::format::{
    NUMBER_LEN, RECORD_HEADER_LEN, RecordHeader, TRANSACTION_HEADER_LEN, TransactionHeader, u64_at,
};
use bytes::Bytes;
use std::{io, path::PathBuf, sync::Arc};
use zeolith_disk::DiskFile;
use zeolith_storage::{Patience, Result, StorageError};
use zeolith_types::Oid;

/// An open `Data.fs`.
pub(crate) struct DataFile {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) path: PathBuf,
}

/// A data record, without its data unless one read brought it along.
pub(crate) struct Record {
    pub(crate) header: RecordHeader,
    pub(crate) position: u64,
    body: Body,
}

enum Body {
    Data(Bytes),
    DataUnread,
    Backpointer(u64),
}

/// The data that a record stands for.
pub(crate) enum Content {
    /// The data.
    Data(Bytes),
    /// The object does not exist from here on.
    Gone,
}

/// Whether the data of a record will be wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// Read on past the header in the same call.
    Data,
    /// The header and backpointer are enough.
    Header,
}

impl DataFile {
    /// How many bytes it has.
    pub(crate) fn len(&self) -> Result<u64> {
        self.file.len().map_err(|error| self.io("reading", error))
    }

    /// The record of `oid` at `position`, which must end before `end`.
    pub(crate) fn record(
        &self,
        oid: Oid,
        position: u64,
        end: u64,
        want: Want,
        patience: Patience,
    ) -> Result<Record> {
        let record = self.any_record(position, end, want, patience)?;
        self.check_oid(oid, record)
    }

    /// The record at `position`, whatever its object.
    pub(crate) fn any_record(
        &self,
        position: u64,
        end: u64,
        want: Want,
        patience: Patience,
    ) -> Result<Record> {
        let mut buffer = [0; FIRST_READ_LEN];
        let wanted = if want == Want::Data { FIRST_READ_LEN } else { HEADER_READ_LEN };
        let buffer = &mut buffer[..wanted];
        let len = self.read_up_to(buffer, RECORD_HEADER_LEN, position, patience)?;
        self.parse_any(position, end, &buffer[..len], patience)
    }

    /// The record of `oid` at `position`, of which `bytes` have been read.
    pub(crate) fn parse(
        &self,
        oid: Oid,
        position: u64,
        end: u64,
        bytes: &[u8],
        patience: Patience,
    ) -> Result<Record> {
        let record = self.parse_any(position, end, bytes, patience)?;
        self.check_oid(oid, record)
    }

    fn parse_any(&self, position: u64, end: u64, bytes: &[u8], patience: Patience) -> Result<Record> {
        let Some((header, rest)) = bytes.split_first_chunk() else {
            return Err(self.corrupt(position, "the file ends inside a record".into()));
        };
        let header = RecordHeader::decode(header);
        self.check_record(&header, position, end)?;
        let body_len = header.record_len() - RECORD_HEADER_LEN as u64;
        let body = rest.get(..usize::try_from(body_len).unwrap_or(usize::MAX));
        let body = match body {
            Some(body) if header.data_len == 0 => Body::Backpointer(u64_at(body, 0)),
            Some(body) => Body::Data(Bytes::copy_from_slice(body)),
            None if header.data_len == 0 => {
                let mut bytes = [0; NUMBER_LEN];
                self.read_exact(&mut bytes, position + RECORD_HEADER_LEN as u64, patience)?;
                Body::Backpointer(u64::from_be_bytes(bytes))
            }
            None => Body::DataUnread,
        };
        Ok(Record { header, position, body })
    }

    /// Follows backpointers to the data that `record` stands for.
    pub(crate) fn content(&self, record: Record, end: u64, patience: Patience) -> Result<Content> {
        let mut record = record;
        loop {
            let pointer = match record.body {
                Body::Data(data) => return Ok(Content::Data(data)),
                Body::DataUnread => {
                    let data = self.data(&record, end, patience)?;
                    return Ok(Content::Data(data));
                }
                Body::Backpointer(0) => return Ok(Content::Gone),
                Body::Backpointer(pointer) => pointer,
            };
            self.check_backwards(pointer, record.position)?;
            record = self.record(record.header.oid, pointer, end, Want::Data, patience)?;
        }
    }

    /// Whether a record has data, or points back to some.
    pub(crate) fn has_data(&self, record: Record, end: u64, patience: Patience) -> Result<bool> {
        let mut next = Some(record);
        while let Some(record) = next {
            if record.is_gone() {
                return Ok(false);
            }
            next = self.pointed_to(&record, end, patience)?;
        }
        Ok(true)
    }

    /// The record that a record points back to, if it does.
    pub(crate) fn pointed_to(&self, record: &Record, end: u64, patience: Patience) -> Result<Option<Record>> {
        let Some(pointer) = record.backpointer() else { return Ok(None) };
        self.check_backwards(pointer, record.position)?;
        self.record(record.header.oid, pointer, end, Want::Header, patience).map(Some)
    }

    /// The record before `record`, if there is one.
    pub(crate) fn previous(
        &self,
        record: &Record,
        end: u64,
        want: Want,
        patience: Patience,
    ) -> Result<Option<Record>> {
        let prev = record.header.prev;
        if prev == 0 {
            return Ok(None);
        }
        self.check_backwards(prev, record.position)?;
        self.record(record.header.oid, prev, end, want, patience).map(Some)
    }

    /// The header of the transaction at `position`, which must end with its length before `end`.
    pub(crate) fn transaction(
        &self,
        position: u64,
        end: u64,
        patience: Patience,
    ) -> Result<TransactionHeader> {
        let mut bytes = [0; TRANSACTION_HEADER_LEN];
        self.read_exact(&mut bytes, position, patience)?;
        let header = TransactionHeader::decode(&bytes);
        let past = position.checked_add(header.len).and_then(|at| at.checked_add(NUMBER_LEN as u64));
        if header.len < header.header_len() || past.is_none_or(|past| past > end) {
            return Err(self.corrupt(position, format!("a transaction can't have {} bytes", header.len)));
        }
        Ok(header)
    }

    /// The header of the transaction at `position` with its user name, description and extension.
    pub(crate) fn transaction_with_texts(
        &self,
        position: u64,
        end: u64,
        patience: Patience,
    ) -> Result<(TransactionHeader, [Bytes; 3])> {
        let header = self.transaction(position, end, patience)?;
        let mut texts = vec![0; header.texts_len() as usize];
        self.read_exact(&mut texts, position + TRANSACTION_HEADER_LEN as u64, patience)?;
        let mut texts = Bytes::from(texts);
        let user = texts.split_to(header.user_len.into());
        let description = texts.split_to(header.description_len.into());
        Ok((header, [user, description, texts]))
    }

    /// Where the transaction that ends at `end` begins.
    pub(crate) fn transaction_before(&self, end: u64, patience: Patience) -> Result<u64> {
        let mut bytes = [0; NUMBER_LEN];
        let at = end.saturating_sub(NUMBER_LEN as u64);
        self.read_exact(&mut bytes, at, patience)?;
        let len = u64::from_be_bytes(bytes);
        at.checked_sub(len)
            .filter(|start| {
                *start >= crate::format::FIRST_TRANSACTION && len >= TRANSACTION_HEADER_LEN as u64
            })
            .ok_or_else(|| self.corrupt(at, format!("no transaction of {len} bytes fits before it")))
    }

    pub(crate) fn read_exact(&self, buffer: &mut [u8], position: u64, patience: Patience) -> Result<()> {
        let len = buffer.len();
        if self.read_up_to(buffer, len, position, patience)? < len {
            return Err(self.corrupt(position, "the file ends too early".into()));
        }
        Ok(())
    }

    pub(crate) fn corrupt(&self, at: u64, what: String) -> StorageError {
        StorageError::Corrupt { path: self.path.clone(), at, what }
    }

    pub(crate) fn io(&self, what: &'static str, source: io::Error) -> StorageError {
        StorageError::Io { what, path: self.path.clone(), source }
    }

    fn check_oid(&self, oid: Oid, record: Record) -> Result<Record> {
        if record.header.oid == oid {
            return Ok(record);
        }
        Err(self.corrupt(record.position, format!("the record is of {}, not {oid}", record.header.oid)))
    }

    fn check_record(&self, header: &RecordHeader, position: u64, end: u64) -> Result<()> {
        if header.version_len != 0 {
            return Err(self.corrupt(position, "the record belongs to a version, which ZODB gave up".into()));
        }
        if position.checked_add(header.record_len()).is_none_or(|past| past > end) {
            return Err(self.corrupt(position, format!("a record can't have {} bytes", header.data_len)));
        }
        Ok(())
    }

    /// A record points only to earlier ones; this is what makes every walk end.
    fn check_backwards(&self, pointer: u64, position: u64) -> Result<()> {
        if pointer < position {
            return Ok(());
        }
        Err(self.corrupt(position, format!("the record points forwards to {pointer}")))
    }

    fn data(&self, record: &Record, end: u64, patience: Patience) -> Result<Bytes> {
        let header = &record.header;
        if let Patience::WaitUpTo(max) = patience
            && header.data_len > max
        {
            return Err(StorageError::NoRoom { room: header.data_len });
        }
        if header.data_len >= LARGE {
            if patience == Patience::Now {
                // It may be in memory, but copying it takes as long as a slow disk.
                return Err(StorageError::WouldBlock);
            }
            self.check_inside(record, end, patience)?;
        }
        let mut data = vec![0; usize::try_from(header.data_len).unwrap_or(usize::MAX)];
        self.read_exact(&mut data, record.position + RECORD_HEADER_LEN as u64, patience)?;
        Ok(data.into())
    }

    /// A large record is believed only if its transaction has room for it: its length becomes memory.
    fn check_inside(&self, record: &Record, end: u64, patience: Patience) -> Result<()> {
        let start = record.header.transaction;
        let transaction = self.transaction(start, end, patience)?;
        let records = start + transaction.header_len()..start + transaction.len;
        if records.contains(&record.position) && record.header.record_len() <= records.end - record.position {
            return Ok(());
        }
        Err(self.corrupt(record.position, "data record exceeds transaction record".into()))
    }

    /// Reads at least `needed` bytes if the file has them, and more if they come with them.
    pub(crate) fn read_up_to(
        &self,
        buffer: &mut [u8],
        needed: usize,
        position: u64,
        patience: Patience,
    ) -> Result<usize> {
        let mut done = 0;
        while done < needed {
            let read = match patience {
                Patience::Now => self.file.read_at_now(&mut buffer[done..], position + done as u64),
                Patience::Wait | Patience::WaitUpTo(_) => {
                    self.file.read_at(&mut buffer[done..], position + done as u64)
                }
            };
            match read {
                Ok(0) => break,
                Ok(len) => done += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(StorageError::WouldBlock);
                }
                Err(error) => return Err(self.io("reading", error)),
            }
        }
        Ok(done)
    }
}

impl Record {
    /// Whether it says that the object does not exist from here on.
    pub(crate) const fn is_gone(&self) -> bool {
        matches!(self.body, Body::Backpointer(0))
    }

    /// The record that it points back to for its data.
    pub(crate) const fn backpointer(&self) -> Option<u64> {
        match self.body {
            Body::Backpointer(0) | Body::Data(_) | Body::DataUnread => None,
            Body::Backpointer(pointer) => Some(pointer),
        }
    }
}

/// A header, and a backpointer if one follows.
pub(crate) const HEADER_READ_LEN: usize = RECORD_HEADER_LEN + NUMBER_LEN;
/// Most records and their headers come with one read of this length; four times as much cost half as much
/// again a load, for the copying.
const FIRST_READ_LEN: usize = 1024;
/// From this length on a record is read only by those who may wait, and checked against its transaction before
/// memory is taken for it.
const LARGE: u64 = 1 << 20;
