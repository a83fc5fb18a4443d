//! How connections learn that something was published: each worker is woken once, and looks after its own.
//!
//! To wake a task of another thread costs a system call; a thousand of them would keep the log writer from the
//! next batch. So one task of each worker passes on to the worker's connections what was published. Those whose own
//! transaction was written, whose clients wait, hear of it at once; everybody else not more than once in a while
//! ([`PAUSE`]). A client that says something meanwhile is told with the answer, for no answer overtakes a notice,
//! and the messages for others carry several notices each.
//!
//! Who has published decides whom to wake ([`Rings::ring`]). Who is owed news then is told by the next publication,
//! or by the log writer, which looks at the clock while it waits: a timer in each worker would cost more.

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
        atomic::{AtomicBool, Ordering::Relaxed},
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
    /// Not everybody is told before.
    may_tell_at: Option<Instant>,
    /// Somebody has not been told of the last publication.
    is_owed: bool,
}

/// What one worker does for one storage.
#[derive(Default)]
struct Ring {
    listeners: Listeners,
    /// There is something to do for its task.
    summons: Notify,
    /// Everybody is to be told.
    tells_all: AtomicBool,
    /// The sessions whose transactions have been written since its task last looked.
    written: Mutex<Vec<SessionId>>,
}

impl Rings {
    /// Something was published, the transactions of `committers` among it. They hear of it at once, everybody else if
    /// the last time is long enough ago. Whether somebody is owed news and nobody was before.
    pub(crate) fn ring(&self, committers: &[SessionId], now: Instant) -> bool {
        let mut state = self.state();
        if state.may_tell_at.is_none_or(|at| now >= at) {
            state.tell_all(now);
            return false;
        }
        state.workers.iter().for_each(|ring| ring.ring_for(committers));
        let listening: usize = state.workers.iter().map(|ring| ring.listeners.count()).sum();
        let was_owed = std::mem::replace(&mut state.is_owed, listening > committers.len());
        state.is_owed && !was_owed
    }

    /// When to call [`Self::tell_owed`], if somebody is owed news.
    pub(crate) fn owed_at(&self) -> Option<Instant> {
        let state = self.state();
        state.may_tell_at.filter(|_| state.is_owed)
    }

    /// Tells everybody, if it is time and somebody is owed news.
    pub(crate) fn tell_owed(&self, now: Instant) {
        let mut state = self.state();
        if state.is_owed && state.may_tell_at.is_none_or(|at| now >= at) {
            state.tell_all(now);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nobody panics while ringing")
    }
}

impl State {
    fn tell_all(&mut self, now: Instant) {
        self.may_tell_at = Some(now + PAUSE);
        self.is_owed = false;
        for ring in self.workers.iter().filter(|ring| ring.listeners.count() > 0) {
            ring.tells_all.store(true, Relaxed);
            ring.summons.notify_one();
        }
    }
}

impl Ring {
    /// Wakes the task if any of these rests here.
    fn ring_for(&self, committers: &[SessionId]) {
        let mut here = committers.iter().filter(|session| self.listeners.is_committing(**session)).peekable();
        if here.peek().is_some() {
            self.written().extend(here);
            self.summons.notify_one();
        }
    }

    fn written(&self) -> MutexGuard<'_, Vec<SessionId>> {
        self.written.lock().expect("nobody panics while noting who has committed")
    }

    fn ring_for_written(&self) {
        let written = std::mem::take(&mut *self.written());
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
        let mut bell = Bell { session, published, place: None, is_resting: false };
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
    let mut told = *host.published.borrow();
    loop {
        ring.summons.notified().await;
        ring.ring_for_written();
        if !ring.tells_all.swap(false, Relaxed) {
            continue;
        }
        // What comes meanwhile is told next time, and counts as news then.
        let through = *host.published.borrow();
        let mut notices = Notices::between(&host, told, through);
        let mut next = ring.listeners.tell(0, &mut notices);
        while let Some(from) = next {
            yield_now().await;
            ring.ring_for_written();
            next = ring.listeners.tell(from, &mut notices);
        }
        told = through;
    }
}

/// What one connection listens to.
pub(crate) struct Bell {
    session: SessionId,
    published: watch::Receiver<Tid>,
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
        *self.published.borrow_and_update()
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

/// Between two times that everybody is told. Whoever says nothing hears of a commit so much later at most, and only if
/// there was another one just before.
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
            let committer = is_rung(&mut self.committer, Rest::Committing);
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

    /// How [`Rings`] sees it: the bells are not asked, for they know by themselves that something is due.
    #[derive(Debug, PartialEq)]
    struct Called {
        written: Vec<SessionId>,
        all: bool,
    }

    impl Tower {
        /// What the worker is called for when the committer's transaction is published.
        fn call(&mut self, tid: u64, now: Instant) -> (bool, Called) {
            publish(&self.host, tid);
            let is_newly_owed = self.host.rings.ring(&[COMMITTER], now);
            (is_newly_owed, self.called())
        }

        fn called(&self) -> Called {
            let ring = &self.bells.0["1"];
            Called { written: std::mem::take(&mut ring.written()), all: ring.tells_all.swap(false, Relaxed) }
        }

        fn rests_as_committer(&self) {
            let (ring, place) = self.committer.place.as_ref().unwrap();
            assert!(
                ring.listeners.poll_rung(*place, Rest::Committing, std::task::Waker::noop()).is_pending()
            );
        }
    }

    const ALL: Called = Called { written: Vec::new(), all: true };
    const NOBODY: Called = Called { written: Vec::new(), all: false };

    #[tokio::test]
    async fn the_first_publication_after_a_pause_is_for_all_and_the_next_for_who_commits() {
        let mut tower = Tower::new();
        let first = Instant::now();
        tower.rests_as_committer();
        assert_eq!(tower.call(1, first), (false, ALL));
        assert_eq!(tower.host.rings.owed_at(), None);
        let committer = Called { written: vec![COMMITTER], all: false };
        assert_eq!(tower.call(2, first + PAUSE / 2), (true, committer));
        assert_eq!(tower.host.rings.owed_at(), Some(first + PAUSE));
        // It is awake now: it looks for itself. And somebody was owed before.
        tower.committer.is_resting = true;
        tower.committer.wake_up();
        assert_eq!(tower.call(3, first + PAUSE / 2), (false, NOBODY));
        assert_eq!(tower.call(4, first + PAUSE), (false, ALL));
        assert_eq!(tower.host.rings.owed_at(), None);
    }

    #[tokio::test]
    async fn who_is_owed_news_is_told_when_it_is_time_and_once() {
        let mut tower = Tower::new();
        let first = Instant::now();
        tower.call(1, first);
        tower.host.rings.tell_owed(first + PAUSE);
        assert_eq!(tower.called(), NOBODY, "nobody is owed");
        tower.call(2, first + PAUSE / 2);
        tower.host.rings.tell_owed(first + PAUSE / 2);
        assert_eq!(tower.called(), NOBODY, "it is not time");
        tower.host.rings.tell_owed(first + PAUSE);
        assert_eq!((tower.called(), tower.host.rings.owed_at()), (ALL, None));
    }

    #[tokio::test]
    async fn nobody_is_owed_news_where_only_those_listen_who_commit() {
        let mut tower = Tower::new();
        let first = Instant::now();
        tower.call(1, first);
        tower.listener.leave();
        assert_eq!(tower.call(2, first), (false, NOBODY));
        assert_eq!(tower.host.rings.owed_at(), None);
        tower.committer.leave();
        assert_eq!(
            tower.call(3, first + PAUSE),
            (false, NOBODY),
            "nor is a worker woken of which nobody listens"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_passes_on_what_it_is_called_for() {
        let mut tower = Tower::new();
        let now = Instant::now();
        let ring = |host: &Host| {
            publish(host, 1);
            host.rings.ring(&[COMMITTER], now);
        };
        assert_eq!(tower.ring(ring).await, (true, true));
        tower.answer(1);
        // Though they do not know that something is due.
        let for_committers = |host: &Host| _ = host.rings.ring(&[COMMITTER], now);
        assert_eq!(tower.ring(for_committers).await, (true, false));
        let for_all = |host: &Host| host.rings.tell_owed(now + PAUSE);
        assert_eq!(tower.ring(for_all).await, (true, true));
        assert_eq!(tower.ring(|_| {}).await, (false, false));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_published_before_it_rests_is_due() {
        let mut tower = Tower::new();
        for (tid, rest) in (1..).zip([Rest::Committing, Rest::Otherwise, Rest::Told(Tid::ZERO)]) {
            publish(&tower.host, tid);
            assert!(is_rung(&mut tower.listener, rest).await, "though nobody has rung");
            assert_eq!(tower.listener.answer(), Tid::new(tid));
            assert!(!is_rung(&mut tower.listener, rest).await, "and once");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_published_while_it_goes_to_rest_is_due() {
        let mut tower = Tower::new();
        let rings = tower.listener.rings(Rest::Committing);
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
        let ring = async { host.rings.ring(&[], now) };
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
        let ring = async { tower.host.rings.ring(&[], now) };
        let (is_rung_for, _) = tokio::join!(is_rung(&mut tower.listener, Rest::Unread), ring);
        assert!(is_rung_for && tower.listener.is_due());
        assert!(!is_rung(&mut tower.listener, Rest::Unread).await);
    }
}
