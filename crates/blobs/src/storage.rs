//! [`BlobStorage`]: any storage, and a blob directory beside it.
//!
//! The storage keeps records and knows nothing of blobs; most questions go straight on to it. `commit.rs` has the
//! way of a transaction with blobs, `pack.rs` what a pack does to them.

use crate::{
    commit::VotedFile,
    directory::{BlobDirectory, DirectoryReport, io_at},
    recover::{Recovered, recover},
    temporary::{Reader, Upload, take_shared},
};
use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    ops::{ControlFlow, Range},
    path::Path,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};
use zeolith_storage::{
    BlobReader, BlobUpload, Blobs, Changes, ConflictPolicy, Load, PackEstimate, PackOutcome, PackProgress,
    Patience, Result, Sizes, Storage, StorageError, TransactionId, TransactionIterator, UploadedBlob, Voted,
    WriteSet,
};
use zeolith_types::{CurrentRecord, HistoryEntry, Oid, StorageInfo, Tid, Timestamp, UndoEntry};

/// A storage with blobs.
pub struct BlobStorage {
    pub(crate) inner: Arc<dyn Storage>,
    pub(crate) directory: BlobDirectory,
    pub(crate) manner: Manner,
    /// The files of the transactions between vote and finish.
    pub(crate) voted: Mutex<HashMap<TransactionId, Vec<VotedFile>>>,
    /// Set when a blob of a durable transaction could not be brought to its place: why nothing is written any
    /// more.
    pub(crate) poison: OnceLock<String>,
    packing: AtomicBool,
}

/// How a blob storage is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Which of the reference's two kinds it follows.
    pub manner: Manner,
    /// Remove everything in the directory first.
    pub create: bool,
}

/// The reference has two kinds of storages with blobs, which differ in details.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// A file storage with a blob directory.
    FileStorage {
        /// `pack-keep-old`: a pack leaves the blobs as they were before beside the directory.
        keep_old: bool,
    },
    /// `<blobstorage>`, around any storage. The undo of a blob's creation keeps a copy of the blob, so that the
    /// reference can undo that.
    Wrapper,
}

/// What was found and done when a blob storage was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenReport {
    /// The directory.
    pub directory: DirectoryReport,
    /// What a server that was killed had left.
    pub recovered: Recovered,
}

impl BlobStorage {
    /// Gives a storage the blob directory at `path`, which is made if it is not there, and brings to an end
    /// what a server that was killed has left in it.
    ///
    /// # Errors
    /// `Format` if the storage has blobs already, or the directory has a layout that no server has; else
    /// `Io`, or what the storage says.
    pub fn open(inner: Arc<dyn Storage>, path: &Path, options: Options) -> Result<(Self, OpenReport)> {
        if inner.blobs().is_ok() {
            let why = "the storage has a blob directory already, and can't have another one around it";
            return Err(StorageError::Format(why.into()));
        }
        if options.create {
            match fs::remove_dir_all(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_at("emptying", path)(error));
                }
                _ => {}
            }
        }
        let read_only = inner.is_read_only();
        let (directory, of_directory) = BlobDirectory::open(path, read_only)?;
        let recovered = match read_only {
            true => Recovered::default(),
            false => recover(&directory, &*inner)?,
        };
        let report = OpenReport { directory: of_directory, recovered };
        let (voted, poison, packing) = (Mutex::default(), OnceLock::new(), AtomicBool::new(false));
        Ok((Self { inner, directory, manner: options.manner, voted, poison, packing }, report))
    }

    /// Its directory.
    #[must_use]
    pub const fn directory(&self) -> &BlobDirectory {
        &self.directory
    }
}

impl Blobs for BlobStorage {
    fn load_blob(&self, oid: Oid, serial: Tid) -> Result<Box<dyn BlobReader>> {
        let path = self.directory.path_of(oid, serial);
        match File::open(&path) {
            Ok(file) => Ok(Box::new(Reader { file, path })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(StorageError::NoBlobFile { path, oid, tid: serial })
            }
            Err(error) => Err(io_at("opening", &path)(error)),
        }
    }

    fn begin_upload(&self) -> Result<Box<dyn BlobUpload>> {
        Ok(Box::new(Upload::begin(&self.directory)?))
    }

    fn take_shared(&self, oid: Oid, name: &str) -> Result<UploadedBlob> {
        take_shared(&self.directory, oid, name)
    }
}

impl Storage for BlobStorage {
    fn info(&self) -> StorageInfo {
        let mut info = self.inner.info();
        let restores = info.interfaces.contains(&("ZODB.interfaces", "IStorageRestoreable"));
        if restores {
            info.interfaces.splice(0..0, [RESTOREABLE, BLOB_STORAGE]);
        } else {
            // The reference's wrapper shows nothing of a storage that can't restore.
            info.interfaces = vec![BLOB_STORAGE, ("zope.interface", "Interface")];
        }
        info
    }

    fn sizes(&self) -> Sizes {
        self.inner.sizes()
    }

    fn is_read_only(&self) -> bool {
        self.inner.is_read_only()
    }

    fn last_transaction(&self) -> Tid {
        self.inner.last_transaction()
    }

    fn load_before(&self, oid: Oid, before: Tid, patience: Patience) -> Result<Load> {
        self.inner.load_before(oid, before, patience)
    }

    fn load_serial(&self, oid: Oid, serial: Tid, patience: Patience) -> Result<bytes::Bytes> {
        self.inner.load_serial(oid, serial, patience)
    }

    fn has_record(&self, oid: Oid, serial: Tid, patience: Patience) -> Result<bool> {
        self.inner.has_record(oid, serial, patience)
    }

    fn current_tid(&self, oid: Oid, patience: Patience) -> Result<Tid> {
        self.inner.current_tid(oid, patience)
    }

    fn history(&self, oid: Oid, size: usize, patience: Patience) -> Result<Vec<HistoryEntry>> {
        self.inner.history(oid, size, patience)
    }

    fn record_iternext(&self, next: Option<Oid>, patience: Patience) -> Result<CurrentRecord> {
        self.inner.record_iternext(next, patience)
    }

    fn iterate(&self, start: Option<Tid>, stop: Option<Tid>) -> Result<Box<dyn TransactionIterator>> {
        self.inner.iterate(start, stop)
    }

    fn undo_log(
        &self,
        range: Range<u64>,
        wanted: &mut dyn FnMut(&UndoEntry) -> bool,
    ) -> Result<Option<Vec<UndoEntry>>> {
        self.inner.undo_log(range, wanted)
    }

    fn last_changes(&self, count: usize) -> Result<Vec<(Tid, Vec<Oid>)>> {
        self.inner.last_changes(count)
    }

    fn changes_since(&self, after: Tid, oids_max: usize) -> Result<Option<Changes>> {
        self.inner.changes_since(after, oids_max)
    }

    fn new_oids(&self, count: usize) -> Vec<Oid> {
        self.inner.new_oids(count)
    }

    fn vote(
        &self,
        id: TransactionId,
        writes: WriteSet,
        policy: ConflictPolicy,
        patience: Patience,
    ) -> Result<Voted> {
        self.vote_both(id, writes, policy, patience)
    }

    fn finish(&self, ids: &[TransactionId], now: Timestamp) -> Vec<Result<Tid>> {
        self.finish_both(ids, now)
    }

    fn publish(&self, through: Tid) {
        self.inner.publish(through);
    }

    fn abort(&self, id: TransactionId) {
        self.abort_both(id);
    }

    fn pack(
        &self,
        time: Timestamp,
        report: &mut dyn FnMut(PackProgress) -> ControlFlow<()>,
    ) -> Result<PackOutcome> {
        if self.packing.swap(true, Ordering::AcqRel) {
            return Err(StorageError::Format("Already packing".into()));
        }
        let outcome = self.pack_both(time, report);
        self.packing.store(false, Ordering::Release);
        outcome
    }

    fn estimate_pack(
        &self,
        time: Timestamp,
        report: &mut dyn FnMut(PackProgress) -> ControlFlow<()>,
    ) -> Result<PackEstimate> {
        self.inner.estimate_pack(time, report)
    }

    fn blobs(&self) -> Result<&dyn Blobs> {
        Ok(self)
    }

    fn wants_room(&self) -> bool {
        self.inner.wants_room()
    }

    fn make_room(&self) {
        self.inner.make_room();
    }

    fn rest(&self) -> Result<()> {
        self.inner.rest()
    }

    fn checkpoint(&self) -> Result<()> {
        self.inner.checkpoint()
    }

    fn close(&self) -> Result<()> {
        self.inner.close()
    }
}

const RESTOREABLE: (&str, &str) = ("ZODB.interfaces", "IBlobStorageRestoreable");
const BLOB_STORAGE: (&str, &str) = ("ZODB.interfaces", "IBlobStorage");
