//! Runs the real core, wire and file storage over a simulated clock, network and disk, from one seed.
//!
//! [`run`] is one run: some clients as the reference client is, one server process after the other,
//! everything that can go wrong, and after that a calm in which everything must come right. What is
//! checked all the time has the names of the invariants in ARCHITECTURE.md. The same seed makes the same
//! run, so a failure is a number. `docs/simulation.md` says what is covered and what is not.

mod checks;
mod client;
mod context;
mod disk;
mod history;
mod network;
mod plan;
mod python;
mod random;
mod record;
mod schedule;
mod server;
mod trace;
mod world;

pub use checks::{Invariant, Violation};
pub use context::Counts;
pub use disk::Crash;

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// How a run is run. With another value of any of these a seed makes another run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How many events happen before the calm.
    pub events: u64,
    /// A fault of the server that is put back, to see that it is found.
    pub sabotage: Option<Sabotage>,
}

impl Default for Options {
    fn default() -> Self {
        Self { events: 6_000, sabotage: None }
    }
}

/// A fault that the shell, or the disk, can be told to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Transactions become visible before their notices are in the log.
    RevealBeforeNotice,
    /// Syncs are not waited for before clients are told.
    ReplyBeforeSync,
    /// A load that comes late is answered as it is.
    EndLeftOpen,
    /// A connection that is closed because of its timeout keeps its locks.
    LockKeptAfterTimeout,
    /// The end of the file is taken for what it seems to be, whatever the watermark says.
    TornTailAccepted,
    /// A transaction with blank pieces is acknowledged before the watermark has passed it.
    ReplyBeforeWatermark,
}

impl Sabotage {
    /// All of them, with the names that the command line knows.
    pub const ALL: [(&str, Self); 6] = [
        ("reveal-before-notice", Self::RevealBeforeNotice),
        ("reply-before-sync", Self::ReplyBeforeSync),
        ("end-left-open", Self::EndLeftOpen),
        ("lock-kept-after-timeout", Self::LockKeptAfterTimeout),
        ("torn-tail-accepted", Self::TornTailAccepted),
        ("reply-before-watermark", Self::ReplyBeforeWatermark),
    ];
}

/// A run in which nothing was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Equal for two runs if the same happened in them.
    pub trace_hash: u64,
    /// What it did.
    pub counts: Counts,
}

/// A run in which something was wrong.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Makes the same run again.
    pub seed: u64,
    /// The options that it needs for that, as the command line takes them.
    pub arguments: String,
    /// What was wrong.
    pub violation: Violation,
    /// What happened before.
    pub last_events: Vec<String>,
    /// Equal for two runs if the same happened in them.
    pub trace_hash: u64,
}

/// One run.
///
/// # Errors
/// The first promise that was broken.
pub fn run(seed: u64, options: &Options) -> Result<Summary, Box<Failure>> {
    let mut world = world::World::new(seed, options, LAST_EVENTS);
    let outcome = catch_unwind(AssertUnwindSafe(|| world.run()));
    let violation = match outcome {
        Ok(found) => found,
        Err(panic) => Some(Violation { invariant: Invariant::NoPanic, what: said(&*panic) }),
    };
    let (trace_hash, counts) = (world.context.trace.hash(), world.counts());
    match violation {
        None => Ok(Summary { trace_hash, counts }),
        Some(violation) => Err(Box::new(Failure {
            seed,
            arguments: options.arguments(),
            violation,
            last_events: world.context.trace.last_lines(),
            trace_hash,
        })),
    }
}

impl Options {
    /// As the command line takes them.
    fn arguments(&self) -> String {
        let mut arguments = String::new();
        if self.events != Self::default().events {
            arguments.push_str(&format!(" --events {}", self.events));
        }
        if let Some((name, _)) = Sabotage::ALL.iter().find(|(_, sabotage)| Some(*sabotage) == self.sabotage) {
            arguments.push_str(&format!(" --sabotage {name}"));
        }
        arguments
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.last_events {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "seed {} breaks {}", self.seed, self.violation)?;
        writeln!(f, "again: cargo run -p zeolith-sim -- --seed {}{}", self.seed, self.arguments)
    }
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words").to_owned()
}

/// Lines of the trace that a failure shows.
const LAST_EVENTS: usize = 120;
