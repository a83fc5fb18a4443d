//! Remembers where the last transactions are in the file, and so which revision a record of theirs is.
//!
//! What has been written just now is often written again. A vote knows the position of an object's current record from
//! the index; if a transaction that is remembered wrote it, its tid is known without a look into the file.
//! Belongs to one file: a packed one that takes its place begins with nothing.

use crate::storage::guard;
use std::{collections::VecDeque, ops::Range, sync::Mutex};
use zeolith_types::Tid;

/// The last transactions in which every record holds data and has the tid of the transaction.
#[derive(Debug, Default)]
pub(crate) struct Recent(Mutex<VecDeque<Span>>);

/// Where one of them is, in the order of positions.
#[derive(Debug)]
struct Span {
    positions: Range<u64>,
    tid: Tid,
}

impl Recent {
    /// A transaction was written; whether all that it holds are revisions of its own tid, `is_plain` says.
    pub(crate) fn push(&self, positions: Range<u64>, tid: Tid, is_plain: bool) {
        if !is_plain {
            return;
        }
        let mut spans = guard(&self.0);
        assert!(
            spans.back().is_none_or(|last| last.positions.end <= positions.start),
            "transactions are written one behind the other"
        );
        if spans.len() == SPANS_MAX {
            spans.pop_front();
        }
        spans.push_back(Span { positions, tid });
    }

    /// Whether the record at `position` is known to be revision `tid` of its object, and to hold data.
    pub(crate) fn is_revision(&self, position: u64, tid: Tid) -> bool {
        let spans = guard(&self.0);
        let next = spans.partition_point(|span| span.positions.start <= position);
        let span = next.checked_sub(1).and_then(|number| spans.get(number));
        span.is_some_and(|span| position < span.positions.end && span.tid == tid)
    }
}

/// So many are remembered, in 24 KB.
const SPANS_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    const TID: fn(u64) -> Tid = Tid::new;

    #[test]
    fn a_record_has_the_tid_of_the_transaction_around_it() {
        let recent = Recent::default();
        recent.push(4..100, TID(1), true);
        recent.push(100..200, TID(2), false);
        recent.push(200..300, TID(3), true);
        let known =
            |position| (1..=3).filter(|tid| recent.is_revision(position, TID(*tid))).collect::<Vec<_>>();
        for (position, expected) in [
            (3, vec![]),
            (4, vec![1]),
            (99, vec![1]),
            (100, vec![]),
            (199, vec![]),
            (200, vec![3]),
            (300, vec![]),
        ] {
            assert_eq!(known(position), expected, "{position}");
        }
    }

    #[test]
    fn no_more_than_the_last_ones_are_remembered() {
        let recent = Recent::default();
        let count = SPANS_MAX as u64 + 1;
        for number in 0..count {
            recent.push(number * 10..number * 10 + 10, TID(number), true);
        }
        assert!(!recent.is_revision(5, TID(0)));
        assert!((1..count).all(|number| recent.is_revision(number * 10 + 5, TID(number))));
    }
}
