//! Reads of one object: loads, its history, and the walk through all objects in the order of oids.

use crate::{
    file::{Content, Record, Want},
    storage::State,
};
use bytes::Bytes;
use std::io;
use zeolith_storage::{Found, Load, Patience, Result, StorageError};
use zeolith_types::{CurrentRecord, HistoryEntry, Oid, Revision, Tid, Timestamp};

impl State {
    pub(crate) fn load_before(&self, oid: Oid, before: Tid, patience: Patience) -> Result<Load> {
        let found = self.find_before(oid, before, patience)?;
        Ok(Load { found, as_of: self.tid })
    }

    fn find_before(&self, oid: Oid, before: Tid, patience: Patience) -> Result<Found> {
        let Some(mut record) = self.current(oid, Want::Data, patience)? else {
            return Ok(Found::NoObject);
        };
        let mut end = None;
        while record.header.tid >= before {
            end = Some(record.header.tid);
            match self.file.previous(&record, self.end, Want::Header, patience)? {
                Some(previous) => record = previous,
                None => return Ok(Found::NothingBefore),
            }
        }
        let start = record.header.tid;
        Ok(match self.file.content(record, self.end, patience)? {
            Content::Data(data) => Found::Revision(Revision { data, start, end }),
            Content::Gone => Found::NoObject,
        })
    }

    pub(crate) fn load_serial(&self, oid: Oid, serial: Tid, patience: Patience) -> Result<Bytes> {
        let mut next = self.current(oid, Want::Data, patience)?;
        while let Some(record) = next.filter(|record| record.header.tid >= serial) {
            if record.header.tid == serial {
                return match self.file.content(record, self.end, patience)? {
                    Content::Data(data) => Ok(data),
                    Content::Gone => Err(StorageError::NoObject(oid)),
                };
            }
            next = self.file.previous(&record, self.end, Want::Header, patience)?;
        }
        Err(StorageError::NoObject(oid))
    }

    /// Also finds a record from before the last pack, which nothing but a later record points back to.
    pub(crate) fn has_record(&self, oid: Oid, serial: Tid, patience: Patience) -> Result<bool> {
        let mut next = self.current(oid, Want::Header, patience)?;
        while let Some(record) = next {
            next = self.file.previous(&record, self.end, Want::Header, patience)?;
            let mut pointed = Some(record);
            while let Some(record) = pointed {
                if record.header.tid == serial {
                    return self.file.has_data(record, self.end, patience);
                }
                pointed = self.file.pointed_to(&record, self.end, patience)?;
            }
        }
        Ok(false)
    }

    pub(crate) fn current_tid(&self, oid: Oid, patience: Patience) -> Result<Tid> {
        let record = self.current(oid, Want::Header, patience)?.filter(|record| !record.is_gone());
        record.map(|record| record.header.tid).ok_or(StorageError::NoObject(oid))
    }

    pub(crate) fn history(&self, oid: Oid, size: usize, patience: Patience) -> Result<Vec<HistoryEntry>> {
        let mut next = self.current(oid, Want::Header, patience)?;
        if next.is_none() {
            return Err(StorageError::NoObject(oid));
        }
        let mut entries = Vec::new();
        while let Some(record) = next.filter(|_| entries.len() < size) {
            entries.push(self.history_entry(&record, patience)?);
            next = self.file.previous(&record, self.end, Want::Header, patience)?;
        }
        Ok(entries)
    }

    fn history_entry(&self, record: &Record, patience: Patience) -> Result<HistoryEntry> {
        let position = record.header.transaction;
        let (_, [user, description, extension]) =
            self.file.transaction_with_texts(position, self.end, patience)?;
        Ok(HistoryEntry {
            time: Timestamp::tid_seconds(record.header.tid),
            user,
            description,
            extension,
            tid: record.header.tid,
            size: record.header.data_len,
            in_memory: false,
        })
    }

    /// Objects that do not exist any more are passed over; the reference fails on them.
    pub(crate) fn record_iternext(&self, next: Option<Oid>, patience: Patience) -> Result<CurrentRecord> {
        let mut existing = None;
        for (passed, (oid, _)) in self.index.iter_from(next.unwrap_or(Oid::ZERO)).enumerate() {
            if passed >= PASSED_MAX && patience == Patience::Now {
                return Err(StorageError::WouldBlock);
            }
            let want = if existing.is_none() { Want::Data } else { Want::Header };
            let Some(record) = self.current(oid, want, patience)?.filter(|record| !record.is_gone()) else {
                continue;
            };
            if let Some((oid, tid, data)) = existing {
                return Ok(CurrentRecord { oid, tid, data, next: Some(record.header.oid) });
            }
            let tid = record.header.tid;
            if let Content::Data(data) = self.file.content(record, self.end, patience)? {
                existing = Some((oid, tid, data));
            }
        }
        let empty = if next.is_none() { "empty tree" } else { "no key satisfies the conditions" };
        let (oid, tid, data) = existing.ok_or_else(|| StorageError::Empty(empty.into()))?;
        Ok(CurrentRecord { oid, tid, data, next: None })
    }

    /// The object's last published record.
    fn current(&self, oid: Oid, want: Want, patience: Patience) -> Result<Option<Record>> {
        match self.index.get(oid) {
            Some(position) => self.published(oid, position, want, patience),
            None => Ok(None),
        }
    }

    /// The record at `position` or the first one before it that is published.
    fn published(&self, oid: Oid, position: u64, want: Want, patience: Patience) -> Result<Option<Record>> {
        let mut position = position;
        while position >= self.end {
            // It is durable, so it can be read, but nobody may see it.
            let record = self.file.record(oid, position, u64::MAX, Want::Header, patience)?;
            match record.header.prev {
                0 => return Ok(None),
                prev if prev < position => position = prev,
                prev => {
                    return Err(self.file.corrupt(position, format!("the record points forwards to {prev}")));
                }
            }
        }
        self.file.record(oid, position, self.end, want, patience).map(Some)
    }

    /// The published part of the index, for saving it while others commit.
    pub(crate) fn entries(&self) -> impl Iterator<Item = io::Result<(Oid, u64)>> + '_ {
        self.index.iter_from(Oid::ZERO).filter_map(|(oid, position)| {
            if position < self.end {
                return Some(Ok((oid, position)));
            }
            match self.published(oid, position, Want::Header, Patience::Wait) {
                Ok(record) => record.map(|record| Ok((oid, record.position))),
                Err(error) => Some(Err(io::Error::other(error))),
            }
        })
    }
}

/// So many objects may be looked at in one step by a reader that may not wait.
const PASSED_MAX: usize = 1000;
