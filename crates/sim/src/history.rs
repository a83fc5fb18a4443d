//! The model: what every object was after every commit, as a map. Storage, server and caches are compared
//! with it.

use crate::{
    checks::{Checks, Invariant},
    record::references,
};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use zeolith_storage::{Found, Load, Patience, RecordData, Storage, Undone, Write, WriteSet};
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
    dropped: Dropped,
    /// The latest time to which anybody wanted a pack.
    pack_wanted: Tid,
    /// Of which clients have been told that they are aborted.
    aborted: BTreeSet<Bytes>,
}

/// What packs may have dropped: those that were begun, for nobody knows of a crash whether it came before the end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dropped {
    /// Revisions that had been replaced, and deletions, up to here.
    until: Tid,
    /// Objects that could not be reached from the root at the time of a pack, and the latest such time.
    garbage: BTreeMap<Oid, Tid>,
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
    pub(crate) fn commit(&mut self, tid: Tid, label: &Bytes, changes: Changes, checks: &mut Checks) {
        let last = self.last();
        checks.ensure(tid > last, Invariant::TidsRise, || format!("{tid} was given after {last}"));
        self.doubtful.remove(label);
        self.enter(tid, Commit { label: label.clone(), changes }, checks);
    }

    fn enter(&mut self, tid: Tid, commit: Commit, checks: &mut Checks) {
        checks.ensure(!self.aborted.contains(&commit.label), Invariant::OutcomesAreTrue, || {
            format!("{:?} is committed at {tid}, and its client was told that it is aborted", commit.label)
        });
        for (oid, data) in &commit.changes {
            self.revisions.entry(*oid).or_default().insert(tid, data.clone());
        }
        self.commits.insert(tid, commit);
    }

    /// Its fate will be known when the storage is opened again.
    pub(crate) fn doubt(&mut self, label: &Bytes, changes: Changes) {
        self.doubtful.insert(label.clone(), changes);
    }

    /// A client is told that a transaction is aborted: it is not there, and never will be.
    pub(crate) fn is_aborted(&mut self, label: &Bytes, checks: &mut Checks) {
        let there = self.commits.iter().find(|(_, commit)| commit.label == *label).map(|(tid, _)| *tid);
        checks.ensure(there.is_none(), Invariant::OutcomesAreTrue, || {
            format!("{label:?} is said to be aborted, and it was committed at {there:?}")
        });
        self.aborted.insert(label.clone());
    }

    /// What a transaction does to objects. What its undos do the storage has said, and [`Self::check_undo`] has
    /// checked.
    pub(crate) fn changes(&self, writes: &WriteSet, undone: &[Undone]) -> Changes {
        let mut changes = changes(writes);
        for Undone { oid, back_to, .. } in undone {
            changes.insert(*oid, back_to.and_then(|tid| self.record_of(*oid, tid)));
        }
        changes
    }

    pub(crate) fn record_of(&self, oid: Oid, tid: Tid) -> Option<Bytes> {
        self.revisions.get(&oid)?.get(&tid)?.clone()
    }

    /// An undo gives each object of its transaction, which must be as that left it, what it had before.
    pub(crate) fn check_undo(&self, tid: Tid, undone: &[Undone], checks: &mut Checks) {
        let expected = self.commits.get(&tid).map(|commit| &commit.changes);
        let objects: BTreeSet<Oid> = undone.iter().filter(|one| one.tid == tid).map(|one| one.oid).collect();
        let is_whole =
            expected.is_some_and(|changes| changes.keys().copied().collect::<BTreeSet<_>>() == objects);
        checks.ensure(is_whole, Invariant::NoneIsHalfThere, || {
            format!("the undo of {tid} touches {objects:?}, it changed {:?}", expected.map(BTreeMap::keys))
        });
        for Undone { oid, back_to, .. } in undone.iter().filter(|one| one.tid == tid) {
            // Of several undos in a transaction the later ones find what the first has made of the object.
            let is_first = undone.iter().find(|one| one.oid == *oid).is_some_and(|first| first.tid == tid);
            let current = self.revisions.get(oid).and_then(BTreeMap::last_key_value);
            let is_as_left = current.is_some_and(|(_, data)| *data == self.record_of(*oid, tid));
            checks.ensure(!is_first || is_as_left, Invariant::ThePastIsImmutable, || {
                format!("{tid} is undone, though {oid} has been changed since: {current:?}")
            });
            let before = self.revisions.get(oid).and_then(|revisions| revisions.range(..tid).next_back());
            let wanted = before.and_then(|(_, data)| data.clone());
            let got = back_to.and_then(|tid| self.record_of(*oid, tid));
            let may_be_gone = before.is_some_and(|(start, _)| self.dropped.is_garbage(*oid, *start));
            checks.ensure(
                got == wanted || may_be_gone && got.is_none(),
                Invariant::ThePastIsImmutable,
                || {
                    format!(
                        "the undo of {tid} gives {oid} what it had at {back_to:?}: {got:?}, it had {wanted:?}"
                    )
                },
            );
        }
    }

    /// Somebody wants a pack to this time, now or later.
    pub(crate) fn pack_is_wanted(&mut self, until: Tid) {
        self.pack_wanted = self.pack_wanted.max(until);
    }

    /// Whether a pack may have looked at a transaction, or at any after it.
    pub(crate) fn may_be_packed_after(&self, tid: Tid) -> bool {
        tid <= self.pack_wanted
    }

    /// A pack begins: what it may drop can be gone from now on.
    pub(crate) fn pack_begins(&mut self, until: Tid, collects_garbage: bool) {
        // What is committed from now on is kept, however late the time of the pack is.
        let until = until.min(self.last());
        self.dropped.until = self.dropped.until.max(until);
        if !collects_garbage {
            return;
        }
        let reachable = self.reachable(until);
        for oid in self.revisions.keys().filter(|oid| !reachable.contains(oid)) {
            let latest = self.dropped.garbage.entry(*oid).or_default();
            *latest = until.max(*latest);
        }
    }

    /// Whether a pack was ever begun.
    pub(crate) fn is_packed(&self) -> bool {
        self.dropped.until > Tid::ZERO
    }

    fn reachable(&self, at: Tid) -> BTreeSet<Oid> {
        let (mut found, mut todo) = (BTreeSet::new(), vec![Oid::ZERO]);
        while let Some(oid) = todo.pop() {
            if !found.insert(oid) {
                continue;
            }
            let revision = self.revisions.get(&oid).and_then(|revisions| revisions.range(..=at).next_back());
            if let Some((_, Some(data))) = revision {
                todo.extend(references(data));
            }
        }
        found
    }

    /// What packs may have dropped by now.
    pub(crate) const fn dropped(&self) -> &Dropped {
        &self.dropped
    }

    /// Whether packs that may have `dropped` this much may have dropped what a commit did to an object.
    fn may_be_dropped(&self, oid: Oid, tid: Tid, dropped: &Dropped) -> bool {
        let Some(revisions) = self.revisions.get(&oid) else { return false };
        let is_deletion = revisions.get(&tid).is_some_and(Option::is_none) && tid <= dropped.until;
        is_deletion || self.may_be_gone(oid, tid, dropped)
    }

    fn may_be_gone(&self, oid: Oid, start: Tid, dropped: &Dropped) -> bool {
        let end = self.revision_after(oid, start).map(|(end, _)| end);
        end.is_some_and(|end| end <= dropped.until) || dropped.is_garbage(oid, start)
    }

    /// Whether packs that may have `dropped` this much may have dropped a commit as a whole.
    pub(crate) fn may_be_absent(&self, tid: Tid, dropped: &Dropped) -> bool {
        let is_all =
            |commit: &Commit| commit.changes.keys().all(|oid| self.may_be_dropped(*oid, tid, dropped));
        tid <= dropped.until && self.commits.get(&tid).is_none_or(is_all)
    }

    fn revision_after(&self, oid: Oid, start: Tid) -> Option<(Tid, &Option<Bytes>)> {
        let later = (std::ops::Bound::Excluded(start), std::ops::Bound::Unbounded);
        self.revisions.get(&oid)?.range(later).next().map(|(tid, data)| (*tid, data))
    }

    /// Whether the storage may answer so where the history knows this: packs may have dropped it.
    pub(crate) fn allows(&self, oid: Oid, known: &Known, answer: &Known) -> bool {
        if answer == known {
            return true;
        }
        let is_absent = matches!(answer, Known::NothingBefore | Known::NoObject);
        is_absent
            && match known {
                Known::Revision { start, .. } => self.may_be_gone(oid, *start, &self.dropped),
                Known::NothingBefore | Known::NoObject => self.is_packed(),
            }
    }

    /// Whether a cache may have this where the history knows that. What a pack drops without a trace a client that
    /// was away is not told: that an object was deleted, or what became of it when nothing referred to it.
    pub(crate) fn allows_cached(&self, oid: Oid, known: &Known, cached: &Known) -> bool {
        if cached == known {
            return true;
        }
        let Known::Revision { start, data, .. } = cached else { return false };
        let was_so = self.record_of(oid, *start).as_ref() == Some(data);
        let untold = self.revision_after(oid, *start).is_some_and(|(tid, _)| self.may_be_untold(oid, tid));
        was_so && untold
    }

    /// Whether a client that returns need not be told that this commit changed this object.
    fn may_be_untold(&self, oid: Oid, tid: Tid) -> bool {
        let is_gone =
            self.revisions.get(&oid).and_then(|revisions| revisions.get(&tid)).is_some_and(Option::is_none);
        is_gone && tid <= self.dropped.until || self.dropped.is_garbage(oid, tid)
    }

    /// Whether a client that returns need not be told that an object has changed since.
    pub(crate) fn may_go_untold(&self, oid: Oid, after: Tid, through: Tid) -> bool {
        let later = (std::ops::Bound::Excluded(after), std::ops::Bound::Included(through));
        let Some(revisions) = self.revisions.get(&oid) else { return false };
        let mut changes = revisions.range(later).map(|(tid, _)| *tid);
        changes.next_back().is_some_and(|last| self.may_be_untold(oid, last))
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
        let mut new = Vec::new();
        let mut seen = BTreeSet::new();
        for (tid, commit) in stored {
            seen.insert(tid);
            match self.commits.get(&tid) {
                Some(known) => {
                    let same = known.label == commit.label
                        && self.is_rest_of(tid, &known.changes, &commit.changes, &self.dropped);
                    checks.ensure(same, Invariant::ThePastIsImmutable, || {
                        format!("the file says {tid} {commit:?}, the history {known:?}")
                    });
                }
                None => new.push((tid, commit)),
            }
            if checks.has_failed() {
                return Ok(());
            }
        }
        let lost = self
            .commits
            .iter()
            .find(|(tid, _)| !seen.contains(tid) && !self.may_be_absent(**tid, &self.dropped));
        if let Some((tid, commit)) = lost {
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
            self.enter(tid, commit, checks);
        }
        self.doubtful.clear();
        let (said, last) = (storage.last_transaction(), self.last());
        checks.ensure(said == last, Invariant::DurableBeforeTold, || {
            format!("the storage says that its last transaction is {said}, it is {last}")
        });
        self.compare_loads(storage, checks);
        Ok(())
    }

    /// Whether these changes of a commit are all, but for what packs may have dropped.
    pub(crate) fn is_rest_of(&self, tid: Tid, all: &Changes, rest: &Changes, dropped: &Dropped) -> bool {
        let is_so = |(oid, data): (&Oid, &Option<Bytes>)| match rest.get(oid) {
            Some(stored) => stored == data,
            None => self.may_be_dropped(*oid, tid, dropped),
        };
        all.iter().all(is_so) && rest.keys().all(|oid| all.contains_key(oid))
    }

    /// Every object at its newest and at one older revision, as far as it is published.
    pub(crate) fn compare_loads(&self, storage: &dyn Storage, checks: &mut Checks) {
        let last = storage.last_transaction();
        for (oid, revisions) in &self.revisions {
            let newest = revisions.range(..=last).next_back().map_or(Tid::ZERO, |(tid, _)| *tid);
            for before in [Tid::MAX, newest] {
                let load = storage.load_before(*oid, before, Patience::Wait);
                let found = load.as_ref().map(found);
                let known = self.load_before(*oid, before, last);
                checks.ensure(
                    found.as_ref().is_ok_and(|found| self.allows(*oid, &known, found)),
                    Invariant::ThePastIsImmutable,
                    || format!("{oid} before {before} is {found:?}, was {known:?}"),
                );
            }
        }
    }
}

impl Dropped {
    fn is_garbage(&self, oid: Oid, start: Tid) -> bool {
        self.garbage.get(&oid).is_some_and(|latest| start <= *latest)
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

/// What a transaction does to objects by name; its checks do nothing.
pub(crate) fn changes(writes: &WriteSet) -> Changes {
    let read = |data: &RecordData| data.bytes(Patience::Wait).expect("what a client sent can be read");
    let of_write = |write: &Write| match write {
        Write::Store { oid, data, .. } => Some((*oid, Some(read(data)))),
        Write::Restore { oid, data, .. } => Some((*oid, data.as_ref().map(read))),
        Write::Delete { oid, .. } => Some((*oid, None)),
        // Checks change nothing, undos are for the storage to tell, and simulated clients do nothing else.
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
