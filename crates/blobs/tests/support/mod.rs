//! A storage in memory with a blob directory, and short names for what tests do with them.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic)]

use bytes::Bytes;
use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tempfile::TempDir;
use zeolith_blobs::{BlobStorage, Manner, OpenReport, Options};
use zeolith_storage::{
    ConflictPolicy, Patience, Result, Storage, TransactionId, UploadedBlob, Voted, Write, WriteSet,
    memory::MemoryStorage,
};
use zeolith_types::{Oid, Tid, Timestamp};

pub struct Site {
    pub folder: TempDir,
    pub inner: Arc<MemoryStorage>,
    ids: AtomicU64,
}

impl Site {
    pub fn new() -> Self {
        let inner = Arc::new(MemoryStorage::new("test"));
        Self { folder: tempfile::tempdir().unwrap(), inner, ids: AtomicU64::new(0) }
    }

    /// Opens the directory as a server does at its start.
    pub fn open(&self) -> (BlobStorage, OpenReport) {
        let options = Options { manner: Manner::Wrapper, create: false };
        let inner: Arc<MemoryStorage> = Arc::clone(&self.inner);
        BlobStorage::open(inner, &self.directory(), options).unwrap()
    }

    pub fn directory(&self) -> PathBuf {
        self.folder.path().join("blobs")
    }

    pub fn next_id(&self) -> TransactionId {
        TransactionId(self.ids.fetch_add(1, Ordering::Relaxed))
    }

    pub fn vote(&self, storage: &dyn Storage, writes: Vec<Write>) -> Result<(TransactionId, Voted)> {
        let (id, writes) = (self.next_id(), WriteSet { writes, ..WriteSet::default() });
        storage.vote(id, writes, ConflictPolicy::Collect, Patience::Wait).map(|voted| (id, voted))
    }

    pub fn commit(&self, storage: &dyn Storage, writes: Vec<Write>) -> Tid {
        let (id, _) = self.vote(storage, writes).unwrap();
        let tid = storage.finish(&[id], noon()).pop().unwrap().unwrap();
        storage.publish(tid);
        tid
    }

    /// The names of all files in the directory but the marker, seen from there, in their order.
    pub fn files(&self) -> Vec<String> {
        let (mut files, mut todo) = (Vec::new(), vec![self.directory()]);
        while let Some(path) = todo.pop() {
            for entry in fs::read_dir(path).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    todo.push(entry.path());
                } else if entry.file_name() != ".layout" {
                    let path = entry.path();
                    files.push(path.strip_prefix(self.directory()).unwrap().display().to_string());
                }
            }
        }
        files.sort();
        files
    }
}

pub fn noon() -> Timestamp {
    Timestamp::from_epoch(Duration::from_secs(1_776_083_670))
}

pub fn upload(storage: &dyn Storage, content: &[u8]) -> UploadedBlob {
    let mut upload = storage.blobs().unwrap().begin_upload().unwrap();
    content.chunks(7).for_each(|chunk| upload.append(chunk).unwrap());
    upload.finish().unwrap()
}

pub fn store_blob(oid: u64, serial: Tid, blob: UploadedBlob) -> Write {
    Write::StoreBlob { oid: Oid::new(oid), serial, data: Bytes::from_static(b"a blob").into(), blob }
}

pub fn store(oid: u64, serial: Tid, data: &'static str) -> Write {
    Write::Store { oid: Oid::new(oid), serial, data: Bytes::from_static(data.as_bytes()).into() }
}

/// What a client gets of a blob, piece by piece.
pub fn content(storage: &dyn Storage, oid: u64, tid: Tid) -> Result<Vec<u8>> {
    let mut reader = storage.blobs().unwrap().load_blob(Oid::new(oid), tid)?;
    let (mut all, mut piece) = (Vec::new(), [0; 5]);
    loop {
        match reader.read(&mut piece)? {
            0 => return Ok(all),
            count => all.extend_from_slice(&piece[..count]),
        }
    }
}
