//! What all parts of a run share: chance, time, the network, the model, the checks, the trace.

use crate::{
    checks::{Checks, Invariant},
    history::History,
    network::{Network, Toward},
    plan::Plan,
    random::Random,
    schedule::{Event, Micros, Schedule},
    trace::Trace,
};
use std::{collections::BTreeSet, fmt, time::Duration};
use zeolith_core::{Now, SessionId};
use zeolith_types::Timestamp;

/// Shared by server, clients and faults; passed down as `context`.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) plan: Plan,
    pub(crate) random: Random,
    pub(crate) schedule: Schedule,
    pub(crate) network: Network,
    pub(crate) history: History,
    pub(crate) checks: Checks,
    pub(crate) trace: Trace,
    /// The server process that runs, if any runs.
    pub(crate) boot: Option<u64>,
    /// The wall clock is ahead by so much, or behind.
    pub(crate) skew_micros: i64,
    /// Faults are over: everybody comes to an end.
    pub(crate) calm: bool,
    pub(crate) counts: Counts,
    pub(crate) sessions: u64,
    /// Connections on which a client has sent what no client should.
    pub(crate) unruly: BTreeSet<SessionId>,
}

/// How much a run did, to tell whether it did anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events that happened.
    pub events: u64,
    /// Transactions that their client knows to be committed.
    pub commits: u64,
    /// Votes that were refused.
    pub refused: u64,
    /// Loads that clients were answered.
    pub loads: u64,
    /// Loads whose answer came after a newer notice and was corrected.
    pub late_loads: u64,
    /// Invalidations that clients were told.
    pub invalidations: u64,
    /// Connections that ended.
    pub disconnects: u64,
    /// Transactions that held their locks for too long.
    pub timeouts: u64,
    /// Clients that were too far behind to be told what they had missed.
    pub lagged: u64,
    /// Server processes that ended without warning.
    pub crashes: u64,
    /// Those at which the file had room behind its last transaction.
    pub crashes_with_room: u64,
    /// Votes that undo something.
    pub undos: u64,
    /// Packs that have made the file smaller.
    pub packs: u64,
    /// Transactions of which a client lost sight and then heard the end.
    pub outcomes: u64,
    /// Open votes that were given up because their client asked for them.
    pub disowned: u64,
    /// Walks through the transactions that came to the end.
    pub scans: u64,
    /// Questions asked by the checks.
    pub checks: u64,
}

impl Counts {
    /// Those of two runs together.
    #[must_use]
    pub const fn plus(&self, other: &Self) -> Self {
        Self {
            events: self.events + other.events,
            commits: self.commits + other.commits,
            refused: self.refused + other.refused,
            loads: self.loads + other.loads,
            late_loads: self.late_loads + other.late_loads,
            invalidations: self.invalidations + other.invalidations,
            disconnects: self.disconnects + other.disconnects,
            timeouts: self.timeouts + other.timeouts,
            lagged: self.lagged + other.lagged,
            crashes: self.crashes + other.crashes,
            crashes_with_room: self.crashes_with_room + other.crashes_with_room,
            undos: self.undos + other.undos,
            packs: self.packs + other.packs,
            outcomes: self.outcomes + other.outcomes,
            disowned: self.disowned + other.disowned,
            scans: self.scans + other.scans,
            checks: self.checks + other.checks,
        }
    }
}

impl Context {
    pub(crate) const fn now(&self) -> Micros {
        self.schedule.now()
    }

    pub(crate) fn note(&mut self, what: fmt::Arguments<'_>) {
        self.trace.note(self.schedule.now(), what);
    }

    /// `event` happens some time within `most`.
    pub(crate) fn soon(&mut self, most: Micros, event: Event) {
        let delay = self.random.between(1, most.max(1));
        self.schedule.after(delay, event);
    }

    /// What a clock shows to a server that started at `started`.
    pub(crate) fn clock(&self, started: Micros) -> Now {
        let time = (CLOCK_START_MICROS + self.now()).saturating_add_signed(self.skew_micros);
        Now {
            uptime: Duration::from_micros(self.now() - started),
            time: Timestamp::from_epoch(Duration::from_micros(time)),
        }
    }

    pub(crate) fn send(&mut self, id: SessionId, toward: Toward, bytes: &[u8]) {
        self.network.send(id, toward, bytes, &mut self.schedule, &mut self.random);
    }

    pub(crate) fn resume(&mut self, id: SessionId, toward: Toward) {
        self.network.resume(id, toward, &mut self.schedule, &mut self.random);
    }

    /// The server has ended a connection for a reason that must lie with its client.
    pub(crate) fn ended(&mut self, id: SessionId, reason: &str) {
        let is_to_blame = self.unruly.contains(&id);
        self.checks.ensure(is_to_blame, Invariant::NobodyElsesConnectionEnds, || {
            format!("connection {} was ended though its client did nothing wrong: {reason}", id.0)
        });
    }

    /// The server has ended a connection whose client must be somewhere else.
    pub(crate) fn is_left(&mut self, id: SessionId) {
        self.checks.ensure(self.network.is_left(id), Invariant::NobodyElsesConnectionEnds, || {
            format!("the transaction of connection {} was disowned, and its client is still there", id.0)
        });
    }

    /// `by` closes the connection.
    pub(crate) fn close(&mut self, id: SessionId, by: Toward) {
        self.network.close(id, by, &mut self.schedule, &mut self.random);
    }
}

/// Some day in November 2026.
const CLOCK_START_MICROS: u64 = 1_795_000_000_000_000;
