//! Restoring every transaction of one database into another makes the same file, byte for byte.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use support::{Database, Folder, delete, store};
use zeolith_storage::{Storage, Write, WriteSet};
use zeolith_types::{Oid, Tid};

/// What Python's `copyTransactionsFrom` does over ZEO.
fn copy(from: &Database, to: &Database) {
    let mut transactions = from.storage.iterate(None, None).unwrap();
    while let Some(info) = transactions.next_transaction().unwrap() {
        let mut writes = Vec::new();
        let mut records = transactions.records().unwrap();
        while let Some(record) = records.next_record().unwrap() {
            let (oid, serial, data, prev_txn) = (record.oid, record.tid, record.data, record.data_txn);
            writes.push(Write::Restore { oid, serial, data: data.map(Into::into), prev_txn });
        }
        let (user, description, extension) = (info.user, info.description, info.extension);
        let (tid, status) = (Some(info.tid), info.status);
        let tid = to.commit_set(WriteSet { user, description, extension, tid, status, writes }).unwrap();
        assert_eq!(tid, info.tid);
    }
}

fn restore(oid: u64, serial: Tid, data: Option<&[u8]>, prev_txn: Option<Tid>) -> Write {
    Write::Restore { oid: Oid::new(oid), serial, data: data.map(|data| data.to_vec().into()), prev_txn }
}

#[test]
fn a_copy_with_backpointers_deletions_and_double_stores_is_the_same_file() {
    let original = Folder::new();
    let (database, _) = original.open();
    let first = database.commit(vec![store(1, Tid::ZERO, b"one"), store(2, Tid::ZERO, &[2; 40_000])]);
    let second = database.commit(vec![store(1, first, b"blob"), store(1, first, b"blob")]);
    let third = database.commit(vec![delete(2, first)]);
    // As an undo writes it: the data of an earlier transaction, by reference; then that by reference.
    let undo = |number: u64, writes: &dyn Fn(Tid) -> Vec<Write>| {
        let tid = Tid::new(third.get() + number);
        let writes = WriteSet { tid: Some(tid), status: b'p', writes: writes(tid), ..WriteSet::default() };
        database.commit_set(writes).unwrap()
    };
    let size = database.storage.info().size;
    let fourth = undo(1, &|tid| {
        vec![restore(1, tid, Some(b"one"), Some(first)), restore(2, tid, Some(&[2; 40_000]), Some(first))]
    });
    assert!(database.storage.info().size - size < 200, "the data is not written again");
    undo(2, &|tid| vec![restore(1, tid, Some(b"one"), Some(fourth)), restore(2, tid, None, None)]);
    undo(3, &|tid| {
        vec![
            restore(1, tid, Some(b"other data"), Some(second)),
            restore(3, tid, Some(b"x"), Some(Tid::new(5))),
        ]
    });
    database.commit(vec![]);
    assert_eq!(database.current(1).unwrap(), b"other data");
    assert_eq!(database.current(2), None);

    let twin = Folder::new();
    let (duplicate, _) = twin.open();
    copy(&database, &duplicate);
    drop((database, duplicate));
    assert!(original.bytes() == twin.bytes());
}

#[test]
fn iteration_tells_where_the_data_of_a_backpointer_is() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let first = database.commit(vec![store(1, Tid::ZERO, b"one")]);
    let second = Tid::new(first.get() + 9);
    let writes = vec![restore(1, second, Some(b"one"), Some(first))];
    database.commit_set(WriteSet { tid: Some(second), writes, ..WriteSet::default() }).unwrap();
    let mut transactions = database.storage.iterate(Some(second), None).unwrap();
    transactions.next_transaction().unwrap().unwrap();
    let record = transactions.records().unwrap().next_record().unwrap().unwrap();
    assert_eq!((record.tid, record.data_txn, record.data.unwrap()), (second, Some(first), "one".into()));
    let history = database.storage.history(Oid::new(1), 9, zeolith_storage::Patience::Wait).unwrap();
    let sizes: Vec<u64> = history.iter().map(|entry| entry.size).collect();
    assert_eq!(sizes, [0, 3]);
}
