//! Walks through transactions and objects.

use super::{Subject, after, store};
use crate::{ConflictPolicy, Patience, Storage, StorageError, Write, WriteSet};
use zeolith_types::{Oid, Tid};

/// Metadata and records. Of an object that was stored twice both records, or the last one in the place of the first.
pub fn iteration_shows_what_was_stored_in_order(subject: &Subject) {
    let writes = WriteSet {
        user: "ünï".into(),
        description: "first".into(),
        extension: "\u{80}\u{3}}".into(),
        writes: vec![store(2, Tid::ZERO, "two"), store(1, Tid::ZERO, "one"), store(2, Tid::ZERO, "TWO")],
        ..WriteSet::default()
    };
    let (id, _) = subject.vote_with(writes.clone(), ConflictPolicy::Refuse).unwrap();
    let tid = subject.finish(id);
    subject.storage.publish(tid);
    let mut transactions = subject.storage.iterate(None, None).unwrap();
    let info = transactions.next_transaction().unwrap().unwrap();
    assert_eq!((info.tid, info.status, info.user), (tid, b' ', writes.user));
    assert_eq!((info.description, info.extension), (writes.description, writes.extension));
    let mut records = transactions.records().unwrap();
    let mut shown = Vec::new();
    while let Some(record) = records.next_record().unwrap() {
        assert_eq!((record.tid, record.data_txn), (tid, None));
        shown.push((record.oid.get(), String::from_utf8(record.data.unwrap().to_vec()).unwrap()));
    }
    let expected = |records: &[(u64, &str)]| -> Vec<(u64, String)> {
        records.iter().map(|(oid, data)| (*oid, (*data).to_owned())).collect()
    };
    let all = expected(&[(2, "two"), (1, "one"), (2, "TWO")]);
    assert!(shown == all || shown == expected(&[(2, "TWO"), (1, "one")]), "{shown:?}");
    assert!(records.next_record().unwrap().is_none());
    assert!(transactions.next_transaction().unwrap().is_none());
    assert!(transactions.next_transaction().unwrap().is_none());
}

/// Bounds need not be tids of transactions.
pub fn iteration_includes_both_bounds(subject: &Subject) {
    let tids: Vec<Tid> = (0..20).map(|oid| subject.commit(vec![store(oid, Tid::ZERO, "x")])).collect();
    let before = |tid: Tid| Tid::new(tid.get() - 1);
    for first in 0..tids.len() {
        for last in [first, 19] {
            let expected = &tids[first..=last];
            assert_eq!(listed(&*subject.storage, tids[first], tids[last]), expected);
        }
    }
    // The clock stood still, so the tids are neighbours: one below the first is nobody's.
    assert_eq!(listed(&*subject.storage, before(tids[0]), tids[2]), tids[..3]);
    assert_eq!(listed(&*subject.storage, before(tids[0]), before(tids[0])), []);
    assert_eq!(listed(&*subject.storage, after(tids[19]), Tid::MAX), []);
    assert_eq!(listed(&*subject.storage, tids[5], tids[4]), []);
}

/// What is committed meanwhile is for the next iteration.
pub fn iteration_ends_where_it_was_published_at_its_start(subject: &Subject) {
    let first = subject.commit(vec![store(1, Tid::ZERO, "one")]);
    let mut transactions = subject.storage.iterate(None, None).unwrap();
    let (id, _) = subject.vote(vec![store(1, first, "two")]).unwrap();
    let second = subject.finish(id);
    assert_eq!(listed(&*subject.storage, Tid::ZERO, Tid::MAX), [first]);
    subject.storage.publish(second);
    assert_eq!(transactions.next_transaction().unwrap().unwrap().tid, first);
    assert!(transactions.next_transaction().unwrap().is_none());
    assert_eq!(listed(&*subject.storage, Tid::ZERO, Tid::MAX), [first, second]);
}

/// More objects than the bound is "can't tell".
pub fn changes_are_told_up_to_a_bound(subject: &Subject) {
    let changes = |after, oids_max| {
        let changes = subject.storage.changes_since(after, oids_max).unwrap()?;
        let mut oids: Vec<u64> = changes.oids.iter().map(|oid| oid.get()).collect();
        oids.sort_unstable();
        Some((changes.through, oids))
    };
    assert_eq!(changes(Tid::ZERO, 0), Some((Tid::ZERO, vec![])));
    let first = subject.commit(vec![store(1, Tid::ZERO, "a"), store(2, Tid::ZERO, "b")]);
    let second = subject.commit(vec![store(1, first, "A")]);
    let third = subject.commit(vec![store(3, Tid::ZERO, "c"), store(1, second, "AA")]);
    assert_eq!(changes(Tid::ZERO, 3), Some((third, vec![1, 2, 3])));
    assert_eq!(changes(Tid::ZERO, 2), None);
    assert_eq!(changes(first, 2), Some((third, vec![1, 3])));
    assert_eq!(changes(second, 9), Some((third, vec![1, 3])));
    assert_eq!(changes(third, 0), Some((third, vec![])));
    assert_eq!(changes(Tid::MAX, 0), Some((third, vec![])));
}

/// With the objects of each, each once.
pub fn the_last_changes_come_oldest_first(subject: &Subject) {
    let before_all = subject.storage.last_changes(3).unwrap();
    assert!(before_all.is_empty() || before_all == [(Tid::ZERO, vec![])], "{before_all:?}");
    let first = subject.commit(vec![store(1, Tid::ZERO, "a")]);
    let second = subject.commit(vec![store(2, Tid::ZERO, "b"), store(2, Tid::ZERO, "bb")]);
    let third = subject.commit(vec![store(1, first, "c")]);
    let (one, two) = (Oid::new(1), Oid::new(2));
    assert_eq!(subject.storage.last_changes(2).unwrap(), [(second, vec![two]), (third, vec![one])]);
    assert_eq!(subject.storage.last_changes(99).unwrap().len(), 3);
    assert!(subject.storage.last_changes(0).unwrap().is_empty());
}

/// Deleted objects are passed over, and the last record says that it is the last.
pub fn current_records_come_in_the_order_of_their_oids(subject: &Subject) {
    if !subject.complete {
        let answer = subject.storage.record_iternext(None, Patience::Wait);
        assert!(matches!(answer, Err(StorageError::Unsupported(_))));
        return;
    }
    let answer = subject.storage.record_iternext(None, Patience::Wait);
    assert!(matches!(answer, Err(StorageError::Empty(_))));
    let oids = [70_000, 3, 0, 1_u64 << 40, 4, 5];
    let first = subject.commit(oids.iter().map(|oid| store(*oid, Tid::ZERO, &oid.to_string())).collect());
    let delete = |oid| Write::Delete { oid: Oid::new(oid), serial: first };
    subject.commit(vec![delete(4), delete(1 << 40)]);
    let (mut next, mut seen) = (None, Vec::new());
    loop {
        let record = subject.storage.record_iternext(next, Patience::Wait).unwrap();
        assert_eq!((record.tid, record.data), (first, record.oid.get().to_string().into()));
        seen.push(record.oid.get());
        next = record.next;
        if next.is_none() {
            break;
        }
    }
    assert_eq!(seen, [0, 3, 5, 70_000]);
}

fn listed(storage: &dyn Storage, start: Tid, stop: Tid) -> Vec<Tid> {
    let mut transactions = storage.iterate(Some(start), Some(stop)).unwrap();
    std::iter::from_fn(|| transactions.next_transaction().unwrap().map(|info| info.tid)).collect()
}
