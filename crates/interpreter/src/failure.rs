//! What can go wrong with a resolver process, in words for the operator.

use std::{io, process::ExitStatus, time::Duration};

/// Why there is no answer to a conflict.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The interpreter is missing, or the system has no process or socket left.
    #[error("the resolver process {python} can't be started: {source}")]
    Start {
        /// What was to be run.
        python: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// It runs, and says why it is of no use.
    #[error("the resolver process {python} is of no use: {why}")]
    NotReady {
        /// What was run.
        python: String,
        /// In its own words.
        why: String,
    },
    /// It took too long, and was ended.
    #[error("the resolver process did not answer within {} s and was ended", .0.as_secs_f64())]
    Hung(Duration),
    /// It ended without an answer.
    #[error("the resolver process ended without an answer: {0}")]
    Ended(ExitStatus),
    /// It wanted more memory than it may have, and was ended.
    #[error("the resolver process ran out of memory and was ended: {0}")]
    OutOfMemory(String),
    /// What it sent is no answer. It was ended.
    #[error("the resolver process answered nonsense and was ended: {0}")]
    Nonsense(&'static str),
    /// Talking to it failed otherwise. It was ended.
    #[error("the resolver process can't be talked to and was ended: {0}")]
    Io(io::Error),
    /// All processes are occupied with other conflicts.
    #[error("all resolver processes are busy with other conflicts")]
    Busy,
    /// It has failed so often that nobody tries again at once.
    #[error("the resolver process failed {failures} times in a row, the next attempt is in {} s", wait.as_secs() + 1)]
    Waiting {
        /// How often.
        failures: u32,
        /// How long the next attempt is away.
        wait: Duration,
    },
    /// Larger than anything that is sent to a resolver process.
    #[error("its records have {0} bytes, too many for a resolver process")]
    TooLarge(usize),
}
