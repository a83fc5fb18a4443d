//! Which worker goes on with a connection, once it shows who has much to say.
//!
//! Each worker looks at its load now and then while it serves ([`PERIOD`]); where nobody says anything, nobody looks.
//!
//! - Whoever begins to say much goes to the first worker, if its own has little to do; and so do all that say much, if
//!   their worker and the first one together have little to do. One thread that finds the next call waiting answers
//!   for less than two that fall asleep in turn.
//! - A worker with much to do sends a part of those that say much to the one that has the least, if there are
//!   processors with nothing to do. Where there are none, another thread could only take turns with this one.
//!
//! Whoever says little stays where it is.

use std::{
    fs,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{runtime::Handle, time::Instant};

/// The loads of all workers of a server, each as its worker saw it last.
pub(crate) struct Loads {
    begun: Instant,
    /// Milliseconds since then, and thousandths of that worker's time, in the lowest bits.
    seen: Vec<AtomicU64>,
}

/// What a worker knows of its own load, and what it makes of that.
pub(crate) struct Balance {
    worker: usize,
    loads: Arc<Loads>,
    state: Mutex<State>,
}

struct State {
    period: u64,
    began: Instant,
    /// How long the worker had been at work when the period began.
    worked: Duration,
    /// Connections that have said much in this period.
    talkers: usize,
    leave: Option<Leave>,
    /// Since when there is much to do, and how long processors had had nothing to do by then.
    crowded: Option<(Instant, Option<Duration>)>,
}

/// Some should go on at another worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Leave {
    to: usize,
    /// How many of those that say much.
    count: usize,
}

/// How much one connection has said in the current period of its worker.
#[derive(Default)]
pub(crate) struct Talk {
    period: u64,
    times: u32,
    /// It has said much before.
    is_known: bool,
}

impl Loads {
    /// Of so many workers, which have done nothing yet.
    pub(crate) fn of(workers: usize) -> Arc<Self> {
        Arc::new(Self { begun: Instant::now(), seen: (0..workers).map(|_| AtomicU64::new(0)).collect() })
    }

    fn note(&self, worker: usize, load: f64, now: Instant) {
        if let Some(seen) = self.seen.get(worker) {
            let thousandths = (load.clamp(0.0, 1.0) * 1000.0) as u64;
            seen.store((self.millis(now) << LOAD_BITS) | thousandths, Relaxed);
        }
    }

    /// The part of its time that a worker has been at work lately.
    fn load(&self, worker: usize, now: Instant) -> f64 {
        let seen = self.seen.get(worker).map_or(0, |seen| seen.load(Relaxed));
        let (at, thousandths) = (seen >> LOAD_BITS, seen & ((1 << LOAD_BITS) - 1));
        // Whoever has nothing to do does not look either.
        let is_old = self.millis(now).saturating_sub(at) > OLD.as_millis() as u64;
        if is_old { 0.0 } else { thousandths as f64 / 1000.0 }
    }

    fn millis(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.begun).as_millis() as u64
    }

    /// Who has the least to do besides this one.
    fn least(&self, worker: usize, now: Instant) -> Option<(usize, f64)> {
        let others = (0..self.seen.len()).filter(|other| *other != worker);
        others.map(|other| (other, self.load(other, now))).min_by(|(_, one), (_, other)| one.total_cmp(other))
    }
}

impl Balance {
    /// Of a worker that has done nothing yet.
    pub(crate) fn new(worker: usize, loads: Arc<Loads>) -> Self {
        let state = State {
            period: 1,
            began: Instant::now(),
            worked: Duration::ZERO,
            talkers: 0,
            leave: None,
            crowded: None,
        };
        Self { worker, loads, state: Mutex::new(state) }
    }

    /// A client has said something. Whether its connection should go on elsewhere, perhaps: [`Self::leave`] says where.
    pub(crate) fn heard(&self, talk: &mut Talk, now: Instant) -> bool {
        if self.loads.seen.len() < 2 {
            return false;
        }
        let mut state = self.state();
        if now.saturating_duration_since(state.began) >= PERIOD {
            let worked = Handle::try_current()
                .map_or(Duration::ZERO, |handle| handle.metrics().worker_total_busy_duration(0));
            state.look(self.worker, &self.loads, now, worked, idle);
        }
        state.heard(talk);
        talk.is_much() && (state.leave.is_some() || !talk.is_known)
    }

    /// Where the connection should go on, if it should.
    pub(crate) fn leave(&self, talk: &mut Talk) -> Option<usize> {
        let was_known = std::mem::replace(&mut talk.is_known, true);
        if !was_known && self.worker != FIRST && self.loads.load(self.worker, Instant::now()) < LITTLE {
            return Some(FIRST);
        }
        self.state().take_leave()
    }

    /// All that say much should go there.
    #[cfg(test)]
    pub(crate) fn send_all(&self, to: usize) {
        self.state().leave = Some(Leave { to, count: usize::MAX });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Ends a period.
    fn look(
        &mut self,
        worker: usize,
        loads: &Loads,
        now: Instant,
        worked: Duration,
        idle: impl FnOnce() -> Option<Duration>,
    ) {
        let elapsed = now.saturating_duration_since(self.began);
        let load = share(worked.saturating_sub(self.worked), elapsed);
        loads.note(worker, load, now);
        self.leave = None;
        if elapsed > PAUSE {
            // Nobody said anything for a while, and the processors' rest then does not count.
            self.crowded = None;
        }
        if load <= MUCH || self.talkers < 2 {
            self.crowded = None;
            if worker != FIRST && load + loads.load(FIRST, now) < LITTLE {
                self.leave = Some(Leave { to: FIRST, count: usize::MAX });
            }
        } else {
            match self.crowded {
                None => self.crowded = Some((now, idle())),
                Some((since, idle_then)) if now - since >= CERTAIN => {
                    let spare = idle_then.zip(idle()).map(|(then, now)| now.saturating_sub(then));
                    self.crowded = None;
                    // Who can't tell spreads them: that is the better half of the cases.
                    if spare.is_none_or(|spare| share(spare, now - since) >= SPARE) {
                        self.leave = loads
                            .least(worker, now)
                            .and_then(|(to, other)| Leave::spread(self.talkers, load, to, other));
                    }
                }
                Some(_) => {}
            }
        }
        self.period += 1;
        self.began = now;
        self.worked = worked;
        self.talkers = 0;
    }

    fn heard(&mut self, talk: &mut Talk) {
        if talk.period != self.period {
            *talk = Talk { period: self.period, times: 0, is_known: talk.is_known };
        }
        talk.times = talk.times.saturating_add(1);
        if talk.times == MUCH_TALK {
            self.talkers += 1;
        }
    }

    fn take_leave(&mut self) -> Option<usize> {
        let leave = self.leave.take_if(|leave| leave.count == 1).or_else(|| {
            let leave = self.leave.as_mut()?;
            leave.count -= 1;
            Some(*leave)
        });
        leave.map(|leave| leave.to)
    }
}

impl Leave {
    /// As many of the talkers as make the loads even, if that is one at least: a lone talker only changes places.
    fn spread(talkers: usize, load: f64, to: usize, other: f64) -> Option<Self> {
        let surplus = (load - other) / 2.0 / load;
        let count = (talkers as f64 * surplus + ROUNDED_UP) as usize;
        (count > 0).then_some(Self { to, count })
    }
}

impl Talk {
    /// The same at another worker.
    pub(crate) fn elsewhere(&self) -> Self {
        Self { is_known: self.is_known, ..Self::default() }
    }

    const fn is_much(&self) -> bool {
        self.times >= MUCH_TALK
    }
}

fn share(part: Duration, whole: Duration) -> f64 {
    if whole.is_zero() { 0.0 } else { part.as_secs_f64() / whole.as_secs_f64() }
}

/// How long all processors together have had nothing to do since the machine was started, if that can be known.
fn idle() -> Option<Duration> {
    // proc(5): seconds since the start, and of all processors in the idle task, with two digits.
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let seconds = uptime.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// Who takes over from those with little to do.
const FIRST: usize = 0;
/// How often a worker looks, at most.
const PERIOD: Duration = Duration::from_millis(50);
/// Between two looks so much time passes only where there is little to do.
const PAUSE: Duration = Duration::from_millis(75);
/// What is older is not the load of a worker any more.
const OLD: Duration = Duration::from_millis(200);
/// For so long there must be much to do, and processors with nothing to do, for these are counted in hundredths of
/// seconds.
const CERTAIN: Duration = Duration::from_millis(400);
/// A connection that has said something so often in one period says much.
const MUCH_TALK: u32 = 8;
/// Two workers that are together at work for less of their time than this could be one.
const LITTLE: f64 = 0.2;
/// A worker that is at work for more of its time than this should share.
const MUCH: f64 = 0.4;
/// Processors with nothing to do: part of one. Less is what a closed circle of clients and server leaves in any case.
const SPARE: f64 = 0.25;
/// From which part on a connection counts as a whole one.
const ROUNDED_UP: f64 = 0.25;
/// For thousandths.
const LOAD_BITS: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    /// Workers that are at work for a given part of their time, on a machine with so many processors to spare.
    struct Office {
        loads: Arc<Loads>,
        workers: Vec<(State, f64)>,
        spare: f64,
        at_work: Duration,
        idle: Duration,
    }

    impl Office {
        fn with(loads: &[f64], spare: f64) -> Self {
            let shared = Loads::of(loads.len());
            let worker =
                |load: &f64| (Balance::new(0, Arc::clone(&shared)).state.into_inner().unwrap(), *load);
            let workers = loads.iter().map(worker).collect();
            Self { loads: shared, workers, spare, at_work: Duration::ZERO, idle: Duration::ZERO }
        }

        /// All of them look, after so many connections of each have said much.
        async fn period(&mut self, talkers: usize) {
            advance(PERIOD).await;
            self.at_work += PERIOD;
            self.idle += PERIOD.mul_f64(self.spare);
            for (number, (state, load)) in self.workers.iter_mut().enumerate() {
                state.talkers = talkers;
                let worked = self.at_work.mul_f64(*load);
                state.look(number, &self.loads, Instant::now(), worked, || Some(self.idle));
            }
        }

        /// Nobody says anything for as long as this.
        async fn pause(&mut self, pause: Duration) {
            advance(pause).await;
            self.idle += pause * 2;
        }

        fn leave(&self, worker: usize) -> Option<Leave> {
            self.workers[worker].0.leave
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowded_worker_shares_with_the_one_that_has_the_least_when_that_is_certain() {
        let mut office = Office::with(&[0.9, 0.5, 0.1], 1.0);
        office.period(8).await;
        while office.at_work <= CERTAIN {
            assert_eq!(office.leave(0), None);
            office.period(8).await;
        }
        // Afterwards both would be at work for half of their time.
        assert_eq!(office.leave(0), Some(Leave { to: 2, count: 3 }));
        office.period(5).await;
        assert_eq!(office.leave(0), None, "what it said holds for one period");
    }

    #[tokio::test(start_paused = true)]
    async fn where_no_processor_has_nothing_to_do_a_crowd_stays_together() {
        let mut office = Office::with(&[1.0, 0.0], 0.1);
        for _ in 0..50 {
            office.period(16).await;
            assert_eq!(office.leave(0), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_processors_had_to_spare_in_a_pause_does_not_count() {
        let mut office = Office::with(&[1.0, 0.0], 0.1);
        for _ in 0..50 {
            for _ in 0..3 {
                office.period(16).await;
                assert_eq!(office.leave(0), None);
            }
            office.pause(PAUSE - PERIOD + Duration::from_millis(5)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lone_talker_does_not_change_places() {
        for (talkers, loads) in [(1, [1.0, 0.0]), (2, [1.0, 0.6]), (2, [0.9, 0.9])] {
            let mut office = Office::with(&loads, 1.0);
            for _ in 0..50 {
                office.period(talkers).await;
                assert_eq!(office.leave(0), None, "{talkers} at {loads:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn two_workers_with_little_to_do_become_one_and_two_with_more_do_not() {
        for (loads, goes) in [([0.1, 0.05], true), ([0.1, 0.15], false), ([0.19, 0.02], false)] {
            let mut office = Office::with(&loads, 1.0);
            office.period(4).await;
            office.period(4).await;
            assert_eq!(office.leave(1).map(|leave| leave.to), goes.then_some(FIRST), "{loads:?}");
            assert_eq!(office.leave(0), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_worker_saw_long_ago_does_not_count() {
        let loads = Loads::of(2);
        loads.note(0, 0.75, Instant::now());
        advance(OLD).await;
        assert_eq!(loads.load(0, Instant::now()), 0.75);
        advance(Duration::from_millis(1)).await;
        assert_eq!(loads.load(0, Instant::now()), 0.0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_begins_to_say_much_goes_to_the_first_worker_once_if_its_own_has_little_to_do() {
        let loads = Loads::of(2);
        let (first, second) = (Balance::new(0, Arc::clone(&loads)), Balance::new(1, Arc::clone(&loads)));
        let mut talk = Talk::default();
        let speaks = |balance: &Balance, talk: &mut Talk| {
            let wants = (0..MUCH_TALK).map(|_| balance.heard(talk, Instant::now())).collect::<Vec<_>>();
            assert!(!wants[..wants.len() - 1].contains(&true), "that is little");
            wants.last().is_some_and(|wants| *wants).then(|| balance.leave(talk)).flatten()
        };
        assert_eq!(speaks(&second, &mut talk), Some(FIRST));
        assert_eq!(speaks(&first, &mut talk.elsewhere()), None);
        assert_eq!(speaks(&second, &mut talk.elsewhere()), None, "only the first time");
        assert_eq!(speaks(&first, &mut Talk::default()), None);
        loads.note(FIRST, 1.0, Instant::now());
        assert_eq!(speaks(&second, &mut Talk::default()), Some(FIRST), "it can share when it has to");
        loads.note(1, LITTLE, Instant::now());
        assert_eq!(speaks(&second, &mut Talk::default()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_leave_than_should() {
        let balance = Balance::new(0, Loads::of(2));
        balance.state().leave = Some(Leave { to: 1, count: 2 });
        let leave = || balance.leave(&mut Talk::default());
        assert_eq!([leave(), leave(), leave()], [Some(1), Some(1), None]);
    }

    #[test]
    fn this_machine_says_how_long_its_processors_had_nothing_to_do() {
        assert!(!cfg!(target_os = "linux") || idle().is_some());
    }
}
