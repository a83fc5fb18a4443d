//! What a client wants written, and what a storage says to it at vote.

use crate::{RecordData, UploadedBlob};
use bytes::Bytes;
use zeolith_types::{Conflict, Oid, Tid};

/// Names a transaction between vote and finish or abort. Chosen by the caller, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId(pub u64);

/// A whole transaction before its vote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteSet {
    /// Who: UTF-8 bytes.
    pub user: Bytes,
    /// What: UTF-8 bytes.
    pub description: Bytes,
    /// A pickled dict, or nothing.
    pub extension: Bytes,
    /// The tid it must get, for a transaction that is copied from another database.
    pub tid: Option<Tid>,
    /// The status byte it must get, `b' '` if 0.
    pub status: u8,
    /// What to do, in the order in which the client said it.
    pub writes: Vec<Write>,
}

/// One thing that a transaction does, nearly always to one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// A new revision.
    Store {
        /// The object.
        oid: Oid,
        /// The revision that the client read; of no matter for an object that does not exist yet.
        serial: Tid,
        /// The record.
        data: RecordData,
    },
    /// A new revision of a blob: a record like any other, and the blob's content. The reference's client
    /// stores the record before as well, so an object can be stored twice in a transaction.
    StoreBlob {
        /// The object.
        oid: Oid,
        /// The revision that the client read; of no matter for an object that does not exist yet.
        serial: Tid,
        /// The record.
        data: RecordData,
        /// The content.
        blob: UploadedBlob,
    },
    /// A revision copied from another database, without any check.
    Restore {
        /// The object.
        oid: Oid,
        /// The tid of this very revision.
        serial: Tid,
        /// The record; `None`: the object does not exist from here on.
        data: Option<RecordData>,
        /// A transaction whose record of this object is the same, if known.
        prev_txn: Option<Tid>,
    },
    /// The object is to go.
    Delete {
        /// The object.
        oid: Oid,
        /// The revision that the client read.
        serial: Tid,
    },
    /// The revision must still be current.
    Check {
        /// The object.
        oid: Oid,
        /// The revision that the client read.
        serial: Tid,
    },
    /// Everything that a transaction changed is to be as it was before.
    Undo {
        /// The transaction to undo.
        tid: Tid,
    },
}

impl Write {
    /// The object it names; an undo names none, only the storage knows what it touches.
    #[must_use]
    pub const fn oid(&self) -> Option<Oid> {
        match self {
            Self::Store { oid, .. }
            | Self::StoreBlob { oid, .. }
            | Self::Restore { oid, .. }
            | Self::Delete { oid, .. }
            | Self::Check { oid, .. } => Some(*oid),
            Self::Undo { .. } => None,
        }
    }

    /// The record that it brings along.
    #[must_use]
    pub const fn record(&self) -> Option<&RecordData> {
        match self {
            Self::Store { data, .. }
            | Self::StoreBlob { data, .. }
            | Self::Restore { data: Some(data), .. } => Some(data),
            Self::Restore { data: None, .. }
            | Self::Delete { .. }
            | Self::Check { .. }
            | Self::Undo { .. } => None,
        }
    }
}

/// What becomes of a conflict that the storage can't resolve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConflictPolicy {
    /// The vote fails with the first one.
    Refuse,
    /// The vote gathers them all, for the client to resolve.
    Collect,
}

/// What an undo does to one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undone {
    /// The object.
    pub oid: Oid,
    /// The transaction that is undone.
    pub tid: Tid,
    /// The transaction whose record the object has again; `None` if it does not exist any more, or has
    /// got a record that was made of several.
    pub back_to: Option<Tid>,
}

/// A vote that did not fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Voted {
    /// The transaction can be finished.
    Ready {
        /// The objects that others must hear of, each once.
        changed: Vec<Oid>,
        /// The objects whose conflicts the storage resolved.
        resolved: Vec<Oid>,
        /// The objects that an undo touched.
        undone: Vec<Undone>,
    },
    /// The client is asked to resolve these, one for each object; the storage has forgotten the transaction.
    Conflicts(Vec<Conflict>),
}
