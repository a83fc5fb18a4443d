//! What stands in the files of a database: a `Data.fs` of any bytes, and a `.index` of any bytes beside a good one.

use crate::history::{History, State, damage};
use bytes::Bytes;
use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use zeolith_disk::memory::MemoryDisk;
use zeolith_filestorage::{FileStorage, Finding, IndexUse, OpenReport, Options};
use zeolith_storage::{
    ConflictPolicy, Found, Patience, Storage, StorageError, TransactionId, Write, WriteSet,
};
use zeolith_types::{Oid, Tid, Timestamp};

/// A file is opened or refused. What was opened is read in every way there is, and all of them agree; so they do
/// after it has been written to, packed, and opened again.
pub(crate) fn data_fs(input: &[u8]) {
    if input.len() > INPUT_SIZE_MAX {
        return;
    }
    read_in_all_ways(input);
    for pack_gc in [false, true] {
        pack(input, pack_gc);
    }
    commit(input);
}

/// An index is used or left out of account; whatever it says, no object is given the record of another one.
pub(crate) fn saved_index(input: &[u8]) {
    if input.len() > INPUT_SIZE_MAX {
        return;
    }
    let sound = disk(INDEXED);
    let (storage, _) = open(&sound, true).expect("a file that Python wrote can be opened");
    let history = History::of(&storage).expect("a file that Python wrote can be read");
    let disk = disk(INDEXED);
    disk.put(&beside(".index"), input.to_vec());
    let Some((storage, report)) = open(&disk, true) else { return };
    if !matches!(report.index, IndexUse::Used { .. }) {
        history.agrees_with(&storage);
    }
    for oid in history.revisions.keys() {
        match storage.load_before(*oid, Tid::MAX, Patience::Wait).map(|load| load.found) {
            Ok(Found::Revision(revision)) => {
                assert!(history.has(*oid, revision.start, &revision.data), "{oid} is what it was once");
            }
            Ok(Found::NoObject | Found::NothingBefore) | Err(StorageError::Corrupt { .. }) => {}
            Err(error) => unreachable!("nothing in an index leads to this: {error}"),
        }
    }
}

fn read_in_all_ways(input: &[u8]) {
    let disk = disk(input);
    let Some((storage, report)) = open(&disk, true) else { return };
    let last = storage.last_transaction();
    // In a file whose tids go back, or whose pointers lead astray, ways may differ.
    let is_in_order = report.findings_omitted == 0 && !report.findings.iter().any(is_disorder);
    let _ = damage(storage.undo_log(0..UNDO_ENTRIES, &mut |_| true));
    let _ = damage(storage.changes_since(Tid::ZERO, OIDS_MAX));
    let _ = damage(storage.last_changes(OIDS_MAX));
    if let Some(history) = History::of(&storage)
        && is_in_order
        && history.is_in_order()
    {
        history.agrees_with(&storage);
        // Iteration passes over transactions that are marked as undone; they have been the last ones all the same.
        assert!(
            history.tids.last().is_none_or(|tid| *tid <= last),
            "nothing comes after the last transaction"
        );
    }
    storage.close().expect("this disk is never full");
    drop(storage);
    assert!(disk.size() <= size_max(input), "{} bytes for {} of input", disk.size(), input.len());
    // Once more, with the index that has just been saved.
    let (storage, _) = open(&disk, true).expect("what was opened once is opened again");
    if is_in_order {
        assert_eq!(storage.last_transaction(), last, "the last transaction is the same");
    }
}

fn pack(input: &[u8], pack_gc: bool) {
    let disk = disk(input);
    let Some((storage, report)) = open(&disk, pack_gc) else { return };
    let before = History::of(&storage).filter(|history| {
        history.is_in_order() && report.findings_omitted == 0 && !report.findings.iter().any(is_disorder)
    });
    let middle = before.as_ref().and_then(|history| history.tids.get(history.tids.len() / 2));
    for time in [middle.copied(), Some(storage.last_transaction())].into_iter().flatten() {
        // Both a pack that ends and one that is damaged leave the states as they are.
        let _ = damage(storage.pack(Timestamp::from_tid(time), &mut |_| ControlFlow::Continue(())));
        if let Some(before) = &before {
            keeps(&before.current(), &storage, pack_gc);
        }
    }
    storage.close().expect("this disk is never full");
    drop(storage);
    let (storage, _) = open(&disk, pack_gc).expect("what was packed can be opened");
    if let Some(before) = &before {
        keeps(&before.current(), &storage, pack_gc);
    }
    drop(storage);
    // Without the index.
    disk.put(&beside(".index"), Vec::new());
    let (storage, _) = open(&disk, pack_gc).expect("what was packed can be scanned");
    if let Some(before) = &before {
        keeps(&before.current(), &storage, pack_gc);
    }
}

/// Every object is what it was, or has been dropped if that is allowed.
fn keeps(states: &BTreeMap<Oid, State>, storage: &FileStorage, may_drop: bool) {
    for (oid, state) in states {
        let load = damage(storage.load_before(*oid, Tid::new(u64::MAX), Patience::Wait));
        match (state, load.map(|load| load.found)) {
            (Some(data), Some(Found::Revision(revision))) => {
                assert_eq!(&revision.data, data, "{oid} is what it was");
            }
            (None, Some(Found::NoObject)) => {}
            (_, Some(Found::NoObject)) if may_drop => {}
            (state, found) => unreachable!("{oid} was {state:?} and is {found:?}"),
        }
    }
}

/// Undoes what can be undone, and stores a new object behind it all.
fn commit(input: &[u8]) {
    let disk = disk(input);
    let Some((storage, _)) = open(&disk, true) else { return };
    let undoable = damage(storage.undo_log(0..UNDO_ENTRIES, &mut |_| true)).flatten().unwrap_or_default();
    for (number, entry) in undoable.iter().enumerate() {
        let id = TransactionId(number as u64);
        let writes = WriteSet { writes: vec![Write::Undo { tid: entry.tid }], ..WriteSet::default() };
        if damage(storage.vote(id, writes, ConflictPolicy::Refuse, Patience::Wait)).is_some() {
            storage.abort(id);
        }
    }
    let id = TransactionId(UNDO_ENTRIES);
    let oid = storage.new_oids(1).pop().expect("there is always another oid");
    let data = Bytes::from_static(b"a new record");
    let store = Write::Store { oid, serial: Tid::ZERO, data: data.clone().into() };
    let writes = WriteSet { writes: vec![store], ..WriteSet::default() };
    let last = storage.last_transaction();
    if damage(storage.vote(id, writes, ConflictPolicy::Refuse, Patience::Wait)).is_none() {
        return;
    }
    let now = Timestamp::from_epoch(Duration::from_secs(1_776_083_670));
    let Some(Some(tid)) = storage.finish(&[id], now).pop().map(damage) else { return };
    assert!(tid > last, "tids rise: {last} then {tid}");
    storage.publish(tid);
    drop(storage);
    let (storage, _) = open(&disk, true).expect("what was opened once is opened again");
    let load = damage(storage.load_before(oid, Tid::new(u64::MAX), Patience::Wait));
    let found = load.expect("what was just written can be read").found;
    assert!(
        matches!(&found, Found::Revision(revision) if revision.data == data && revision.start == tid),
        "what was just written is there: {found:?}"
    );
}

fn disk(input: &[u8]) -> MemoryDisk {
    let disk = MemoryDisk::new(size_max(input));
    disk.put(&beside(""), input.to_vec());
    disk
}

/// The database, if it is not refused as damaged.
fn open(disk: &MemoryDisk, pack_gc: bool) -> Option<(FileStorage, OpenReport)> {
    let options = Options { pack_gc, ..Options::default() };
    let opened = damage(FileStorage::open(Arc::new(disk.clone()), &beside(""), options));
    if let Some((storage, _)) = &opened {
        storage.checkpoint().expect("the index of what was opened can be saved");
    }
    opened
}

fn beside(suffix: &str) -> PathBuf {
    Path::new("/db").join(format!("Data.fs{suffix}"))
}

/// Whether a file with such a finding may say one thing here and another there.
fn is_disorder(finding: &Finding) -> bool {
    match finding {
        Finding::TidReduction { .. } | Finding::UnknownStatus { .. } | Finding::WrongPrevious { .. } => true,
        Finding::CutOff { .. }
        | Finding::LeftOut { .. }
        | Finding::InFuture { .. }
        | Finding::PackRemoved { .. }
        | Finding::WatermarkNotUsed { .. } => false,
    }
}

/// All files of a database together may have so many bytes: the file, what was cut off, the index,
/// the watermark.
fn size_max(input: &[u8]) -> u64 {
    4 * input.len() as u64 + (16 << 10)
}

/// A database that Python wrote, for whose index the other inputs stand.
const INDEXED: &[u8] = include_bytes!("../../../fuzz/corpus/data_fs/python.fs");
const INPUT_SIZE_MAX: usize = 64 << 10;
const UNDO_ENTRIES: u64 = 20;
const OIDS_MAX: usize = 100;
