//! A file storage with a blob directory: what undo and pack do to the blobs.
//!
//! The two crates do not know each other; the front that puts them together tests the pair.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    fs,
    ops::ControlFlow,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tempfile::TempDir;
use zeolith_blobs::{BlobStorage, Manner, Options as BlobOptions};
use zeolith_disk::RealDisk;
use zeolith_filestorage::{FileStorage, Options};
use zeolith_storage::{
    ConflictPolicy, PackOutcome, Patience, Result, Storage, StorageError, TransactionId, Write, WriteSet,
};
use zeolith_types::{Oid, Tid, Timestamp};

const KEEPS_OLD: Manner = Manner::FileStorage { keep_old: true };
/// A record of ZODB's class of blobs.
const BLOB: &[u8] = b"cZODB.blob\nBlob\n.N.";

struct Site {
    folder: TempDir,
    file: Arc<FileStorage>,
    storage: BlobStorage,
    ids: AtomicU64,
}

impl Site {
    fn new(manner: Manner) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { pack_gc: false, ..Options::default() };
        let path = folder.path().join("Data.fs");
        let file = Arc::new(FileStorage::open(Arc::new(RealDisk), &path, options).unwrap().0);
        let inner: Arc<FileStorage> = Arc::clone(&file);
        let options = BlobOptions { manner, create: false };
        let (storage, _) = BlobStorage::open(inner, &folder.path().join("blobs"), options).unwrap();
        Self { folder, file, storage, ids: AtomicU64::new(0) }
    }

    fn vote(&self, writes: Vec<Write>) -> Result<TransactionId> {
        let id = TransactionId(self.ids.fetch_add(1, Ordering::Relaxed));
        let writes = WriteSet { writes, ..WriteSet::default() };
        self.storage.vote(id, writes, ConflictPolicy::Refuse, Patience::Wait).map(|_| id)
    }

    fn commit(&self, writes: Vec<Write>) -> Tid {
        let id = self.vote(writes).unwrap();
        let tid = self.storage.finish(&[id], noon()).pop().unwrap().unwrap();
        self.storage.publish(tid);
        tid
    }

    fn store(&self, oid: u64, serial: Tid, content: &str) -> Write {
        let mut upload = self.storage.blobs().unwrap().begin_upload().unwrap();
        upload.append(content.as_bytes()).unwrap();
        let blob = upload.finish().unwrap();
        Write::StoreBlob { oid: Oid::new(oid), serial, data: BLOB.to_vec().into(), blob }
    }

    fn content(&self, oid: u64, tid: Tid) -> Option<String> {
        fs::read_to_string(self.storage.directory().path_of(Oid::new(oid), tid)).ok()
    }

    fn old_content(&self, oid: u64, tid: Tid) -> Option<String> {
        let path = self.storage.directory().path_of(Oid::new(oid), tid);
        let inside = path.strip_prefix(self.storage.directory().path()).unwrap();
        fs::read_to_string(self.old().join(inside)).ok()
    }

    fn old(&self) -> PathBuf {
        self.folder.path().join("blobs.old")
    }

    fn pack(&self) -> PackOutcome {
        self.storage.pack(soon(), &mut |_| ControlFlow::Continue(())).unwrap()
    }

    /// What a server leaves that is killed in a pack.
    fn leave_marker(&self) {
        fs::write(self.storage.directory().path().join(".zeolith-pack"), "").unwrap();
    }

    fn has_marker(&self) -> bool {
        self.storage.directory().path().join(".zeolith-pack").exists()
    }
}

/// Transactions come at this time or a moment later.
fn noon() -> Timestamp {
    Timestamp::from_epoch(Duration::from_secs(1_776_083_670))
}

/// The time of packs.
fn soon() -> Timestamp {
    Timestamp::from_epoch(Duration::from_millis(1_776_083_670_500))
}

fn later() -> Timestamp {
    Timestamp::from_epoch(Duration::from_secs(1_776_083_671))
}

fn undo(tid: Tid) -> Write {
    Write::Undo { tid }
}

#[test]
fn an_undo_brings_back_the_blob_from_before_it_and_so_does_its_own_undo() {
    let site = Site::new(KEEPS_OLD);
    let first = site.commit(vec![site.store(1, Tid::ZERO, "first")]);
    let second = site.commit(vec![site.store(1, first, "second")]);
    let third = site.commit(vec![undo(second)]);
    assert_eq!(site.content(1, third).unwrap(), "first");
    let fourth = site.commit(vec![undo(third)]);
    assert_eq!(site.content(1, fourth).unwrap(), "second");
}

#[test]
fn only_the_wrapper_keeps_the_blob_of_an_undone_creation() {
    for (manner, kept) in [(KEEPS_OLD, None), (Manner::Wrapper, Some("first"))] {
        let site = Site::new(manner);
        let first = site.commit(vec![site.store(1, Tid::ZERO, "first")]);
        let second = site.commit(vec![undo(first)]);
        assert_eq!(site.content(1, second).as_deref(), kept);
        let third = site.commit(vec![undo(second)]);
        assert_eq!(site.content(1, third).unwrap(), "first");
    }
}

#[test]
fn an_undo_without_the_blob_that_it_brings_back_fails_and_says_which() {
    let site = Site::new(KEEPS_OLD);
    let first = site.commit(vec![site.store(1, Tid::ZERO, "first"), site.store(2, Tid::ZERO, "other")]);
    let second = site.commit(vec![site.store(1, first, "second"), site.store(2, first, "another")]);
    fs::remove_file(site.storage.directory().path_of(Oid::new(2), first)).unwrap();
    match site.vote(vec![undo(second)]) {
        Err(StorageError::NoBlobFile { oid, tid, .. }) => assert_eq!((oid, tid), (Oid::new(2), first)),
        other => panic!("{other:?}"),
    }
    let left = fs::read_dir(site.storage.directory().path().join("tmp")).unwrap().count();
    assert_eq!(left, 0, "the blob of the other object is not left behind");
    site.commit(vec![site.store(1, second, "third")]);
}

#[test]
fn a_pack_keeps_the_blob_of_a_record_that_only_an_undo_points_back_to() {
    let site = Site::new(KEEPS_OLD);
    let first = site.commit(vec![site.store(1, Tid::ZERO, "first")]);
    let second = site.commit(vec![site.store(1, first, "second")]);
    let id = site.vote(vec![undo(second)]).unwrap();
    let third = site.storage.finish(&[id], later()).pop().unwrap().unwrap();
    site.storage.publish(third);
    site.commit(vec![Write::Store { oid: Oid::ZERO, serial: Tid::ZERO, data: b"root".to_vec().into() }]);
    site.storage.pack(Timestamp::from_tid(second), &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(site.content(1, third).unwrap(), "first");
    assert_eq!(site.content(1, second).unwrap(), "second", "current at the pack time");
    assert!(site.file.has_record(Oid::new(1), first, Patience::Wait).unwrap());
    assert_eq!(site.content(1, first).unwrap(), "first");
}

#[test]
fn a_pack_does_not_touch_what_is_finished_and_not_published() {
    let site = Site::new(Manner::FileStorage { keep_old: false });
    let first = site.commit(vec![site.store(1, Tid::ZERO, "first")]);
    let second = site.commit(vec![site.store(1, first, "second")]);
    let id = site.vote(vec![site.store(2, Tid::ZERO, "new")]).unwrap();
    let third = site.storage.finish(&[id], later()).pop().unwrap().unwrap();
    assert!(matches!(site.pack(), PackOutcome::Packed { .. }));
    assert_eq!(site.content(1, first), None);
    assert_eq!(site.content(1, second).unwrap(), "second");
    assert_eq!(site.content(2, third).unwrap(), "new");
    assert!(!site.old().exists());
    site.storage.publish(third);
}

#[test]
fn a_blob_whose_place_a_pack_has_removed_comes_there_all_the_same() {
    let site = Site::new(Manner::FileStorage { keep_old: false });
    let first = site.commit(vec![site.store(1, Tid::ZERO, "first")]);
    let second = site.commit(vec![Write::Store {
        oid: Oid::new(1),
        serial: first,
        data: b"no blob any more".to_vec().into(),
    }]);
    let id = site.vote(vec![site.store(1, second, "again")]).unwrap();
    assert!(matches!(site.pack(), PackOutcome::Packed { .. }));
    assert!(!site.storage.directory().place_of(Oid::new(1)).exists());
    let third = site.storage.finish(&[id], later()).pop().unwrap().unwrap();
    assert_eq!(site.content(1, third).unwrap(), "again");
}

#[test]
fn a_pack_that_was_killed_after_its_new_file_was_there_is_completed_by_the_next() {
    let site = Site::new(KEEPS_OLD);
    let first = site.commit(vec![site.store(1, Tid::ZERO, "first")]);
    let second = site.commit(vec![site.store(1, first, "second")]);
    site.leave_marker();
    site.file.pack(soon(), &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(site.content(1, first).is_some());

    assert_eq!(site.pack(), PackOutcome::NothingToDo);
    assert_eq!(site.content(1, first), None);
    assert_eq!(site.content(1, second).unwrap(), "second");
    assert_eq!(site.old_content(1, first).unwrap(), "first");
    assert_eq!(site.old_content(1, second).unwrap(), "second");
    assert!(!site.has_marker());
}

#[test]
fn a_pack_that_was_killed_before_costs_nothing_of_what_was_kept() {
    let site = Site::new(KEEPS_OLD);
    let first = site.commit(vec![site.store(1, Tid::ZERO, "first")]);
    site.commit(vec![site.store(1, first, "second")]);
    assert!(matches!(site.pack(), PackOutcome::Packed { .. }));
    site.leave_marker();
    assert_eq!(site.pack(), PackOutcome::NothingToDo);
    assert_eq!(site.old_content(1, first).unwrap(), "first", "what the pack before had kept");
    assert!(!site.has_marker());
}

#[test]
fn a_pack_that_is_cancelled_amid_the_blobs_goes_on_the_next_time() {
    let site = Site::new(Manner::FileStorage { keep_old: false });
    let first = site.commit((1..=101).map(|oid| site.store(oid, Tid::ZERO, "first")).collect());
    site.commit((1..=101).map(|oid| site.store(oid, first, "second")).collect());
    let cancelled = site.storage.pack(soon(), &mut |progress| match progress.phase {
        zeolith_storage::PackPhase::Blobs => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    assert!(matches!(cancelled, Err(StorageError::Cancelled)), "{cancelled:?}");
    assert!((1..=101).any(|oid| site.content(oid, first).is_some()));
    assert_eq!(site.pack(), PackOutcome::NothingToDo);
    assert!((1..=101).all(|oid| site.content(oid, first).is_none()));
}
