//! Packing in memory: old revisions go, and what can't be reached from the root.
//!
//! Everything that is to stay is marked before anything goes, so a pack that fails has touched nothing. Both are
//! done a batch at a time, with the lock free in between for loads and commits.

use super::{Content, MemoryStorage, OBJECT_SIZE, REVISION_SIZE, References};
use crate::{Held, PackOutcome, PackPhase, PackProgress, RecordData, Result, StorageError, Write};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::{Bound, ControlFlow},
    sync::{Arc, PoisonError},
};
use zeolith_types::{Oid, Tid};

/// What is told how far a pack is, and can end it.
type Report<'a> = &'a mut dyn FnMut(PackProgress) -> ControlFlow<()>;

/// What stays.
struct Kept {
    /// The objects that can be reached; `None` if all stay.
    reachable: Option<HashSet<Oid>>,
    /// What was committed after this stays anyway.
    seen_to: Tid,
}

impl MemoryStorage {
    pub(super) fn pack_until(&self, until: Tid, report: Report<'_>) -> Result<PackOutcome> {
        let mut packed_to = self.packed_to.lock().unwrap_or_else(PoisonError::into_inner);
        if self.read().objects.is_empty() || *packed_to == Some(until) {
            return Ok(PackOutcome::NothingToDo);
        }
        if packed_to.is_some_and(|time| time > until) {
            return Err(StorageError::PackTime("Already packed to a later time".into()));
        }
        let kept = match self.references {
            None => Kept { reachable: None, seen_to: Tid::ZERO },
            Some(references) => self.mark(until, references, report)?,
        };
        *packed_to = Some(until);
        let before = self.read().size;
        let dropped = self.sweep(until, &kept, report)?;
        let after = before.saturating_sub(dropped);
        if dropped == 0 {
            return Ok(PackOutcome::NothingToDo);
        }
        // Nobody waits for more than a batch.
        Ok(PackOutcome::Packed { before, after, held: Held::default() })
    }

    fn mark(&self, until: Tid, references: References, report: Report<'_>) -> Result<Kept> {
        let begun = self.read().published_tid;
        let mut marks = Marks { references, until, reachable: HashSet::new(), todo: Vec::new() };
        marks.reach(Oid::ZERO, Oid::ZERO);
        while !marks.todo.is_empty() {
            let (records, total) = {
                let content = self.read();
                (marks.next_records(&content, Missing::Fails)?, content.objects.len())
            };
            records.iter().try_for_each(|(oid, data)| marks.follow(*oid, data))?;
            tell(report, PackPhase::Mark, marks.reachable.len(), total)?;
        }
        // What was committed meanwhile, or can be committed yet, may refer to what nothing else refers to.
        let content = self.write();
        let later = content.transactions.range((Bound::Excluded(begun), Bound::Unbounded));
        for transaction in later.map(|(_, transaction)| transaction).chain(&content.unpublished) {
            for (oid, data) in &transaction.records {
                marks.reach(*oid, *oid);
                marks.follow(*oid, data)?;
            }
        }
        for write in content.voted.values().flat_map(|writes| &writes.writes) {
            if let Write::Store { oid, data: RecordData::Memory(data), .. } = write {
                marks.reach(*oid, *oid);
                marks.follow(*oid, data)?;
            }
        }
        while !marks.todo.is_empty() {
            let records = marks.next_records(&content, Missing::PassedOver)?;
            records.iter().try_for_each(|(oid, data)| marks.follow(*oid, data))?;
        }
        Ok(Kept { reachable: Some(marks.reachable), seen_to: content.last_tid })
    }

    /// Drops what does not stay; returns how much smaller the storage is.
    fn sweep(&self, until: Tid, kept: &Kept, report: Report<'_>) -> Result<u64> {
        let (mut next, mut done, mut dropped) = (Some(Oid::ZERO), 0, 0);
        while let Some(start) = next {
            let (count, total) = {
                let mut content = self.write();
                let total = content.objects.len();
                let batch: Vec<Oid> =
                    content.objects.range(start..).map(|(oid, _)| *oid).take(BATCH).collect();
                let last = batch.last().filter(|_| batch.len() == BATCH);
                next = last.and_then(|oid| oid.get().checked_add(1)).map(Oid::new);
                dropped += content.drop_from(&batch, until, kept);
                (batch.len(), total)
            };
            done += count;
            tell(report, PackPhase::Copy, done, total)?;
        }
        Ok(dropped)
    }
}

struct Marks {
    references: References,
    until: Tid,
    reachable: HashSet<Oid>,
    /// Objects that are marked, and whose references are not; with what refers to them.
    todo: Vec<(Oid, Oid)>,
}

/// How objects that are not there are taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// What hangs on them would be lost for good.
    Fails,
    /// They are new and not to be seen yet, or none of the pack's business.
    PassedOver,
}

impl Marks {
    /// Marks an object that `referrer` refers to.
    fn reach(&mut self, oid: Oid, referrer: Oid) {
        if self.reachable.insert(oid) {
            self.todo.push((oid, referrer));
        }
    }

    /// Marks what a record of `referrer` refers to.
    fn follow(&mut self, referrer: Oid, record: &[u8]) -> Result<()> {
        let references = (self.references)(record).map_err(|why| {
            StorageError::Format(format!("the references of {referrer} can't be read: {why}"))
        })?;
        references.into_iter().for_each(|oid| self.reach(oid, referrer));
        Ok(())
    }

    /// The records that stay of the next marked objects.
    fn next_records(&mut self, content: &Content, missing: Missing) -> Result<Vec<(Oid, Bytes)>> {
        let mut records = Vec::new();
        for (oid, referrer) in self.todo.split_off(self.todo.len().saturating_sub(BATCH)) {
            match content.objects.get(&oid) {
                Some(revisions) => {
                    let first = first_kept(revisions, self.until);
                    records.extend(revisions.range(first..).map(|(_, data)| (oid, data.clone())));
                }
                None if missing == Missing::PassedOver => {}
                None if oid == referrer => {
                    return Err(StorageError::Format(format!("can't pack: there is no root object {oid}")));
                }
                None => {
                    let what = format!("can't pack: {referrer} refers to {oid}, which does not exist");
                    return Err(StorageError::Format(what));
                }
            }
        }
        Ok(records)
    }
}

impl Content {
    /// Drops what does not stay of these objects; returns how much smaller the content is.
    fn drop_from(&mut self, oids: &[Oid], until: Tid, kept: &Kept) -> u64 {
        let before = self.size;
        let mut dropped: HashMap<Tid, HashSet<Oid>> = HashMap::new();
        for oid in oids {
            let Some(revisions) = self.objects.get_mut(oid) else { continue };
            let is_new = revisions.last_key_value().is_some_and(|(tid, _)| *tid > kept.seen_to);
            let stays = is_new || kept.reachable.as_ref().is_none_or(|reachable| reachable.contains(oid));
            let rest = match stays {
                true => revisions.split_off(&first_kept(revisions, until)),
                false => BTreeMap::new(),
            };
            for (tid, data) in std::mem::replace(revisions, rest) {
                self.size -= REVISION_SIZE + data.len() as u64;
                dropped.entry(tid).or_default().insert(*oid);
            }
            if revisions.is_empty() {
                self.objects.remove(oid);
                self.size -= OBJECT_SIZE;
            }
        }
        for (tid, oids) in dropped {
            self.drop_records(tid, &oids);
        }
        before - self.size
    }

    /// A transaction that has lost records is a packed one; one that has lost all of them is gone.
    fn drop_records(&mut self, tid: Tid, oids: &HashSet<Oid>) {
        let Some(transaction) = self.transactions.get_mut(&tid) else { return };
        // Iterations that are under way keep the transaction that they have.
        let transaction_left = Arc::make_mut(transaction);
        transaction_left.info.status = b'p';
        transaction_left.records.retain(|(oid, _)| !oids.contains(oid));
        if transaction_left.records.is_empty() {
            self.transactions.remove(&tid);
        }
    }
}

/// The revision that was current at `until`, or the first one after.
fn first_kept(revisions: &BTreeMap<Tid, Bytes>, until: Tid) -> Tid {
    revisions.range(..=until).next_back().map_or(until, |(tid, _)| *tid)
}

fn tell(
    report: &mut dyn FnMut(PackProgress) -> ControlFlow<()>,
    phase: PackPhase,
    done: usize,
    total: usize,
) -> Result<()> {
    match report(PackProgress { phase, done: done as u64, total: total as u64 }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(StorageError::Cancelled),
    }
}

/// So many objects are looked at before the lock is given free.
const BATCH: usize = 1024;
