//! A vote on what was written together costs a few reads, wherever the records lie, and none if it was written just
//! now.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "support/packing.rs"]
mod packing;
mod support;

use packing::{filled, later, record};
use std::ops::ControlFlow;
use support::{Folder, set, store};
use zeolith_disk::faults::{EIO, Operation};
use zeolith_storage::{PackProgress, Storage, StorageError, Write};
use zeolith_types::{Conflict, Oid, Tid};

/// 100 objects with records of 600 bytes, which no read of 16 KiB holds all of.
fn neighbours(serial: Tid) -> Vec<zeolith_storage::Write> {
    (1..=100).map(|oid| store(oid, serial, &[oid as u8; 600])).collect()
}

#[test]
fn a_hundred_neighbours_are_checked_with_six_reads() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let tid = database.commit(neighbours(Tid::ZERO));
    database.storage.close().unwrap();
    drop(database);
    let (database, _) = folder.open();
    folder.faults.fail(Operation::Read, 6, u64::MAX, EIO);
    let vote = database.vote(set(neighbours(tid))).unwrap();
    folder.faults.heal();
    database.finish(vote).unwrap();
}

#[test]
fn records_far_apart_and_in_any_order_are_told_apart() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let mut serials = vec![Tid::ZERO; 101];
    for round in 0..3 {
        for oid in [1, 50, 3, 100, 2, 99, 51] {
            let data = vec![round; 1 + oid * 300];
            let serial = serials[oid];
            serials[oid] = database.commit(vec![store(oid as u64, serial, &data)]);
        }
    }
    let oids = [99, 1, 2, 100, 50, 51, 3];
    let current = |oid: usize| store(oid as u64, serials[oid], b"next");
    database.vote(set(oids.map(current).to_vec())).unwrap();
    for stale in oids {
        let write = |oid| if oid == stale { store(oid as u64, Tid::new(1), b"next") } else { current(oid) };
        database.vote(set(oids.map(write).to_vec())).unwrap_err();
    }
}

#[test]
fn what_was_written_just_now_is_checked_without_a_read() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let first = database.commit(neighbours(Tid::ZERO));
    let second = database.commit(neighbours(first));
    folder.faults.fail(Operation::Read, 0, u64::MAX, EIO);
    let check = Write::Check { oid: Oid::new(7), serial: second };
    let vote = database.vote(set(neighbours(second).into_iter().skip(50).chain([check]).collect())).unwrap();
    folder.faults.heal();
    database.finish(vote).unwrap();
    for stale in [Tid::ZERO, first, Tid::MAX] {
        let conflict = database.vote(set(vec![store(7, stale, b"stale")])).unwrap_err();
        assert!(
            matches!(conflict, StorageError::Conflict(Conflict { committed, .. }) if committed == second)
        );
        let check = Write::Check { oid: Oid::new(7), serial: stale };
        assert!(matches!(database.vote(set(vec![check])), Err(StorageError::ReadConflict { .. })));
    }
}

#[test]
fn a_packed_file_has_other_positions_and_is_asked_itself() {
    let (_folder, database, first) = filled();
    let mut serials = vec![first];
    for round in 0..6 {
        let serial = serials[serials.len() - 1];
        serials.push(database.commit(vec![store(1, serial, &record(round, &[2]))]));
    }
    let last = serials.pop().unwrap();
    database.storage.pack(later(), &mut |_: PackProgress| ControlFlow::Continue(())).unwrap();
    for stale in serials {
        database.vote(set(vec![store(1, stale, b"stale")])).unwrap_err();
    }
    database.vote(set(vec![store(1, last, b"current")])).unwrap();
}

#[test]
fn a_record_with_a_tid_of_its_own_is_not_taken_for_one_of_its_transaction() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let serial = Tid::new(5);
    let data = Some("copied".into());
    let tid = database.commit(vec![Write::Restore { oid: Oid::new(1), serial, data, prev_txn: None }]);
    database.vote(set(vec![store(1, tid, b"stale")])).unwrap_err();
    database.vote(set(vec![store(1, serial, b"current")])).unwrap();
}
