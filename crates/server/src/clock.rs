//! The only place of the server that reads a clock.

use std::time::{Instant, SystemTime};
use zeolith_core::Now;

/// Counts from the start of the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { started: Instant::now() }
    }

    pub(crate) fn now(self) -> Now {
        Now { uptime: self.started.elapsed(), time: SystemTime::now().into() }
    }

    /// The moment `uptime` after the start.
    pub(crate) fn instant(self, uptime: std::time::Duration) -> Instant {
        self.started + uptime
    }
}
