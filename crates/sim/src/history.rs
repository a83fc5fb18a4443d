//! The model: what every object was after every commit, as a map. Storage, server and caches are compared
//! with it.

use crate::checks::{Checks, Invariant};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use zeolith_storage::{Found, Load, Patience, RecordData, Storage, Write, WriteSet};
use zeolith_types::{Oid, Tid};

/// The objects of a commit, with their records; `None` is a deletion.
pub(crate) type Changes = BTreeMap<Oid, Option<Bytes>>;

/// A commit that nothing may change any more.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    /// Its description, by which it is known before it has a tid.
    pub(crate) label: Bytes,
    pub(crate) changes: Changes,
}

/// All commits that the storage has called durable, and those that it may have written.
#[derive(Debug, Default)]
pub(crate) struct History {
    commits: BTreeMap<Tid, Commit>,
    revisions: BTreeMap<Oid, BTreeMap<Tid, Option<Bytes>>>,
    /// Handed to the storage for writing, with an outcome that nobody was told.
    doubtful: BTreeMap<Bytes, Changes>,
}

/// What a look into the model finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Revision { start: Tid, end: Option<Tid>, data: Bytes },
    NothingBefore,
    NoObject,
}

impl History {
    /// The storage says that it is durable.
    pub(crate) fn commit(&mut self, tid: Tid, writes: &WriteSet, checks: &mut Checks) {
        let last = self.last();
        checks.ensure(tid > last, Invariant::TidsRise, || format!("{tid} was given after {last}"));
        self.doubtful.remove(&writes.description);
        self.enter(tid, Commit { label: writes.description.clone(), changes: changes(writes) });
    }

    fn enter(&mut self, tid: Tid, commit: Commit) {
        for (oid, data) in &commit.changes {
            self.revisions.entry(*oid).or_default().insert(tid, data.clone());
        }
        self.commits.insert(tid, commit);
    }

    /// Its fate will be known when the storage is opened again.
    pub(crate) fn doubt(&mut self, writes: &WriteSet) {
        self.doubtful.insert(writes.description.clone(), changes(writes));
    }

    pub(crate) fn last(&self) -> Tid {
        self.commits.last_key_value().map_or(Tid::ZERO, |(tid, _)| *tid)
    }

    pub(crate) fn get(&self, tid: Tid) -> Option<&Commit> {
        self.commits.get(&tid)
    }

    pub(crate) fn next_after(&self, tid: Tid) -> Option<Tid> {
        self.commits
            .range((std::ops::Bound::Excluded(tid), std::ops::Bound::Unbounded))
            .next()
            .map(|(tid, _)| *tid)
    }

    /// The tids up to `through`.
    pub(crate) fn tids(&self, through: Tid) -> impl Iterator<Item = Tid> + '_ {
        self.commits.range(..=through).map(|(tid, _)| *tid)
    }

    /// All objects changed after `after`, up to and including `through`.
    pub(crate) fn changed(&self, after: Tid, through: Tid) -> BTreeSet<Oid> {
        let commits = self.commits.range(..=through).filter(|(tid, _)| **tid > after);
        commits.flat_map(|(_, commit)| commit.changes.keys().copied()).collect()
    }

    pub(crate) fn objects(&self) -> impl Iterator<Item = Oid> + '_ {
        self.revisions.keys().copied()
    }

    /// The newest revision of `oid` before `before`, as one sees it who knows of everything up to `as_of`.
    pub(crate) fn load_before(&self, oid: Oid, before: Tid, as_of: Tid) -> Known {
        let Some(revisions) = self.revisions.get(&oid) else { return Known::NoObject };
        let mut seen = revisions.range(..=as_of).peekable();
        if seen.peek().is_none() {
            return Known::NoObject;
        }
        let mut found = None;
        for (tid, data) in seen {
            if *tid >= before {
                return found.map_or(Known::NothingBefore, |(start, data)| known(start, Some(*tid), data));
            }
            found = Some((*tid, data));
        }
        found.map_or(Known::NothingBefore, |(start, data)| known(start, None, data))
    }

    /// After a restart: everything that was durable is there and unchanged, and what comes after it are
    /// whole transactions that had been handed in.
    pub(crate) fn compare(&mut self, storage: &dyn Storage, checks: &mut Checks) -> Result<(), String> {
        let stored = read_all(storage).map_err(|error| format!("reading the storage: {error}"))?;
        let mut expected = self.commits.clone().into_iter();
        let mut new = Vec::new();
        for (tid, commit) in stored {
            match expected.next() {
                Some((known_tid, known)) => {
                    let same =
                        known_tid == tid && known.label == commit.label && known.changes == commit.changes;
                    checks.ensure(same, Invariant::ThePastIsImmutable, || {
                        format!(
                            "the file says {tid} {:?}, the history {known_tid} {:?}",
                            commit.label, known.label
                        )
                    });
                }
                None => new.push((tid, commit)),
            }
            if checks.has_failed() {
                return Ok(());
            }
        }
        if let Some((tid, commit)) = expected.next() {
            checks.fail(Invariant::DurableBeforeTold, format!("{tid} {:?} is lost", commit.label));
        }
        for (tid, commit) in new {
            let handed_in = self.doubtful.get(&commit.label);
            checks.ensure(handed_in == Some(&commit.changes), Invariant::NoneIsHalfThere, || {
                format!("{tid} {:?} in the file is not what a client wanted", commit.label)
            });
            checks.ensure(tid > self.last(), Invariant::TidsRise, || {
                format!("{tid} does not rise in the file")
            });
            self.enter(tid, commit);
        }
        self.doubtful.clear();
        let (said, last) = (storage.last_transaction(), self.last());
        checks.ensure(said == last, Invariant::DurableBeforeTold, || {
            format!("the storage says that its last transaction is {said}, it is {last}")
        });
        self.compare_loads(storage, checks);
        Ok(())
    }

    /// Every object at its newest and at one older revision.
    fn compare_loads(&self, storage: &dyn Storage, checks: &mut Checks) {
        for (oid, revisions) in &self.revisions {
            let newest = revisions.last_key_value().map_or(Tid::ZERO, |(tid, _)| *tid);
            for before in [Tid::MAX, newest] {
                let load = storage.load_before(*oid, before, Patience::Wait);
                let found = load.as_ref().map(found);
                let known = self.load_before(*oid, before, self.last());
                checks.ensure(
                    found.as_ref().is_ok_and(|found| *found == known),
                    Invariant::ThePastIsImmutable,
                    || format!("{oid} before {before} is {found:?}, was {known:?}"),
                );
            }
        }
    }
}

fn found(load: &Load) -> Known {
    match &load.found {
        Found::Revision(revision) => {
            Known::Revision { start: revision.start, end: revision.end, data: revision.data.clone() }
        }
        Found::NothingBefore => Known::NothingBefore,
        Found::NoObject => Known::NoObject,
    }
}

fn known(start: Tid, end: Option<Tid>, data: &Option<Bytes>) -> Known {
    match data {
        Some(data) => Known::Revision { start, end, data: data.clone() },
        None => Known::NoObject,
    }
}

/// What a transaction does to objects; its checks do nothing.
pub(crate) fn changes(writes: &WriteSet) -> Changes {
    let read = |data: &RecordData| data.bytes(Patience::Wait).expect("what a client sent can be read");
    let of_write = |write: &Write| match write {
        Write::Store { oid, data, .. } => Some((*oid, Some(read(data)))),
        Write::Restore { oid, data, .. } => Some((*oid, data.as_ref().map(read))),
        Write::Delete { oid, .. } => Some((*oid, None)),
        // Checks change nothing, and simulated clients do nothing else.
        _ => None,
    };
    writes.writes.iter().filter_map(of_write).collect()
}

fn read_all(storage: &dyn Storage) -> zeolith_storage::Result<Vec<(Tid, Commit)>> {
    let mut commits = Vec::new();
    let mut transactions = storage.iterate(None, None)?;
    while let Some(transaction) = transactions.next_transaction()? {
        let mut changes = Changes::new();
        let mut records = transactions.records()?;
        while let Some(record) = records.next_record()? {
            changes.insert(record.oid, record.data);
        }
        commits.push((transaction.tid, Commit { label: transaction.description, changes }));
    }
    Ok(commits)
}
