//! Writes what a pack keeps into a new file, and then everything that came after the pack time.
//!
//! Packed records have their data in themselves and no earlier revision; what came later keeps its length, so
//! that positions move together. Only a record that points back to what was not kept gets the data itself.

use super::{kept::Kept, output::Output, watch::Watch};
use crate::{
    file::{Content, DataFile, Want},
    format::{
        FIRST_TRANSACTION, NUMBER_LEN, RECORD_HEADER_LEN, RecordHeader, STATUS_PACKED, STATUS_UNDONE,
        TRANSACTION_HEADER_LEN, TransactionHeader,
    },
    index::Index,
    input::Input,
};
use bytes::Bytes;
use std::collections::HashMap;
use zeolith_storage::{PackPhase, Patience, Result};
use zeolith_types::Oid;

/// The packed file, its index, and what it lacks of the old file.
pub(super) struct Copier<'a> {
    old: &'a DataFile,
    pub(super) output: Output,
    pub(super) index: Index,
    /// Up to where the old file has been copied.
    pub(super) copied_to: u64,
    pack_position: u64,
    /// Records of before the pack time that later ones point back to, and where they are now.
    extra: HashMap<u64, u64>,
    /// From which old position on positions are how much smaller; the last one that is reached counts.
    shifts: Vec<(u64, u64)>,
}

impl<'a> Copier<'a> {
    /// Copies what is kept of the transactions up to the pack time.
    pub(super) fn start(
        old: &'a DataFile,
        output: Output,
        kept: Kept,
        watch: &mut Watch<'_>,
    ) -> Result<Self> {
        let pack_position = kept.pack_position;
        let index = Index::default();
        let mut copier = Self {
            old,
            output,
            index,
            copied_to: FIRST_TRANSACTION,
            pack_position,
            extra: HashMap::new(),
            shifts: Vec::new(),
        };
        let mut input = Input::new(old, pack_position);
        while copier.copied_to < pack_position {
            copier.packed_transaction(&mut input, &kept)?;
            let bytes = input.take_read() + copier.output.take_written();
            watch.at(PackPhase::Copy, copier.copied_to, pack_position, bytes)?;
        }
        copier.shifts.push((pack_position, pack_position - copier.output.position()));
        // Its memory is not needed any more.
        drop(kept);
        Ok(copier)
    }

    /// Whether the pack has made anything smaller.
    pub(super) fn has_gained(&self) -> bool {
        self.output.position() != self.copied_to
    }

    fn packed_transaction(&mut self, input: &mut Input<'_>, kept: &Kept) -> Result<()> {
        let start = self.copied_to;
        let header = input.transaction(start)?;
        let (mut position, end) = (start + header.header_len(), start + header.len);
        let new_start = self.output.position();
        let mut is_begun = false;
        while position < end {
            let record = input.record(position, start, end)?;
            if header.status != STATUS_UNDONE && kept.takes(input, &record, position)? {
                if !is_begun {
                    is_begun = true;
                    self.begin_packed(input, start, header)?;
                }
                let here = self.output.position();
                self.packed_record(input, record, position, new_start)?;
                self.index.set(record.oid, here);
                if kept.is_extra(position) {
                    self.extra.insert(position, here);
                }
            }
            position += record.record_len();
        }
        self.copied_to = end + NUMBER_LEN as u64;
        if !is_begun && kept.is_last(self.copied_to) {
            is_begun = true;
            self.begin_packed(input, start, header)?;
        }
        if is_begun { self.end_transaction(new_start) } else { Ok(()) }
    }

    fn begin_packed(&mut self, input: &mut Input<'_>, start: u64, header: TransactionHeader) -> Result<()> {
        self.output.push(&TransactionHeader { status: STATUS_PACKED, ..header }.encode())?;
        let texts = start + TRANSACTION_HEADER_LEN as u64;
        self.output.push(input.bytes(texts, header.texts_len())?)
    }

    fn packed_record(
        &mut self,
        input: &mut Input<'_>,
        record: RecordHeader,
        position: u64,
        new_start: u64,
    ) -> Result<()> {
        let body = position + RECORD_HEADER_LEN as u64;
        let header = RecordHeader { prev: 0, transaction: new_start, ..record };
        if record.data_len > 0 {
            self.output.push(&header.encode())?;
            return self.output.push(input.bytes(body, record.data_len)?);
        }
        let pointer = input.number(body)?;
        self.inlined(header, pointer)
    }

    /// Writes a record with the data that it pointed back to.
    fn inlined(&mut self, header: RecordHeader, pointer: u64) -> Result<()> {
        match self.data(header.oid, pointer)? {
            Some(data) => {
                self.output.push(&RecordHeader { data_len: data.len() as u64, ..header }.encode())?;
                self.output.push(&data)
            }
            None => {
                self.output.push(&header.encode())?;
                self.output.push(&0_u64.to_be_bytes())
            }
        }
    }

    /// The data that a backpointer of the old file leads to.
    fn data(&self, oid: Oid, pointer: u64) -> Result<Option<Bytes>> {
        if pointer == 0 {
            return Ok(None);
        }
        let record = self.old.record(oid, pointer, u64::MAX, Want::Data, Patience::Wait)?;
        match self.old.content(record, u64::MAX, Patience::Wait)? {
            Content::Data(data) => Ok(Some(data)),
            Content::Gone => Ok(None),
        }
    }

    /// Copies all transactions up to `end`.
    pub(super) fn copy_later(&mut self, end: u64, watch: &mut Watch<'_>) -> Result<()> {
        let mut input = Input::new(self.old, end);
        while self.copied_to < end {
            self.later_transaction(&mut input)?;
            let bytes = input.take_read() + self.output.take_written();
            watch.at(PackPhase::CatchUp, self.copied_to, end, bytes)?;
        }
        Ok(())
    }

    /// The same without telling anybody, for what is little.
    pub(super) fn copy_rest(&mut self, end: u64) -> Result<()> {
        let mut input = Input::new(self.old, end);
        while self.copied_to < end {
            self.later_transaction(&mut input)?;
        }
        Ok(())
    }

    fn later_transaction(&mut self, input: &mut Input<'_>) -> Result<()> {
        let start = self.copied_to;
        let header = input.transaction(start)?;
        let (mut position, end) = (start + header.header_len(), start + header.len);
        let new_start = self.output.position();
        self.output.push(input.bytes(start, header.header_len())?)?;
        // The index changes at the end, so that all records of an object point to the one before.
        let mut entries = Vec::new();
        while position < end {
            let record = input.record(position, start, end)?;
            let here = self.output.position();
            if header.status != STATUS_UNDONE {
                entries.push((record.oid, here));
            }
            let prev = self.index.get(record.oid).unwrap_or(0);
            let header = RecordHeader { prev, transaction: new_start, ..record };
            self.later_record(input, header, position)?;
            position += record.record_len();
            let shift = position - self.output.position();
            if self.shifts.last().is_none_or(|(_, last)| *last != shift) {
                self.shifts.push((position, shift));
            }
        }
        self.end_transaction(new_start)?;
        for (oid, here) in entries {
            self.index.set(oid, here);
        }
        self.copied_to = end + NUMBER_LEN as u64;
        Ok(())
    }

    fn later_record(&mut self, input: &mut Input<'_>, header: RecordHeader, position: u64) -> Result<()> {
        let body = position + RECORD_HEADER_LEN as u64;
        if header.data_len > 0 {
            self.output.push(&header.encode())?;
            return self.output.push(input.bytes(body, header.data_len)?);
        }
        let pointer = input.number(body)?;
        let moved = match pointer {
            0 => Some(0),
            pointer if pointer < self.pack_position => self.extra.get(&pointer).copied(),
            pointer => Some(self.moved(pointer)),
        };
        match moved {
            Some(moved) => {
                self.output.push(&header.encode())?;
                self.output.push(&moved.to_be_bytes())
            }
            // Somebody undid while the pack was under way.
            None => self.inlined(header, pointer),
        }
    }

    /// Where something is now that was at an old position after the pack time.
    pub(super) fn moved(&self, position: u64) -> u64 {
        let reached = self.shifts.partition_point(|(from, _)| *from <= position);
        let shift =
            reached.checked_sub(1).and_then(|last| self.shifts.get(last)).map_or(0, |(_, shift)| *shift);
        position - shift
    }

    /// Writes the length of a transaction down in both places.
    fn end_transaction(&mut self, new_start: u64) -> Result<()> {
        let len = (self.output.position() - new_start).to_be_bytes();
        self.output.patch(new_start + LENGTH, &len)?;
        self.output.push(&len)
    }
}

/// Where the length is in the header of a transaction.
const LENGTH: u64 = 8;
