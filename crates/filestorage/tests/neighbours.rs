//! A vote on what was written together costs a few reads, wherever the records lie.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use support::{Folder, set, store};
use zeolith_disk::faults::{EIO, Operation};
use zeolith_types::Tid;

/// 100 objects with records of 600 bytes, which no read of 16 KiB holds all of.
fn neighbours(serial: Tid) -> Vec<zeolith_storage::Write> {
    (1..=100).map(|oid| store(oid, serial, &[oid as u8; 600])).collect()
}

#[test]
fn a_hundred_neighbours_are_checked_with_six_reads() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let tid = database.commit(neighbours(Tid::ZERO));
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
