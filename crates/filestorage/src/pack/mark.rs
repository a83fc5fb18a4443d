//! What a pack keeps: the revisions of the pack time that can be reached from the root, and those that later
//! transactions point back to.
//!
//! Takes eight bytes an object for positions and marks, and as many at most for the objects that are marked
//! and not yet looked at.

use super::{Watch, input::Input};
use crate::{
    file::{Content, Want},
    format::{FIRST_TRANSACTION, NUMBER_LEN, RECORD_HEADER_LEN, STATUS_PACKED, STATUS_UNDONE},
    index::Index,
    storage::State,
};
use std::{borrow::Cow, collections::HashMap};
use zeolith_storage::{PackPhase, Patience, Result};
use zeolith_types::{Oid, Tid};

/// The revisions of the pack time: where they are, and which are kept.
pub(super) struct Kept<'a> {
    state: &'a State,
    /// Where each object's last record up to the pack time is, or `GONE`; with `MARK` if it is kept.
    positions: Index,
    /// Where the first transaction after the pack time is.
    pub(super) pack_position: u64,
    /// Other records that later transactions point back to, and where their copies are.
    pub(super) extra: HashMap<u64, u64>,
    gc: bool,
    /// Objects that are marked, and whose references are not.
    todo: Vec<Oid>,
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
        let positions = Index::default();
        let mut input = Input::new(&state.file, state.end);
        let (mut position, mut unpacked, mut next_is_packed) = (FIRST_TRANSACTION, false, true);
        while position < state.end {
            let header = input.transaction(position)?;
            if header.tid > until {
                next_is_packed = header.status == STATUS_PACKED;
                break;
            }
            unpacked |= header.status != STATUS_PACKED;
            let (start, end) = (position, position + header.len);
            position += header.header_len();
            while position < end && header.status != STATUS_UNDONE {
                let record = input.record(position, start, end)?;
                let gone = record.data_len == 0 && input.number(position + RECORD_HEADER_LEN as u64)? == 0;
                positions.set(record.oid, if gone { GONE } else { position });
                position += record.record_len();
            }
            position = end + NUMBER_LEN as u64;
            watch.at(PackPhase::Survey, position, state.end)?;
        }
        if !unpacked && next_is_packed {
            return Ok(None);
        }
        let extra = HashMap::new();
        Ok(Some(Self { state, positions, pack_position: position, extra, gc, todo: Vec::new() }))
    }

    /// Marks what is kept.
    pub(super) fn mark(&mut self, watch: &mut Watch<'_>) -> Result<()> {
        if self.gc && self.positions.iter_from(Oid::ZERO).any(|(_, position)| position != GONE) {
            self.reach(Oid::ZERO, Oid::ZERO, Missing::Fails)?;
            self.follow(Missing::Fails, watch)?;
        }
        self.mark_from_later(watch)?;
        self.todo = Vec::new();
        Ok(())
    }

    /// Whether the record of an object at `position`, which is before the pack time, is kept.
    pub(super) fn keeps(&self, oid: Oid, position: u64) -> bool {
        let marked = self.positions.get(oid).is_some_and(|entry| match self.gc {
            true => entry == position | MARK,
            false => entry == position,
        });
        marked || self.extra.contains_key(&position)
    }

    /// Marks an object that `referrer` refers to.
    fn reach(&mut self, oid: Oid, referrer: Oid, missing: Missing) -> Result<()> {
        match self.positions.get(oid) {
            Some(entry) if entry & MARK != 0 => {}
            Some(position) if position != GONE || missing == Missing::PassedOver => {
                self.positions.set(oid, position | MARK);
                self.todo.push(oid);
            }
            // An object that is younger than the pack time stays anyway, but what it refers to must stay too.
            None if missing == Missing::PassedOver && self.state.index.get(oid).is_some() => {
                self.positions.set(oid, GONE | MARK);
                self.todo.push(oid);
            }
            Some(_) | None if missing == Missing::PassedOver => {}
            Some(_) | None => {
                let at = self.positions.get(referrer).unwrap_or(GONE) & !MARK;
                let what = match oid {
                    Oid::ZERO => "there is no root object at the time of the pack".to_owned(),
                    _ => format!("{referrer} refers to {oid}, which does not exist at the time of the pack"),
                };
                return Err(self.state.file.corrupt(at, what));
            }
        }
        Ok(())
    }

    /// Marks everything that the marked objects refer to, a batch at a time in the order of the file.
    fn follow(&mut self, missing: Missing, watch: &mut Watch<'_>) -> Result<()> {
        let mut done = 0;
        while !self.todo.is_empty() {
            let mut batch = self.todo.split_off(self.todo.len().saturating_sub(BATCH));
            batch.sort_unstable_by_key(|oid| self.positions.get(*oid));
            for oid in &batch {
                let position = self.positions.get(*oid).unwrap_or(GONE) & !MARK;
                if position != GONE {
                    self.reach_from(*oid, position, missing)?;
                }
                if missing == Missing::PassedOver
                    && let Some(later) = self.state.index.get(*oid).filter(|later| self.is_later(*later))
                {
                    self.reach_from(*oid, later, missing)?;
                }
            }
            done += batch.len() as u64;
            watch.at(PackPhase::Mark, done, self.positions.count())?;
        }
        Ok(())
    }

    /// Marks what the record of an object at `position` refers to.
    fn reach_from(&mut self, oid: Oid, position: u64, missing: Missing) -> Result<()> {
        let (file, end) = (&self.state.file, self.state.end);
        let record = file.record(oid, position, end, Want::Data, Patience::Wait)?;
        if let Content::Data(data) = file.content(record, end, Patience::Wait)? {
            let references = references(&data).map_err(|why| {
                file.corrupt(position, format!("the references of {oid} can't be read: {why}"))
            })?;
            for reference in references {
                self.reach(reference, oid, missing)?;
            }
        }
        Ok(())
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
                    if pointer != 0 && pointer < self.pack_position && self.extra.insert(pointer, 0).is_none()
                    {
                        self.follow_from(oid, pointer, watch)?;
                    }
                } else if self.state.index.get(oid) == Some(here)
                    && self.positions.get(oid).is_some_and(|entry| entry & MARK != 0)
                {
                    self.follow_from(oid, here, watch)?;
                }
                position += record.record_len();
            }
            position = end + NUMBER_LEN as u64;
            watch.at(PackPhase::Mark, position, self.state.end)?;
        }
        Ok(())
    }

    fn follow_from(&mut self, oid: Oid, position: u64, watch: &mut Watch<'_>) -> Result<()> {
        if !self.gc {
            return Ok(());
        }
        self.reach_from(oid, position, Missing::PassedOver)?;
        self.follow(Missing::PassedOver, watch)
    }
}

/// What a record refers to, whether it is compressed by zc.zlibstorage or not.
fn references(data: &[u8]) -> Result<Vec<Oid>, String> {
    let data = match data.strip_prefix(COMPRESSED) {
        None => Cow::Borrowed(data),
        Some(compressed) => {
            let whole = miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(compressed, RECORD_SIZE_MAX);
            Cow::Owned(whole.map_err(|error| error.to_string())?)
        }
    };
    zeolith_pickle::references(&data).map_err(|error| error.to_string())
}

/// Marks a position as kept.
const MARK: u64 = 1 << 63;
/// Stands for the position of an object that does not exist; no record can be there.
const GONE: u64 = 1;
/// So many objects are looked at in the order of their positions.
const BATCH: usize = 1 << 15;
/// With this a record begins that zc.zlibstorage has compressed.
const COMPRESSED: &[u8] = b".z";
/// A compressed record that grows beyond this is taken for damaged.
const RECORD_SIZE_MAX: usize = 1 << 30;
