//! How connections learn that something was published: each worker is woken once, and looks after its own.
//!
//! To wake a task of another thread costs a system call; a thousand of them would keep the log writer from the
//! next batch. So one task of each worker waits for publications and passes them on to the worker's connections: at
//! once to those whose own transaction was with the log writer, whose clients wait; to everybody else, if there are
//! more than [`FEW`], not more than once in a while ([`PAUSE`]). A client that says something meanwhile is told with
//! the answer, for no answer overtakes a notice, and the messages for others carry several notices each.

use crate::{
    host::Host,
    listeners::{Listeners, Notices, Rest, Told},
    socket::TryWrite,
};
use std::{collections::BTreeMap, future::poll_fn, sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, watch},
    task::yield_now,
    time::{Instant, sleep_until},
};
use zeolith_types::Tid;
use zeolith_wire::Encoding;

/// The bells of one worker, one for each storage.
#[derive(Default)]
pub(crate) struct Bells(BTreeMap<String, Hung>);

struct Hung {
    listeners: Arc<Listeners>,
    /// Somebody has begun to listen.
    listened: Arc<Notify>,
}

impl Bells {
    /// Hangs the bells and begins to ring them. Within the event loop of the worker, which ends it.
    pub(crate) fn hang(hosts: &BTreeMap<String, Arc<Host>>) -> Self {
        let hung = hosts.iter().map(|(name, host)| {
            let (listeners, listened) = (Arc::<Listeners>::default(), Arc::<Notify>::default());
            tokio::spawn(ring(Arc::clone(host), Arc::clone(&listeners), Arc::clone(&listened)));
            (name.clone(), Hung { listeners, listened })
        });
        Self(hung.collect())
    }

    /// What a connection listens to that registers for this storage. It rings for all that is published from
    /// now on, or the client is told through `socket`.
    pub(crate) fn listen(&self, host: &Host, encoding: Encoding, socket: Option<Arc<dyn TryWrite>>) -> Bell {
        let mut bell = Bell { published: host.published.subscribe(), place: None, is_resting: false };
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
        let Some(hung) = self.0.get(&host.name) else { return };
        let place = hung.listeners.join(encoding, socket);
        bell.place = Some((Arc::clone(&hung.listeners), place));
        hung.listened.notify_one();
    }
}

/// Rings for all that is published. A worker of which nobody listens is not woken.
async fn ring(host: Arc<Host>, listeners: Arc<Listeners>, listened: Arc<Notify>) {
    loop {
        listened.notified().await;
        ring_while_listened(&host, &listeners).await;
    }
}

async fn ring_while_listened(host: &Host, listeners: &Listeners) {
    let mut published = host.published.subscribe();
    // Something may have been published since the first began to listen: who has not been told of it is rung for.
    let mut told = *published.borrow();
    let mut is_owed = true;
    let mut may_tell_at = Instant::now();
    while listeners.count() > 0 {
        tokio::select! {
            biased;
            changed = published.changed() => {
                if changed.is_err() {
                    return;
                }
                listeners.ring_for_committers();
                is_owed = true;
            }
            () = sleep_until(may_tell_at), if is_owed => {}
        }
        let now = Instant::now();
        if is_owed && (now >= may_tell_at || listeners.count() <= FEW) {
            may_tell_at = now + PAUSE;
            is_owed = false;
            // What comes meanwhile is told next time, and counts as news then.
            let through = *published.borrow();
            let mut notices = Notices::between(host, told, through);
            let mut next = listeners.tell(0, &mut notices);
            while let Some(from) = next {
                yield_now().await;
                if published.has_changed().unwrap_or(false) {
                    listeners.ring_for_committers();
                }
                next = listeners.tell(from, &mut notices);
            }
            told = through;
        }
    }
}

/// What one connection listens to.
pub(crate) struct Bell {
    published: watch::Receiver<Tid>,
    /// Its place among the listeners of its worker; `None` on the way to another one, and where nobody rings.
    place: Option<(Arc<Listeners>, usize)>,
    is_resting: bool,
}

impl Bell {
    /// Leaves the worker that rings for it: nobody tells the client of anything, and nobody has a part in its socket.
    pub(crate) fn leave(&mut self) {
        if let Some((listeners, place)) = self.place.take() {
            listeners.leave(place);
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
        if rest != Rest::Unread && self.is_due() {
            return;
        }
        self.is_resting = true;
        match &self.place {
            Some((listeners, place)) => {
                poll_fn(|context| listeners.poll_rung(*place, rest, context.waker())).await;
            }
            None => std::future::pending().await,
        }
    }

    /// Ends the rest; what the client was told meanwhile, if it could be told.
    pub(crate) fn wake_up(&mut self) -> Option<Told> {
        if !std::mem::take(&mut self.is_resting) {
            return None;
        }
        let (listeners, place) = self.place.as_ref()?;
        listeners.wake_up(*place)
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
/// So many are told of each publication: a message more for each of them costs less than a timer.
const FEW: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::{self, Scripted};
    use zeolith_core::Publication;

    /// Sessions that commit and sessions that do not, of a worker that rings for them.
    struct Tower {
        host: Arc<Host>,
        committer: Bell,
        listener: Bell,
        _others: Vec<Bell>,
    }

    impl Tower {
        /// Besides a committer and a listener so many others listen.
        async fn with_others(count: usize) -> Self {
            let (host, _) = scripted::host(Scripted::default());
            let bells = Bells::hang(&BTreeMap::from([("1".to_owned(), Arc::clone(&host))]));
            let bell = || bells.listen(&host, Encoding::Msgpack, None);
            let (committer, listener) = (bell(), bell());
            let _others = (0..count).map(|_| bell()).collect();
            // Longer than between the time when it began to ring and the next one.
            tokio::time::sleep(PAUSE).await;
            Self { committer, listener, _others, host }
        }

        /// How long committer and listener rest until they are rung for when this is published.
        async fn publish(&mut self, tid: u64) -> (Duration, Duration) {
            let committer = wait(&mut self.committer, Rest::Committing);
            let listener = wait(&mut self.listener, Rest::Otherwise);
            let (committer, listener, ()) =
                tokio::join!(committer, listener, async { publish(&self.host, tid) });
            for bell in [&mut self.committer, &mut self.listener] {
                assert!(bell.is_due());
                assert_eq!(bell.answer(), Tid::new(tid));
            }
            (committer, listener)
        }
    }

    fn publish(host: &Host, tid: u64) {
        let tid = Tid::new(tid);
        host.log_mut().append([Publication { tid, oids: Arc::from([]), committer: None }]);
        host.published.send_replace(tid);
    }

    /// How long the bell is waited for.
    async fn wait(bell: &mut Bell, rest: Rest) -> Duration {
        let begun = Instant::now();
        tokio::time::timeout(Duration::from_secs(60), bell.rings(rest)).await.unwrap();
        bell.wake_up();
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_publication_after_a_pause_rings_for_all_at_once() {
        let mut tower = Tower::with_others(FEW).await;
        assert_eq!(tower.publish(1).await, (Duration::ZERO, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_one_rings_at_once_for_who_commits_and_after_the_pause_for_the_others() {
        let mut tower = Tower::with_others(FEW).await;
        tower.publish(1).await;
        assert_eq!(tower.publish(2).await, (Duration::ZERO, PAUSE));
    }

    #[tokio::test(start_paused = true)]
    async fn few_hear_of_each_publication_at_once() {
        let mut tower = Tower::with_others(0).await;
        for tid in 1..=3 {
            assert_eq!(tower.publish(tid).await, (Duration::ZERO, Duration::ZERO));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_published_before_the_worker_knows_that_somebody_listens_rings_too() {
        let (host, _) = scripted::host(Scripted::default());
        let bells = Bells::hang(&BTreeMap::from([("1".to_owned(), Arc::clone(&host))]));
        let listen = || bells.listen(&host, Encoding::Msgpack, None);
        tokio::time::sleep(PAUSE).await;
        let mut bell = listen();
        publish(&host, 1);
        assert_eq!(wait(&mut bell, Rest::Told(Tid::ZERO)).await, Duration::ZERO);
        assert_eq!(bell.answer(), Tid::new(1));
        // And again, when all others had left.
        drop(bell);
        publish(&host, 2);
        tokio::time::sleep(PAUSE).await;
        let mut bell = listen();
        publish(&host, 3);
        assert_eq!(wait(&mut bell, Rest::Told(Tid::new(2))).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_published_on_the_way_to_another_worker_is_due_there() {
        let (host, _) = scripted::host(Scripted::default());
        let workers = || Bells::hang(&BTreeMap::from([("1".to_owned(), Arc::clone(&host))]));
        let (one, other) = (workers(), workers());
        let mut bell = one.listen(&host, Encoding::Msgpack, None);
        bell.leave();
        publish(&host, 1);
        tokio::time::sleep(PAUSE).await;
        other.take(&mut bell, &host, Encoding::Msgpack, None);
        assert!(bell.is_due());
        assert_eq!(wait(&mut bell, Rest::Told(Tid::ZERO)).await, Duration::ZERO);
        assert_eq!(bell.answer(), Tid::new(1));
        publish(&host, 2);
        assert_eq!(wait(&mut bell, Rest::Otherwise).await, Duration::ZERO, "the other worker rings now");
        let counts = [one, other].map(|bells| bells.0["1"].listeners.count());
        assert_eq!(counts, [0, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn whose_client_does_not_read_is_rung_for_once_for_each_publication() {
        let mut tower = Tower::with_others(0).await;
        for tid in 1..=2 {
            let unread = wait(&mut tower.listener, Rest::Unread);
            tokio::join!(unread, async { publish(&tower.host, tid) });
            assert!(tower.listener.is_due());
            let silence = tokio::time::timeout(PAUSE * 10, tower.listener.rings(Rest::Unread));
            assert!(silence.await.is_err());
            tower.listener.wake_up();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_answered_before_it_rang_is_told_nothing_twice() {
        let mut tower = Tower::with_others(FEW).await;
        tower.publish(1).await;
        publish(&tower.host, 2);
        assert!(tower.listener.is_due());
        assert_eq!(wait(&mut tower.listener, Rest::Otherwise).await, Duration::ZERO, "it does not rest");
        assert_eq!(tower.listener.answer(), Tid::new(2));
        let rest = Rest::Told(Tid::new(2));
        let silence = tokio::time::timeout(PAUSE * 10, tower.listener.rings(rest));
        assert!(silence.await.is_err());
    }
}
