//! What changed lately: walks through the transactions from the last one backwards.
//!
//! Each transaction ends with its length, so the way back costs only what is asked for.

use crate::{
    file::DataFile,
    format::{
        FIRST_TRANSACTION, NUMBER_LEN, STATUS_COMMITTED, STATUS_PACKED, STATUS_UNDONE,
        TRANSACTION_HEADER_LEN, TransactionHeader,
    },
    storage::State,
    window::Window,
};
use std::{collections::HashSet, ops::Range};
use zeolith_storage::{Changes, Patience, Result};
use zeolith_types::{Oid, Tid, Timestamp, UndoEntry};

impl State {
    pub(crate) fn last_changes(&self, count: usize) -> Result<Vec<(Tid, Vec<Oid>)>> {
        let mut walk = Backwards::new(&self.file, self.end);
        let mut changes = Vec::new();
        while changes.len() < count
            && let Some((position, header)) = walk.next_transaction()?
        {
            let (mut seen, mut oids) = (HashSet::new(), Vec::new());
            walk.records(position, &header, |oid| {
                if seen.insert(oid) {
                    oids.push(oid);
                }
                true
            })?;
            changes.push((header.tid, oids));
        }
        changes.reverse();
        Ok(changes)
    }

    pub(crate) fn changes_since(&self, after: Tid, oids_max: usize) -> Result<Option<Changes>> {
        let mut walk = Backwards::new(&self.file, self.end);
        let mut oids = HashSet::new();
        while let Some((position, header)) = walk.next_transaction()?.filter(|(_, header)| header.tid > after)
        {
            let mut fits = true;
            walk.records(position, &header, |oid| {
                oids.insert(oid);
                fits = oids.len() <= oids_max;
                fits
            })?;
            if !fits {
                return Ok(None);
            }
        }
        Ok(Some(Changes { through: self.tid, oids: oids.into_iter().collect() }))
    }

    /// The transactions that can be undone, newest first, as far as one answer can hold them.
    pub(crate) fn undo_log(
        &self,
        range: Range<u64>,
        wanted: &mut dyn FnMut(&UndoEntry) -> bool,
    ) -> Result<Vec<UndoEntry>> {
        let mut walk = Backwards::new(&self.file, self.end);
        let (mut entries, mut number, mut size) = (Vec::new(), 0, 0);
        while number < range.end
            && size < UNDO_LOG_SIZE_MAX
            && let Some((position, header)) = walk.next_any()?
        {
            match header.status {
                STATUS_PACKED => break,
                STATUS_COMMITTED => {}
                _ => continue,
            }
            let entry = self.undo_entry(position)?;
            if !wanted(&entry) {
                continue;
            }
            if range.contains(&number) {
                size += UNDO_ENTRY_SIZE + header.texts_len();
                entries.push(entry);
            }
            number += 1;
        }
        Ok(entries)
    }

    fn undo_entry(&self, position: u64) -> Result<UndoEntry> {
        let (header, [user, description, extension]) =
            self.file.transaction_with_texts(position, self.end, Patience::Wait)?;
        let (tid, size) = (header.tid, header.len);
        let time = Timestamp::tid_seconds(tid);
        Ok(UndoEntry { tid, time, user, description, extension, size })
    }

    /// Where the first transaction is whose tid is not below `start`, coming from the nearer end.
    pub(crate) fn seek(&self, start: Tid) -> Result<u64> {
        if self.end == FIRST_TRANSACTION || start > self.tid {
            return Ok(self.end);
        }
        let mut window = Window::new(&self.file, WINDOW_SIZE);
        let first = self.file.checked_header(&mut window, FIRST_TRANSACTION, self.end)?;
        let minutes = |tid: Tid| tid.get() >> 32;
        let from_first = minutes(start).saturating_sub(minutes(first.tid));
        if from_first < minutes(self.tid).saturating_sub(minutes(start)) {
            return self.seek_forwards(start, window);
        }
        let mut walk = Backwards::new(&self.file, self.end);
        let mut position = self.end;
        while let Some((before, _)) = walk.next_any()?.filter(|(_, header)| header.tid >= start) {
            position = before;
        }
        Ok(position)
    }

    fn seek_forwards(&self, start: Tid, mut window: Window<'_>) -> Result<u64> {
        let mut position = FIRST_TRANSACTION;
        while position < self.end {
            let header = self.file.checked_header(&mut window, position, self.end)?;
            if header.tid >= start {
                break;
            }
            position += header.len + NUMBER_LEN as u64;
        }
        Ok(position)
    }
}

impl DataFile {
    /// The header of the transaction at `position`, which must end before `end`.
    fn checked_header(&self, window: &mut Window<'_>, position: u64, end: u64) -> Result<TransactionHeader> {
        let header = window.transaction_header(position)?;
        let room = end.saturating_sub(position).saturating_sub(NUMBER_LEN as u64);
        header
            .filter(|header| header.len >= header.header_len() && header.len <= room)
            .ok_or_else(|| self.corrupt(position, "invalid transaction header".into()))
    }
}

/// Goes through transactions, newest first.
pub(crate) struct Backwards<'a> {
    file: &'a DataFile,
    window: Window<'a>,
    position: u64,
}

impl<'a> Backwards<'a> {
    pub(crate) fn new(file: &'a DataFile, end: u64) -> Self {
        Self { file, window: Window::new(file, WINDOW_SIZE), position: end }
    }

    /// The next transaction that readers do not skip, and where it is.
    fn next_transaction(&mut self) -> Result<Option<(u64, TransactionHeader)>> {
        loop {
            match self.next_any()? {
                Some((_, header)) if header.status == STATUS_UNDONE => {}
                found => return Ok(found),
            }
        }
    }

    pub(crate) fn next_any(&mut self) -> Result<Option<(u64, TransactionHeader)>> {
        if self.position == FIRST_TRANSACTION {
            return Ok(None);
        }
        let end = self.position;
        let at = end.saturating_sub(NUMBER_LEN as u64);
        let len = self.window.number(at)?.unwrap_or(0);
        let start = at
            .checked_sub(len)
            .filter(|start| *start >= FIRST_TRANSACTION && len >= TRANSACTION_HEADER_LEN as u64)
            .ok_or_else(|| self.file.corrupt(at, format!("no transaction of {len} bytes fits before it")))?;
        let header = self.file.checked_header(&mut self.window, start, end)?;
        if header.len != len {
            return Err(self.file.corrupt(start, "redundant transaction length check failed".into()));
        }
        self.position = start;
        Ok(Some((start, header)))
    }

    /// Shows the objects of a transaction in order, as long as `show` wants more.
    fn records(
        &mut self,
        start: u64,
        header: &TransactionHeader,
        mut show: impl FnMut(Oid) -> bool,
    ) -> Result<()> {
        let end = start + header.len;
        let mut position = start + header.header_len();
        while position < end {
            let record = self.window.record_header(position)?;
            let record = record.filter(|record| record.record_len() <= end - position);
            let Some(record) = record else {
                return Err(self.file.corrupt(position, "data record exceeds transaction record".into()));
            };
            if !show(record.oid) {
                return Ok(());
            }
            position += record.record_len();
        }
        Ok(())
    }
}

const WINDOW_SIZE: usize = 64 << 10;
/// An undo log of this size is long enough: whoever wants more asks for what comes after it.
const UNDO_LOG_SIZE_MAX: u64 = 16 << 20;
/// About what an entry takes besides its texts.
const UNDO_ENTRY_SIZE: u64 = 200;
