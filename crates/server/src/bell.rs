//! How connections learn that something was published: each worker is woken once, and wakes its own.
//!
//! To wake a task of another thread costs a system call; a thousand of them would keep the log writer from the
//! next batch. So one task of each worker waits for the log writer and rings for the worker's connections: at once
//! for those whose own transaction is with the log writer, whose clients wait; for everybody else, if there are more
//! than [`FEW`], not more than once in a while ([`PAUSE`]). A client that says something meanwhile is told with the
//! answer, for no answer overtakes a notice, and the messages for others carry several notices each.

use crate::host::Host;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};
use zeolith_types::Tid;

/// The bells of one worker, one for each storage.
#[derive(Default)]
pub(crate) struct Bells(BTreeMap<String, Rung>);

struct Rung {
    committers: watch::Receiver<()>,
    everybody: watch::Receiver<()>,
    /// Somebody has begun to listen.
    listened: Arc<Notify>,
}

impl Bells {
    /// Hangs the bells and begins to ring them. Within the event loop of the worker, which ends it.
    pub(crate) fn hang(hosts: &BTreeMap<String, Arc<Host>>) -> Self {
        let hung = hosts.iter().map(|(name, host)| {
            let (ring_committers, committers) = watch::channel(());
            let (ring_everybody, everybody) = watch::channel(());
            let listened = Arc::new(Notify::new());
            let ringing = ring(Arc::clone(host), ring_committers, ring_everybody, Arc::clone(&listened));
            tokio::spawn(ringing);
            (name.clone(), Rung { committers, everybody, listened })
        });
        Self(hung.collect())
    }

    /// What a connection listens to that registers for this storage. It rings for all that is published from
    /// now on.
    pub(crate) fn listen(&self, host: &Host) -> Bell {
        // Without a worker nobody rings.
        let silent = || watch::channel(()).1;
        let hung = self.0.get(&host.name);
        let mut bell = Bell {
            published: host.published.subscribe(),
            committers: hung.map_or_else(silent, |hung| hung.committers.clone()),
            everybody: hung.map_or_else(silent, |hung| hung.everybody.clone()),
        };
        bell.answer();
        if let Some(hung) = hung {
            hung.listened.notify_one();
        }
        bell
    }
}

/// Rings for all that is published. A worker of which nobody listens is not woken.
async fn ring(
    host: Arc<Host>,
    committers: watch::Sender<()>,
    everybody: watch::Sender<()>,
    listened: Arc<Notify>,
) {
    loop {
        listened.notified().await;
        ring_while_listened(host.published.subscribe(), &committers, &everybody).await;
    }
}

async fn ring_while_listened(
    mut published: watch::Receiver<Tid>,
    committers: &watch::Sender<()>,
    everybody: &watch::Sender<()>,
) {
    // The bell that new ones are made of does not listen.
    let listeners = || everybody.receiver_count().saturating_sub(1);
    let mut may_ring_at = Instant::now();
    // Something may have been published since the first began to listen.
    let mut is_owed = true;
    while listeners() > 0 {
        tokio::select! {
            biased;
            changed = published.changed() => {
                if changed.is_err() {
                    return;
                }
                committers.send_replace(());
                is_owed = true;
            }
            () = sleep_until(may_ring_at), if is_owed => {}
        }
        let now = Instant::now();
        if is_owed && (now >= may_ring_at || listeners() <= FEW) {
            everybody.send_replace(());
            may_ring_at = now + PAUSE;
            is_owed = false;
        }
    }
}

/// What one connection listens to.
pub(crate) struct Bell {
    published: watch::Receiver<Tid>,
    committers: watch::Receiver<()>,
    everybody: watch::Receiver<()>,
}

impl Bell {
    /// Whether something was published since the last answer, even if it has not rung yet.
    pub(crate) fn is_due(&self) -> bool {
        self.published.has_changed().unwrap_or(false)
    }

    /// The last transaction that may be told of; whatever is published afterwards rings again.
    pub(crate) fn answer(&mut self) -> Tid {
        self.committers.mark_unchanged();
        self.everybody.mark_unchanged();
        *self.published.borrow_and_update()
    }

    /// The last transaction that may be told of, without an answer.
    pub(crate) fn last(&self) -> Tid {
        *self.published.borrow()
    }

    /// Waits until it rings; for ever, if the server is about to end. Safe to cancel.
    pub(crate) async fn rings(&mut self, is_committer: bool) {
        let rung = if is_committer { &mut self.committers } else { &mut self.everybody };
        if rung.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Between two rings for everybody. Whoever says nothing hears of a commit so much later at most, and only if
/// there was another one just before.
const PAUSE: Duration = Duration::from_millis(1);
/// So many are told of each publication: a message more for each of them costs less than a timer.
const FEW: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::{self, Scripted};

    /// Sessions that commit and sessions that do not, of a worker that rings for them.
    struct Tower {
        published: watch::Sender<Tid>,
        committer: Bell,
        listener: Bell,
        _others: Vec<Bell>,
    }

    impl Tower {
        /// Besides a committer and a listener so many others listen. It has rung for the first time.
        async fn with_others(count: usize) -> Self {
            let published = watch::Sender::new(Tid::ZERO);
            let (ring_committers, committers) = watch::channel(());
            let (ring_everybody, everybody) = watch::channel(());
            let bell = || Bell {
                published: published.subscribe(),
                committers: committers.clone(),
                everybody: everybody.clone(),
            };
            let (committer, mut listener) = (bell(), bell());
            let _others = (0..count).map(|_| bell()).collect();
            let heard = published.subscribe();
            tokio::spawn(async move {
                let _one_to_make_more_of = everybody;
                ring_while_listened(heard, &ring_committers, &ring_everybody).await;
            });
            Self::wait(&mut listener, false).await;
            listener.answer();
            tokio::time::sleep(PAUSE).await;
            Self { committer, listener, _others, published }
        }

        fn publish(&self, tid: u64) {
            self.published.send_replace(Tid::new(tid));
        }

        /// How long the bell is waited for.
        async fn wait(bell: &mut Bell, is_committer: bool) -> Duration {
            let begun = Instant::now();
            let rings = tokio::time::timeout(Duration::from_secs(60), bell.rings(is_committer));
            rings.await.unwrap();
            begun.elapsed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_publication_after_a_pause_rings_for_all_at_once() {
        let mut tower = Tower::with_others(FEW).await;
        tower.publish(1);
        assert_eq!(Tower::wait(&mut tower.committer, true).await, Duration::ZERO);
        assert_eq!(Tower::wait(&mut tower.listener, false).await, Duration::ZERO);
        assert_eq!(tower.listener.answer(), Tid::new(1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_one_rings_at_once_for_who_commits_and_after_the_pause_for_the_others() {
        let mut tower = Tower::with_others(FEW).await;
        tower.publish(1);
        Tower::wait(&mut tower.listener, false).await;
        tower.listener.answer();
        tower.committer.answer();
        tower.publish(2);
        assert_eq!(Tower::wait(&mut tower.committer, true).await, Duration::ZERO);
        tower.publish(3);
        assert_eq!(Tower::wait(&mut tower.listener, false).await, PAUSE);
        assert_eq!(tower.listener.answer(), Tid::new(3));
    }

    #[tokio::test(start_paused = true)]
    async fn few_hear_of_each_publication_at_once() {
        let mut tower = Tower::with_others(0).await;
        for tid in 1..=3 {
            tower.publish(tid);
            assert_eq!(Tower::wait(&mut tower.listener, false).await, Duration::ZERO);
            assert_eq!(tower.listener.answer(), Tid::new(tid));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_published_before_the_worker_knows_that_somebody_listens_rings_too() {
        let (host, _) = scripted::host(Scripted::default());
        let bells = Bells::hang(&BTreeMap::from([("1".to_owned(), Arc::clone(&host))]));
        tokio::time::sleep(PAUSE).await;
        let mut bell = bells.listen(&host);
        host.published.send_replace(Tid::new(1));
        assert_eq!(Tower::wait(&mut bell, false).await, Duration::ZERO);
        assert_eq!(bell.answer(), Tid::new(1));
        // And again, when all others had left.
        drop(bell);
        host.published.send_replace(Tid::new(2));
        tokio::time::sleep(PAUSE).await;
        let mut bell = bells.listen(&host);
        host.published.send_replace(Tid::new(3));
        assert_eq!(Tower::wait(&mut bell, false).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_answered_before_it_rang_does_not_ring_again() {
        let mut tower = Tower::with_others(FEW).await;
        tower.publish(1);
        assert!(tower.listener.is_due());
        Tower::wait(&mut tower.committer, true).await;
        assert_eq!(tower.listener.answer(), Tid::new(1));
        assert!(!tower.listener.is_due());
        let silence = tokio::time::timeout(PAUSE * 10, tower.listener.rings(false));
        assert!(silence.await.is_err());
    }
}
