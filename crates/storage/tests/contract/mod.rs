//! What every storage must do, as tests that take the storage from outside.
//!
//! A storage's crate calls [`crate::contract_tests!`] with a function that makes an empty [`Subject`].
#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc, clippy::must_use_candidate)]

pub mod loads;
pub mod publication;
pub mod votes;
pub mod walks;

use crate::{ConflictPolicy, Found, Patience, Result, Storage, TransactionId, Voted, Write, WriteSet};
use bytes::Bytes;
use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use zeolith_types::{Oid, Revision, Tid, Timestamp};

/// A storage under test.
pub struct Subject {
    storage: Arc<dyn Storage>,
    /// Whether it deletes, restores and walks through current records.
    complete: bool,
    ids: AtomicU64,
    _kept: Box<dyn Any>,
}

impl Subject {
    /// An empty storage; `kept` lives as long as the test.
    pub fn new(storage: Arc<dyn Storage>, complete: bool, kept: impl Any) -> Self {
        Self { storage, complete, ids: AtomicU64::new(0), _kept: Box::new(kept) }
    }

    fn next_id(&self) -> TransactionId {
        TransactionId(self.ids.fetch_add(1, Ordering::Relaxed))
    }

    fn vote(&self, writes: Vec<Write>) -> Result<(TransactionId, Voted)> {
        self.vote_with(WriteSet { writes, ..WriteSet::default() }, ConflictPolicy::Refuse)
    }

    fn vote_with(&self, writes: WriteSet, policy: ConflictPolicy) -> Result<(TransactionId, Voted)> {
        let id = self.next_id();
        self.storage.vote(id, writes, policy, Patience::Wait).map(|voted| (id, voted))
    }

    fn finish(&self, id: TransactionId) -> Tid {
        let mut tids = self.storage.finish(&[id], noon());
        tids.pop().unwrap().unwrap()
    }

    /// Writes, finishes and publishes.
    fn commit(&self, writes: Vec<Write>) -> Tid {
        let (id, _) = self.vote(writes).unwrap();
        let tid = self.finish(id);
        self.storage.publish(tid);
        tid
    }

    fn found(&self, oid: Oid, before: Tid) -> Found {
        self.storage.load_before(oid, before, Patience::Wait).unwrap().found
    }

    fn current(&self, oid: Oid) -> Option<Bytes> {
        match self.found(oid, Tid::MAX) {
            Found::Revision(revision) => Some(revision.data),
            Found::NothingBefore | Found::NoObject => None,
        }
    }
}

/// Makes a test of every story of the contract.
#[macro_export]
macro_rules! contract_tests {
    ($subject:path) => {
        $crate::contract_tests!(@ $subject, loads:
            a_load_gives_the_newest_revision_before_its_bound,
            an_unknown_object_is_not_one_without_old_revisions,
            a_serial_names_one_revision,
            history_goes_from_the_newest_backwards,
            a_record_of_any_size_comes_back_whole,
            records_that_were_put_aside_come_back_whole);
        $crate::contract_tests!(@ $subject, votes:
            a_store_on_an_old_revision_conflicts,
            all_conflicts_are_collected_when_asked_for,
            a_later_store_on_the_current_revision_clears_a_conflict,
            a_check_of_an_old_revision_fails_the_vote,
            a_failed_vote_leaves_nothing_behind,
            an_aborted_transaction_leaves_nothing_behind,
            the_last_store_of_an_object_counts,
            a_deleted_object_is_gone_from_then_on,
            a_restored_transaction_keeps_its_tid,
            what_was_never_voted_can_not_be_finished);
        $crate::contract_tests!(@ $subject, publication:
            nobody_sees_a_transaction_before_it_is_published,
            tids_rise_while_the_clock_stands_still_or_goes_back,
            a_batch_gets_rising_tids_in_its_order,
            an_empty_transaction_is_a_transaction,
            readers_see_all_of_a_transaction_or_nothing,
            new_oids_are_never_used_ones);
        $crate::contract_tests!(@ $subject, walks:
            iteration_shows_what_was_stored_in_order,
            iteration_includes_both_bounds,
            iteration_ends_where_it_was_published_at_its_start,
            changes_are_told_up_to_a_bound,
            the_last_changes_come_oldest_first,
            current_records_come_in_the_order_of_their_oids);
    };
    (@ $subject:path, $module:ident: $($story:ident),+) => {
        $(
            #[test]
            fn $story() {
                $crate::contract::$module::$story(&$subject());
            }
        )+
    };
}

/// Noon of the contract: 2026-04-13 12:34:30 UTC.
fn noon() -> Timestamp {
    Timestamp::from_epoch(Duration::from_secs(1_776_083_670))
}

fn store(oid: u64, serial: Tid, data: &str) -> Write {
    Write::Store { oid: Oid::new(oid), serial, data: Bytes::copy_from_slice(data.as_bytes()).into() }
}

fn revision(data: &str, start: Tid, end: Option<Tid>) -> Found {
    Found::Revision(Revision { data: Bytes::copy_from_slice(data.as_bytes()), start, end })
}

fn after(tid: Tid) -> Tid {
    Tid::new(tid.get() + 1)
}
