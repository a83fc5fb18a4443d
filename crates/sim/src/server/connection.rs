//! One connection of the server, from its hello to its end.

use super::{
    Mail, Server,
    log_writer::Finish,
    outbox::{Output, refusal},
    pool::{Done, Question, SlowLoad, read},
};
use crate::{
    Sabotage,
    checks::Invariant,
    context::Context,
    history::Known,
    network::{Arrival, Toward},
    plan::Plan,
};
use std::{collections::VecDeque, sync::Arc};
use zeolith_core::{
    Answer, Caller, CloseReason, Iterators, Lagged, Outbox as _, Read, Session, SessionId, Step, Verdict,
    VoteRequest, load_reply,
};
use zeolith_storage::{ConflictPolicy, Patience, Storage, StorageError};
use zeolith_types::{Oid, Outcome, Reply, Tid};
use zeolith_wire::{Encoding, FrameReader, Hello, Incoming, WireError};

/// What the server knows of a connection.
pub(super) struct Connection {
    pub(super) id: SessionId,
    session: Session,
    pub(super) iterators: Iterators,
    encoding: Option<Encoding>,
    is_registered: bool,
    /// What the socket has and nobody has read.
    socket: Vec<u8>,
    peer_has_gone: bool,
    incoming: FrameReader,
    outgoing: Vec<u8>,
    /// Bytes that may wait to go out before no more calls are served.
    high_water: usize,
    /// What has been seen of what is published.
    seen: Tid,
    /// Up to where it was seen, while the client did not read, that it can still be told.
    asked_to: Tid,
    pub(super) mailbox: VecDeque<Mail>,
    pub(super) answers: VecDeque<Done>,
    slow_loads: usize,
    /// Waits for the pool, and does nothing else.
    pub(super) is_busy: bool,
}

/// Why a connection ends.
#[derive(Debug)]
pub(super) enum Ended {
    ByPeer,
    Wire(WireError),
    Core(CloseReason),
    /// An answer as of this transaction comes too late: the log has forgotten what came after it.
    LateLoad(Tid),
    TransactionTimeout,
    /// Its client has been told on another connection that its transaction is aborted.
    Disowned,
}

/// What a connection's task finds when it wakes up.
#[derive(Clone, Copy)]
enum Ready {
    Mail,
    Published,
    Socket,
    Gone,
    Answer,
}

impl Connection {
    pub(super) fn new(id: SessionId, plan: &Plan) -> Self {
        let announced = if plan.msgpack { Encoding::Msgpack } else { Encoding::Pickle };
        Self {
            id,
            session: Session::new(id, plan.rules()),
            iterators: Iterators::new(plan.iterators_max.unwrap_or_default()),
            encoding: None,
            is_registered: false,
            socket: Vec::new(),
            peer_has_gone: false,
            incoming: FrameReader::new(FRAME_SIZE_MAX),
            outgoing: zeolith_wire::announcement(announced).to_vec(),
            high_water: plan.buffers.1,
            seen: Tid::ZERO,
            asked_to: Tid::ZERO,
            mailbox: VecDeque::new(),
            answers: VecDeque::new(),
            slow_loads: 0,
            is_busy: false,
        }
    }

    fn is_full(&self) -> bool {
        self.outgoing.len() > self.high_water
    }

    /// Gives the socket what it takes.
    pub(super) fn flush(&mut self, context: &mut Context) {
        let len = context.network.room(self.id).min(self.outgoing.len());
        let bytes: Vec<u8> = self.outgoing.drain(..len).collect();
        context.send(self.id, Toward::Client, &bytes);
    }

    /// Its state, for the report of a run that does not end.
    pub(super) fn describe(&self) -> String {
        format!(
            "{}: {} in socket, {} buffered, {} to send, {} slow loads, {} answers, busy {}, {:?}",
            self.id.0,
            self.socket.len(),
            self.incoming.buffered(),
            self.outgoing.len(),
            self.slow_loads,
            self.answers.len(),
            self.is_busy,
            self.mailbox,
        )
    }

    /// Loads stay where they are while the client does not read, and while its task waits for a job: nothing ends a
    /// connection in the middle of a vote.
    fn next_answer(&self) -> Option<usize> {
        let takes_loads = !self.is_full() && !self.is_busy;
        self.answers.iter().position(|done| takes_loads || !matches!(done, Done::Load(_)))
    }

    /// All that `select!` could choose from.
    fn ready(&self, published: Tid) -> Vec<Ready> {
        let mut ready = Vec::new();
        if self.next_answer().is_some() {
            ready.push(Ready::Answer);
        }
        if self.is_busy {
            return ready;
        }
        if !self.mailbox.is_empty() {
            ready.push(Ready::Mail);
        }
        if self.is_registered && self.seen < published && (!self.is_full() || self.asked_to < published) {
            ready.push(Ready::Published);
        }
        if !self.socket.is_empty() && !self.is_full() {
            ready.push(Ready::Socket);
        } else if self.peer_has_gone {
            ready.push(Ready::Gone);
        }
        ready
    }
}

impl Server {
    /// Something of the client arrives.
    pub(crate) fn arrive(&mut self, id: SessionId, context: &mut Context) {
        let Context { network, schedule, random, .. } = context;
        let arrival = network.arrive(id, Toward::Server, schedule, random);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        match arrival {
            Arrival::Bytes(bytes) => connection.socket.extend(bytes),
            Arrival::End => connection.peer_has_gone = true,
            Arrival::Nothing => return,
        }
        self.wake(id, context);
    }

    /// The client has read something, so the socket takes more.
    pub(crate) fn drained(&mut self, id: SessionId, context: &mut Context) {
        if let Some(connection) = self.connections.get_mut(&id)
            && !connection.outgoing.is_empty()
        {
            let was_full = connection.is_full();
            connection.flush(context);
            if was_full {
                self.wake(id, context);
            }
        }
    }

    /// The task of the connection runs once around its loop.
    pub(crate) fn run(&mut self, id: SessionId, context: &mut Context) {
        let Some(mut connection) = self.connections.remove(&id) else { return };
        let outcome = self.converse(&mut connection, context);
        if self.disk.is_dead() {
            return;
        }
        match outcome {
            Ok(()) => {
                let was_full = connection.is_full();
                connection.flush(context);
                let size = connection.outgoing.len();
                context.checks.ensure(size <= OUTGOING_MAX, Invariant::EverythingHasALimit, || {
                    format!("{size} bytes wait for client {:?}", context.network.client(id))
                });
                let has_room_again = was_full && !connection.is_full();
                let goes_on = has_room_again || !connection.ready(self.published).is_empty();
                self.connections.insert(id, connection);
                if goes_on {
                    self.wake(id, context);
                }
            }
            Err(ended) => self.close(connection, &ended, context),
        }
    }

    fn converse(&mut self, connection: &mut Connection, context: &mut Context) -> Result<(), Ended> {
        let ready = connection.ready(self.published);
        if ready.is_empty() {
            return self.serve_waiting_frames(connection, context);
        }
        match context.random.pick(&ready) {
            Ready::Gone => return Err(Ended::ByPeer),
            Ready::Socket => {
                let bytes = std::mem::take(&mut connection.socket);
                connection.incoming.push(&bytes);
            }
            // Who does not read is not told either. The log keeps it for a while, and then the client has fallen
            // too far behind.
            Ready::Published if connection.is_full() => {
                connection.asked_to = self.published;
                connection.session.keeps_up(&self.log, self.published).map_err(Ended::Core)?;
            }
            Ready::Published => {
                connection.seen = self.published;
                if !self.tell_at_rest(connection, self.published) {
                    self.catch_up(connection, self.published)?;
                }
            }
            Ready::Mail => {
                if let Some(mail) = connection.mailbox.pop_front() {
                    self.take_mail(connection, mail, context)?;
                }
            }
            Ready::Answer => match connection.next_answer().and_then(|at| connection.answers.remove(at)) {
                Some(Done::Load(load)) => {
                    connection.slow_loads -= 1;
                    self.loaded(connection, load, context)?;
                }
                Some(done) => {
                    connection.is_busy = false;
                    self.done(connection, done, context)?;
                }
                None => {}
            },
        }
        self.serve_waiting_frames(connection, context)
    }

    fn serve_waiting_frames(
        &mut self,
        connection: &mut Connection,
        context: &mut Context,
    ) -> Result<(), Ended> {
        while !connection.is_busy && !connection.is_full() && connection.slow_loads < SLOW_LOADS_MAX {
            let Some(frame) = connection.incoming.next_frame().map_err(Ended::Wire)? else {
                return Ok(());
            };
            let Some(encoding) = connection.encoding else {
                match zeolith_wire::parse_answer(&frame).map_err(Ended::Wire)? {
                    Hello::Client(encoding) => connection.encoding = Some(encoding),
                    Hello::Ruok => return Err(Ended::ByPeer),
                }
                continue;
            };
            let call = match zeolith_wire::decode(encoding, &frame).map_err(Ended::Wire)? {
                Incoming::Heartbeat => continue,
                Incoming::Call(call) => call,
                Incoming::UnknownMethod { name } => {
                    return Err(Ended::Core(CloseReason::InvalidMethod(name)));
                }
                Incoming::BadArguments { method, .. } if !connection.session.admits(method) => {
                    return Err(Ended::Core(CloseReason::InvalidMethod(method.to_owned())));
                }
                Incoming::BadArguments { id, one_way, method, refusal } => {
                    let to = Caller { id, one_way, method };
                    self.answer(connection, Answer { to, result: Err(refusal) })?;
                    continue;
                }
            };
            context.note(format_args!("server: {} says {}", connection.id.0, call.request.method()));
            let step = connection.session.receive(call);
            self.take(connection, step, context)?;
        }
        Ok(())
    }

    fn take(&mut self, connection: &mut Connection, step: Step, context: &mut Context) -> Result<(), Ended> {
        match step {
            Step::Read(to, Read::LoadBefore(oid, before)) => {
                self.load(connection, (to, oid, before), 0, context)
            }
            Step::Done => Ok(()),
            Step::Answer(answer) => self.answer(connection, answer),
            Step::Close(reason) => Err(Ended::Core(reason)),
            Step::Register { to, read_only, .. } => self.register(connection, to, read_only),
            Step::Read(to, wanted) => self.read(connection, to, wanted, context),
            Step::Lock(locks) => {
                let token = connection.session.token().cloned();
                let (transaction, lock) = self.lock(connection.id, locks, token, context);
                match connection.session.locked(transaction, lock) {
                    Some(request) => self.vote(connection, request, context),
                    None => Ok(()),
                }
            }
            Step::Finish(transaction, changed) => {
                let finish = Finish { session: connection.id, transaction, changed };
                if self.finish(finish, context) { Ok(()) } else { Err(Ended::Disowned) }
            }
            Step::PutAside(to, records) => {
                connection.is_busy = true;
                self.ask(connection.id, Question::PutAside(to, records), context);
                Ok(())
            }
            Step::Pack { to, time, wait } => {
                self.pack(connection.id, wait.then(|| to.clone()), time, context);
                if wait { Ok(()) } else { self.answer(connection, Answer { to, result: Ok(Reply::None) }) }
            }
            // No simulated client asks for more about packs.
            Step::EstimatePack { to, .. } | Step::CancelPack { to } => {
                self.answer(connection, Answer { to, result: Ok(Reply::None) })
            }
            // Nor has one blobs.
            Step::Blob(to, _) | Step::SendBlob { to, .. } => {
                let result = Err(refusal(StorageError::NoBlobs));
                self.answer(connection, Answer { to, result })
            }
            Step::Abort(to, abandoned) => {
                if let Some(abandoned) = abandoned {
                    self.release(abandoned, context);
                }
                self.answer(connection, Answer { to, result: Ok(Reply::None) })
            }
        }
    }

    fn register(&mut self, connection: &mut Connection, to: Caller, read_only: bool) -> Result<(), Ended> {
        connection.seen = self.published;
        let last = self.storage.last_transaction();
        let counters = Arc::clone(&self.counters);
        let result = connection.session.register(read_only, false, last, counters);
        if result.is_ok() {
            self.coordinator.join();
            connection.is_registered = true;
        }
        self.answer(connection, Answer { to, result })
    }

    fn load(
        &mut self,
        connection: &mut Connection,
        (to, oid, before): (Caller, Oid, Tid),
        repeats: u32,
        context: &mut Context,
    ) -> Result<(), Ended> {
        match self.storage.load_before(oid, before, Patience::Now) {
            Err(StorageError::WouldBlock) => {
                connection.slow_loads += 1;
                self.ask(connection.id, Question::Load(to, oid, before, repeats), context);
                Ok(())
            }
            result => self.loaded(connection, SlowLoad { caller: to, oid, before, repeats, result }, context),
        }
    }

    fn loaded(
        &mut self,
        connection: &mut Connection,
        loaded: SlowLoad,
        context: &mut Context,
    ) -> Result<(), Ended> {
        let SlowLoad { caller: to, oid, before, repeats, result } = loaded;
        let mut load = match result {
            Ok(load) => load,
            Err(error) => return self.answer(connection, Answer { to, result: Err(refusal(error)) }),
        };
        let as_of = load.as_of;
        if connection.session.is_ahead_of(as_of) {
            context.counts.late_loads += 1;
            if context.plan.options.sabotage != Some(Sabotage::EndLeftOpen) {
                let corrected = connection.session.correct_load(oid, load, &self.log);
                load = corrected.map_err(|Lagged| Ended::LateLoad(as_of))?;
                if Session::is_outdated(&load, before, repeats) {
                    return self.load(connection, (to, oid, before), repeats + 1, context);
                }
            }
        }
        self.answer_as_of(connection, Answer { to, result: load_reply(oid, load.found) }, as_of)
    }

    fn read(
        &mut self,
        connection: &mut Connection,
        to: Caller,
        wanted: Read,
        context: &mut Context,
    ) -> Result<(), Ended> {
        let result = match wanted {
            Read::IteratorStart(..)
            | Read::IteratorNext(_)
            | Read::IteratorRecordStart(..)
            | Read::IteratorRecordNext(_) => return self.iterate(connection, to, wanted, context),
            Read::IteratorGc(ids) => {
                connection.iterators.drop_all(&ids);
                Ok(Reply::None)
            }
            Read::Changes(after) => match self.changes(after, context) {
                Changes::Known(changes) => Ok(Reply::Invalidations(changes)),
                Changes::Walk => {
                    connection.is_busy = true;
                    self.ask(connection.id, Question::Read(to, Read::Changes(after)), context);
                    return Ok(());
                }
            },
            Read::Outcome(token, _) if self.is_undecided(&token, context) => {
                Ok(Reply::Outcome(Outcome::Undecided))
            }
            Read::Outcome(..) => {
                connection.is_busy = true;
                self.ask(connection.id, Question::Read(to, wanted), context);
                return Ok(());
            }
            wanted => match read(&wanted, &self.storage, Patience::Now) {
                Err(StorageError::WouldBlock) => {
                    connection.is_busy = true;
                    self.ask(connection.id, Question::Read(to, wanted), context);
                    return Ok(());
                }
                result => result.map_err(refusal),
            },
        };
        if let Ok(Reply::Oids(oids)) = &result {
            for oid in oids {
                let known = context.history.load_before(*oid, Tid::MAX, Tid::MAX);
                let is_new = context.history.allows(*oid, &known, &Known::NoObject);
                context
                    .checks
                    .ensure(is_new, Invariant::ThePastIsImmutable, || format!("{oid} is given as a new oid"));
            }
        }
        self.answer(connection, Answer { to, result })
    }

    /// `getInvalidations`: from the queue, else from the storage if the client was not away for too long.
    fn changes(&self, after: Tid, context: &Context) -> Changes {
        if let Some(changes) = self.log.changes_since(after, self.storage.last_transaction()) {
            return Changes::Known(Some(changes));
        }
        let away = zeolith_core::time_away(after, context.clock(self.started).time);
        let walks = context.plan.invalidation_age.is_some_and(|age| away < age);
        if walks { Changes::Walk } else { Changes::Known(None) }
    }

    fn vote(
        &mut self,
        connection: &mut Connection,
        request: VoteRequest,
        context: &mut Context,
    ) -> Result<(), Ended> {
        let policy = if context.plan.resolves { ConflictPolicy::Collect } else { ConflictPolicy::Refuse };
        let objects = request.writes.writes.len();
        if objects <= INLINE_VOTE_OBJECTS && request.size <= INLINE_VOTE_BYTES {
            let id = request.transaction;
            self.vote_begins(connection.id, id, &request.writes);
            match self.storage.vote(id, request.writes.clone(), policy, Patience::Now) {
                Err(StorageError::WouldBlock) => {}
                voted => {
                    self.vote_is_over(id, &voted, context);
                    return self.done(connection, Done::Voted(id, voted.map_err(refusal)), context);
                }
            }
        }
        connection.is_busy = true;
        self.ask(connection.id, Question::Vote(request, policy), context);
        Ok(())
    }

    fn done(&mut self, connection: &mut Connection, done: Done, context: &mut Context) -> Result<(), Ended> {
        match done {
            Done::Read(to, result) => self.answer(connection, Answer { to, result }),
            Done::Load(load) => self.loaded(connection, load, context),
            Done::Iterated(iterated) => self.iterated(connection, iterated),
            Done::Voted(transaction, outcome) => {
                let Verdict { answer, release } = connection.session.voted(transaction, outcome);
                if let Some(release) = release {
                    self.release(release, context);
                }
                answer.map_or(Ok(()), |answer| self.answer(connection, answer))
            }
            Done::PutAside(to, kept) => {
                let answer = connection.session.put_aside(to, kept);
                answer.map_or(Ok(()), |answer| self.answer(connection, answer))
            }
        }
    }

    fn take_mail(
        &mut self,
        connection: &mut Connection,
        mail: Mail,
        context: &mut Context,
    ) -> Result<(), Ended> {
        match mail {
            Mail::Granted(transaction) => match connection.session.granted(transaction) {
                Some(request) => self.vote(connection, request, context),
                None => Ok(()),
            },
            Mail::FinishFailed(refusal) => {
                let answer = connection.session.finish_failed(refusal);
                answer.map_or(Ok(()), |answer| self.answer(connection, answer))
            }
            Mail::Packed(to, result) => self.answer(connection, Answer { to, result }),
            Mail::Disowned => Err(Ended::Disowned),
            Mail::TimedOut if connection.session.is_finishing() => Ok(()),
            Mail::TimedOut => Err(Ended::TransactionTimeout),
        }
    }

    /// Tells a client that is owed nothing without asking its session, as a worker does for all that rest. Every second
    /// one, so that both ways are gone.
    fn tell_at_rest(&self, connection: &mut Connection, through: Tid) -> bool {
        let (Some(told), Some(encoding)) = (connection.session.may_be_told(), connection.encoding) else {
            return false;
        };
        let Ok(publications) = self.log.between(told, through) else { return false };
        if connection.id.0 % 2 == 1 || !connection.outgoing.is_empty() {
            return false;
        }
        let mut out = Output { out: &mut connection.outgoing, encoding, storage: &self.storage };
        for publication in publications {
            out.invalidate(publication);
        }
        connection.session.told(through);
        true
    }

    fn catch_up(&self, connection: &mut Connection, through: Tid) -> Result<(), Ended> {
        if let Some(encoding) = connection.encoding
            && connection.session.is_behind(through)
        {
            let mut out = Output { out: &mut connection.outgoing, encoding, storage: &self.storage };
            connection.session.deliver(&self.log, through, &mut out).map_err(Ended::Core)?;
        }
        Ok(())
    }

    pub(super) fn answer(&self, connection: &mut Connection, answer: Answer) -> Result<(), Ended> {
        self.answer_as_of(connection, answer, self.storage.last_transaction())
    }

    fn answer_as_of(&self, connection: &mut Connection, answer: Answer, as_of: Tid) -> Result<(), Ended> {
        self.catch_up(connection, as_of)?;
        let Some(encoding) = connection.encoding else { return Ok(()) };
        let mut out = Output { out: &mut connection.outgoing, encoding, storage: &self.storage };
        connection.session.answer(answer, &mut out).map_err(Ended::Core)
    }

    /// A client has fallen too far behind: more has come since than the log must remember.
    fn lagged(&self, is_later: impl Fn(Tid) -> bool, context: &mut Context) {
        context.counts.lagged += 1;
        let missed = context.history.tids(Tid::MAX).filter(|tid| is_later(*tid)).count();
        let remembered = context.plan.queue_size.max(context.plan.lag_max);
        context.checks.ensure(missed > remembered, Invariant::NobodyElsesConnectionEnds, || {
            format!("a client that missed {missed} transactions was ended, {remembered} are remembered")
        });
    }

    /// The connection is over: gives back everything that it held.
    fn close(&mut self, mut connection: Connection, ended: &Ended, context: &mut Context) {
        let id = connection.id;
        context.note(format_args!("server: {} ends: {ended:?}", id.0));
        context.counts.disconnects += 1;
        let abandoned = connection.session.close();
        let keeps_lock = context.plan.options.sabotage == Some(Sabotage::LockKeptAfterTimeout)
            && matches!(ended, Ended::TransactionTimeout);
        if let Some(abandoned) = abandoned.filter(|_| !keeps_lock) {
            self.release(abandoned, context);
        }
        if connection.is_registered {
            self.coordinator.leave();
        }
        context.close(id, Toward::Server);
        match ended {
            // Holding locks for too long is its own fault, and the others' right.
            Ended::ByPeer | Ended::TransactionTimeout => {}
            Ended::Disowned => context.is_left(id),
            Ended::Wire(error) => context.ended(id, &error.to_string()),
            Ended::Core(CloseReason::Lagged) => self.lagged(|tid| connection.session.is_behind(tid), context),
            Ended::LateLoad(as_of) => self.lagged(|tid| tid > *as_of, context),
            Ended::Core(reason) => context.ended(id, &format!("{reason:?}")),
        }
    }
}

enum Changes {
    Known(Option<(Tid, Vec<Oid>)>),
    Walk,
}

/// Bytes that may wait to go out: those that are too many, and the largest answer after them.
const OUTGOING_MAX: usize = 64 << 10;
const FRAME_SIZE_MAX: usize = 1 << 20;
const SLOW_LOADS_MAX: usize = 4;
const INLINE_VOTE_OBJECTS: usize = 4;
const INLINE_VOTE_BYTES: u64 = 4 << 10;
