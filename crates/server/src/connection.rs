//! One connection, from its hello to its end: the way of a load is from here to the storage and back.
//!
//! The task reads frames, `zeolith-wire` makes calls of them, the core's session says what to do, and
//! the answer goes into the output buffer, which is written when no frame is left. Loads are answered
//! here and now; what is not in memory goes to the blocking pool.

use crate::{
    host::{Host, Mail},
    iterators::Iterators,
    jobs::{Done, Job, SlowLoad, read},
    log,
    log_writer::Finish,
    pipe::{Pipe, Progress},
    refusals::refusal,
    settings::Settings,
    status::status,
};
use bytes::Bytes;
use std::{collections::BTreeMap, fmt, io, sync::Arc};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};
use zeolith_core::{
    Access, Answer, Caller, CloseReason, Outbox, Publication, Read, Session, SessionId, Step, Verdict,
    VoteRequest, load_reply,
};
use zeolith_storage::{ConflictPolicy, Patience, StorageError, Voted};
use zeolith_types::{MessageId, Notice, Oid, Refusal, Reply, StorageInfo, Tid};
use zeolith_wire::{Encoding, Hello, Incoming, WireError};

/// What all connections of a server share.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) hosts: BTreeMap<String, Arc<Host>>,
}

/// Why a connection ended.
pub(crate) enum Ended {
    /// The peer closed it.
    ByPeer,
    /// The status was asked for and given.
    StatusGiven,
    /// The socket failed.
    Socket(io::Error),
    /// The bytes are no ZEO.
    Wire(WireError),
    /// The hello is none.
    Hello(WireError),
    /// The core says so.
    Core(CloseReason),
    /// It held its locks for too long.
    TransactionTimeout,
    /// A message that had begun, a hello or a registration did not come.
    Silence(&'static str),
}

/// Serves a connection until it ends, and cleans up after it.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    peer: String,
    id: SessionId,
    shared: Arc<Shared>,
) {
    let announced = if shared.settings.msgpack { Encoding::Msgpack } else { Encoding::Pickle };
    let mut pipe = Pipe::new(stream, shared.settings.frame_size_max);
    pipe.outgoing.extend_from_slice(zeolith_wire::announcement(announced));
    let hello_until = Instant::now() + shared.settings.hello_timeout;
    let encoding = match hello(&mut pipe, hello_until).await {
        Ok(Hello::Client(encoding)) => encoding,
        Ok(Hello::Ruok) => {
            let statuses: Vec<_> =
                shared.hosts.iter().map(|(name, host)| (name.as_str(), status(host))).collect();
            let statuses = statuses.iter().map(|(name, status)| (*name, status));
            if let Err(error) = zeolith_wire::append_status_frame(statuses, &mut pipe.outgoing) {
                return Ended::Wire(error).log(&peer);
            }
            pipe.flush(shared.settings.hello_timeout).await;
            return Ended::StatusGiven.log(&peer);
        }
        Err(ended) => return ended.log(&peer),
    };
    tracing::info!(target: log::PROTOCOL, "{peer} received handshake '{}5'", match encoding {
        Encoding::Pickle => 'Z',
        Encoding::Msgpack => 'M',
    });
    let conversation = Conversation::new(id, peer, encoding, shared);
    Connection { pipe, conversation, register_until: hello_until }.run().await;
}

async fn hello<S: AsyncRead + AsyncWrite + Unpin>(
    pipe: &mut Pipe<S>,
    until: Instant,
) -> Result<Hello, Ended> {
    loop {
        if let Some(frame) = pipe.incoming.next_frame().map_err(Ended::Hello)? {
            return zeolith_wire::parse_answer(&frame).map_err(Ended::Hello);
        }
        let progress = tokio::time::timeout_at(until, pipe.progress());
        match progress.await.map_err(|_| Ended::Silence("a hello"))?.map_err(Ended::Socket)? {
            Progress::Some => {}
            Progress::Closed => return Err(Ended::ByPeer),
        }
    }
}

/// A socket, and what is said on it.
struct Connection<S> {
    pipe: Pipe<S>,
    conversation: Conversation,
    register_until: Instant,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    async fn run(mut self) {
        let ended = match self.converse().await {
            Err(ended) => ended,
            Ok(never) => match never {},
        };
        self.conversation.close(&ended).await;
    }

    async fn converse(&mut self) -> Result<std::convert::Infallible, Ended> {
        loop {
            self.serve_waiting_frames().await?;
            let event = self.next_event().await?;
            let out = &mut self.pipe.outgoing;
            match event {
                Event::Socket(Progress::Some) => {}
                Event::Socket(Progress::Closed) => return Err(Ended::ByPeer),
                Event::Published => self.conversation.published(out)?,
                Event::Mail(mail) => {
                    if let Some(job) = self.conversation.mail(mail, out)? {
                        self.do_job(job).await?;
                    }
                }
                Event::Loaded(load) => self.conversation.loaded(load, out)?,
            }
        }
    }

    /// Serves all whole frames that have come in, as far as the output has room.
    async fn serve_waiting_frames(&mut self) -> Result<(), Ended> {
        while !self.pipe.is_full() && self.conversation.slow_loads.len() < SLOW_LOADS_MAX {
            let Some(frame) = self.pipe.incoming.next_frame().map_err(Ended::Wire)? else {
                return Ok(());
            };
            if let Some(job) = self.conversation.receive(&frame, &mut self.pipe.outgoing)? {
                self.do_job(job).await?;
            }
        }
        Ok(())
    }

    /// Lets the blocking pool do a job. Whatever the client says meanwhile waits for its result.
    async fn do_job(&mut self, job: Job) -> Result<(), Ended> {
        let Some(host) = self.conversation.host.clone() else {
            return Ok(());
        };
        let done = tokio::task::spawn_blocking(move || job.run(&host)).await;
        let done = done.map_err(|error| Ended::Socket(io::Error::other(error)))?;
        self.conversation.done(done, &mut self.pipe.outgoing)
    }

    async fn next_event(&mut self) -> Result<Event, Ended> {
        let settings = &self.conversation.shared.settings;
        let (deadline, awaited) = match self.conversation.session.access() {
            Access::Unregistered => (Some(self.register_until), "a registration"),
            _ => (self.pipe.stalls_at(settings.frame_timeout), "the rest of a message"),
        };
        let is_full = self.pipe.is_full();
        let conversation = &mut self.conversation;
        let published = conversation.published_to.as_mut();
        tokio::select! {
            mail = conversation.mailbox.1.recv() => match mail {
                Some(mail) => Ok(Event::Mail(mail)),
                None => Err(Ended::ByPeer),
            },
            // Who does not read is not told either, or what waits for it would grow without bound. The log keeps
            // it for a while, and then the client has fallen too far behind.
            Ok(()) = changed(published), if !is_full => Ok(Event::Published),
            progress = self.pipe.progress() => progress.map(Event::Socket).map_err(Ended::Socket),
            Some(load) = conversation.slow_loads.join_next(), if !conversation.slow_loads.is_empty() => {
                load.map(Event::Loaded).map_err(|error| Ended::Socket(io::Error::other(error)))
            }
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                Err(Ended::Silence(awaited))
            }
        }
    }
}

enum Event {
    Socket(Progress),
    Published,
    Mail(Mail),
    Loaded(SlowLoad),
}

/// Waits for the next publication; for ever, if there is no storage yet.
async fn changed(published: Option<&mut watch::Receiver<Tid>>) -> Result<(), watch::error::RecvError> {
    match published {
        Some(published) => published.changed().await,
        None => std::future::pending().await,
    }
}

/// What is said on a connection: the session, and what it needs of the server.
struct Conversation {
    session: Session,
    encoding: Encoding,
    peer: String,
    label: String,
    shared: Arc<Shared>,
    host: Option<Arc<Host>>,
    published_to: Option<watch::Receiver<Tid>>,
    mailbox: (mpsc::UnboundedSender<Mail>, mpsc::UnboundedReceiver<Mail>),
    iterators: Iterators,
    slow_loads: JoinSet<SlowLoad>,
}

impl Conversation {
    fn new(id: SessionId, peer: String, encoding: Encoding, shared: Arc<Shared>) -> Self {
        Self {
            session: Session::new(id, shared.settings.client_conflict_resolution),
            encoding,
            label: peer.clone(),
            peer,
            shared,
            host: None,
            published_to: None,
            mailbox: mpsc::unbounded_channel(),
            iterators: Iterators::default(),
            slow_loads: JoinSet::new(),
        }
    }

    /// Takes one frame; what can't be done here and now comes back as a job.
    fn receive(&mut self, frame: &Bytes, out: &mut Vec<u8>) -> Result<Option<Job>, Ended> {
        let call = match zeolith_wire::decode(self.encoding, frame).map_err(Ended::Wire)? {
            Incoming::Heartbeat => return Ok(None),
            Incoming::Call(call) => call,
            Incoming::UnknownMethod { name } => {
                return Err(Ended::Core(CloseReason::InvalidMethod(name)));
            }
            Incoming::BadArguments { method, .. } if !self.session.admits(method) => {
                return Err(Ended::Core(CloseReason::InvalidMethod(method.to_owned())));
            }
            Incoming::BadArguments { id, one_way, method, refusal } => {
                self.answer(Answer { to: Caller { id, one_way, method }, result: Err(refusal) }, out)?;
                return Ok(None);
            }
        };
        let step = self.session.receive(call);
        self.take(step, out)
    }

    fn take(&mut self, step: Step, out: &mut Vec<u8>) -> Result<Option<Job>, Ended> {
        match step {
            Step::Read(to, Read::LoadBefore(oid, before)) => self.load(to, oid, before, out).map(|()| None),
            Step::Done => Ok(None),
            Step::Answer(answer) => self.answer(answer, out).map(|()| None),
            Step::Close(reason) => Err(Ended::Core(reason)),
            Step::Register { to, storage, read_only } => {
                self.register(to, &storage, read_only, out).map(|()| None)
            }
            Step::Read(to, read) => self.read(to, read, out),
            Step::Lock(locks) => {
                let Some(host) = &self.host else { return Ok(None) };
                let (transaction, lock) = host.lock(self.session.id(), locks);
                match self.session.locked(transaction, lock) {
                    Some(request) => self.vote(request, out),
                    None => Ok(None),
                }
            }
            Step::Finish(transaction, changed) => {
                if let Some(host) = &self.host {
                    host.finish(Finish { session: self.session.id(), transaction, changed });
                }
                Ok(None)
            }
            Step::Abort(to, abandoned) => {
                if let (Some(host), Some(abandoned)) = (&self.host, abandoned) {
                    host.release(abandoned);
                }
                self.answer(Answer { to, result: Ok(Reply::None) }, out).map(|()| None)
            }
        }
    }

    fn register(
        &mut self,
        to: Caller,
        storage: &str,
        read_only: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Ended> {
        let Some(host) = self.shared.hosts.get(storage).cloned() else {
            tracing::error!(target: log::STORAGE_SERVER, "({}) unknown storage: {storage}", self.label);
            let result = Err(Refusal::Value(format!("unknown storage: {storage}")));
            return self.answer(Answer { to, result }, out);
        };
        // From here on this session is woken by what is published, and it starts at a tid that it reads
        // afterwards: nothing can fall between the two.
        let mut published = host.published.subscribe();
        published.mark_unchanged();
        let last = host.storage.last_transaction();
        let result = self.session.register(read_only, host.read_only, last, Arc::clone(&host.counters));
        if result.is_ok() {
            host.join(self.session.id(), self.mailbox.0.clone());
            self.published_to = Some(published);
            self.host = Some(host);
        }
        self.answer(Answer { to, result }, out)
    }

    /// The way of a load: one look-up, one read, one reply.
    fn load(&mut self, to: Caller, oid: Oid, before: Tid, out: &mut Vec<u8>) -> Result<(), Ended> {
        let Some(host) = &self.host else { return Ok(()) };
        match host.storage.load_before(oid, before, Patience::Now) {
            Err(StorageError::WouldBlock) => {
                let storage = Arc::clone(&host.storage);
                self.slow_loads.spawn_blocking(move || SlowLoad::run(to, oid, before, &storage));
                Ok(())
            }
            result => self.loaded(SlowLoad { caller: to, oid, result }, out),
        }
    }

    /// Answers a load, early or late.
    fn loaded(&mut self, loaded: SlowLoad, out: &mut Vec<u8>) -> Result<(), Ended> {
        let SlowLoad { caller: to, oid, result } = loaded;
        let mut load = match result {
            Ok(load) => load,
            Err(error) => return self.answer(Answer { to, result: Err(refusal(error)) }, out),
        };
        let Some(host) = &self.host else { return Ok(()) };
        if self.session.is_ahead_of(load.as_of) {
            let corrected = self.session.correct_load(oid, load, &host.log());
            load = corrected.map_err(|lagged| Ended::Core(lagged.into()))?;
        }
        self.answer_as_of(Answer { to, result: load_reply(oid, load.found) }, load.as_of, out)
    }

    fn read(&mut self, to: Caller, wanted: Read, out: &mut Vec<u8>) -> Result<Option<Job>, Ended> {
        let Some(host) = self.host.clone() else { return Ok(None) };
        let result = match wanted {
            Read::IteratorStart(start, stop) => return Ok(Some(Job::Iterate(to, start, stop))),
            Read::IteratorNext(id) => match self.iterators.take_transactions(id) {
                Ok(iterator) => return Ok(Some(Job::NextTransaction(to, id, iterator))),
                Err(refusal) => Err(refusal),
            },
            Read::IteratorRecordStart(id, tid) => match self.iterators.take_transactions_at(id, tid) {
                Ok(iterator) => return Ok(Some(Job::Records(to, id, tid, iterator))),
                Err(refusal) => Err(refusal),
            },
            Read::IteratorRecordNext(id) => match self.iterators.take_records(id) {
                Ok(iterator) => return Ok(Some(Job::NextRecord(to, id, iterator))),
                Err(refusal) => Err(refusal),
            },
            Read::IteratorGc(ids) => {
                self.iterators.drop_all(&ids);
                Ok(Reply::None)
            }
            Read::Status => Ok(Reply::Status(Box::new(status(&host)))),
            Read::SetLabel(label) => {
                self.label = format!("{label} {}", self.peer);
                Ok(Reply::None)
            }
            Read::Changes(after) => match self.changes(after, &host) {
                Changes::Known(changes) => Ok(Reply::Invalidations(changes)),
                Changes::Walk => return Ok(Some(Job::Read(to, Read::Changes(after)))),
            },
            wanted => match read(&wanted, host.storage.as_ref(), Patience::Now) {
                Err(StorageError::WouldBlock) => return Ok(Some(Job::Read(to, wanted))),
                result => result.map_err(refusal),
            },
        };
        self.answer(Answer { to, result }, out).map(|()| None)
    }

    /// `getInvalidations`: from the queue, else from the storage if the client was not away for too long.
    fn changes(&self, after: Tid, host: &Host) -> Changes {
        if let Some(changes) = host.log().changes_since(after, host.storage.last_transaction()) {
            let (tid, oids) = (&changes.0, changes.1.len());
            tracing::info!(target: log::STORAGE_SERVER, "({}) Return {oids} invalidations up to tid {tid}", self.label);
            return Changes::Known(Some(changes));
        }
        let away = zeolith_core::time_away(after, host.clock.now().time);
        if host.invalidation_age.is_some_and(|age| away < age) {
            return Changes::Walk;
        }
        tracing::info!(target: log::STORAGE_SERVER, "({}) tid to old for invq: {after}", self.label);
        Changes::Known(None)
    }

    /// Asks the storage, here if that is quick.
    fn vote(&mut self, request: VoteRequest, out: &mut Vec<u8>) -> Result<Option<Job>, Ended> {
        let Some(host) = self.host.clone() else { return Ok(None) };
        let policy = if self.shared.settings.client_conflict_resolution {
            ConflictPolicy::Collect
        } else {
            ConflictPolicy::Refuse
        };
        let (objects, bytes) = (request.writes.writes.len(), request.size);
        log::blather!(
            log::STORAGE_SERVER,
            "({}) Preparing to commit transaction: {objects} objects, {bytes} bytes",
            self.label
        );
        if objects > INLINE_VOTE_OBJECTS || bytes > INLINE_VOTE_BYTES {
            return Ok(Some(Job::Vote(request, policy)));
        }
        let voted = host.storage.vote(request.transaction, request.writes.clone(), policy, Patience::Now);
        match voted {
            Err(StorageError::WouldBlock) => Ok(Some(Job::Vote(request, policy))),
            voted => {
                let voted = voted.map_err(refusal);
                self.done(Done::Voted(request.transaction, voted), out).map(|()| None)
            }
        }
    }

    /// Takes the result of a job.
    fn done(&mut self, done: Done, out: &mut Vec<u8>) -> Result<(), Ended> {
        let (to, result) = match done {
            Done::Read(to, result) => (to, result),
            Done::Voted(transaction, outcome) => {
                let Verdict { answer, release } = self.verdict(transaction, outcome);
                if let (Some(host), Some(release)) = (&self.host, release) {
                    host.release(release);
                }
                return answer.map_or(Ok(()), |answer| self.answer(answer, out));
            }
            Done::Iterating(to, iterator) => {
                let id = iterator.and_then(|iterator| self.iterators.add_transactions(iterator));
                (to, id.map(Reply::IteratorId))
            }
            Done::Transaction(to, id, iterator, next) => {
                if let Ok(Some(transaction)) = &next {
                    self.iterators.return_transactions(id, iterator, transaction.tid);
                }
                (to, next.map(Reply::Transaction))
            }
            Done::Records(to, id, tid, iterator, records) => {
                self.iterators.return_transactions(id, iterator, tid);
                let id = records.and_then(|records| self.iterators.add_records(records));
                (to, id.map(Reply::IteratorId))
            }
            Done::Record(to, id, iterator, next) => {
                if let Ok(Some(_)) = &next {
                    self.iterators.return_records(id, iterator);
                }
                (to, next.map(Reply::Record))
            }
        };
        self.answer(Answer { to, result }, out)
    }

    fn verdict(
        &mut self,
        transaction: zeolith_storage::TransactionId,
        outcome: Result<Voted, Refusal>,
    ) -> Verdict {
        self.session.voted(transaction, outcome)
    }

    fn mail(&mut self, mail: Mail, out: &mut Vec<u8>) -> Result<Option<Job>, Ended> {
        match mail {
            Mail::Granted(transaction) => match self.session.granted(transaction) {
                Some(request) => self.vote(request, out),
                None => Ok(None),
            },
            Mail::FinishFailed(refusal) => {
                let answer = self.session.finish_failed(refusal);
                answer.map_or(Ok(None), |answer| self.answer(answer, out).map(|()| None))
            }
            // What is with the log writer will be written; closing now would only hide the outcome.
            Mail::TimedOut(_) if self.session.is_finishing() => Ok(None),
            Mail::TimedOut(timeout) => {
                let (label, seconds) = (&self.label, timeout.as_secs_f64());
                log::critical!(
                    log::STORAGE_SERVER,
                    "({label}) Transaction timeout after {seconds} seconds: the connection is closed and its \
                     locks are released"
                );
                Err(Ended::TransactionTimeout)
            }
        }
    }

    /// Something became visible: tells the client.
    fn published(&mut self, out: &mut Vec<u8>) -> Result<(), Ended> {
        let Some(published) = &mut self.published_to else { return Ok(()) };
        let through = *published.borrow_and_update();
        self.catch_up(through, out)
    }

    /// Writes the notices up to `through`, if there are any.
    fn catch_up(&mut self, through: Tid, out: &mut Vec<u8>) -> Result<(), Ended> {
        if self.session.is_behind(through)
            && let Some(host) = &self.host
        {
            let mut out = Output { out, encoding: self.encoding, host: self.host.as_deref() };
            self.session.deliver(&host.log(), through, &mut out).map_err(Ended::Core)?;
        }
        Ok(())
    }

    /// Writes an answer after everything that it may take into account.
    fn answer(&mut self, answer: Answer, out: &mut Vec<u8>) -> Result<(), Ended> {
        if let Err(refusal) = &answer.result
            && !refusal.is_routine()
        {
            let (label, method) = (&self.label, answer.to.method);
            tracing::error!(target: log::STORAGE_SERVER, "({label}) `{method}` raised exception: {refusal}");
        }
        let last = self.host.as_ref().map_or(Tid::ZERO, |host| host.storage.last_transaction());
        self.answer_as_of(answer, last, out)
    }

    fn answer_as_of(&mut self, answer: Answer, as_of: Tid, out: &mut Vec<u8>) -> Result<(), Ended> {
        self.catch_up(as_of, out)?;
        let mut out = Output { out, encoding: self.encoding, host: self.host.as_deref() };
        self.session.answer(answer, &mut out).map_err(Ended::Core)
    }

    /// The connection is over: gives back everything that it held.
    async fn close(mut self, ended: &Ended) {
        let voting = self.session.is_voting();
        let abandoned = self.session.close();
        if let Some(host) = &self.host {
            host.leave(self.session.id(), abandoned);
            let during = match (abandoned.is_some_and(|abandoned| abandoned.voted), voting) {
                (true, _) => " during locked transaction",
                (false, true) => " during unlocked transaction",
                (false, false) => "",
            };
            tracing::info!(target: log::STORAGE_SERVER, "({}) disconnected{during}", self.label);
        }
        ended.log(&self.label);
        self.slow_loads.shutdown().await;
    }
}

enum Changes {
    Known(Option<(Tid, Vec<Oid>)>),
    Walk,
}

/// Encodes what the core says into the output buffer.
struct Output<'a> {
    out: &'a mut Vec<u8>,
    encoding: Encoding,
    host: Option<&'a Host>,
}

impl Outbox for Output<'_> {
    fn invalidate(&mut self, publication: &Publication) {
        let notice = Notice::Invalidate { tid: publication.tid, oids: Arc::clone(&publication.oids) };
        zeolith_wire::encode_notice(self.encoding, &notice, self.out);
    }

    fn info(&mut self) {
        if let Some(host) = self.host {
            let StorageInfo { length, size, .. } = host.storage.info();
            zeolith_wire::encode_notice(self.encoding, &Notice::Info { length, size }, self.out);
        }
    }

    fn reply(&mut self, id: &MessageId, reply: &Reply) {
        zeolith_wire::encode_reply(self.encoding, id, reply, self.out);
    }

    fn refuse(&mut self, id: &MessageId, refusal: &Refusal) {
        zeolith_wire::encode_refusal(self.encoding, id, refusal, self.out);
    }
}

impl Ended {
    /// One line that names the peer, at the level that the reason deserves.
    fn log(&self, peer: &str) {
        match self {
            Self::ByPeer | Self::StatusGiven => {
                tracing::debug!(target: log::PROTOCOL, "{peer} closed the connection");
            }
            Self::TransactionTimeout => {}
            Self::Hello(error) => tracing::error!(target: log::PROTOCOL, "{peer} bad handshake {error}"),
            Self::Core(CloseReason::InvalidMethod(name)) => {
                let name: String = name.chars().take(NAME_SHOWN_MAX).collect();
                tracing::error!(target: log::PROTOCOL, "{peer} Invalid method, {name:?}; connection closed");
            }
            other => tracing::error!(target: log::PROTOCOL, "{peer} Disconnected: {other}"),
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByPeer => f.write_str("closed by the peer"),
            Self::StatusGiven => f.write_str("the status was given"),
            Self::Socket(error) => write!(f, "{error}"),
            Self::Wire(error) => write!(f, "Can't deserialize message: {error}"),
            Self::Hello(error) => write!(f, "bad handshake {error}"),
            Self::Core(CloseReason::InvalidMethod(name)) => write!(f, "Invalid method, {name:?}"),
            Self::Core(CloseReason::OneWayFailed(method, refusal)) => {
                write!(f, "one-way `{method}` raised exception: {refusal}")
            }
            Self::Core(CloseReason::Lagged) => {
                f.write_str("the client does not read its invalidations and fell too far behind")
            }
            Self::TransactionTimeout => f.write_str("transaction timeout"),
            Self::Silence(awaited) => write!(f, "{awaited} did not come in time"),
        }
    }
}

/// Loads of one connection that may wait for the disk at a time; then its next calls wait.
const SLOW_LOADS_MAX: usize = 64;
/// A vote on more objects than this is not done in the connection's task.
const INLINE_VOTE_OBJECTS: usize = 32;
/// A vote on more bytes than this is not done in the connection's task.
const INLINE_VOTE_BYTES: u64 = 256 << 10;
/// Characters of an unknown method's name that a log line shows.
const NAME_SHOWN_MAX: usize = 100;
