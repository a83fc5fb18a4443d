//! One connection's side of the protocol: which call is allowed when, and what becomes of it.
//!
//! A call comes in through [`Session::receive`] and becomes a [`Step`] for the shell: answer, read from the
//! storage, take locks, finish. Outgoing messages leave through [`Session::deliver`] and
//! [`Session::answer`], which keep the one rule that clients' caches depend on: an answer computed as of
//! transaction T leaves after the notices up to T and before those after T (invariants 7 and 8).

use crate::{
    Counters, Lagged, Lock, LockSet, Publication, PublicationLog, SessionId,
    transaction::{Abandoned, Phase, Transaction, VoteRequest},
    undo,
};
use std::{
    ops::Range,
    sync::{Arc, atomic::Ordering::Relaxed},
};
use zeolith_storage::{Found, Load, TransactionId, Voted, Write};
use zeolith_types::{Call, MessageId, Oid, Refusal, Reply, Request, Tid, TransactionStart, Value};

/// One connection after its hello.
#[derive(Debug)]
pub struct Session {
    id: SessionId,
    access: Access,
    /// The client has been told of everything up to here.
    delivered: Tid,
    transaction: Option<Transaction>,
    counters: Arc<Counters>,
    collects_conflicts: bool,
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
    /// [`Request::SetClientLabel`]
    SetLabel(String),
}

/// Why a connection is closed by the server.
#[derive(Clone, Debug, PartialEq)]
pub enum CloseReason {
    /// A method that is unknown, or not allowed in this phase.
    InvalidMethod(String),
    /// A one-way call failed, and closing is the only way to say so (trap T27).
    OneWayFailed(&'static str, Refusal),
    /// The client fell too far behind with its invalidations.
    Lagged,
}

/// Takes outgoing messages in their order.
pub trait Outbox {
    /// Somebody else's transaction became visible.
    fn invalidate(&mut self, publication: &Publication);
    /// The client's own commit became visible: it is told the storage's sizes before its reply.
    fn info(&mut self);
    /// The result of a call.
    fn reply(&mut self, id: &MessageId, reply: &Reply);
    /// The failure of a call.
    fn refuse(&mut self, id: &MessageId, refusal: &Refusal);
}

impl From<Lagged> for CloseReason {
    fn from(Lagged: Lagged) -> Self {
        Self::Lagged
    }
}

impl Session {
    /// A connection that has said hello. With `collects_conflicts` (the option
    /// `client-conflict-resolution`) its votes answer conflicts for the client to resolve.
    #[must_use]
    pub fn new(id: SessionId, collects_conflicts: bool) -> Self {
        Self {
            id,
            access: Access::Unregistered,
            delivered: Tid::ZERO,
            transaction: None,
            counters: Arc::default(),
            collects_conflicts,
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
            Request::SetClientLabel { label } => Read::SetLabel(label),
            Request::Ping => return to.answer(Ok(Reply::None)),
            Request::UndoLog { first, last } => Read::UndoLog(undo::range(first, last), Vec::new()),
            Request::UndoInfo { first, last, filter } => Read::UndoLog(undo::range(first, last), filter),
            Request::NewOid => return to.refuse(no_attribute("new_oid")),
            Request::Pack { .. } => return to.refuse(no_attribute("pack")),
            Request::SendBlob { .. } => {
                let refusal = Refusal::Type("Blobs are not supported".to_owned());
                return to.refuse(refusal);
            }
            Request::StoreBlobStart
            | Request::StoreBlobChunk { .. }
            | Request::StoreBlobEnd { .. }
            | Request::StoreBlobShared { .. } => {
                return to.refuse(no_attribute("temporaryDirectory"));
            }
            Request::TpcBegin(start) => return self.begin(to, *start),
            Request::Store { oid, serial, data, id: transaction } => {
                return self.write(to, &transaction, Write::Store { oid, serial, data });
            }
            Request::Restore { oid, serial, data, prev_txn, id: transaction } => {
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

    fn begin(&mut self, to: Caller, start: TransactionStart) -> Step {
        match &self.transaction {
            None => {
                self.transaction = Some(Transaction::begin(start));
                self.counters.active_transactions.fetch_add(1, Relaxed);
                to.done()
            }
            Some(open) if open.id == start.id => to.done(),
            Some(_) => {
                let text = "Multiple simultaneous tpc_begin requests from one client.";
                to.refuse(Refusal::Transaction(text.to_owned()))
            }
        }
    }

    /// The open transaction, if the client names it and may still add to it.
    fn collecting(&mut self, given: &Value) -> Result<&mut Transaction, Refusal> {
        let Some(open) = &mut self.transaction else {
            return Err(Refusal::WrongTransaction { current: None, given: given.clone() });
        };
        if open.id != *given {
            let current = Some(open.id.clone());
            return Err(Refusal::WrongTransaction { current, given: given.clone() });
        }
        match open.phase {
            Phase::Collecting => Ok(open),
            Phase::Waiting { .. } | Phase::Voting { .. } => {
                Err(Refusal::Transaction("Already voting (waiting)".to_owned()))
            }
            Phase::Voted { .. } | Phase::Finishing { .. } => {
                Err(Refusal::Transaction("Already voting (locked)".to_owned()))
            }
        }
    }

    fn write(&mut self, to: Caller, given: &Value, write: Write) -> Step {
        let counts = !matches!(write, Write::Check { .. });
        match self.collecting(given) {
            Ok(open) => open.push(write),
            Err(refusal) => return to.refuse(refusal),
        }
        if counts {
            self.counters.stores.fetch_add(1, Relaxed);
        }
        to.done()
    }

    /// A name that names no transaction fails the vote, not the call, which nobody waits for.
    fn undo(&mut self, to: Caller, given: &Value, undone: &[u8]) -> Step {
        let open = match self.collecting(given) {
            Ok(open) => open,
            Err(refusal) => return to.refuse(refusal),
        };
        match undo::named(undone) {
            Ok(tid) => open.push(Write::Undo { tid }),
            Err(refusal) => {
                open.doom.get_or_insert(refusal);
            }
        }
        to.done()
    }

    fn vote(&mut self, to: Caller, given: &Value) -> Step {
        let open = match self.collecting(given) {
            Ok(open) => open,
            Err(refusal) => return to.refuse(refusal),
        };
        if let Some(refusal) = open.doom.take() {
            self.end();
            return to.refuse(refusal);
        }
        let locks = open.lock_set();
        // The ticket is known after the coordinator was asked; `locked` comes next, always.
        open.phase = Phase::Waiting { call: to, transaction: TransactionId(0) };
        Step::Lock(locks)
    }

    /// The coordinator's answer to [`Step::Lock`]: the vote itself if the locks are held.
    pub fn locked(&mut self, transaction: TransactionId, lock: Lock) -> Option<VoteRequest> {
        if let Some(Transaction { phase: Phase::Waiting { transaction: ticket, .. }, .. }) =
            &mut self.transaction
        {
            *ticket = transaction;
        }
        match lock {
            Lock::Waiting => None,
            Lock::Granted => self.granted(transaction),
        }
    }

    /// The locks that a vote waited for are held. `None` if the vote has been given up meanwhile; its
    /// ticket is released already.
    pub fn granted(&mut self, granted: TransactionId) -> Option<VoteRequest> {
        let open = self.transaction.as_mut()?;
        let call = match &open.phase {
            Phase::Waiting { call, transaction } if *transaction == granted => call.clone(),
            _ => return None,
        };
        // With client-side resolution the same log is voted on again, with more stores at its end.
        let writes =
            if self.collects_conflicts { open.writes.clone() } else { std::mem::take(&mut open.writes) };
        open.phase = Phase::Voting { call, transaction: granted };
        Some(VoteRequest { transaction: granted, writes, size: open.size })
    }

    /// What the storage said at vote: the answer to the client, and what is to be released.
    pub fn voted(&mut self, voted: TransactionId, outcome: Result<Voted, Refusal>) -> Verdict {
        let call = match self.transaction.as_ref().map(|open| &open.phase) {
            Some(Phase::Voting { call, transaction }) if *transaction == voted => call.clone(),
            _ => {
                let ready = matches!(outcome, Ok(Voted::Ready { .. }));
                return Verdict {
                    answer: None,
                    release: Some(Abandoned { transaction: voted, voted: ready }),
                };
            }
        };
        let release = Some(Abandoned { transaction: voted, voted: false });
        let (result, release) = match outcome {
            Ok(Voted::Ready { changed, resolved, mut undone }) => {
                self.set_phase(Phase::Voted { transaction: voted, changed });
                self.counters.conflicts_resolved.fetch_add(resolved.len() as u64, Relaxed);
                undone.extend(resolved);
                (Ok(Reply::Voted(undone)), None)
            }
            Ok(Voted::Conflicts(conflicts)) => {
                self.set_phase(Phase::Collecting);
                (Ok(Reply::Conflicts(conflicts)), release)
            }
            Err(refusal) => {
                if matches!(refusal, Refusal::Conflict { .. } | Refusal::ReadConflict { .. }) {
                    self.counters.conflicts.fetch_add(1, Relaxed);
                }
                self.end();
                (Err(refusal), release)
            }
        };
        Verdict { answer: Some(Answer { to: call, result }), release }
    }

    fn set_phase(&mut self, phase: Phase) {
        if let Some(open) = &mut self.transaction {
            open.phase = phase;
        }
    }

    fn finish(&mut self, to: Caller, given: &Value) -> Step {
        let open = match &mut self.transaction {
            Some(open) if open.id == *given => open,
            // Not an error (trap T28).
            _ => return to.answer(Ok(Reply::None)),
        };
        match &mut open.phase {
            Phase::Voted { transaction, changed } => {
                let step = Step::Finish(*transaction, std::mem::take(changed));
                open.phase = Phase::Finishing { call: to };
                step
            }
            Phase::Collecting | Phase::Waiting { .. } | Phase::Voting { .. } | Phase::Finishing { .. } => {
                let refusal = Refusal::Assertion("the transaction has not been voted on".to_owned());
                to.refuse(refusal)
            }
        }
    }

    /// The log writer could not write the transaction; it is as if it had been aborted.
    pub fn finish_failed(&mut self, refusal: Refusal) -> Option<Answer> {
        let open = self.end()?;
        self.counters.aborts.fetch_add(1, Relaxed);
        match open.phase {
            Phase::Finishing { call } => Some(Answer { to: call, result: Err(refusal) }),
            Phase::Collecting | Phase::Waiting { .. } | Phase::Voting { .. } | Phase::Voted { .. } => None,
        }
    }

    fn abort(&mut self, to: Caller, given: &Value) -> Step {
        let names_it = self.transaction.as_ref().is_some_and(|open| open.id == *given);
        if !names_it || self.is_finishing() {
            return to.answer(Ok(Reply::None));
        }
        Step::Abort(to, self.give_up())
    }

    /// The connection is gone: what must be cleaned up.
    pub fn close(&mut self) -> Option<Abandoned> {
        if self.is_finishing() {
            // The log writer ends it; nobody will hear.
            self.end();
            return None;
        }
        self.give_up()
    }

    fn give_up(&mut self) -> Option<Abandoned> {
        let open = self.end()?;
        self.counters.aborts.fetch_add(1, Relaxed);
        open.abandoned()
    }

    fn end(&mut self) -> Option<Transaction> {
        let open = self.transaction.take()?;
        self.counters.active_transactions.fetch_sub(1, Relaxed);
        Some(open)
    }

    /// Whether notices up to `through` are still to be written.
    #[must_use]
    pub fn is_behind(&self, through: Tid) -> bool {
        self.delivered < through && self.access != Access::Unregistered
    }

    /// Writes all notices up to `through`. At the place of the client's own commit stands its reply.
    ///
    /// # Errors
    /// [`CloseReason::Lagged`] if the log does not reach back to what the client was told last.
    pub fn deliver(
        &mut self,
        log: &PublicationLog,
        through: Tid,
        out: &mut impl Outbox,
    ) -> Result<(), CloseReason> {
        for publication in log.between(self.delivered, through)? {
            if publication.committer == Some(self.id) {
                self.finished(publication, out);
            } else {
                out.invalidate(publication);
            }
        }
        self.delivered = self.delivered.max(through);
        Ok(())
    }

    fn finished(&mut self, publication: &Publication, out: &mut impl Outbox) {
        if !self.is_finishing() {
            return;
        }
        if let Some(Transaction { phase: Phase::Finishing { call }, .. }) = self.end() {
            out.info();
            if !call.one_way {
                out.reply(&call.id, &Reply::Tid(publication.tid));
            }
        }
    }

    /// Writes the answer to a call. All notices that it takes into account have been delivered.
    ///
    /// # Errors
    /// [`CloseReason::OneWayFailed`] if it is a refusal that nobody waits for.
    pub fn answer(&mut self, answer: Answer, out: &mut impl Outbox) -> Result<(), CloseReason> {
        let Answer { to, result } = answer;
        match (result, to.one_way) {
            (Err(refusal), true) => return Err(CloseReason::OneWayFailed(to.method, refusal)),
            (Ok(_), true) => {}
            (Ok(reply), false) => out.reply(&to.id, &reply),
            (Err(refusal), false) => out.refuse(&to.id, &refusal),
        }
        Ok(())
    }

    /// Turns a load into its answer. A load that comes late, after notices newer than the state it was
    /// computed on, may call a revision current that the client already knows to be replaced: its `end` is
    /// filled in from the log first.
    ///
    /// # Errors
    /// [`Lagged`] if the log does not reach back far enough to tell; the load must be done again.
    pub fn correct_load(&self, oid: Oid, mut load: Load, log: &PublicationLog) -> Result<Load, Lagged> {
        if let Found::Revision(revision) = &mut load.found
            && revision.end.is_none()
            && load.as_of < self.delivered
        {
            revision.end = log.first_change(oid, load.as_of, self.delivered)?;
        }
        Ok(load)
    }

    /// Whether a load that was computed as of `as_of` needs [`Self::correct_load`].
    #[must_use]
    pub fn is_ahead_of(&self, as_of: Tid) -> bool {
        as_of < self.delivered
    }
}

/// What a load's finding is to the client (trap T24).
///
/// # Errors
/// [`Refusal::NoObject`] if there is no such object.
pub fn load_reply(oid: Oid, found: Found) -> Result<Reply, Refusal> {
    match found {
        Found::Revision(revision) => Ok(Reply::Loaded(Some(revision))),
        Found::NothingBefore => Ok(Reply::Loaded(None)),
        Found::NoObject => Err(Refusal::NoObject(oid)),
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
        | Request::StoreBlobStart
        | Request::StoreBlobChunk { .. }
        | Request::SendBlob { .. }
        | Request::UndoLog { .. }
        | Request::UndoInfo { .. }
        | Request::Pack { .. }
        | Request::IteratorStart { .. }
        | Request::IteratorNext { .. }
        | Request::IteratorRecordStart { .. }
        | Request::IteratorRecordNext { .. }
        | Request::IteratorGc { .. }
        | Request::ServerStatus
        | Request::SetClientLabel { .. } => false,
    }
}

impl Caller {
    /// An answer to this caller.
    #[must_use]
    pub fn answer(self, result: Result<Reply, Refusal>) -> Step {
        Step::Answer(Answer { to: self, result })
    }

    fn refuse(self, refusal: Refusal) -> Step {
        self.answer(Err(refusal))
    }

    fn done(self) -> Step {
        if self.one_way { Step::Done } else { self.answer(Ok(Reply::None)) }
    }
}

/// The words of Python for a method that a storage does not have.
fn no_attribute(name: &str) -> Refusal {
    Refusal::Attribute(format!("the storage has no attribute '{name}'"))
}
