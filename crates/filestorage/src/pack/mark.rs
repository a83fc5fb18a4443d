//! Marks what a pack keeps: the revisions of the pack time that can be reached from the root, and those that later
//! transactions point back to, with what they refer to.
//!
//! The marks are in the positions of the survey. Takes eight bytes more for each of the objects that are marked and not
//! yet looked at.

use super::{
    kept::{GONE, Kept, MARK},
    references::references,
    survey::{Survey, current},
    watch::Watch,
};
use crate::{
    file::{Content, Want},
    format::{NUMBER_LEN, RECORD_HEADER_LEN, RecordHeader, STATUS_UNDONE},
    input::{Input, PIECE},
    storage::State,
};
use zeolith_storage::{PackPhase, Patience, Result, StorageError};
use zeolith_types::Oid;

/// Marks what is kept of the revisions of the pack time; with `gc` only what can be reached.
pub(super) fn mark(survey: Survey<'_>, gc: bool, watch: &mut Watch<'_>) -> Result<Kept> {
    let is_reaching = gc && survey.has_objects()?;
    let Survey { state, positions, pack_position } = survey;
    let kept = Kept::new(positions, gc, pack_position, state.end);
    let mut marking = Marking { state, kept, todo: Vec::new(), marked: 0, later: pack_position };
    if is_reaching {
        marking.reach(Oid::ZERO, Missing::Fails)?;
        marking.follow(Missing::Fails, watch)?;
    }
    marking.mark_from_later(watch)?;
    Ok(marking.kept)
}

/// A marking that is under way.
struct Marking<'a> {
    state: &'a State,
    kept: Kept,
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

impl Marking<'_> {
    /// Marks what an object refers to.
    fn reach(&mut self, oid: Oid, missing: Missing) -> Result<()> {
        let position = match self.kept.positions.get(oid) {
            Some(entry) if entry & MARK != 0 => return Ok(()),
            Some(position) => position,
            None if missing == Missing::Fails => return Err(self.dangling(oid)),
            // An object that is younger than the pack time stays anyway, but what it refers to must stay too.
            None if self.state.index.get(oid).is_some() => GONE,
            None => return Ok(()),
        };
        self.kept.positions.set(oid, position | MARK);
        if position != GONE {
            self.todo.push(position);
        }
        if missing == Missing::PassedOver
            && let Some(later) = current(self.state, oid)?.filter(|now| self.is_later(*now))
        {
            self.todo.push(later);
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
                let is_of_pack_time = self.kept.positions.get(oid) == Some(position | MARK);
                if !is_of_pack_time && current(state, oid)? != Some(position) {
                    let what = format!("the record is of {oid}, which is elsewhere");
                    return Err(state.file.corrupt(position, what));
                }
                match found {
                    Some(found) => found.into_iter().try_for_each(|oid| self.reach(oid, missing))?,
                    None if missing == Missing::Fails => return Err(self.dangling(oid)),
                    None if is_of_pack_time => {
                        self.kept.positions.set(oid, GONE | MARK);
                    }
                    None => {}
                }
                self.marked += 1;
                if missing == Missing::Fails {
                    let total = self.kept.positions.count().max(self.marked);
                    watch.at(PackPhase::Mark, self.marked, total, input.take_read())?;
                } else if self.marked.is_multiple_of(LOOK_EVERY) {
                    // What one later transaction needs can be a lot.
                    watch.now(PackPhase::MarkLater, self.later, state.end)?;
                }
            }
        }
        Ok(())
    }

    /// Goes through the transactions after the pack time. A record that one of them points back to is kept with
    /// what it refers to. So is what an object refers to now that could be reached at the pack time.
    fn mark_from_later(&mut self, watch: &mut Watch<'_>) -> Result<()> {
        let mut input = Input::new(&self.state.file, self.state.end);
        let mut position = self.kept.pack_position;
        while position < self.state.end {
            let header = input.transaction(position)?;
            let (start, end) = (position, position + header.len);
            position += header.header_len();
            while position < end && header.status != STATUS_UNDONE {
                let record = input.record(position, start, end)?;
                let (oid, here) = (record.oid, position);
                if record.data_len == 0 {
                    let pointer = input.number(here + RECORD_HEADER_LEN as u64)?;
                    if pointer != 0 && pointer < self.kept.pack_position && self.kept.extra.insert(pointer) {
                        self.kept.extra_oids.insert(oid);
                        self.follow_from(pointer, watch)?;
                    }
                } else if self.kept.positions.get(oid).is_some_and(|entry| entry & MARK != 0)
                    && current(self.state, oid)? == Some(here)
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
        if !self.kept.gc {
            return Ok(());
        }
        let mut input = Input::in_pieces(&self.state.file, self.state.end, SPARSE_PIECE);
        for oid in references_at(&mut input, position)?.1.unwrap_or_default() {
            self.reach(oid, Missing::PassedOver)?;
        }
        self.follow(Missing::PassedOver, watch)
    }

    /// Whether a position is after the pack time, and of a transaction that the pack has seen.
    fn is_later(&self, position: u64) -> bool {
        (self.kept.pack_position..self.state.end).contains(&position)
    }

    /// The error for a reference to an object that does not exist. Who has it is looked for only now, which is
    /// cheaper than to remember it for all.
    fn dangling(&self, missing: Oid) -> StorageError {
        let (file, end) = (&self.state.file, self.state.end);
        if missing == Oid::ZERO {
            return file.corrupt(GONE, "there is no root object at the time of the pack".to_owned());
        }
        for (oid, entry) in self.kept.positions.iter_from(Oid::ZERO) {
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

/// Whether memory for the record's data can be taken before anything else about it is known.
const fn is_small(header: &RecordHeader) -> bool {
    header.data_len > 0 && header.data_len < LARGE
}

/// After so many objects somebody may want the pack to end.
const LOOK_EVERY: u64 = 4096;
/// From this length on a record is checked against its transaction before it is read.
const LARGE: u64 = 1 << 20;
/// Objects that lie so far apart are read one by one.
const SPARSE: u64 = 16 << 10;
/// So few objects are read one by one wherever they lie.
const DENSE_MIN: usize = 64;
/// As much as most records have.
const SPARSE_PIECE: u64 = 2 << 10;
