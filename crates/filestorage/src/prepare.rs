//! A voted transaction as bytes: everything but the tid and the position, which `finish` fills in.
//!
//! Small records are gathered in one buffer, large ones stay where they are, so that a large transaction
//! is not copied on its way to the disk. Records that were put aside stay there until they are written.

use crate::format::{
    NUMBER_LEN, RECORD_HEADER_LEN, RECORD_PREV, RECORD_TID, RECORD_TRANSACTION, RecordHeader, TEXT_LEN_MAX,
    TRANSACTION_HEADER_LEN, TRANSACTION_STATUS, TransactionHeader, u64_at,
};
use bytes::Bytes;
use std::collections::HashSet;
use zeolith_storage::{RecordData, Result, Spooled, StorageError, Write, WriteSet};
use zeolith_types::{Oid, Tid};

/// A voted transaction as bytes.
pub(crate) struct Prepared {
    /// The tid that it brought along.
    pub(crate) tid: Option<Tid>,
    buffer: Vec<u8>,
    /// Data that is large or put aside, with the place in the buffer before which it belongs.
    large: Vec<(usize, RecordData)>,
    large_len: u64,
    records: Vec<PreparedRecord>,
    /// Whether every record holds data and gets the tid of the transaction.
    is_plain: bool,
}

/// A data record of a voted transaction.
struct PreparedRecord {
    oid: Oid,
    /// Where its header is in the buffer.
    in_buffer: usize,
    /// Where it is in the transaction.
    in_transaction: u64,
    /// Whether it gets the tid of the transaction or has its own.
    tid_open: bool,
}

/// A stretch of a transaction's bytes.
#[derive(Clone, Copy)]
pub(crate) enum Piece<'a> {
    Here(&'a [u8]),
    Spooled(&'a Spooled),
}

/// What a data record holds.
pub(crate) enum Body<'a> {
    Data(&'a RecordData),
    /// A backpointer, 0 for an object that does not exist any more.
    Backpointer(u64),
}

/// What a data record of a voted transaction holds.
pub(crate) enum Written {
    Data(RecordData),
    Backpointer(u64),
}

impl Prepared {
    /// A transaction without records.
    pub(crate) fn new(writes: &WriteSet, status: u8) -> Result<Self> {
        let header = TransactionHeader {
            tid: Tid::ZERO,
            len: 0,
            status,
            user_len: text_len(&writes.user, "user name too long")?,
            description_len: text_len(&writes.description, "description too long")?,
            extension_len: text_len(&writes.extension, "too much extension data")?,
        };
        let small = |write: &Write| write.record().map_or(0, RecordData::len).min(LARGE as u64) as usize;
        let records: usize = writes.writes.iter().map(|write| RECORD_HEADER_LEN + small(write)).sum();
        let len = header.header_len() as usize + records + NUMBER_LEN;
        let mut buffer = Vec::with_capacity(len.min(BUFFER_GUESS_MAX));
        buffer.extend_from_slice(&header.encode());
        buffer.extend_from_slice(&writes.user);
        buffer.extend_from_slice(&writes.description);
        buffer.extend_from_slice(&writes.extension);
        let (large, records) = (Vec::new(), Vec::new());
        Ok(Self { tid: writes.tid, buffer, large, large_len: 0, records, is_plain: true })
    }

    /// Adds a record; `tid` only if it has another one than the transaction.
    pub(crate) fn push(&mut self, oid: Oid, tid: Option<Tid>, prev: u64, body: &Body<'_>) {
        let data_len = match body {
            Body::Data(data) => data.len(),
            Body::Backpointer(_) => 0,
        };
        self.is_plain &= tid.is_none() && data_len > 0;
        let (in_buffer, in_transaction) = (self.buffer.len(), self.len());
        self.records.push(PreparedRecord { oid, in_buffer, in_transaction, tid_open: tid.is_none() });
        let tid = tid.unwrap_or(Tid::ZERO);
        let header = RecordHeader { oid, tid, prev, transaction: 0, version_len: 0, data_len };
        self.buffer.extend_from_slice(&header.encode());
        match body {
            Body::Data(RecordData::Memory(data)) if data.len() < LARGE => self.buffer.extend_from_slice(data),
            Body::Data(data) => {
                self.large.push((self.buffer.len(), RecordData::clone(data)));
                self.large_len += data_len;
            }
            Body::Backpointer(pointer) => self.buffer.extend_from_slice(&pointer.to_be_bytes()),
        }
    }

    /// Writes the length down in both places; nothing is added afterwards.
    pub(crate) fn seal(&mut self) {
        let len = self.len();
        self.buffer[8..16].copy_from_slice(&len.to_be_bytes());
        self.buffer.extend_from_slice(&len.to_be_bytes());
    }

    /// Length so far.
    pub(crate) fn len(&self) -> u64 {
        self.buffer.len() as u64 + self.large_len
    }

    /// Gives it another status; the one it had.
    pub(crate) fn replace_status(&mut self, status: u8) -> u8 {
        std::mem::replace(&mut self.buffer[TRANSACTION_STATUS], status)
    }

    /// Fills in the tid and the position.
    pub(crate) fn place(&mut self, tid: Tid, position: u64) {
        self.buffer[..8].copy_from_slice(&tid.to_bytes());
        for record in &self.records {
            let header = &mut self.buffer[record.in_buffer..record.in_buffer + RECORD_HEADER_LEN];
            if record.tid_open {
                header[RECORD_TID..RECORD_TID + 8].copy_from_slice(&tid.to_bytes());
            }
            header[RECORD_TRANSACTION..RECORD_TRANSACTION + 8].copy_from_slice(&position.to_be_bytes());
        }
    }

    /// The bytes in order, piece by piece.
    pub(crate) fn pieces<'a, E>(&'a self, mut take: impl FnMut(Piece<'a>) -> Result<(), E>) -> Result<(), E> {
        let mut done = 0;
        for (place, data) in &self.large {
            take(Piece::Here(&self.buffer[done..*place]))?;
            take(match data {
                RecordData::Memory(data) => Piece::Here(data),
                RecordData::Spooled(spooled) => Piece::Spooled(spooled),
            })?;
            done = *place;
        }
        take(Piece::Here(&self.buffer[done..]))
    }

    /// Whether a record points back to data in the file.
    pub(crate) fn has_backpointers(&self) -> bool {
        (0..self.records.len()).any(|number| {
            let header = self.header(number);
            let body = self.records[number].in_buffer + RECORD_HEADER_LEN;
            header.data_len == 0 && u64_at(&self.buffer, body) != 0
        })
    }

    /// Whether every record holds data and gets the tid of the transaction.
    pub(crate) const fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// The file has been replaced: `current` tells where the objects' last records are now.
    pub(crate) fn rebase(&mut self, current: impl Fn(Oid) -> u64) {
        assert!(!self.has_backpointers(), "a transaction that points back ends before the file is replaced");
        for record in &self.records {
            let prev = record.in_buffer + RECORD_PREV;
            self.buffer[prev..prev + NUMBER_LEN].copy_from_slice(&current(record.oid).to_be_bytes());
        }
    }

    fn header(&self, number: usize) -> RecordHeader {
        let header = self.buffer[self.records[number].in_buffer..].first_chunk().map(RecordHeader::decode);
        header.expect("a record begins with its header")
    }

    /// How many records there are.
    pub(crate) fn record_count(&self) -> usize {
        self.records.len()
    }

    /// The object of a record.
    pub(crate) fn oid(&self, number: usize) -> Oid {
        self.records[number].oid
    }

    /// The content of a record.
    pub(crate) fn written(&self, number: usize) -> Written {
        let header = self.header(number);
        let body = self.records[number].in_buffer + RECORD_HEADER_LEN;
        if header.data_len == 0 {
            return Written::Backpointer(u64_at(&self.buffer, body));
        }
        Written::Data(match self.large.binary_search_by_key(&body, |(place, _)| *place) {
            Ok(found) => self.large[found].1.clone(),
            Err(_) => Bytes::copy_from_slice(&self.buffer[body..body + header.data_len as usize]).into(),
        })
    }

    /// The records with their positions in the transaction, in order.
    pub(crate) fn records(&self) -> impl Iterator<Item = (Oid, u64)> + '_ {
        self.records.iter().map(|record| (record.oid, record.in_transaction))
    }

    /// The objects written, each once.
    pub(crate) fn changed(&self) -> Vec<Oid> {
        if let [only] = self.records.as_slice() {
            return vec![only.oid];
        }
        let mut seen = HashSet::with_capacity(self.records.len());
        self.records.iter().map(|record| record.oid).filter(|oid| seen.insert(*oid)).collect()
    }
}

fn text_len(text: &Bytes, refusal: &str) -> Result<u16> {
    assert!(TEXT_LEN_MAX == usize::from(u16::MAX), "the header has two bytes for it");
    u16::try_from(text.len()).map_err(|_| StorageError::Format(refusal.into()))
}

const _: () = assert!(TRANSACTION_HEADER_LEN == 23 && NUMBER_LEN == 8);

/// Data from this length on is not copied into the buffer.
const LARGE: usize = 16 << 10;
const BUFFER_GUESS_MAX: usize = 1 << 20;
