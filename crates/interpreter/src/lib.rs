//! Resolves conflicts of an application's own classes, in Python processes beside the server.
//!
//! The classes of a site are foreign code: it may hang, crash, eat memory and print. So it runs in children
//! that are asked over a socket, one conflict at a time, with a deadline; one that misbehaves is ended, the conflict
//! stands, and the next one gets a fresh child. `resolver.py` is what a child runs: ZODB's own conflict
//! resolution, of the version that the site has installed.

mod backoff;
mod channel;
mod failure;
mod message;
mod output;
mod pool;
mod process;

pub use failure::Failure;

use message::Answer;
use pool::Pool;
use std::{
    ffi::OsString,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use zeolith_pickle::class_name;
use zeolith_storage::{Disagreement, Resolution, ResolveRequest, Resolver};

/// How the resolver processes are run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The Python to run: a path, or a name that is looked up in `PATH`. The site's classes are what it can import.
    pub python: OsString,
    /// How long an answer may take, and before it the wait for a process that can be asked.
    pub timeout: Duration,
    /// How much address space a process may have, in bytes.
    pub memory_max: u64,
    /// How many conflicts can be looked at at the same time. Processes are started when they are needed.
    pub processes_max: usize,
}

impl Settings {
    /// The defaults for this Python.
    pub fn new(python: impl Into<OsString>) -> Self {
        let timeout = Duration::from_secs(30);
        Self { python: python.into(), timeout, memory_max: 1 << 30, processes_max: 2 }
    }
}

/// Asks Python processes about conflicts.
#[derive(Debug)]
pub struct ProcessResolver {
    pool: Arc<Pool>,
    settings: Arc<Settings>,
    /// Bounds what a class that always raises can log.
    complaints: Mutex<output::Allowance>,
}

impl ProcessResolver {
    /// Starts a process in the background, so that what is wrong with it is in the log before the first
    /// conflict. Never fails: without a process that works conflicts stand.
    #[must_use]
    pub fn start(settings: Settings) -> Self {
        let resolver = Self::new(settings);
        let (pool, settings) = (Arc::clone(&resolver.pool), Arc::clone(&resolver.settings));
        let warm_up = move || {
            if let Err(failure) = pool.warm_up(&settings) {
                tracing::error!(target: LOGGER, "{failure}");
            }
        };
        if let Err(error) = std::thread::Builder::new().name("resolver-start".to_owned()).spawn(warm_up) {
            tracing::error!(target: LOGGER, "can't start a thread for the resolver process: {error}");
        }
        resolver
    }

    /// The first conflict starts the first process.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let pool = Arc::new(Pool::new(settings.processes_max));
        Self { pool, settings: Arc::new(settings), complaints: Mutex::new(output::Allowance::new(10, 1)) }
    }

    /// What a process says to this conflict, of an object of this class.
    fn ask(&self, class: &str, conflict: &ResolveRequest<'_>) -> Result<Answer, Failure> {
        let request = message::conflict(class, conflict)?;
        let mut lease = self.pool.lease(&self.settings, Instant::now() + self.settings.timeout)?;
        lease.ask(&request, self.settings.timeout)
    }

    fn complain(&self, text: std::fmt::Arguments<'_>) {
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        if complaints.take(Instant::now()) {
            tracing::error!(target: LOGGER, "{text}");
        }
    }
}

impl Resolver for ProcessResolver {
    fn resolve(&self, conflict: &ResolveRequest<'_>) -> Resolution {
        let Some((module, name)) = class_name(conflict.new) else { return Resolution::NotMine };
        let (class, oid) = (format!("{module}.{name}"), conflict.oid);
        let refused = |text: String| Resolution::Refused(Disagreement::Other(text));
        match self.ask(&class, conflict) {
            Ok(Answer::Resolved(record)) => Resolution::Resolved(record),
            Ok(Answer::Refused(why)) => Resolution::Refused(why),
            Ok(Answer::Raised(text)) => {
                let message = "Unexpected error while trying to resolve conflict on";
                self.complain(format_args!("{message} {class} {oid}: {text}"));
                refused(text)
            }
            Err(failure) => {
                self.complain(format_args!("conflict on {class} {oid} is not resolved: {failure}"));
                refused(failure.to_string())
            }
        }
    }
}

/// As in ZODB.
const LOGGER: &str = "ZODB.ConflictResolution";
