//! The threads that serve connections.
//!
//! Each worker has an event loop of its own: what a client says is read, answered and written by one thread, and
//! nobody is woken to take work from somebody else. The last of them also accepts (`acceptor.rs`). A new connection
//! goes to the worker that has the fewest, and may go on at another one when it shows who has much to say
//! (`balance.rs`); for a client that is alone and asks again at once the worker stays awake (`vigil.rs`). Whatever may
//! wait or is long goes from there to the blocking pool (`jobs.rs`), for all that a worker does keeps its other clients
//! waiting.

use crate::{
    balance::{Balance, Loads, Talk},
    bell::Bells,
    connection::{Connection, Departure, Shared, serve},
    limits::Limit,
    log,
    socket::{Divided, Socket, TryWrite},
    vigil::{Ears, Haste, Vigil},
};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};
use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::mpsc,
    task::JoinSet,
    time::Instant,
};
use zeolith_core::SessionId;

/// All workers of a server.
pub(crate) struct Workers {
    desks: Arc<[Desk]>,
    threads: Vec<thread::JoinHandle<()>>,
    /// The event loop in which connections are accepted: the last worker's, for busy clients gather at the first.
    accepting: Handle,
    shared: Arc<Shared>,
}

/// Where a worker gets its work.
struct Desk {
    errands: mpsc::UnboundedSender<Errand>,
    /// How many connections it serves or has been given.
    connections: Arc<AtomicUsize>,
    balance: Arc<Balance>,
    vigil: Arc<Vigil>,
}

enum Errand {
    /// A connection that has just been accepted.
    Serve { socket: Socket, peer: String, id: SessionId, counted: Counted },
    /// One that another worker has served up to now.
    GoOn(Box<Connection<Socket>>),
    /// Ends all connections, and the worker.
    Stop,
}

impl Workers {
    /// Starts `count` workers.
    pub(crate) fn start(count: usize, shared: &Arc<Shared>) -> io::Result<Self> {
        let (loads, ears) = (Loads::of(count), Ears::of(count));
        let desk = |number| {
            let vigil = Vigil::new(number, ears.clone(), shared.settings.busy_poll);
            Desk::new(Balance::new(number, Arc::clone(&loads)), vigil)
        };
        let (desks, errands): (Vec<_>, Vec<_>) = (0..count).map(desk).unzip();
        let desks: Arc<[Desk]> = desks.into();
        let runtime = || Builder::new_current_thread().enable_all().thread_name("zeo-blocking").build();
        let runtimes = (0..count).map(|_| runtime()).collect::<io::Result<Vec<_>>>()?;
        let last = runtimes.last().ok_or(io::ErrorKind::InvalidInput)?;
        let accepting = last.handle().clone();
        let mut workers = Self { desks, threads: Vec::new(), accepting, shared: Arc::clone(shared) };
        for (number, (errands, runtime)) in errands.into_iter().zip(runtimes).enumerate() {
            let worker = Worker { desks: Arc::clone(&workers.desks), number, shared: Arc::clone(shared) };
            let thread = thread::Builder::new().name(format!("zeo-worker {number}"));
            workers.threads.push(thread.spawn(move || worker.run(runtime, errands))?);
        }
        Ok(workers)
    }

    /// The event loop in which connections are accepted.
    pub(crate) const fn accepting(&self) -> &Handle {
        &self.accepting
    }

    /// Gives a connection to the worker that has the fewest, or closes it if there are too many.
    pub(crate) fn serve(&self, socket: Socket, peer: String, id: SessionId) {
        let max = self.shared.settings.connections_max;
        let connections: usize = self.desks.iter().map(|desk| desk.connections.load(Relaxed)).sum();
        if connections >= max {
            self.shared.limits.count(Limit::Connections);
            let key = Limit::Connections.key();
            tracing::warn!(target: log::PROTOCOL, "{peer} refused: there are {max} connections already ({key})");
            return;
        }
        let Some(desk) = self.desks.iter().min_by_key(|desk| desk.connections.load(Relaxed)) else {
            return;
        };
        let counted = Counted::in_(&desk.connections);
        if let Err(unserved) = desk.errands.send(Errand::Serve { socket, peer, id, counted })
            && let Errand::Serve { peer, .. } = unserved.0
        {
            tracing::error!(target: log::PROTOCOL, "{peer}: closed, for the thread that should serve it has ended");
        }
    }

    /// Ends all connections and waits until they have given up what they held.
    pub(crate) fn stop(mut self) {
        let threads = std::mem::take(&mut self.threads);
        drop(self);
        for thread in threads {
            // A worker that panicked has nothing left to stop.
            let _ = thread.join();
        }
    }
}

impl Drop for Workers {
    /// All connections end soon.
    fn drop(&mut self) {
        for desk in &*self.desks {
            let _ = desk.errands.send(Errand::Stop);
        }
    }
}

impl Desk {
    fn new(balance: Balance, vigil: Vigil) -> (Self, mpsc::UnboundedReceiver<Errand>) {
        let (errands, waiting) = mpsc::unbounded_channel();
        let (balance, vigil) = (Arc::new(balance), Arc::new(vigil));
        (Self { errands, connections: Arc::default(), balance, vigil }, waiting)
    }
}

/// One worker, in its thread.
struct Worker {
    desks: Arc<[Desk]>,
    number: usize,
    shared: Arc<Shared>,
}

impl Worker {
    fn run(self, runtime: Runtime, mut errands: mpsc::UnboundedReceiver<Errand>) {
        runtime.block_on(async {
            let mut connections = JoinSet::new();
            let table = self.lay_table();
            loop {
                tokio::select! {
                    errand = errands.recv() => match errand {
                        Some(Errand::Serve { socket, peer, id, counted }) => {
                            let seat = Seat::new(counted, table.clone());
                            connections.spawn(begin(socket, peer, id, Arc::clone(&self.shared), seat));
                        }
                        Some(Errand::GoOn(connection)) => {
                            connections.spawn(connection.go_on(table.clone()));
                        }
                        // Each worker could send to itself, so there is an end only if somebody says so.
                        Some(Errand::Stop) | None => break,
                    },
                    Some(served) = connections.join_next(), if !connections.is_empty() => {
                        if let Ok(Some(departure)) = served {
                            self.send(departure);
                        }
                    }
                }
            }
            connections.shutdown().await;
        });
        // What still waits for a disk has nobody to answer any more.
        runtime.shutdown_timeout(LAST_JOBS_PATIENCE);
    }

    /// What its connections find here. Within the event loop, which ends it.
    fn lay_table(&self) -> Table {
        let Desk { balance, vigil, .. } = &self.desks[self.number];
        let (balance, vigil) = (Arc::clone(balance), Arc::clone(vigil));
        let bells = Arc::new(Bells::hang(&self.shared.hosts));
        let kept = Arc::clone(&vigil);
        tokio::spawn(async move { kept.keep(std::time::Instant::now).await });
        Table { bells, balance, vigil }
    }

    /// Lets another worker go on with a connection.
    fn send(&self, departure: Departure) {
        let Departure { mut connection, to } = departure;
        let Some(desk) = self.desks.get(to) else { return };
        tracing::debug!(target: log::PROTOCOL, "({}) goes on at worker {to}", connection.label());
        connection.count_among(&desk.connections);
        if desk.errands.send(Errand::GoOn(connection)).is_err() {
            // All connections end then, unless it was a defect, which has been reported.
            tracing::debug!(target: log::PROTOCOL, "worker {to} has ended");
        }
    }
}

/// Serves a connection that another thread has accepted.
async fn begin(
    socket: Socket,
    peer: String,
    id: SessionId,
    shared: Arc<Shared>,
    seat: Seat,
) -> Option<Departure> {
    match Divided::enter(socket) {
        Ok(stream) => serve(stream, peer, id, shared, seat).await,
        Err(error) => {
            tracing::error!(target: log::PROTOCOL, "{peer}: can't be served: {error}");
            None
        }
    }
}

/// What all connections of a worker share there.
#[derive(Clone)]
pub(crate) struct Table {
    pub(crate) bells: Arc<Bells>,
    balance: Arc<Balance>,
    vigil: Arc<Vigil>,
}

/// A connection's place at its worker, until it ends or goes on elsewhere.
pub(crate) struct Seat {
    counted: Counted,
    pub(crate) table: Table,
    talk: Talk,
    haste: Haste,
    should_leave: bool,
    /// By which the worker may tell the client of publications.
    pub(crate) socket: Option<Arc<dyn TryWrite>>,
}

impl Seat {
    fn new(counted: Counted, table: Table) -> Self {
        let (talk, haste) = (Talk::default(), Haste::default());
        Self { counted, table, talk, haste, should_leave: false, socket: None }
    }

    /// Whether the worker serves nobody else.
    pub(crate) fn is_alone(&self) -> bool {
        self.counted.0.load(Relaxed) == 1
    }

    /// The client has said something.
    pub(crate) fn heard(&mut self, now: Instant) {
        let Table { balance, vigil, .. } = &self.table;
        vigil.heard(&mut self.haste, now.into_std());
        self.should_leave = balance.heard(&mut self.talk, now, || vigil.lasted());
    }

    /// The connection waits, most often for the client's next call.
    pub(crate) fn rests(&mut self) {
        self.table.vigil.rests(&mut self.haste, Instant::now().into_std());
    }

    /// The number of the worker where the connection should go on, if it should.
    pub(crate) fn leave(&mut self) -> Option<usize> {
        if std::mem::take(&mut self.should_leave) { self.table.balance.leave(&mut self.talk) } else { None }
    }

    /// Counts the connection among those of another worker.
    pub(crate) fn count_among(&mut self, connections: &Arc<AtomicUsize>) {
        self.counted.move_to(connections);
    }

    /// From now on it is one at another worker.
    pub(crate) fn change(&mut self, table: Table, socket: Arc<dyn TryWrite>) {
        (self.table, self.socket) = (table, Some(socket));
        (self.talk, self.haste, self.should_leave) = (self.talk.elsewhere(), Haste::default(), false);
    }

    /// The only one of a worker that has these bells.
    #[cfg(test)]
    pub(crate) fn only(bells: Bells) -> Self {
        let (balance, vigil) = (Balance::new(0, Loads::of(1)), Vigil::new(0, Ears::of(1), Duration::ZERO));
        let table = Table { bells: Arc::new(bells), balance: Arc::new(balance), vigil: Arc::new(vigil) };
        Self::new(Counted::in_(&Arc::default()), table)
    }

    /// Another one at the same worker.
    #[cfg(test)]
    pub(crate) fn next_to(&self) -> Self {
        Self::new(Counted::in_(&self.counted.0), self.table.clone())
    }
}

/// Counts a connection among those of its worker, until it ends in whatever way.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn in_(connections: &Arc<AtomicUsize>) -> Self {
        connections.fetch_add(1, Relaxed);
        Self(Arc::clone(connections))
    }

    fn move_to(&mut self, connections: &Arc<AtomicUsize>) {
        self.0.fetch_sub(1, Relaxed);
        connections.fetch_add(1, Relaxed);
        self.0 = Arc::clone(connections);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// How long the end of a worker waits for jobs that nobody waits for.
const LAST_JOBS_PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        scripted::{self, Scripted},
        settings::Settings,
    };
    use bytes::Bytes;
    use std::{
        collections::BTreeMap,
        io::{Read, Write},
        os::unix::net::UnixStream,
        sync::atomic::AtomicBool,
        time::Instant as Time,
    };
    use zeolith_types::{Tid, Value};
    use zeolith_wire::{Encoding, FrameReader, decode_message, encode_call};

    /// Workers that serve an empty storage.
    fn workers(count: usize) -> Workers {
        workers_with(count, Settings::default())
    }

    fn workers_with(count: usize, settings: Settings) -> Workers {
        let (host, _) = scripted::host(Scripted::default());
        let shared =
            Shared { settings, hosts: BTreeMap::from([("1".to_owned(), host)]), limits: Arc::default() };
        Workers::start(count, &Arc::new(shared)).unwrap()
    }

    impl Workers {
        fn connect(&self, number: u64) -> UnixStream {
            let (ours, theirs) = UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            theirs.set_read_timeout(Some(PATIENCE)).unwrap();
            self.serve(Socket::Unix(ours), number.to_string(), SessionId(number));
            theirs
        }

        /// How many connections each has.
        fn connections(&self) -> Vec<usize> {
            self.desks.iter().map(|desk| desk.connections.load(Relaxed)).collect()
        }
    }

    /// A client that sends its calls by halves, each with the first half of the next.
    struct Client {
        socket: UnixStream,
        incoming: FrameReader,
        calls: i128,
        unsent: Vec<u8>,
    }

    impl Client {
        fn registered(workers: &Workers, number: u64) -> Self {
            let socket = workers.connect(number);
            let mut client =
                Self { socket, incoming: FrameReader::default(), calls: 0, unsent: b"\0\0\0\x02M5".to_vec() };
            client.call("register", &[Value::Str("1".into()), Value::Bool(false)]);
            client
        }

        /// The tids that were told of before the answer, and the answer.
        fn call(&mut self, method: &'static str, arguments: &[Value]) -> (Vec<Tid>, Value) {
            self.calls += 1;
            let call = Value::Int(self.calls);
            self.say(&call, method, arguments);
            let mut heard = Vec::new();
            loop {
                match self.message() {
                    (id, name, answer) if name == ".reply" && id == call => return (heard, answer),
                    (_, name, what) if name == "invalidateTransaction" => heard.push(tid(&what)),
                    _ => {}
                }
            }
        }

        fn say(&mut self, id: &Value, method: &'static str, arguments: &[Value]) {
            let one_way = matches!(method, "tpc_begin" | "storea");
            encode_call(Encoding::Msgpack, id, one_way, method, arguments, &mut self.unsent).unwrap();
            let mut next = Vec::new();
            encode_call(Encoding::Msgpack, &Value::Int(0), false, "ping", &[], &mut next).unwrap();
            self.unsent.extend_from_slice(&next[..next.len() / 2]);
            self.socket.write_all(&self.unsent).unwrap();
            self.unsent = next.split_off(next.len() / 2);
        }

        fn message(&mut self) -> (Value, String, Value) {
            loop {
                if let Some(frame) = self.incoming.next_frame().unwrap() {
                    if let Ok(Value::Tuple(parts)) = decode_message(Encoding::Msgpack, &frame)
                        && let Ok([id, _, Value::Str(name), content]) = <[Value; 4]>::try_from(parts)
                    {
                        return (id, name, content);
                    }
                    assert_eq!(frame.as_ref(), b"Z5");
                } else {
                    let mut some = [0; 4096];
                    let read = self.socket.read(&mut some).unwrap();
                    assert!(read > 0, "the server has closed the connection");
                    self.incoming.push(&some[..read]);
                }
            }
        }

        fn begin(&mut self, oid: u64) {
            let (empty, id) = (Value::Bytes(Bytes::new()), Value::Int(7));
            let oid = Value::Bytes(Bytes::copy_from_slice(&oid.to_be_bytes()));
            let serial = Value::Bytes(Bytes::copy_from_slice(&[0; 8]));
            let begun = [id.clone(), empty.clone(), empty, Value::Dict(vec![])];
            self.say(&Value::Int(0), "tpc_begin", &begun);
            let data = Value::Bytes(Bytes::from_static(b"data"));
            self.say(&Value::Int(0), "storea", &[oid, serial, data, id]);
        }

        /// Votes and finishes; the tids that were told of meanwhile, and its own.
        fn commit(&mut self) -> (Vec<Tid>, Tid) {
            let (mut heard, voted) = self.call("vote", &[Value::Int(7)]);
            assert_eq!(voted, Value::Tuple(vec![]));
            let (more, finished) = self.call("tpc_finish", &[Value::Int(7)]);
            heard.extend(more);
            (heard, tid(&finished))
        }
    }

    /// A tid, or the first one of a tuple.
    fn tid(value: &Value) -> Tid {
        match value {
            Value::Bytes(bytes) => Tid::new(u64::from_be_bytes(bytes.as_ref().try_into().unwrap())),
            Value::Tuple(parts) => tid(&parts[0]),
            other => panic!("{other:?} is no tid"),
        }
    }

    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn connections_are_spread_over_the_workers_and_ended_with_them() {
        let workers = workers(3);
        let clients: Vec<_> = (0..6).map(|number| workers.connect(number)).collect();
        assert_eq!(workers.connections(), [2, 2, 2]);
        let counters: Vec<_> = workers.desks.iter().map(|desk| Arc::clone(&desk.connections)).collect();
        workers.stop();
        for mut client in clients {
            let mut said = Vec::new();
            client.read_to_end(&mut said).unwrap();
            // Who was served has been greeted; who came too late was closed without a word.
            assert!(said.is_empty() || said == b"\0\0\0\x02Z5", "{said:?}");
        }
        assert!(counters.iter().all(|count| count.load(Relaxed) == 0));
    }

    #[test]
    fn a_connection_goes_on_at_another_worker_with_all_that_has_begun() {
        let workers = workers(2);
        let (mut quiet, mut talker) = (Client::registered(&workers, 0), Client::registered(&workers, 1));
        talker.begin(1);
        assert_eq!(workers.connections(), [1, 1]);
        let since = Time::now();
        while workers.connections() != [2, 0] {
            assert!(since.elapsed() < PATIENCE, "it stays where it is");
            workers.desks[1].balance.send_all(0);
            talker.call("ping", &[]);
        }
        let (heard, own) = talker.commit();
        assert_eq!((heard, quiet.call("ping", &[]).0), (vec![], vec![own]));
        quiet.begin(2);
        let (_, other) = quiet.commit();
        assert_eq!(talker.call("ping", &[]).0, [other]);
        workers.stop();
    }

    #[test]
    fn a_worker_stays_awake_for_a_client_that_is_alone_and_for_no_other() {
        let settings = || Settings { busy_poll: PATIENCE, ..Settings::default() };
        let lasted =
            |workers: &Workers| workers.desks.iter().map(|desk| desk.vigil.lasted()).sum::<Duration>();
        for count in [1, 2] {
            let workers = workers_with(count, settings());
            let mut clients = [0, 1].map(|number| Client::registered(&workers, number));
            for client in std::iter::repeat_n((), 50).flat_map(|()| [0, 1]) {
                clients[client].call("ping", &[]);
            }
            assert_eq!(lasted(&workers), Duration::ZERO);
            for _ in 0..50 {
                clients[0].call("ping", &[]);
            }
            assert!(lasted(&workers) > Duration::ZERO);
            // It would be awake for a minute now, and hears all that is said to it.
            clients[1].call("ping", &[]);
            workers.stop();
        }
    }

    #[test]
    fn nothing_is_told_twice_or_left_out_while_connections_go_to_and_fro() {
        let workers = workers(2);
        let mut writer = Client::registered(&workers, 0);
        let readers: Vec<_> = (1..4).map(|number| Client::registered(&workers, number)).collect();
        let (is_over, mut counts) = (AtomicBool::new(false), Vec::new());
        thread::scope(|scope| {
            let readers: Vec<_> = readers
                .into_iter()
                .map(|mut reader| {
                    let is_over = &is_over;
                    scope.spawn(move || {
                        let mut heard = Vec::new();
                        while !is_over.load(Relaxed) {
                            heard.extend(reader.call("ping", &[]).0);
                        }
                        heard.extend(reader.call("ping", &[]).0);
                        heard
                    })
                })
                .collect();
            let committed: Vec<_> = (1..=300)
                .map(|oid| {
                    for (from, to) in [(0, 1), (1, 0)] {
                        workers.desks[from].balance.send_all(to);
                    }
                    counts.push(workers.connections());
                    writer.begin(oid);
                    writer.commit().1
                })
                .collect();
            is_over.store(true, Relaxed);
            for reader in readers {
                assert_eq!(reader.join().unwrap(), committed);
            }
        });
        counts.dedup();
        assert!(counts.len() > 3, "they went: {counts:?}");
        workers.stop();
    }
}
