//! Tells how far a pack is, hears whether it is to go on, and keeps it from using the disk too much.

use std::{ops::ControlFlow, thread, time::Duration};
use zeolith_storage::{PackPhase, PackProgress, Result, StorageError};
use zeolith_types::Timestamp;

/// Watches a pack.
pub(crate) struct Watch<'a> {
    report: &'a mut dyn FnMut(PackProgress) -> ControlFlow<()>,
    /// From where on the next report is due, and of which phase.
    next: (Option<PackPhase>, u64),
    pace: Option<Pace>,
}

/// Holds a pack to so many bytes a second.
struct Pace {
    rate_max: u64,
    clock: fn() -> Timestamp,
    since: Timestamp,
    /// Bytes read and written since then.
    bytes: u64,
}

impl<'a> Watch<'a> {
    /// `rate` is how many bytes may be read and written in a second, and a clock.
    pub(super) fn new(
        report: &'a mut dyn FnMut(PackProgress) -> ControlFlow<()>,
        rate: Option<(u64, fn() -> Timestamp)>,
    ) -> Self {
        let pace = rate.map(|(rate_max, clock)| Pace { rate_max, clock, since: clock(), bytes: 0 });
        Self { report, next: (None, 0), pace }
    }

    /// So much of a phase is done, with `bytes` read and written since the last time.
    pub(super) fn at(&mut self, phase: PackPhase, done: u64, total: u64, bytes: u64) -> Result<()> {
        if let Some(pace) = &mut self.pace {
            pace.bytes += bytes;
            let mut rest = pace.ahead();
            while !rest.is_zero() {
                let now = rest.min(PATIENCE);
                thread::sleep(now);
                rest -= now;
                self.now(phase, done, total)?;
            }
        }
        if self.next.0 == Some(phase) && done < self.next.1 {
            return Ok(());
        }
        self.next = (Some(phase), done + total / REPORTS);
        self.now(phase, done, total)
    }

    /// Reports, however short ago the last time was.
    pub(super) fn now(&mut self, phase: PackPhase, done: u64, total: u64) -> Result<()> {
        match (self.report)(PackProgress { phase, done, total }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(StorageError::Cancelled),
        }
    }

    /// From now on the pack goes as fast as it can.
    pub(super) const fn hurry(&mut self) {
        self.pace = None;
    }
}

impl Pace {
    /// How long to wait before going on; whoever asks waits that long.
    fn ahead(&mut self) -> Duration {
        let due = Duration::from_secs_f64(self.bytes as f64 / self.rate_max.max(1) as f64);
        let now = (self.clock)();
        let passed = now.since_epoch().checked_sub(self.since.since_epoch());
        let rest = passed.map_or(Duration::ZERO, |passed| due.saturating_sub(passed));
        // A clock that was set counts from anew, and what was not used is not saved up.
        let is_behind = passed.is_none_or(|passed| passed > due + SLACK);
        if rest >= WAIT_MIN || is_behind {
            (self.since, self.bytes) = (Timestamp::from_epoch(now.since_epoch() + rest), 0);
        }
        if rest >= WAIT_MIN { rest } else { Duration::ZERO }
    }
}

/// About so often a phase is reported.
const REPORTS: u64 = 200;
/// How often a pack that waits looks whether it is to go on.
pub(super) const PATIENCE: Duration = Duration::from_millis(100);
/// Shorter waits are put off.
const WAIT_MIN: Duration = Duration::from_millis(10);
/// So far a pack may be behind its rate and still make up for it.
const SLACK: Duration = Duration::from_secs(1);
