//! Shows how far a pack is: on a terminal in one line that changes, else in a line now and then. A pack that is
//! over at once shows nothing but its result.

use crate::output::say;
use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};
use zeolith_server::pack_progress;
use zeolith_types::PackStatus;

/// What is shown on the standard error stream, so that the result stands alone on the standard output.
pub(super) struct Show {
    is_quiet: bool,
    is_terminal: bool,
    begun: Instant,
    /// When the last line was written, and of which phase.
    last: Option<(Instant, String)>,
}

impl Show {
    pub(super) fn new(is_quiet: bool) -> Self {
        Self { is_quiet, is_terminal: io::stderr().is_terminal(), begun: Instant::now(), last: None }
    }

    pub(super) fn progress(&mut self, status: &PackStatus) {
        let pause = if self.is_terminal { REDRAW } else { LINES_APART };
        let is_due = self.last.as_ref().is_none_or(|(at, phase)| {
            at.elapsed() >= pause
                || (!self.is_terminal && *phase != status.phase && at.elapsed() >= PHASES_APART)
        });
        if self.is_quiet || !is_due || self.begun.elapsed() < SILENT_FOR {
            return;
        }
        let (before, after) = if self.is_terminal { ("\r\x1b[K", "") } else { ("", "\n") };
        let line = pack_progress::line(status);
        // A stream that nobody reads is no reason to fail.
        let _ = write!(io::stderr(), "{before}{line}{after}");
        self.last = Some((Instant::now(), status.phase.clone()));
    }

    /// The result, in place of the progress.
    pub(super) fn end(&mut self, result: &str) {
        if self.is_terminal && self.last.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
        if !self.is_quiet {
            say(result);
        }
    }
}

/// `2029.1 MB, and 1075.3 MB after a pack: 953.8 MB would go`
pub(super) fn estimate(before: u64, after: u64) -> String {
    let megabytes = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
    let gone = megabytes(before.saturating_sub(after));
    format!("{} now, {} after a pack: {gone} would go", megabytes(before), megabytes(after))
}

/// What has become of the sizes.
pub(super) fn packed(before: u64, after: u64) -> String {
    let megabytes = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
    format!("packed: {} before, {} after", megabytes(before), megabytes(after))
}

const SILENT_FOR: Duration = Duration::from_secs(1);
const REDRAW: Duration = Duration::from_millis(200);
const LINES_APART: Duration = Duration::from_secs(5);
const PHASES_APART: Duration = Duration::from_secs(1);
