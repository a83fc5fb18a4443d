//! The storage that forgets: everything in memory, as ZODB's `MappingStorage` has it.
//!
//! No undo, no deleting, no restoring and no walk through the current records, like its model.
//! A transaction enters the maps when it is published, so readers can't see it before.

mod iterate;
mod pack;

use crate::{
    Blobs, Changes, ConflictPolicy, Found, Load, PackOutcome, PackProgress, Patience, RecordData, Result,
    Storage, StorageError, TransactionId, TransactionIterator, Voted, Write, WriteSet,
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    ops::{Bound, ControlFlow, Range},
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};
use zeolith_types::{
    Conflict, CurrentRecord, HistoryEntry, Oid, Revision, StorageInfo, Tid, Timestamp, TransactionInfo,
    UndoEntry,
};

/// Keeps everything in memory and nothing beyond its own end.
pub struct MemoryStorage {
    name: String,
    content: RwLock<Content>,
    /// How to find out what a record refers to, if a pack is to collect garbage.
    references: Option<References>,
    /// The time of the last pack; locked by the one who packs.
    packed_to: Mutex<Option<Tid>>,
}

/// Tells which objects a record refers to, or why that can't be told.
pub type References = fn(&[u8]) -> Result<Vec<Oid>, String>;

#[derive(Default)]
struct Content {
    objects: BTreeMap<Oid, BTreeMap<Tid, Bytes>>,
    transactions: BTreeMap<Tid, Arc<Transaction>>,
    voted: HashMap<TransactionId, WriteSet>,
    /// Finished, but not to be seen yet; oldest first.
    unpublished: VecDeque<Arc<Transaction>>,
    /// The last tid given, published or not.
    last_tid: Tid,
    /// The last transaction that readers see, even if a pack has dropped it.
    published_tid: Tid,
    oid_max: u64,
    size: u64,
}

/// A finished transaction.
#[derive(Clone)]
struct Transaction {
    info: TransactionInfo,
    /// Each object once, in the order in which they were stored first.
    records: Vec<(Oid, Bytes)>,
}

impl MemoryStorage {
    /// An empty storage. A pack drops old revisions and no objects.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            content: RwLock::default(),
            references: None,
            packed_to: Mutex::default(),
        }
    }

    /// The same storage, whose pack drops the objects too that can't be reached from the root.
    #[must_use]
    pub fn collecting_garbage(self, references: References) -> Self {
        Self { references: Some(references), ..self }
    }

    fn read(&self) -> RwLockReadGuard<'_, Content> {
        self.content.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Content> {
        self.content.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for MemoryStorage {
    fn info(&self) -> StorageInfo {
        let content = self.read();
        StorageInfo {
            length: content.objects.len() as u64,
            size: content.size,
            name: self.name.clone(),
            supports_undo: false,
            supports_record_iternext: false,
            interfaces: vec![
                ("ZODB.interfaces", "IStorage"),
                ("ZODB.interfaces", "IStorageIteration"),
                ("zope.interface", "Interface"),
            ],
        }
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn last_transaction(&self) -> Tid {
        self.read().published_tid
    }

    fn load_before(&self, oid: Oid, before: Tid, _: Patience) -> Result<Load> {
        let content = self.read();
        let as_of = content.published_tid;
        let Some(revisions) = content.objects.get(&oid) else {
            return Ok(Load { found: Found::NoObject, as_of });
        };
        let found = match revisions.range(..before).next_back() {
            Some((start, data)) => {
                let end = revisions.range(before..).next().map(|(tid, _)| *tid);
                Found::Revision(Revision { data: data.clone(), start: *start, end })
            }
            None => Found::NothingBefore,
        };
        Ok(Load { found, as_of })
    }

    fn load_serial(&self, oid: Oid, serial: Tid, _: Patience) -> Result<Bytes> {
        let content = self.read();
        let data = content.objects.get(&oid).and_then(|revisions| revisions.get(&serial));
        data.cloned().ok_or(StorageError::NoObject(oid))
    }

    fn current_tid(&self, oid: Oid, _: Patience) -> Result<Tid> {
        let content = self.read();
        let last = content.objects.get(&oid).and_then(BTreeMap::last_key_value);
        last.map(|(tid, _)| *tid).ok_or(StorageError::NoObject(oid))
    }

    fn history(&self, oid: Oid, size: usize, _: Patience) -> Result<Vec<HistoryEntry>> {
        let content = self.read();
        let revisions = content.objects.get(&oid).ok_or(StorageError::NoObject(oid))?;
        let entry = |(tid, data): (&Tid, &Bytes)| {
            let info = &content.transactions.get(tid)?.info;
            Some(HistoryEntry {
                time: Timestamp::tid_seconds(*tid),
                user: info.user.clone(),
                description: info.description.clone(),
                extension: info.extension.clone(),
                tid: *tid,
                size: data.len() as u64,
                in_memory: true,
            })
        };
        Ok(revisions.iter().rev().take(size).filter_map(entry).collect())
    }

    fn record_iternext(&self, _: Option<Oid>, _: Patience) -> Result<CurrentRecord> {
        Err(lacks("record_iternext"))
    }

    fn iterate(&self, start: Option<Tid>, stop: Option<Tid>) -> Result<Box<dyn TransactionIterator>> {
        let start = start.unwrap_or(Tid::ZERO);
        let stop = stop.unwrap_or(Tid::new(u64::MAX));
        let content = self.read();
        let range = (start <= stop).then(|| content.transactions.range(start..=stop));
        let transactions = range.into_iter().flatten().map(|(_, transaction)| Arc::clone(transaction));
        Ok(iterate::transactions(transactions.collect()))
    }

    fn undo_log(
        &self,
        _: Range<u64>,
        _: &mut dyn FnMut(&UndoEntry) -> bool,
    ) -> Result<Option<Vec<UndoEntry>>> {
        Ok(None)
    }

    fn last_changes(&self, count: usize) -> Result<Vec<(Tid, Vec<Oid>)>> {
        let content = self.read();
        if content.transactions.is_empty() && count > 0 {
            // Nothing has been forgotten: this is all that there was.
            return Ok(vec![(Tid::ZERO, Vec::new())]);
        }
        let newest_first = content.transactions.values().rev().take(count);
        let mut changes: Vec<_> =
            newest_first.map(|transaction| (transaction.info.tid, transaction.changed())).collect();
        changes.reverse();
        Ok(changes)
    }

    fn changes_since(&self, after: Tid, oids_max: usize) -> Result<Option<Changes>> {
        let content = self.read();
        let mut oids = BTreeSet::new();
        for transaction in content.transactions.range((Bound::Excluded(after), Bound::Unbounded)) {
            for (oid, _) in &transaction.1.records {
                oids.insert(*oid);
                if oids.len() > oids_max {
                    return Ok(None);
                }
            }
        }
        Ok(Some(Changes { through: content.published_tid, oids: oids.into_iter().collect() }))
    }

    fn new_oids(&self, count: usize) -> Vec<Oid> {
        let mut content = self.write();
        let first = content.oid_max + 1;
        content.oid_max += count as u64;
        (first..=content.oid_max).map(Oid::new).collect()
    }

    fn vote(
        &self,
        id: TransactionId,
        mut writes: WriteSet,
        policy: ConflictPolicy,
        patience: Patience,
    ) -> Result<Voted> {
        for write in &mut writes.writes {
            if let Write::Store { data, .. } = write {
                *data = data.bytes(patience)?.into();
            }
        }
        let mut content = self.write();
        let conflicts = content.check(&writes, policy)?;
        if !conflicts.is_empty() {
            return Ok(Voted::Conflicts(conflicts));
        }
        let mut changed: Vec<Oid> = Vec::new();
        let mut seen = BTreeSet::new();
        for write in &writes.writes {
            if let Write::Store { oid, .. } = write
                && seen.insert(*oid)
            {
                changed.push(*oid);
                content.raise_oid_max(*oid);
            }
        }
        content.voted.insert(id, writes);
        Ok(Voted::Ready { changed, resolved: Vec::new(), undone: Vec::new() })
    }

    fn finish(&self, ids: &[TransactionId], now: Timestamp) -> Vec<Result<Tid>> {
        let mut content = self.write();
        ids.iter().map(|id| content.finish(*id, now)).collect()
    }

    fn publish(&self, through: Tid) {
        let mut content = self.write();
        while let Some(transaction) = content.unpublished.pop_front_if(|next| next.info.tid <= through) {
            content.show(transaction);
        }
    }

    fn abort(&self, id: TransactionId) {
        self.write().voted.remove(&id);
    }

    fn pack(
        &self,
        time: Timestamp,
        report: &mut dyn FnMut(PackProgress) -> ControlFlow<()>,
    ) -> Result<PackOutcome> {
        self.pack_until(time.to_tid(), report)
    }

    fn blobs(&self) -> Result<&dyn Blobs> {
        Err(lacks("loadBlob"))
    }

    fn checkpoint(&self) -> Result<()> {
        Ok(())
    }

    fn close(&self) -> Result<()> {
        Ok(())
    }
}

impl Content {
    /// The newest revision, published or not.
    fn current_tid(&self, oid: Oid) -> Option<Tid> {
        let waiting = self.unpublished.iter().rev();
        let waiting =
            waiting.filter(|transaction| transaction.records.iter().any(|(other, _)| *other == oid));
        let published = || self.objects.get(&oid)?.last_key_value().map(|(tid, _)| *tid);
        waiting.map(|transaction| transaction.info.tid).next().or_else(published)
    }

    /// The conflicts that are left after all writes, if they are to be collected; any other trouble is an error.
    fn check(&self, writes: &WriteSet, policy: ConflictPolicy) -> Result<Vec<Conflict>> {
        if writes.tid.is_some_and(|tid| tid <= self.last_tid || tid > Tid::MAX) {
            return Err(StorageError::Format("a transaction must come after the last one".into()));
        }
        let mut conflicts: Vec<Conflict> = Vec::new();
        for write in &writes.writes {
            match write {
                Write::Store { oid, serial, data } => {
                    conflicts.retain(|conflict| conflict.oid != *oid);
                    if let Some(committed) = self.current_tid(*oid).filter(|committed| committed != serial) {
                        let data = data.bytes(Patience::Wait)?;
                        let conflict = Conflict { oid: *oid, committed, read: *serial, data };
                        if policy == ConflictPolicy::Refuse {
                            return Err(StorageError::Conflict(conflict));
                        }
                        conflicts.push(conflict);
                    }
                }
                Write::Check { oid, serial } => {
                    let committed = self.current_tid(*oid).ok_or(StorageError::NoObject(*oid))?;
                    if committed != *serial {
                        return Err(StorageError::ReadConflict { oid: *oid, committed, read: *serial });
                    }
                }
                Write::StoreBlob { .. } => return Err(StorageError::NoBlobs),
                Write::Restore { .. } => return Err(lacks("restore")),
                Write::Delete { .. } => return Err(lacks("deleteObject")),
                Write::Undo { .. } => return Err(lacks("undo")),
            }
        }
        Ok(conflicts)
    }

    fn finish(&mut self, id: TransactionId, now: Timestamp) -> Result<Tid> {
        let Some(writes) = self.voted.remove(&id) else {
            return Err(StorageError::Format(format!("transaction {} has not been voted", id.0)));
        };
        let tid = writes.tid.unwrap_or_else(|| now.to_tid().later_than(self.last_tid));
        if tid <= self.last_tid {
            return Err(StorageError::Format("a transaction must come after the last one".into()));
        }
        self.last_tid = tid;
        let status = if writes.status == 0 { b' ' } else { writes.status };
        let WriteSet { user, description, extension, .. } = writes;
        let info = TransactionInfo { tid, status, user, description, extension };
        let records = writes.writes.into_iter().filter_map(|write| match write {
            Write::Store { oid, data: RecordData::Memory(data), .. } => Some((oid, data)),
            // What was put aside was brought into memory at the vote.
            Write::Store { .. }
            | Write::StoreBlob { .. }
            | Write::Restore { .. }
            | Write::Delete { .. }
            | Write::Check { .. }
            | Write::Undo { .. } => None,
        });
        let records = each_once(records);
        self.unpublished.push_back(Arc::new(Transaction { info, records }));
        Ok(tid)
    }

    fn show(&mut self, transaction: Arc<Transaction>) {
        for (oid, data) in &transaction.records {
            let revisions = self.objects.entry(*oid).or_default();
            if revisions.is_empty() {
                self.size += OBJECT_SIZE;
            }
            self.size += REVISION_SIZE + data.len() as u64;
            revisions.insert(transaction.info.tid, data.clone());
        }
        self.published_tid = transaction.info.tid;
        self.transactions.insert(transaction.info.tid, transaction);
    }

    fn raise_oid_max(&mut self, oid: Oid) {
        if oid.get() < OID_END {
            self.oid_max = self.oid_max.max(oid.get());
        }
    }
}

impl Transaction {
    fn changed(&self) -> Vec<Oid> {
        self.records.iter().map(|(oid, _)| *oid).collect()
    }
}

/// The last record of each object, in the place of its first.
fn each_once(records: impl Iterator<Item = (Oid, Bytes)>) -> Vec<(Oid, Bytes)> {
    let mut places = HashMap::new();
    let mut once: Vec<(Oid, Bytes)> = Vec::new();
    for (oid, data) in records {
        let place = *places.entry(oid).or_insert(once.len());
        match once.get_mut(place) {
            Some((_, earlier)) => *earlier = data,
            None => once.push((oid, data)),
        }
    }
    once
}

fn lacks(method: &str) -> StorageError {
    StorageError::Unsupported(format!("'MappingStorage' object has no attribute '{method}'"))
}

/// New oids come from below; a client may have stored one from above, which must not end them.
const OID_END: u64 = 1 << 63;
/// What the reference counts for an object.
const OBJECT_SIZE: u64 = 50;
/// What the reference counts for a revision besides its data.
const REVISION_SIZE: u64 = 100;
