//! The room behind the last transaction: when it is there, who sees it, and what a crash in it leaves.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::time::Duration;
use support::{Database, Folder, noon, set, store};
use zeolith_disk::faults::{EIO, ENOSPC, Operation};
use zeolith_filestorage::{Finding, Options, TailTrouble};
use zeolith_storage::{Storage, StorageError, TransactionId};
use zeolith_types::{Tid, Timestamp};

const SECTOR: usize = 512;

/// Commits until the file is longer than what is in it.
fn commit_until_there_is_room(folder: &Folder, database: &Database) -> Vec<Tid> {
    let mut tids = Vec::new();
    while len(folder) == size(database) {
        assert!(tids.len() < 10, "there is no room after {} commits", tids.len());
        let oid = database.storage.new_oids(1)[0].get();
        tids.push(database.commit(vec![store(oid, Tid::ZERO, b"one of many")]));
    }
    tids
}

fn size(database: &Database) -> u64 {
    database.storage.info().size
}

fn len(folder: &Folder) -> u64 {
    std::fs::metadata(folder.path()).unwrap().len()
}

#[test]
fn commits_that_follow_one_another_find_room_and_whoever_reads_does_not_see_it() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let mut tids = commit_until_there_is_room(&folder, &database);
    let long = len(&folder);
    for oid in 100..200 {
        tids.push(database.commit(vec![store(oid, Tid::ZERO, &[7; 300])]));
    }
    assert_eq!(len(&folder), long, "they are written where there was room");
    let (reader, report) = folder.try_open(Options { read_only: true, ..Options::default() }).unwrap();
    assert_eq!((report.findings, report.size), (vec![], size(&database)));
    assert_eq!((reader.tids(), reader.storage.last_transaction()), (tids.clone(), tids[tids.len() - 1]));
    // More than there is room for: the file ends with them, or there is new room.
    for oid in 200..1000 {
        tids.push(database.commit(vec![store(oid, Tid::ZERO, &[8; 700])]));
    }
    assert!(size(&database) > long && len(&folder) > size(&database));
    let large = database.commit(vec![store(1000, Tid::ZERO, &[9; 1 << 20])]);
    assert_eq!(len(&folder), size(&database), "a very large one is not followed by room");
    tids.push(large);
    assert_eq!(database.tids(), tids);
}

#[test]
fn a_large_transaction_of_a_lone_client_is_followed_by_room_for_another_one() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let mut tids = commit_until_there_is_room(&folder, &database);
    let large = |oid| vec![store(oid, Tid::ZERO, &[9; 600_000])];
    tids.push(database.commit(large(100)));
    let long = len(&folder);
    assert!(long > size(&database) + 600_000);
    let writes = folder.faults.count(Operation::Write);
    let id = database.vote(set(large(101))).unwrap();
    tids.push(database.finish(id).unwrap());
    assert_eq!(folder.faults.count(Operation::Write), writes + 2, "itself, and its status");
    database.storage.publish(tids[tids.len() - 1]);
    assert_eq!(len(&folder), long, "there was room for it");
    assert!(database.storage.wants_room());
    let other = database.vote(set(vec![store(102, Tid::ZERO, b"another client's")])).unwrap();
    database.storage.make_room();
    assert_eq!(len(&folder), long, "two that commit have no processor to spare");
    database.storage.abort(other);
    assert!(!database.storage.wants_room(), "it was seen to");
    let writes = folder.faults.count(Operation::Write);
    let id = database.vote(set(large(103))).unwrap();
    tids.push(database.finish(id).unwrap());
    assert!(size(&database) < long && len(&folder) > long, "the room ends in the middle of it");
    assert_eq!(folder.faults.count(Operation::Write), writes + 2, "so it has its status last too");
    drop(database);
    let (database, report) = folder.open();
    assert_eq!((database.tids(), report.findings), (tids, vec![]));
}

#[test]
fn no_room_is_made_where_a_sync_has_failed() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    commit_until_there_is_room(&folder, &database);
    let id = database.vote(set(vec![store(100, Tid::ZERO, &[9; 600_000])])).unwrap();
    let tid = database.finish(id).unwrap();
    database.storage.publish(tid);
    assert!(database.storage.wants_room());
    let id = database.vote(set(vec![store(101, Tid::ZERO, b"lost")])).unwrap();
    folder.faults.fail(Operation::Sync, 0, 1, EIO);
    database.finish(id).unwrap_err();
    let writes = folder.faults.count(Operation::Write);
    database.storage.make_room();
    assert_eq!(folder.faults.count(Operation::Write), writes);
}

#[test]
fn it_goes_when_commits_pause_and_when_the_storage_is_closed() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let mut tids = commit_until_there_is_room(&folder, &database);
    let allocated = folder.faults.count(Operation::Allocate);
    let voted = database.vote(set(vec![store(50, Tid::ZERO, b"voted")])).unwrap();
    let long = len(&folder);
    database.storage.rest().unwrap();
    assert_eq!(len(&folder), long, "its space is reserved behind the end of the file");
    let tid = database.finish(voted).unwrap();
    database.publish(tid);
    tids.push(tid);
    let syncs = folder.faults.count(Operation::Sync);
    database.storage.rest().unwrap();
    assert_eq!(len(&folder), size(&database));
    assert_eq!(
        folder.faults.count(Operation::Sync),
        syncs + 1,
        "durably: what comes next does not reckon with it"
    );
    assert_eq!(folder.faults.count(Operation::Allocate), allocated, "nothing is reserved for nobody");
    tids.extend(commit_until_there_is_room(&folder, &database));
    database.storage.close().unwrap();
    assert_eq!(len(&folder), size(&database));
    drop(database);
    let (database, report) = folder.open();
    assert_eq!((database.tids(), report.findings), (tids, vec![]));
}

#[test]
fn what_a_killed_process_leaves_is_cut_off_without_a_word() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let tids = commit_until_there_is_room(&folder, &database);
    let end = size(&database);
    drop(database);
    assert!(len(&folder) > end);
    let (database, report) = folder.open();
    assert_eq!((database.tids(), report.findings), (tids, vec![]));
    assert_eq!(len(&folder), end);
    assert!(!folder.file("Data.fs.tr0").exists());
}

#[test]
fn something_else_behind_the_header_of_the_room_is_kept() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    commit_until_there_is_room(&folder, &database);
    let end = size(&database) as usize;
    drop(database);
    let mut bytes = folder.bytes();
    bytes[end + 5000] = 1;
    folder.overwrite(&bytes);
    let (_, report) = folder.open();
    let saved = Some(folder.file("Data.fs.tr0"));
    let (from, to) = (end as u64, bytes.len() as u64);
    assert_eq!(report.findings, [Finding::CutOff { from, to, saved, why: TailTrouble::Unfinished }]);
    assert_eq!(std::fs::read(folder.file("Data.fs.tr0")).unwrap(), bytes[end..]);
}

#[test]
fn damage_in_the_middle_is_seen_though_the_file_ends_with_room() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    commit_until_there_is_room(&folder, &database);
    let end = size(&database) as usize;
    drop(database);
    let mut bytes = folder.bytes();
    bytes[4 + 8..4 + 16].fill(0);
    for bytes in [&bytes[..], &bytes[..end + 23], &bytes[..end]] {
        folder.put(bytes);
        let StorageError::Corrupt { at: 4, what, .. } = folder.refusal() else { panic!("it is damaged") };
        assert!(what.contains("invalid transaction header"), "{what}");
        assert_eq!(folder.bytes(), bytes);
    }
}

#[test]
fn a_disk_without_space_for_room_has_space_for_commits() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let mut tids: Vec<Tid> =
        (0..3).map(|oid| database.commit(vec![store(oid, Tid::ZERO, b"quick")])).collect();
    assert_eq!(len(&folder), size(&database));
    // The transaction is written, the zeros are not.
    folder.faults.fail(Operation::Write, 1, 1, ENOSPC);
    tids.push(database.commit(vec![store(3, Tid::ZERO, b"quick")]));
    assert_eq!(len(&folder), size(&database) + 11, "half of the header");
    let killed = Folder::new();
    killed.put(&folder.bytes());
    assert_eq!(killed.open().0.tids(), tids);
    tids.push(database.commit(vec![store(4, Tid::ZERO, b"quick")]));
    drop(database);
    let (database, report) = folder.open();
    assert_eq!((database.tids(), report.findings), (tids, vec![]));
}

#[test]
fn a_batch_whose_status_can_not_be_written_is_gone() {
    for spared in [0, 1] {
        let folder = Folder::new();
        let (database, _) = folder.open();
        let mut tids = commit_until_there_is_room(&folder, &database);
        let end = size(&database);
        let id = database.vote(set(vec![store(99, Tid::ZERO, b"not this one")])).unwrap();
        folder.faults.fail(Operation::Write, spared, 1, EIO);
        assert!(matches!(database.finish(id), Err(StorageError::Io { .. })));
        assert_eq!((len(&folder), size(&database)), (end, end));
        tids.push(database.commit(vec![store(100, Tid::ZERO, b"this one")]));
        drop(database);
        let (database, report) = folder.open();
        assert_eq!((database.tids(), report.findings), (tids, vec![]));
    }
}

/// A database with room, what the file was before a batch and after it, and where its transactions end.
struct Batch {
    folder: Folder,
    before: (Vec<u8>, Vec<u8>),
    after: (Vec<u8>, Vec<u8>),
    durable: Vec<Tid>,
    tids: Vec<Tid>,
    ends: Vec<usize>,
    syncs: usize,
}

/// Two transactions, the first of which begins `before_boundary` bytes before the end of a sector.
fn batch_at(before_boundary: usize, pause: Duration) -> Batch {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let mut durable = commit_until_there_is_room(&folder, &database);
    let overhead = 23 + 42 + 8;
    let fill = (3 * SECTOR - before_boundary - (size(&database) as usize + overhead) % SECTOR) % SECTOR + 1;
    let fill = if fill == 1 { SECTOR } else { fill - 1 };
    durable.push(database.commit(vec![store(60, Tid::ZERO, &vec![7; fill])]));
    let start = size(&database) as usize;
    assert_eq!(start % SECTOR, (SECTOR - before_boundary) % SECTOR);
    let mark = || std::fs::read(folder.file("Data.fs.synced")).unwrap();
    let before = (folder.bytes(), mark());
    let later = Timestamp::from_epoch(noon().since_epoch() + pause);
    let ids: Vec<TransactionId> = [900, 40]
        .into_iter()
        .zip(70..)
        .map(|(len, oid)| database.vote(set(vec![store(oid, Tid::ZERO, &vec![5; len])])).unwrap())
        .collect();
    let syncs = folder.faults.count(Operation::Sync);
    let tids: Vec<Tid> = database.storage.finish(&ids, later).into_iter().map(Result::unwrap).collect();
    let syncs = folder.faults.count(Operation::Sync) - syncs;
    let ends = tids.iter().map(|tid| {
        database.storage.publish(*tid);
        size(&database) as usize
    });
    let ends = std::iter::once(start).chain(ends).collect();
    let after = (folder.bytes(), mark());
    drop(database);
    Batch { folder, before, after, durable, tids, ends, syncs }
}

impl Batch {
    /// What the disk can have had before the batch: the header of the room, which stands in one sector or two, had
    /// reached it or not, and what had not reads as zeros.
    fn before(&self) -> Vec<Vec<u8>> {
        let start = self.ends[0];
        let boundary = (start + 1).next_multiple_of(SECTOR);
        let mut states = vec![self.before.0.clone()];
        for piece in [start..boundary, boundary..boundary + 23] {
            for mut state in states.clone() {
                state[piece.clone()].fill(0);
                if !states.contains(&state) {
                    states.push(state);
                }
            }
        }
        states
    }

    /// What is on the disk when these sectors are as they were.
    fn put(&self, before: &[u8], lost: impl Fn(usize) -> bool, is_hidden: bool) -> Vec<u8> {
        let mut bytes = self.after.0.clone();
        if is_hidden {
            bytes[self.ends[0] + 16] = b'c';
        }
        for (sector, chunk) in bytes.chunks_mut(SECTOR).enumerate().filter(|(sector, _)| lost(*sector)) {
            chunk.copy_from_slice(&before[sector * SECTOR..][..chunk.len()]);
        }
        self.folder.overwrite(&bytes);
        std::fs::write(self.folder.file("Data.fs.synced"), &self.before.1).unwrap();
        bytes
    }

    /// The transactions that must be there, with these bytes in the file.
    fn expected(&self, bytes: &[u8]) -> Vec<Tid> {
        let spans = self.ends.windows(2);
        let is_whole =
            |(span, _): &(&[usize], &Tid)| bytes[span[0]..span[1]] == self.after.0[span[0]..span[1]];
        let whole = spans.zip(&self.tids).take_while(is_whole).map(|(_, tid)| *tid);
        self.durable.iter().copied().chain(whole).collect()
    }
}

#[test]
fn whatever_sectors_a_power_failure_takes_from_a_batch_the_rest_is_a_beginning() {
    let mut twice = 0;
    // The clock's minute is over: the tid differs from the one before in more than its last bytes.
    for pause in [Duration::ZERO, Duration::from_secs(60 * 300)] {
        for before_boundary in (0..32).chain([100, SECTOR - 1]) {
            let batch = batch_at(before_boundary, pause);
            let first = batch.ends[0] / SECTOR;
            // With the header of the room behind it.
            let last = (batch.ends[2] + 22) / SECTOR;
            let is_marked = batch.before.1 != batch.after.1;
            let begin = |tids: &[Tid], at: usize| tids[at].to_bytes()[..before_boundary.min(8)].to_vec();
            let differs = (1..8).contains(&before_boundary)
                && begin(&batch.tids, 0) != begin(&batch.durable, batch.durable.len() - 1);
            assert!(!is_marked, "there are no blank pieces");
            assert_eq!(batch.syncs, 1 + usize::from(differs), "{before_boundary} bytes before a sector ends");
            twice += u32::from(differs);
            let sectors = last - first + 1;
            let states = batch.before();
            assert_eq!(states.len(), if (1..=16).contains(&before_boundary) { 4 } else { 2 });
            for (before, case) in
                states.iter().flat_map(|before| (0..1_u32 << sectors).map(move |case| (before, case)))
            {
                let lost =
                    |sector: usize| (first..=last).contains(&sector) && case & 1 << (sector - first) != 0;
                // What is synced twice has no status as long as anything can be lost.
                let bytes = batch.put(before, lost, differs);
                let (database, report) = batch.folder.open();
                let expected = batch.expected(&bytes);
                let header = &before[batch.ends[0]..][..23];
                let context = || format!("{before_boundary} {case:b} {header:?} {:?}", report.findings);
                assert_eq!(database.tids(), expected, "{}", context());
                assert_eq!(
                    database.storage.last_transaction(),
                    expected[expected.len() - 1],
                    "{}",
                    context()
                );
                database.commit(vec![store(99, Tid::ZERO, b"life goes on")]);
                drop(database);
                batch.folder.drop_index();
                assert_eq!(batch.folder.open().1.findings, [], "{}", context());
                let _ = std::fs::remove_file(batch.folder.file("Data.fs.tr0"));
            }
        }
    }
    assert!(twice > 3, "{twice}");
}
