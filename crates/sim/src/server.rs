//! A second shell around the core: what `zeolith-server` does with tasks, threads and sockets, as events.
//!
//! The order of steps is that of `crates/server/src/host.rs`, `connection.rs` and `log_writer.rs`. Between
//! any two steps that the real server takes in different tasks or threads, other events can happen here.

mod connection;
mod iterating;
mod log_writer;
mod outbox;
mod pool;

use crate::{
    checks::Invariant,
    context::Context,
    disk::SimDisk,
    history::{Changes, History},
    network::Toward,
    schedule::{Event, Micros},
};
use bytes::Bytes;
use connection::Connection;
use log_writer::{Finish, LogWriter};
use pool::Question;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::Path,
    sync::Arc,
};
use zeolith_core::{
    Abandoned, Caller, Coordinator, Counters, Grant, Inquiry, Lock, LockSet, PublicationLog, SessionId,
};
use zeolith_filestorage::FileStorage;
use zeolith_storage::{PackOutcome, Storage, StorageError, TransactionId, Undone, Voted, Write, WriteSet};
use zeolith_types::{Oid, Refusal, Reply, Tid, Timestamp};

/// One server process, from its start to its end.
pub(crate) struct Server {
    boot: u64,
    started: Micros,
    pub(crate) disk: SimDisk,
    pub(crate) storage: Arc<FileStorage>,
    coordinator: Coordinator,
    log: PublicationLog,
    counters: Arc<Counters>,
    /// The last transaction that all sessions may be told of.
    published: Tid,
    connections: BTreeMap<SessionId, Connection>,
    finishes: VecDeque<Finish>,
    log_writer: LogWriter,
    questions: BTreeMap<u64, (SessionId, Question)>,
    question_count: u64,
    packs: VecDeque<PackRequest>,
    /// Held by every iterator that is open.
    open_iterators: Arc<()>,
    /// What each open vote wants, for the checks.
    votes: BTreeMap<TransactionId, OpenVote>,
    armed: Option<Micros>,
    /// A sync has failed: somebody must start it again.
    pub(crate) is_poisoned: bool,
    /// A write has failed, and with it the space that was reserved.
    pub(crate) has_lost_reserve: bool,
}

/// What a session is told by others than its client.
#[derive(Debug)]
pub(crate) enum Mail {
    Granted(TransactionId),
    FinishFailed(Refusal),
    /// Its client asks on another connection what became of its transaction, and has been told that it is aborted.
    Disowned,
    Packed(Caller, Result<Reply, Refusal>),
    TimedOut,
}

/// Somebody wants the storage packed.
pub(crate) struct PackRequest {
    session: SessionId,
    /// Who waits for the end.
    to: Option<Caller>,
    pub(crate) time: Timestamp,
}

struct OpenVote {
    session: SessionId,
    writes: WriteSet,
    /// What the storage says that its undos do.
    undone: Vec<Undone>,
    is_ready: bool,
}

impl OpenVote {
    fn changes(&self, history: &History) -> Changes {
        history.changes(&self.writes, &self.undone)
    }

    /// The transactions that it undoes.
    fn undoes(&self) -> impl Iterator<Item = Tid> + '_ {
        self.writes.writes.iter().filter_map(|write| match write {
            Write::Undo { tid } => Some(*tid),
            _ => None,
        })
    }
}

impl Server {
    /// Opens the storage and serves it.
    pub(crate) fn start(boot: u64, disk: SimDisk, context: &mut Context) -> Result<Self, String> {
        let opened =
            FileStorage::open(Arc::new(disk.clone()), Path::new(PATH), context.plan.storage_options());
        let (storage, report) = opened.map_err(|error| error.to_string())?;
        context.note(format_args!(
            "opened: {:?}, {} bytes, {:?}",
            report.last_tid, report.size, report.findings
        ));
        let last = storage.last_transaction();
        let queue_size = context.plan.queue_size;
        let remembered = storage.last_changes(queue_size).map_err(|error| error.to_string())?;
        Ok(Self {
            boot,
            started: context.now(),
            disk,
            storage: Arc::new(storage),
            coordinator: Coordinator::new(context.plan.transaction_timeout),
            log: PublicationLog::new(queue_size, context.plan.lag_max, last, remembered),
            counters: Arc::default(),
            published: last,
            connections: BTreeMap::new(),
            finishes: VecDeque::new(),
            log_writer: LogWriter::Idle,
            questions: BTreeMap::new(),
            question_count: 0,
            packs: VecDeque::new(),
            open_iterators: Arc::default(),
            votes: BTreeMap::new(),
            armed: None,
            is_poisoned: false,
            has_lost_reserve: false,
        })
    }

    /// A client has connected.
    pub(crate) fn accept(&mut self, id: SessionId, context: &mut Context) {
        let mut connection = Connection::new(id, &context.plan);
        connection.flush(context);
        self.connections.insert(id, connection);
    }

    /// Names of the connections that are open.
    pub(crate) fn sessions(&self) -> Vec<SessionId> {
        self.connections.keys().copied().collect()
    }

    /// Its connections, for the report of a run that does not end.
    pub(crate) fn describe(&self) -> Vec<String> {
        self.connections.values().map(Connection::describe).collect()
    }

    pub(crate) fn wake(&self, id: SessionId, context: &mut Context) {
        if self.connections.contains_key(&id) {
            context.soon(TASK_DELAY, Event::Wake(id));
        }
    }

    fn mail(&mut self, session: SessionId, mail: Mail, context: &mut Context) {
        if let Some(connection) = self.connections.get_mut(&session) {
            connection.mailbox.push_back(mail);
            self.wake(session, context);
        }
    }

    fn lock(
        &mut self,
        session: SessionId,
        set: LockSet,
        token: Option<Bytes>,
        context: &mut Context,
    ) -> (TransactionId, Lock) {
        let now = context.clock(self.started);
        let (transaction, lock) = self.coordinator.request(session, set, now);
        if let Some(token) = token {
            self.coordinator.name(transaction, token);
        }
        context.note(format_args!("server: {} asks for locks: ticket {} {lock:?}", session.0, transaction.0));
        self.arm(context);
        (transaction, lock)
    }

    /// Ends a vote that is not finished.
    fn release(&mut self, abandoned: Abandoned, context: &mut Context) {
        if abandoned.voted {
            self.storage.abort(abandoned.transaction);
        }
        let grants = self.give_up(abandoned.transaction, context);
        self.grant(&grants, context);
    }

    fn give_up(&mut self, transaction: TransactionId, context: &mut Context) -> Vec<Grant> {
        self.votes.remove(&transaction);
        self.coordinator.release(transaction, context.clock(self.started))
    }

    fn grant(&mut self, grants: &[Grant], context: &mut Context) {
        for grant in grants {
            self.mail(grant.session, Mail::Granted(grant.transaction), context);
        }
        if !grants.is_empty() {
            self.arm(context);
        }
    }

    /// Sees to it that somebody looks when the next vote may have held its locks for too long.
    fn arm(&mut self, context: &mut Context) {
        let Some(deadline) = self.coordinator.next_deadline() else { return };
        let at = self.started + deadline.as_micros() as Micros;
        if self.armed.is_none_or(|armed| at < armed) {
            self.armed = Some(at);
            context.schedule.after(at.saturating_sub(context.now()), Event::Deadline(self.boot));
        }
    }

    pub(crate) fn deadline(&mut self, boot: u64, context: &mut Context) {
        if boot != self.boot {
            return;
        }
        self.armed = None;
        for expired in self.coordinator.expire(context.clock(self.started)) {
            context.note(format_args!("server: {} has held its locks for too long", expired.session.0));
            context.counts.timeouts += 1;
            self.mail(expired.session, Mail::TimedOut, context);
        }
        self.arm(context);
    }

    /// Hands a voted transaction to the log writer, unless its client has been told that it is aborted.
    fn finish(&mut self, finish: Finish, context: &mut Context) -> bool {
        if !self.coordinator.finishing(finish.transaction) {
            context.note(format_args!("server: {} is disowned", finish.transaction.0));
            self.release(Abandoned { transaction: finish.transaction, voted: true }, context);
            return false;
        }
        self.finishes.push_back(finish);
        self.rouse_log_writer(context);
        true
    }

    /// Whether the transaction of this token is still open in any way. If it is and need not be, it is given up, and its
    /// session is told.
    fn is_undecided(&mut self, token: &[u8], context: &mut Context) -> bool {
        match self.coordinator.inquire(token) {
            Inquiry::Undecided => true,
            Inquiry::NotOpen => false,
            Inquiry::Disowned(session) => {
                context.counts.disowned += 1;
                self.mail(session, Mail::Disowned, context);
                false
            }
        }
    }

    fn pack(&mut self, session: SessionId, to: Option<Caller>, time: Timestamp, context: &mut Context) {
        self.coordinator.packing(time.to_tid());
        context.history.pack_is_wanted(time.to_tid());
        self.packs.push_back(PackRequest { session, to, time });
        context.soon(context.plan.disk_delay, Event::Pack(self.boot));
    }

    /// The next pack that somebody waits for.
    pub(crate) fn next_pack(&mut self, boot: u64) -> Option<PackRequest> {
        if boot == self.boot { self.packs.pop_front() } else { None }
    }

    /// Whether this is the process with that number.
    pub(crate) const fn is_boot(&self, boot: u64) -> bool {
        self.boot == boot
    }

    /// A pack has come to its end.
    pub(crate) fn packed(
        &mut self,
        request: PackRequest,
        result: Result<PackOutcome, StorageError>,
        context: &mut Context,
    ) {
        if let Some(to) = request.to {
            let result = result.map(|_| Reply::None).map_err(outbox::refusal);
            self.mail(request.session, Mail::Packed(to, result), context);
        }
    }

    pub(crate) fn checkpoint(&mut self, boot: u64, context: &mut Context) {
        if boot == self.boot {
            let saved = self.storage.checkpoint();
            context.note(format_args!("server: checkpoint {saved:?}"));
        }
    }

    pub(crate) fn rest(&mut self, boot: u64, context: &mut Context) {
        if boot == self.boot {
            let rested = self.storage.rest();
            context.note(format_args!("server: rest {rested:?}"));
        }
    }

    /// Before the storage looks at a vote: what it wants, for the checks.
    fn vote_begins(&mut self, session: SessionId, transaction: TransactionId, writes: &WriteSet) {
        let vote = OpenVote { session, writes: writes.clone(), undone: Vec::new(), is_ready: false };
        self.votes.insert(transaction, vote);
    }

    /// The storage has looked at a vote.
    fn vote_is_over<E>(
        &mut self,
        transaction: TransactionId,
        voted: &Result<Voted, E>,
        context: &mut Context,
    ) {
        let Ok(Voted::Ready { undone, .. }) = voted else { return };
        let Some(vote) = self.votes.get_mut(&transaction) else { return };
        vote.is_ready = true;
        vote.undone.clone_from(undone);
        vote.undoes().for_each(|tid| context.history.check_undo(tid, undone, &mut context.checks));
        let depends_on_all = vote.undoes().next().is_some();
        let written: BTreeSet<Oid> = vote.changes(&context.history).into_keys().collect();
        let named = oids(&vote.writes);
        for (other, vote) in self.votes.iter().filter(|(other, vote)| **other != transaction && vote.is_ready)
        {
            let is_alone = !depends_on_all && vote.undoes().next().is_none();
            context.checks.ensure(is_alone, Invariant::NoTwoVotesShareAnObject, || {
                format!("tickets {} and {} are open, and one of them undoes", transaction.0, other.0)
            });
            let theirs: BTreeSet<Oid> = vote.changes(&context.history).into_keys().collect();
            let mut shared = oids(&vote.writes).intersection(&written).copied().collect::<Vec<_>>();
            shared.extend(theirs.intersection(&named));
            context.checks.ensure(shared.is_empty(), Invariant::NoTwoVotesShareAnObject, || {
                format!("tickets {} and {} both hold {shared:?}", transaction.0, other.0)
            });
        }
    }

    /// The process ends in good order: the sockets are dropped, the log writer finishes what it has.
    pub(crate) fn stop(&mut self, context: &mut Context) -> Result<(), StorageError> {
        for id in self.sessions() {
            context.close(id, Toward::Server);
        }
        self.connections.clear();
        while !self.log_writer_is_idle() && !self.disk.is_dead() {
            self.log_writer_step(self.boot, context);
        }
        self.storage.close()
    }

    /// When all clients have gone, nobody holds anything.
    pub(crate) fn check_that_nothing_is_held(&mut self, context: &mut Context) {
        let waiting = self.coordinator.waiting();
        let left: Vec<_> = self.votes.iter().map(|(id, vote)| (id.0, vote.session.0)).collect();
        let (_, lock) =
            self.coordinator.request(SessionId(u64::MAX), LockSet::WholeStorage, context.clock(self.started));
        context.checks.ensure(
            waiting == 0 && left.is_empty() && lock == Lock::Granted,
            Invariant::NoLockOutlivesItsSession,
            || format!("{waiting} wait, open votes (ticket, session): {left:?}, the whole storage: {lock:?}"),
        );
        let iterators = Arc::strong_count(&self.open_iterators) - 1;
        context.checks.ensure(iterators == 0, Invariant::NoIteratorOutlivesItsUse, || {
            format!("{iterators} iterators are open, and nobody is there")
        });
    }
}

/// The objects that a transaction names.
fn oids(writes: &WriteSet) -> BTreeSet<Oid> {
    writes.writes.iter().filter_map(zeolith_storage::Write::oid).collect()
}

/// Where the database is.
pub(crate) const PATH: &str = "var/Data.fs";
/// Until a task that could run does run, at most.
const TASK_DELAY: Micros = 20;
