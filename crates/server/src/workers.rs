//! The threads that serve connections.
//!
//! Each worker has an event loop of its own, and a connection stays with its worker from the hello to the end:
//! what a client says is read, answered and written by one thread, and nobody is woken to take work from
//! somebody else. A new connection goes to the worker that has the fewest. Whatever may wait or is long goes
//! from there to the blocking pool (`jobs.rs`), for all that a worker does keeps its other clients waiting.

use crate::{
    bell::Bells,
    connection::{Shared, serve},
    limits::Limit,
    log,
    socket::{Divided, TryWrite},
};
use std::{
    io,
    os::unix::net::UnixStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc,
    task::JoinSet,
};
use zeolith_core::SessionId;

/// A connection that has just been accepted.
pub(crate) struct Arrival {
    pub(crate) socket: Socket,
    /// How log lines name the peer.
    pub(crate) peer: String,
    pub(crate) id: SessionId,
}

/// The socket of a connection, not yet known to any event loop.
pub(crate) enum Socket {
    Tcp(std::net::TcpStream),
    Unix(UnixStream),
}

/// All workers of a server.
pub(crate) struct Workers {
    workers: Vec<Worker>,
    shared: Arc<Shared>,
}

struct Worker {
    arrivals: mpsc::UnboundedSender<(Arrival, Counted)>,
    /// How many connections it serves or has been given.
    connections: Arc<AtomicUsize>,
    thread: thread::JoinHandle<()>,
}

impl Workers {
    /// Starts `count` workers.
    pub(crate) fn start(count: usize, shared: &Arc<Shared>) -> io::Result<Self> {
        let workers = (0..count).map(|number| Worker::start(number, Arc::clone(shared)));
        Ok(Self { workers: workers.collect::<io::Result<_>>()?, shared: Arc::clone(shared) })
    }

    /// Gives a connection to the worker that has the fewest, or closes it if there are too many.
    pub(crate) fn serve(&self, arrival: Arrival) {
        let max = self.shared.settings.connections_max;
        let connections: usize = self.workers.iter().map(|worker| worker.connections.load(Relaxed)).sum();
        if connections >= max {
            self.shared.limits.count(Limit::Connections);
            let (peer, key) = (arrival.peer, Limit::Connections.key());
            tracing::warn!(target: log::PROTOCOL, "{peer} refused: there are {max} connections already ({key})");
            return;
        }
        let Some(worker) = self.workers.iter().min_by_key(|worker| worker.connections.load(Relaxed)) else {
            return;
        };
        if let Err(unserved) = worker.arrivals.send((arrival, Counted::in_(&worker.connections))) {
            let peer = unserved.0.0.peer;
            tracing::error!(target: log::PROTOCOL, "{peer}: closed, for the thread that should serve it has ended");
        }
    }

    /// Ends all connections and waits until they have given up what they held.
    pub(crate) fn stop(self) {
        let threads: Vec<_> = self.workers.into_iter().map(|worker| worker.thread).collect();
        for thread in threads {
            // A worker that panicked has nothing left to stop.
            let _ = thread.join();
        }
    }
}

impl Worker {
    fn start(number: usize, shared: Arc<Shared>) -> io::Result<Self> {
        let (arrivals, arriving) = mpsc::unbounded_channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let runtime = Builder::new_current_thread().enable_all().thread_name("zeo-blocking").build()?;
        let thread = thread::Builder::new()
            .name(format!("zeo-worker {number}"))
            .spawn(move || run(runtime, arriving, &shared))?;
        Ok(Self { arrivals, connections, thread })
    }
}

fn run(runtime: Runtime, mut arriving: mpsc::UnboundedReceiver<(Arrival, Counted)>, shared: &Arc<Shared>) {
    runtime.block_on(async {
        let mut connections = JoinSet::new();
        let bells = Arc::new(Bells::hang(&shared.hosts));
        loop {
            tokio::select! {
                arrival = arriving.recv() => match arrival {
                    Some((arrival, counted)) => {
                        let seat = Seat { counted, bells: Arc::clone(&bells), socket: None };
                        connections.spawn(welcome(arrival, Arc::clone(shared), seat));
                    }
                    None => break,
                },
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
            }
        }
        connections.shutdown().await;
    });
    // What still waits for a disk has nobody to answer any more.
    runtime.shutdown_timeout(LAST_JOBS_PATIENCE);
}

/// Serves a connection that another thread has accepted.
async fn welcome(arrival: Arrival, shared: Arc<Shared>, mut seat: Seat) {
    let Arrival { socket, peer, id } = arrival;
    match socket {
        Socket::Tcp(stream) => match tokio::net::TcpStream::from_std(stream) {
            Ok(stream) => {
                let stream = Divided::from(stream);
                seat.socket = Some(stream.shared());
                serve(stream, peer, id, shared, seat).await;
            }
            Err(error) => tracing::error!(target: log::PROTOCOL, "{peer}: can't be served: {error}"),
        },
        Socket::Unix(stream) => match tokio::net::UnixStream::from_std(stream) {
            Ok(stream) => {
                let stream = Divided::from(stream);
                seat.socket = Some(stream.shared());
                serve(stream, peer, id, shared, seat).await;
            }
            Err(error) => tracing::error!(target: log::PROTOCOL, "{peer}: can't be served: {error}"),
        },
    }
}

/// A connection's place at its worker, until it ends.
pub(crate) struct Seat {
    counted: Counted,
    pub(crate) bells: Arc<Bells>,
    /// By which the worker may tell the client of publications.
    pub(crate) socket: Option<Arc<dyn TryWrite>>,
}

impl Seat {
    /// Whether the worker serves nobody else.
    pub(crate) fn is_alone(&self) -> bool {
        self.counted.0.load(Relaxed) == 1
    }

    /// The only one of a worker that has these bells.
    #[cfg(test)]
    pub(crate) fn only(bells: Bells) -> Self {
        Self { counted: Counted::in_(&Arc::default()), bells: Arc::new(bells), socket: None }
    }

    /// Another one at the same worker.
    #[cfg(test)]
    pub(crate) fn next_to(&self) -> Self {
        Self { counted: Counted::in_(&self.counted.0), bells: Arc::clone(&self.bells), socket: None }
    }
}

/// Counts a connection among those of its worker, until it ends in whatever way.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn in_(connections: &Arc<AtomicUsize>) -> Self {
        connections.fetch_add(1, Relaxed);
        Self(Arc::clone(connections))
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
    use crate::settings::Settings;
    use std::{collections::BTreeMap, io::Read};

    #[test]
    fn connections_are_spread_over_the_workers_and_ended_with_them() {
        let shared = Arc::new(Shared {
            settings: Settings::default(),
            hosts: BTreeMap::new(),
            limits: Arc::default(),
        });
        let workers = Workers::start(3, &shared).unwrap();
        let clients: Vec<_> = (0..6)
            .map(|number| {
                let (ours, theirs) = UnixStream::pair().unwrap();
                ours.set_nonblocking(true).unwrap();
                workers.serve(Arrival {
                    socket: Socket::Unix(ours),
                    peer: number.to_string(),
                    id: SessionId(number),
                });
                theirs
            })
            .collect();
        let counts: Vec<_> = workers.workers.iter().map(|worker| worker.connections.load(Relaxed)).collect();
        assert_eq!(counts, [2, 2, 2]);
        let counters: Vec<_> = workers.workers.iter().map(|worker| Arc::clone(&worker.connections)).collect();
        workers.stop();
        for mut client in clients {
            let mut said = Vec::new();
            client.read_to_end(&mut said).unwrap();
            // Who was served has been greeted; who came too late was closed without a word.
            assert!(said.is_empty() || said == b"\0\0\0\x02Z5", "{said:?}");
        }
        assert!(counters.iter().all(|count| count.load(Relaxed) == 0));
    }
}
