//! Changes in a file over a base in a file, as a demo storage of a site has them: one history to whoever reads.
//!
//! The two crates do not know each other; the front that puts them together tests the pair.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{path::Path, sync::Arc, time::Duration};
use tempfile::TempDir;
use zeolith_disk::RealDisk;
use zeolith_filestorage::{FileStorage, Options};
use zeolith_layers::DemoStorage;
use zeolith_storage::{
    ConflictPolicy, Found, Patience, Result, Storage, StorageError, TransactionId, Write, WriteSet,
};
use zeolith_types::{Oid, Tid, Timestamp};

/// A demo storage, and what its base holds: two revisions of object 1, one of object 2.
struct Site {
    _folder: TempDir,
    demo: DemoStorage,
    first: Tid,
    second: Tid,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (path, options) = (folder.path().join("Base.fs"), Options::default());
        let base = file(&path, options.clone());
        let first = commit(&base, 1, vec![store(1, Tid::ZERO, "one"), store(2, Tid::ZERO, "two")]).unwrap();
        let second = commit(&base, 2, vec![store(1, first, "one again")]).unwrap();
        base.close().unwrap();
        drop(base);
        let base = Arc::new(file(&path, Options { read_only: true, ..options.clone() }));
        let changes = Arc::new(file(&folder.path().join("Changes.fs"), options));
        Self { _folder: folder, demo: DemoStorage::new("demo", base, changes, None, 42), first, second }
    }

    fn commit(&self, number: u64, writes: Vec<Write>) -> Result<Tid> {
        commit(&self.demo, number, writes)
    }

    /// Content, start and end.
    fn load(&self, oid: u64, before: Tid) -> (String, Tid, Option<Tid>) {
        match self.demo.load_before(Oid::new(oid), before, Patience::Wait).unwrap().found {
            Found::Revision(found) => {
                (String::from_utf8(found.data.to_vec()).unwrap(), found.start, found.end)
            }
            found => panic!("{found:?}"),
        }
    }

    fn history(&self, oid: u64, size: usize) -> Vec<Tid> {
        let history = self.demo.history(Oid::new(oid), size, Patience::Wait).unwrap();
        history.into_iter().map(|entry| entry.tid).collect()
    }

    /// The transactions from `start` on, each with its objects.
    fn walk(&self, start: Option<Tid>) -> Vec<(Tid, Vec<u64>)> {
        let mut transactions = self.demo.iterate(start, None).unwrap();
        let mut walked = Vec::new();
        while let Some(transaction) = transactions.next_transaction().unwrap() {
            let (mut records, mut oids) = (transactions.records().unwrap(), Vec::new());
            while let Some(record) = records.next_record().unwrap() {
                oids.push(record.oid.get());
            }
            walked.push((transaction.tid, oids));
        }
        walked
    }
}

fn file(path: &Path, options: Options) -> FileStorage {
    FileStorage::open(Arc::new(RealDisk), path, options).unwrap().0
}

fn store(oid: u64, serial: Tid, data: &'static str) -> Write {
    Write::Store { oid: Oid::new(oid), serial, data: data.into() }
}

fn commit(storage: &dyn Storage, number: u64, writes: Vec<Write>) -> Result<Tid> {
    let (id, set) = (TransactionId(number), WriteSet { writes, ..WriteSet::default() });
    storage.vote(id, set, ConflictPolicy::Refuse, Patience::Wait)?;
    let noon = Timestamp::from_epoch(Duration::from_secs(1_776_083_670));
    let tid = storage.finish(&[id], noon).pop().unwrap().unwrap();
    storage.publish(tid);
    Ok(tid)
}

#[test]
fn a_revision_of_the_base_ends_where_the_changes_go_on() {
    let site = Site::new();
    assert_eq!(site.load(1, Tid::MAX), ("one again".into(), site.second, None));
    let third = site.commit(3, vec![store(1, site.second, "changed")]).unwrap();
    assert!(third > site.second);
    assert_eq!(site.load(1, Tid::MAX), ("changed".into(), third, None));
    assert_eq!(site.load(1, third), ("one again".into(), site.second, Some(third)));
    assert_eq!(site.load(1, site.second), ("one".into(), site.first, Some(site.second)));
    assert_eq!(site.load(2, Tid::MAX), ("two".into(), site.first, None));
    let nothing = site.demo.load_before(Oid::new(1), site.first, Patience::Wait).unwrap().found;
    assert_eq!(nothing, Found::NothingBefore);
    let stale = site.commit(4, vec![store(1, site.second, "too late")]);
    assert!(matches!(stale, Err(StorageError::Conflict(conflict)) if conflict.committed == third));
}

#[test]
fn history_and_iteration_go_through_the_changes_into_the_base() {
    let site = Site::new();
    let third = site.commit(3, vec![store(1, site.second, "changed"), store(3, Tid::ZERO, "new")]).unwrap();
    assert_eq!(site.history(1, 9), [third, site.second, site.first]);
    assert_eq!(site.history(1, 2), [third, site.second]);
    assert_eq!(site.history(2, 9), [site.first]);
    assert_eq!(site.history(3, 9), [third]);
    let all = [(site.first, vec![1, 2]), (site.second, vec![1]), (third, vec![1, 3])];
    assert_eq!(site.walk(None), all);
    assert_eq!(site.walk(Some(site.second)), all[1..]);
    assert_eq!(site.walk(Some(third)), all[2..]);
}

#[test]
fn an_undo_brings_back_what_the_base_says_and_the_base_itself_is_not_undone() {
    let site = Site::new();
    let third = site.commit(3, vec![store(1, site.second, "changed"), store(2, site.first, "too")]).unwrap();
    let fourth = site.commit(4, vec![Write::Undo { tid: third }]).unwrap();
    assert_eq!(site.load(1, Tid::MAX), ("one again".into(), fourth, None));
    assert_eq!(site.load(2, Tid::MAX), ("two".into(), fourth, None));
    assert_eq!(site.load(1, fourth), ("changed".into(), third, Some(fourth)));
    assert_eq!(site.history(1, 9), [fourth, third, site.second, site.first]);
    let fifth = site.commit(5, vec![Write::Undo { tid: fourth }]).unwrap();
    assert_eq!(site.load(1, Tid::MAX), ("changed".into(), fifth, None));
    assert!(site.commit(6, vec![Write::Undo { tid: site.second }]).is_err());
    let log = site.demo.undo_log(0..99, &mut |_| true).unwrap().unwrap();
    assert_eq!(log.len(), 3, "{log:?}");
}
