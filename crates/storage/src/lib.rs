//! The contract between the server and what keeps the objects.
//!
//! A storage answers reads at any time from any thread, and takes transactions in three steps: `vote`
//! (checked, and certain to be finishable), `finish` (given a tid and durable, but not visible yet) and
//! `publish` (visible). Between `finish` and `publish` the server queues the invalidations, so that
//! nobody can see a transaction before they hear of it.
//!
//! The contract assumes no local file: a call may take a network round trip, and a tid may be
//! chosen elsewhere. `contract` holds the tests that every storage passes; `memory` is the storage
//! that forgets.

mod blob;
#[cfg(feature = "contract-tests")]
#[path = "../tests/contract/mod.rs"]
pub mod contract;
mod data;
mod error;
pub mod memory;
mod pack;
mod resolve;
mod transaction;

pub use blob::{BlobReader, BlobUpload, Blobs, UploadedBlob};
pub use data::{RecordData, Spool, Spooled};
pub use error::StorageError;
pub use pack::{Held, PackEstimate, PackOutcome, PackPhase, PackProgress};
pub use resolve::{BTreesConflict, Disagreement, Resolution, ResolveRequest, Resolver};
pub use transaction::{ConflictPolicy, TransactionId, Undone, Voted, Write, WriteSet};

use bytes::Bytes;
use std::ops::{ControlFlow, Range};
use zeolith_types::{
    CurrentRecord, HistoryEntry, Oid, RecordInfo, Revision, StorageInfo, Tid, Timestamp, TransactionInfo,
    UndoEntry,
};

/// How a result is given.
pub type Result<T, E = StorageError> = std::result::Result<T, E>;

/// Whether a read may wait for a device or a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Answer from memory or fail with [`StorageError::WouldBlock`].
    Now,
    /// Wait as long as it takes. Never used on a thread that serves connections.
    Wait,
    /// Wait, but take memory for no record with more bytes than this: fail with [`StorageError::NoRoom`] instead. A
    /// storage whose records are in memory anyway may give them.
    WaitUpTo(u64),
}

/// The answer to a load, with the state it was computed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// What there is.
    pub found: Found,
    /// The newest transaction that the answer takes into account: it is exactly what a reader sees
    /// when everything up to here, and nothing after, has been published.
    pub as_of: Tid,
}

/// What a load found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The newest revision before the bound.
    Revision(Revision),
    /// The object exists, but has no revision before the bound.
    NothingBefore,
    /// There is no such object, or the revision says that it does not exist any more.
    NoObject,
}

/// How much a storage holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Objects.
    pub length: u64,
    /// Bytes.
    pub size: u64,
}

/// What changed after some transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// The last transaction taken into account.
    pub through: Tid,
    /// All objects written since, each once.
    pub oids: Vec<Oid>,
}

/// Keeps the objects of one database.
///
/// # Errors
/// Every method that can fail says why by [`StorageError`]. A read with [`Patience::Now`] may fail with
/// `WouldBlock`, which means nothing but "ask again with [`Patience::Wait`] on another thread".
pub trait Storage: Send + Sync {
    /// Name, sizes and abilities, as `get_info` tells them.
    fn info(&self) -> StorageInfo;

    /// The part of [`Self::info`] that changes, which whoever commits is told each time.
    fn sizes(&self) -> Sizes {
        let StorageInfo { length, size, .. } = self.info();
        Sizes { length, size }
    }

    /// Whether it refuses every transaction.
    fn is_read_only(&self) -> bool;

    /// The last published transaction, or [`Tid::ZERO`]. Never waits.
    fn last_transaction(&self) -> Tid;

    /// The newest revision of `oid` whose tid is below `before`.
    fn load_before(&self, oid: Oid, before: Tid, patience: Patience) -> Result<Load>;

    /// The record that transaction `serial` wrote for `oid`; `NoObject` if it wrote none.
    fn load_serial(&self, oid: Oid, serial: Tid, patience: Patience) -> Result<Bytes>;

    /// Whether the storage still keeps the record that transaction `serial` wrote for `oid`, for whatever purpose:
    /// also when `load_serial` does not find it any more, because only a later record needs its data.
    fn has_record(&self, oid: Oid, serial: Tid, patience: Patience) -> Result<bool> {
        match self.load_serial(oid, serial, patience) {
            Ok(_) => Ok(true),
            Err(StorageError::NoObject(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The tid of the current revision; `NoObject` if there is none.
    fn current_tid(&self, oid: Oid, patience: Patience) -> Result<Tid>;

    /// The newest `size` revisions of `oid`, newest first.
    fn history(&self, oid: Oid, size: usize, patience: Patience) -> Result<Vec<HistoryEntry>>;

    /// The current revision of the smallest oid that is not below `next`, and the oid after it.
    fn record_iternext(&self, next: Option<Oid>, patience: Patience) -> Result<CurrentRecord>;

    /// All transactions from `start` to `stop`, both included, as far as published at the call.
    fn iterate(&self, start: Option<Tid>, stop: Option<Tid>) -> Result<Box<dyn TransactionIterator>>;

    /// The transactions that can be undone, newest first, up to the first one that has been packed. Of those
    /// that are `wanted` the ones number `range.start` up to `range.end`, counted from 0; fewer if
    /// that is more than one answer can hold. `None` if the storage has no undo. May wait for a device.
    fn undo_log(
        &self,
        range: Range<u64>,
        wanted: &mut dyn FnMut(&UndoEntry) -> bool,
    ) -> Result<Option<Vec<UndoEntry>>>;

    /// What the last `count` transactions changed, oldest first. A storage that forgets everything when it is closed
    /// has an entry for [`Tid::ZERO`], without objects, while it is empty: nobody can have missed anything. The
    /// reference answers so.
    fn last_changes(&self, count: usize) -> Result<Vec<(Tid, Vec<Oid>)>>;

    /// What changed after `after`; `None` if that is more than `oids_max` objects or can't be told.
    fn changes_since(&self, after: Tid, oids_max: usize) -> Result<Option<Changes>>;

    /// `count` oids that nobody has used or been given before.
    fn new_oids(&self, count: usize) -> Vec<Oid>;

    /// Checks a transaction against the current revisions, resolves what it can, and makes sure that
    /// `finish` can't fail for lack of space. The caller holds the locks of all objects it names, so
    /// their current revisions stand still; for an undo, it holds those of all objects there are. After an error the storage has forgotten the transaction.
    ///
    /// With [`ConflictPolicy::Collect`] all conflicts are gathered; with `Refuse` the first one is
    /// the error.
    fn vote(
        &self,
        id: TransactionId,
        writes: WriteSet,
        policy: ConflictPolicy,
        patience: Patience,
    ) -> Result<Voted>;

    /// Gives the voted transactions rising tids and makes them durable, all with one sync, without
    /// showing them to readers. A tid is that of `now`, or later than the last if that is not enough; a
    /// transaction that brought its own tid keeps it. The results stand in the order of `ids`; after a
    /// failure that is not its own a transaction is gone as if it had been aborted.
    fn finish(&self, ids: &[TransactionId], now: Timestamp) -> Vec<Result<Tid>>;

    /// Makes everything finished up to `through` visible to readers. Never fails, never waits.
    fn publish(&self, through: Tid);

    /// Forgets a voted transaction.
    fn abort(&self, id: TransactionId);

    /// Drops the revisions that were not current at `time` any more, and the objects that nothing referred to
    /// then. Takes long, and goes on beside everything else; one at a time. `report` is told now and then how
    /// far it is, and can end it, which is the error `Cancelled`.
    fn pack(
        &self,
        time: Timestamp,
        report: &mut dyn FnMut(PackProgress) -> ControlFlow<()>,
    ) -> Result<PackOutcome>;

    /// Finds out what [`Self::pack`] would do, without doing it; takes about half as long, one at a time.
    fn estimate_pack(
        &self,
        time: Timestamp,
        report: &mut dyn FnMut(PackProgress) -> ControlFlow<()>,
    ) -> Result<PackEstimate> {
        let _ = (time, report);
        Err(StorageError::Unsupported("this storage can't tell what a pack would do".into()))
    }

    /// The blobs, of a storage that keeps some. What another one says is for the client: `Unsupported` names
    /// the attribute that the reference lacks then, `NoBlobs` is the word of storages that could keep them.
    fn blobs(&self) -> Result<&dyn Blobs> {
        Err(StorageError::NoBlobs)
    }

    /// Whether [`Self::make_room`] has something to do. Cheap: asked after each `finish`.
    fn wants_room(&self) -> bool {
        false
    }

    /// Prepares for the transactions to come, when those that were finished have been answered. May take as long as a
    /// `finish`, which waits for it. Without success the next ones take longer.
    fn make_room(&self) {}

    /// Nobody has committed for a while: what only serves to commit quickly can go. Called now and then.
    fn rest(&self) -> Result<()> {
        Ok(())
    }

    /// Saves what makes the next start quick, if that is worth the while. Called now and then.
    fn checkpoint(&self) -> Result<()>;

    /// Ends the storage in good order. Nothing is called afterwards.
    fn close(&self) -> Result<()>;
}

/// Goes through transactions, oldest first.
pub trait TransactionIterator: Send {
    /// The next transaction, or `None` at the end.
    fn next_transaction(&mut self) -> Result<Option<TransactionInfo>>;

    /// The records of the transaction that `next_transaction` gave last.
    fn records(&self) -> Result<Box<dyn RecordIterator>>;
}

/// Goes through the records of one transaction in the order in which they were stored.
pub trait RecordIterator: Send {
    /// The next record, or `None` at the end.
    fn next_record(&mut self) -> Result<Option<RecordInfo>>;
}
