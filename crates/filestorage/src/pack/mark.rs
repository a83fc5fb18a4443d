//! What a pack keeps: the revisions of the pack time that can be reached from the root, and those that later
//! transactions point back to.
//!
//! Takes eight bytes an object for positions and marks, and as many at most for the objects that are marked
//! and not yet looked at.

use super::{
    input::{Input, PIECE},
    references::references,
    watch::Watch,
};
use crate::{
    file::{Content, Want},
    format::{FIRST_TRANSACTION, NUMBER_LEN, RECORD_HEADER_LEN, RecordHeader, STATUS_PACKED, STATUS_UNDONE},
    index::Index,
    storage::State,
};
use std::collections::HashSet;
use zeolith_storage::{PackPhase, Patience, Result, StorageError};
use zeolith_types::{Oid, Tid};

/// The revisions of the pack time: where they are, and which are kept.
pub(super) struct Kept<'a> {
    state: &'a State,
    /// Where each object's last record up to the pack time is, or `GONE`; with `MARK` if it is kept.
    positions: Index,
    /// Where the first transaction after the pack time is.
    pub(super) pack_position: u64,
    /// Other records that later transactions point back to.
    extra: HashSet<u64>,
    /// The objects that they are of.
    extra_oids: HashSet<Oid>,
    gc: bool,
    /// Where the records of marked objects are whose references are not marked.
    todo: Vec<u64>,
    marked: u64,
    /// Up to where later transactions have been looked at.
    later: u64,
}

/// How references to objects that are not there are taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// The database is damaged, and what hangs on them would be lost for good.
    Fails,
    /// They are none of the pack's business.
    PassedOver,
}

impl<'a> Kept<'a> {
    /// Finds every object's last record up to the pack time. `None` if the file has been packed to this time or
    /// later, or nothing has happened since.
    pub(super) fn survey(
        state: &'a State,
        until: Tid,
        gc: bool,
        watch: &mut Watch<'_>,
    ) -> Result<Option<Self>> {
        let Some(pack_position) = boundary(state, until, watch)? else { return Ok(None) };
        let positions = Index::default();
        let (extra, extra_oids, todo) = (HashSet::new(), HashSet::new(), Vec::new());
        let kept = Self {
            state,
            positions,
            pack_position,
            extra,
            extra_oids,
            gc,
            todo,
            marked: 0,
            later: pack_position,
        };
        kept.positions_of_index()?;
        kept.positions_before_later(watch)?;
        Ok(Some(kept))
    }

    /// Takes over the positions of objects that nobody has changed since the pack time.
    fn positions_of_index(&self) -> Result<()> {
        for (oid, position) in self.state.index.iter_from(Oid::ZERO) {
            let position = self.when_looked(position)?;
            if position < self.pack_position {
                self.positions.set(oid, position);
            }
        }
        Ok(())
    }

    /// Where the last record was when the pack began to look, of the object whose last one is at `position` now.
    fn when_looked(&self, mut position: u64) -> Result<u64> {
        let file = &self.state.file;
        while position >= self.state.end {
            let record = file.any_record(position, u64::MAX, Want::Header, Patience::Wait)?;
            match file.previous(&record, u64::MAX, Want::Header, Patience::Wait)? {
                Some(previous) => position = previous.position,
                None => break,
            }
        }
        Ok(position)
    }

    /// The first record of an object after the pack time says where its last one before it is.
    fn positions_before_later(&self, watch: &mut Watch<'_>) -> Result<()> {
        let mut input = Input::new(&self.state.file, self.state.end);
        let mut position = self.pack_position;
        while position < self.state.end {
            let header = input.transaction(position)?;
            let (start, end) = (position, position + header.len);
            position += header.header_len();
            while position < end && header.status != STATUS_UNDONE {
                let record = input.record(position, start, end)?;
                if record.prev != 0
                    && record.prev < self.pack_position
                    && self.positions.get(record.oid).is_none()
                {
                    self.positions.set(record.oid, record.prev);
                }
                position += record.record_len();
            }
            position = end + NUMBER_LEN as u64;
            watch.at(PackPhase::Survey, position, self.state.end, input.take_read())?;
        }
        Ok(())
    }

    /// Marks what is kept.
    pub(super) fn mark(&mut self, watch: &mut Watch<'_>) -> Result<()> {
        if self.gc && self.has_objects()? {
            self.reach(Oid::ZERO, Missing::Fails)?;
            self.follow(Missing::Fails, watch)?;
        }
        self.mark_from_later(watch)?;
        self.todo = Vec::new();
        Ok(())
    }

    /// Whether the record at `position`, which is before the pack time, is kept.
    pub(super) fn takes(&self, input: &mut Input<'_>, record: &RecordHeader, position: u64) -> Result<bool> {
        if self.is_extra(position) {
            return Ok(true);
        }
        let mark = if self.gc { MARK } else { 0 };
        if self.extra_oids.contains(&record.oid) {
            // What it was at the pack time stays in any case, be it deleted or garbage. Or it would seem to be what
            // the older record says that is kept, until the later transaction that points back to that one.
            return match self.positions.get(record.oid).map(|entry| entry & !MARK) {
                // It was a deletion, and is not known by its position any more.
                Some(GONE) => Ok(record.data_len == 0 && input.is_gone(record, position)?),
                at_pack_time => Ok(at_pack_time == Some(position)),
            };
        }
        if self.positions.get(record.oid) != Some(position | mark) {
            return Ok(false);
        }
        input.is_gone(record, position).map(|is_gone| !is_gone)
    }

    /// Whether nothing has been committed after the transaction that ends at `end`, which is packed.
    ///
    /// Such a one is kept even if nothing is left of it. What is the storage's last transaction must be so after a
    /// restart, or clients that know of it would not connect any more: their caches were newer than the server.
    pub(super) const fn is_last(&self, end: u64) -> bool {
        end == self.pack_position && end == self.state.end
    }

    /// Whether a later transaction points back to the record at `position`.
    pub(super) fn is_extra(&self, position: u64) -> bool {
        !self.extra.is_empty() && self.extra.contains(&position)
    }

    /// Whether an object exists at the pack time.
    fn has_objects(&self) -> Result<bool> {
        for (oid, position) in self.positions.iter_from(Oid::ZERO) {
            let record =
                self.state.file.record(oid, position, self.state.end, Want::Header, Patience::Wait)?;
            if !record.is_gone() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Marks what an object refers to.
    fn reach(&mut self, oid: Oid, missing: Missing) -> Result<()> {
        let position = match self.positions.get(oid) {
            Some(entry) if entry & MARK != 0 => return Ok(()),
            Some(position) => position,
            None if missing == Missing::Fails => return Err(self.dangling(oid)),
            // An object that is younger than the pack time stays anyway, but what it refers to must stay too.
            None if self.state.index.get(oid).is_some() => GONE,
            None => return Ok(()),
        };
        self.positions.set(oid, position | MARK);
        if position != GONE {
            self.todo.push(position);
        }
        if missing == Missing::PassedOver
            && let Some(now) = self.state.index.get(oid)
        {
            let later = self.when_looked(now)?;
            if self.is_later(later) {
                self.todo.push(later);
            }
        }
        Ok(())
    }

    /// Marks everything that the marked objects refer to, a generation at a time in the order of the file.
    fn follow(&mut self, missing: Missing, watch: &mut Watch<'_>) -> Result<()> {
        let state = self.state;
        let mut input = Input::in_pieces(&state.file, state.end, SPARSE_PIECE);
        while !self.todo.is_empty() {
            let mut batch = std::mem::take(&mut self.todo);
            batch.sort_unstable();
            input.set_piece(piece_for(&batch));
            for position in batch {
                let (oid, found) = references_at(&mut input, position)?;
                let is_of_pack_time = self.positions.get(oid) == Some(position | MARK);
                let now = state.index.get(oid);
                if !is_of_pack_time && now.map(|now| self.when_looked(now)).transpose()? != Some(position) {
                    let what = format!("the record is of {oid}, which is elsewhere");
                    return Err(state.file.corrupt(position, what));
                }
                match found {
                    Some(found) => found.into_iter().try_for_each(|oid| self.reach(oid, missing))?,
                    None if missing == Missing::Fails => return Err(self.dangling(oid)),
                    None if is_of_pack_time => self.positions.set(oid, GONE | MARK),
                    None => {}
                }
                self.marked += 1;
                if missing == Missing::Fails {
                    let total = self.positions.count().max(self.marked);
                    watch.at(PackPhase::Mark, self.marked, total, input.take_read())?;
                } else if self.marked.is_multiple_of(LOOK_EVERY) {
                    // What one later transaction needs can be a lot.
                    watch.now(PackPhase::MarkLater, self.later, state.end)?;
                }
            }
        }
        Ok(())
    }

    /// The error for a reference to an object that does not exist. Who has it is looked for only now, which is
    /// cheaper than to remember it for all.
    fn dangling(&self, missing: Oid) -> StorageError {
        let (file, end) = (&self.state.file, self.state.end);
        if missing == Oid::ZERO {
            return file.corrupt(GONE, "there is no root object at the time of the pack".to_owned());
        }
        for (oid, entry) in self.positions.iter_from(Oid::ZERO) {
            let position = entry & !MARK;
            if entry & MARK == 0 || position == GONE {
                continue;
            }
            let record = file.record(oid, position, end, Want::Data, Patience::Wait);
            if let Ok(Content::Data(data)) =
                record.and_then(|record| file.content(record, end, Patience::Wait))
                && references(&data).is_ok_and(|found| found.contains(&missing))
            {
                let what = format!("{oid} refers to {missing}, which does not exist at the time of the pack");
                return file.corrupt(position, what);
            }
        }
        file.corrupt(GONE, format!("{missing} is referred to and does not exist at the time of the pack"))
    }

    /// Whether a position is after the pack time, and of a transaction that the pack has seen.
    fn is_later(&self, position: u64) -> bool {
        (self.pack_position..self.state.end).contains(&position)
    }

    /// Goes through the transactions after the pack time. A record that one of them points back to is kept with
    /// what it refers to. So is what an object refers to now that could be reached at the pack time.
    fn mark_from_later(&mut self, watch: &mut Watch<'_>) -> Result<()> {
        let mut input = Input::new(&self.state.file, self.state.end);
        let mut position = self.pack_position;
        while position < self.state.end {
            let header = input.transaction(position)?;
            let (start, end) = (position, position + header.len);
            position += header.header_len();
            while position < end && header.status != STATUS_UNDONE {
                let record = input.record(position, start, end)?;
                let (oid, here) = (record.oid, position);
                if record.data_len == 0 {
                    let pointer = input.number(here + RECORD_HEADER_LEN as u64)?;
                    if pointer != 0 && pointer < self.pack_position && self.extra.insert(pointer) {
                        self.extra_oids.insert(oid);
                        self.follow_from(pointer, watch)?;
                    }
                } else if self.positions.get(oid).is_some_and(|entry| entry & MARK != 0)
                    && let Some(now) = self.state.index.get(oid)
                    && self.when_looked(now)? == here
                {
                    self.follow_from(here, watch)?;
                }
                position += record.record_len();
            }
            position = end + NUMBER_LEN as u64;
            self.later = position;
            watch.at(PackPhase::MarkLater, position, self.state.end, input.take_read())?;
        }
        Ok(())
    }

    /// Marks what hangs on a record that is kept.
    fn follow_from(&mut self, position: u64, watch: &mut Watch<'_>) -> Result<()> {
        if !self.gc {
            return Ok(());
        }
        let mut input = Input::in_pieces(&self.state.file, self.state.end, SPARSE_PIECE);
        for oid in references_at(&mut input, position)?.1.unwrap_or_default() {
            self.reach(oid, Missing::PassedOver)?;
        }
        self.follow(Missing::PassedOver, watch)
    }
}

/// How much to read at once for records in the order of their positions: where they lie close together, reading
/// what lies between is quicker, and on a cold disk far quicker.
fn piece_for(batch: &[u64]) -> u64 {
    let span = batch.last().zip(batch.first()).map_or(0, |(last, first)| last - first);
    let is_dense = batch.len() >= DENSE_MIN && span / batch.len() as u64 <= SPARSE;
    if is_dense { PIECE } else { SPARSE_PIECE }
}

/// The object of the record at `position`, and what it refers to; `None` if it says that the object does not
/// exist.
fn references_at(input: &mut Input<'_>, position: u64) -> Result<(Oid, Option<Vec<Oid>>)> {
    let (file, end) = (input.file, input.end());
    let header = input.bytes(position, RECORD_HEADER_LEN as u64)?.first_chunk().map(RecordHeader::decode);
    let (oid, found) = match header {
        Some(header) if header.version_len == 0 && is_small(&header) => {
            let body = position + RECORD_HEADER_LEN as u64;
            (header.oid, references(input.bytes(body, header.data_len)?))
        }
        _ => {
            let record = file.any_record(position, end, Want::Data, Patience::Wait)?;
            let oid = record.header.oid;
            match file.content(record, end, Patience::Wait)? {
                Content::Data(data) => (oid, references(&data)),
                Content::Gone => return Ok((oid, None)),
            }
        }
    };
    let found = found
        .map_err(|why| file.corrupt(position, format!("the references of {oid} can't be read: {why}")))?;
    Ok((oid, Some(found)))
}

/// Where the first transaction after the pack time is; `None` if the file has been packed to this time or later,
/// or nothing has happened since. Looks at the headers of transactions only.
fn boundary(state: &State, until: Tid, watch: &mut Watch<'_>) -> Result<Option<u64>> {
    let mut input = Input::in_pieces(&state.file, state.end, HEADERS_PIECE);
    let (mut position, mut unpacked, mut next_is_packed) = (FIRST_TRANSACTION, false, true);
    while position < state.end {
        let header = input.transaction(position)?;
        if header.tid > until {
            next_is_packed = header.status == STATUS_PACKED;
            break;
        }
        unpacked |= header.status != STATUS_PACKED;
        position += header.len + NUMBER_LEN as u64;
        watch.at(PackPhase::Survey, position, state.end, input.take_read())?;
    }
    Ok((unpacked || !next_is_packed).then_some(position))
}

/// Whether memory for the record's data can be taken before anything else about it is known.
const fn is_small(header: &RecordHeader) -> bool {
    header.data_len > 0 && header.data_len < LARGE
}

/// After so many objects somebody may want the pack to end.
const LOOK_EVERY: u64 = 4096;
/// Marks a position as kept.
const MARK: u64 = 1 << 63;
/// Stands for the position of an object that does not exist; no record can be there.
const GONE: u64 = 1;
/// From this length on a record is checked against its transaction before it is read.
const LARGE: u64 = 1 << 20;
/// Objects that lie so far apart are read one by one.
const SPARSE: u64 = 16 << 10;
/// So few objects are read one by one wherever they lie.
const DENSE_MIN: usize = 64;
/// As much as most records have.
const SPARSE_PIECE: u64 = 2 << 10;
/// Headers of small transactions come many at a time with this, and large ones are passed over.
const HEADERS_PIECE: u64 = 16 << 10;
