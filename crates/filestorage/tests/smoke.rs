//! The plain way of a transaction into a new file and out of it again.
#![allow(clippy::unwrap_used)]

use std::{path::Path, sync::Arc, time::Duration};
use zeolith_disk::RealDisk;
use zeolith_filestorage::{FileStorage, IndexUse, Options};
use zeolith_storage::{ConflictPolicy, Found, Patience, Storage, TransactionId, Voted, Write, WriteSet};
use zeolith_types::{Oid, Tid, Timestamp};

fn open(path: &Path) -> (FileStorage, zeolith_filestorage::OpenReport) {
    FileStorage::open(Arc::new(RealDisk), path, Options::default()).unwrap()
}

/// Annex A of the specification: the first transaction of a new database.
#[test]
fn the_first_transaction_looks_as_zodb_writes_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("Data.fs");
    let (storage, report) = open(&path);
    assert_eq!(report.index, IndexUse::Missing);
    let data = bytes::Bytes::from(vec![b'r'; 64]);
    let writes = WriteSet {
        description: "initial database creation".into(),
        writes: vec![Write::Store { oid: Oid::ZERO, serial: Tid::ZERO, data: data.clone().into() }],
        ..WriteSet::default()
    };
    let id = TransactionId(1);
    let voted = storage.vote(id, writes, ConflictPolicy::Refuse, Patience::Wait).unwrap();
    assert_eq!(voted, Voted::Ready { changed: vec![Oid::ZERO], resolved: vec![], undone: vec![] });
    let now = Timestamp::from_epoch(Duration::from_secs(1_776_083_670));
    let tid = storage.finish(&[id], now).pop().unwrap().unwrap();
    assert_eq!(tid, now.to_tid());
    let load = storage.load_before(Oid::ZERO, Tid::MAX, Patience::Wait).unwrap();
    assert_eq!((load.found, load.as_of), (Found::NoObject, Tid::ZERO));
    storage.publish(tid);
    let load = storage.load_before(Oid::ZERO, Tid::MAX, Patience::Wait).unwrap();
    assert!(matches!(load.found, Found::Revision(revision) if revision.data == data));
    storage.close().unwrap();
    drop(storage);

    let mut golden = b"FS30".to_vec();
    golden.extend(tid.to_bytes());
    golden.extend(b"\0\0\0\0\0\0\0\x9a \0\0\0\x19\0\0initial database creation");
    golden.extend([0; 8]);
    golden.extend(tid.to_bytes());
    golden.extend(b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\0\0\x40");
    golden.extend(&data);
    golden.extend(b"\0\0\0\0\0\0\0\x9a");
    assert_eq!(std::fs::read(&path).unwrap(), golden);
    let lock = std::fs::read_to_string(folder.path().join("Data.fs.lock")).unwrap();
    assert_eq!(lock.split_whitespace().collect::<Vec<_>>(), [&std::process::id().to_string(), "zeolith"]);

    let (storage, report) = open(&path);
    assert_eq!(report.index, IndexUse::Used { up_to: 4 + 0x9a + 8 });
    assert_eq!((report.objects, report.last_tid, report.scanned), (1, tid, 0));
    assert_eq!(storage.current_tid(Oid::ZERO, Patience::Wait).unwrap(), tid);
    assert_eq!(storage.new_oids(2), [Oid::new(1), Oid::new(2)]);
}
