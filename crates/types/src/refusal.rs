//! What a server answers instead of a result, one variant for each exception that peers know.

use crate::{Oid, Tid, Value};

/// An error reply. `zeolith-wire` knows the Python class and the payload form of each.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// `POSKeyError`: no such object, or it does not exist any more.
    #[error("no object {0}")]
    NoObject(Oid),
    /// `POSKeyError` with three arguments: the record is there, the blob file is not.
    #[error("no blob file at {path} for {oid} {tid}")]
    NoBlobFile {
        /// Where the file should be.
        path: String,
        /// The object.
        oid: Oid,
        /// The revision.
        tid: Tid,
    },
    /// `ConflictError`: somebody else committed a newer revision.
    #[error("{oid} is at {committed}, the client read {read}")]
    Conflict {
        /// The object.
        oid: Oid,
        /// `module.Class` of its record, if that can be told.
        class_name: Option<String>,
        /// The current revision.
        committed: Tid,
        /// The revision that the client had read.
        read: Tid,
    },
    /// `ReadConflictError`: a revision that the client relied on is not current any more.
    #[error("{oid} is at {committed}, the client relied on {read}")]
    ReadConflict {
        /// The object.
        oid: Oid,
        /// The current revision.
        committed: Tid,
        /// The revision that the client had read.
        read: Tid,
    },
    /// `ReadOnlyError`
    #[error("read-only")]
    ReadOnly,
    /// `StorageTransactionError(current, given)`: a call names another transaction than the open one.
    #[error("the call names transaction {given:?}, open is {current:?}")]
    WrongTransaction {
        /// What is open.
        current: Option<Value>,
        /// What the call named.
        given: Value,
    },
    /// `StorageTransactionError(text)`
    #[error("{0}")]
    Transaction(String),
    /// `FileStorageQuotaError`
    #[error("{0}")]
    Quota(String),
    /// `FileStorageError`
    #[error("{0}")]
    FileStorage(String),
    /// `UndoError`
    #[error("cannot undo: {reason}")]
    Undo {
        /// Why.
        reason: String,
        /// Which object stands in the way.
        oid: Option<Oid>,
    },
    /// `MultipleUndoErrors`: a transaction can't be undone, for each of these objects because of what is
    /// said of it. There is at least one.
    #[error("cannot undo: {}", .0.iter().map(|(oid, why)| format!("{oid}: {why}")).collect::<Vec<_>>().join(", "))]
    UndoOf(Vec<(Oid, String)>),
    /// `binascii.Error`: what should be base64 is not.
    #[error("{0}")]
    Base64(String),
    /// `Unsupported`
    #[error("{0}")]
    Unsupported(String),
    /// `OSError(errno, text)`: the disk said no.
    #[error("{text}")]
    Os {
        /// The operating system's number, if it has one.
        errno: Option<i32>,
        /// What happened, where.
        text: String,
    },
    /// `ValueError`
    #[error("{0}")]
    Value(String),
    /// `TypeError`
    #[error("{0}")]
    Type(String),
    /// `AttributeError`
    #[error("{0}")]
    Attribute(String),
    /// `AssertionError`
    #[error("{0}")]
    Assertion(String),
    /// `KeyError`
    #[error("no key {0}")]
    Key(i128),
    /// `Exception`: the reference's own word where no class fits.
    #[error("{0}")]
    Exception(String),
    /// `ZODB.POSException.StorageError`: the storage can't go on; the operator must act.
    #[error("{0}")]
    Storage(String),
}

impl Refusal {
    /// Whether this is a normal outcome of concurrent work, which logs must not make noise about.
    #[must_use]
    pub const fn is_routine(&self) -> bool {
        matches!(self, Self::NoObject(_) | Self::Conflict { .. } | Self::ReadConflict { .. })
    }
}
