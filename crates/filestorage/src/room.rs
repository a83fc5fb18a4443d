//! Room behind the last transaction, for the ones to come: zeros that are in the file already.
//!
//! To make an append durable a file system also writes the file's new length, in another place, and the commit
//! waits for both; bytes that take the place of zeros are one write. And each page that is new to the file must be found
//! in memory, which can take longer than to fill it. So while commits follow one another the file is longer than what is in it.
//! Zeros are laid between two batches, when those of the first have been answered. Between the last transaction and
//! the zeros stands the header of a transaction that was never finished, where every reader stops, Python's too. When the
//! commits pause, and when the storage is closed, the file is cut off behind its last transaction.
//!
//! A batch that is written where zeros are must not look whole before it is: its first transaction gets its
//! status last (see `finish`). What a power failure can leave of it, `docs/crash-safety.md` says.

use crate::{
    blank::SECTOR_LEN,
    format::{STATUS_VOTED, TRANSACTION_HEADER_LEN, TransactionHeader},
};
use std::{
    io::IoSlice,
    ops::{Range, RangeInclusive},
    time::Duration,
};
use zeolith_disk::DiskFile;
use zeolith_types::{Tid, Timestamp};

/// What is known of the room behind the last transaction. Whoever writes has it.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// Where the file ends, if that is behind its last transaction.
    end: Option<u64>,
    /// The last batch.
    last: Option<Last>,
    /// So many batches have come soon after the one before.
    in_a_row: u32,
    /// The file system writes everything to new places: room would gain nothing, and cost the space that is reserved.
    is_of_no_use: bool,
}

/// What is remembered of a batch.
#[derive(Debug)]
struct Last {
    written: Timestamp,
    len: u64,
    transactions: usize,
}

/// What a batch finds behind the last transaction, and what it leaves behind its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// There is room, or part of it: the batch overwrites the header of the room.
    pub(crate) found: bool,
    /// What is left of it is to have a header, behind the batch.
    pub(crate) leaves_rest: bool,
}

impl Room {
    /// None yet; never any on a file system that has no use for it.
    pub(crate) fn where_it_pays(file: &dyn DiskFile) -> Self {
        Self { is_of_no_use: !file.overwrites_in_place(), ..Self::default() }
    }

    /// A batch of so many transactions is about to be written.
    pub(crate) fn plan(&mut self, batch: Range<u64>, transactions: usize, now: Timestamp) -> Plan {
        let pause =
            self.last.as_ref().map(|last| now.since_epoch().saturating_sub(last.written.since_epoch()));
        self.in_a_row = if pause.is_some_and(|pause| pause <= PAUSE_MAX) { self.in_a_row + 1 } else { 0 };
        self.last = Some(Last { written: now, len: batch.end - batch.start, transactions });
        Plan { found: self.end.is_some(), leaves_rest: self.end.is_some_and(|room_end| room_end > batch.end) }
    }

    /// The batch that ends at `end` was written so.
    pub(crate) fn is_used(&mut self, plan: Plan, end: u64) {
        self.end = self.end.max(Some(end + HEADER_LEN)).filter(|_| plan.leaves_rest);
    }

    /// Up to where zeros are to be laid behind the last transaction, which ends at `end`; `is_alone` if no other
    /// is voted.
    pub(crate) fn wanted(&self, end: u64, is_alone: bool) -> Option<u64> {
        let last = self.last.as_ref().filter(|_| self.in_a_row >= IN_A_ROW && !self.is_of_no_use)?;
        let is_small = last.len <= SMALL_MAX;
        let is_large_and_alone = LARGE.contains(&last.len) && last.transactions == 1 && is_alone;
        let next = last.len + HEADER_LEN;
        let left = self.end.map_or(0, |room_end| room_end.saturating_sub(end));
        ((is_small || is_large_and_alone) && left < next)
            .then(|| (end + next.max(ROOM)).next_multiple_of(PAGE))
    }

    /// Lays zeros up to `up_to` behind the last transaction, which has the tid `last` and ends at `end`; fewer if the
    /// disk has no space for them. Nothing of it is durable before the next batch is.
    pub(crate) fn lay(&mut self, file: &dyn DiskFile, end: u64, up_to: u64, last: Tid) {
        static ZEROS: [u8; LEN_MAX as usize] = [0; LEN_MAX as usize];
        let header = header(last).encode();
        let (from, header) = self.end.map_or((end, &header[..]), |room_end| (room_end, &[]));
        let zeros = up_to.saturating_sub(from + header.len() as u64).min(LEN_MAX);
        let laid =
            file.write_all_at(&mut [IoSlice::new(header), IoSlice::new(&ZEROS[..zeros as usize])], from);
        self.end = match laid {
            Ok(()) => Some(from + header.len() as u64 + zeros),
            // Perhaps a part of it is there.
            Err(_) => self.end.max(Some(file.len().unwrap_or(up_to)).filter(|len| *len > end)),
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
    /// The header behind the batch, whose last tid is `last`.
    pub(crate) fn header(&self, last: Tid) -> Option<[u8; TRANSACTION_HEADER_LEN]> {
        self.leaves_rest.then(|| header(last).encode())
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
/// So many zeros are laid at once, or as many as the last batch had bytes. Each page of them is written twice.
const ROOM: u64 = 256 << 10;
/// There are never more.
pub(crate) const LEN_MAX: u64 = *LARGE.end() + HEADER_LEN + PAGE;
/// The room ends with a page.
const PAGE: u64 = 4096;
/// Batches with so many bytes at most are small: room for many of them is laid at once.
const SMALL_MAX: u64 = ROOM / 8;
/// Room for one that is much larger is laid only if a lone client commits, which leaves a processor time for it: where
/// several commit, writing each page twice costs more than it saves. What lies between has few pages to wait for.
const LARGE: RangeInclusive<u64> = 128 << 10..=1 << 20;
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

    /// Up to where room is wanted behind a batch of this length that was written then.
    fn wanted(room: &mut Room, len: u64, millis: u64) -> Option<u64> {
        room.plan(1000..1000 + len, 1, at(millis));
        room.wanted(1000 + len, true)
    }

    #[test]
    fn room_is_wanted_when_batches_follow_one_another_quickly() {
        let mut room = Room::default();
        let up_to = Some((1700 + ROOM).next_multiple_of(PAGE));
        for (millis, expected) in [(0, None), (100, None), (200, None), (300, up_to)] {
            assert_eq!(wanted(&mut room, 700, millis), expected, "{millis}");
        }
        assert_eq!(wanted(&mut room, 700, 401), None, "after a pause");
        assert_eq!(wanted(&mut room, 700, 350), None, "the clock was set back");
    }

    #[test]
    fn a_large_batch_wants_room_for_another_one_only_if_its_client_is_alone() {
        let mut room = Room { in_a_row: 9, ..Room::default() };
        wanted(&mut room, 700, 0);
        room.in_a_row = 9;
        let large = 600_000;
        assert_eq!(wanted(&mut room, large, 0), Some((1000 + large * 2 + HEADER_LEN).next_multiple_of(PAGE)));
        assert_eq!(room.wanted(1000 + large, false), None, "another one is voted");
        room.plan(1000..1000 + large, 2, at(0));
        assert_eq!(room.wanted(1000 + large, true), None, "two in one batch");
        room.plan(1000..1000 + SMALL_MAX, 2, at(0));
        assert!(room.wanted(1000 + SMALL_MAX, false).is_some(), "small ones always");
        for (len, expected) in [
            (SMALL_MAX, true),
            (SMALL_MAX + 1, false),
            (*LARGE.start() - 1, false),
            (*LARGE.start(), true),
            (*LARGE.end(), true),
            (*LARGE.end() + 1, false),
        ] {
            assert_eq!(wanted(&mut room, len, 0).is_some(), expected, "{len}");
        }
    }

    #[test]
    fn there_is_none_where_it_is_of_no_use() {
        let mut room = Room { is_of_no_use: true, ..Room::default() };
        assert!((0..9).all(|millis| wanted(&mut room, 700, millis).is_none()));
    }

    #[test]
    fn room_is_used_up_to_its_last_byte_and_the_header_may_stand_beyond() {
        for (end, leaves_rest, file_end) in [
            (9_000, true, Some(10_000)),
            (9_977, true, Some(10_000)),
            (9_999, true, Some(10_022)),
            (10_000, false, None),
        ] {
            let mut room = Room { end: Some(10_000), ..Room::default() };
            let plan = room.plan(8_000..end, 1, at(0));
            assert_eq!(plan, Plan { found: true, leaves_rest });
            room.is_used(plan, end);
            assert_eq!(room.end, file_end);
        }
    }

    #[test]
    fn more_is_wanted_when_the_next_batch_would_not_find_enough() {
        let mut room = Room { end: Some(10_000), in_a_row: 9, ..Room::default() };
        room.plan(8_000..9_000, 1, at(0));
        room.in_a_row = 9;
        assert!(room.wanted(9_000, true).is_some(), "1000 bytes and a header do not fit into 1000");
        assert_eq!(room.wanted(8_977, true), None);
    }

    #[test]
    fn a_lost_sector_with_less_than_a_tid_of_other_bytes_would_go_unnoticed() {
        let plan = Plan { found: true, leaves_rest: false };
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
