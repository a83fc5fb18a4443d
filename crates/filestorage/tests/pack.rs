//! Packing: what is kept, what is dropped, and that nothing is lost meanwhile.
//!
//! That the result is that of Python's pack is shown in `tests/python/test_pack.py`.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "support/packing.rs"]
mod packing;
mod support;

use packing::{filled, later, record, reopened, time_of, undo};
use std::ops::ControlFlow;
use support::{Database, Folder, delete, exists, set, store};
use zeolith_filestorage::{Finding, Options};
use zeolith_storage::{Found, PackOutcome, PackPhase, PackProgress, Patience, Result, Storage, StorageError};
use zeolith_types::{Oid, Tid, Timestamp};

fn pack(database: &Database, time: Timestamp) -> Result<PackOutcome> {
    database.storage.pack(time, &mut |_: PackProgress| ControlFlow::Continue(()))
}

fn packed(database: &Database, time: Timestamp) {
    assert!(
        matches!(pack(database, time).unwrap(), PackOutcome::Packed { before, after, .. } if after < before)
    );
}

fn revisions(database: &Database, oid: u64) -> usize {
    database.storage.history(Oid::new(oid), 100, Patience::Wait).map_or(0, |history| history.len())
}

#[test]
fn a_pack_drops_old_revisions_and_garbage() {
    let (folder, database, first) = filled();
    let second = database.commit(vec![store(1, first, &record(11, &[2]))]);
    let third = database.commit(vec![store(1, second, &record(12, &[2]))]);
    let before = folder.bytes();
    packed(&database, later());
    assert_eq!(database.current(1).unwrap(), record(12, &[2]));
    assert_eq!(database.current(2).unwrap(), record(2, &[0]));
    assert_eq!((database.current(3), database.current(4)), (None, None));
    assert_eq!((revisions(&database, 1), database.storage.info().length), (1, 3));
    assert_eq!(database.storage.last_transaction(), third);
    assert_eq!(database.tids(), [first, third]);
    assert!(std::fs::read(folder.file("Data.fs.old")).unwrap() == before, "the old file is kept");
    assert!(!exists(&folder.file("Data.fs.pack")));
    assert!(exists(&folder.file("Data.fs.index")));
    let fourth = database.commit(vec![store(1, third, &record(13, &[2]))]);
    let database = reopened(&folder, database);
    assert_eq!((database.current(1).unwrap(), revisions(&database, 1)), (record(13, &[2]), 2));
    assert_eq!(database.storage.last_transaction(), fourth);
}

/// A client that knows of it would find its cache newer than the server, and not connect any more.
#[test]
fn the_last_transaction_is_the_last_after_a_restart_though_a_pack_has_dropped_all_of_it() {
    let (folder, database, _) = filled();
    let last = database.commit(vec![store(9, Tid::ZERO, &record(9, &[]))]);
    let estimate = database.storage.estimate_pack(later(), &mut |_| ControlFlow::Continue(())).unwrap();
    packed(&database, later());
    assert_eq!(database.current(9), None);
    assert_eq!(database.storage.info().size, estimate.after);
    let database = reopened(&folder, database);
    assert_eq!(database.storage.last_transaction(), last);
    assert_eq!(database.tids().last(), Some(&last));
    assert_eq!(pack(&database, later()).unwrap(), PackOutcome::NothingToDo);
    let next = database.commit(vec![store(9, Tid::ZERO, &record(9, &[]))]);
    packed(&database, later());
    assert_eq!(database.tids().last(), Some(&next), "an empty one that is not the last goes");
    assert!(!database.tids().contains(&last));
}

#[test]
fn an_object_that_did_not_exist_at_the_pack_time_does_not_though_its_deletion_is_undone_later() {
    let (folder, database, first) = filled();
    let second = database.commit(vec![store(1, first, &record(11, &[2]))]);
    let deleted = database.commit(vec![delete(3, first)]);
    let again = database.commit(vec![undo(deleted), store(1, second, &record(12, &[2, 3]))]);
    packed(&database, time_of(deleted));
    let database = reopened(&folder, database);
    let before = database.storage.load_before(Oid::new(3), again, Patience::Wait).unwrap();
    assert_eq!(before.found, Found::NoObject);
    // What is kept for the undo is no state of the object: others may have followed it and been dropped.
    let earlier = database.storage.load_before(Oid::new(3), deleted, Patience::Wait).unwrap();
    assert_eq!(earlier.found, Found::NothingBefore);
    assert_eq!(database.current(3).unwrap(), record(3, &[4]));
}

/// Garbage that something refers to again since the pack time is no garbage, whatever is committed meanwhile.
#[test]
fn what_is_referred_to_again_stays_though_its_referrer_changes_while_the_pack_marks() {
    let (folder, database, first) = filled();
    let second = database.commit(vec![store(1, first, &record(11, &[2, 3]))]);
    let mut changed = None;
    let outcome = database.storage.pack(time_of(first), &mut |_: PackProgress| {
        changed.get_or_insert_with(|| database.commit(vec![store(1, second, &record(12, &[2, 3]))]));
        ControlFlow::Continue(())
    });
    outcome.unwrap();
    assert!(changed.is_some());
    let database = reopened(&folder, database);
    assert_eq!(database.current(1).unwrap(), record(12, &[2, 3]));
    assert_eq!(database.current(3).unwrap(), record(3, &[4]));
    assert_eq!(database.current(4).unwrap(), record(4, &[3]));
}

#[test]
fn what_came_after_the_pack_time_stays() {
    let (folder, database, first) = filled();
    let second = database.commit(vec![store(1, first, &record(11, &[2]))]);
    let third =
        database.commit(vec![store(1, second, &record(12, &[2])), store(3, first, &record(13, &[3]))]);
    packed(&database, time_of(second));
    assert_eq!(database.tids(), [first, second, third]);
    assert_eq!((revisions(&database, 1), revisions(&database, 3)), (2, 1));
    let database = reopened(&folder, database);
    assert_eq!(database.storage.load_serial(Oid::new(1), second, Patience::Wait).unwrap(), record(11, &[2]));
}

#[test]
fn a_pack_with_nothing_to_drop_touches_nothing() {
    let (folder, database, first) = filled();
    database.commit(vec![store(1, first, &record(11, &[2]))]);
    packed(&database, later());
    let (bytes, old) = (folder.bytes(), std::fs::read(folder.file("Data.fs.old")).unwrap());
    assert_eq!(pack(&database, later()).unwrap(), PackOutcome::NothingToDo);
    assert_eq!(pack(&database, Timestamp::default()).unwrap(), PackOutcome::NothingToDo);
    assert!(folder.bytes() == bytes && std::fs::read(folder.file("Data.fs.old")).unwrap() == old);
    assert!(!exists(&folder.file("Data.fs.pack")));
    let empty = Folder::new();
    assert_eq!(pack(&empty.open().0, later()).unwrap(), PackOutcome::NothingToDo);
}

#[test]
fn options_say_whether_garbage_goes_and_the_old_file_stays() {
    let folder = Folder::new();
    let options = Options { pack_gc: false, pack_keep_old: false, ..Options::default() };
    let (database, _) = folder.try_open(options).unwrap();
    let first = database.commit(vec![store(3, Tid::ZERO, &record(3, &[9]))]);
    database.commit(vec![store(3, first, &record(4, &[9]))]);
    packed(&database, later());
    assert_eq!((database.current(3).unwrap(), revisions(&database, 3)), (record(4, &[9]), 1));
    assert!(!exists(&folder.file("Data.fs.old")));
    reopened(&folder, database);
}

#[test]
fn an_undo_keeps_what_it_points_back_to_across_the_pack_time() {
    for pack_gc in [true, false] {
        let folder = Folder::new();
        let (database, _) = folder.try_open(Options { pack_gc, ..Options::default() }).unwrap();
        let first = database.commit(vec![
            store(0, Tid::ZERO, &record(0, &[1])),
            store(1, Tid::ZERO, &record(1, &[2])),
            store(2, Tid::ZERO, &record(2, &[])),
        ]);
        let second = database.commit(vec![store(1, first, &record(11, &[]))]);
        let third = database.commit(vec![store(1, second, &record(12, &[]))]);
        database.commit(vec![undo(third)]);
        let last = database.commit(vec![undo(second)]);
        // Packed to the second: the last transaction points to data of the first.
        packed_or_equal(&database, time_of(second));
        assert_eq!(database.current(1).unwrap(), record(1, &[2]), "gc {pack_gc}");
        assert_eq!(database.current(2).unwrap(), record(2, &[]), "it can be reached again, gc {pack_gc}");
        let database = reopened(&folder, database);
        let mut transactions = database.storage.iterate(Some(last), None).unwrap();
        transactions.next_transaction().unwrap().unwrap();
        let record = transactions.records().unwrap().next_record().unwrap().unwrap();
        assert_eq!((record.data.unwrap().to_vec(), record.data_txn), (packing::record(1, &[2]), Some(first)));
    }
}

fn packed_or_equal(database: &Database, time: Timestamp) {
    pack(database, time).unwrap();
}

#[test]
fn an_undone_creation_is_forgotten_with_its_history() {
    let (folder, database, _) = filled();
    let second = database.commit(vec![store(9, Tid::ZERO, &record(9, &[]))]);
    database.commit(vec![undo(second)]);
    packed(&database, later());
    assert_eq!((database.current(9), revisions(&database, 9)), (None, 0));
    reopened(&folder, database);
}

#[test]
fn commits_go_on_while_a_pack_copies() {
    let (folder, database, first) = filled();
    let mut last = first;
    let mut undone = None;
    let mut phases = Vec::new();
    let outcome = database.storage.pack(later(), &mut |progress: PackProgress| {
        if phases.last() != Some(&progress.phase) {
            phases.push(progress.phase);
            last = database.commit(vec![store(1, last, &record(phases.len() as u8, &[2]))]);
            database.commit(vec![store(20 + phases.len() as u64, Tid::ZERO, &record(1, &[]))]);
            if progress.phase == PackPhase::Copy {
                // Points back to a revision that nothing else keeps, since marking is over.
                let changed = database.commit(vec![store(2, first, &record(22, &[]))]);
                undone = Some(database.commit(vec![undo(changed)]));
            }
        }
        ControlFlow::Continue(())
    });
    assert!(matches!(outcome, Ok(PackOutcome::Packed { .. })), "{outcome:?}");
    assert_eq!(phases, [PackPhase::Survey, PackPhase::Mark, PackPhase::Copy, PackPhase::CatchUp]);
    assert_eq!(database.storage.current_tid(Oid::new(1), Patience::Wait).unwrap(), last);
    assert_eq!(database.current(2).unwrap(), record(2, &[0]));
    assert_eq!(database.storage.current_tid(Oid::new(2), Patience::Wait).unwrap(), undone.unwrap());
    let database = reopened(&folder, database);
    assert_eq!(database.current(1).unwrap(), record(4, &[2]));
    assert_eq!(database.current(2).unwrap(), record(2, &[0]));
    assert_eq!((21..=24).filter(|oid| database.current(*oid).is_some()).count(), 4);
}

#[test]
fn a_transaction_that_was_voted_before_the_switch_can_be_finished_after_it() {
    let (folder, database, first) = filled();
    let second = database.commit(vec![store(1, first, &record(11, &[2]))]);
    let finished = database.vote(set(vec![store(2, first, &record(22, &[0]))])).unwrap();
    let finished = database.finish(finished).unwrap();
    let voted =
        database.vote(set(vec![store(1, second, &record(12, &[2])), store(9, Tid::ZERO, b"N.N.")])).unwrap();
    packed(&database, later());
    assert_eq!(database.current(2).unwrap(), record(2, &[0]), "what is not published can't be seen");
    database.storage.publish(finished);
    assert_eq!(database.current(2).unwrap(), record(22, &[0]));
    let tid = database.finish(voted).unwrap();
    database.storage.publish(tid);
    let database = reopened(&folder, database);
    assert_eq!((database.current(1).unwrap(), revisions(&database, 1)), (record(12, &[2]), 2));
    assert_eq!(database.current(9).unwrap(), b"N.N.");
}

#[test]
fn a_pack_waits_for_an_undo_that_was_voted() {
    let (folder, database, first) = filled();
    let second = database.commit(vec![store(1, first, &record(11, &[2]))]);
    let voted = database.vote(set(vec![undo(second)])).unwrap();
    std::thread::scope(|scope| {
        let (waiting, waits) = std::sync::mpsc::channel();
        let storage = &database.storage;
        let packing = scope.spawn(move || {
            let mut reports = 0;
            storage.pack(time_of(first), &mut |progress: PackProgress| {
                // Only a pack that waits reports again and again that all is done.
                reports += u32::from(progress.phase == PackPhase::CatchUp && progress.done == progress.total);
                if reports == 6 {
                    waiting.send(()).unwrap();
                }
                ControlFlow::Continue(())
            })
        });
        waits.recv().unwrap();
        let tid = database.finish(voted).unwrap();
        database.storage.publish(tid);
        assert!(matches!(packing.join().unwrap(), Ok(PackOutcome::Packed { .. })));
    });
    let database = reopened(&folder, database);
    assert_eq!(database.current(1).unwrap(), record(1, &[2]));
}

#[test]
fn a_reader_goes_on_with_the_file_that_it_began_with() {
    let (_folder, database, first) = filled();
    let second = database.commit(vec![store(1, first, &record(11, &[2]))]);
    let mut transactions = database.storage.iterate(None, None).unwrap();
    transactions.next_transaction().unwrap().unwrap();
    packed(&database, later());
    let mut records = transactions.records().unwrap();
    let mut count = 0;
    while records.next_record().unwrap().is_some() {
        count += 1;
    }
    assert_eq!((count, transactions.next_transaction().unwrap().unwrap().tid), (5, second));
}

#[test]
fn only_one_packs_and_nobody_reads_the_undo_log_meanwhile() {
    let (_folder, database, _) = filled();
    let outcome = database.storage.pack(later(), &mut |_: PackProgress| {
        let second = pack(&database, later());
        assert!(matches!(second, Err(StorageError::Format(text)) if text == "Already packing"));
        let log = database.storage.undo_log(0..20, &mut |_| true);
        assert!(matches!(log, Err(StorageError::Undo(_))));
        ControlFlow::Continue(())
    });
    assert!(outcome.is_ok());
    assert!(database.storage.undo_log(0..20, &mut |_| true).unwrap().unwrap().is_empty());
}

#[test]
fn a_pack_that_is_cancelled_or_fails_leaves_everything_as_it_was() {
    for phase in [PackPhase::Survey, PackPhase::Mark, PackPhase::Copy, PackPhase::CatchUp] {
        let (folder, database, first) = filled();
        database.commit(vec![store(1, first, &record(11, &[2]))]);
        let bytes = folder.bytes();
        let outcome = database.storage.pack(time_of(first), &mut |progress: PackProgress| {
            if progress.phase == phase { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(matches!(outcome, Err(StorageError::Cancelled)), "{phase:?} {outcome:?}");
        assert!(folder.bytes() == bytes);
        assert!(!exists(&folder.file("Data.fs.pack")) && !exists(&folder.file("Data.fs.old")));
        packed(&database, later());
        reopened(&folder, database);
    }
}

#[test]
fn compressed_records_are_looked_into() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let compress =
        |data: &[u8]| [b".z", miniz_oxide::deflate::compress_to_vec_zlib(data, 6).as_slice()].concat();
    let first = database.commit(vec![
        store(0, Tid::ZERO, &compress(&record(0, &[1]))),
        store(1, Tid::ZERO, &compress(&record(1, &[]))),
        store(2, Tid::ZERO, &compress(&record(2, &[]))),
    ]);
    database.commit(vec![store(1, first, &compress(&record(3, &[])))]);
    packed(&database, later());
    assert_eq!(database.current(1).unwrap(), compress(&record(3, &[])));
    assert_eq!(database.current(2), None);
}

#[test]
fn a_new_reference_to_an_object_that_was_garbage_keeps_it() {
    let (folder, database, first) = filled();
    // 1 is part of the database at the pack time, and refers to the cycle of 3 and 4 afterwards.
    let second = database.commit(vec![store(1, first, &record(11, &[2, 3]))]);
    assert!(second > first);
    pack(&database, time_of(first)).unwrap();
    assert_eq!(database.current(3).unwrap(), record(3, &[4]));
    assert_eq!(database.current(4).unwrap(), record(4, &[3]));
    reopened(&folder, database);
}

#[test]
fn what_a_killed_pack_leaves_is_removed_at_the_next_start() {
    let (folder, database, _) = filled();
    drop(database);
    let left = folder.file("Data.fs.pack");
    std::fs::write(&left, b"FS30 and a half").unwrap();
    let (_, report) = folder.open();
    assert_eq!(report.findings, [Finding::PackRemoved { path: left.clone() }]);
    assert!(!exists(&left));
}

#[test]
fn a_large_database_is_packed_in_pieces() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    // Records on both sides of every buffer's size, half of them garbage.
    let sizes = [1, 40_000, 300_000, 1_100_000, 2_200_000];
    let data = |oid: u64| {
        let mut data = record(oid as u8, &[]);
        let text = vec![b'x'; sizes[oid as usize % sizes.len()]];
        data.splice(
            data.len() - 1..data.len() - 1,
            [&b"X"[..], &(text.len() as u32).to_le_bytes(), &text, b"a"].concat(),
        );
        data
    };
    let referred: Vec<u64> = (1..40).step_by(2).collect();
    let root = record(0, &referred);
    let mut writes = vec![store(0, Tid::ZERO, &root)];
    writes.extend((1..40).map(|oid| store(oid, Tid::ZERO, &data(oid))));
    let first = database.commit(writes);
    let second = database.commit(vec![store(1, first, &data(5)), store(3, first, &data(4))]);
    packed(&database, time_of(first));
    for oid in 4..40 {
        let expected = (oid % 2 == 1).then(|| data(oid));
        assert!(database.current(oid) == expected, "{oid}");
    }
    let database = reopened(&folder, database);
    assert!(database.current(1).unwrap() == data(5) && database.current(3).unwrap() == data(4));
    assert_eq!(database.storage.current_tid(Oid::new(3), Patience::Wait).unwrap(), second);
    assert_eq!(database.storage.info().length, 21);
}
