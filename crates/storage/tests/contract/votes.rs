//! What a vote lets pass, and what becomes of a transaction after it.

use super::{Subject, noon, revision, store};
use crate::{ConflictPolicy, Found, Patience, StorageError, TransactionId, Voted, Write, WriteSet};
use zeolith_types::{Conflict, Oid, Tid};

/// The error names object and both revisions, and brings the record along.
pub fn a_store_on_an_old_revision_conflicts(subject: &Subject) {
    let first = subject.commit(vec![store(1, Tid::ZERO, "one")]);
    let second = subject.commit(vec![store(1, first, "two")]);
    let error = subject.vote(vec![store(1, first, "late")]).unwrap_err();
    let StorageError::Conflict(conflict) = error else { panic!("{error}") };
    let expected = Conflict { oid: Oid::new(1), committed: second, read: first, data: "late".into() };
    assert_eq!(conflict, expected);
    assert!(subject.vote(vec![store(2, first, "new objects have no serial to compare")]).is_ok());
}

/// One conflict for each object, and nothing is voted.
pub fn all_conflicts_are_collected_when_asked_for(subject: &Subject) {
    let first =
        subject.commit(vec![store(1, Tid::ZERO, "a"), store(2, Tid::ZERO, "b"), store(3, Tid::ZERO, "c")]);
    subject.commit(vec![store(1, first, "A"), store(3, first, "C")]);
    let writes = vec![store(1, first, "x"), store(2, first, "y"), store(3, first, "z"), store(1, first, "w")];
    let writes = WriteSet { writes, ..WriteSet::default() };
    let (_, voted) = subject.vote_with(writes, ConflictPolicy::Collect).unwrap();
    let Voted::Conflicts(conflicts) = voted else { panic!("{voted:?}") };
    let mut oids: Vec<u64> = conflicts.iter().map(|conflict| conflict.oid.get()).collect();
    oids.sort_unstable();
    assert_eq!(oids, [1, 3]);
    assert_eq!(subject.current(Oid::new(2)).unwrap(), "b");
}

/// This is how a client says that it has resolved a conflict.
pub fn a_later_store_on_the_current_revision_clears_a_conflict(subject: &Subject) {
    let first = subject.commit(vec![store(1, Tid::ZERO, "one")]);
    let second = subject.commit(vec![store(1, first, "two")]);
    let writes = vec![store(1, first, "late"), store(1, second, "resolved")];
    let writes = WriteSet { writes, ..WriteSet::default() };
    let (id, voted) = subject.vote_with(writes, ConflictPolicy::Collect).unwrap();
    assert_eq!(voted, Voted::Ready { changed: vec![Oid::new(1)], resolved: vec![], undone: vec![] });
    let third = subject.finish(id);
    subject.storage.publish(third);
    assert_eq!(subject.found(Oid::new(1), Tid::MAX), revision("resolved", third, None));
    assert_eq!(subject.found(Oid::new(1), third), revision("two", second, Some(third)));
}

/// A check writes nothing and tells the others nothing.
pub fn a_check_of_an_old_revision_fails_the_vote(subject: &Subject) {
    let first = subject.commit(vec![store(1, Tid::ZERO, "one")]);
    let check = |serial| Write::Check { oid: Oid::new(1), serial };
    let (id, voted) = subject.vote(vec![check(first), store(2, Tid::ZERO, "two")]).unwrap();
    assert_eq!(voted, Voted::Ready { changed: vec![Oid::new(2)], resolved: vec![], undone: vec![] });
    subject.storage.abort(id);
    let second = subject.commit(vec![store(1, first, "newer")]);
    for policy in [ConflictPolicy::Refuse, ConflictPolicy::Collect] {
        let writes = WriteSet { writes: vec![check(first)], ..WriteSet::default() };
        let error = subject.vote_with(writes, policy).unwrap_err();
        let StorageError::ReadConflict { oid, committed, read } = error else { panic!("{error}") };
        assert_eq!((oid, committed, read), (Oid::new(1), second, first));
    }
    let unknown = subject.vote(vec![Write::Check { oid: Oid::new(9), serial: first }]);
    assert!(matches!(unknown, Err(StorageError::NoObject(oid)) if oid == Oid::new(9)));
}

/// The storage has forgotten it, so it can't be finished either.
pub fn a_failed_vote_leaves_nothing_behind(subject: &Subject) {
    let first = subject.commit(vec![store(1, Tid::ZERO, "one")]);
    let id = TransactionId(1_000_000);
    let writes =
        WriteSet { writes: vec![store(2, Tid::ZERO, "x"), store(1, Tid::ZERO, "y")], ..WriteSet::default() };
    assert!(subject.storage.vote(id, writes, ConflictPolicy::Refuse, Patience::Wait).is_err());
    assert!(subject.storage.finish(&[id], noon()).pop().unwrap().is_err());
    assert_eq!(subject.storage.last_transaction(), first);
    assert_eq!(subject.found(Oid::new(2), Tid::MAX), Found::NoObject);
}

/// Its objects stand as before.
pub fn an_aborted_transaction_leaves_nothing_behind(subject: &Subject) {
    let first = subject.commit(vec![store(1, Tid::ZERO, "one")]);
    let (id, _) = subject.vote(vec![store(1, first, "never"), store(2, Tid::ZERO, "never")]).unwrap();
    subject.storage.abort(id);
    subject.storage.abort(id);
    assert!(subject.storage.finish(&[id], noon()).pop().unwrap().is_err());
    assert_eq!(subject.found(Oid::new(1), Tid::MAX), revision("one", first, None));
    let second = subject.commit(vec![store(1, first, "two")]);
    assert_eq!(subject.found(Oid::new(1), second), revision("one", first, Some(second)));
    assert_eq!(subject.found(Oid::new(2), Tid::MAX), Found::NoObject);
}

/// Blobs are stored twice in one transaction.
pub fn the_last_store_of_an_object_counts(subject: &Subject) {
    let first = subject.commit(vec![store(1, Tid::ZERO, "one")]);
    let (id, voted) = subject.vote(vec![store(1, first, "two"), store(1, first, "three")]).unwrap();
    assert_eq!(voted, Voted::Ready { changed: vec![Oid::new(1)], resolved: vec![], undone: vec![] });
    let second = subject.finish(id);
    subject.storage.publish(second);
    assert_eq!(subject.found(Oid::new(1), Tid::MAX), revision("three", second, None));
    assert_eq!(subject.found(Oid::new(1), second), revision("one", first, Some(second)));
    assert_eq!(subject.storage.load_serial(Oid::new(1), second, Patience::Wait).unwrap(), "three");
}

/// The old revisions stay.
pub fn a_deleted_object_is_gone_from_then_on(subject: &Subject) {
    let first = subject.commit(vec![store(1, Tid::ZERO, "one")]);
    let delete = |serial| Write::Delete { oid: Oid::new(1), serial };
    if !subject.complete {
        assert!(matches!(subject.vote(vec![delete(first)]), Err(StorageError::Unsupported(_))));
        return;
    }
    assert!(matches!(subject.vote(vec![delete(Tid::ZERO)]), Err(StorageError::Conflict(_))));
    let second = subject.commit(vec![delete(first)]);
    assert_eq!(subject.found(Oid::new(1), Tid::MAX), Found::NoObject);
    assert_eq!(subject.found(Oid::new(1), second), revision("one", first, Some(second)));
    assert!(matches!(
        subject.storage.current_tid(Oid::new(1), Patience::Wait),
        Err(StorageError::NoObject(_))
    ));
    let check = Write::Check { oid: Oid::new(1), serial: second };
    assert!(matches!(subject.vote(vec![check]), Err(StorageError::NoObject(_))));
    let unknown = Write::Delete { oid: Oid::new(2), serial: Tid::ZERO };
    assert!(matches!(subject.vote(vec![unknown]), Err(StorageError::NoObject(_))));
    let third = subject.commit(vec![store(1, second, "back")]);
    assert_eq!(subject.found(Oid::new(1), Tid::MAX), revision("back", third, None));
    assert_eq!(subject.found(Oid::new(1), third), Found::NoObject);
}

/// So that a copy of a database has the same history.
pub fn a_restored_transaction_keeps_its_tid(subject: &Subject) {
    let tid = Tid::new(0x0300_0000_0000_0042);
    let restore = |data: Option<&str>| Write::Restore {
        oid: Oid::new(7),
        serial: tid,
        data: data.map(|data| data.to_owned().into()),
        prev_txn: None,
    };
    let writes =
        |write| WriteSet { tid: Some(tid), status: b'p', writes: vec![write], ..WriteSet::default() };
    let voted = subject.vote_with(writes(restore(Some("copy"))), ConflictPolicy::Refuse);
    if !subject.complete {
        assert!(matches!(voted, Err(StorageError::Unsupported(_))));
        return;
    }
    let (id, voted) = voted.unwrap();
    assert_eq!(voted, Voted::Ready { changed: vec![Oid::new(7)], resolved: vec![], undone: vec![] });
    assert_eq!(subject.finish(id), tid);
    subject.storage.publish(tid);
    assert_eq!(subject.found(Oid::new(7), Tid::MAX), revision("copy", tid, None));
    assert_eq!(subject.storage.last_transaction(), tid);
    let info = subject.storage.iterate(None, None).unwrap().next_transaction().unwrap().unwrap();
    assert_eq!((info.tid, info.status), (tid, b'p'));
    assert!(subject.storage.new_oids(1).first().unwrap().get() > 7);
}

/// The error is its own and does not touch the others of the batch.
pub fn what_was_never_voted_can_not_be_finished(subject: &Subject) {
    let (good, _) = subject.vote(vec![store(1, Tid::ZERO, "one")]).unwrap();
    let results = subject.storage.finish(&[TransactionId(999), good, good], noon());
    let [stranger, first, again] = results.as_slice() else { panic!("three results") };
    assert!(stranger.is_err() && again.is_err());
    subject.storage.publish(*first.as_ref().unwrap());
    assert_eq!(subject.current(Oid::new(1)).unwrap(), "one");
}
