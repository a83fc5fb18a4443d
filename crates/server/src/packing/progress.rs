//! How far a pack is, and how long it will still take, as people want to read it.

use std::time::Duration;
use zeolith_storage::{Held, PackPhase, PackProgress};
use zeolith_types::{PackStatus, Timestamp};

/// Follows one pack. Times are those of a clock that never steps back.
pub struct Progress {
    begun: Duration,
    since: f64,
    /// How much of the whole is done; it never goes back.
    fraction: f64,
    /// The phase of the last line, and when that was.
    told: Option<(PackPhase, Duration)>,
}

impl Progress {
    /// A pack begins `now`; `time` is the same for people.
    #[must_use]
    pub fn begin(now: Duration, time: Timestamp) -> Self {
        Self { begun: now, since: time.as_secs_f64(), fraction: 0.0, told: None }
    }

    /// What there is to say.
    pub fn status(&mut self, progress: PackProgress, now: Duration) -> PackStatus {
        let PackProgress { phase, done, total } = progress;
        let of_phase = if total == 0 { 1.0 } else { (done as f64 / total as f64).min(1.0) };
        let Part { name, unit, from, to } = part(phase);
        self.fraction = self.fraction.max(from + (to - from) * of_phase);
        let passed = now.saturating_sub(self.begun);
        let can_tell = passed >= TELLING_AFTER && self.fraction > 0.02 && phase != PackPhase::Blobs;
        let left = passed.as_secs_f64() * (1.0 - self.fraction) / self.fraction;
        PackStatus {
            phase: name.to_owned(),
            done,
            total,
            unit: unit.to_owned(),
            percent: (self.fraction * 100.0) as u64,
            since: self.since,
            seconds_left: can_tell.then_some(left.ceil() as u64),
        }
    }

    /// Whether a log should say it: a phase that begins, and now and then in a long one.
    pub fn is_worth_a_line(&mut self, phase: PackPhase, now: Duration) -> bool {
        let passed = |since: Duration| now.saturating_sub(since);
        let is_worth = self.told.is_none_or(|(told, at)| match told == phase {
            true => passed(at) >= LINES_APART,
            false => passed(at) >= PHASES_APART,
        });
        if is_worth {
            self.told = Some((phase, now));
        }
        is_worth
    }
}

/// `copying what is kept, 40 % of all: 1200 of 2000 MB, about 12 seconds left`
#[must_use]
pub fn line(status: &PackStatus) -> String {
    let PackStatus { phase, done, total, unit, percent, seconds_left, .. } = status;
    let amount = match unit.as_str() {
        "bytes" => format!("{} of {} MB", done / 1_000_000, total / 1_000_000),
        unit => format!("{done} of {total} {unit}"),
    };
    let left = seconds_left.map_or_else(String::new, |seconds| format!(", about {seconds} seconds left"));
    format!("{phase}, {percent} % of all: {amount}{left}")
}

/// `; commits waited 2.4 ms for the last 1234 bytes`, or nothing if there is nothing to tell.
#[must_use]
pub fn held(held: Held) -> String {
    let Some(time) = held.time else { return String::new() };
    format!("; commits waited {:.1} ms for the last {} bytes", time.as_secs_f64() * 1e3, held.bytes)
}

struct Part {
    name: &'static str,
    unit: &'static str,
    from: f64,
    to: f64,
}

/// What a phase is about, and from where to where it is in the whole, as measured on a large database.
const fn part(phase: PackPhase) -> Part {
    match phase {
        PackPhase::Survey => Part { name: "looking for revisions", unit: "bytes", from: 0.0, to: 0.05 },
        PackPhase::Mark => Part { name: "marking what is kept", unit: "objects", from: 0.05, to: 0.35 },
        PackPhase::MarkLater => {
            Part { name: "marking what later transactions need", unit: "bytes", from: 0.35, to: 0.4 }
        }
        PackPhase::Copy => Part { name: "copying what is kept", unit: "bytes", from: 0.4, to: 0.97 },
        PackPhase::CatchUp => Part { name: "copying what came later", unit: "bytes", from: 0.97, to: 0.99 },
        // How many there are shows only at the end.
        PackPhase::Blobs => {
            Part { name: "removing blobs of what is not kept", unit: "objects", from: 0.99, to: 0.99 }
        }
    }
}

/// Before, nobody can tell how long it will take.
const TELLING_AFTER: Duration = Duration::from_secs(1);
/// So long a phase goes on without a line.
const LINES_APART: Duration = Duration::from_secs(5);
/// Phases that follow each other faster are passed over.
const PHASES_APART: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn begun(seconds: u64) -> Progress {
        Progress::begin(at(seconds), Timestamp::from_epoch(Duration::from_secs(1_776_083_675)))
    }

    fn copied(done: u64) -> PackProgress {
        PackProgress { phase: PackPhase::Copy, done, total: 2_000_000_000 }
    }

    #[test]
    fn the_rest_is_guessed_from_what_has_been_done() {
        let mut progress = begun(5);
        let first = progress.status(PackProgress { phase: PackPhase::Survey, done: 1, total: 9 }, at(5));
        assert_eq!((first.percent, first.seconds_left), (0, None));
        let status = progress.status(copied(600_000_000), at(62));
        assert_eq!((status.percent, status.seconds_left, status.since), (57, Some(43), 1_776_083_675.0));
        let said = "copying what is kept, 57 % of all: 600 of 2000 MB, about 43 seconds left";
        assert_eq!(line(&status), said);
    }

    #[test]
    fn it_never_goes_back() {
        let mut progress = begun(0);
        let mark = |done| PackProgress { phase: PackPhase::Mark, done, total: 10 };
        assert_eq!(progress.status(mark(10), at(1)).percent, 35);
        assert_eq!(progress.status(mark(1), at(2)).percent, 35);
    }

    #[test]
    fn nobody_can_tell_how_long_the_blobs_take() {
        let mut progress = begun(0);
        progress.status(copied(2_000_000_000), at(9));
        let status = progress.status(PackProgress { phase: PackPhase::Blobs, done: 100, total: 100 }, at(10));
        assert_eq!((status.percent, status.seconds_left), (99, None));
    }

    #[test]
    fn for_what_commits_waited_is_told_if_it_is_known() {
        let time = Some(Duration::from_micros(2_345));
        assert_eq!(held(Held { bytes: 1234, time }), "; commits waited 2.3 ms for the last 1234 bytes");
        assert_eq!(held(Held::default()), "");
    }

    #[test]
    fn a_line_comes_with_a_phase_and_now_and_then() {
        let mut progress = begun(0);
        let mut lines = |phase, seconds| progress.is_worth_a_line(phase, at(seconds));
        assert!(lines(PackPhase::Copy, 0));
        assert!(!lines(PackPhase::Copy, 4));
        assert!(lines(PackPhase::Copy, 5));
        assert!(!lines(PackPhase::CatchUp, 5));
        assert!(lines(PackPhase::CatchUp, 6));
    }
}
