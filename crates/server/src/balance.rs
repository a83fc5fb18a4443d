//! Which worker goes on with a connection, once it shows who has much to say.
//!
//! Each worker looks at its load now and then while clients speak to it ([`PERIOD`]); where nobody says anything, nobody
//! looks.
//!
//! - Whoever begins to say much goes to the first worker, if its own has little to do; and so do all that say much, if
//!   their worker and the first one together have little to do. One thread that finds the next call waiting answers
//!   for less than two that fall asleep in turn.
//! - A worker with much to do sends a part of its work to others that have less, if there are processors with nothing to
//!   do. Where there are none, another thread could only take turns with this one.
//!
//! How much of a worker's work a connection is shows how often it has been read from, of all the times in one period.

use rustix::time::{ClockId, clock_gettime};
use std::{
    fs,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::Instant;

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
    /// The processor time that the worker had used when the period began.
    worked: Duration,
    /// How often something was read in this period, and in the one before.
    heard: u64,
    heard_before: u64,
    /// The part of its time that the worker was at work in the period before.
    load: f64,
    leave: Leave,
    /// Since when there is much to do, and how long processors had had nothing to do by then.
    crowded: Option<(Instant, Option<Duration>)>,
}

/// Which connections should go on elsewhere in this period.
#[derive(Clone, Debug, Default, PartialEq)]
struct Leave {
    /// The workers that have room, and how much: parts of a worker's time.
    places: Vec<(usize, f64)>,
    /// Only those that were heard so often in one period.
    times_min: u32,
}

/// How much one connection has said to its worker.
#[derive(Default)]
pub(crate) struct Talk {
    period: u64,
    /// How often it was read from in that period, and in the one before.
    times: u32,
    times_before: u32,
    /// It is not new to those that say much.
    is_known: bool,
}

impl Loads {
    /// Of so many workers, which have done nothing yet.
    pub(crate) fn of(workers: usize) -> Arc<Self> {
        Arc::new(Self { begun: Instant::now(), seen: (0..workers).map(|_| AtomicU64::new(0)).collect() })
    }

    fn note(&self, worker: usize, load: f64, now: Instant) {
        if let Some(seen) = self.seen.get(worker) {
            let thousandths = (load * 1000.0) as u64;
            seen.store((self.millis(now) << LOAD_BITS) | thousandths, Relaxed);
        }
    }

    /// The part of its time that a worker has been at work lately. Of one to which nobody speaks nothing is known, and it
    /// counts as idle.
    fn load(&self, worker: usize, now: Instant) -> f64 {
        let seen = self.seen.get(worker).map_or(0, |seen| seen.load(Relaxed));
        let (at, thousandths) = (seen >> LOAD_BITS, seen & ((1 << LOAD_BITS) - 1));
        let is_old = self.millis(now).saturating_sub(at) > OLD.as_millis() as u64;
        if is_old { 0.0 } else { thousandths as f64 / 1000.0 }
    }

    fn millis(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.begun).as_millis() as u64
    }

    /// Where a worker should send how much of its work: as many workers as it takes share evenly. The search begins
    /// at `start`, a different one for each who searches.
    fn room_for(&self, worker: usize, start: usize, now: Instant) -> Vec<(usize, f64)> {
        let count = self.seen.len();
        let total: f64 = (0..count).map(|other| self.load(other, now)).sum();
        let level = (total / count as f64).max(SHARE_MIN);
        let mut surplus = self.load(worker, now) - level;
        let mut places = Vec::new();
        for other in (start..start + count).map(|other| other % count).filter(|other| *other != worker) {
            let room = (level - self.load(other, now)).min(surplus);
            if room > 0.0 {
                surplus -= room;
                places.push((other, room));
            }
        }
        places
    }
}

impl Balance {
    /// Of a worker that has done nothing yet.
    pub(crate) fn new(worker: usize, loads: Arc<Loads>) -> Self {
        let state = State {
            period: 1,
            began: Instant::now(),
            worked: Duration::ZERO,
            heard: 0,
            heard_before: 0,
            load: 0.0,
            leave: Leave::default(),
            crowded: None,
        };
        Self { worker, loads, state: Mutex::new(state) }
    }

    /// Something was read from a client, by the thread of the worker, which has been awake for nothing for so long
    /// altogether. Whether its connection should go on elsewhere, perhaps: [`Self::leave`] says where.
    pub(crate) fn heard(&self, talk: &mut Talk, now: Instant, awake: impl FnOnce() -> Duration) -> bool {
        if self.loads.seen.len() < 2 {
            return false;
        }
        let mut state = self.state();
        if now.saturating_duration_since(state.began) >= PERIOD {
            state.look(self.worker, &self.loads, now, worked().saturating_sub(awake()), idle);
        }
        state.heard(talk);
        !state.leave.places.is_empty() || talk.is_new()
    }

    /// Where the connection should go on, if it should.
    pub(crate) fn leave(&self, talk: &mut Talk) -> Option<usize> {
        let mut state = self.state();
        if talk.is_new() {
            talk.is_known = true;
            if self.worker != FIRST && state.load < LITTLE {
                return Some(FIRST);
            }
        }
        state.take_leave(talk)
    }

    /// All should go there.
    #[cfg(test)]
    pub(crate) fn send_all(&self, to: usize) {
        self.state().leave = Leave { places: vec![(to, f64::INFINITY)], times_min: 0 };
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
        let load = share(worked.saturating_sub(self.worked), elapsed).min(1.0);
        loads.note(worker, load, now);
        self.leave = Leave::default();
        if load <= MUCH || elapsed > PAUSE {
            // What processors had to spare while nobody said anything does not count.
            self.crowded = None;
        }
        if worker != FIRST && load + loads.load(FIRST, now) < LITTLE {
            self.leave = Leave { places: vec![(FIRST, f64::INFINITY)], times_min: MUCH_TALK };
        } else if load > MUCH {
            match self.crowded {
                None => self.crowded = Some((now, idle())),
                Some((since, idle_then)) if now - since >= CERTAIN => {
                    self.crowded = None;
                    let spare = idle_then.zip(idle()).map(|(then, now)| now.saturating_sub(then));
                    // Who can't tell spreads them: that is the better half of the cases.
                    if spare.is_none_or(|spare| share(spare, now - since) >= SPARE) {
                        let places = loads.room_for(worker, worker + self.period as usize, now);
                        self.leave = Leave { places, times_min: 1 };
                    }
                }
                Some(_) => {}
            }
        }
        self.period += 1;
        (self.began, self.worked, self.load) = (now, worked, load);
        self.heard_before = std::mem::take(&mut self.heard);
    }

    fn heard(&mut self, talk: &mut Talk) {
        if talk.period != self.period {
            talk.times_before = if talk.period + 1 == self.period { talk.times } else { 0 };
            (talk.period, talk.times) = (self.period, 0);
        }
        talk.times = talk.times.saturating_add(1);
        self.heard += 1;
    }

    fn take_leave(&mut self, talk: &Talk) -> Option<usize> {
        if talk.times_before < self.leave.times_min {
            return None;
        }
        let weight = self.load * f64::from(talk.times_before) / self.heard_before.max(1) as f64;
        // Whoever is most of the work would only change places.
        let (to, room) = self.leave.places.iter_mut().find(|(_, room)| *room >= weight * FITS)?;
        *room -= weight;
        Some(*to)
    }
}

impl Talk {
    /// The same at another worker.
    pub(crate) fn elsewhere(&self) -> Self {
        Self { is_known: self.is_known, ..Self::default() }
    }

    /// It says much, and has not done so before.
    const fn is_new(&self) -> bool {
        !self.is_known && self.times >= MUCH_TALK
    }
}

fn share(part: Duration, whole: Duration) -> f64 {
    if whole.is_zero() { 0.0 } else { part.as_secs_f64() / whole.as_secs_f64() }
}

/// The processor time that this thread has used.
fn worked() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// How long all processors together have had nothing to do since the machine was started, if that can be known. One
/// that waits for a disk does not count.
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
/// When so much time has passed between two looks nobody has spoken for a while.
const PAUSE: Duration = Duration::from_millis(75);
/// What is older is not the load of a worker any more.
const OLD: Duration = Duration::from_millis(200);
/// For so long there must be much to do, and processors with nothing to do, for these are counted in hundredths of
/// seconds.
const CERTAIN: Duration = Duration::from_millis(400);
/// A connection that was read from so often in one period says much.
const MUCH_TALK: u32 = 8;
/// A worker has little to do if it is at work for less of its time than this; so have two if it is both together.
const LITTLE: f64 = 0.2;
/// A worker that is at work for more of its time than this has much to do.
const MUCH: f64 = 0.4;
/// With less than this no further worker is needed to share.
const SHARE_MIN: f64 = 0.3;
/// Processors with nothing to do: part of one. Less is what a closed circle of clients and server leaves in any case.
const SPARE: f64 = 0.25;
/// So much of a connection must find room.
const FITS: f64 = 0.75;
/// For thousandths.
const LOAD_BITS: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    /// Workers with connections that each take a part of a worker's time, on a machine with so many processors to
    /// spare.
    struct Office {
        loads: Arc<Loads>,
        workers: Vec<Worker>,
        spare: f64,
        at_work: Duration,
        idle: Duration,
    }

    struct Worker {
        state: State,
        worked: Duration,
        connections: Vec<(Talk, f64)>,
    }

    impl Office {
        fn with(workers: &[&[f64]], spare: f64) -> Self {
            let loads = Loads::of(workers.len());
            let worker = |connections: &&[f64]| Worker {
                state: Balance::new(0, Arc::clone(&loads)).state.into_inner().unwrap(),
                worked: Duration::ZERO,
                connections: connections.iter().map(|load| (Talk::default(), *load)).collect(),
            };
            let workers = workers.iter().map(worker).collect();
            Self { loads, workers, spare, at_work: Duration::ZERO, idle: Duration::ZERO }
        }

        /// Each connection speaks as often as its part of the work, and all workers look.
        async fn period(&mut self) {
            advance(PERIOD).await;
            self.at_work += PERIOD;
            self.idle += PERIOD.mul_f64(self.spare);
            for (number, worker) in self.workers.iter_mut().enumerate() {
                for (talk, load) in &mut worker.connections {
                    (0..(*load * 1000.0) as u32).for_each(|_| worker.state.heard(talk));
                    worker.worked += PERIOD.mul_f64(*load);
                }
                worker.state.look(number, &self.loads, Instant::now(), worker.worked, || Some(self.idle));
            }
        }

        /// So many periods, after each of which those go on elsewhere that should; how many did.
        async fn periods(&mut self, count: u32) -> usize {
            let mut moves = 0;
            for _ in 0..count {
                self.period().await;
                for number in 0..self.workers.len() {
                    let worker = &mut self.workers[number];
                    let (mut stay, mut go) = (Vec::new(), Vec::new());
                    for (mut talk, load) in std::mem::take(&mut worker.connections) {
                        worker.state.heard(&mut talk);
                        match worker.state.take_leave(&talk) {
                            Some(to) => go.push((to, talk.elsewhere(), load)),
                            None => stay.push((talk, load)),
                        }
                    }
                    worker.connections = stay;
                    moves += go.len();
                    for (to, talk, load) in go {
                        self.workers[to].connections.push((talk, load));
                    }
                }
            }
            moves
        }

        /// Nobody says anything for as long as this.
        async fn pause(&mut self, pause: Duration) {
            advance(pause).await;
            self.idle += pause * 2;
        }

        /// The load of each worker.
        fn sums(&self) -> Vec<f64> {
            let sum = |worker: &Worker| worker.connections.iter().map(|(_, load)| load).sum();
            self.workers.iter().map(sum).collect()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowded_worker_shares_when_that_is_certain_and_as_many_take_part_as_it_needs() {
        let mut office = Office::with(&[&[0.05; 18], &[], &[], &[], &[]], 1.0);
        let certain = (CERTAIN.as_millis() / PERIOD.as_millis()) as u32;
        assert_eq!(office.periods(certain).await, 0);
        assert!(office.periods(1).await > 0);
        let mut sums = office.sums();
        sums.sort_by(f64::total_cmp);
        assert!(sums[1] == 0.0 && sums[2..].iter().all(|sum| (0.25..0.36).contains(sum)), "{sums:?}");
        assert_eq!(office.periods(100).await, 0, "what it said holds for one period, and that is all right");
    }

    #[tokio::test(start_paused = true)]
    async fn many_that_each_say_little_are_spread_as_well() {
        let mut office = Office::with(&[&[0.001; 1000], &[]], 1.0);
        let moves = office.periods(100).await;
        assert!((450..550).contains(&moves), "{moves}");
    }

    #[tokio::test(start_paused = true)]
    async fn where_no_processor_has_nothing_to_do_a_crowd_stays_together() {
        let mut office = Office::with(&[&[0.0625; 16], &[]], 0.1);
        assert_eq!(office.periods(100).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_processors_had_to_spare_in_a_pause_does_not_count() {
        let mut office = Office::with(&[&[0.0625; 16], &[]], 0.1);
        for _ in 0..50 {
            assert_eq!(office.periods(3).await, 0);
            office.pause(PAUSE - PERIOD + Duration::from_millis(5)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_changes_places_for_nothing() {
        for workers in [[&[1.0][..], &[]], [&[0.5, 0.5], &[0.6]], [&[0.45, 0.45], &[0.3; 3]]] {
            assert_eq!(Office::with(&workers, 1.0).periods(100).await, 0, "{workers:?}");
        }
        // The light one leaves the heavy one alone, and that is all.
        let mut office = Office::with(&[&[0.8, 0.02], &[0.02]], 1.0);
        assert_eq!(office.periods(100).await, 1);
        assert_eq!(office.workers[0].connections.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn two_workers_with_little_to_do_become_one_and_two_with_more_do_not() {
        for (workers, moves) in [([0.05, 0.05], 1), ([0.1, 0.15], 0), ([0.19, 0.02], 0)] {
            let [first, second] = workers;
            let mut office = Office::with(&[&[first], &[second]], 1.0);
            assert_eq!(office.periods(100).await, moves, "{workers:?}");
        }
        // Who says little stays where it is.
        let mut office = Office::with(&[&[0.05], &[0.006; 4]], 1.0);
        assert_eq!(office.periods(100).await, 0);
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
            let wants = (0..MUCH_TALK)
                .map(|_| balance.heard(talk, Instant::now(), Duration::default))
                .collect::<Vec<_>>();
            assert!(!wants[..wants.len() - 1].contains(&true), "that is little");
            wants.last().is_some_and(|wants| *wants).then(|| balance.leave(talk)).flatten()
        };
        assert_eq!(speaks(&second, &mut talk), Some(FIRST));
        assert_eq!(speaks(&first, &mut talk.elsewhere()), None);
        assert_eq!(speaks(&second, &mut talk.elsewhere()), None, "only the first time");
        assert_eq!(speaks(&first, &mut Talk::default()), None);
        first.state().load = 1.0;
        assert_eq!(speaks(&second, &mut Talk::default()), Some(FIRST), "it can share when it has to");
        second.state().load = LITTLE;
        assert_eq!(speaks(&second, &mut Talk::default()), None);
    }

    #[test]
    fn to_be_awake_for_nothing_is_no_work() {
        let later = || Instant::now() + PERIOD;
        let load = |awake: fn() -> Duration| {
            let balance = Balance::new(0, Loads::of(2));
            balance.heard(&mut Talk::default(), later(), awake);
            balance.state().load
        };
        let before = worked();
        while worked() - before < Duration::from_millis(1) {}
        assert!(load(Duration::default) > 0.0);
        assert_eq!(load(worked), 0.0);
    }

    #[test]
    fn this_machine_says_how_long_its_processors_had_nothing_to_do() {
        assert!(!cfg!(target_os = "linux") || idle().is_some());
        let before = worked();
        while worked() == before {}
    }
}
