//! Object locks: taken all at once or queued for, first come first served.
//!
//! A ticket is granted when it is the first in the queue of every object it names. Since a ticket joins
//! all its queues in one step, the order of any two tickets is the same in every queue they share, so
//! no set of tickets can wait in a circle. A ticket for the whole storage waits for all tickets
//! before it, and all tickets after it wait for it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use zeolith_storage::TransactionId;
use zeolith_types::Oid;

/// What a vote must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockSet {
    /// These objects, each once.
    Objects(Vec<Oid>),
    /// Everything: for transactions that can't name the objects they depend on.
    WholeStorage,
}

/// All tickets of one storage, granted or waiting.
#[derive(Debug, Default)]
pub(crate) struct LockTable {
    tickets: BTreeMap<TransactionId, Ticket>,
    queues: HashMap<Oid, Queue>,
    whole: BTreeSet<TransactionId>,
}

#[derive(Debug)]
struct Ticket {
    set: LockSet,
    /// In how many places somebody is before it.
    blockers: usize,
}

/// Who wants an object. Most objects are wanted by one ticket at a time, and that costs no allocation.
#[derive(Debug)]
enum Queue {
    One(TransactionId),
    Many(BTreeSet<TransactionId>),
}

impl LockTable {
    /// Queues a ticket, which must be newer than all before it; true if it is granted at once.
    pub(crate) fn request(&mut self, id: TransactionId, set: LockSet) -> bool {
        assert!(
            self.tickets.last_key_value().is_none_or(|(last, _)| *last < id),
            "tickets are numbered in the order in which they are asked for"
        );
        let blockers = match &set {
            LockSet::Objects(oids) => {
                let queues = &mut self.queues;
                let behind = oids.iter().filter(|oid| !join(queues, **oid, id)).count();
                behind + self.whole.len()
            }
            LockSet::WholeStorage => {
                self.whole.insert(id);
                self.tickets.len()
            }
        };
        self.tickets.insert(id, Ticket { set, blockers });
        blockers == 0
    }

    /// Takes a ticket out, granted or not; returns the tickets that are granted by that, oldest first.
    pub(crate) fn release(&mut self, id: TransactionId) -> Vec<TransactionId> {
        let Some(ticket) = self.tickets.remove(&id) else {
            return Vec::new();
        };
        let mut freed = Vec::new();
        match ticket.set {
            LockSet::Objects(oids) => {
                freed.extend(oids.iter().filter_map(|oid| leave(&mut self.queues, *oid, id)));
                freed.extend(self.whole.range(id..).copied());
            }
            LockSet::WholeStorage => {
                self.whole.remove(&id);
                freed.extend(self.tickets.range(id..).map(|(later, _)| *later));
            }
        }
        let mut granted = Vec::new();
        for later in freed {
            let ticket = self.tickets.get_mut(&later).expect("a queued ticket is in the table");
            ticket.blockers -= 1;
            if ticket.blockers == 0 {
                granted.push(later);
            }
        }
        granted.sort_unstable();
        granted
    }
}

/// Joins an object's queue; true if nobody is before.
fn join(queues: &mut HashMap<Oid, Queue>, oid: Oid, id: TransactionId) -> bool {
    match queues.entry(oid) {
        std::collections::hash_map::Entry::Vacant(free) => {
            free.insert(Queue::One(id));
            true
        }
        std::collections::hash_map::Entry::Occupied(mut taken) => {
            match taken.get_mut() {
                Queue::One(first) => {
                    let both = BTreeSet::from([*first, id]);
                    taken.insert(Queue::Many(both));
                }
                Queue::Many(all) => {
                    all.insert(id);
                }
            }
            false
        }
    }
}

/// Leaves an object's queue; returns who is first now, if `id` had been.
///
/// Only the first one's leaving frees somebody: a waiter behind the first has one blocker in this
/// queue, however many are before it, and keeps it until it is first itself.
fn leave(queues: &mut HashMap<Oid, Queue>, oid: Oid, id: TransactionId) -> Option<TransactionId> {
    let queue = queues.get_mut(&oid).expect("a ticket is in the queues of its objects");
    match queue {
        Queue::One(only) => {
            assert_eq!(*only, id, "a queue of one holds the ticket that leaves it");
            queues.remove(&oid);
            None
        }
        Queue::Many(all) => {
            let was_first = all.first() == Some(&id);
            all.remove(&id);
            let first = *all.first().expect("a queue of many held more than the one that leaves");
            if all.len() == 1 {
                *queue = Queue::One(first);
            }
            was_first.then_some(first)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(oids: &[u64]) -> LockSet {
        LockSet::Objects(oids.iter().map(|oid| Oid::new(*oid)).collect())
    }

    fn t(id: u64) -> TransactionId {
        TransactionId(id)
    }

    #[test]
    fn disjoint_transactions_hold_their_locks_together() {
        let mut locks = LockTable::default();
        assert!(locks.request(t(1), objects(&[1, 2])));
        assert!(locks.request(t(2), objects(&[3])));
    }

    #[test]
    fn the_next_in_line_gets_the_object_when_it_is_released() {
        let mut locks = LockTable::default();
        assert!(locks.request(t(1), objects(&[1])));
        assert!(!locks.request(t(2), objects(&[1])));
        assert!(!locks.request(t(3), objects(&[1])));
        assert_eq!(locks.release(t(1)), [t(2)]);
        assert_eq!(locks.release(t(2)), [t(3)]);
        assert_eq!(locks.release(t(3)), []);
        assert!(locks.queues.is_empty());
    }

    #[test]
    fn a_ticket_holds_nothing_until_it_can_hold_everything_but_keeps_its_place() {
        let mut locks = LockTable::default();
        assert!(locks.request(t(1), objects(&[1])));
        assert!(!locks.request(t(2), objects(&[1, 2])));
        assert!(!locks.request(t(3), objects(&[2])), "it came after 2, which wants the object too");
        assert_eq!(locks.release(t(1)), [t(2)]);
        assert_eq!(locks.release(t(2)), [t(3)]);
    }

    #[test]
    fn a_waiter_that_leaves_lets_those_behind_it_pass() {
        let mut locks = LockTable::default();
        assert!(locks.request(t(1), objects(&[1])));
        assert!(!locks.request(t(2), objects(&[1, 2])));
        assert!(!locks.request(t(3), objects(&[2])));
        assert_eq!(locks.release(t(2)), [t(3)]);
        assert_eq!(locks.release(t(1)), []);
    }

    #[test]
    fn the_whole_storage_waits_for_all_before_and_stops_all_after() {
        let mut locks = LockTable::default();
        assert!(locks.request(t(1), objects(&[1])));
        assert!(!locks.request(t(2), LockSet::WholeStorage));
        assert!(!locks.request(t(3), objects(&[9])));
        assert!(!locks.request(t(4), LockSet::WholeStorage));
        assert_eq!(locks.release(t(1)), [t(2)]);
        assert_eq!(locks.release(t(2)), [t(3)]);
        assert_eq!(locks.release(t(3)), [t(4)]);
    }

    #[test]
    fn two_holders_of_one_object_never_exist_however_tickets_come_and_go() {
        // A small random walk with a fixed seed; the model is "no two granted tickets share an object".
        let mut seed = 7_u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let mut locks = LockTable::default();
        let mut granted: BTreeMap<TransactionId, LockSet> = BTreeMap::new();
        let mut waiting: BTreeMap<TransactionId, LockSet> = BTreeMap::new();
        for number in 0..5_000 {
            let set = if random(20) == 0 {
                LockSet::WholeStorage
            } else {
                let oids: BTreeSet<u64> = (0..=random(3)).map(|_| random(8)).collect();
                objects(&oids.into_iter().collect::<Vec<_>>())
            };
            let id = t(number);
            if locks.request(id, set.clone()) {
                granted.insert(id, set);
            } else {
                waiting.insert(id, set);
            }
            while granted.len() + waiting.len() > 12 || (random(2) == 0 && !granted.is_empty()) {
                let all: Vec<_> = granted.keys().chain(waiting.keys()).copied().collect();
                let leaving = all[random(all.len() as u64) as usize];
                granted.remove(&leaving);
                waiting.remove(&leaving);
                for id in locks.release(leaving) {
                    let set = waiting.remove(&id).expect("only waiting tickets are granted");
                    granted.insert(id, set);
                }
            }
            assert_none_shared(&granted);
            assert!(!granted.is_empty() || waiting.is_empty(), "somebody can always go on");
        }
    }

    fn assert_none_shared(granted: &BTreeMap<TransactionId, LockSet>) {
        let mut held = BTreeSet::new();
        for set in granted.values() {
            match set {
                LockSet::WholeStorage => assert_eq!(granted.len(), 1, "the whole storage is held alone"),
                LockSet::Objects(oids) => {
                    for oid in oids {
                        assert!(held.insert(*oid), "{oid} is held twice");
                    }
                }
            }
        }
    }
}
