//! The in-memory storage keeps the contract, and packs.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{ops::ControlFlow, sync::Arc, time::Duration};
use zeolith_storage::{
    ConflictPolicy, Found, Held, PackOutcome, PackPhase, Patience, Storage, StorageError, TransactionId,
    Write, WriteSet, contract::Subject, memory::MemoryStorage,
};
use zeolith_types::{Oid, Tid, Timestamp};

fn memory_storage() -> Subject {
    Subject::new(Arc::new(MemoryStorage::new("memory").collecting_garbage(references)), false, ())
}

zeolith_storage::contract_tests!(memory_storage);

/// In these records each `>` is followed by the digit of an oid that is referred to.
#[expect(clippy::unnecessary_wraps, reason = "the signature is that of a function that can fail")]
fn references(record: &[u8]) -> Result<Vec<Oid>, String> {
    let pairs = record.windows(2).filter(|pair| pair[0] == b'>');
    Ok(pairs.map(|pair| Oid::new(u64::from(pair[1] - b'0'))).collect())
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_epoch(Duration::from_secs(1_776_083_670 + seconds))
}

fn vote(storage: &MemoryStorage, id: u64, records: &[(u64, &str)]) -> TransactionId {
    let store = |(oid, data): &(u64, &str)| {
        let oid = Oid::new(*oid);
        let serial = storage.current_tid(oid, Patience::Wait).unwrap_or(Tid::ZERO);
        Write::Store { oid, serial, data: (*data).to_owned().into() }
    };
    let writes = WriteSet { writes: records.iter().map(store).collect(), ..WriteSet::default() };
    storage.vote(TransactionId(id), writes, ConflictPolicy::Refuse, Patience::Wait).unwrap();
    TransactionId(id)
}

fn commit(storage: &MemoryStorage, second: u64, records: &[(u64, &str)]) -> Tid {
    let id = vote(storage, second, records);
    let tid = storage.finish(&[id], at(second)).pop().unwrap().unwrap();
    storage.publish(tid);
    tid
}

fn pack(storage: &MemoryStorage, second: u64) -> Result<PackOutcome, StorageError> {
    storage.pack(at(second), &mut |_| ControlFlow::Continue(()))
}

fn collecting() -> MemoryStorage {
    MemoryStorage::new("memory").collecting_garbage(references)
}

fn history(storage: &MemoryStorage, oid: u64) -> Vec<Tid> {
    let entries = storage.history(Oid::new(oid), 99, Patience::Wait).unwrap_or_default();
    entries.iter().map(|entry| entry.tid).collect()
}

/// Tid and status of each transaction, with the oids of its records.
fn transactions(storage: &MemoryStorage) -> Vec<(Tid, u8, Vec<u64>)> {
    let mut iterator = storage.iterate(None, None).unwrap();
    let mut all = Vec::new();
    while let Some(info) = iterator.next_transaction().unwrap() {
        let mut records = iterator.records().unwrap();
        let oids = std::iter::from_fn(|| records.next_record().unwrap().map(|record| record.oid.get()));
        all.push((info.tid, info.status, oids.collect()));
    }
    all
}

#[test]
fn a_pack_drops_what_was_not_current_at_its_time() {
    let storage = MemoryStorage::new("memory");
    let first = commit(&storage, 1, &[(0, "a"), (1, "a")]);
    let second = commit(&storage, 2, &[(0, "b")]);
    let third = commit(&storage, 3, &[(0, "c")]);
    let fourth = commit(&storage, 4, &[(0, "d")]);
    let before = storage.info().size;
    assert_eq!(
        pack(&storage, 3).unwrap(),
        PackOutcome::Packed { before, after: before - 2 * 101, held: Held::default() }
    );
    assert_eq!((history(&storage, 0), history(&storage, 1)), (vec![fourth, third], vec![first]));
    let left = [(first, b'p', vec![1]), (third, b' ', vec![0]), (fourth, b' ', vec![0])];
    assert_eq!(transactions(&storage), left);
    assert_eq!(storage.load_before(Oid::ZERO, second, Patience::Wait).unwrap().found, Found::NothingBefore);
    assert_eq!((storage.info().length, storage.info().size), (2, before - 2 * 101));
}

#[test]
fn a_pack_drops_what_can_not_be_reached_whatever_its_time() {
    let storage = collecting();
    commit(&storage, 1, &[(0, ">1"), (1, ">2"), (2, ""), (3, ">4"), (4, ">3")]);
    let last = commit(&storage, 2, &[(5, ">1")]);
    pack(&storage, 1).unwrap();
    assert_eq!((1..6).map(|oid| history(&storage, oid).len()).collect::<Vec<_>>(), [1, 1, 0, 0, 0]);
    assert_eq!(storage.info().length, 3);
    assert_eq!(storage.last_transaction(), last, "a transaction that is gone stays the last one");
    let next = commit(&storage, 0, &[(0, ">1")]);
    assert!(next > last);
}

#[test]
fn old_revisions_that_stay_keep_what_they_refer_to() {
    let storage = collecting();
    commit(&storage, 1, &[(0, ">1"), (1, "")]);
    let second = commit(&storage, 3, &[(0, "")]);
    pack(&storage, 2).unwrap();
    assert_eq!(history(&storage, 1).len(), 1);
    assert_eq!(history(&storage, 0).len(), 2);
    pack(&storage, 3).unwrap();
    assert_eq!((history(&storage, 0), history(&storage, 1)), (vec![second], vec![]));
}

#[test]
fn a_pack_does_not_go_back_in_time() {
    let storage = collecting();
    assert_eq!(pack(&storage, 9).unwrap(), PackOutcome::NothingToDo, "there is nothing to pack");
    commit(&storage, 1, &[(0, "")]);
    assert_eq!(pack(&storage, 5).unwrap(), PackOutcome::NothingToDo);
    commit(&storage, 2, &[(0, "")]);
    assert_eq!(pack(&storage, 5).unwrap(), PackOutcome::NothingToDo, "once is enough");
    assert_eq!(history(&storage, 0).len(), 2);
    let earlier = pack(&storage, 4).unwrap_err();
    assert!(matches!(earlier, StorageError::PackTime(_)), "{earlier}");
    assert_eq!(earlier.to_string(), "Already packed to a later time");
}

#[test]
fn a_damaged_database_is_not_packed() {
    let storage = collecting();
    commit(&storage, 1, &[(0, ">1"), (1, ">7")]);
    commit(&storage, 2, &[(0, ">1")]);
    let error = pack(&storage, 9).unwrap_err().to_string();
    assert!(error.contains("0x01 refers to 0x07, which does not exist"), "{error}");
    assert_eq!(history(&storage, 0).len(), 2);
    commit(&storage, 3, &[(7, "")]);
    assert!(
        matches!(pack(&storage, 9).unwrap(), PackOutcome::Packed { .. }),
        "the failed pack does not count"
    );
    let rootless = collecting();
    commit(&rootless, 1, &[(3, "")]);
    assert!(pack(&rootless, 9).unwrap_err().to_string().contains("no root object"));
}

#[test]
fn what_is_committed_during_a_pack_keeps_what_it_refers_to() {
    let storage = collecting();
    commit(&storage, 1, &[(0, ""), (1, ">2"), (2, ""), (3, ">4"), (4, ""), (5, ""), (6, "")]);
    let open = vote(&storage, 100, &[(0, ">3")]);
    let mut finished = None;
    let mut last = Tid::ZERO;
    storage
        .pack(at(9), &mut |progress| {
            if progress.phase == PackPhase::Mark && last == Tid::ZERO {
                last = commit(&storage, 2, &[(7, ">1")]);
                finished = Some(vote(&storage, 101, &[(8, ">5")]));
            }
            if progress.phase == PackPhase::Copy {
                commit(&storage, 3, &[(9, "")]);
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    for id in [open, finished.unwrap()] {
        let tid = storage.finish(&[id], at(4)).pop().unwrap().unwrap();
        storage.publish(tid);
    }
    let kept: Vec<u64> = (0..10).filter(|oid| !history(&storage, *oid).is_empty()).collect();
    assert_eq!(kept, [0, 1, 2, 3, 4, 5, 7, 8, 9], "6 was referred to by nothing");
}

#[test]
fn a_pack_can_be_ended_and_begun_again() {
    let storage = collecting();
    commit(&storage, 1, &[(0, "")]);
    commit(&storage, 2, &[(0, ""), (1, "")]);
    let ended = storage.pack(at(9), &mut |_| ControlFlow::Break(()));
    assert!(matches!(ended, Err(StorageError::Cancelled)));
    assert_eq!(history(&storage, 0).len(), 2);
    assert!(matches!(pack(&storage, 9).unwrap(), PackOutcome::Packed { .. }));
}

#[test]
fn more_objects_than_a_batch_are_packed() {
    let storage = MemoryStorage::new("memory");
    let records: Vec<(u64, &str)> = (0..3000).map(|oid| (oid, "x")).collect();
    commit(&storage, 1, &records);
    let second = commit(&storage, 2, &records);
    assert!(matches!(pack(&storage, 9).unwrap(), PackOutcome::Packed { .. }));
    assert_eq!(transactions(&storage).len(), 1);
    assert!((0..3000).all(|oid| history(&storage, oid) == [second]));
    assert_eq!(storage.info().size, 3000 * (50 + 100 + 1));
}
