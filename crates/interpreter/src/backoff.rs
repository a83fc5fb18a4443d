//! When a process may be started again after others have failed.

use crate::Failure;
use std::time::{Duration, Instant};

/// Counts failures in a row.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
    not_before: Option<Instant>,
}

impl Backoff {
    /// Whether a process may be started now.
    pub(crate) fn check(&self, now: Instant) -> Result<(), Failure> {
        match self.not_before.map(|then| then.saturating_duration_since(now)) {
            None | Some(Duration::ZERO) => Ok(()),
            Some(wait) => Err(Failure::Waiting { failures: self.failures, wait }),
        }
    }

    /// A process could not be started, or had to be ended.
    pub(crate) fn failed(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        let Some(doublings) = self.failures.checked_sub(FAILURES_FORGIVEN + 1) else { return };
        let wait = WAIT_MIN.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX));
        self.not_before = now.checked_add(wait.min(WAIT_MAX));
    }

    /// A process has done what it is for.
    pub(crate) fn worked(&mut self) {
        *self = Self::default();
    }
}

/// So many failures in a row may be those of one conflict, which a client tries again and again.
const FAILURES_FORGIVEN: u32 = 3;
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_fails_now_and_then_is_started_again_at_once() {
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        for _ in 0..10 {
            for _ in 0..FAILURES_FORGIVEN {
                backoff.failed(now);
                assert!(backoff.check(now).is_ok());
            }
            backoff.worked();
        }
    }

    #[test]
    fn one_that_always_fails_is_started_less_and_less_often_but_always_again() {
        let (mut backoff, mut now) = (Backoff::default(), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..50 {
            backoff.failed(now);
            if let Err(Failure::Waiting { wait, .. }) = backoff.check(now) {
                waits.push(wait.as_secs());
                now += wait;
            }
            assert!(backoff.check(now).is_ok());
        }
        assert_eq!(waits[..8], [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(waits.len(), 47);
    }
}
