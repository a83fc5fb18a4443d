//! How connections learn that something was published: each worker is woken once, and looks after its own.
//!
//! To wake a task of another thread costs a system call; a thousand of them would keep the log writer from the
//! next batch. So one task of each worker passes on to the worker's connections what was published: to all of them, if
//! nothing was published just before. When publications follow one another, those whose own transaction was
//! written, whose clients wait, hear of it at once; everybody else who has not said anything in a while ([`PAUSE`]) in
//! rounds, so long after one another. For a client that says something is told with the answer, since no answer overtakes
//! a notice, and the messages for others carry several notices each.
//!
//! Who has published decides whom to wake ([`Rings::ring`]). The rounds go on with the next publication, or the log
//! writer, which looks at the clock while it waits: a timer in each worker would cost more.

use crate::{
    host::Host,
    listeners::{Listeners, Notices, Rest, Told},
    socket::TryWrite,
};
use std::{
    collections::BTreeMap,
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::Poll,
    time::{Duration, Instant},
};
use tokio::{
    sync::{Notify, watch},
    task::yield_now,
};
use zeolith_core::SessionId;
use zeolith_types::Tid;
use zeolith_wire::Encoding;

/// The workers that ring for a storage.
#[derive(Default)]
pub(crate) struct Rings(Mutex<State>);

#[derive(Default)]
struct State {
    workers: Vec<Arc<Ring>>,
    /// When something was published last, and what.
    rung_at: Option<Instant>,
    last: Tid,
    /// When the next round is due, if somebody may be owed news.
    round_at: Option<Instant>,
    /// What had been published at the round before. Who knows of it has time until the next one.
    known: Tid,
}

/// What one worker does for one storage.
#[derive(Default)]
struct Ring {
    listeners: Listeners,
    /// There is something to do for its task.
    summons: Notify,
    /// Everybody is to be told who has not been told of everything up to here; nobody, if this is 0.
    behind: AtomicU64,
    /// The sessions whose transactions have been written since its task last looked.
    written: Mutex<Vec<SessionId>>,
}

impl Rings {
    /// Something was published, up to `last`, the transactions of `committers` among it, which are in order. They hear of
    /// it at once, everybody else if that was not to be expected. Whether rounds are to be made, and none were before.
    pub(crate) fn ring(&self, committers: &[SessionId], last: Tid, now: Instant) -> bool {
        let mut state = self.state();
        let is_first = state.rung_at.replace(now).is_none_or(|before| now >= before + PAUSE);
        state.last = last;
        state.workers.iter().for_each(|ring| ring.ring_for(committers));
        if is_first {
            state.tell_all();
            return false;
        }
        if state.round_at.is_some() {
            state.round(now);
            return false;
        }
        let is_owed = state.workers.iter().any(|ring| ring.listeners.is_anybody_behind(last, committers));
        state.round_at = is_owed.then(|| now + PAUSE);
        is_owed
    }

    /// When to call [`Self::round`], if somebody may be owed news.
    pub(crate) fn round_at(&self) -> Option<Instant> {
        self.state().round_at
    }

    /// Ends the rounds: what follows may take long, and nobody can be told meanwhile.
    pub(crate) fn end_rounds(&self) {
        let mut state = self.state();
        if state.round_at.is_some() {
            state.tell_all();
        }
    }

    /// Tells those who have not heard for long what was published, if it is time.
    pub(crate) fn round(&self, now: Instant) {
        self.state().round(now);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nobody panics while ringing")
    }
}

impl State {
    fn tell_all(&mut self) {
        self.workers.iter().for_each(|ring| ring.tell(self.last));
        self.known = self.last;
        self.round_at = None;
    }

    fn round(&mut self, now: Instant) {
        if self.round_at.is_none_or(|at| now < at) {
            return;
        }
        self.workers.iter().for_each(|ring| ring.tell(self.known));
        // Who knows of the last one is owed nothing.
        self.round_at = (self.known < self.last).then(|| now + PAUSE);
        self.known = self.last;
    }
}

impl Ring {
    /// Wakes the task to tell those who have not been told of everything up to here, if there are any.
    fn tell(&self, behind: Tid) {
        if self.listeners.is_anybody_behind(behind, &[]) {
            self.behind.fetch_max(behind.get(), Relaxed);
            self.summons.notify_one();
        }
    }

    /// Wakes the task if any of these rests here.
    fn ring_for(&self, committers: &[SessionId]) {
        let here = self.listeners.committing(committers);
        if !here.is_empty() {
            self.written().extend(here);
            self.summons.notify_one();
        }
    }

    fn written(&self) -> MutexGuard<'_, Vec<SessionId>> {
        self.written.lock().expect("nobody panics while noting who has committed")
    }

    fn ring_for_written(&self) {
        let mut written = std::mem::take(&mut *self.written());
        written.sort_unstable();
        self.listeners.ring_for(&written);
    }
}

/// The bells of one worker, one for each storage.
#[derive(Default)]
pub(crate) struct Bells(BTreeMap<String, Arc<Ring>>);

impl Bells {
    /// Hangs the bells and begins to ring them. Within the event loop of the worker, which ends it.
    pub(crate) fn hang(hosts: &BTreeMap<String, Arc<Host>>) -> Self {
        let hung = hosts.iter().map(|(name, host)| {
            let ring = Arc::<Ring>::default();
            host.rings.state().workers.push(Arc::clone(&ring));
            tokio::spawn(pass_on(Arc::clone(host), Arc::clone(&ring)));
            (name.clone(), ring)
        });
        Self(hung.collect())
    }

    /// What a connection listens to that registers for this storage. It rings for all that is published from
    /// now on, or the client is told through `socket`.
    pub(crate) fn listen(
        &self,
        host: &Host,
        session: SessionId,
        encoding: Encoding,
        socket: Option<Arc<dyn TryWrite>>,
    ) -> Bell {
        let published = host.published.subscribe();
        let answered = *published.borrow();
        let mut bell = Bell { session, published, answered, place: None, is_resting: false };
        self.take(&mut bell, host, encoding, socket);
        bell
    }

    /// Rings from now on for what listened elsewhere. What was published meanwhile is due.
    pub(crate) fn take(
        &self,
        bell: &mut Bell,
        host: &Host,
        encoding: Encoding,
        socket: Option<Arc<dyn TryWrite>>,
    ) {
        // Without a worker nobody rings.
        let Some(ring) = self.0.get(&host.name) else { return };
        let place = ring.listeners.join(bell.session, encoding, socket);
        bell.place = Some((Arc::clone(ring), place));
    }
}

/// Passes on what is published, whenever it is summoned.
async fn pass_on(host: Arc<Host>, ring: Arc<Ring>) {
    loop {
        ring.summons.notified().await;
        ring.ring_for_written();
        let behind = Tid::new(ring.behind.swap(0, Relaxed));
        if behind == Tid::ZERO {
            continue;
        }
        // What comes meanwhile is told next time, and counts as news then.
        let through = *host.published.borrow();
        let after = ring.listeners.least_told().unwrap_or(through);
        let mut notices = Notices::between(&host, after, through, behind);
        let mut next = ring.listeners.tell(0, &mut notices);
        while let Some(from) = next {
            // The clients that have been told may run on this processor, and the kernel would let them wait for all of it.
            std::thread::yield_now();
            yield_now().await;
            ring.ring_for_written();
            next = ring.listeners.tell(from, &mut notices);
        }
    }
}

/// What one connection listens to.
pub(crate) struct Bell {
    session: SessionId,
    published: watch::Receiver<Tid>,
    /// What was answered last.
    answered: Tid,
    /// Its place among the listeners of its worker; `None` on the way to another one, and where nobody rings.
    place: Option<(Arc<Ring>, usize)>,
    is_resting: bool,
}

impl Bell {
    /// Leaves the worker that rings for it: nobody tells the client of anything, and nobody has a part in its socket.
    pub(crate) fn leave(&mut self) {
        if let Some((ring, place)) = self.place.take() {
            ring.listeners.leave(place);
        }
    }

    /// Whether something was published since the last answer, even if it has not rung yet.
    pub(crate) fn is_due(&self) -> bool {
        self.published.has_changed().unwrap_or(false)
    }

    /// The last transaction that may be told of; whatever is published afterwards rings again.
    pub(crate) fn answer(&mut self) -> Tid {
        self.answered = *self.published.borrow_and_update();
        self.answered
    }

    /// What [`Self::answer`] gave last: the client has been told of all that, if not more.
    pub(crate) const fn answered(&self) -> Tid {
        self.answered
    }

    /// The last transaction that may be told of, without an answer.
    pub(crate) fn last(&self) -> Tid {
        *self.published.borrow()
    }

    /// Rests until it rings; not at all, if something is due that can be told. Safe to cancel; in any case
    /// [`Self::wake_up`] comes next.
    pub(crate) async fn rings(&mut self, rest: Rest) {
        let can_be_told = rest != Rest::Unread;
        if can_be_told && self.is_due() {
            return;
        }
        self.is_resting = true;
        let Some((ring, place)) = &self.place else { return std::future::pending().await };
        poll_fn(|context| {
            let rung = ring.listeners.poll_rung(*place, rest, context.waker());
            // Whoever published before it rested has not seen it rest.
            if can_be_told && self.is_due() { Poll::Ready(()) } else { rung }
        })
        .await;
    }

    /// Ends the rest; what the client was told meanwhile, if it could be told.
    pub(crate) fn wake_up(&mut self) -> Option<Told> {
        if !std::mem::take(&mut self.is_resting) {
            return None;
        }
        let (ring, place) = self.place.as_ref()?;
        ring.listeners.wake_up(*place)
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Between two rounds. Whoever says nothing hears of a commit twice as much later at most, and only if there was another
/// one just before.
const PAUSE: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::{self, Scripted};
    use zeolith_core::Publication;

    /// A session that commits and one that does not, of a worker that rings for them.
    struct Tower {
        host: Arc<Host>,
        bells: Bells,
        committer: Bell,
        listener: Bell,
    }

    const COMMITTER: SessionId = SessionId(1);
    const LISTENER: SessionId = SessionId(2);

    fn bells(host: &Arc<Host>) -> Bells {
        Bells::hang(&BTreeMap::from([("1".to_owned(), Arc::clone(host))]))
    }

    fn listen(bells: &Bells, host: &Host, session: SessionId) -> Bell {
        bells.listen(host, session, Encoding::Msgpack, None)
    }

    impl Tower {
        fn new() -> Self {
            let (host, _) = scripted::host(Scripted::default());
            let bells = bells(&host);
            let (committer, listener) = (listen(&bells, &host, COMMITTER), listen(&bells, &host, LISTENER));
            Self { host, bells, committer, listener }
        }

        /// Whether committer and listener, who rest, are rung for by this.
        async fn ring(&mut self, by: impl FnOnce(&Host)) -> (bool, bool) {
            let committer = is_rung(&mut self.committer, Rest::Committing(Tid::ZERO));
            let listener = is_rung(&mut self.listener, Rest::Otherwise);
            let (committer, listener, ()) = tokio::join!(committer, listener, async { by(&self.host) });
            (committer, listener)
        }

        fn answer(&mut self, tid: u64) {
            for bell in [&mut self.committer, &mut self.listener] {
                assert!(bell.is_due());
                assert_eq!(bell.answer(), Tid::new(tid));
            }
        }
    }

    /// The committer's transaction becomes visible, and so it is said.
    fn publish(host: &Host, tid: u64) {
        let tid = Tid::new(tid);
        host.log_mut().append([Publication { tid, oids: Arc::from([]), committer: Some(COMMITTER) }]);
        host.published.send_replace(tid);
    }

    /// Whether the bell rings before the worker has nothing more to do.
    async fn is_rung(bell: &mut Bell, rest: Rest) -> bool {
        let is_rung = tokio::time::timeout(PAUSE, bell.rings(rest)).await.is_ok();
        bell.wake_up();
        is_rung
    }

    /// What a worker is called for.
    #[derive(Debug, PartialEq)]
    struct Called {
        written: Vec<SessionId>,
        behind: u64,
    }

    const NOBODY: Called = Called { written: Vec::new(), behind: 0 };

    fn all_behind(tid: u64) -> Called {
        Called { behind: tid, ..NOBODY }
    }

    impl Tower {
        /// Whether rounds begin when the committer's transaction is published, and what the worker is called for.
        fn call(&self, tid: u64, now: Instant) -> (bool, Called) {
            let begins = self.host.rings.ring(&[COMMITTER], Tid::new(tid), now);
            (begins, self.called())
        }

        fn round(&self, now: Instant) -> Called {
            self.host.rings.round(now);
            self.called()
        }

        fn called(&self) -> Called {
            let ring = &self.bells.0["1"];
            Called { written: std::mem::take(&mut ring.written()), behind: ring.behind.swap(0, Relaxed) }
        }
    }

    fn rests(bell: &Bell, rest: Rest) {
        let (ring, place) = bell.place.as_ref().unwrap();
        ring.listeners.wake_up(*place);
        assert!(ring.listeners.poll_rung(*place, rest, std::task::Waker::noop()).is_pending());
    }

    #[tokio::test]
    async fn what_was_not_to_be_expected_is_for_all_at_once() {
        let tower = Tower::new();
        let first = Instant::now();
        rests(&tower.listener, Rest::Told(Tid::ZERO));
        assert_eq!(tower.call(1, first), (false, all_behind(1)));
        assert_eq!(tower.call(2, first + PAUSE), (false, all_behind(2)));
        assert_eq!(tower.host.rings.round_at(), None);
    }

    #[tokio::test]
    async fn when_publications_follow_one_another_who_commits_hears_at_once_and_everybody_else_in_rounds() {
        let tower = Tower::new();
        let first = Instant::now();
        rests(&tower.listener, Rest::Told(Tid::ZERO));
        tower.call(1, first);
        rests(&tower.listener, Rest::Told(Tid::new(1)));
        rests(&tower.committer, Rest::Committing(Tid::new(1)));
        let soon = first + PAUSE / 2;
        assert_eq!(tower.call(2, soon), (true, Called { written: vec![COMMITTER], behind: 0 }));
        assert_eq!(tower.host.rings.round_at(), Some(soon + PAUSE));
        rests(&tower.committer, Rest::Committing(Tid::new(2)));
        assert_eq!(tower.round(soon), NOBODY, "it is not time");
        // They know what was published at the last round, if there had been one.
        assert_eq!(tower.round(soon + PAUSE), NOBODY);
        assert_eq!(tower.round(soon + 2 * PAUSE), all_behind(2), "who has said nothing since");
        assert_eq!(tower.host.rings.round_at(), None, "nobody is owed anything");
        assert_eq!(tower.round(soon + 9 * PAUSE), NOBODY);
    }

    #[tokio::test]
    async fn rounds_go_on_as_long_as_there_are_publications() {
        let tower = Tower::new();
        let first = Instant::now();
        tower.call(1, first);
        rests(&tower.listener, Rest::Told(Tid::new(1)));
        assert_eq!(tower.call(2, first), (true, NOBODY), "the committer is awake and sees for itself");
        // With the next publication, if it comes at the time of a round.
        let at = |halves| first + PAUSE * halves / 2;
        assert_eq!(tower.call(3, at(1)), (false, NOBODY));
        assert_eq!(tower.call(4, at(2)), (false, NOBODY));
        assert_eq!(tower.call(5, at(3)), (false, NOBODY));
        assert_eq!(tower.call(6, at(4)), (false, all_behind(4)));
        assert_eq!(tower.host.rings.round_at(), Some(at(6)));
    }

    #[tokio::test]
    async fn who_commits_need_not_wait_until_all_are_told() {
        let tower = Tower::new();
        rests(&tower.committer, Rest::Committing(Tid::ZERO));
        assert_eq!(tower.call(1, Instant::now()).1, Called { written: vec![COMMITTER], behind: 1 });
    }

    #[tokio::test]
    async fn a_committer_that_has_gone_is_nobody_who_listens() {
        let mut tower = Tower::new();
        let first = Instant::now();
        rests(&tower.listener, Rest::Told(Tid::ZERO));
        tower.call(1, first);
        rests(&tower.listener, Rest::Told(Tid::new(1)));
        tower.committer.leave();
        assert_eq!(tower.call(2, first), (true, NOBODY), "the other one is owed news");
    }

    #[tokio::test]
    async fn rounds_end_when_something_may_take_long_or_has_taken_long() {
        let tower = Tower::new();
        let mut now = Instant::now();
        for end in [
            |tower: &Tower, _| tower.host.rings.end_rounds(),
            |tower: &Tower, now: Instant| {
                tower.host.rings.ring(&[], Tid::new(2), now + PAUSE);
            },
        ] {
            rests(&tower.listener, Rest::Told(Tid::ZERO));
            tower.call(1, now);
            rests(&tower.listener, Rest::Told(Tid::new(1)));
            assert_eq!(tower.call(2, now), (true, NOBODY));
            end(&tower, now);
            assert_eq!((tower.called(), tower.host.rings.round_at()), (all_behind(2), None));
            tower.host.rings.end_rounds();
            assert_eq!(tower.called(), NOBODY, "there are none");
            now += 9 * PAUSE;
        }
    }

    #[tokio::test]
    async fn there_are_no_rounds_where_only_those_listen_who_commit() {
        let mut tower = Tower::new();
        let first = Instant::now();
        tower.call(1, first);
        tower.listener.leave();
        rests(&tower.committer, Rest::Committing(Tid::new(1)));
        assert_eq!(tower.call(2, first), (false, Called { written: vec![COMMITTER], behind: 0 }));
        assert_eq!(tower.host.rings.round_at(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_passes_on_what_it_is_called_for() {
        let mut tower = Tower::new();
        let now = Instant::now();
        let first = |host: &Host| {
            publish(host, 1);
            host.rings.ring(&[COMMITTER], Tid::new(1), now);
        };
        assert_eq!(tower.ring(first).await, (true, true));
        tower.answer(1);
        // The bells are not asked whether something is due: nothing is, they think.
        let second = |host: &Host| _ = host.rings.ring(&[COMMITTER], Tid::new(2), now);
        assert_eq!(tower.ring(second).await, (true, false));
        let rounds = |host: &Host| (1..=2).for_each(|round| host.rings.round(now + round * PAUSE));
        assert_eq!(tower.ring(rounds).await, (true, true));
        assert_eq!(tower.ring(|_| {}).await, (false, false));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_published_before_it_rests_is_due() {
        let mut tower = Tower::new();
        for (tid, rest) in (1..).zip([Rest::Committing(Tid::ZERO), Rest::Otherwise, Rest::Told(Tid::ZERO)]) {
            publish(&tower.host, tid);
            assert!(is_rung(&mut tower.listener, rest).await, "though nobody has rung");
            assert_eq!(tower.listener.answer(), Tid::new(tid));
            assert!(!is_rung(&mut tower.listener, rest).await, "and once");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_published_while_it_goes_to_rest_is_due() {
        let mut tower = Tower::new();
        let rings = tower.listener.rings(Rest::Committing(Tid::ZERO));
        tokio::pin!(rings);
        assert!(futures_poll(rings.as_mut()).is_pending());
        // Published by somebody who has not seen it rest.
        publish(&tower.host, 1);
        assert!(futures_poll(rings.as_mut()).is_ready());
    }

    fn futures_poll(future: std::pin::Pin<&mut impl Future<Output = ()>>) -> Poll<()> {
        future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_published_on_the_way_to_another_worker_is_due_there() {
        let (host, _) = scripted::host(Scripted::default());
        let (one, other) = (bells(&host), bells(&host));
        let mut bell = listen(&one, &host, LISTENER);
        bell.leave();
        publish(&host, 1);
        other.take(&mut bell, &host, Encoding::Msgpack, None);
        assert!(bell.is_due());
        assert!(is_rung(&mut bell, Rest::Told(Tid::ZERO)).await);
        assert_eq!(bell.answer(), Tid::new(1));
        let now = Instant::now();
        let ring = async { host.rings.ring(&[], Tid::new(2), now) };
        let (is_rung, _) = tokio::join!(is_rung(&mut bell, Rest::Otherwise), ring);
        assert!(is_rung, "the other worker rings now");
        let counts = [one, other].map(|bells| bells.0["1"].listeners.count());
        assert_eq!(counts, [0, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn whose_client_does_not_read_is_rung_for_when_all_are_told_and_not_for_what_is_due() {
        let mut tower = Tower::new();
        publish(&tower.host, 1);
        assert!(!is_rung(&mut tower.listener, Rest::Unread).await);
        let now = Instant::now();
        let ring = async { tower.host.rings.ring(&[], Tid::new(1), now) };
        let (is_rung_for, _) = tokio::join!(is_rung(&mut tower.listener, Rest::Unread), ring);
        assert!(is_rung_for && tower.listener.is_due());
        assert!(!is_rung(&mut tower.listener, Rest::Unread).await);
    }
}
