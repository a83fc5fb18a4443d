//! A database in a folder of its own, and short words for what tests do with it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic)]

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use zeolith_disk::{
    RealDisk,
    faults::{Faults, FaultyDisk},
};
use zeolith_filestorage::{FileStorage, OpenReport, Options};
use zeolith_storage::{
    ConflictPolicy, Found, Patience, Result, Storage, StorageError, TransactionId, Voted, Write, WriteSet,
};
use zeolith_types::{Oid, Tid, Timestamp};

/// A folder with room for a database.
pub struct Folder {
    folder: tempfile::TempDir,
    pub faults: Faults,
}

impl Folder {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), faults: Faults::default() }
    }

    pub fn path(&self) -> PathBuf {
        self.file("Data.fs")
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn try_open(&self, options: Options) -> Result<(Database, OpenReport)> {
        let disk = FaultyDisk::new(RealDisk, self.faults.clone());
        let (storage, report) = FileStorage::open(Arc::new(disk), &self.path(), options)?;
        Ok((Database { storage, ids: AtomicU64::new(0) }, report))
    }

    pub fn open(&self) -> (Database, OpenReport) {
        self.try_open(Options::default()).unwrap()
    }

    pub fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.path()).unwrap()
    }

    /// Puts a file in the place of `Data.fs`, with nothing beside it that tells of the one before.
    pub fn put(&self, bytes: &[u8]) {
        self.overwrite(bytes);
        let _ = std::fs::remove_file(self.file("Data.fs.synced"));
    }

    /// Changes what is in `Data.fs`, behind the back of its watermark, and drops its index.
    pub fn overwrite(&self, bytes: &[u8]) {
        std::fs::write(self.path(), bytes).unwrap();
        self.drop_index();
    }

    pub fn drop_index(&self) {
        let _ = std::fs::remove_file(self.file("Data.fs.index"));
    }

    /// Opens, which must fail.
    pub fn refusal(&self) -> StorageError {
        match self.try_open(Options::default()) {
            Ok((_, report)) => panic!("it was opened: {report:?}"),
            Err(error) => error,
        }
    }
}

/// An open database.
pub struct Database {
    pub storage: FileStorage,
    ids: AtomicU64,
}

impl Database {
    pub fn next_id(&self) -> TransactionId {
        TransactionId(self.ids.fetch_add(1, Ordering::Relaxed))
    }

    pub fn vote(&self, writes: WriteSet) -> Result<TransactionId> {
        let id = self.next_id();
        let voted = self.storage.vote(id, writes, ConflictPolicy::Refuse, Patience::Wait)?;
        assert!(matches!(voted, Voted::Ready { .. }));
        Ok(id)
    }

    pub fn finish(&self, id: TransactionId) -> Result<Tid> {
        self.storage.finish(&[id], noon()).pop().unwrap()
    }

    pub fn commit_set(&self, writes: WriteSet) -> Result<Tid> {
        let id = self.vote(writes)?;
        let tid = self.finish(id)?;
        self.publish(tid);
        Ok(tid)
    }

    /// Does what is done when a transaction is durable.
    pub fn publish(&self, tid: Tid) {
        self.storage.publish(tid);
        if self.storage.wants_room() {
            self.storage.make_room();
        }
    }

    pub fn commit(&self, writes: Vec<Write>) -> Tid {
        self.commit_set(set(writes)).unwrap()
    }

    /// The record, if the object exists; damage is a panic.
    pub fn current(&self, oid: u64) -> Option<Vec<u8>> {
        match self.storage.load_before(Oid::new(oid), Tid::MAX, Patience::Wait).unwrap().found {
            Found::Revision(revision) => Some(revision.data.to_vec()),
            Found::NothingBefore | Found::NoObject => None,
        }
    }

    pub fn tids(&self) -> Vec<Tid> {
        let mut transactions = self.storage.iterate(None, None).unwrap();
        std::iter::from_fn(|| transactions.next_transaction().unwrap().map(|info| info.tid)).collect()
    }
}

pub fn set(writes: Vec<Write>) -> WriteSet {
    WriteSet { writes, ..WriteSet::default() }
}

pub fn store(oid: u64, serial: Tid, data: &[u8]) -> Write {
    Write::Store { oid: Oid::new(oid), serial, data: data.to_vec().into() }
}

pub fn delete(oid: u64, serial: Tid) -> Write {
    Write::Delete { oid: Oid::new(oid), serial }
}

pub fn noon() -> Timestamp {
    Timestamp::from_epoch(Duration::from_secs(1_776_083_670))
}

pub fn exists(path: &Path) -> bool {
    path.exists()
}
