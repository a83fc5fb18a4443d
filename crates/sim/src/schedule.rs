//! The simulated clock: what is to happen, in the order of its time.

use std::collections::BTreeMap;
use zeolith_core::SessionId;

/// Time since the simulation began.
pub(crate) type Micros = u64;

/// Something that happens at a moment. Events of a server process that has ended find nobody and do nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// Bytes of the client, or the end of them, reach the server.
    ToServer(SessionId),
    /// Bytes of the server, or the end of them, reach the client.
    ToClient(SessionId),
    /// The task of a connection runs.
    Wake(SessionId),
    /// The pool does what a connection asked of it: the question with this number.
    PoolRuns(u64),
    /// The answer to that question reaches its connection.
    PoolAnswers(u64),
    /// The log writer of this server process takes its next step.
    LogWriter(u64),
    /// A vote may have held its locks for too long.
    Deadline(u64),
    /// The storage is asked to save what makes its next start quick.
    Checkpoint(u64),
    /// Commits are taken to pause, whether they do or not.
    Rest(u64),
    /// A pack that somebody wants begins.
    Pack(u64),
    /// A client decides what to do next.
    Client(usize),
    /// Something goes wrong.
    Fault,
    /// The server process is started again.
    Start,
}

/// All events to come.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    now: Micros,
    events: BTreeMap<(Micros, u64), Event>,
    count: u64,
}

impl Schedule {
    pub(crate) const fn now(&self) -> Micros {
        self.now
    }

    /// `event` happens after `delay`, and after everything that has been put on the same moment.
    pub(crate) fn after(&mut self, delay: Micros, event: Event) {
        self.count += 1;
        self.events.insert((self.now + delay, self.count), event);
    }

    /// The next event; its time is now.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let ((time, _), event) = self.events.pop_first()?;
        self.now = time;
        Some(event)
    }
}
