//! Letting others have the processor, and not where they keep it for long.
//!
//! Who could sleep but does something better meanwhile gives the processor to whoever waits for it (`sched_yield`). Where
//! nobody waits that takes no time. A program that computes keeps it for milliseconds, though, and the next client would wait
//! for that each time: then nobody is let in for a while.

use std::time::{Duration, Instant};

/// Whether others are to be let in.
#[derive(Debug, Default)]
pub(crate) struct Courtesy {
    /// Nobody is let in until then.
    resumes: Option<Instant>,
    /// How long the last pause was.
    pause: Duration,
}

impl Courtesy {
    /// Whether nobody should be let in now.
    pub(crate) fn is_paused(&self, now: Instant) -> bool {
        self.resumes.is_some_and(|resumes| now < resumes)
    }

    /// Others had the processor from `begun` until `now`. Whether they gave it back soon.
    pub(crate) fn was_let_in(&mut self, begun: Instant, now: Instant) -> bool {
        if now - begun <= KEPT_MAX {
            return true;
        }
        // If all was well for as long as the last pause was, this is a new case.
        let is_again = self.resumes.is_some_and(|resumes| now < resumes + self.pause);
        self.pause = if is_again { (self.pause * 2).min(PAUSE_MAX) } else { PAUSE_MIN };
        self.resumes = Some(now + self.pause);
        false
    }
}

/// Who only does what there is to do gives the processor back sooner, as a rule.
const KEPT_MAX: Duration = Duration::from_micros(500);
/// For so long nobody is let in when it was kept for longer, for twice as long when that happens again soon, and so on.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Never for longer than this: who computes all the time costs a thousandth, if he keeps it for 6 ms.
const PAUSE_MAX: Duration = Duration::from_secs(6);

#[cfg(test)]
mod tests {
    use super::*;

    const INSTANT: Duration = Duration::from_nanos(1);

    /// Somebody who could let others in, and the time.
    struct Host {
        courtesy: Courtesy,
        now: Instant,
    }

    impl Host {
        /// Others are let in so long after the last time, and keep the processor for so long; whether they gave it back
        /// soon. `None` if they were not let in.
        fn lets_in(&mut self, after: Duration, took: Duration) -> Option<bool> {
            self.now += after;
            let begun = self.now;
            if self.courtesy.is_paused(begun) {
                return None;
            }
            self.now += took;
            Some(self.courtesy.was_let_in(begun, self.now))
        }
    }

    #[test]
    fn who_keeps_the_processor_for_long_is_not_let_in_for_a_while_and_for_longer_each_time() {
        let mut host = Host { courtesy: Courtesy::default(), now: Instant::now() };
        let (short, long) = (KEPT_MAX, KEPT_MAX + INSTANT);
        assert_eq!(host.lets_in(Duration::ZERO, short), Some(true));
        assert_eq!(host.lets_in(Duration::ZERO, short), Some(true));
        assert_eq!(host.lets_in(Duration::ZERO, long), Some(false));
        for pause in [PAUSE_MIN, 2 * PAUSE_MIN, 4 * PAUSE_MIN] {
            assert_eq!(host.lets_in(pause - INSTANT, short), None);
            assert_eq!(host.lets_in(INSTANT, short), Some(true), "who behaves well now");
            assert_eq!(host.lets_in(pause - short - long - INSTANT, long), Some(false), "and not for long");
        }
        assert_eq!(host.lets_in(8 * PAUSE_MIN - INSTANT, short), None);
        assert_eq!(host.lets_in(INSTANT, short), Some(true));
        assert_eq!(host.lets_in(8 * PAUSE_MIN, long), Some(false), "after long enough it is forgotten");
        assert_eq!(host.lets_in(PAUSE_MIN - INSTANT, long), None);
        assert_eq!(host.lets_in(INSTANT, long), Some(false));
        for _ in 0..20 {
            host.now = host.courtesy.resumes.unwrap();
            assert_eq!(host.lets_in(Duration::ZERO, long), Some(false));
        }
        assert_eq!(host.lets_in(PAUSE_MAX - INSTANT, long), None);
        assert_eq!(host.lets_in(INSTANT, long), Some(false));
    }
}
