//! The limits that connections can run into, how often they did, and who is counted against them.
//!
//! A limit bears the name of its key in `<zeo>`. Each time that one takes effect, the event log has a line that
//! names it, and its count goes up; `server_status` shows the counts that are not 0.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use tokio::sync::oneshot;
use zeolith_core::SessionId;

/// A limit that took effect on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Too many connections: the new one was closed.
    Connections,
    /// Too many connections that have not registered: the oldest of them was closed.
    UnregisteredConnections,
    /// No hello in time.
    HelloTimeout,
    /// No registration in time.
    RegisterTimeout,
    /// A message stood still, in either direction.
    FrameTimeout,
    /// A message was too large.
    FrameSize,
    /// The client did not hear of transactions for too long.
    ClientLag,
    /// The client has too many iterators open.
    Iterators,
}

/// The counts of all limits.
#[derive(Default)]
pub(crate) struct Limits {
    counts: [AtomicU64; ALL.len()],
    unregistered: Mutex<BTreeMap<SessionId, oneshot::Sender<()>>>,
}

impl Limit {
    /// The key that sets it.
    pub(crate) const fn key(self) -> &'static str {
        match self {
            Self::Connections => "connections-max",
            Self::UnregisteredConnections => "unregistered-connections-max",
            Self::HelloTimeout => "hello-timeout",
            Self::RegisterTimeout => "register-timeout",
            Self::FrameTimeout => "frame-timeout",
            Self::FrameSize => "frame-size-max",
            Self::ClientLag => "client-lag-max",
            Self::Iterators => "iterators-max",
        }
    }
}

impl Limits {
    /// A limit has taken effect.
    pub(crate) fn count(&self, limit: Limit) {
        self.counts[limit as usize].fetch_add(1, Relaxed);
    }

    /// Each limit with how often it took effect.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        ALL.iter().map(|limit| (limit.key(), self.counts[*limit as usize].load(Relaxed)))
    }

    /// A connection that has not registered yet. If there are `max` others, the oldest of them must go: clients
    /// register within moments, so whoever has been here for longest is the least likely to be one.
    pub(crate) fn enter(self: &Arc<Self>, id: SessionId, max: usize) -> Unregistered {
        let (push, pushed) = oneshot::channel();
        let mut unregistered = self.unregistered();
        while unregistered.len() >= max.max(1) {
            if let Some((_, oldest)) = unregistered.pop_first() {
                // One that has ended meanwhile needs no word.
                let _ = oldest.send(());
            }
        }
        unregistered.insert(id, push);
        drop(unregistered);
        Unregistered { limits: Arc::clone(self), id, pushed }
    }

    fn unregistered(&self) -> MutexGuard<'_, BTreeMap<SessionId, oneshot::Sender<()>>> {
        self.unregistered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among the connections that have not registered; dropped when it has, or has ended.
pub(crate) struct Unregistered {
    limits: Arc<Limits>,
    id: SessionId,
    pushed: oneshot::Receiver<()>,
}

impl Unregistered {
    /// Whether the place is wanted for somebody else.
    pub(crate) fn is_pushed_out(&mut self) -> bool {
        self.pushed.try_recv().is_ok()
    }

    /// Ends when the place is wanted for somebody else. Safe to cancel.
    pub(crate) async fn pushed_out(&mut self) {
        if (&mut self.pushed).await.is_err() {
            // Only `Drop` takes the other end away without a word.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Unregistered {
    fn drop(&mut self) {
        self.limits.unregistered().remove(&self.id);
    }
}

const ALL: [Limit; 8] = [
    Limit::Connections,
    Limit::UnregisteredConnections,
    Limit::HelloTimeout,
    Limit::RegisterTimeout,
    Limit::FrameTimeout,
    Limit::FrameSize,
    Limit::ClientLag,
    Limit::Iterators,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_has_a_count_of_its_own() {
        let limits = Limits::default();
        for (number, limit) in ALL.into_iter().enumerate() {
            assert_eq!(limit as usize, number);
            (0..=number).for_each(|_| limits.count(limit));
        }
        let counts: Vec<_> = limits.counts().map(|(_, count)| count).collect();
        assert_eq!(counts, (1..=ALL.len() as u64).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn the_oldest_that_has_not_registered_makes_room() {
        let limits = Arc::new(Limits::default());
        let mut first = limits.enter(SessionId(1), 2);
        let second = limits.enter(SessionId(2), 2);
        drop(second);
        let _third = limits.enter(SessionId(3), 2);
        assert!(first.pushed.try_recv().is_err(), "there were two places");
        let _fourth = limits.enter(SessionId(4), 2);
        first.pushed_out().await;
        drop(first);
        assert_eq!(limits.unregistered().len(), 2);
    }
}
