//! What does not fit the format, or what an operator does not want, is refused at the vote.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use support::{Folder, set, store};
use zeolith_filestorage::Options;
use zeolith_storage::{Patience, Storage, StorageError, WriteSet};
use zeolith_types::{Oid, Tid};

#[test]
fn texts_that_are_too_long_are_refused_in_the_words_of_the_reference() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let long = || vec![b'x'; 65_536].into();
    let fits = || vec![b'x'; 65_535].into();
    let cases = [
        ("user name too long", WriteSet { user: long(), ..WriteSet::default() }),
        ("description too long", WriteSet { description: long(), ..WriteSet::default() }),
        ("too much extension data", WriteSet { extension: long(), ..WriteSet::default() }),
    ];
    for (words, writes) in cases {
        let StorageError::Format(text) = database.vote(writes).unwrap_err() else { panic!("{words}") };
        assert_eq!(text, words);
    }
    let (user, description, extension) = (fits(), fits(), fits());
    database.commit_set(WriteSet { user, description, extension, ..WriteSet::default() }).unwrap();
    assert_eq!(database.storage.info().size, 4 + 23 + 3 * 65_535 + 8);
}

#[test]
fn a_status_that_would_hide_or_cut_off_the_transaction_is_refused() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    for status in [b'c', b'u', b'x', 0xff] {
        let writes = WriteSet { status, ..WriteSet::default() };
        assert!(matches!(database.vote(writes), Err(StorageError::Format(_))));
    }
    let writes = WriteSet { tid: Some(Tid::new(u64::MAX)), ..WriteSet::default() };
    assert!(matches!(database.vote(writes), Err(StorageError::Format(_))));
    assert!(matches!(database.vote(set(vec![store(1, Tid::ZERO, b"")])), Err(StorageError::Format(_))));
}

#[test]
fn a_quota_ends_the_growth_and_counts_what_is_voted() {
    let folder = Folder::new();
    let options = Options { quota: Some(5_000), ..Options::default() };
    let (database, _) = folder.try_open(options).unwrap();
    let write = |oid| set(vec![store(oid, Tid::ZERO, &[1; 2_000])]);
    let waiting = database.vote(write(1)).unwrap();
    database.commit_set(write(2)).unwrap();
    // A record may begin below the quota and end beyond.
    database.commit_set(write(3)).unwrap();
    assert!(matches!(database.vote(write(4)), Err(StorageError::Quota { quota: 5_000 })));
    database.finish(waiting).unwrap();
    database.storage.abort(waiting);
    assert!(database.vote(set(vec![])).is_ok());
}

#[test]
fn a_brought_tid_must_come_after_the_last_one() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let bring = |tid| WriteSet { tid: Some(tid), ..set(vec![store(2, Tid::ZERO, b"copy")]) };
    let overtaken = database.vote(bring(Tid::new(1000))).unwrap();
    let first = database.commit(vec![store(1, Tid::ZERO, b"one")]);
    assert!(matches!(database.vote(bring(first)), Err(StorageError::Format(_))));
    assert!(matches!(database.finish(overtaken), Err(StorageError::Format(_))));
    let after = Tid::new(first.get() + 1000);
    assert_eq!(database.commit_set(bring(after)).unwrap(), after);
    assert_eq!(database.tids(), [first, after]);
}

#[test]
fn a_file_whose_tids_went_back_shows_everything_and_goes_on_after_the_largest() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let first = database.commit(vec![store(1, Tid::ZERO, b"one")]);
    let start = database.storage.info().size as usize;
    database.commit(vec![store(2, Tid::ZERO, b"two")]);
    drop(database);
    let mut bytes = folder.bytes();
    let earlier = Tid::new(first.get() - 1000);
    for at in [start, start + 23 + 8] {
        bytes[at..at + 8].copy_from_slice(&earlier.to_bytes());
    }
    folder.put(&bytes);
    let (database, report) = folder.open();
    assert_eq!((report.findings.len(), report.last_tid), (1, first));
    assert_eq!(database.current(2).unwrap(), b"two");
    assert!(database.commit(vec![store(1, first, b"three")]) > first);
}

#[test]
fn a_large_record_is_not_believed_beyond_its_transaction() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let first = database.commit(vec![store(1, Tid::ZERO, &[1; 100])]);
    let second = database.commit(vec![store(2, Tid::ZERO, &[2; 3 << 20])]);
    database.commit(vec![store(3, Tid::ZERO, &[3; 3 << 20])]);
    assert!(first < second);
    database.storage.close().unwrap();
    drop(database);
    // The second record claims a part of the third; nothing is scanned, so nobody has noticed yet.
    let mut bytes = folder.bytes();
    let record = 4 + (23 + 42 + 100 + 8) + 23;
    bytes[record + 34..record + 42].copy_from_slice(&(4_u64 << 20).to_be_bytes());
    std::fs::write(folder.path(), bytes).unwrap();
    let (database, report) = folder.open();
    assert_eq!(report.scanned, 0);
    let load = database.storage.load_before(Oid::new(2), Tid::MAX, zeolith_storage::Patience::Wait);
    assert!(matches!(load, Err(StorageError::Corrupt { at, .. }) if at == record as u64));
}

#[test]
fn a_large_record_is_not_copied_by_a_reader_that_may_not_wait() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let large = vec![7; 1 << 20];
    database.commit(vec![store(1, Tid::ZERO, &large), store(2, Tid::ZERO, &large[1..])]);
    let load = |oid, patience| database.storage.load_before(Oid::new(oid), Tid::MAX, patience);
    assert!(matches!(load(1, Patience::Now), Err(StorageError::WouldBlock)));
    load(1, Patience::Wait).unwrap();
    // Whether a smaller one is in memory is for the disk to say.
    assert!(matches!(load(2, Patience::Now), Ok(_) | Err(StorageError::WouldBlock)));
    assert_eq!(database.current(1).unwrap(), large);
}
