//! Packing when something is wrong: a full disk, damaged records, a device that fails.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "support/packing.rs"]
mod packing;
mod support;

use packing::{filled, later, record, reopened};
use std::ops::ControlFlow;
use support::{Database, Folder, delete, exists, store};
use zeolith_disk::faults::{EIO, ENOSPC, Operation};
use zeolith_storage::{PackOutcome, PackProgress, Result, Storage, StorageError};
use zeolith_types::Tid;

fn pack(database: &Database) -> Result<PackOutcome> {
    database.storage.pack(later(), &mut |_: PackProgress| ControlFlow::Continue(()))
}

fn what_is_damaged(database: &Database) -> String {
    match pack(database) {
        Err(StorageError::Corrupt { what, .. }) => what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_disk_that_is_full_or_fails_ends_the_pack_and_nothing_else() {
    for (operation, errno) in [(Operation::Write, ENOSPC), (Operation::Sync, EIO), (Operation::Read, EIO)] {
        for spared in 0..4 {
            let (folder, database, first) = filled();
            let second = database.commit(vec![store(1, first, &record(11, &[2]))]);
            let bytes = folder.bytes();
            folder.faults.fail(operation, spared, u64::MAX, errno);
            match pack(&database) {
                Err(StorageError::Io { source, .. }) => assert_eq!(source.raw_os_error(), Some(errno)),
                // Little is written, in few pieces.
                Ok(PackOutcome::Packed { .. }) if spared > 0 => continue,
                other => panic!("{operation:?} {spared}: {other:?}"),
            }
            folder.faults.heal();
            assert!(folder.bytes() == bytes);
            assert!(!exists(&folder.file("Data.fs.pack")) && !exists(&folder.file("Data.fs.old")));
            database.commit(vec![store(1, second, &record(12, &[2]))]);
            assert!(matches!(pack(&database), Ok(PackOutcome::Packed { .. })));
            let database = reopened(&folder, database);
            assert_eq!(database.current(1).unwrap(), record(12, &[2]));
        }
    }
}

#[test]
fn a_reference_to_nothing_is_reported_with_the_object_that_has_it() {
    let (folder, database, first) = filled();
    let second = database.commit(vec![store(2, first, &record(2, &[77]))]);
    let bytes = folder.bytes();
    let what = "0x02 refers to 0x4d, which does not exist at the time of the pack";
    assert_eq!(what_is_damaged(&database), what);
    assert!(folder.bytes() == bytes);
    // Once it was there, and has been deleted.
    let third = database.commit(vec![store(77, Tid::ZERO, b"N.N.")]);
    assert!(matches!(pack(&database), Ok(PackOutcome::Packed { .. })));
    database.commit(vec![store(2, second, &record(2, &[1, 77])), delete(77, third)]);
    assert_eq!(what_is_damaged(&database), what);
}

#[test]
fn a_database_without_a_root_is_reported() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let first = database.commit(vec![store(1, Tid::ZERO, &record(1, &[]))]);
    assert_eq!(what_is_damaged(&database), "there is no root object at the time of the pack");
    // An empty one has none to miss.
    database.commit(vec![delete(1, first)]);
    assert!(matches!(pack(&database), Ok(PackOutcome::Packed { .. })));
    assert_eq!(database.storage.info().length, 0);
}

#[test]
fn a_record_that_is_no_pickle_is_reported_with_its_object() {
    let (folder, database, first) = filled();
    let mut last = first;
    let too_deep = [b".z".as_slice(), b"no zlib"].concat();
    for nonsense in [b"\x80\x03Q".as_slice(), b"\x80\x09NQ.", b"P", &too_deep] {
        last = database.commit(vec![store(2, last, nonsense)]);
        let bytes = folder.bytes();
        let what = what_is_damaged(&database);
        assert!(what.starts_with("the references of 0x02 can't be read: "), "{what}");
        assert!(folder.bytes() == bytes);
    }
    database.commit(vec![store(2, last, &record(2, &[]))]);
    assert!(matches!(pack(&database), Ok(PackOutcome::Packed { .. })));
}
