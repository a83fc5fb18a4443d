//! What a full or broken disk does: an error for the client, and never a loss.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use support::{Folder, noon, set, store};
use zeolith_disk::faults::{EIO, ENOSPC, Operation};
use zeolith_storage::{ConflictPolicy, Patience, Storage, StorageError};
use zeolith_types::Tid;

const ALWAYS: u64 = u64::MAX;

fn is_full(error: &StorageError) -> bool {
    matches!(error, StorageError::Io { source, .. } if source.raw_os_error() == Some(ENOSPC))
}

#[test]
fn a_full_disk_fails_the_vote_and_the_storage_goes_on_when_there_is_space() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    folder.faults.fail(Operation::Allocate, 0, ALWAYS, ENOSPC);
    let error = database.vote(set(vec![store(1, Tid::ZERO, b"one")])).unwrap_err();
    assert!(is_full(&error), "{error}");
    folder.faults.heal();
    let tid = database.commit(vec![store(1, Tid::ZERO, b"one")]);
    assert_eq!(database.tids(), [tid]);
}

#[test]
fn space_for_one_transaction_is_enough_for_it() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    // The first wish, with room to spare, fails; the second, modest one does not.
    folder.faults.fail(Operation::Allocate, 0, 1, ENOSPC);
    database.commit(vec![store(1, Tid::ZERO, b"one")]);
    assert_eq!(database.current(1).unwrap(), b"one");
}

#[test]
fn a_full_disk_at_finish_undoes_the_whole_batch() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let first = database.commit(vec![store(1, Tid::ZERO, b"one")]);
    let before = folder.bytes();
    let bystander = database.vote(set(vec![store(9, Tid::ZERO, b"voted before, finished after")])).unwrap();
    let ids = [2, 3].map(|oid| database.vote(set(vec![store(oid, Tid::ZERO, &[7; 9000])])).unwrap());
    folder.faults.fail(Operation::Write, 0, 1, ENOSPC);
    for result in database.storage.finish(&ids, noon()) {
        assert!(is_full(&result.unwrap_err()));
    }
    assert_eq!(folder.bytes(), before);
    assert_eq!(database.storage.last_transaction(), first);
    let second = database.finish(bystander).unwrap();
    database.storage.publish(second);
    let third = database.commit(vec![store(2, Tid::ZERO, b"again")]);
    assert!(first < second && second < third);
    drop(database);
    folder.drop_index();
    let (database, report) = folder.open();
    assert_eq!(report.findings, []);
    assert_eq!(database.tids(), [first, second, third]);
    assert_eq!(database.current(3), None);
}

#[test]
fn a_failed_sync_is_final_until_the_storage_is_reopened() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let first = database.commit(vec![store(1, Tid::ZERO, b"one")]);
    let waiting = database.vote(set(vec![store(3, Tid::ZERO, b"waiting")])).unwrap();
    let id = database.vote(set(vec![store(1, first, b"two")])).unwrap();
    folder.faults.fail(Operation::Sync, 0, 1, EIO);
    let poisoned = |error: StorageError| matches!(error, StorageError::Poisoned(_));
    assert!(poisoned(database.finish(id).unwrap_err()));
    // The disk works again, but nobody asks it.
    assert!(poisoned(database.finish(waiting).unwrap_err()));
    assert!(poisoned(database.vote(set(vec![])).unwrap_err()));
    assert_eq!(database.current(1).unwrap(), b"one");
    database.storage.close().unwrap();
    drop(database);
    let (database, _) = folder.open();
    assert_eq!(database.tids(), [first]);
    let second = database.commit(vec![store(1, first, b"two")]);
    assert_eq!(database.tids(), [first, second]);
}

#[test]
fn a_write_that_can_not_be_undone_is_final_too() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let first = database.commit(vec![store(1, Tid::ZERO, b"one")]);
    let id = database.vote(set(vec![store(1, first, b"two")])).unwrap();
    folder.faults.fail(Operation::Write, 0, 1, ENOSPC);
    folder.faults.fail(Operation::SetLen, 0, 1, EIO);
    assert!(matches!(database.finish(id), Err(StorageError::Poisoned(_))));
    assert!(matches!(database.vote(set(vec![])), Err(StorageError::Poisoned(_))));
    drop(database);
    let (database, report) = folder.open();
    assert_eq!((database.tids(), report.findings.len()), (vec![first], 1));
}

#[test]
fn a_reader_that_may_not_wait_is_sent_to_one_that_may() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let first = database.commit(vec![store(1, Tid::ZERO, b"one")]);
    drop(database);
    let (database, _) = folder.open();
    folder.faults.fail(Operation::ReadNow, 0, ALWAYS, 11);
    let oid = zeolith_types::Oid::new(1);
    let load = |patience| database.storage.load_before(oid, Tid::MAX, patience);
    assert!(matches!(load(Patience::Now), Err(StorageError::WouldBlock)));
    assert!(load(Patience::Wait).is_ok());
    let vote = |patience| {
        let id = database.next_id();
        let writes = set(vec![store(1, first, b"two")]);
        database.storage.vote(id, writes, ConflictPolicy::Refuse, patience)
    };
    assert!(matches!(vote(Patience::Now), Err(StorageError::WouldBlock)));
    assert!(vote(Patience::Wait).is_ok());
}

#[test]
fn an_index_that_can_not_be_written_harms_nobody() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let tid = database.commit(vec![store(1, Tid::ZERO, &[1; 200])]);
    folder.faults.fail(Operation::Sync, 0, ALWAYS, EIO);
    assert!(database.storage.close().is_err());
    drop(database);
    folder.faults.heal();
    let (database, report) = folder.open();
    assert_eq!((report.index, database.tids()), (zeolith_filestorage::IndexUse::Missing, vec![tid]));
}

#[test]
fn a_large_batch_is_synced_in_parts_and_a_part_that_fails_is_final() {
    let large = || set(vec![store(2, Tid::ZERO, &vec![7; 3 << 20]), store(3, Tid::ZERO, b"small")]);
    let folder = Folder::new();
    let (database, _) = folder.open();
    let syncs = folder.faults.count(Operation::Sync);
    let first = database.commit_set(large()).unwrap();
    assert_eq!(folder.faults.count(Operation::Sync), syncs + 2, "what is before the end, and the end");
    let id = database.vote(set(vec![store(4, Tid::ZERO, &vec![8; 3 << 20])])).unwrap();
    folder.faults.fail(Operation::Sync, 0, 1, EIO);
    assert!(matches!(database.finish(id), Err(StorageError::Poisoned(_))));
    assert!(matches!(database.vote(set(vec![store(5, Tid::ZERO, b"more")])), Err(StorageError::Poisoned(_))));
    drop(database);
    let (database, _) = folder.open();
    assert_eq!(database.tids(), [first]);
}
