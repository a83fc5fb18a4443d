//! Undo: what is written for it, what stands in its way, and what the undo log tells.
//!
//! That the file is the same as when Python undoes is shown in `tests/python/test_undo.py`.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use support::{Database, Folder, delete, noon, set, store};
use zeolith_storage::{ConflictPolicy, Patience, Storage, StorageError, Undone, Voted, Write, WriteSet};
use zeolith_types::{Oid, Tid};

const MODIFIED: &str = "Some data were modified by a later transaction";

fn undo(tid: Tid) -> Write {
    Write::Undo { tid }
}

/// The objects in the way and why, after an undo that must fail.
fn failures(database: &Database, writes: Vec<Write>) -> Vec<(u64, String)> {
    match database.vote(set(writes)) {
        Err(StorageError::UndoOf(failures)) => {
            failures.into_iter().map(|(oid, why)| (oid.get(), why)).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn reason(database: &Database, tid: Tid) -> String {
    match database.vote(set(vec![undo(tid)])) {
        Err(StorageError::Undo(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_undo_points_back_to_the_data_from_before_it() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let first = database.commit(vec![store(1, Tid::ZERO, b"one"), store(2, Tid::ZERO, b"two")]);
    let second = database.commit(vec![store(1, first, b"ONE"), store(2, first, b"TWO")]);
    let size = database.storage.info().size;

    let id = database.next_id();
    let voted =
        database.storage.vote(id, set(vec![undo(second)]), ConflictPolicy::Refuse, Patience::Wait).unwrap();
    let both = vec![Oid::new(1), Oid::new(2)];
    let undone = both.iter().map(|oid| Undone { oid: *oid, tid: second, back_to: Some(first) }).collect();
    assert_eq!(voted, Voted::Ready { changed: both, resolved: vec![], undone });
    let third = database.finish(id).unwrap();
    database.storage.publish(third);

    assert_eq!((database.current(1).unwrap(), database.current(2).unwrap()), (b"one".into(), b"two".into()));
    assert_eq!(database.storage.info().size - size, 23 + 2 * 50 + 8, "two records without data");
    let mut transactions = database.storage.iterate(Some(third), None).unwrap();
    transactions.next_transaction().unwrap().unwrap();
    let record = transactions.records().unwrap().next_record().unwrap().unwrap();
    assert_eq!((record.tid, record.data_txn), (third, Some(first)));
}

#[test]
fn an_undone_creation_is_gone_until_that_is_undone_too() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let first = database.commit(vec![store(1, Tid::ZERO, b"one")]);
    let second = database.commit(vec![undo(first)]);
    assert_eq!(database.current(1), None);
    let third = database.commit(vec![undo(second)]);
    assert_eq!(database.current(1).unwrap(), b"one");
    database.commit(vec![undo(third)]);
    assert_eq!(database.current(1), None);
    drop(database);
    folder.drop_index();
    let (database, report) = folder.open();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert_eq!(database.current(1), None);
}

#[test]
fn a_deletion_can_be_undone() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let first = database.commit(vec![store(1, Tid::ZERO, b"one")]);
    let second = database.commit(vec![delete(1, first)]);
    database.commit(vec![undo(second)]);
    assert_eq!(database.current(1).unwrap(), b"one");
}

#[test]
fn what_was_changed_later_is_in_the_way_unless_it_was_changed_back() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let first = database.commit(vec![store(1, Tid::ZERO, b"one"), store(2, Tid::ZERO, b"two")]);
    let second = database.commit(vec![store(1, first, b"ONE"), store(2, first, b"TWO")]);
    let third = database.commit(vec![store(1, second, b"uno")]);
    assert_eq!(failures(&database, vec![undo(second)]), [(1, MODIFIED.into())]);
    assert_eq!(
        failures(&database, vec![undo(first)]),
        [1, 2].map(|oid| {
            (oid, "Can't undo an add transaction followed by conflicting transactions.".to_owned())
        })
    );
    database.commit(vec![store(1, third, b"ONE")]);
    database.commit(vec![undo(second)]);
    assert_eq!((database.current(1).unwrap(), database.current(2).unwrap()), (b"one".into(), b"two".into()));
}

#[test]
fn several_undos_in_one_transaction_see_each_other() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let first = database.commit(vec![store(1, Tid::ZERO, b"one")]);
    let second = database.commit(vec![store(1, first, b"two")]);
    let third = database.commit(vec![store(1, second, b"three")]);
    assert_eq!(failures(&database, vec![undo(second), undo(third)]), [(1, MODIFIED.into())]);
    database.commit(vec![undo(third), undo(second)]);
    assert_eq!(database.current(1).unwrap(), b"one");
    assert_eq!(database.storage.history(Oid::new(1), 9, Patience::Wait).unwrap()[0].size, 0);
}

#[test]
fn an_undo_sees_what_its_own_transaction_stored() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let large = vec![7; 40_000];
    let first = database.commit(vec![store(1, Tid::ZERO, b"one"), store(2, Tid::ZERO, &large)]);
    let second = database.commit(vec![store(1, first, b"two"), store(2, first, b"small")]);
    assert_eq!(failures(&database, vec![store(1, second, b"three"), undo(second)]), [(1, MODIFIED.into())]);
    assert_eq!(failures(&database, vec![store(2, second, &large), undo(second)]), [(2, MODIFIED.into())]);
    database.commit(vec![store(1, second, b"two"), store(2, second, b"small"), undo(second)]);
    assert_eq!((database.current(1).unwrap(), database.current(2).unwrap()), (b"one".into(), large));
}

#[test]
fn a_later_record_of_the_same_transaction_redeems_an_earlier_one() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let first = database.commit(vec![store(1, Tid::ZERO, b"one")]);
    // As an application stores an object twice: only the last record is the object's state.
    let second = database.commit(vec![store(1, first, b"half"), store(1, first, b"whole")]);
    database.commit(vec![undo(second)]);
    assert_eq!(database.current(1).unwrap(), b"one");
    // Both records say the same, as those of a blob: both are undone, as Python does it.
    let second = database.storage.current_tid(Oid::new(1), Patience::Wait).unwrap();
    let third = database.commit(vec![store(1, second, b"blob"), store(1, second, b"blob")]);
    let id = database.vote(set(vec![undo(third)])).unwrap();
    let size = database.storage.info().size;
    let fourth = database.finish(id).unwrap();
    database.storage.publish(fourth);
    assert_eq!(database.storage.info().size - size, 23 + 2 * 50 + 8);
}

#[test]
fn only_transactions_after_the_last_packed_one_can_be_undone() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let first = database.commit(vec![store(1, Tid::ZERO, b"one")]);
    let second = Tid::new(first.get() + 5);
    let packed =
        Write::Restore { oid: Oid::new(1), serial: second, data: Some("two".into()), prev_txn: None };
    let packed = WriteSet { tid: Some(second), status: b'p', writes: vec![packed], ..WriteSet::default() };
    database.commit_set(packed).unwrap();
    let third = database.commit(vec![store(1, second, b"three")]);
    assert_eq!(reason(&database, second), "non-undoable transaction");
    assert_eq!(reason(&database, first), "Invalid transaction id");
    assert_eq!(reason(&database, Tid::new(9)), "Invalid transaction id");
    database.commit(vec![undo(third)]);
    assert_eq!(database.current(1).unwrap(), b"two");
}

#[test]
fn an_undo_never_runs_where_nobody_may_wait() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let first = database.commit(vec![store(1, Tid::ZERO, b"one")]);
    let id = database.next_id();
    let voted = database.storage.vote(id, set(vec![undo(first)]), ConflictPolicy::Refuse, Patience::Now);
    assert!(matches!(voted, Err(StorageError::WouldBlock)));
}

#[test]
fn the_undo_log_goes_backwards_to_the_last_pack() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let last = noon().to_tid();
    let packed = WriteSet { tid: Some(last), status: b'p', ..WriteSet::default() };
    database.commit(vec![store(1, Tid::ZERO, b"one")]);
    database.commit_set(WriteSet { tid: Some(Tid::new(last.get() + 9)), ..packed }).unwrap();
    let tids: Vec<Tid> = (0..5_u8)
        .map(|number| {
            let user = vec![b'a' + number].into();
            database.commit_set(WriteSet { user, description: "why".into(), ..WriteSet::default() }).unwrap()
        })
        .collect();
    let log = |range, wanted: &mut dyn FnMut(&zeolith_types::UndoEntry) -> bool| {
        let entries = database.storage.undo_log(range, wanted).unwrap().unwrap();
        entries.into_iter().map(|entry| entry.tid).collect::<Vec<_>>()
    };
    let newest_first: Vec<Tid> = tids.iter().rev().copied().collect();
    assert_eq!(log(0..20, &mut |_| true), newest_first);
    assert_eq!(log(1..3, &mut |_| true), newest_first[1..3]);
    assert_eq!(log(3..u64::MAX, &mut |_| true), newest_first[3..]);
    assert_eq!(log(1..9, &mut |entry| entry.user != "d"), [tids[2], tids[1], tids[0]]);
    let entries = database.storage.undo_log(0..1, &mut |_| true).unwrap().unwrap();
    assert_eq!((entries[0].user.as_ref(), entries[0].description.as_ref()), (&b"e"[..], &b"why"[..]));
    assert_eq!(entries[0].size, 23 + 4);
}
