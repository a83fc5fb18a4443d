//! What a power failure leaves of a batch that was being written, and what is not to be taken for that.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use support::{Database, Folder, noon, set, store};
use zeolith_disk::faults::{EIO, Operation};
use zeolith_filestorage::{Finding, Options, TailTrouble};
use zeolith_storage::{Storage, StorageError};
use zeolith_types::Tid;

const SECTOR: usize = 512;

/// A database with two commits, and what a batch of three more would have made of it.
struct Torn {
    folder: Folder,
    /// The durable transactions, and where they end.
    durable: (Vec<Tid>, usize),
    /// The file with the batch written whole, and where its transactions end.
    whole: Vec<u8>,
    ends: Vec<usize>,
    tids: Vec<Tid>,
    /// The watermark of before the batch.
    watermark: Vec<u8>,
}

fn batch(database: &Database) -> (Vec<Tid>, Vec<usize>) {
    let sets = [vec![(10, 700)], vec![(11, 30), (12, 1500)], vec![(13, 20)]];
    let ids = sets.map(|objects| {
        let writes = objects.iter().map(|(oid, len)| store(*oid, Tid::ZERO, &vec![7; *len]));
        database.vote(set(writes.collect())).unwrap()
    });
    let mut end = database.storage.info().size as usize;
    let mut ends = Vec::new();
    let tids: Vec<Tid> = database.storage.finish(&ids, noon()).into_iter().map(Result::unwrap).collect();
    for tid in &tids {
        database.storage.publish(*tid);
        end = database.storage.info().size as usize;
        ends.push(end);
    }
    assert_eq!(ends.last(), Some(&end));
    (tids, ends)
}

fn torn() -> Torn {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let first = database.commit(vec![store(1, Tid::ZERO, &[1; 300])]);
    let second = database.commit(vec![store(1, first, &[2; 300])]);
    let end = database.storage.info().size as usize;
    drop(database);
    let (database, _) = folder.open();
    let watermark = std::fs::read(folder.file("Data.fs.synced")).unwrap();
    let (tids, ends) = batch(&database);
    let whole = folder.bytes();
    drop(database);
    Torn { folder, durable: (vec![first, second], end), whole, ends, tids, watermark }
}

impl Torn {
    /// What is on the disk when the sectors that `lost` names were not written.
    fn put(&self, lost: impl Fn(usize) -> bool) {
        let mut bytes = self.whole.clone();
        for (at, byte) in bytes.iter_mut().enumerate().skip(self.durable.1) {
            if lost(at / SECTOR) {
                *byte = 0;
            }
        }
        self.folder.overwrite(&bytes);
        std::fs::write(self.folder.file("Data.fs.synced"), &self.watermark).unwrap();
    }

    /// How many transactions of the batch come before the first that lost something.
    fn whole_before(&self, lost: impl Fn(usize) -> bool) -> usize {
        let starts = std::iter::once(self.durable.1).chain(self.ends.iter().copied());
        let is_whole = |(start, end): (usize, &usize)| !(start / SECTOR..=(end - 1) / SECTOR).any(&lost);
        starts.zip(&self.ends).take_while(|both| is_whole(*both)).count()
    }
}

#[test]
fn whatever_sectors_a_power_failure_takes_the_rest_is_a_beginning() {
    let torn = torn();
    let sectors = torn.durable.1 / SECTOR..torn.whole.len().div_ceil(SECTOR);
    assert!(sectors.len() > 5, "{sectors:?}");
    // Any one, any one but one, and every beginning.
    let mut cases: Vec<u32> = Vec::new();
    for number in 0..sectors.len() {
        cases.extend([1 << number, !(1 << number), u32::MAX << number]);
    }
    for case in cases {
        let lost = |sector: usize| case & 1 << (sector - sectors.start) != 0;
        torn.put(lost);
        let (database, report) = torn.folder.open();
        let kept = torn.whole_before(lost);
        assert_eq!(database.tids(), [&torn.durable.0, &torn.tids[..kept]].concat(), "lost {case:b}");
        assert_eq!(report.findings.is_empty(), kept == torn.tids.len(), "{:?}", report.findings);
        database.commit(vec![store(99, Tid::ZERO, b"life goes on")]);
        drop(database);
        for name in ["Data.fs.index", "Data.fs.synced", "Data.fs.tr0"] {
            let _ = std::fs::remove_file(torn.folder.file(name));
        }
        assert_eq!(torn.folder.open().1.findings, [], "lost {case:b}");
    }
}

#[test]
fn a_torn_end_is_moved_away_whole() {
    let torn = torn();
    torn.put(|sector| sector == torn.durable.1 / SECTOR + 1);
    let bytes = torn.folder.bytes();
    let (from, to) = (torn.durable.1, torn.whole.len());
    let read_only = Options { read_only: true, ..Options::default() };
    let (database, report) = torn.folder.try_open(read_only).unwrap();
    let expected = Finding::LeftOut { from: from as u64, to: to as u64, why: TailTrouble::Torn };
    assert_eq!((report.findings, database.tids()), (vec![expected], torn.durable.0.clone()));
    assert_eq!(torn.folder.bytes(), bytes);
    let (_, report) = torn.folder.open();
    let saved = Some(torn.folder.file("Data.fs.tr0"));
    let expected = Finding::CutOff { from: from as u64, to: to as u64, saved, why: TailTrouble::Torn };
    assert_eq!(report.findings, [expected]);
    assert_eq!(std::fs::read(torn.folder.file("Data.fs.tr0")).unwrap(), bytes[from..]);
}

#[test]
fn zeros_that_were_committed_are_not_taken_for_a_tear() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let mut tids = Vec::new();
    for round in 0..9_u64 {
        let data: &[u8] = if round % 2 == 0 { &[0; 3000] } else { &[5; 3000] };
        tids.push(database.commit(vec![store(round, Tid::ZERO, data)]));
    }
    drop(database);
    let (database, report) = folder.open();
    assert_eq!((database.tids(), report.findings), (tids, vec![]));
}

#[test]
fn zeros_whose_mark_can_not_be_written_are_not_acknowledged() {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let first = database.commit(vec![store(1, Tid::ZERO, b"one")]);
    let id = database.vote(set(vec![store(2, Tid::ZERO, &[0; 3000])])).unwrap();
    // The sync of the data goes well, that of the mark does not.
    folder.faults.fail(Operation::Sync, 1, 1, EIO);
    assert!(matches!(database.finish(id), Err(StorageError::Poisoned(_))));
    drop(database);
    let (database, _) = folder.open();
    assert_eq!(database.tids(), [first]);
}

#[test]
fn damage_that_is_no_tear_is_refused_on_both_sides_of_the_watermark() {
    let torn = torn();
    // A length that can't be, in the batch: no power failure writes such bytes.
    torn.put(|_| false);
    let mut bytes = torn.whole.clone();
    bytes[torn.ends[0] - 1] ^= 0x10;
    torn.folder.overwrite(&bytes);
    assert!(matches!(torn.folder.refusal(), StorageError::Corrupt { at, .. } if at == torn.durable.1 as u64));
    // And what was durable once is not cut off, whatever it looks like now.
    let mut bytes = torn.whole.clone();
    bytes[4 + 8] = 0xff;
    torn.folder.overwrite(&bytes);
    let StorageError::Corrupt { at: 4, what, .. } = torn.folder.refusal() else { panic!("it is damaged") };
    assert!(what.contains("durable once"), "{what}");
    assert_eq!(torn.folder.bytes(), bytes);
}

#[test]
fn tids_that_fell_before_the_watermark_are_no_sign_of_a_tear_behind_it() {
    let torn = torn();
    let mut bytes = torn.whole.clone();
    // As a file is into which another database was copied whose clock was ahead.
    bytes[4..12].copy_from_slice(&Tid::MAX.to_bytes());
    torn.put(|_| false);
    torn.folder.overwrite(&bytes);
    let (database, report) = torn.folder.open();
    assert_eq!(database.tids()[1..], [&torn.durable.0[1..], &torn.tids].concat());
    assert!(
        report.findings.iter().all(|finding| matches!(finding, Finding::TidReduction { .. })),
        "{:?}",
        report.findings
    );
}

/// Opens the batch with a whole second sector of zeros in it, which the watermark knows nothing of.
fn findings_with_a_blank_batch(torn: &Torn) -> (Vec<Tid>, Vec<Finding>) {
    // Data of a record, so that nothing but a watermark can object.
    let record = torn.durable.1 + 23 + 42;
    let mut bytes = torn.whole.clone();
    bytes[record..record + 700].fill(0);
    torn.folder.overwrite(&bytes);
    let (database, report) = torn.folder.open();
    (database.tids(), report.findings)
}

#[test]
fn what_python_wrote_in_between_is_not_judged() {
    let torn = torn();
    let all = [torn.durable.0.clone(), torn.tids.clone()].concat();
    torn.put(|_| false);
    std::fs::write(torn.folder.file("Data.fs.lock"), " 1234\n").unwrap();
    let (tids, findings) = findings_with_a_blank_batch(&torn);
    assert_eq!(tids, all);
    let [Finding::WatermarkNotUsed { why }] = findings.as_slice() else { panic!("{findings:?}") };
    assert!(why.contains("another program"), "{why}");
    // And from now on the watermark is ours again: the old one is gone from both slots.
    let (tids, findings) = findings_with_a_blank_batch(&torn);
    assert_eq!((tids, findings), (all, vec![]));
}

#[test]
fn the_watermark_of_another_file_is_not_believed() {
    let torn = torn();
    torn.put(|_| false);
    let copy = torn.folder.file("copy");
    std::fs::rename(torn.folder.path(), &copy).unwrap();
    std::fs::copy(&copy, torn.folder.path()).unwrap();
    let (tids, findings) = findings_with_a_blank_batch(&torn);
    assert_eq!(tids.len(), 5);
    assert!(
        matches!(findings.as_slice(), [Finding::WatermarkNotUsed { why }] if why.contains("another file"))
    );
    // The same file with fewer or other transactions.
    let torn = self::torn();
    torn.folder.overwrite(&torn.whole[..torn.durable.1 - 400]);
    let (_, report) = torn.folder.open();
    assert!(
        matches!(report.findings.first(), Some(Finding::WatermarkNotUsed { why }) if why.contains("only")),
        "{:?}",
        report.findings
    );
}

#[test]
fn a_torn_mark_leaves_the_one_before() {
    let torn = torn();
    let (database, _) = torn.folder.open();
    let mut tids = database.tids();
    for round in 0..3 {
        tids.push(database.commit(vec![store(50 + round, Tid::ZERO, &[0; 2000])]));
    }
    drop(database);
    let marks = std::fs::read(torn.folder.file("Data.fs.synced")).unwrap();
    for at in [0, 20, 43, 4096, 4096 + 43] {
        // As it is when the mark of a batch that was never acknowledged is torn.
        let mut damaged = marks.clone();
        damaged[at] ^= 0xff;
        std::fs::write(torn.folder.file("Data.fs.synced"), damaged).unwrap();
        let read_only = Options { read_only: true, ..Options::default() };
        let (database, report) = torn.folder.try_open(read_only).unwrap();
        let without_last = &tids[..tids.len() - 1];
        assert!(database.tids() == tids || database.tids() == without_last, "{:?}", report.findings);
    }
}
