//! The vocabulary of ZEO: object ids, transaction ids, requests, replies, notices and refusals.
//!
//! Everything that two crates say to each other is a type from here. Nothing here does I/O, and
//! nothing here knows how a value looks on the socket or in a file; `zeolith-wire`,
//! `zeolith-pickle` and `zeolith-filestorage` do.

mod ids;
mod message;
mod refusal;
mod reply;
mod timestamp;
mod value;

pub use ids::{Oid, Tid};
pub use message::{Call, MessageId, Request, TOKEN_KEY, TOKEN_LEN, TransactionStart};
pub use refusal::Refusal;
pub use reply::{
    Conflict, ConflictCount, CurrentRecord, HistoryEntry, Notice, Outcome, PackStatus, RecordInfo, Reply,
    Revision, ServerStatus, StorageInfo, TransactionInfo, UndoEntry,
};
pub use timestamp::Timestamp;
pub use value::Value;
