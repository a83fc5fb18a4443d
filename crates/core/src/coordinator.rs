//! The open votes of one storage: who holds which objects, who waits, and who has held them too long.
//!
//! Every way in which a vote can end (finish, abort, disconnect, timeout) comes to [`Coordinator::release`],
//! and that is the only place where locks are given up (the reference forgets on some).

use crate::{SessionId, locks::LockSet, locks::LockTable};
use bytes::Bytes;
use std::{collections::BTreeMap, time::Duration};
use zeolith_storage::TransactionId;
use zeolith_types::{ServerStatus, Tid, Timestamp};

/// The time of an event, on both clocks: one never steps back, the other is for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Since the server started, never stepping back.
    pub uptime: Duration,
    /// The wall clock.
    pub time: Timestamp,
}

/// Holds the object locks of one storage. Its methods take microseconds and never wait.
#[derive(Debug)]
pub struct Coordinator {
    locks: LockTable,
    votes: BTreeMap<TransactionId, OpenVote>,
    next_transaction: u64,
    sessions: u64,
    waiting: u64,
    timeout: Option<Duration>,
    /// A sync has failed: nobody knows which of the transactions that were being written will be there when the
    /// storage is opened again.
    is_in_doubt: bool,
    /// What was committed until then could have been packed away since the server started.
    packed_until: Tid,
}

#[derive(Debug)]
struct OpenVote {
    session: SessionId,
    /// By what its client will ask what became of it.
    token: Option<Bytes>,
    state: VoteState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum VoteState {
    Waiting,
    Holding {
        since: Now,
    },
    /// In the hands of the log writer; it can't time out any more.
    Finishing {
        since: Now,
    },
    /// Somebody has been told that it is aborted: it is never finished, whatever its client says.
    Disowned,
}

/// What is known of a transaction whose client has lost its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inquiry {
    /// No vote of this token is open: if it was finished, it is visible.
    NotOpen,
    /// The log writer has it, or its time is over; or it may have been in a sync that failed.
    Undecided,
    /// It was open and will not be finished; its session's connection is to be closed.
    Disowned(SessionId),
}

/// Whether a vote may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// All its objects are its own.
    Granted,
    /// Others hold some of them; a [`Grant`] will tell.
    Waiting,
}

/// A vote that waited and may go on now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Whose vote.
    pub session: SessionId,
    /// Which.
    pub transaction: TransactionId,
}

/// A vote that has held its locks for longer than `transaction-timeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired {
    /// Whose connection is to be closed, which releases everything.
    pub session: SessionId,
    /// How long it was allowed to take.
    pub timeout: Duration,
}

impl Coordinator {
    /// No votes, no sessions. `timeout` is the option `transaction-timeout`.
    #[must_use]
    pub fn new(timeout: Option<Duration>) -> Self {
        Self {
            locks: LockTable::default(),
            votes: BTreeMap::new(),
            next_transaction: 0,
            sessions: 0,
            waiting: 0,
            timeout,
            is_in_doubt: false,
            packed_until: Tid::ZERO,
        }
    }

    /// A session has registered.
    pub fn join(&mut self) {
        self.sessions += 1;
    }

    /// A registered session is gone. Its votes are released on their own.
    pub fn leave(&mut self) {
        self.sessions -= 1;
    }

    /// Asks for the locks of a vote.
    pub fn request(&mut self, session: SessionId, set: LockSet, now: Now) -> (TransactionId, Lock) {
        self.next_transaction += 1;
        let transaction = TransactionId(self.next_transaction);
        let granted = self.locks.request(transaction, set);
        let state = if granted { VoteState::Holding { since: now } } else { VoteState::Waiting };
        self.waiting += u64::from(!granted);
        self.votes.insert(transaction, OpenVote { session, token: None, state });
        (transaction, if granted { Lock::Granted } else { Lock::Waiting })
    }

    /// A vote that was just requested has a token.
    pub fn name(&mut self, transaction: TransactionId, token: Bytes) {
        if let Some(vote) = self.votes.get_mut(&transaction) {
            vote.token = Some(token);
        }
    }

    /// What became of the transaction of this token. One that is open and not being finished is disowned: the
    /// answer to the question must stay true.
    pub fn inquire(&mut self, token: &[u8]) -> Inquiry {
        let Some(vote) = self.votes.values_mut().find(|vote| vote.token.as_deref() == Some(token)) else {
            return if self.is_in_doubt { Inquiry::Undecided } else { Inquiry::NotOpen };
        };
        match vote.state {
            VoteState::Finishing { .. } => return Inquiry::Undecided,
            VoteState::Waiting => self.waiting -= 1,
            VoteState::Holding { .. } | VoteState::Disowned => {}
        }
        vote.state = VoteState::Disowned;
        Inquiry::Disowned(vote.session)
    }

    /// A sync has failed; said before what was being written is released.
    pub fn doubt(&mut self) {
        self.is_in_doubt = true;
    }

    /// Somebody wants the storage packed to this time.
    pub fn packing(&mut self, until: Tid) {
        self.packed_until = self.packed_until.max(until);
    }

    /// The latest time to which a pack was asked for since the server started.
    #[must_use]
    pub const fn packed_until(&self) -> Tid {
        self.packed_until
    }

    /// Whether the log writer may have the transaction, and then from here only its outcome ends it. One
    /// that is disowned is to be released instead.
    pub fn finishing(&mut self, transaction: TransactionId) -> bool {
        let Some(vote) = self.votes.get_mut(&transaction) else { return true };
        if let VoteState::Holding { since } = vote.state {
            vote.state = VoteState::Finishing { since };
        }
        vote.state != VoteState::Disowned
    }

    /// Ends a vote, however it ended; returns those that may go on.
    pub fn release(&mut self, transaction: TransactionId, now: Now) -> Vec<Grant> {
        if let Some(vote) = self.votes.remove(&transaction) {
            self.waiting -= u64::from(vote.state == VoteState::Waiting);
        }
        let granted = self.locks.release(transaction);
        granted.into_iter().map(|transaction| self.grant(transaction, now)).collect()
    }

    fn grant(&mut self, transaction: TransactionId, now: Now) -> Grant {
        let vote = self.votes.get_mut(&transaction).expect("a ticket in the table has an open vote");
        if vote.state == VoteState::Waiting {
            vote.state = VoteState::Holding { since: now };
            self.waiting -= 1;
        }
        Grant { session: vote.session, transaction }
    }

    /// The votes that have held their locks for too long. Each is told once.
    pub fn expire(&mut self, now: Now) -> Vec<Expired> {
        let Some(timeout) = self.timeout else {
            return Vec::new();
        };
        let held_too_long = |vote: &&mut OpenVote| matches!(vote.state, VoteState::Holding { since } if now.uptime >= since.uptime + timeout);
        let expired = self.votes.values_mut().filter(held_too_long).map(|vote| {
            // Told once: its session closes the connection, and that releases it.
            vote.state = VoteState::Finishing { since: now };
            Expired { session: vote.session, timeout }
        });
        expired.collect()
    }

    /// When [`Self::expire`] has something to do, if it ever will.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        let timeout = self.timeout?;
        let holding = self.votes.values().filter_map(|vote| match vote.state {
            VoteState::Holding { since } => Some(since.uptime + timeout),
            VoteState::Waiting | VoteState::Finishing { .. } | VoteState::Disowned => None,
        });
        holding.min()
    }

    /// How many votes wait.
    #[must_use]
    pub const fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Writes what `server_status` tells of sessions and locks.
    pub fn fill(&self, status: &mut ServerStatus) {
        status.connections = self.sessions;
        status.waiting = self.waiting;
        status.has_timeout = self.timeout.is_some();
        let since = self.votes.values().filter_map(|vote| match vote.state {
            VoteState::Holding { since } | VoteState::Finishing { since } => Some(since.time),
            VoteState::Waiting | VoteState::Disowned => None,
        });
        status.lock_time = since.min().map(Timestamp::as_secs_f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeolith_types::Oid;

    fn at(seconds: u64) -> Now {
        let since = Duration::from_secs(seconds);
        Now { uptime: since, time: Timestamp::from_epoch(since) }
    }

    fn object(oid: u64) -> LockSet {
        LockSet::Objects(vec![Oid::new(oid)])
    }

    #[test]
    fn a_vote_that_waits_is_granted_by_the_release_of_the_one_before() {
        let mut coordinator = Coordinator::new(None);
        let (first, lock) = coordinator.request(SessionId(1), object(5), at(1));
        assert_eq!(lock, Lock::Granted);
        let (second, lock) = coordinator.request(SessionId(2), object(5), at(2));
        assert_eq!((lock, coordinator.waiting()), (Lock::Waiting, 1));
        assert_eq!(coordinator.release(first, at(3)), [Grant { session: SessionId(2), transaction: second }]);
        assert_eq!(coordinator.waiting(), 0);
    }

    #[test]
    fn a_vote_expires_once_and_waiting_does_not_count() {
        let mut coordinator = Coordinator::new(Some(Duration::from_secs(10)));
        let (first, _) = coordinator.request(SessionId(1), object(5), at(0));
        coordinator.request(SessionId(2), object(5), at(0));
        assert_eq!(coordinator.next_deadline(), Some(Duration::from_secs(10)));
        assert_eq!(coordinator.expire(at(9)), []);
        let expired = coordinator.expire(at(10));
        assert_eq!(expired, [Expired { session: SessionId(1), timeout: Duration::from_secs(10) }]);
        assert_eq!(coordinator.expire(at(11)), []);
        coordinator.release(first, at(12));
        assert_eq!(coordinator.next_deadline(), Some(Duration::from_secs(22)));
    }

    #[test]
    fn votes_that_expire_together_are_told_in_the_order_of_their_sessions() {
        let mut coordinator = Coordinator::new(Some(Duration::from_secs(10)));
        for number in 0..20 {
            coordinator.request(SessionId(number), object(number), at(0));
        }
        let expired = coordinator.expire(at(10)).into_iter().map(|expired| expired.session.0);
        assert_eq!(expired.collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
    }

    #[test]
    fn a_transaction_in_the_hands_of_the_log_writer_does_not_expire() {
        let mut coordinator = Coordinator::new(Some(Duration::from_secs(10)));
        let (transaction, _) = coordinator.request(SessionId(1), object(5), at(0));
        coordinator.finishing(transaction);
        assert_eq!(coordinator.expire(at(100)), []);
    }

    #[test]
    fn whoever_was_told_that_a_transaction_is_aborted_was_told_the_truth() {
        let mut coordinator = Coordinator::new(None);
        let (held, _) = coordinator.request(SessionId(1), object(5), at(0));
        coordinator.name(held, Bytes::from_static(b"held"));
        let (waiting, _) = coordinator.request(SessionId(2), object(5), at(0));
        coordinator.name(waiting, Bytes::from_static(b"waiting"));
        assert_eq!(coordinator.inquire(b"waiting"), Inquiry::Disowned(SessionId(2)));
        assert_eq!(coordinator.waiting(), 0);
        assert_eq!(coordinator.inquire(b"held"), Inquiry::Disowned(SessionId(1)));
        assert!(!coordinator.finishing(held), "its client may have said so before it went");
        assert_eq!(coordinator.release(held, at(1)).len(), 1);
        assert!(!coordinator.finishing(waiting));
        coordinator.release(waiting, at(1));
        assert_eq!((coordinator.inquire(b"held"), coordinator.waiting()), (Inquiry::NotOpen, 0));
    }

    #[test]
    fn what_the_log_writer_has_is_undecided_until_it_is_released() {
        let mut coordinator = Coordinator::new(None);
        let (transaction, _) = coordinator.request(SessionId(1), object(5), at(0));
        coordinator.name(transaction, Bytes::from_static(b"token"));
        assert!(coordinator.finishing(transaction));
        assert_eq!(coordinator.inquire(b"token"), Inquiry::Undecided);
        coordinator.release(transaction, at(1));
        assert_eq!(coordinator.inquire(b"token"), Inquiry::NotOpen);
    }

    #[test]
    fn after_a_failed_sync_only_what_is_open_can_be_given_up() {
        let mut coordinator = Coordinator::new(None);
        let (written, _) = coordinator.request(SessionId(1), object(5), at(0));
        coordinator.name(written, Bytes::from_static(b"written"));
        let (open, _) = coordinator.request(SessionId(2), object(6), at(0));
        coordinator.name(open, Bytes::from_static(b"open"));
        assert!(coordinator.finishing(written));
        coordinator.doubt();
        coordinator.release(written, at(1));
        assert_eq!(coordinator.inquire(b"written"), Inquiry::Undecided);
        assert_eq!(
            coordinator.inquire(b"open"),
            Inquiry::Disowned(SessionId(2)),
            "no log writer has seen it"
        );
    }

    #[test]
    fn the_status_tells_the_oldest_lock() {
        let mut coordinator = Coordinator::new(None);
        coordinator.request(SessionId(1), object(1), at(7));
        coordinator.request(SessionId(2), object(2), at(5));
        let mut status = ServerStatus::default();
        coordinator.fill(&mut status);
        assert_eq!(status.lock_time, Some(5.0));
    }
}
