//! Conflicts at the vote: which records the resolver is shown, and what becomes of its answer.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use bytes::Bytes;
use std::sync::{Arc, Mutex};
use support::{Database, Folder, delete, set, store};
use zeolith_filestorage::Options;
use zeolith_storage::{
    ConflictPolicy, Disagreement, Patience, Resolution, ResolveRequest, Resolver, Storage, StorageError,
    Voted, Write,
};
use zeolith_types::{Oid, Tid};

/// Joins the three records, unless the new one says that it does not want to be joined; remembers what it saw.
#[derive(Debug, Default)]
struct Joiner {
    seen: Mutex<Vec<(Oid, Tid, Tid)>>,
}

impl Resolver for Joiner {
    fn may_know(&self, _: Oid, new: &Bytes) -> bool {
        new[..] != b"stranger"[..]
    }

    fn resolve(&self, conflict: &ResolveRequest<'_>) -> Resolution {
        self.seen.lock().unwrap().push((conflict.oid, conflict.committed_tid, conflict.read_tid));
        match &conflict.new[..] {
            b"refuse" => Resolution::Refused(Disagreement::Other("no".into())),
            b"unknown" => Resolution::NotMine,
            new => Resolution::Resolved(
                [&conflict.old[..], b"+", &conflict.committed[..], b"+", new].concat().into(),
            ),
        }
    }
}

fn open(folder: &Folder) -> (Database, Arc<Joiner>) {
    let joiner = Arc::new(Joiner::default());
    let options = Options { resolver: Some(Arc::<Joiner>::clone(&joiner)), ..Options::default() };
    (folder.try_open(options).unwrap().0, joiner)
}

/// Object 1 at three revisions.
fn thrice(database: &Database) -> [Tid; 3] {
    let first = database.commit(vec![store(1, Tid::ZERO, b"one")]);
    let second = database.commit(vec![store(1, first, b"two")]);
    [first, second, database.commit(vec![store(1, second, b"three")])]
}

fn conflict(database: &Database, write: Write) -> (Tid, Tid, Bytes) {
    match database.vote(set(vec![write])) {
        Err(StorageError::Conflict(conflict)) => (conflict.committed, conflict.read, conflict.data),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_resolved_record_is_stored_on_top_of_the_current_one_and_told_at_the_vote() {
    let folder = Folder::new();
    let (database, joiner) = open(&folder);
    let [first, _, third] = thrice(&database);
    let id = database.next_id();
    let writes = set(vec![store(1, first, b"mine"), store(2, Tid::ZERO, b"new")]);
    let voted = database.storage.vote(id, writes, ConflictPolicy::Refuse, Patience::Wait).unwrap();
    let (changed, resolved) = (vec![Oid::new(1), Oid::new(2)], vec![Oid::new(1)]);
    assert_eq!(voted, Voted::Ready { changed, resolved, undone: vec![] });
    assert_eq!(*joiner.seen.lock().unwrap(), [(Oid::new(1), third, first)]);
    let fourth = database.finish(id).unwrap();
    database.storage.publish(fourth);
    assert_eq!(database.current(1).unwrap(), b"one+three+mine");
    let history = database.storage.history(Oid::new(1), 9, Patience::Wait).unwrap();
    assert_eq!(history.len(), 4, "the record points to the one before it");
}

#[test]
fn a_conflict_that_nobody_resolves_stands_with_the_record_of_the_client() {
    let folder = Folder::new();
    let (database, _) = open(&folder);
    let [first, _, third] = thrice(&database);
    for new in [&b"refuse"[..], b"unknown"] {
        assert_eq!(conflict(&database, store(1, first, new)), (third, first, new.to_vec().into()));
    }
}

#[test]
fn a_revision_that_is_not_there_or_gone_is_nothing_to_resolve_from() {
    let folder = Folder::new();
    let (database, joiner) = open(&folder);
    let [_, second, third] = thrice(&database);
    let never = Tid::new(1);
    assert_eq!(conflict(&database, store(1, never, b"mine")), (third, never, "mine".into()));
    let gone = database.commit(vec![delete(1, third)]);
    assert_eq!(conflict(&database, store(1, second, b"mine")), (gone, second, "mine".into()));
    assert_eq!(conflict(&database, delete(1, second)).0, gone);
    assert!(joiner.seen.lock().unwrap().is_empty());
}

#[test]
fn clients_that_resolve_themselves_are_sent_the_conflict() {
    let folder = Folder::new();
    let (database, joiner) = open(&folder);
    let [first, ..] = thrice(&database);
    let id = database.next_id();
    let writes = set(vec![store(1, first, b"mine")]);
    let voted = database.storage.vote(id, writes, ConflictPolicy::Collect, Patience::Now);
    assert!(matches!(voted, Ok(Voted::Conflicts(conflicts)) if conflicts.len() == 1));
    assert!(joiner.seen.lock().unwrap().is_empty());
}

#[test]
fn a_resolver_is_never_asked_on_a_thread_that_serves_connections() {
    let folder = Folder::new();
    let (database, joiner) = open(&folder);
    let [first, ..] = thrice(&database);
    let id = database.next_id();
    let writes = set(vec![store(1, first, b"mine")]);
    let voted = database.storage.vote(id, writes, ConflictPolicy::Refuse, Patience::Now);
    assert!(matches!(voted, Err(StorageError::WouldBlock)), "{voted:?}");
    assert!(joiner.seen.lock().unwrap().is_empty());
}

/// Clients that compete for one object would wait for each other's trips to the pool of threads.
#[test]
fn what_no_resolver_knows_is_refused_at_once() {
    let folder = Folder::new();
    let (database, joiner) = open(&folder);
    let [first, ..] = thrice(&database);
    let writes = set(vec![store(1, first, b"stranger")]);
    let voted = database.storage.vote(database.next_id(), writes, ConflictPolicy::Refuse, Patience::Now);
    assert!(matches!(voted, Err(StorageError::Conflict(_))), "{voted:?}");
    assert!(joiner.seen.lock().unwrap().is_empty());
}

#[test]
fn an_undo_of_what_has_changed_since_is_resolved_too() {
    let folder = Folder::new();
    let (database, joiner) = open(&folder);
    let [_, second, third] = thrice(&database);
    database.commit(vec![Write::Undo { tid: second }]);
    assert_eq!(database.current(1).unwrap(), b"two+three+one", "from what is undone to what was before it");
    assert_eq!(*joiner.seen.lock().unwrap(), [(Oid::new(1), third, second)]);
}

#[test]
fn an_undo_that_nobody_resolves_fails() {
    let folder = Folder::new();
    let (database, _) = open(&folder);
    let first = database.commit(vec![store(1, Tid::ZERO, b"refuse")]);
    let second = database.commit(vec![store(1, first, b"two")]);
    database.commit(vec![store(1, second, b"three")]);
    let undone = database.vote(set(vec![Write::Undo { tid: second }]));
    assert!(matches!(undone, Err(StorageError::UndoOf(failures)) if failures.len() == 1));
}
