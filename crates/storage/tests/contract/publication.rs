//! When a transaction gets its tid, and when it is seen.

use super::{Subject, noon, revision, store};
use crate::{Found, Patience, WriteSet};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use zeolith_types::{Oid, Tid, Timestamp};

/// Neither as a revision nor as the end of one, nor in any list.
pub fn nobody_sees_a_transaction_before_it_is_published(subject: &Subject) {
    let first = subject.commit(vec![store(1, Tid::ZERO, "one")]);
    let (id, _) = subject.vote(vec![store(1, first, "two"), store(2, Tid::ZERO, "new")]).unwrap();
    let second = subject.finish(id);
    let load = subject.storage.load_before(Oid::new(1), Tid::MAX, Patience::Wait).unwrap();
    assert_eq!((load.found, load.as_of), (revision("one", first, None), first));
    assert_eq!(subject.found(Oid::new(2), Tid::MAX), Found::NoObject);
    assert_eq!(subject.storage.last_transaction(), first);
    assert_eq!(subject.storage.current_tid(Oid::new(1), Patience::Wait).unwrap(), first);
    assert_eq!(subject.storage.history(Oid::new(1), 9, Patience::Wait).unwrap().len(), 1);
    assert!(subject.storage.load_serial(Oid::new(1), second, Patience::Wait).is_err());
    assert_eq!(subject.storage.last_changes(9).unwrap().len(), 1);
    assert_eq!(subject.storage.changes_since(first, 9).unwrap().unwrap().oids, []);
    subject.storage.publish(second);
    let load = subject.storage.load_before(Oid::new(1), Tid::MAX, Patience::Wait).unwrap();
    assert_eq!((load.found, load.as_of), (revision("two", second, None), second));
    assert_eq!(subject.found(Oid::new(1), second), revision("one", first, Some(second)));
    assert_eq!(subject.current(Oid::new(2)).unwrap(), "new");
    assert_eq!(subject.storage.last_transaction(), second);
}

/// The clock decides only if it is ahead.
pub fn tids_rise_while_the_clock_stands_still_or_goes_back(subject: &Subject) {
    let noon = noon().since_epoch();
    let mut last = Tid::ZERO;
    for seconds in [0, 0, 1, 0, 5, 4] {
        let now = Timestamp::from_epoch(noon + Duration::from_secs(seconds));
        let (id, _) = subject.vote(vec![]).unwrap();
        let tid = subject.storage.finish(&[id], now).pop().unwrap().unwrap();
        assert_eq!(tid, now.to_tid().later_than(last));
        assert!(tid > last);
        subject.storage.publish(tid);
        last = tid;
    }
}

/// Publishing one shows none of the later ones.
pub fn a_batch_gets_rising_tids_in_its_order(subject: &Subject) {
    let ids: Vec<_> =
        (0..3).map(|oid| subject.vote(vec![store(oid, Tid::ZERO, &oid.to_string())]).unwrap().0).collect();
    let [a, b, c] = ids.as_slice() else { panic!("three") };
    let tids: Vec<Tid> =
        subject.storage.finish(&[*c, *a, *b], noon()).into_iter().map(|tid| tid.unwrap()).collect();
    assert!(tids.is_sorted() && tids.first() < tids.last());
    for (tid, (shown, hidden)) in tids.iter().zip([(2, Some(0)), (0, Some(1)), (1, None)]) {
        subject.storage.publish(*tid);
        assert_eq!(subject.found(Oid::new(shown), Tid::MAX), revision(&shown.to_string(), *tid, None));
        assert_eq!(subject.storage.last_transaction(), *tid);
        if let Some(hidden) = hidden {
            assert_eq!(subject.found(Oid::new(hidden), Tid::MAX), Found::NoObject);
        }
    }
}

/// It has a tid and metadata like any other.
pub fn an_empty_transaction_is_a_transaction(subject: &Subject) {
    let writes = WriteSet { user: "nobody".into(), ..WriteSet::default() };
    let (id, _) = subject.vote_with(writes, crate::ConflictPolicy::Refuse).unwrap();
    let tid = subject.finish(id);
    subject.storage.publish(tid);
    assert_eq!(subject.storage.last_transaction(), tid);
    assert_eq!(subject.storage.last_changes(5).unwrap(), [(tid, vec![])]);
    let mut transactions = subject.storage.iterate(None, None).unwrap();
    let info = transactions.next_transaction().unwrap().unwrap();
    assert_eq!((info.tid, info.status, info.user), (tid, b' ', "nobody".into()));
    assert!(transactions.records().unwrap().next_record().unwrap().is_none());
}

/// While one thread commits pairs, the others always find both halves equal as of what the load says.
pub fn readers_see_all_of_a_transaction_or_nothing(subject: &Subject) {
    let mut last = subject.commit(vec![store(1, Tid::ZERO, "0"), store(2, Tid::ZERO, "0")]);
    let storage = &subject.storage;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut seen = Tid::ZERO;
                while !done.load(Ordering::Relaxed) {
                    let one = storage.load_before(Oid::new(1), Tid::MAX, Patience::Wait).unwrap();
                    let Found::Revision(left) = one.found else { panic!("{one:?}") };
                    assert!(one.as_of >= seen && left.start <= one.as_of && left.end.is_none());
                    seen = one.as_of;
                    let bound = Tid::new(left.start.get() + 1);
                    let two = storage.load_before(Oid::new(2), bound, Patience::Wait).unwrap();
                    let Found::Revision(right) = two.found else { panic!("{two:?}") };
                    assert_eq!((left.start, left.data), (right.start, right.data));
                    assert!(right.end.is_none_or(|end| end <= two.as_of));
                }
            });
        }
        for round in 1..300 {
            let data = round.to_string();
            last = subject.commit(vec![store(1, last, &data), store(2, last, &data)]);
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// Not those given out, and not those that a client chose itself.
pub fn new_oids_are_never_used_ones(subject: &Subject) {
    let first = subject.storage.new_oids(3);
    let second = subject.storage.new_oids(2);
    assert!(first.len() == 3 && second.len() == 2);
    assert!(first.first() > Some(&Oid::ZERO) && first.last() < second.first());
    subject.commit(vec![store(1000, Tid::ZERO, "chosen")]);
    assert!(subject.storage.new_oids(1).first() > Some(&Oid::new(1000)));
    subject.commit(vec![store(u64::MAX, Tid::ZERO, "the last there is")]);
    let next = subject.storage.new_oids(2);
    assert!(next.first() > Some(&Oid::new(1000)) && next.last() < Some(&Oid::new(u64::MAX)));
}
