//! One connection's side of the protocol: which call is allowed when, and what becomes of it.
//!
//! A call comes in through [`Session::receive`] and becomes a [`Step`] for the shell: answer, read from the
//! storage, take locks, finish. Outgoing messages leave through [`Session::deliver`] and
//! [`Session::answer`], which keep the one rule that clients' caches depend on: an answer computed as of
//! transaction T leaves after the notices up to T and before those after T (invariants 7 and 8).

mod blob;
mod commit;
mod deliver;
mod step;

pub use blob::{BlobRecord, BlobStep};
pub use deliver::{Outbox, load_reply};
pub use step::{Answer, Caller, CloseReason, Read, Step, Verdict};

use crate::{
    Counters, SessionId,
    transaction::{Phase, Transaction},
    undo,
};
use bytes::Bytes;
use std::sync::{Arc, atomic::Ordering::Relaxed};
use zeolith_storage::{RecordData, Write};
use zeolith_types::{Call, Refusal, Reply, Request, Tid, Timestamp};

/// One connection after its hello.
#[derive(Debug)]
pub struct Session {
    id: SessionId,
    access: Access,
    /// The client has been told of everything up to here.
    delivered: Tid,
    transaction: Option<Transaction>,
    counters: Arc<Counters>,
    rules: Rules,
}

/// What the server's options say of every session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// `client-conflict-resolution`: votes answer conflicts for the client to resolve.
    pub collects_conflicts: bool,
    /// `transaction-memory-max`: bytes of records that a transaction keeps in memory before they are put
    /// aside.
    pub transaction_memory_max: u64,
    /// `transaction-size-max`: bytes of a transaction beyond which its vote fails.
    pub transaction_size_max: u64,
}

/// What a session may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing but register.
    Unregistered,
    /// Read.
    ReadOnly,
    /// Read and write.
    ReadWrite,
}

impl Session {
    /// A connection that has said hello.
    #[must_use]
    pub fn new(id: SessionId, rules: Rules) -> Self {
        Self {
            id,
            access: Access::Unregistered,
            delivered: Tid::ZERO,
            transaction: None,
            counters: Arc::default(),
            rules,
        }
    }

    /// Its name.
    #[must_use]
    pub const fn id(&self) -> SessionId {
        self.id
    }

    /// What it may do.
    #[must_use]
    pub const fn access(&self) -> Access {
        self.access
    }

    /// What the client will ask by what became of its transaction.
    #[must_use]
    pub fn token(&self) -> Option<&Bytes> {
        self.transaction.as_ref()?.token.as_ref()
    }

    /// Whether a transaction holds or awaits locks, for the log line of a disconnect.
    #[must_use]
    pub fn is_voting(&self) -> bool {
        self.transaction.as_ref().is_some_and(|t| !matches!(t.phase, Phase::Collecting))
    }

    /// Whether a transaction is with the log writer, whose outcome nothing can change any more.
    #[must_use]
    pub fn is_finishing(&self) -> bool {
        self.transaction.as_ref().is_some_and(|t| matches!(t.phase, Phase::Finishing { .. }))
    }

    /// Whether a method may be called at all in this phase; if not, the connection is closed whatever the
    /// arguments are.
    #[must_use]
    pub fn admits(&self, method: &str) -> bool {
        (self.access == Access::Unregistered) == (method == "register")
    }

    /// Joins a storage as of its last transaction `last`: the client will hear of everything after it.
    ///
    /// # Errors
    /// [`Refusal::ReadOnly`] if the client wants to write and the storage does not let it; the connection
    /// may try again.
    pub fn register(
        &mut self,
        read_only: bool,
        storage_is_read_only: bool,
        last: Tid,
        counters: Arc<Counters>,
    ) -> Result<Reply, Refusal> {
        if storage_is_read_only && !read_only {
            return Err(Refusal::ReadOnly);
        }
        self.access = if read_only { Access::ReadOnly } else { Access::ReadWrite };
        self.delivered = last;
        self.counters = counters;
        Ok(Reply::Tid(last))
    }

    /// Takes a call of the client.
    pub fn receive(&mut self, call: Call) -> Step {
        let Call { id, one_way, request } = call;
        let to = Caller { id, one_way, method: request.method() };
        if !self.admits(to.method) {
            return Step::Close(CloseReason::InvalidMethod(to.method.to_owned()));
        }
        match (self.access, request) {
            (_, Request::Register { storage, read_only }) => Step::Register { to, storage, read_only },
            (Access::ReadOnly, request) if writes(&request) => to.refuse(Refusal::ReadOnly),
            (_, request) => self.dispatch(to, request),
        }
    }

    fn dispatch(&mut self, to: Caller, request: Request) -> Step {
        let read = match request {
            Request::LoadBefore { oid, before } => {
                self.counters.loads.fetch_add(1, Relaxed);
                Read::LoadBefore(oid, before)
            }
            Request::GetInfo => Read::Info,
            Request::LastTransaction => Read::LastTransaction,
            Request::GetInvalidations { after } => Read::Changes(after),
            Request::NewOids { count } => Read::NewOids(count.clamp(1, 100) as usize),
            Request::LoadSerial { oid, serial } => Read::LoadSerial(oid, serial),
            Request::GetTid { oid } => Read::CurrentTid(oid),
            Request::History { oid, size } => Read::History(oid, size),
            Request::RecordIternext { next } => Read::RecordIternext(next),
            Request::IteratorStart { start, stop } => Read::IteratorStart(start, stop),
            Request::IteratorNext { iterator } => Read::IteratorNext(iterator),
            Request::IteratorRecordStart { iterator, tid } => Read::IteratorRecordStart(iterator, tid),
            Request::IteratorRecordNext { iterator } => Read::IteratorRecordNext(iterator),
            Request::IteratorGc { iterators } => Read::IteratorGc(iterators),
            Request::ServerStatus => Read::Status,
            Request::TransactionOutcome { token, since } => Read::Outcome(token, since),
            Request::SetClientLabel { label } => Read::SetLabel(label),
            Request::Ping => return to.answer(Ok(Reply::None)),
            Request::UndoLog { first, last } => Read::UndoLog(undo::range(first, last), Vec::new()),
            Request::UndoInfo { first, last, filter } => Read::UndoLog(undo::range(first, last), filter),
            Request::NewOid => return to.refuse(no_attribute("new_oid")),
            Request::Pack { time, wait } => {
                return Step::Pack { to, time: Timestamp::from_secs_f64(time), wait };
            }
            Request::PackEstimate { time } => {
                return Step::EstimatePack { to, time: Timestamp::from_secs_f64(time) };
            }
            Request::PackCancel => return Step::CancelPack { to },
            Request::SendBlob { oid, serial } => return Step::SendBlob { to, oid, serial },
            Request::StoreBlobStart => return self.begin_blob(to),
            Request::StoreBlobChunk { chunk } => return self.append_to_blob(to, chunk),
            Request::StoreBlobEnd { oid, serial, data, id: transaction } => {
                return self.end_blob(to, &transaction, BlobRecord { oid, serial, data });
            }
            Request::StoreBlobShared { oid, serial, data, filename, id: transaction } => {
                return self.shared_blob(to, &transaction, BlobRecord { oid, serial, data }, filename);
            }
            Request::TpcBegin(start) => return self.begin(to, *start),
            Request::Store { oid, serial, data, id: transaction } => {
                let data = data.into();
                return self.write(to, &transaction, Write::Store { oid, serial, data });
            }
            Request::Restore { oid, serial, data, prev_txn, id: transaction } => {
                let data = data.map(RecordData::Memory);
                let write = Write::Restore { oid, serial, data, prev_txn };
                return self.write(to, &transaction, write);
            }
            Request::DeleteObject { oid, serial, id: transaction } => {
                return self.write(to, &transaction, Write::Delete { oid, serial });
            }
            Request::CheckCurrentSerial { oid, serial, id: transaction } => {
                return self.write(to, &transaction, Write::Check { oid, serial });
            }
            Request::Undo { transaction: undone, id: transaction } => {
                return self.undo(to, &transaction, &undone);
            }
            Request::Vote { id: transaction } => return self.vote(to, &transaction),
            Request::TpcFinish { id: transaction } => return self.finish(to, &transaction),
            Request::TpcAbort { id: transaction } => return self.abort(to, &transaction),
            Request::Register { .. } => {
                return Step::Close(CloseReason::InvalidMethod(to.method.to_owned()));
            }
        };
        Step::Read(to, read)
    }
}

fn writes(request: &Request) -> bool {
    match request {
        Request::NewOids { .. }
        | Request::NewOid
        | Request::TpcBegin(_)
        | Request::Store { .. }
        | Request::Restore { .. }
        | Request::DeleteObject { .. }
        | Request::CheckCurrentSerial { .. }
        | Request::Undo { .. }
        | Request::StoreBlobStart
        | Request::StoreBlobChunk { .. }
        | Request::StoreBlobEnd { .. }
        | Request::StoreBlobShared { .. }
        | Request::Vote { .. }
        | Request::TpcFinish { .. }
        | Request::TpcAbort { .. } => true,
        Request::Register { .. }
        | Request::GetInfo
        | Request::LastTransaction
        | Request::GetInvalidations { .. }
        | Request::Ping
        | Request::LoadBefore { .. }
        | Request::LoadSerial { .. }
        | Request::GetTid { .. }
        | Request::History { .. }
        | Request::RecordIternext { .. }
        | Request::SendBlob { .. }
        | Request::UndoLog { .. }
        | Request::UndoInfo { .. }
        | Request::Pack { .. }
        | Request::PackEstimate { .. }
        | Request::PackCancel
        | Request::IteratorStart { .. }
        | Request::IteratorNext { .. }
        | Request::IteratorRecordStart { .. }
        | Request::IteratorRecordNext { .. }
        | Request::IteratorGc { .. }
        | Request::ServerStatus
        | Request::TransactionOutcome { .. }
        | Request::SetClientLabel { .. } => false,
    }
}

/// The words of Python for a method that a storage does not have.
fn no_attribute(name: &str) -> Refusal {
    Refusal::Attribute(format!("the storage has no attribute '{name}'"))
}
