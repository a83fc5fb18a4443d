//! Who waits for whom: sessions, transactions, object locks, publication, invalidations, timeouts.
//!
//! Events come in as method calls, decisions go out as return values. Nothing here does I/O, reads a
//! clock or knows threads: the server (and a simulation) carries bytes, time and the storage's answers.
//!
//! [`Session`] is one connection's side of the protocol, owned by the task of that connection.
//! [`Coordinator`] holds the object locks of one storage, shared by all its sessions for moments.
//! [`PublicationLog`] is the order in which commits became visible; every session reads along.

mod coordinator;
mod counters;
mod iterators;
mod locks;
mod outcome;
mod publication;
mod session;
mod transaction;
mod undo;

pub use coordinator::{Coordinator, Expired, Grant, Inquiry, Lock, Now};
pub use counters::Counters;
pub use iterators::{Iterators, TooMany};
pub use locks::LockSet;
pub use outcome::OutcomeSearch;
pub use publication::{Lagged, Publication, PublicationLog, time_away};
pub use session::{
    Access, Answer, BlobRecord, BlobStep, Caller, CloseReason, Outbox, Read, Rules, Session, Step, Verdict,
    load_reply,
};
pub use transaction::{Abandoned, VoteRequest};

/// Names a connection; never used twice while the server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);
