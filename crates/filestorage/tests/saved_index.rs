//! The index on disk: used when it fits, ignored when not, true at every moment.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::os::unix::fs::MetadataExt;
use support::{Folder, set, store};
use zeolith_filestorage::IndexUse;
use zeolith_storage::{Found, Patience, Storage, StorageError};
use zeolith_types::{Oid, Tid};

#[test]
fn an_older_index_saves_the_scan_of_what_it_covers() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let first = database.commit(vec![store(1, Tid::ZERO, &[1; 200])]);
    database.storage.close().unwrap();
    drop(database);
    let covered = folder.bytes().len() as u64;
    let index = std::fs::read(folder.file("Data.fs.index")).unwrap();
    let (database, _) = folder.open();
    let second = database.commit(vec![store(1, first, b"two"), store(7, Tid::ZERO, b"seven")]);
    drop(database);
    std::fs::write(folder.file("Data.fs.index"), index).unwrap();
    let (database, report) = folder.open();
    assert_eq!(report.index, IndexUse::Used { up_to: covered });
    assert_eq!(report.scanned, report.size - covered);
    assert_eq!(
        (database.current(1).unwrap(), database.current(7).unwrap()),
        (b"two".to_vec(), b"seven".to_vec())
    );
    assert_eq!(database.storage.last_transaction(), second);
}

#[test]
fn an_index_that_covers_the_file_is_not_written_again() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    database.commit(vec![store(1, Tid::ZERO, &[1; 200])]);
    database.storage.close().unwrap();
    drop(database);
    // Whoever writes it puts another file in its place.
    let number = || std::fs::metadata(folder.file("Data.fs.index")).unwrap().ino();
    let written = number();
    let (database, _) = folder.open();
    assert_eq!(database.current(1).unwrap(), [1; 200]);
    database.storage.close().unwrap();
    drop(database);
    assert_eq!(number(), written);
    let (database, _) = folder.open();
    database.commit(vec![store(2, Tid::ZERO, &[2; 200])]);
    database.storage.close().unwrap();
    assert_ne!(number(), written, "now it lacks something");
}

#[test]
fn an_index_that_does_not_fit_the_file_is_ignored_with_a_reason() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let mut last = Tid::ZERO;
    for _ in 0..3 {
        last = database.commit(vec![store(1, last, &[1; 200]), store(2, last, &[2; 200])]);
    }
    database.storage.close().unwrap();
    drop(database);
    let good = std::fs::read(folder.file("Data.fs.index")).unwrap();
    let objects = |index: &[u8]| {
        std::fs::write(folder.file("Data.fs.index"), index).unwrap();
        let (database, report) = folder.open();
        assert_eq!(database.current(1).unwrap(), [1; 200]);
        assert_eq!(database.current(2).unwrap(), [2; 200]);
        report.index
    };
    assert!(matches!(objects(&good), IndexUse::Used { .. }));
    for at in 0..good.len() {
        let mut damaged = good.clone();
        damaged[at] ^= 0x01;
        objects(&damaged);
    }
    let IndexUse::Ignored { why } = objects(b"no pickle") else { panic!("it is none") };
    assert!(why.contains("opcode"), "{why}");
    let mut swapped = good.clone();
    let len = swapped.len();
    // The positions of both objects, six bytes each, stand before the end of the last tuple.
    swapped[len - 18..len - 6].rotate_left(6);
    let IndexUse::Ignored { why } = objects(&swapped) else { panic!("the positions are swapped") };
    assert!(why.contains("the index says"), "{why}");
}

#[test]
fn an_index_of_another_file_is_ignored() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    database.commit(vec![store(1, Tid::ZERO, &[1; 900])]);
    database.storage.close().unwrap();
    drop(database);
    let index = std::fs::read(folder.file("Data.fs.index")).unwrap();
    let other = Folder::new();
    let (database, _) = other.open();
    database.commit(vec![store(1, Tid::ZERO, &[1; 20])]);
    drop(database);
    std::fs::write(other.file("Data.fs.index"), index).unwrap();
    let IndexUse::Ignored { why } = other.open().1.index else { panic!("it is not its own") };
    assert!(why.contains("the file has only"), "{why}");
}

#[test]
fn a_checkpoint_leaves_out_what_is_not_published() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let big = vec![1; 2 << 20];
    let first = database.commit(vec![store(1, Tid::ZERO, &big)]);
    let covered = database.storage.info().size;
    let writes = vec![store(1, first, b"two"), store(1, first, b"three"), store(5, Tid::ZERO, b"five")];
    let id = database.vote(set(writes)).unwrap();
    let second = database.finish(id).unwrap();
    database.storage.checkpoint().unwrap();
    // As after a kill: nothing is closed.
    drop(database);
    let (database, report) = folder.open();
    assert_eq!(report.index, IndexUse::Used { up_to: covered });
    assert_eq!(database.current(1).unwrap(), b"three");
    assert_eq!(database.current(5).unwrap(), b"five");
    assert_eq!(database.storage.last_transaction(), second);
}

#[test]
fn a_checkpoint_beside_commits_is_always_true() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let mut last = database.commit((0..3000).map(|oid| store(oid, Tid::ZERO, &[0; 400])).collect());
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                database.storage.checkpoint().unwrap();
            }
        });
        for round in 1..60_u8 {
            let news = (0..20).map(|n| store(10_000 + u64::from(round) * 20 + n, Tid::ZERO, &[9; 3000]));
            last = database.commit((0..5).map(|oid| store(oid, last, &[round; 9000])).chain(news).collect());
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    drop(database);
    let (database, report) = folder.open();
    assert!(matches!(report.index, IndexUse::Used { .. }), "{:?}", report.index);
    assert_eq!((report.objects, report.last_tid), (3000 + 59 * 20, last));
    assert_eq!(database.current(4).unwrap(), [59; 9000]);
    assert_eq!(database.current(10_020).unwrap(), [9; 3000]);
}

/// The file as a clock leaves it that was set back between two transactions.
fn with_a_later_tid_before_the_last(folder: &Folder) -> Tid {
    let (database, _) = folder.open();
    let first = database.commit(vec![store(1, Tid::ZERO, &[1; 200])]);
    let second = database.commit(vec![store(2, Tid::ZERO, &[2; 200])]);
    database.storage.close().unwrap();
    drop(database);
    let later = Tid::new(second.get() + 1_000_000);
    let mut bytes = folder.bytes();
    for at in 0..bytes.len() - 8 {
        if bytes[at..at + 8] == first.to_bytes() {
            bytes[at..at + 8].copy_from_slice(&later.to_bytes());
        }
    }
    std::fs::write(folder.path(), &bytes).unwrap();
    later
}

#[test]
fn where_tids_fall_the_largest_is_the_last_with_an_index_and_without() {
    let folder = Folder::new();
    let later = with_a_later_tid_before_the_last(&folder);
    // This index says nothing of tids, so it fits, as one that Python has saved would.
    let (database, report) = folder.open();
    let IndexUse::Ignored { why } = report.index else { panic!("{:?}", report.index) };
    assert!(why.contains(&later.to_string()), "{why}");
    assert_eq!(database.storage.last_transaction(), later);
    drop(database);
    folder.drop_index();
    let (database, report) = folder.open();
    assert_eq!((report.last_tid, report.index), (later, IndexUse::Missing));
    database.storage.close().unwrap();
    drop(database);
    assert!(!folder.file("Data.fs.index").exists(), "an index would end with a tid that is too small");

    let (database, _) = folder.open();
    let third = database.commit(vec![store(3, Tid::ZERO, &[3; 200])]);
    assert!(third > later, "{third} has been given already");
    database.storage.close().unwrap();
    drop(database);
    let (database, report) = folder.open();
    assert!(matches!(report.index, IndexUse::Used { .. }), "{:?}", report.index);
    assert_eq!(database.storage.last_transaction(), third);
}

#[test]
fn a_record_without_room_for_it_is_not_read() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    database.commit(vec![store(1, Tid::ZERO, &[1; 5_000])]);
    let load = |room| database.storage.load_before(Oid::new(1), Tid::MAX, Patience::WaitUpTo(room));
    assert!(matches!(load(4_999), Err(StorageError::NoRoom { room: 5_000 })));
    assert!(matches!(load(5_000).unwrap().found, Found::Revision(revision) if revision.data.len() == 5_000));
}
