//! Room behind the last transaction, for the ones to come: zeros that are in the file already.
//!
//! To make an append durable a file system also writes the file's new length, in another place, and the commit
//! waits for both; bytes that take the place of zeros are one write. So while small commits follow one another
//! quickly the file is longer than what is in it. Between the last transaction and the zeros stands the header of
//! a transaction that was never finished, where every reader stops, Python's too. When the commits pause, and when
//! the storage is closed, the file is cut off behind its last transaction.
//!
//! A batch that is written where zeros are must not look whole before it is: its first transaction gets its
//! status last (see `finish`). What a power failure can leave of it, `docs/crash-safety.md` says.

use crate::{
    blank::SECTOR_LEN,
    format::{STATUS_VOTED, TRANSACTION_HEADER_LEN, TransactionHeader},
};
use std::time::Duration;
use zeolith_disk::DiskFile;
use zeolith_types::{Tid, Timestamp};

/// What is known of the room behind the last transaction. Whoever writes has it.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// Where the file ends, if that is behind its last transaction.
    end: Option<u64>,
    /// When the last batch was written.
    written: Option<Timestamp>,
    /// So many batches have come soon after the one before.
    in_a_row: u32,
    /// The file system writes everything to new places: room would gain nothing, and cost the space that is reserved.
    is_of_no_use: bool,
}

/// What a batch finds behind the last transaction, and what it leaves behind its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// There is room, or part of it: the batch overwrites the header of the room.
    pub(crate) found: bool,
    /// What comes behind the batch.
    pub(crate) leaves: Leaves,
}

/// What comes behind a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaves {
    /// Nothing: the file ends.
    Nothing,
    /// A header, and what is left of the room.
    Rest,
    /// A header, and zeros up to this position.
    New(u64),
}

impl Room {
    /// None yet; never any on a file system that has no use for it.
    pub(crate) fn where_it_pays(file: &dyn DiskFile) -> Self {
        Self { is_of_no_use: !file.overwrites_in_place(), ..Self::default() }
    }

    /// A batch is about to be written from `start` to `end`.
    pub(crate) fn plan(&mut self, start: u64, end: u64, now: Timestamp) -> Plan {
        let pause = self.written.map(|written| now.since_epoch().saturating_sub(written.since_epoch()));
        self.in_a_row = if pause.is_some_and(|pause| pause <= PAUSE_MAX) { self.in_a_row + 1 } else { 0 };
        self.written = Some(now);
        let leaves = match self.end {
            Some(room_end) if room_end > end => Leaves::Rest,
            _ if self.in_a_row >= IN_A_ROW && end - start <= BATCH_MAX && !self.is_of_no_use => {
                Leaves::New((end + ROOM).next_multiple_of(PAGE))
            }
            _ => Leaves::Nothing,
        };
        Plan { found: self.end.is_some(), leaves }
    }

    /// The batch that ends at `end` was written so; `new_end` is where new zeros end.
    pub(crate) fn is_left(&mut self, leaves: Leaves, end: u64, new_end: u64) {
        self.end = match leaves {
            Leaves::Nothing => None,
            Leaves::Rest => self.end.max(Some(end + HEADER_LEN)),
            Leaves::New(_) => Some(new_end),
        };
    }

    /// The file was cut off behind its last transaction, or is another one.
    pub(crate) fn is_gone(&mut self) {
        self.end = None;
        self.in_a_row = 0;
    }

    /// Whether the file is longer than what is in it.
    pub(crate) const fn is_there(&self) -> bool {
        self.end.is_some()
    }
}

impl Plan {
    /// Whether the batch must not look whole before all of it is written.
    pub(crate) fn is_hidden(&self) -> bool {
        self.found || self.leaves != Leaves::Nothing
    }

    /// The header behind the batch, whose last tid is `last`.
    pub(crate) fn header(&self, last: Tid) -> Option<[u8; TRANSACTION_HEADER_LEN]> {
        (self.leaves != Leaves::Nothing).then(|| header(last).encode())
    }

    /// Whether the loss of a sector could go unnoticed, because what was in it before could be the beginning of the
    /// transaction with this tid at `start`. Of the room's header it had `last`.
    pub(crate) fn is_ambiguous(&self, start: u64, tid: Tid, last: Tid) -> bool {
        let in_sector = (SECTOR_LEN - start % SECTOR_LEN) as usize;
        // With a whole tid the loss shows: it is the one of the transaction before.
        let (new, old) = (tid.to_bytes(), last.to_bytes());
        self.found && in_sector < new.len() && new[..in_sector] != old[..in_sector]
    }
}

/// The header of the room behind a transaction with the tid `last`. Python takes the tid of the header where it
/// stops for the last one, so that is what it says.
const fn header(last: Tid) -> TransactionHeader {
    TransactionHeader {
        tid: last,
        len: 0,
        status: STATUS_VOTED,
        user_len: 0,
        description_len: 0,
        extension_len: 0,
    }
}

/// Whether a header is that of the room behind a transaction with the tid `last`.
pub(crate) fn is_header(found: &TransactionHeader, last: Tid) -> bool {
    *found == header(last)
}

const HEADER_LEN: u64 = TRANSACTION_HEADER_LEN as u64;
/// So many zeros are made at once. Each page of them is written twice, and one time in a few hundred a commit waits
/// for all of them: a tenth of a millisecond.
pub(crate) const ROOM: u64 = 256 << 10;
/// There are never more.
pub(crate) const LEN_MAX: u64 = ROOM + PAGE;
/// The room ends with a page.
const PAGE: u64 = 4096;
/// A batch with more bytes than this makes no room: it would take too much of it.
const BATCH_MAX: u64 = ROOM / 8;
/// Batches that come later than this after the one before are not in a hurry.
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// So many batches must have come in a row before there is room for more.
const IN_A_ROW: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_epoch(Duration::from_secs(1_800_000_000) + Duration::from_millis(millis))
    }

    fn new_at(end: u64) -> Leaves {
        Leaves::New((end + ROOM).next_multiple_of(PAGE))
    }

    #[test]
    fn room_is_made_when_small_batches_follow_one_another_quickly() {
        let mut room = Room::default();
        let leaves = |room: &mut Room, len, millis| room.plan(1000, 1000 + len, at(millis)).leaves;
        for (millis, expected) in
            [(0, Leaves::Nothing), (100, Leaves::Nothing), (200, Leaves::Nothing), (300, new_at(1700))]
        {
            assert_eq!(leaves(&mut room, 700, millis), expected, "{millis}");
        }
        assert_eq!(leaves(&mut room, BATCH_MAX + 1, 350), Leaves::Nothing, "a large one");
        assert_eq!(leaves(&mut room, 700, 350), new_at(1700));
        assert_eq!(leaves(&mut room, 700, 451), Leaves::Nothing, "after a pause");
        assert_eq!(leaves(&mut room, 700, 400), Leaves::Nothing, "the clock was set back");
    }

    #[test]
    fn there_is_none_where_it_is_of_no_use() {
        let mut room = Room { is_of_no_use: true, in_a_row: 9, ..Room::default() };
        assert_eq!(room.plan(1000, 1700, at(0)).leaves, Leaves::Nothing);
        room.in_a_row = 9;
        assert_eq!(room.plan(1000, 1700, at(1)).leaves, Leaves::Nothing);
    }

    #[test]
    fn room_is_used_up_to_its_last_byte_and_the_header_may_stand_beyond() {
        for (end, leaves, file_end) in [
            (9_000, Leaves::Rest, Some(10_000)),
            (9_977, Leaves::Rest, Some(10_000)),
            (9_999, Leaves::Rest, Some(10_022)),
            (10_000, Leaves::Nothing, None),
        ] {
            let mut room = Room { end: Some(10_000), ..Room::default() };
            let plan = room.plan(8_000, end, at(0));
            assert_eq!(plan, Plan { found: true, leaves });
            assert!(plan.is_hidden());
            room.is_left(plan.leaves, end, 0);
            assert_eq!(room.end, file_end);
        }
    }

    #[test]
    fn a_lost_sector_with_less_than_a_tid_of_other_bytes_would_go_unnoticed() {
        let plan = Plan { found: true, leaves: Leaves::Nothing };
        let (last, tid) = (Tid::new(0x0401_0203_ffff_ffff), Tid::new(0x0401_0204_0000_0000));
        let ambiguous: Vec<u64> =
            (0..2 * SECTOR_LEN).filter(|start| plan.is_ambiguous(*start, tid, last)).collect();
        // Between the fourth byte, the first that differs, and the last one of the tid.
        let expected: Vec<u64> = [SECTOR_LEN, 2 * SECTOR_LEN]
            .iter()
            .flat_map(|boundary| (4..8).rev().map(move |before| boundary - before))
            .collect();
        assert_eq!(ambiguous, expected);
        assert!(!Plan { found: false, ..plan }.is_ambiguous(SECTOR_LEN - 5, tid, last));
    }
}
