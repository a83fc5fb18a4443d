//! One connection, from its hello to its end: the way of a load is from here to the storage and back.
//!
//! The task reads frames, `zeolith-wire` makes calls of them, the core's session says what to do
//! (`conversation.rs`), and the answer goes into the output buffer, which is written when no frame is left.
//! Loads are answered here and now; what is not in memory goes to the blocking pool.

use crate::{
    bell::Bell,
    blob_stream::BlobStream,
    conversation::Conversation,
    ended::{Awaited, Ended},
    host::{Host, Mail},
    jobs::{Done, Job},
    limits::{Limits, Unregistered},
    listeners::Rest,
    log,
    pipe::{Pipe, Progress},
    settings::Settings,
    slow_loads::Finished,
    socket::{Divided, Socket},
    status::status,
    workers::{Seat, Table},
};
use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, atomic::AtomicUsize},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep_until},
};
use zeolith_core::{Access, Answer, SessionId};
use zeolith_types::Reply;
use zeolith_wire::{Encoding, Hello};

/// What all connections of a server share.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) hosts: BTreeMap<String, Arc<Host>>,
    pub(crate) limits: Arc<Limits>,
}

/// Serves a new connection until it ends, and cleans up after it, or until it should go on at another worker.
pub(crate) async fn serve(
    stream: Divided,
    peer: String,
    id: SessionId,
    shared: Arc<Shared>,
    seat: Seat,
) -> Option<Departure> {
    let connection = welcome(stream, peer, id, shared, seat).await?;
    connection.run().await
}

/// The connection of a client that has said hello.
async fn welcome(
    stream: Divided,
    peer: String,
    id: SessionId,
    shared: Arc<Shared>,
    mut seat: Seat,
) -> Option<Box<Connection<Divided>>> {
    seat.socket = Some(stream.shared());
    let announced = if shared.settings.msgpack { Encoding::Msgpack } else { Encoding::Pickle };
    // Nobody needs more before the registration, and there can be many who never come to it.
    let frame_size_max = shared.settings.frame_size_max.min(FIRST_FRAMES_MAX);
    let mut pipe = Pipe::new(stream, frame_size_max, shared.settings.client_queue_max);
    let mut unregistered = shared.limits.enter(id, shared.settings.unregistered_connections_max);
    pipe.outgoing.extend_from_slice(zeolith_wire::announcement(announced));
    let greeting = hello(&mut pipe, Instant::now() + shared.settings.hello_timeout);
    let greeted = tokio::select! {
        greeted = greeting => greeted,
        () = unregistered.pushed_out() => Err(Ended::PushedOut),
    };
    let encoding = match greeted {
        Ok(Hello::Client(encoding)) => encoding,
        Ok(Hello::Ruok) => {
            let statuses: Vec<_> = shared
                .hosts
                .iter()
                .map(|(name, host)| (name.as_str(), status(host, &shared.limits)))
                .collect();
            let statuses = statuses.iter().map(|(name, status)| (*name, status));
            let ended = match zeolith_wire::append_status_frame(statuses, &mut pipe.outgoing) {
                Ok(()) => Ended::StatusGiven,
                Err(error) => Ended::Wire(error),
            };
            pipe.flush(shared.settings.hello_timeout).await;
            ended.report(&peer, &shared.limits);
            return None;
        }
        Err(ended) => {
            ended.report(&peer, &shared.limits);
            return None;
        }
    };
    tracing::info!(target: log::PROTOCOL, "{peer} received handshake '{}5'", match encoding {
        Encoding::Pickle => 'Z',
        Encoding::Msgpack => 'M',
    });
    let conversation = Conversation::new(id, peer, encoding, shared, seat);
    let register_until = Instant::now() + conversation.shared.settings.register_timeout;
    let unregistered = Some((unregistered, register_until));
    Some(Box::new(Connection { pipe, conversation, unregistered, is_told_later: false }))
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
        match progress.await.map_err(|_| Ended::Silence(Awaited::Hello))?.map_err(Ended::Socket)? {
            Progress::Read | Progress::Written => {}
            Progress::Closed => return Err(Ended::ByPeer),
        }
    }
}

/// A socket, and what is said on it. In a box of its own: a task has room for all that its steps hand on to each
/// other, and each of them would have room for a whole connection.
pub(crate) struct Connection<S> {
    pipe: Pipe<S>,
    conversation: Conversation,
    /// Its place among those that have not registered, and until when it may keep that.
    unregistered: Option<(Unregistered, Instant)>,
    /// There is something to tell that the client has not been told because it does not read.
    is_told_later: bool,
}

/// A connection on its way from one worker to another.
pub(crate) struct Departure {
    pub(crate) connection: Box<Connection<Socket>>,
    /// The number of the worker where it goes on.
    pub(crate) to: usize,
}

impl Connection<Socket> {
    /// Whose connection it is, as log lines name it.
    pub(crate) fn label(&self) -> &str {
        self.conversation.label()
    }

    /// Counts it among the connections of another worker.
    pub(crate) fn count_among(&mut self, connections: &Arc<AtomicUsize>) {
        self.conversation.seat.count_among(connections);
    }

    /// Goes on at another worker.
    pub(crate) async fn go_on(self: Box<Self>, table: Table) -> Option<Departure> {
        let Self { pipe, mut conversation, unregistered, is_told_later } = *self;
        match pipe.try_map(Divided::enter) {
            Ok(pipe) => {
                conversation.sit(table, pipe.stream().shared());
                Box::new(Connection { pipe, conversation, unregistered, is_told_later }).run().await
            }
            Err(error) => {
                Ended::Socket(error).report(conversation.label(), &conversation.shared.limits);
                None
            }
        }
    }
}

impl Connection<Divided> {
    /// Goes on until the connection ends, and cleans up after it, or until it should go on at another worker.
    pub(crate) async fn run(mut self: Box<Self>) -> Option<Departure> {
        let converse = self.converse().await;
        let label = self.conversation.label().to_owned();
        let limits = Arc::clone(&self.conversation.shared.limits);
        let ended = match converse {
            Ok(to) => match self.depart() {
                Ok(connection) => return Some(Departure { connection, to }),
                Err(error) => Ended::Socket(error),
            },
            Err(ended) => ended,
        };
        ended.report(&label, &limits);
        None
    }

    /// Leaves the event loop of its worker.
    fn depart(self: Box<Self>) -> io::Result<Box<Connection<Socket>>> {
        let Self { pipe, mut conversation, unregistered, is_told_later } = *self;
        conversation.rise();
        let pipe = pipe.try_map(Divided::leave)?;
        Ok(Box::new(Connection { pipe, conversation, unregistered, is_told_later }))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Goes on until the connection ends, or should go on at the worker of that number.
    async fn converse(&mut self) -> Result<usize, Ended> {
        loop {
            // What was published before a call came in is told before the call is answered.
            let event = match self.waiting_event()? {
                Some(event) => event,
                None => {
                    self.serve_waiting_frames().await?;
                    self.next_event().await?
                }
            };
            let is_full = self.pipe.is_full();
            let out = &mut self.pipe.outgoing;
            match event {
                Event::Socket(Progress::Read) => self.conversation.seat.heard(self.pipe.read_at()),
                Event::Socket(Progress::Written) => {}
                Event::Socket(Progress::Closed) => return Err(Ended::ByPeer),
                // Who does not read is not told either, or what waits for it would grow without bound. The log
                // keeps it for a while, and then the client has fallen too far behind.
                Event::Published if is_full => {
                    self.conversation.keeps_up()?;
                    self.is_told_later = true;
                }
                Event::Published => {
                    self.is_told_later = false;
                    self.conversation.published(out)?;
                }
                Event::Mail(mail) => {
                    if let Some(job) = self.conversation.mail(mail, out)? {
                        Box::pin(self.do_job(job)).await?;
                    }
                }
                Event::Loaded(load) => self.conversation.load_finished(load, out)?,
                Event::Leaves(to) => return Ok(to),
            }
            self.conversation.go_on_loading(self.pipe.waiting());
        }
    }

    /// Serves all whole frames that have come in, as far as the output has room.
    async fn serve_waiting_frames(&mut self) -> Result<(), Ended> {
        while !self.pipe.is_full() && !self.conversation.slow_loads.is_full() {
            let Some(frame) = self.pipe.incoming.next_frame().map_err(Ended::Wire)? else {
                return Ok(());
            };
            if let Some(job) = self.conversation.receive(&frame, &mut self.pipe.outgoing)? {
                Box::pin(self.do_job(job)).await?;
            }
            // The next frame may be here already, and be larger than what was taken up to now.
            if self.unregistered.is_some() && self.conversation.session.access() != Access::Unregistered {
                self.unregistered = None;
                self.pipe.incoming.set_size_max(self.conversation.shared.settings.frame_size_max);
            }
        }
        Ok(())
    }

    /// Lets the blocking pool do a job. Whatever the client says meanwhile waits for its result.
    async fn do_job(&mut self, job: Job) -> Result<(), Ended> {
        let mut next = Some(job);
        while let Some(job) = next {
            let Some(done) = run(job, self.conversation.host.clone()).await? else { break };
            next = self.conversation.done(done, &mut self.pipe.outgoing)?;
        }
        match self.conversation.stream.take() {
            Some(stream) => self.send_blob(stream).await,
            None => Ok(()),
        }
    }

    /// Sends a blob. Nothing comes between its messages: what else there is to say meanwhile is said afterwards,
    /// and what the client says meanwhile stays with it.
    async fn send_blob(&mut self, mut stream: BlobStream) -> Result<(), Ended> {
        let encoding = self.conversation.encoding();
        let mut behind = Vec::new();
        stream.begin(encoding, &mut self.pipe.outgoing);
        loop {
            self.drain(&mut behind).await?;
            let sent = stream.send_piece(encoding, &mut self.pipe.outgoing).await.map_err(Ended::from)?;
            stream = sent.0;
            if !sent.1 {
                break;
            }
            // The log of publications does not wait for blobs of any size; but who reads so slowly that this
            // much gathers is not told more, and falls behind like any other.
            if behind.len() < BEHIND_MAX {
                self.conversation.published(&mut behind)?;
            }
        }
        stream.end(encoding, &mut self.pipe.outgoing);
        self.pipe.outgoing.append(&mut behind);
        let answer = Answer { to: stream.to, result: Ok(Reply::None) };
        self.conversation.answer(answer, &mut self.pipe.outgoing)
    }

    /// Waits until the socket has taken everything. Mail is read meanwhile, since a transaction of this
    /// connection can time out, and others wait for what it holds.
    ///
    /// Who takes nothing at all is let go after as long as any other that does not read.
    async fn drain(&mut self, behind: &mut Vec<u8>) -> Result<(), Ended> {
        let patience = self.conversation.shared.settings.frame_timeout;
        loop {
            let stuck_at = self.pipe.undrained_at(patience);
            let mail = tokio::select! {
                biased;
                drained = self.pipe.drain() => return drained.map_err(Ended::Socket),
                mail = self.conversation.mailbox.take() => mail,
                () = sleep_until(stuck_at) => {
                    // Something may have been taken since.
                    if self.pipe.undrained_at(patience) <= Instant::now() {
                        return Err(Ended::Silence(Awaited::Reader));
                    }
                    continue;
                }
            };
            let mut next = self.conversation.mail(mail, behind)?;
            while let Some(job) = next {
                let Some(done) = run(job, self.conversation.host.clone()).await? else { break };
                next = self.conversation.done(done, behind)?;
            }
        }
    }

    /// What is there already besides the socket: a client that never stops talking can't hold it back.
    fn waiting_event(&mut self) -> Result<Option<Event>, Ended> {
        if let Some((place, until)) = &mut self.unregistered {
            if Instant::now() > *until {
                return Err(Ended::Silence(Awaited::Registration));
            }
            if place.is_pushed_out() {
                return Err(Ended::PushedOut);
            }
        }
        if let Some(mail) = self.conversation.mailbox.try_take() {
            return Ok(Some(Event::Mail(mail)));
        }
        // Whoever does not read gets nothing more to keep.
        if self.pipe.is_full() {
            return Ok(None);
        }
        if let Some(load) = self.conversation.slow_loads.try_next() {
            let load = load.map_err(|error| Ended::Socket(io::Error::other(error)))?;
            return Ok(Some(Event::Loaded(load)));
        }
        let is_published = self.conversation.bell.as_ref().is_some_and(Bell::is_due);
        Ok((is_published || self.is_told_later).then_some(Event::Published))
    }

    /// Waits for the next event. Meanwhile its worker may tell the client of publications.
    async fn next_event(&mut self) -> Result<Event, Ended> {
        let was_full = self.pipe.is_full();
        self.pipe.write_out().await.map_err(Ended::Socket)?;
        if was_full && !self.pipe.is_full() {
            // The calls that had to wait for this can go on.
            return Ok(Event::Socket(Progress::Written));
        }
        if let Some(to) = self.leaves() {
            return Ok(Event::Leaves(to));
        }
        self.conversation.seat.rests();
        let event = self.rest_until_event().await;
        self.conversation.wake_up(&mut self.pipe.outgoing);
        event
    }

    /// At which worker it should go on, if nothing keeps it here.
    fn leaves(&mut self) -> Option<usize> {
        let is_free =
            self.unregistered.is_none() && self.pipe.waiting() == 0 && self.conversation.is_at_ease();
        if is_free { self.conversation.seat.leave() } else { None }
    }

    async fn rest_until_event(&mut self) -> Result<Event, Ended> {
        let patience = self.conversation.shared.settings.frame_timeout;
        let stuck = self.pipe.stuck_at(patience).map(|until| (until, Awaited::Reader));
        let stalls = || self.pipe.stalls_at(patience).map(|until| (until, Awaited::Message));
        let registers = self.unregistered.as_ref().map(|(_, until)| (*until, Awaited::Registration));
        let deadline =
            [stuck.or_else(stalls), registers].into_iter().flatten().min_by_key(|(until, _)| *until);
        let unregistered = self.unregistered.as_mut().map(|(place, _)| place);
        let takes_loads = !self.pipe.is_full() && self.conversation.slow_loads.is_any_running();
        let conversation = &mut self.conversation;
        let rest = conversation.rest(&self.pipe);
        let bell = conversation.bell.as_mut();
        tokio::select! {
            // The socket first: it is nearly always the one, and then the others need not be asked.
            biased;
            progress = self.pipe.progress() => progress.map(Event::Socket).map_err(Ended::Socket),
            mail = conversation.mailbox.take() => Ok(Event::Mail(mail)),
            () = rings(bell, rest) => Ok(Event::Published),
            () = pushed_out(unregistered) => Err(Ended::PushedOut),
            Some(load) = conversation.slow_loads.next(), if takes_loads => {
                load.map(Event::Loaded).map_err(|error| Ended::Socket(io::Error::other(error)))
            }
            awaited = silence_until(deadline) => Err(Ended::Silence(awaited)),
        }
    }
}

enum Event {
    Socket(Progress),
    Published,
    Mail(Mail),
    Loaded(Finished),
    /// The connection should go on at another worker.
    Leaves(usize),
}

/// Lets the blocking pool do a job.
async fn run(job: Job, host: Option<Arc<Host>>) -> Result<Option<Done>, Ended> {
    let Some(host) = host else { return Ok(None) };
    let done = tokio::task::spawn_blocking(move || job.run(&host)).await;
    done.map(Some).map_err(|error| Ended::Socket(io::Error::other(error)))
}

/// What did not come in time; for ever, if nothing must.
async fn silence_until(deadline: Option<(Instant, Awaited)>) -> Awaited {
    match deadline {
        Some((until, awaited)) => {
            sleep_until(until).await;
            awaited
        }
        None => std::future::pending().await,
    }
}

/// Waits until a connection that has not registered must make room; for ever, if it has.
async fn pushed_out(unregistered: Option<&mut Unregistered>) {
    match unregistered {
        Some(place) => place.pushed_out().await,
        None => std::future::pending().await,
    }
}

/// Waits for the next publication; for ever, if there is no storage yet.
async fn rings(bell: Option<&mut Bell>, rest: Rest) {
    match bell {
        Some(bell) => bell.rings(rest).await,
        None => std::future::pending().await,
    }
}

/// Bytes of notices that gather behind a blob.
const BEHIND_MAX: usize = 4 << 20;
/// A hello and a registration are shorter, by far.
const FIRST_FRAMES_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bell::Bells,
        scripted::{self, Scripted},
    };
    use std::{
        pin::Pin,
        sync::Mutex,
        task::{Context, Poll},
        time::Duration,
    };
    use tokio::io::ReadBuf;
    use zeolith_core::Publication;
    use zeolith_types::{Oid, Tid, Value};
    use zeolith_wire::encode_call;

    /// A client whose next words are always there already, until it has said enough.
    struct Chatterbox {
        next_words: Box<dyn FnMut() -> Option<Vec<u8>> + Send>,
        /// What there was no room for.
        unsaid: Vec<u8>,
        heard: Arc<Mutex<Vec<u8>>>,
        /// Whether it goes when it has said enough.
        goes: bool,
    }

    const HEARTBEAT: &[u8] = b"\0\0\0\x0b\x94\xff\x00\xa6.reply\xc0";

    impl AsyncRead for Chatterbox {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if self.unsaid.is_empty() {
                match (self.next_words)() {
                    Some(words) => self.unsaid = words,
                    None if self.goes => {}
                    None => return Poll::Pending,
                }
            }
            let fits = self.unsaid.len().min(buffer.remaining());
            buffer.put_slice(&self.unsaid[..fits]);
            self.unsaid.drain(..fits);
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Chatterbox {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.heard.lock().unwrap().extend_from_slice(bytes);
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// A connection to a client that says heartbeats.
    fn connection(words: u32, register_until: Instant) -> Connection<Chatterbox> {
        let mut words_left = words;
        let next_words = move || {
            words_left = words_left.checked_sub(1)?;
            Some(HEARTBEAT.to_vec())
        };
        let client = Chatterbox {
            next_words: Box::new(next_words),
            unsaid: Vec::new(),
            heard: Arc::default(),
            goes: true,
        };
        connected(client, BTreeMap::new(), register_until)
    }

    fn connected(
        client: Chatterbox,
        hosts: BTreeMap<String, Arc<Host>>,
        register_until: Instant,
    ) -> Connection<Chatterbox> {
        let limits = Arc::new(Limits::default());
        let place = limits.enter(SessionId(1), 1);
        let seat = Seat::only(Bells::hang(&hosts));
        let shared = Arc::new(Shared { settings: Settings::default(), hosts, limits });
        let conversation = Conversation::new(SessionId(1), "peer".into(), Encoding::Msgpack, shared, seat);
        let pipe = Pipe::new(client, 1024, 1024);
        let unregistered = Some((place, register_until));
        Connection { pipe, conversation, unregistered, is_told_later: false }
    }

    async fn end_of(mut connection: Connection<Chatterbox>) -> Ended {
        match connection.converse().await {
            Ok(to) => panic!("a lone worker sends its only connection to worker {to}"),
            Err(ended) => ended,
        }
    }

    #[tokio::test]
    async fn who_says_nothing_of_worth_is_let_go_when_there_is_no_more() {
        let patient = Instant::now() + Duration::from_secs(60);
        assert!(matches!(end_of(connection(1000, patient)).await, Ended::ByPeer));
    }

    #[tokio::test]
    async fn who_never_stops_talking_must_register_in_time_all_the_same() {
        let ended = end_of(connection(1_000_000, Instant::now())).await;
        assert!(matches!(ended, Ended::Silence(Awaited::Registration)), "{ended}");
    }

    #[tokio::test]
    async fn who_never_stops_talking_makes_room_for_others_all_the_same() {
        let talking = connection(1_000_000, Instant::now() + Duration::from_secs(60));
        let _newcomer = talking.conversation.shared.limits.enter(SessionId(2), 1);
        let ended = end_of(talking).await;
        assert!(matches!(ended, Ended::PushedOut), "{ended}");
    }

    #[tokio::test]
    async fn who_never_stops_talking_loses_its_locks_in_time_all_the_same() {
        let patient = Instant::now() + Duration::from_secs(60);
        let talking = connection(1_000_000, patient);
        talking.conversation.mailbox.put(Mail::TimedOut(Duration::from_secs(1)));
        let ended = end_of(talking).await;
        assert!(matches!(ended, Ended::TransactionTimeout), "{ended}");
    }

    fn call(method: &'static str, arguments: &[Value]) -> Vec<u8> {
        let mut words = Vec::new();
        encode_call(Encoding::Msgpack, &Value::Int(1), false, method, arguments, &mut words).unwrap();
        words
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_waited_for_room_go_on_when_the_client_has_read_everything_at_once() {
        let (host, _) = scripted::host(Scripted::default());
        let register = call("register", &[Value::Str("1".into()), Value::Bool(false)]);
        let mut words = vec![call("ping", &[]).repeat(200), register].into_iter().rev();
        let heard = Arc::<Mutex<Vec<u8>>>::default();
        let next_words = Box::new(move || words.next());
        let client = Chatterbox { next_words, unsaid: Vec::new(), heard: Arc::clone(&heard), goes: false };
        let hosts = BTreeMap::from([("1".to_owned(), host)]);
        let connection = connected(client, hosts, Instant::now() + Duration::from_secs(60));
        assert!(tokio::time::timeout(Duration::from_secs(10), end_of(connection)).await.is_err());
        let replies = heard.lock().unwrap().windows(6).filter(|part| part == b".reply").count();
        assert_eq!(replies, 201);
    }

    #[tokio::test]
    async fn what_was_published_before_a_call_came_in_is_told_before_the_answer() {
        let (host, _) = scripted::host(Scripted::default());
        let publishing = Arc::clone(&host);
        let mut calls =
            [("register", vec![Value::Str("1".into()), Value::Bool(false)]), ("ping", vec![])].into_iter();
        let next_words = move || {
            let (method, arguments) = calls.next()?;
            if method == "ping" {
                let (tid, oids) = (Tid::new(1), Arc::from([Oid::new(7)]));
                publishing.log_mut().append([Publication { tid, oids, committer: None }]);
                publishing.published.send_replace(tid);
            }
            Some(call(method, &arguments))
        };
        let heard = Arc::<Mutex<Vec<u8>>>::default();
        let client = Chatterbox {
            next_words: Box::new(next_words),
            unsaid: Vec::new(),
            heard: Arc::clone(&heard),
            goes: true,
        };
        let hosts = BTreeMap::from([("1".to_owned(), host)]);
        let patient = Instant::now() + Duration::from_secs(60);
        assert!(matches!(end_of(connected(client, hosts, patient)).await, Ended::ByPeer));
        let heard = heard.lock().unwrap();
        let last = |words: &[u8]| heard.windows(words.len()).rposition(|part| part == words).unwrap();
        assert!(last(b"invalidateTransaction") < last(b".reply"), "the answer came first");
    }
}
