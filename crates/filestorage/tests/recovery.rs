//! What opening makes of files that are not as they should be.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use support::{Folder, delete, noon, set, store};
use zeolith_filestorage::{Finding, IndexUse, Options, TailTrouble};
use zeolith_storage::{Patience, Storage, StorageError};
use zeolith_types::{Oid, Tid};

/// Three transactions and where each ends.
fn three_transactions() -> (Vec<u8>, Vec<usize>, Vec<Tid>) {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let mut ends = vec![4];
    let mut tids = Vec::new();
    let mut last = Tid::ZERO;
    for round in 0..3_u8 {
        let writes = vec![store(1, last, &[round; 30]), store(2 + u64::from(round), Tid::ZERO, &[round; 50])];
        last = database.commit(writes);
        tids.push(last);
        ends.push(database.storage.info().size as usize);
    }
    drop(database);
    (folder.bytes(), ends, tids)
}

#[test]
fn a_file_cut_off_anywhere_has_all_transactions_before_the_cut() {
    let (bytes, ends, tids) = three_transactions();
    let folder = Folder::new();
    // Around every end, and here and there in between.
    let near_end = |len: &usize| ends.iter().any(|end| end.abs_diff(*len) < 30);
    for len in (4..=bytes.len()).filter(|len| near_end(len) || len % 11 == 0) {
        folder.put(&bytes[..len]);
        let (database, report) = folder.open();
        let whole = ends.iter().skip(1).filter(|end| **end <= len).count();
        assert_eq!(database.tids(), tids[..whole], "cut at {len}");
        assert_eq!(database.storage.last_transaction(), tids[..whole].last().copied().unwrap_or(Tid::ZERO));
        let rest = len - ends[whole];
        match report.findings.as_slice() {
            [] => assert_eq!(rest, 0),
            [Finding::CutOff { from, to, saved: None, why: TailTrouble::ShortHeader }] => {
                assert!(rest < 23 && (*from, *to) == (ends[whole] as u64, len as u64));
            }
            [Finding::CutOff { from, to, saved: Some(path), why: TailTrouble::TooLong }] => {
                assert_eq!((*from, *to), (ends[whole] as u64, len as u64));
                assert_eq!(std::fs::read(path).unwrap(), bytes[ends[whole]..len]);
                std::fs::remove_file(path).unwrap();
            }
            other => panic!("cut at {len}: {other:?}"),
        }
        let tid = database.commit(vec![store(100, Tid::ZERO, b"life goes on")]);
        assert_eq!(database.tids().last(), Some(&tid));
        drop(database);
        folder.drop_index();
        assert_eq!(folder.open().1.findings, [], "cut at {len}");
    }
}

#[test]
fn a_file_with_any_byte_changed_is_opened_or_refused_but_never_breaks_us() {
    let (bytes, _, _) = three_transactions();
    let folder = Folder::new();
    for at in 0..bytes.len() {
        for change in [0xff, 0x01, 0x80] {
            let mut damaged = bytes.clone();
            damaged[at] ^= change;
            folder.put(&damaged);
            let Ok((database, report)) = folder.try_open(Options { read_only: true, ..Options::default() })
            else {
                continue;
            };
            let oids: Vec<u64> = (0..6).collect();
            for oid in oids {
                for before in [Tid::MAX, Tid::new(u64::MAX), noon().to_tid()] {
                    let _ = database.storage.load_before(Oid::new(oid), before, Patience::Wait);
                }
                let _ = database.storage.history(Oid::new(oid), 99, Patience::Wait);
            }
            let _ = database.storage.last_changes(99);
            let _ = database.storage.changes_since(Tid::ZERO, 99);
            let _ = database.storage.iterate(Some(noon().to_tid()), None);
            assert!(report.findings.iter().all(|finding| !finding.to_string().is_empty()));
        }
    }
}

#[test]
fn junk_after_the_last_transaction_is_saved_and_cut_off() {
    let (bytes, ends, tids) = three_transactions();
    let folder = Folder::new();
    let junk = [0_u8; 100];
    folder.put(&[bytes.as_slice(), &junk].concat());
    std::fs::write(folder.file("Data.fs.tr0"), b"from another day").unwrap();
    let (database, report) = folder.open();
    let end = ends[3] as u64;
    let saved = Some(folder.file("Data.fs.tr1"));
    let expected = Finding::CutOff { from: end, to: end + 100, saved, why: TailTrouble::BadHeader };
    assert_eq!(report.findings, [expected]);
    assert!(report.findings[0].to_string().contains("Data.fs.tr1"));
    assert_eq!(database.tids(), tids);
    assert_eq!(std::fs::read(folder.file("Data.fs.tr0")).unwrap(), b"from another day");
    assert_eq!(std::fs::read(folder.file("Data.fs.tr1")).unwrap(), junk);
}

#[test]
fn a_transaction_that_python_voted_and_never_finished_is_forgotten_with_its_tid() {
    let (mut bytes, ends, tids) = three_transactions();
    bytes[ends[2] + 16] = b'c';
    let folder = Folder::new();
    folder.put(&bytes);
    let (database, report) = folder.open();
    assert!(matches!(report.findings.as_slice(), [Finding::CutOff { why: TailTrouble::Unfinished, .. }]));
    assert_eq!((report.last_tid, database.storage.last_transaction()), (tids[1], tids[1]));
    assert_eq!(folder.bytes(), bytes[..ends[2]]);
}

#[test]
fn damage_in_the_middle_is_refused_with_its_position() {
    let (bytes, ends, _) = three_transactions();
    let folder = Folder::new();
    let damage = |at: usize, with: &[u8]| {
        let mut damaged = bytes.clone();
        damaged[at..at + with.len()].copy_from_slice(with);
        folder.put(&damaged);
        let StorageError::Corrupt { path, at, what } = folder.refusal() else { panic!("damage at {at}") };
        assert_eq!((path, folder.bytes()), (folder.path(), damaged));
        (at as usize, what)
    };
    let (first, second) = (ends[0], ends[1]);
    assert_eq!(damage(second + 8, &[0; 8]), (second, "invalid transaction header".into()));
    let record = first + 23;
    let exceeds = || "data record exceeds transaction record".to_string();
    assert_eq!(damage(record + 34, &[0, 0, 0, 0, 0, 0, 1, 0]), (record, exceeds()));
    assert_eq!(damage(record + 24, &[0xff; 8]), (record, exceeds()));
    let trailing = "redundant transaction length check failed".to_string();
    assert_eq!(damage(second - 8, &[0xff; 8]), (first, trailing));
}

#[test]
fn a_wrong_previous_pointer_is_only_reported() {
    let (mut bytes, ends, tids) = three_transactions();
    let record = ends[1] + 23;
    bytes[record + 16..record + 24].fill(0);
    let folder = Folder::new();
    folder.put(&bytes);
    let (database, report) = folder.open();
    let should = ends[0] as u64 + 23;
    let expected = Finding::WrongPrevious { at: record as u64, oid: Oid::new(1), says: 0, should };
    assert_eq!(report.findings, [expected]);
    assert_eq!(database.tids(), tids);
}

/// Found by a fuzzer: only the first of them was looked at, so old revisions were lost without a word.
#[test]
fn a_wrong_previous_pointer_of_an_objects_second_record_in_a_transaction_is_reported_too() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let old = database.commit(vec![store(1, Tid::ZERO, b"old")]);
    database.commit(vec![store(1, old, b"first"), store(2, Tid::ZERO, b"other")]);
    drop(database);
    let mut bytes = folder.bytes();
    let previous = 4 + 23;
    let first = previous + 42 + 3 + 8 + 23;
    let second = first + 42 + 5;
    // The other object's record becomes another one of the first object, with no pointer.
    bytes[second + 7] = 1;
    folder.put(&bytes);
    let (_, report) = folder.open();
    let (at, should) = (second as u64, previous as u64);
    assert_eq!(report.findings, [Finding::WrongPrevious { at, oid: Oid::new(1), says: 0, should }]);
}

#[test]
fn files_that_are_no_database_are_refused_by_name() {
    let folder = Folder::new();
    for (content, words) in
        [(&b"FS21 and more"[..], "Python 2"), (b"PK\x03\x04zip", "not FS30"), (b"FS", "2 bytes")]
    {
        folder.put(content);
        let error = folder.refusal().to_string();
        assert!(error.contains(words) && error.contains("Data.fs"), "{error}");
        assert_eq!(folder.bytes(), content);
    }
    folder.put(b"");
    assert_eq!(folder.open().0.tids(), []);
    assert_eq!(folder.bytes(), b"FS30");
}

#[test]
fn a_second_opening_for_writing_is_refused_and_says_who_was_first() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let StorageError::Locked(why) = folder.refusal() else { panic!("it must be locked") };
    assert!(why.contains("Data.fs.lock") && why.contains(&std::process::id().to_string()), "{why}");
    let read_only = Options { read_only: true, ..Options::default() };
    assert!(folder.try_open(read_only).is_ok());
    drop(database);
    folder.open();
}

#[test]
fn reading_only_changes_nothing_and_leaves_the_tail_alone() {
    let (mut bytes, _, tids) = three_transactions();
    bytes.extend([0; 30]);
    let folder = Folder::new();
    folder.put(&bytes);
    let (database, report) = folder.try_open(Options { read_only: true, ..Options::default() }).unwrap();
    assert!(matches!(report.findings.as_slice(), [Finding::LeftOut { why: TailTrouble::BadHeader, .. }]));
    assert_eq!(database.tids(), tids);
    assert!(matches!(database.vote(set(vec![])), Err(StorageError::ReadOnly)));
    database.storage.checkpoint().unwrap();
    database.storage.close().unwrap();
    assert_eq!(folder.bytes(), bytes);
    assert!(!folder.file("Data.fs.index").exists() && !folder.file("Data.fs.lock").exists());
}

#[test]
fn a_missing_file_is_made_only_for_writing() {
    let folder = Folder::new();
    let missing = folder.try_open(Options { read_only: true, ..Options::default() }).err().unwrap();
    assert!(
        matches!(missing, StorageError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    );
    let both = Options { read_only: true, create: true, ..Options::default() };
    assert!(matches!(folder.try_open(both), Err(StorageError::Format(_))));
    let stop = Options { stop: Some(Tid::ZERO), ..Options::default() };
    assert!(matches!(folder.try_open(stop), Err(StorageError::Format(_))));
}

#[test]
fn creating_starts_anew_whatever_is_there() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    database.commit(vec![store(1, Tid::ZERO, &[1; 200])]);
    database.storage.close().unwrap();
    drop(database);
    let (database, report) = folder.try_open(Options { create: true, ..Options::default() }).unwrap();
    assert_eq!((database.tids(), report.index), (vec![], IndexUse::NotWanted));
    assert_eq!(database.current(1), None);
}

#[test]
fn time_travel_shows_the_database_before_a_transaction() {
    let (bytes, ends, tids) = three_transactions();
    let folder = Folder::new();
    folder.put(&bytes);
    let then = Options { read_only: true, stop: Some(tids[2]), ..Options::default() };
    let (database, report) = folder.try_open(then).unwrap();
    assert_eq!((database.tids(), report.size), (tids[..2].to_vec(), ends[2] as u64));
    assert_eq!(database.current(1).unwrap(), [1; 30]);
    assert_eq!(database.current(4), None);
}

#[test]
fn a_deleted_object_stays_deleted_across_openings() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let first = database.commit(vec![store(1, Tid::ZERO, b"one"), store(2, Tid::ZERO, b"two")]);
    database.commit(vec![delete(1, first)]);
    drop(database);
    let (database, _) = folder.open();
    assert_eq!((database.current(1), database.current(2)), (None, Some(b"two".to_vec())));
}

#[test]
fn a_last_tid_in_the_future_is_reported() {
    let (bytes, _, tids) = three_transactions();
    let folder = Folder::new();
    folder.put(&bytes);
    let clock =
        || zeolith_types::Timestamp::from_epoch(noon().since_epoch() - std::time::Duration::from_secs(60));
    let (_, report) = folder.try_open(Options { clock: Some(clock), ..Options::default() }).unwrap();
    let [Finding::InFuture { tid, by }] = report.findings.as_slice() else { panic!("{report:?}") };
    assert_eq!((*tid, by.as_secs()), (tids[2], 60));
}
