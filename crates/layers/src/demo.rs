//! [`DemoStorage`]: a base that nobody writes to, and the changes over it.
//!
//! Every object is looked up in the changes first. What they say about an object goes before what the base says,
//! and all their transactions come after those of the base, so the two histories are one.

mod blobs;
mod iterate;
mod oids;
mod read;
mod vote;

use bytes::Bytes;
use oids::NewOids;
use std::{
    any::Any,
    collections::BTreeSet,
    ops::{ControlFlow, Range},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use zeolith_storage::{
    Blobs, Changes, ConflictPolicy, Load, PackEstimate, PackOutcome, PackProgress, Patience, Resolver,
    Result, Sizes, Storage, StorageError, TransactionId, TransactionIterator, Voted, WriteSet,
};
use zeolith_types::{CurrentRecord, HistoryEntry, Oid, StorageInfo, Tid, Timestamp, UndoEntry};

/// ZODB's `DemoStorage`: reads see both storages, transactions go to the changes.
///
/// Undo is that of the changes. There is no deleting, no restoring and no walk through the current records, like
/// in its model. A pack packs the changes; they must not collect garbage, because the base refers to objects
/// of theirs that they themselves do not.
pub struct DemoStorage {
    name: String,
    base: Arc<dyn Storage>,
    changes: Arc<dyn Storage>,
    /// The last transaction of the base, which stays the last.
    base_tid: Tid,
    resolver: Option<Arc<dyn Resolver>>,
    oids: Mutex<NewOids>,
    scratch: Mutex<Option<Box<dyn Any + Send>>>,
}

impl DemoStorage {
    /// Lays `changes` over `base`, which nobody may write to from here on. New oids begin where `seed` says;
    /// it should be another one each time.
    ///
    /// Conflicts are put before `resolver`, which sees the records as clients do.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        base: Arc<dyn Storage>,
        changes: Arc<dyn Storage>,
        resolver: Option<Arc<dyn Resolver>>,
        seed: u64,
    ) -> Self {
        let base_tid = base.last_transaction();
        let oids = Mutex::new(NewOids::new(seed));
        Self { name: name.into(), base, changes, base_tid, resolver, oids, scratch: Mutex::default() }
    }

    /// Keeps what the changes need until both storages are closed, and drops it then: a directory, say, that goes
    /// with its handle.
    #[must_use]
    pub fn with_scratch(self, scratch: impl Any + Send) -> Self {
        Self { scratch: Mutex::new(Some(Box::new(scratch))), ..self }
    }

    /// Whether an object has a current revision, or may have one.
    fn may_be_in_use(&self, oid: Oid) -> bool {
        let is_free = |storage: &dyn Storage| {
            matches!(storage.current_tid(oid, Patience::Now), Err(StorageError::NoObject(_)))
        };
        !is_free(&*self.changes) || !is_free(&*self.base)
    }
}

impl Storage for DemoStorage {
    fn info(&self) -> StorageInfo {
        let StorageInfo { length, size, supports_undo, .. } = self.changes.info();
        let mut interfaces = Vec::new();
        if self.changes.blobs().is_ok() {
            interfaces.push(("ZODB.interfaces", "IBlobStorage"));
        }
        if supports_undo {
            interfaces.push(("ZODB.interfaces", "IStorageUndoable"));
        }
        interfaces.extend(INTERFACES);
        let name = self.name.clone();
        StorageInfo { length, size, name, supports_undo, supports_record_iternext: false, interfaces }
    }

    fn sizes(&self) -> Sizes {
        self.changes.sizes()
    }

    fn is_read_only(&self) -> bool {
        self.changes.is_read_only()
    }

    fn last_transaction(&self) -> Tid {
        self.changes.last_transaction().max(self.base_tid)
    }

    fn load_before(&self, oid: Oid, before: Tid, patience: Patience) -> Result<Load> {
        self.load_both(oid, before, patience)
    }

    fn load_serial(&self, oid: Oid, serial: Tid, patience: Patience) -> Result<Bytes> {
        self.load_exactly(oid, serial, patience)
    }

    fn has_record(&self, oid: Oid, serial: Tid, patience: Patience) -> Result<bool> {
        Ok(self.changes.has_record(oid, serial, patience)? || self.base.has_record(oid, serial, patience)?)
    }

    fn current_tid(&self, oid: Oid, patience: Patience) -> Result<Tid> {
        self.newest_tid(oid, patience)
    }

    fn history(&self, oid: Oid, size: usize, patience: Patience) -> Result<Vec<HistoryEntry>> {
        self.history_of_both(oid, size, patience)
    }

    fn record_iternext(&self, _: Option<Oid>, _: Patience) -> Result<CurrentRecord> {
        Err(lacks("record_iternext"))
    }

    fn iterate(&self, start: Option<Tid>, stop: Option<Tid>) -> Result<Box<dyn TransactionIterator>> {
        // The changes first: what is committed in between must not show.
        let changes = self.changes.iterate(start, stop)?;
        Ok(iterate::one_after_the_other(self.base.iterate(start, stop)?, changes))
    }

    fn undo_log(
        &self,
        range: Range<u64>,
        wanted: &mut dyn FnMut(&UndoEntry) -> bool,
    ) -> Result<Option<Vec<UndoEntry>>> {
        self.changes.undo_log(range, wanted)
    }

    fn last_changes(&self, count: usize) -> Result<Vec<(Tid, Vec<Oid>)>> {
        let mut newest = self.changes.last_changes(count)?;
        if self.base_tid == Tid::ZERO {
            return Ok(newest);
        }
        // That the changes have been empty from the beginning does not hold for both.
        newest.retain(|(tid, _)| *tid > Tid::ZERO);
        let mut all = match count.saturating_sub(newest.len()) {
            0 => Vec::new(),
            rest => self.base.last_changes(rest)?,
        };
        all.extend(newest);
        Ok(all)
    }

    fn changes_since(&self, after: Tid, oids_max: usize) -> Result<Option<Changes>> {
        let Some(Changes { through, oids }) = self.changes.changes_since(after, oids_max)? else {
            return Ok(None);
        };
        let through = through.max(self.base_tid);
        if after >= self.base_tid {
            return Ok(Some(Changes { through, oids }));
        }
        let Some(before) = self.base.changes_since(after, oids_max)? else { return Ok(None) };
        let all: BTreeSet<Oid> = before.oids.into_iter().chain(oids).collect();
        let few_enough = all.len() <= oids_max;
        Ok(few_enough.then(|| Changes { through, oids: all.into_iter().collect() }))
    }

    fn new_oids(&self, count: usize) -> Vec<Oid> {
        let mut oids = self.oids.lock().unwrap_or_else(PoisonError::into_inner);
        (0..count).map(|_| oids.next(|oid| self.may_be_in_use(oid))).collect()
    }

    fn vote(
        &self,
        id: TransactionId,
        writes: WriteSet,
        policy: ConflictPolicy,
        patience: Patience,
    ) -> Result<Voted> {
        self.vote_over_base(id, writes, policy, patience)
    }

    fn finish(&self, ids: &[TransactionId], now: Timestamp) -> Vec<Result<Tid>> {
        let now = if now.to_tid() > self.base_tid { now } else { just_after(self.base_tid) };
        self.changes.finish(ids, now)
    }

    fn publish(&self, through: Tid) {
        self.changes.publish(through);
    }

    fn abort(&self, id: TransactionId) {
        self.changes.abort(id);
    }

    fn pack(
        &self,
        time: Timestamp,
        report: &mut dyn FnMut(PackProgress) -> ControlFlow<()>,
    ) -> Result<PackOutcome> {
        self.changes.pack(time, report)
    }

    fn estimate_pack(
        &self,
        time: Timestamp,
        report: &mut dyn FnMut(PackProgress) -> ControlFlow<()>,
    ) -> Result<PackEstimate> {
        self.changes.estimate_pack(time, report)
    }

    fn blobs(&self) -> Result<&dyn Blobs> {
        self.changes.blobs().map(|_| self as &dyn Blobs)
    }

    fn wants_room(&self) -> bool {
        self.changes.wants_room()
    }

    fn make_room(&self) {
        self.changes.make_room();
    }

    fn rest(&self) -> Result<()> {
        self.changes.rest()
    }

    fn checkpoint(&self) -> Result<()> {
        self.base.checkpoint().and(self.changes.checkpoint())
    }

    fn close(&self) -> Result<()> {
        let changes = self.changes.close();
        let base = self.base.close();
        drop(self.scratch.lock().unwrap_or_else(PoisonError::into_inner).take());
        base.and(changes)
    }
}

/// A time whose tid is above `tid`.
fn just_after(tid: Tid) -> Timestamp {
    // A step of a tid is 14 nanoseconds, and one can be lost on the way to a time and back.
    Timestamp::from_epoch(Timestamp::from_tid(tid).since_epoch() + Duration::from_micros(1))
}

fn lacks(method: &str) -> StorageError {
    StorageError::Unsupported(format!("'DemoStorage' object has no attribute '{method}'"))
}

/// What every `DemoStorage` claims to be able to do.
const INTERFACES: [(&str, &str); 3] = [
    ("ZODB.interfaces", "IStorage"),
    ("ZODB.interfaces", "IStorageIteration"),
    ("zope.interface", "Interface"),
];
