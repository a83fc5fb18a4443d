//! The processes of a server: who asks which, how many there are, and when one is started.

use crate::{
    Failure, Settings,
    backoff::Backoff,
    message::{Answer, Request},
    process::Process,
};
use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Processes that are asked one conflict at a time.
#[derive(Debug)]
pub(crate) struct Pool {
    processes_max: usize,
    state: Mutex<State>,
    /// A process is idle, or there may be another one.
    freed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<Process>,
    /// Processes that are asked or started.
    busy: usize,
    /// One is being started. They are started one after the other, and who waits may find the one before free.
    is_starting: bool,
    /// Conflicts that wait for a process.
    waiting: usize,
    backoff: Backoff,
}

/// The right to ask a process.
#[derive(Debug)]
pub(crate) struct Lease<'a> {
    pool: &'a Pool,
    /// Until it has failed.
    process: Option<Process>,
    /// It is the one that is being started.
    is_starting: bool,
}

impl Pool {
    pub(crate) fn new(processes_max: usize) -> Self {
        Self { processes_max: processes_max.max(1), state: Mutex::default(), freed: Condvar::new() }
    }

    /// Makes sure that there is a process, so that the first conflict finds one or what is wrong with it is known.
    pub(crate) fn warm_up(&self, settings: &Settings) -> Result<(), Failure> {
        self.place(settings, Instant::now() + settings.timeout).map(drop)
    }

    /// A process that nobody else asks: an idle one, else a new one, else the one that is idle first.
    pub(crate) fn lease(&self, settings: &Settings, until: Instant) -> Result<Lease<'_>, Failure> {
        let mut lease = self.place(settings, until)?;
        if lease.is_starting {
            lease.is_starting = false;
            self.state().is_starting = false;
            self.freed.notify_all();
        }
        Ok(lease)
    }

    /// The same, while others who wait for a process still hope for this one if it is new.
    fn place(&self, settings: &Settings, until: Instant) -> Result<Lease<'_>, Failure> {
        let mut process = self.take(until)?;
        if let Some(ended) = process.take_if(|process| !process.is_alive()) {
            tracing::warn!(target: crate::LOGGER, "the resolver process ended while it had nothing to do");
            drop(ended);
            self.state().is_starting = true;
        }
        // From here on the place is given back whatever happens.
        let mut lease = Lease { pool: self, is_starting: process.is_none(), process };
        if lease.is_starting {
            let started = Process::start(settings, until);
            if started.is_err() {
                self.state().backoff.failed(Instant::now());
            }
            lease.process = Some(started?);
        }
        Ok(lease)
    }

    /// Waits for a place; `None` if there is to be a new process on it.
    fn take(&self, until: Instant) -> Result<Option<Process>, Failure> {
        let mut state = self.state();
        loop {
            if let Some(process) = state.idle.pop() {
                state.busy += 1;
                return Ok(Some(process));
            }
            let now = Instant::now();
            if state.busy < self.processes_max && !state.is_starting {
                state.backoff.check(now)?;
                state.busy += 1;
                state.is_starting = true;
                return Ok(None);
            }
            let left = until.saturating_duration_since(now);
            if left == Duration::ZERO || state.waiting >= WAITING_MAX {
                return Err(Failure::Busy);
            }
            state.waiting += 1;
            state = self.freed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            state.waiting -= 1;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease<'_> {
    /// Asks about a conflict. A process that fails is ended.
    pub(crate) fn ask(&mut self, request: &Request, timeout: Duration) -> Result<Answer, Failure> {
        let process = self.process.as_mut().ok_or(Failure::Busy)?;
        let answer = process.ask(request, timeout);
        if answer.is_err() {
            // Ended here, before others are let in: there are never more processes than places.
            self.process = None;
        }
        let mut state = self.pool.state();
        match &answer {
            Ok(_) => state.backoff.worked(),
            Err(_) => state.backoff.failed(Instant::now()),
        }
        answer
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.state();
        state.busy -= 1;
        state.is_starting &= !self.is_starting;
        state.idle.extend(self.process.take());
        drop(state);
        self.pool.freed.notify_all();
    }
}

/// Each waits on a thread that loads need too, with its locks held.
const WAITING_MAX: usize = 64;
