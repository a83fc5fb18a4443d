//! What a server says: replies to calls, and notices that nobody asked for.

use crate::{Oid, Tid};
use bytes::Bytes;
use std::sync::Arc;

/// The result of a call. Each variant is what one or more methods of the protocol return.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// `None`, for the methods that only do something and for questions without an answer.
    None,
    /// A tid.
    Tid(Tid),
    /// `new_oids`
    Oids(Vec<Oid>),
    /// `loadBefore`: `None` if the object exists but has no revision that old.
    Loaded(Option<Revision>),
    /// `loadSerial`
    Data(Bytes),
    /// `get_info`
    Info(Box<StorageInfo>),
    /// `getInvalidations`: the newest tid and the oids changed, or `None` if that can't be told.
    Invalidations(Option<(Tid, Vec<Oid>)>),
    /// `record_iternext`
    CurrentRecord(CurrentRecord),
    /// `history`
    History(Vec<HistoryEntry>),
    /// `vote` that succeeded: oids resolved by the server or touched by undo.
    Voted(Vec<Oid>),
    /// `vote` that asks the client to resolve.
    Conflicts(Vec<Conflict>),
    /// `iterator_start`, `iterator_record_start`
    IteratorId(i128),
    /// `iterator_next`: `None` at the end.
    Transaction(Option<TransactionInfo>),
    /// `iterator_record_next`: `None` at the end.
    Record(Option<RecordInfo>),
    /// `undoLog` and `undoInfo` of a storage that has undo.
    UndoLog(Vec<UndoEntry>),
    /// `undoLog` and `undoInfo` of a storage that has not: an empty tuple.
    NoUndoLog,
    /// `pack_cancel`: whether there was a pack to end.
    Cancelled(bool),
    /// `pack_estimate`
    PackEstimate {
        /// Bytes before.
        before: u64,
        /// Bytes after.
        after: u64,
    },
    /// `server_status`
    Status(Box<ServerStatus>),
    /// `transaction_outcome`
    Outcome(Outcome),
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is durable and visible, under this tid.
    Committed(Tid),
    /// It is not there and never will be.
    Aborted,
    /// It is being written: ask again.
    Undecided,
    /// It is not there, but could have been packed away; or it is too long ago.
    Unknown,
}

/// What a server tells without being asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// `invalidateTransaction(tid, oids)`
    Invalidate {
        /// The transaction.
        tid: Tid,
        /// What it changed; can be empty.
        oids: Arc<[Oid]>,
    },
    /// `info({'length': .., 'size': ..})`
    Info {
        /// Number of objects.
        length: u64,
        /// Bytes.
        size: u64,
    },
    /// `receiveBlobStart(oid, serial)`
    BlobStart(Oid, Tid),
    /// `receiveBlobChunk(oid, serial, chunk)`
    BlobChunk(Oid, Tid, Bytes),
    /// `receiveBlobStop(oid, serial)`
    BlobStop(Oid, Tid),
}

/// One revision of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// The record: two pickles, opaque to most of us.
    pub data: Bytes,
    /// The transaction that wrote it.
    pub start: Tid,
    /// The transaction that replaced it; `None` if it is current.
    pub end: Option<Tid>,
}

/// What `get_info` tells of a storage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StorageInfo {
    /// Number of objects.
    pub length: u64,
    /// Bytes.
    pub size: u64,
    /// The storage's own name: the path of a file storage, as configured.
    pub name: String,
    /// Whether undo works.
    pub supports_undo: bool,
    /// Whether `record_iternext` works.
    pub supports_record_iternext: bool,
    /// The zope interfaces as (module, name), most specific first.
    pub interfaces: Vec<(&'static str, &'static str)>,
}

/// One step of `record_iternext`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurrentRecord {
    /// The object.
    pub oid: Oid,
    /// The tid of its current revision.
    pub tid: Tid,
    /// The record.
    pub data: Bytes,
    /// The next object, if there is one.
    pub next: Option<Oid>,
}

/// One entry of `history`, newest first.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryEntry {
    /// Seconds since 1970.
    pub time: f64,
    /// Who.
    pub user: Bytes,
    /// What.
    pub description: Bytes,
    /// The pickled extension dict, or nothing.
    pub extension: Bytes,
    /// The transaction.
    pub tid: Tid,
    /// Bytes of the stored record; 0 for a record that points back to another one.
    pub size: u64,
    /// Which of the two forms of the reference it takes.
    pub in_memory: bool,
}

/// An object that a vote found changed by somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The object.
    pub oid: Oid,
    /// The tid of its current revision.
    pub committed: Tid,
    /// The tid of the revision that the client had read.
    pub read: Tid,
    /// The record that could not be stored.
    pub data: Bytes,
}

/// A transaction as iteration shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionInfo {
    /// The transaction.
    pub tid: Tid,
    /// The status byte: `b' '` or `b'p'`.
    pub status: u8,
    /// Who.
    pub user: Bytes,
    /// What.
    pub description: Bytes,
    /// The pickled extension dict, or nothing.
    pub extension: Bytes,
}

/// A data record as iteration shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordInfo {
    /// The object.
    pub oid: Oid,
    /// The transaction.
    pub tid: Tid,
    /// The record; `None` if the object does not exist from here on.
    pub data: Option<Bytes>,
    /// The transaction whose record this one points back to.
    pub data_txn: Option<Tid>,
}

/// One entry of `undoLog`.
#[derive(Clone, Debug, PartialEq)]
pub struct UndoEntry {
    /// The transaction.
    pub tid: Tid,
    /// Seconds since 1970.
    pub time: f64,
    /// Who.
    pub user: Bytes,
    /// What.
    pub description: Bytes,
    /// The pickled extension dict, or nothing.
    pub extension: Bytes,
    /// Length of the transaction record.
    pub size: u64,
}

/// What `server_status` and `ruok` tell of a storage.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerStatus {
    /// The limits that took effect since the start, by their keys, with how often. The reference has none.
    pub limits: Vec<(&'static str, u64)>,
    /// Registered clients.
    pub connections: u64,
    /// Loads since the start.
    pub loads: u64,
    /// Stores, deletions and restores since the start.
    pub stores: u64,
    /// Finished transactions since the start.
    pub commits: u64,
    /// Aborted transactions since the start.
    pub aborts: u64,
    /// Failed votes since the start.
    pub conflicts: u64,
    /// Conflicts resolved by the server since the start.
    pub conflicts_resolved: u64,
    /// Transactions begun and not ended.
    pub active_txns: u64,
    /// Since when the oldest vote has held its locks, in seconds since 1970.
    pub lock_time: Option<f64>,
    /// When the server was started, as C's `ctime` writes it in local time.
    pub start: String,
    /// Votes that wait for locks.
    pub waiting: u64,
    /// Whether a transaction timeout is configured.
    pub has_timeout: bool,
    /// The last transaction.
    pub last_transaction: Tid,
    /// Conflicts since the start, the class with the most first. The reference does not tell.
    pub conflicts_by_class: Vec<ConflictCount>,
    /// The pack that is under way. The reference does not tell.
    pub pack: Option<PackStatus>,
}

/// How often objects of one class were in conflict, and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConflictCount {
    /// `module.Class`
    pub class: String,
    /// Resolved by the server itself.
    pub native: u64,
    /// Resolved by a resolver process.
    pub process: u64,
    /// Given to clients to resolve.
    pub client: u64,
    /// Refused.
    pub refused: u64,
}

impl ConflictCount {
    /// What stands for the classes that are not counted by name.
    pub const OTHERS: &str = "(others)";

    /// No conflict of this class yet.
    #[must_use]
    pub fn new(class: &str) -> Self {
        Self { class: class.to_owned(), ..Self::default() }
    }

    /// Counts those of another class here too.
    pub const fn add(&mut self, other: &Self) {
        self.native += other.native;
        self.process += other.process;
        self.client += other.client;
        self.refused += other.refused;
    }

    /// All conflicts.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.native + self.process + self.client + self.refused
    }
}

/// How far a pack is.
#[derive(Clone, Debug, PartialEq)]
pub struct PackStatus {
    /// What it is about, in words.
    pub phase: String,
    /// How much of the phase is done.
    pub done: u64,
    /// How much there is, as far as one can tell.
    pub total: u64,
    /// What is counted: bytes or objects.
    pub unit: String,
    /// How much of the whole pack is done, roughly.
    pub percent: u64,
    /// Since when it has been under way, in seconds since 1970.
    pub since: f64,
    /// How long it will still take, roughly; `None` as long as nobody can tell.
    pub seconds_left: Option<u64>,
}
