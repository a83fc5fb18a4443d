//! A worker that stays awake for a client that will ask again at once.
//!
//! A thread that sleeps has to be woken for the next call, and on a processor that has gone to sleep with it that takes
//! several times as long as a load. So when a single client talks to the server, and has asked again soon after each of its
//! last answers ([`Haste`]), its worker goes on looking at its event loop for a while before it sleeps (the option
//! `busy-poll` says how long, and what is soon). Everything else that happens is served as well: only the sleep is missing.
//!
//! Where others talk too nobody stays awake: the processor is better used by them. It is given to whoever waits for it between
//! any two looks, and not at all where that one keeps it ([`Courtesy`]).

use crate::courtesy::Courtesy;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::{sync::Notify, task::yield_now};

/// How often each worker of a server has read something.
#[derive(Clone)]
pub(crate) struct Ears(Arc<[Ear]>);

/// Alone in its cache line, and in the next one that is fetched with it: each worker writes to its own at each read.
#[derive(Default)]
#[repr(align(128))]
struct Ear(AtomicU64);

impl Ears {
    /// Of so many workers, which have read nothing yet.
    pub(crate) fn of(workers: usize) -> Self {
        Self((0..workers).map(|_| Ear::default()).collect())
    }
}

/// What a worker needs to stay awake.
pub(crate) struct Vigil {
    worker: usize,
    ears: Ears,
    /// How long to stay awake, and how soon a client must ask again to be worth that.
    patience: Duration,
    /// Somebody is expected to ask again.
    summons: Notify,
    /// How many nanoseconds it has been awake for nothing but that.
    lasted: AtomicU64,
}

/// How soon one client asks again.
#[derive(Default)]
pub(crate) struct Haste {
    /// How often in a row it has asked that soon after its answer, while nobody else said anything.
    row: u32,
    rest: Option<Rest>,
}

/// When a connection began to rest, and what had been heard by then.
#[derive(Clone, Copy)]
struct Rest {
    since: Instant,
    here: u64,
    elsewhere: u64,
}

impl Vigil {
    /// Of the worker of that number.
    pub(crate) const fn new(worker: usize, ears: Ears, patience: Duration) -> Self {
        Self { worker, ears, patience, summons: Notify::const_new(), lasted: AtomicU64::new(0) }
    }

    /// The thread of the worker has read something, from the client with this haste.
    pub(crate) fn heard(&self, haste: &mut Haste, now: Instant) {
        let here = self.here() + 1;
        if let Some(Ear(ear)) = self.ears.0.get(self.worker) {
            ear.store(here, Relaxed);
        }
        let is_quick =
            haste.rest.is_some_and(|rest| here == rest.here + 1 && now - rest.since <= self.patience);
        haste.row = if is_quick { haste.row.saturating_add(1) } else { 0 };
    }

    /// The client with this haste has its answer. The worker stays awake if it will ask again at once.
    pub(crate) fn rests(&self, haste: &mut Haste, now: Instant) {
        let rest = Rest { since: now, here: self.here(), elsewhere: self.elsewhere() };
        let is_alone = haste.rest.is_some_and(|before| before.elsewhere == rest.elsewhere);
        haste.rest = Some(rest);
        if !is_alone {
            haste.row = 0;
        } else if haste.row >= ROW {
            self.summons.notify_one();
        }
    }

    /// Stays awake whenever that is asked for. Within the event loop of the worker, which ends it.
    pub(crate) async fn keep(&self, clock: impl Fn() -> Instant) {
        let mut courtesy = Courtesy::default();
        loop {
            self.summons.notified().await;
            let begun = clock();
            if !courtesy.is_paused(begun) {
                let ended = self.watch(begun, &mut courtesy, &clock).await;
                self.lasted.fetch_add((ended - begun).as_nanos() as u64, Relaxed);
            }
        }
    }

    /// Looks until something has been heard, or nothing for long; when it ended.
    async fn watch(&self, begun: Instant, courtesy: &mut Courtesy, clock: impl Fn() -> Instant) -> Instant {
        let here = self.here();
        let mut before = begun;
        loop {
            // A client on the same processor can't ask while this one has it.
            thread::yield_now();
            yield_now().await;
            let now = clock();
            if !courtesy.was_let_in(before, now) || self.here() != here || now - begun > self.patience {
                return now;
            }
            before = now;
        }
    }

    /// How long the worker has been awake for nothing else.
    pub(crate) fn lasted(&self) -> Duration {
        Duration::from_nanos(self.lasted.load(Relaxed))
    }

    fn here(&self) -> u64 {
        self.ears.0.get(self.worker).map_or(0, |Ear(ear)| ear.load(Relaxed))
    }

    fn elsewhere(&self) -> u64 {
        let others = self.ears.0.iter().enumerate().filter(|(number, _)| *number != self.worker);
        others.map(|(_, Ear(ear))| ear.load(Relaxed)).fold(0, u64::wrapping_add)
    }
}

/// A client that has asked again soon this often in a row will do so once more.
const ROW: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        cell::Cell,
        pin::pin,
        task::{Context, Waker},
    };

    const PATIENCE: Duration = Duration::from_micros(300);
    const INSTANT: Duration = Duration::from_nanos(1);

    /// The first of two workers, what both have read, and the time.
    struct Worker {
        vigil: Vigil,
        ears: Ears,
        now: Cell<Instant>,
    }

    impl Worker {
        fn new() -> Self {
            let ears = Ears::of(2);
            Self { vigil: Vigil::new(0, ears.clone(), PATIENCE), ears, now: Cell::new(Instant::now()) }
        }

        fn pass(&self, time: Duration) {
            self.now.set(self.now.get() + time);
        }

        fn hear(&self, haste: &mut Haste) {
            self.vigil.heard(haste, self.now.get());
        }

        /// A client asks so long after its last answer, and gets one. Whether the worker then stays awake for it.
        fn serve(&self, haste: &mut Haste, after: Duration) -> bool {
            self.pass(after);
            self.hear(haste);
            self.vigil.rests(haste, self.now.get());
            let summoned = pin!(self.vigil.summons.notified());
            summoned.poll(&mut Context::from_waker(Waker::noop())).is_ready()
        }

        /// How often a client must ask until the worker stays awake for it.
        fn calls_until_awake(&self, haste: &mut Haste) -> u32 {
            (1..100).find(|_| self.serve(haste, PATIENCE)).unwrap()
        }
    }

    #[test]
    fn a_worker_stays_awake_for_who_has_asked_again_soon_several_times_in_a_row() {
        let worker = Worker::new();
        let mut haste = Haste::default();
        assert_eq!(worker.calls_until_awake(&mut haste), ROW + 1, "what the first one will do is not known");
        assert!(worker.serve(&mut haste, PATIENCE));
        assert!(!worker.serve(&mut haste, PATIENCE + INSTANT));
        assert_eq!(worker.calls_until_awake(&mut haste), ROW);
    }

    #[test]
    fn where_anybody_else_talks_it_does_not_stay_awake() {
        let worker = Worker::new();
        let (mut one, mut other) = (Haste::default(), Haste::default());
        assert!((0..100).all(|_| !worker.serve(&mut one, INSTANT) && !worker.serve(&mut other, INSTANT)));
        let elsewhere = Vigil::new(1, worker.ears.clone(), PATIENCE);
        for _ in 0..100 {
            elsewhere.heard(&mut other, worker.now.get());
            assert!(!worker.serve(&mut one, INSTANT));
        }
        assert_eq!(worker.calls_until_awake(&mut one), ROW, "when they are silent it is alone");
    }

    /// Somebody is expected to ask again, twice, and each look takes so long. What happens after so many looks, and how
    /// long the worker was awake for each.
    async fn vigils(look: Duration, after: u32, mut event: impl FnMut(&Worker)) -> [Duration; 2] {
        let worker = Worker::new();
        let looks = Cell::new(0);
        let clock = || {
            looks.set(looks.get() + 1);
            worker.pass(look);
            worker.now.get()
        };
        let mut lasted = [Duration::ZERO; 2];
        let expect = async {
            for lasted in &mut lasted {
                let before = worker.vigil.lasted();
                looks.set(0);
                worker.vigil.summons.notify_one();
                for _ in 0..100 {
                    yield_now().await;
                    if looks.get() == after {
                        event(&worker);
                    }
                }
                *lasted = worker.vigil.lasted() - before;
            }
        };
        tokio::select! {
            biased;
            () = worker.vigil.keep(clock) => {}
            () = expect => {}
        }
        lasted
    }

    #[tokio::test]
    async fn it_stays_awake_until_it_has_heard_something_or_its_patience_is_at_an_end() {
        let look = Duration::from_micros(10);
        let in_vain = vigils(look, u32::MAX, |_| {}).await;
        assert_eq!(in_vain, [PATIENCE + look; 2]);
        let heard = vigils(look, 5, |worker| worker.hear(&mut Haste::default())).await;
        assert_eq!(heard, [5 * look; 2]);
    }

    #[tokio::test]
    async fn where_somebody_else_keeps_the_processor_it_sleeps() {
        let long = Duration::from_millis(1);
        assert_eq!(vigils(long, u32::MAX, |_| {}).await, [long, Duration::ZERO]);
        // Even if it heard something meanwhile: it would have woken up for that sooner.
        assert_eq!(
            vigils(long, 1, |worker| worker.hear(&mut Haste::default())).await,
            [long, Duration::ZERO]
        );
    }
}
