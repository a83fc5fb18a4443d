//! What a client asks: the 36 methods of ZEO protocol 5 with their arguments, and those of our own.

use crate::{Oid, Tid, Value};
use bytes::Bytes;

/// One message from a client, decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Echoed in the reply.
    pub id: MessageId,
    /// A one-way call gets no reply, not even an error: a failure closes the connection.
    pub one_way: bool,
    /// What is asked.
    pub request: Request,
}

/// The id of a message: any value, echoed as it came.
#[derive(Clone, Debug, PartialEq)]
pub enum MessageId {
    /// The tuple `(oid, tid)` which Python clients use for `loadBefore`.
    Load(Oid, Tid),
    /// Anything else; Python clients count 1, 2, 3.
    Value(Value),
}

/// A request with its arguments. Names are those of the protocol.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// `register(storage_id, read_only)`: the first call on a connection.
    Register {
        /// The storage's name, lower case.
        storage: String,
        /// Whether the client will not write.
        read_only: bool,
    },
    /// `get_info()`
    GetInfo,
    /// `lastTransaction()`
    LastTransaction,
    /// `getInvalidations(tid)`: all oids changed after `after`.
    GetInvalidations {
        /// The last transaction that the client knows.
        after: Tid,
    },
    /// `ping()`
    Ping,
    /// `new_oids(n=100)`; the storage clamps the count.
    NewOids {
        /// How many are wished for.
        count: i128,
    },
    /// `new_oid()`: listed but never implemented by the reference.
    NewOid,
    /// `loadBefore(oid, tid)`: the newest revision older than `before`.
    LoadBefore {
        /// The object.
        oid: Oid,
        /// An exclusive upper bound of the revision's tid.
        before: Tid,
    },
    /// `loadSerial(oid, serial)`
    LoadSerial {
        /// The object.
        oid: Oid,
        /// The revision's tid.
        serial: Tid,
    },
    /// `getTid(oid)`
    GetTid {
        /// The object.
        oid: Oid,
    },
    /// `history(oid, size=1)`
    History {
        /// The object.
        oid: Oid,
        /// At most this many entries.
        size: usize,
    },
    /// `record_iternext(next=None)`
    RecordIternext {
        /// Where to go on; `None` starts at the smallest oid.
        next: Option<Oid>,
    },
    /// `tpc_begin(id, user, description, ext, tid=None, status=' ')`
    TpcBegin(Box<TransactionStart>),
    /// `storea(oid, serial, data, id)`
    Store {
        /// The object.
        oid: Oid,
        /// The revision that the client read; zero for a new object.
        serial: Tid,
        /// The new record.
        data: Bytes,
        /// The transaction, as the client named it.
        id: Value,
    },
    /// `restorea(oid, serial, data, prev_txn, id)`: a copy of a revision that exists elsewhere.
    Restore {
        /// The object.
        oid: Oid,
        /// The tid of the very revision that is restored.
        serial: Tid,
        /// The record; `None` restores an undone creation.
        data: Option<Bytes>,
        /// A transaction that wrote the same record for this object, if known.
        prev_txn: Option<Tid>,
        /// The transaction, as the client named it.
        id: Value,
    },
    /// `deleteObject(oid, serial, id)`
    DeleteObject {
        /// The object.
        oid: Oid,
        /// The revision that the client read.
        serial: Tid,
        /// The transaction, as the client named it.
        id: Value,
    },
    /// `checkCurrentSerialInTransaction(oid, serial, id)`
    CheckCurrentSerial {
        /// The object.
        oid: Oid,
        /// The revision that must still be current at vote.
        serial: Tid,
        /// The transaction, as the client named it.
        id: Value,
    },
    /// `undoa(trans_id, id)`
    Undo {
        /// Base64 of the undone transaction's tid, undecoded.
        transaction: Bytes,
        /// The transaction, as the client named it.
        id: Value,
    },
    /// `storeBlobStart()`
    StoreBlobStart,
    /// `storeBlobChunk(chunk)`
    StoreBlobChunk {
        /// The next bytes of the blob.
        chunk: Bytes,
    },
    /// `storeBlobEnd(oid, serial, data, id)`
    StoreBlobEnd {
        /// The blob object.
        oid: Oid,
        /// The revision that the client read.
        serial: Tid,
        /// The blob object's record.
        data: Bytes,
        /// The transaction, as the client named it.
        id: Value,
    },
    /// `storeBlobShared(oid, serial, data, filename, id)`
    StoreBlobShared {
        /// The blob object.
        oid: Oid,
        /// The revision that the client read.
        serial: Tid,
        /// The blob object's record.
        data: Bytes,
        /// A bare file name in the object's blob directory.
        filename: String,
        /// The transaction, as the client named it.
        id: Value,
    },
    /// `vote(id)`
    Vote {
        /// The transaction, as the client named it.
        id: Value,
    },
    /// `tpc_finish(id)`
    TpcFinish {
        /// The transaction, as the client named it.
        id: Value,
    },
    /// `tpc_abort(id)`
    TpcAbort {
        /// The transaction, as the client named it.
        id: Value,
    },
    /// `sendBlob(oid, serial)`
    SendBlob {
        /// The blob object.
        oid: Oid,
        /// The revision.
        serial: Tid,
    },
    /// `undoLog(first, last)`
    UndoLog {
        /// Index of the first entry.
        first: i64,
        /// Index past the last entry; negative: at most that many.
        last: i64,
    },
    /// `undoInfo(first, last, spec)`
    UndoInfo {
        /// Index of the first entry.
        first: i64,
        /// Index past the last entry; negative: at most that many.
        last: i64,
        /// Only entries with all these values.
        filter: Vec<(String, Value)>,
    },
    /// `pack(time, wait=1)`
    Pack {
        /// Seconds since 1970.
        time: f64,
        /// Whether the reply waits for the end of the pack.
        wait: bool,
    },
    /// `pack_estimate(time)`, a method of our own: what `pack` would do.
    PackEstimate {
        /// Seconds since 1970.
        time: f64,
    },
    /// `pack_cancel()`, a method of our own: ends the pack that is under way.
    PackCancel,
    /// `iterator_start(start, stop)`: both bounds inclusive.
    IteratorStart {
        /// The first tid.
        start: Option<Tid>,
        /// The last tid.
        stop: Option<Tid>,
    },
    /// `iterator_next(iid)`
    IteratorNext {
        /// The iterator.
        iterator: i128,
    },
    /// `iterator_record_start(txn_iid, tid)`
    IteratorRecordStart {
        /// The transaction iterator.
        iterator: i128,
        /// The transaction it returned last.
        tid: Tid,
    },
    /// `iterator_record_next(iid)`
    IteratorRecordNext {
        /// The record iterator.
        iterator: i128,
    },
    /// `iterator_gc([iid...])`
    IteratorGc {
        /// Iterators that the client has dropped.
        iterators: Vec<i128>,
    },
    /// `server_status()`
    ServerStatus,
    /// `transaction_outcome(token, since)`: what became of a transaction. No method of the reference.
    TransactionOutcome {
        /// What the transaction had in its extension under [`TOKEN_KEY`].
        token: Bytes,
        /// A transaction that the client knew of before it sent `tpc_finish`.
        since: Tid,
    },
    /// `set_client_label(label)`
    SetClientLabel {
        /// Shown before the peer's address in log lines.
        label: String,
    },
}

impl Request {
    /// The method's name in the protocol.
    #[must_use]
    pub const fn method(&self) -> &'static str {
        match self {
            Self::Register { .. } => "register",
            Self::GetInfo => "get_info",
            Self::LastTransaction => "lastTransaction",
            Self::GetInvalidations { .. } => "getInvalidations",
            Self::Ping => "ping",
            Self::NewOids { .. } => "new_oids",
            Self::NewOid => "new_oid",
            Self::LoadBefore { .. } => "loadBefore",
            Self::LoadSerial { .. } => "loadSerial",
            Self::GetTid { .. } => "getTid",
            Self::History { .. } => "history",
            Self::RecordIternext { .. } => "record_iternext",
            Self::TpcBegin(_) => "tpc_begin",
            Self::Store { .. } => "storea",
            Self::Restore { .. } => "restorea",
            Self::DeleteObject { .. } => "deleteObject",
            Self::CheckCurrentSerial { .. } => "checkCurrentSerialInTransaction",
            Self::Undo { .. } => "undoa",
            Self::StoreBlobStart => "storeBlobStart",
            Self::StoreBlobChunk { .. } => "storeBlobChunk",
            Self::StoreBlobEnd { .. } => "storeBlobEnd",
            Self::StoreBlobShared { .. } => "storeBlobShared",
            Self::Vote { .. } => "vote",
            Self::TpcFinish { .. } => "tpc_finish",
            Self::TpcAbort { .. } => "tpc_abort",
            Self::SendBlob { .. } => "sendBlob",
            Self::UndoLog { .. } => "undoLog",
            Self::UndoInfo { .. } => "undoInfo",
            Self::Pack { .. } => "pack",
            Self::PackEstimate { .. } => "pack_estimate",
            Self::PackCancel => "pack_cancel",
            Self::IteratorStart { .. } => "iterator_start",
            Self::IteratorNext { .. } => "iterator_next",
            Self::IteratorRecordStart { .. } => "iterator_record_start",
            Self::IteratorRecordNext { .. } => "iterator_record_next",
            Self::IteratorGc { .. } => "iterator_gc",
            Self::ServerStatus => "server_status",
            Self::TransactionOutcome { .. } => "transaction_outcome",
            Self::SetClientLabel { .. } => "set_client_label",
        }
    }
}

/// The arguments of `tpc_begin`.
#[derive(Clone, Debug, PartialEq)]
pub struct TransactionStart {
    /// The transaction, as the client named it; unique for one connection at one time.
    pub id: Value,
    /// Who: UTF-8 bytes.
    pub user: Bytes,
    /// What: UTF-8 bytes.
    pub description: Bytes,
    /// A pickled dict, or nothing for an empty one.
    pub extension: Bytes,
    /// The tid of a transaction that is copied from another database.
    pub tid: Option<Tid>,
    /// The status byte it shall have: `b' '`, or `b'p'` for a packed one that is copied.
    pub status: u8,
    /// What the client will ask by what became of it, if it has put that into the extension.
    pub token: Option<Bytes>,
}

/// The key in a transaction's extension under which a client puts a token of its own choice: bytes, as many as
/// [`TOKEN_LEN`] allows, that no other transaction has.
pub const TOKEN_KEY: &str = "zeolith-token";
/// How long a token is. Shorter ones are too easily somebody else's.
pub const TOKEN_LEN: std::ops::RangeInclusive<usize> = 16..=64;
