//! The order in which transactions became visible, kept for everybody who reads along.
//!
//! There is one log for a storage, not a queue for each session: a session remembers the tid up to which
//! it has been told, and takes what comes after from here. The same entries answer
//! `getInvalidations`. A session that falls further behind than the log reaches back is cut off, so a
//! client that does not read costs nobody anything.

use crate::SessionId;
use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};
use zeolith_types::{Oid, Tid, Timestamp};

/// One transaction that became visible.
#[derive(Debug, PartialEq, Eq)]
pub struct Publication {
    /// The transaction.
    pub tid: Tid,
    /// The objects it changed.
    pub oids: Arc<[Oid]>,
    /// Whose transaction it was; that session gets its reply instead of a notice.
    pub committer: Option<SessionId>,
}

/// The newest publications of one storage, in the order of their tids.
#[derive(Debug)]
pub struct PublicationLog {
    entries: VecDeque<Arc<Publication>>,
    /// Everything after this tid is in `entries`.
    complete_after: Tid,
    /// How many entries `getInvalidations` answers from.
    queue_size: usize,
    /// How many entries a session may be behind before it is cut off.
    lag_max: usize,
    /// Oids in all entries.
    oids: usize,
    /// How many entries the last two batches brought, the newer one last.
    batches: [usize; 2],
}

/// A session wants more than the log remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lagged;

impl PublicationLog {
    /// A log that starts with what the storage remembers, oldest first. `last` is the storage's last
    /// transaction; `queue_size` is the option `invalidation-queue-size`, `lag_max` is `client-lag-max`.
    #[must_use]
    pub fn new(queue_size: usize, lag_max: usize, last: Tid, remembered: Vec<(Tid, Vec<Oid>)>) -> Self {
        let mut log = Self {
            entries: VecDeque::new(),
            complete_after: last,
            queue_size,
            lag_max,
            oids: 0,
            batches: [0; 2],
        };
        for (tid, oids) in remembered {
            log.push(Publication { tid, oids: oids.into(), committer: None });
        }
        log.trim();
        // What the storage remembered is complete only after its oldest entry; sessions start at `last`.
        log
    }

    /// Appends transactions that become visible together. Their tids rise, and are greater than all before.
    ///
    /// Nobody can have been told of them before, so none of them is forgotten at once, however many they are; nor is
    /// what came with the batch before, which sessions may be busy telling.
    pub fn append(&mut self, batch: impl IntoIterator<Item = Publication>) {
        let before = self.entries.len();
        for publication in batch {
            assert!(
                self.entries.back().is_none_or(|last| last.tid < publication.tid),
                "transactions are published in the order of their tids"
            );
            self.push(publication);
        }
        if self.entries.len() > before {
            self.batches = [self.batches[1], self.entries.len() - before];
        }
        self.trim();
    }

    fn push(&mut self, publication: Publication) {
        self.oids += publication.oids.len();
        self.entries.push_back(Arc::new(publication));
    }

    /// Forgets what is too much.
    fn trim(&mut self) {
        let kept = self.queue_size.max(self.batches.iter().sum()).max(1);
        while self.entries.len() > kept && (self.entries.len() > self.lag_max.max(1) || self.oids > OIDS_MAX)
        {
            if let Some(dropped) = self.entries.pop_front() {
                self.oids -= dropped.oids.len();
                self.complete_after = self.complete_after.max(dropped.tid);
            }
        }
    }

    /// What was published after `after`, up to and including `through`.
    ///
    /// # Errors
    /// [`Lagged`] if the log does not reach back to `after`.
    pub fn between(
        &self,
        after: Tid,
        through: Tid,
    ) -> Result<impl Iterator<Item = &Arc<Publication>>, Lagged> {
        if after < self.complete_after && after < through {
            return Err(Lagged);
        }
        Ok(self.entries.range(self.first_after(after)..).take_while(move |entry| entry.tid <= through))
    }

    /// Where the first transaction after `after` is. Nearly always that is at the end or close to it, so the search
    /// goes back from there in growing steps, and leaves alone what nobody has looked at for long.
    fn first_after(&self, after: Tid) -> usize {
        let is_after = |place: usize| self.entries.get(place).is_some_and(|entry| entry.tid > after);
        let (mut start, mut end, mut step) = (self.entries.len(), self.entries.len(), 1);
        while start > 0 && start == end {
            start = end.saturating_sub(step);
            if is_after(start) {
                (end, step) = (start, step * 2);
            }
        }
        // All from `end` on are after it, and what is before `start` is not.
        while start < end {
            let middle = start.midpoint(end);
            if is_after(middle) { end = middle } else { start = middle + 1 }
        }
        end
    }

    /// The first transaction after `after`, up to and including `through`, that changed `oid`.
    ///
    /// # Errors
    /// [`Lagged`] if the log does not reach back to `after`.
    pub fn first_change(&self, oid: Oid, after: Tid, through: Tid) -> Result<Option<Tid>, Lagged> {
        let mut changes = self.between(after, through)?;
        Ok(changes.find(|entry| entry.oids.contains(&oid)).map(|entry| entry.tid))
    }

    /// The answer to `getInvalidations`: the newest tid and all oids changed after `after`, each once.
    /// `None` if the queue does not reach back that far: its oldest entry must not be newer than `after`,
    /// for an off-by-one here loses invalidations without anybody noticing.
    ///
    /// `through` is the last transaction that readers see. What is in the log already but not visible yet is
    /// left out, or the client would believe itself further than the loads that it is answered next.
    #[must_use]
    pub fn changes_since(&self, after: Tid, through: Tid) -> Option<(Tid, Vec<Oid>)> {
        let end = self.first_after(through);
        let visible = self.entries.range(end.saturating_sub(self.queue_size)..end);
        if visible.clone().next()?.tid > after {
            return None;
        }
        let newest = visible.clone().next_back()?.tid;
        let mut seen = HashSet::new();
        let newer = visible.filter(|entry| entry.tid > after);
        let oids = newer.flat_map(|entry| entry.oids.iter().copied()).filter(|oid| seen.insert(*oid));
        Some((newest, oids.collect()))
    }
}

/// How long a client has been away that knows everything up to `last`. The option `invalidation-age` bounds
/// it (measured from now, whatever the reference's documents say).
#[must_use]
pub fn time_away(last: Tid, now: Timestamp) -> Duration {
    now.since_epoch().saturating_sub(Timestamp::from_tid(last).since_epoch())
}

/// The log forgets transactions that changed more objects than this in all (8 bytes each).
const OIDS_MAX: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn published(tid: u64, oids: &[u64]) -> Publication {
        Publication {
            tid: Tid::new(tid),
            oids: oids.iter().map(|oid| Oid::new(*oid)).collect(),
            committer: None,
        }
    }

    fn log(queue_size: usize, tids: std::ops::RangeInclusive<u64>) -> PublicationLog {
        let mut log = PublicationLog::new(queue_size, 10_000, Tid::ZERO, Vec::new());
        tids.for_each(|tid| log.append([published(tid, &[tid])]));
        log
    }

    #[test]
    fn a_session_is_told_what_came_after_its_tid_and_no_more_than_it_asks() {
        let log = log(100, 1..=5);
        let tids: Vec<_> =
            log.between(Tid::new(2), Tid::new(4)).unwrap().map(|entry| entry.tid.get()).collect();
        assert_eq!(tids, [3, 4]);
    }

    #[test]
    fn wherever_a_session_is_the_search_finds_what_comes_next() {
        for len in 0..20 {
            let log = log(100, 1..=len);
            for after in 0..=len + 1 {
                let found: Vec<_> =
                    log.between(Tid::new(after), Tid::MAX).unwrap().map(|entry| entry.tid.get()).collect();
                assert_eq!(found, (after + 1..=len).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn the_queue_answers_from_its_oldest_entry_on() {
        let log = log(3, 1..=5);
        assert_eq!(
            log.changes_since(Tid::new(2), Tid::MAX),
            None,
            "entry 3 is newer than what the client knows"
        );
        let (tid, oids) = log.changes_since(Tid::new(3), Tid::MAX).unwrap();
        assert_eq!((tid.get(), oids), (5, vec![Oid::new(4), Oid::new(5)]));
        assert_eq!(log.changes_since(Tid::new(5), Tid::MAX), Some((Tid::new(5), vec![])));
    }

    /// A client that believed itself at 5 would then load objects as of 4 and take them for those of 5.
    #[test]
    fn what_readers_do_not_see_yet_is_not_told_to_a_client_that_returns() {
        let log = log(2, 1..=5);
        assert_eq!(log.changes_since(Tid::new(3), Tid::new(4)), Some((Tid::new(4), vec![Oid::new(4)])));
        assert_eq!(log.changes_since(Tid::new(4), Tid::new(4)), Some((Tid::new(4), vec![])));
        assert_eq!(log.changes_since(Tid::new(2), Tid::new(4)), None);
    }

    #[test]
    fn a_queue_of_size_zero_remembers_nothing() {
        assert_eq!(log(0, 1..=5).changes_since(Tid::new(5), Tid::MAX), None);
    }

    #[test]
    fn an_oid_changed_twice_is_told_once() {
        let mut log = log(10, 1..=1);
        log.append([published(2, &[7, 8])]);
        log.append([published(3, &[7])]);
        let (_, oids) = log.changes_since(Tid::new(1), Tid::MAX).unwrap();
        assert_eq!(oids, [Oid::new(7), Oid::new(8)]);
    }

    #[test]
    fn who_lags_too_far_behind_is_told_so() {
        let log = log(1, 1..=10_005);
        assert!(log.between(Tid::new(2), Tid::new(9)).is_err());
        assert!(log.between(Tid::new(5), Tid::new(9)).is_ok());
        assert_eq!(log.first_change(Oid::new(9), Tid::new(5), Tid::new(20)), Ok(Some(Tid::new(9))));
        assert_eq!(log.first_change(Oid::new(9), Tid::new(9), Tid::new(20)), Ok(None));
    }

    /// Else a batch of commits larger than `client-lag-max` would cut off everybody, its own committers included.
    #[test]
    fn nobody_lags_who_has_been_told_of_all_but_the_last_two_batches() {
        let mut log = PublicationLog::new(0, 2, Tid::ZERO, Vec::new());
        for batch in [1..=1, 2..=6, 7..=9] {
            log.append(batch.map(|tid| published(tid, &[tid])));
        }
        let tids: Vec<_> =
            log.between(Tid::new(1), Tid::new(9)).unwrap().map(|entry| entry.tid.get()).collect();
        assert_eq!(tids, [2, 3, 4, 5, 6, 7, 8, 9]);
        assert!(log.between(Tid::ZERO, Tid::new(9)).is_err());
        log.append([published(10, &[10])]);
        assert!(log.between(Tid::new(5), Tid::new(10)).is_err());
        log.append([published(11, &[11])]);
        assert!(log.between(Tid::new(8), Tid::new(11)).is_err(), "it does not keep more than it must");
    }

    #[test]
    fn a_log_started_from_a_storage_lets_sessions_join_at_its_last_transaction() {
        let remembered = vec![(Tid::new(8), vec![Oid::new(1)]), (Tid::new(9), vec![Oid::new(2)])];
        let log = PublicationLog::new(100, 10_000, Tid::new(9), remembered);
        assert_eq!(log.changes_since(Tid::new(8), Tid::MAX), Some((Tid::new(9), vec![Oid::new(2)])));
        assert!(log.between(Tid::new(9), Tid::new(9)).is_ok());
    }
}
