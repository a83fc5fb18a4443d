//! The revisions of the pack time: where each object's last record was then.
//!
//! The index and the records after the pack time tell it; nothing before the pack time is read but the headers of
//! transactions. Takes eight bytes an object.

use super::watch::Watch;
use crate::{
    file::Want,
    format::{FIRST_TRANSACTION, NUMBER_LEN, STATUS_PACKED, STATUS_UNDONE},
    index::Index,
    input::Input,
    storage::State,
};
use zeolith_storage::{PackPhase, Patience, Result};
use zeolith_types::{Oid, Tid};

/// What the file was at the pack time.
pub(super) struct Survey<'a> {
    /// The file when the pack began to look.
    pub(super) state: &'a State,
    /// Where each object's last record up to the pack time is.
    pub(super) positions: Index,
    /// Where the first transaction after the pack time is.
    pub(super) pack_position: u64,
}

impl<'a> Survey<'a> {
    /// Finds every object's last record up to the pack time. `None` if the file has been packed to this time or
    /// later, or nothing has happened since.
    pub(super) fn of(state: &'a State, until: Tid, watch: &mut Watch<'_>) -> Result<Option<Self>> {
        let Some(pack_position) = boundary(state, until, watch)? else { return Ok(None) };
        let survey = Self { state, positions: Index::default(), pack_position };
        survey.positions_of_index()?;
        survey.positions_before_later(watch)?;
        Ok(Some(survey))
    }

    /// Takes over the positions of objects that nobody has changed since the pack time.
    fn positions_of_index(&self) -> Result<()> {
        for (oid, position) in self.state.index.iter_from(Oid::ZERO) {
            let position = when_looked(self.state, position)?;
            if position < self.pack_position {
                self.positions.set(oid, position);
            }
        }
        Ok(())
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

    /// Whether an object exists at the pack time.
    pub(super) fn has_objects(&self) -> Result<bool> {
        for (oid, position) in self.positions.iter_from(Oid::ZERO) {
            let record =
                self.state.file.record(oid, position, self.state.end, Want::Header, Patience::Wait)?;
            if !record.is_gone() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Where the record is that is current for the pack, of an object that exists for it.
pub(super) fn current(state: &State, oid: Oid) -> Result<Option<u64>> {
    state.index.get(oid).map(|now| when_looked(state, now)).transpose()
}

/// Where the last record was when the pack began to look, of the object whose last one is at `position` now.
fn when_looked(state: &State, mut position: u64) -> Result<u64> {
    let file = &state.file;
    while position >= state.end {
        let record = file.any_record(position, u64::MAX, Want::Header, Patience::Wait)?;
        match file.previous(&record, u64::MAX, Want::Header, Patience::Wait)? {
            Some(previous) => position = previous.position,
            None => break,
        }
    }
    Ok(position)
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

/// Headers of small transactions come many at a time with this, and large ones are passed over.
const HEADERS_PIECE: u64 = 16 << 10;
