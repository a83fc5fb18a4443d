//! What becomes of a call: steps for the shell, answers for callers, reasons to close.

use crate::{Lagged, LockSet, session::blob::BlobStep, transaction::Abandoned};
use bytes::Bytes;
use std::ops::Range;
use zeolith_storage::TransactionId;
use zeolith_types::{MessageId, Oid, Refusal, Reply, Tid, Timestamp, Value};

/// To whom an answer goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Caller {
    /// Echoed in the answer.
    pub id: MessageId,
    /// Nobody waits for the answer; a refusal closes the connection.
    pub one_way: bool,
    /// The method that was called.
    pub method: &'static str,
}

/// A result on its way to its caller.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// To whom.
    pub to: Caller,
    /// What.
    pub result: Result<Reply, Refusal>,
}

/// What follows from the storage's word at vote.
#[derive(Debug)]
pub struct Verdict {
    /// For the client, unless it has gone.
    pub answer: Option<Answer>,
    /// Locks to release.
    pub release: Option<Abandoned>,
}

/// What the shell does next for a call.
#[derive(Debug)]
pub enum Step {
    /// Nothing.
    Done,
    /// Pass it to [`Session::answer`].
    Answer(Answer),
    /// Find the storage and call [`Session::register`].
    Register {
        /// Who asks.
        to: Caller,
        /// Its name.
        storage: String,
        /// Whether the client promises not to write.
        read_only: bool,
    },
    /// Ask the storage, then [`Session::answer`].
    Read(Caller, Read),
    /// Ask the coordinator for these locks, then [`Session::locked`].
    Lock(LockSet),
    /// Hand the transaction to the log writer.
    Finish(TransactionId, Vec<Oid>),
    /// Let the storage pack, however long that takes; answer at its end, or at once if nobody waits for it.
    Pack {
        /// Who asks.
        to: Caller,
        /// What is older may be dropped.
        time: Timestamp,
        /// Whether the answer waits for the end.
        wait: bool,
    },
    /// Put these records aside, then [`Session::put_aside`].
    PutAside(Caller, Vec<Bytes>),
    /// Let the storage find out what such a pack would do; answer at its end.
    EstimatePack {
        /// Who asks.
        to: Caller,
        /// What is older could be dropped.
        time: Timestamp,
    },
    /// End the pack that is under way; answer whether there is one.
    CancelPack {
        /// Who asks.
        to: Caller,
    },
    /// Take the bytes of an upload to the storage.
    Blob(Caller, BlobStep),
    /// Send a blob: a notice of its beginning, its bytes, a notice of its end, and then answer `None`; nothing
    /// else comes in between.
    SendBlob {
        /// Who asks.
        to: Caller,
        /// The object.
        oid: Oid,
        /// The revision.
        serial: Tid,
    },
    /// Clean up what was abandoned, if anything, then answer `None`.
    Abort(Caller, Option<Abandoned>),
    /// Close the connection.
    Close(CloseReason),
}

/// What only the storage, or the shell, can tell.
#[derive(Clone, Debug, PartialEq)]
pub enum Read {
    /// [`Request::GetInfo`]
    Info,
    /// [`Request::LastTransaction`]
    LastTransaction,
    /// [`Request::GetInvalidations`]
    Changes(Tid),
    /// [`Request::NewOids`]
    NewOids(usize),
    /// [`Request::LoadBefore`]
    LoadBefore(Oid, Tid),
    /// [`Request::LoadSerial`]
    LoadSerial(Oid, Tid),
    /// [`Request::GetTid`]
    CurrentTid(Oid),
    /// [`Request::History`]
    History(Oid, usize),
    /// [`Request::RecordIternext`]
    RecordIternext(Option<Oid>),
    /// [`Request::UndoLog`] and [`Request::UndoInfo`]: which ones, of those that have all these values.
    UndoLog(Range<u64>, Vec<(String, Value)>),
    /// [`Request::IteratorStart`]
    IteratorStart(Option<Tid>, Option<Tid>),
    /// [`Request::IteratorNext`]
    IteratorNext(i128),
    /// [`Request::IteratorRecordStart`]
    IteratorRecordStart(i128, Tid),
    /// [`Request::IteratorRecordNext`]
    IteratorRecordNext(i128),
    /// [`Request::IteratorGc`]
    IteratorGc(Vec<i128>),
    /// [`Request::ServerStatus`]
    Status,
    /// [`Request::TransactionOutcome`]
    Outcome(Bytes, Tid),
    /// [`Request::SetClientLabel`]
    SetLabel(String),
}

/// Why a connection is closed by the server.
#[derive(Clone, Debug, PartialEq)]
pub enum CloseReason {
    /// A method that is unknown, or not allowed in this phase.
    InvalidMethod(String),
    /// A one-way call failed, and closing is the only way to say so.
    OneWayFailed(&'static str, Refusal),
    /// The client fell too far behind with its invalidations.
    Lagged,
}

impl From<Lagged> for CloseReason {
    fn from(Lagged: Lagged) -> Self {
        Self::Lagged
    }
}

impl Caller {
    /// An answer to this caller.
    #[must_use]
    pub fn answer(self, result: Result<Reply, Refusal>) -> Step {
        Step::Answer(Answer { to: self, result })
    }

    pub(super) fn refuse(self, refusal: Refusal) -> Step {
        self.answer(Err(refusal))
    }

    pub(super) fn done(self) -> Step {
        if self.one_way { Step::Done } else { self.answer(Ok(Reply::None)) }
    }
}
