//! The scan of a `Data.fs` at its opening: builds the index and finds out where the file really ends.
//!
//! Decides only; `tail` cuts off what is to go. What is damaged in the middle is an error with its
//! position, what is damaged at the end is a [`Tail`]. From the watermark on the scan also looks for what a
//! power failure has taken: there a blank piece of a transaction is damage at the end.

use crate::{
    blank::{BlankCheck, SECTOR_LEN},
    file::DataFile,
    format::{
        self, NUMBER_LEN, RECORD_HEADER_LEN, RecordHeader, TRANSACTION_HEADER_LEN, TRANSACTION_STATUS,
        TransactionHeader,
    },
    index::Index,
    input::Input,
    report::{Finding, Findings, TailTrouble},
    room,
};
use zeolith_storage::{Patience, Result, StorageError};
use zeolith_types::Tid;

/// Where and how a scan ended.
pub(crate) struct Scanned {
    /// The end of the last transaction that counts.
    pub(crate) end: u64,
    /// The largest tid up to there.
    pub(crate) last_tid: Tid,
    /// What comes after the end.
    pub(crate) tail: Tail,
}

/// What comes after the last transaction that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// Nothing, or transactions that are not wanted.
    Clean,
    /// Room for more.
    Room,
    /// Bytes that do not belong there.
    Trouble(TailTrouble),
}

/// A scan under way.
pub(crate) struct Scan<'a> {
    file: &'a DataFile,
    index: &'a Index,
    input: Input<'a>,
    file_size: u64,
    /// From here on transactions may have been torn by a power failure.
    judged_from: u64,
    findings: &'a mut Findings,
    /// The largest tid so far.
    last_tid: Tid,
    /// The tid of the transaction before the one at hand.
    tid_before: Tid,
}

/// What the look at a transaction's header said.
enum Header {
    Transaction(TransactionHeader),
    End(Tail),
}

impl<'a> Scan<'a> {
    pub(crate) fn new(
        file: &'a DataFile,
        index: &'a Index,
        file_size: u64,
        last_tid: Tid,
        findings: &'a mut Findings,
    ) -> Self {
        let input = Input::in_a_hurry(file, file_size);
        Self {
            file,
            index,
            input,
            file_size,
            judged_from: u64::MAX,
            findings,
            last_tid,
            tid_before: last_tid,
        }
    }

    /// Takes only what lies before `from` for durable.
    pub(crate) const fn judging_from(mut self, from: u64) -> Self {
        self.judged_from = from;
        self
    }

    /// Scans from `start`, the end of the transaction with the last tid, up to the first one at `stop`.
    pub(crate) fn run(
        mut self,
        start: u64,
        stop: Option<Tid>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Scanned> {
        let mut position = start;
        let mut told = start;
        loop {
            let header = match self.header(position)? {
                Header::Transaction(header) => header,
                Header::End(tail) => return Ok(self.ended(position, tail)),
            };
            if stop.is_some_and(|stop| header.tid >= stop) {
                return Ok(self.ended(position, Tail::Clean));
            }
            position = self.transaction(position, &header)?;
            if header.tid <= self.last_tid {
                let at = position - header.len - NUMBER_LEN as u64;
                self.findings.push(Finding::TidReduction { at, tid: header.tid });
            }
            self.last_tid = self.last_tid.max(header.tid);
            self.tid_before = header.tid;
            if position - told >= PROGRESS_STEP {
                told = position;
                progress(position, self.file_size);
            }
        }
    }

    fn ended(&self, end: u64, tail: Tail) -> Scanned {
        Scanned { end, last_tid: self.last_tid, tail }
    }

    fn header(&mut self, position: u64) -> Result<Header> {
        match self.header_in_whole_file(position) {
            // Whoever writes the file may have made it shorter since.
            Err(StorageError::Corrupt { .. }) if self.file.len()? < self.file_size => {
                Ok(Header::End(Tail::Trouble(TailTrouble::ShortHeader)))
            }
            header => header,
        }
    }

    fn header_in_whole_file(&mut self, position: u64) -> Result<Header> {
        if position >= self.file_size {
            return Ok(Header::End(Tail::Clean));
        }
        if self.file_size - position < TRANSACTION_HEADER_LEN as u64 {
            return Ok(Header::End(Tail::Trouble(TailTrouble::ShortHeader)));
        }
        if self.is_room(position)? {
            return Ok(Header::End(Tail::Room));
        }
        // Before a word of it is believed, the sectors that hold it must have been written.
        let header_end = (position + TRANSACTION_HEADER_LEN as u64).next_multiple_of(SECTOR_LEN);
        if position >= self.judged_from && self.is_torn(position, header_end.min(self.file_size))? {
            return Ok(Header::End(Tail::Trouble(TailTrouble::Torn)));
        }
        let bytes = self.input.bytes(position, TRANSACTION_HEADER_LEN as u64)?;
        let Some(header) = bytes.first_chunk().map(TransactionHeader::decode) else {
            return Ok(Header::End(Tail::Trouble(TailTrouble::ShortHeader)));
        };
        let past = position.checked_add(header.len).and_then(|past| past.checked_add(NUMBER_LEN as u64));
        let Some(past) = past.filter(|past| *past <= self.file_size) else {
            return Ok(Header::End(Tail::Trouble(TailTrouble::TooLong)));
        };
        if header.status == format::STATUS_VOTED {
            return Ok(Header::End(Tail::Trouble(TailTrouble::Unfinished)));
        }
        // With the tid of the transaction before its first sector is still that of the room's header.
        let is_torn = position >= self.judged_from
            && (header.tid == self.tid_before || self.is_torn(position, past)?);
        if is_torn {
            return Ok(Header::End(Tail::Trouble(TailTrouble::Torn)));
        }
        if header.len < header.header_len() {
            return self.bad_header(position);
        }
        if !format::is_known_status(header.status) {
            self.findings.push(Finding::UnknownStatus { at: position, status: header.status });
        }
        Ok(Header::Transaction(header))
    }

    /// Whether nothing follows but the room for more transactions.
    fn is_room(&mut self, position: u64) -> Result<bool> {
        let header = self.input.bytes(position, TRANSACTION_HEADER_LEN as u64)?;
        let header = header.first_chunk().map(TransactionHeader::decode);
        let mut from = position + TRANSACTION_HEADER_LEN as u64;
        if header.is_none_or(|header| !room::is_header(&header, self.tid_before))
            || self.file_size - from > room::LEN_MAX
        {
            return Ok(false);
        }
        while from < self.file_size {
            let len = (self.file_size - from).min(CHECKED_AT_ONCE);
            if self.input.bytes(from, len)?.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            from += len;
        }
        Ok(true)
    }

    /// Whether a sector's piece of what lies between `from` and `to` is blank.
    fn is_torn(&mut self, from: u64, to: u64) -> Result<bool> {
        let mut check = BlankCheck::new(from);
        let mut position = from;
        while position < to && !check.found() {
            let len = (to - position).min(CHECKED_AT_ONCE);
            check.push(self.input.bytes(position, len)?);
            position += len;
        }
        Ok(check.found())
    }

    /// A header can't be one. If the file ends as a sound file does, the damage is in the middle.
    fn bad_header(&mut self, position: u64) -> Result<Header> {
        let end = self.end_without_room(position)?;
        let mut last_len = [0; NUMBER_LEN];
        self.file.read_exact(&mut last_len, end - NUMBER_LEN as u64, Patience::Wait)?;
        let last_len = u64::from_be_bytes(last_len);
        let starts_after = end.checked_sub(last_len).is_some_and(|start| start >= position);
        if starts_after && last_len >= TRANSACTION_HEADER_LEN as u64 {
            return Err(self.file.corrupt(position, "invalid transaction header".into()));
        }
        Ok(Header::End(Tail::Trouble(TailTrouble::BadHeader)))
    }

    /// Where the file ends, or where the header of the room stands that it ends with. Looks only behind `from`.
    fn end_without_room(&self, from: u64) -> Result<u64> {
        let len = (self.file_size - from).min(room::LEN_MAX + TRANSACTION_HEADER_LEN as u64);
        let mut bytes = vec![0; len as usize];
        self.file.read_exact(&mut bytes, self.file_size - len, Patience::Wait)?;
        // The last byte of the header that is not 0 is the status.
        let status = bytes.iter().rposition(|byte| *byte != 0);
        let header = status.and_then(|status| bytes.get(status.checked_sub(TRANSACTION_STATUS)?..));
        let is_room = |header: &&[u8]| {
            let header = header.first_chunk().map(TransactionHeader::decode);
            header.is_some_and(|header| room::is_header(&header, header.tid))
        };
        let room_len = header.filter(is_room).map_or(0, <[u8]>::len);
        // A number must fit in before.
        Ok((self.file_size - room_len as u64).max(from + NUMBER_LEN as u64))
    }

    /// Checks a transaction, enters its records, and gives the position after it.
    fn transaction(&mut self, start: u64, header: &TransactionHeader) -> Result<u64> {
        let end = start + header.len;
        if header.status != format::STATUS_UNDONE {
            let mut position = start + header.header_len();
            while position < end {
                position += self.record(start, header.status, end, position)?;
            }
            if position != end {
                return Err(self.file.corrupt(start, "data records don't add up".into()));
            }
        }
        if self.input.number(end)? != header.len {
            return Err(self.file.corrupt(start, "redundant transaction length check failed".into()));
        }
        Ok(end + NUMBER_LEN as u64)
    }

    /// Checks a record, enters it, and gives its length.
    fn record(&mut self, transaction: u64, status: u8, end: u64, position: u64) -> Result<u64> {
        let exceeds = || self.file.corrupt(position, "data record exceeds transaction record".into());
        if end - position < RECORD_HEADER_LEN as u64 {
            return Err(exceeds());
        }
        let header = self.input.bytes(position, RECORD_HEADER_LEN as u64)?.first_chunk();
        let header = header.map(RecordHeader::decode).ok_or_else(exceeds)?;
        let len = header.record_len();
        if len > end - position || header.transaction != transaction {
            return Err(exceeds());
        }
        if header.version_len != 0 {
            return Err(self.file.corrupt(position, "versions are not supported".into()));
        }
        let should = match self.index.set(header.oid, position).unwrap_or(0) {
            // A second record of the object in one transaction points to the same record as the first.
            first if first >= transaction => self.previous(first)?,
            current => current,
        };
        // A pack cuts the way to what was before, also to a record that it keeps for a later undo.
        let is_cut = header.prev == 0 && status == format::STATUS_PACKED;
        if header.prev != should && !is_cut {
            let (oid, says) = (header.oid, header.prev);
            self.findings.push(Finding::WrongPrevious { at: position, oid, says, should });
        }
        Ok(len)
    }

    /// What a record says that was already passed; read aside, for what is read next comes after this one.
    fn previous(&self, position: u64) -> Result<u64> {
        let mut header = [0; RECORD_HEADER_LEN];
        self.file.read_exact(&mut header, position, Patience::Wait)?;
        Ok(RecordHeader::decode(&header).prev)
    }
}

/// A multiple of a sector.
const CHECKED_AT_ONCE: u64 = 64 << 10;
const PROGRESS_STEP: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use zeolith_disk::{Access, Disk, RealDisk};

    #[test]
    fn a_file_that_has_become_shorter_meanwhile_ends_where_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("Data.fs");
        for there in 0..TRANSACTION_HEADER_LEN as u64 {
            std::fs::write(&path, vec![0; 4 + there as usize]).unwrap();
            let file = DataFile { file: RealDisk.open(&path, Access::Read).unwrap(), path: path.clone() };
            let (index, mut findings) = (Index::default(), Findings::default());
            for judged_from in [u64::MAX, 4] {
                let scan = Scan::new(&file, &index, 1000, Tid::ZERO, &mut findings);
                let scanned = scan.judging_from(judged_from).run(4, None, &mut |_, _| {}).unwrap();
                assert_eq!((scanned.end, scanned.tail), (4, Tail::Trouble(TailTrouble::ShortHeader)));
            }
        }
    }
}
