//! Why a storage could not do what it was asked, sorted by who acts next.

use std::{io, path::PathBuf};
use zeolith_types::{Conflict, Oid, Tid};

/// What a storage says instead of a result.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// Ask again on a thread that may wait.
    #[error("the answer is not in memory")]
    WouldBlock,
    /// The record is larger than the caller allowed by [`Patience::WaitUpTo`](crate::Patience::WaitUpTo).
    #[error("the record needs room for {room} bytes")]
    NoRoom {
        /// To be asked for next, in bytes. A storage that can't tell how long the record is grows it step by step.
        room: u64,
    },
    /// No such object, or it does not exist any more.
    #[error("no object {0}")]
    NoObject(Oid),
    /// Somebody else committed a newer revision.
    #[error("{} is at {}, the client read {}", .0.oid, .0.committed, .0.read)]
    Conflict(Conflict),
    /// A revision that the client relied on is not current any more.
    #[error("{oid} is at {committed}, the client relied on {read}")]
    ReadConflict {
        /// The object.
        oid: Oid,
        /// The current revision.
        committed: Tid,
        /// The revision that the client had read.
        read: Tid,
    },
    /// The storage takes no transactions.
    #[error("the storage is read-only")]
    ReadOnly,
    /// The storage would grow past its quota.
    #[error("the storage quota of {quota} bytes has been reached")]
    Quota {
        /// The configured bound in bytes.
        quota: u64,
    },
    /// The transaction can't be written in the storage's format; the text is for the client.
    #[error("{0}")]
    Format(String),
    /// A transaction can't be undone.
    #[error("cannot undo: {0}")]
    Undo(String),
    /// A transaction can't be undone, for each of these objects because of what is said of it.
    #[error("cannot undo: {}", .0.iter().map(|(oid, why)| format!("{oid}: {why}")).collect::<Vec<_>>().join(", "))]
    UndoOf(Vec<(Oid, String)>),
    /// The storage has been packed to a later time already; the text is for the client.
    #[error("{0}")]
    PackTime(String),
    /// The caller did not want it any more.
    #[error("cancelled")]
    Cancelled,
    /// The storage lacks this ability; the text names it as Python would.
    #[error("{0}")]
    Unsupported(String),
    /// The storage keeps no blobs.
    #[error("Blobs are not supported")]
    NoBlobs,
    /// There is no blob where its record says that one is.
    #[error("no blob file at {} for {oid} {tid}", path.display())]
    NoBlobFile {
        /// Where the file should be.
        path: PathBuf,
        /// The object.
        oid: Oid,
        /// The revision.
        tid: Tid,
    },
    /// A client named a file that it can't mean; the text is the name.
    #[error("{0:?} is no name of an uploaded blob")]
    BadBlobName(String),
    /// An index is empty where an object is needed.
    #[error("{0}")]
    Empty(String),
    /// The device or the operating system said no. Trying again later can help.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// To what.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file says something that can't be; the operator acts next.
    #[error("{} is damaged at byte {at}: {what}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The offset of the record.
        at: u64,
        /// What is wrong with it.
        what: String,
    },
    /// A sync failed, so nobody knows what is on the disk: no more writes until the storage is reopened.
    #[error("{0}")]
    Poisoned(String),
    /// The file belongs to another process.
    #[error("{0}")]
    Locked(String),
}
