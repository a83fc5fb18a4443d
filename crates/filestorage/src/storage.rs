//! [`FileStorage`] itself: what it is made of, and the contract it fulfils.
//!
//! Readers see one [`State`]: a file, an index, and how much of them is published. They hold no lock: a
//! position in the index that lies beyond the published end is not there for them yet.

use crate::{
    file::DataFile, finish::Unpublished, format::FIRST_TRANSACTION, index::Index, ledger::Ledger,
    lock::DatabaseLock, open::Options, recent::Recent, room::Room, saved, watermark::Watermark,
};
use arc_swap::ArcSwap;
use bytes::Bytes;
use std::{
    collections::VecDeque,
    fmt::Display,
    ops::{ControlFlow, Range},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};
use zeolith_disk::Disk;
use zeolith_storage::{
    Changes, ConflictPolicy, Load, PackEstimate, PackOutcome, PackProgress, Patience, Result, Sizes, Storage,
    StorageError, TransactionId, TransactionIterator, Voted, WriteSet,
};
use zeolith_types::{CurrentRecord, HistoryEntry, Oid, StorageInfo, Tid, Timestamp, UndoEntry};

/// ZODB's FileStorage: one file of transactions, with an index in memory.
pub struct FileStorage {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) path: PathBuf,
    pub(crate) options: Options,
    /// What readers see.
    pub(crate) state: ArcSwap<State>,
    /// What is finished and not published yet, oldest first.
    pub(crate) unpublished: Mutex<VecDeque<Unpublished>>,
    pub(crate) ledger: Mutex<Ledger>,
    /// A voted transaction has come to its end.
    pub(crate) ledger_changed: Condvar,
    /// Locked by the one who writes.
    pub(crate) writer: Mutex<Writer>,
    /// Room is to be laid for the transactions to come.
    pub(crate) wants_room: AtomicBool,
    /// A pack is under way.
    pub(crate) packing: AtomicBool,
    /// Somebody finds out what a pack would do.
    pub(crate) estimating: AtomicBool,
    /// The next oid that nobody has been given.
    next_oid: AtomicU64,
    /// Up to where the index on disk is true; locked by the one who saves it.
    pub(crate) index_saved_to: Mutex<u64>,
    /// Up to where the file is marked as durable; `None` if it is open for reading only.
    pub(crate) watermark: Mutex<Option<Watermark>>,
    lock: Mutex<Option<DatabaseLock>>,
}

/// What whoever writes goes on from.
pub(crate) struct Writer {
    /// The largest tid given so far.
    pub(crate) last_tid: Tid,
    pub(crate) room: Room,
}

/// What readers see at one moment.
pub(crate) struct State {
    pub(crate) file: Arc<DataFile>,
    pub(crate) index: Arc<Index>,
    /// What this file was given last, published or not.
    pub(crate) recent: Arc<Recent>,
    /// The last published transaction.
    pub(crate) tid: Tid,
    /// Where it ends.
    pub(crate) end: u64,
    /// How often the file has been replaced by a packed one.
    pub(crate) generation: u64,
}

impl State {
    /// Whether the newest transaction is the one at the end: a file whose tids fall somewhere may end below the tid
    /// that the next one must be above.
    fn ends_with_its_last_tid(&self) -> Result<bool> {
        let start = self.file.transaction_before(self.end, Patience::Wait)?;
        Ok(self.file.transaction(start, self.end, Patience::Wait)?.tid == self.tid)
    }
}

/// What opening has found.
pub(crate) struct Parts {
    pub(crate) file: Arc<DataFile>,
    pub(crate) index: Arc<Index>,
    pub(crate) end: u64,
    pub(crate) last_tid: Tid,
    pub(crate) index_saved_to: u64,
    pub(crate) watermark: Option<Watermark>,
    pub(crate) lock: Option<DatabaseLock>,
}

impl FileStorage {
    pub(crate) fn assemble(disk: Arc<dyn Disk>, path: &Path, options: Options, parts: Parts) -> Self {
        let next_oid = AtomicU64::new(next_oid(&parts.index));
        let room = Room::where_it_pays(&*parts.file.file);
        let (tid, end) = (parts.last_tid, parts.end);
        let recent = Arc::default();
        let state = State { file: parts.file, index: parts.index, recent, tid, end, generation: 0 };
        Self {
            disk,
            path: path.to_path_buf(),
            options,
            state: ArcSwap::from_pointee(state),
            unpublished: Mutex::default(),
            ledger: Mutex::new(Ledger::new(parts.end)),
            ledger_changed: Condvar::new(),
            wants_room: AtomicBool::new(false),
            packing: AtomicBool::new(false),
            estimating: AtomicBool::new(false),
            writer: Mutex::new(Writer { last_tid: parts.last_tid, room }),
            next_oid,
            index_saved_to: Mutex::new(parts.index_saved_to),
            watermark: Mutex::new(parts.watermark),
            lock: Mutex::new(parts.lock),
        }
    }

    pub(crate) fn objects(&self) -> u64 {
        self.state.load().index.count()
    }

    /// From now on new oids are larger than `oid`.
    pub(crate) fn raise_next_oid(&self, oid: Oid) {
        if oid.get() < OID_END {
            self.next_oid.fetch_max(oid.get() + 1, Ordering::Relaxed);
        }
    }

    /// The ledger has changed, which nobody but a pack ever waits for.
    pub(crate) fn tell_pack(&self) {
        if self.packing.load(Ordering::Acquire) {
            self.ledger_changed.notify_all();
        }
    }

    /// Lays room behind the last transaction, if it is wanted, once after each batch.
    fn lay_room(&self) {
        let mut writer = guard(&self.writer);
        if !self.wants_room.swap(false, Ordering::Relaxed) {
            return;
        }
        let (end, is_alone) = {
            let ledger = guard(&self.ledger);
            // A poisoned file was cut off, and stays as it is.
            if ledger.check().is_err() {
                return;
            }
            (ledger.end, ledger.voted_len == 0)
        };
        if let Some(up_to) = writer.room.wanted(end, is_alone) {
            let last_tid = writer.last_tid;
            writer.room.lay(&*self.state.load().file.file, end, up_to, last_tid);
        }
    }

    /// Cuts off what comes behind the last transaction, and gives back the space behind the end of the file but for
    /// what is voted.
    fn cut_off_room(&self, writer: &mut Writer, ledger: &mut Ledger) -> Result<()> {
        // A poisoned file was cut off, and who knows where it ends.
        if ledger.check().is_err() {
            return Ok(());
        }
        let file = &self.state.load().file;
        let cut = file.file.set_len(ledger.end);
        cut.map_err(|error| file.io("giving back space reserved for", error))?;
        // Durably, if there was room: the next batch does not reckon with its header.
        if writer.room.is_there()
            && let Err(error) = file.file.sync_data()
        {
            let why = poisoned(&self.path, &error);
            ledger.poison(why.clone());
            return Err(StorageError::Poisoned(why));
        }
        writer.room.is_gone();
        ledger.reserve_again(file);
        Ok(())
    }

    /// Saves the index if the file has grown by `growth` since the last time.
    pub(crate) fn save_index_after(&self, growth: u64) -> Result<()> {
        if self.options.read_only {
            return Ok(());
        }
        self.save_index(&mut guard(&self.index_saved_to), growth)
    }

    /// The same for who has the lock.
    pub(crate) fn save_index(&self, saved_to: &mut u64, growth: u64) -> Result<()> {
        let state = self.state.load_full();
        if state.end < *saved_to + growth || state.end == FIRST_TRANSACTION {
            return Ok(());
        }
        if !state.ends_with_its_last_tid()? {
            // Whoever opened with this index would believe the tid at its end, and give those above it once more.
            return Ok(());
        }
        let entries = state.entries();
        saved::save(&*self.disk, &saved::with_suffix(&self.path, ".index"), state.end, entries)?;
        *saved_to = state.end;
        // So that after a power failure little is to be judged.
        match guard(&self.watermark).as_mut() {
            Some(watermark) => watermark.advance(&state.file, state.end),
            None => Ok(()),
        }
    }
}

impl Storage for FileStorage {
    fn info(&self) -> StorageInfo {
        let state = self.state.load();
        StorageInfo {
            length: state.index.count(),
            size: state.end,
            name: self.path.display().to_string(),
            supports_undo: true,
            supports_record_iternext: true,
            interfaces: INTERFACES.to_vec(),
        }
    }

    fn sizes(&self) -> Sizes {
        let state = self.state.load();
        Sizes { length: state.index.count(), size: state.end }
    }

    fn is_read_only(&self) -> bool {
        self.options.read_only
    }

    fn last_transaction(&self) -> Tid {
        self.state.load().tid
    }

    fn load_before(&self, oid: Oid, before: Tid, patience: Patience) -> Result<Load> {
        self.state.load().load_before(oid, before, patience)
    }

    fn load_serial(&self, oid: Oid, serial: Tid, patience: Patience) -> Result<Bytes> {
        self.state.load().load_serial(oid, serial, patience)
    }

    fn has_record(&self, oid: Oid, serial: Tid, patience: Patience) -> Result<bool> {
        self.state.load_full().has_record(oid, serial, patience)
    }

    fn current_tid(&self, oid: Oid, patience: Patience) -> Result<Tid> {
        self.state.load().current_tid(oid, patience)
    }

    fn history(&self, oid: Oid, size: usize, patience: Patience) -> Result<Vec<HistoryEntry>> {
        self.state.load().history(oid, size, patience)
    }

    fn record_iternext(&self, next: Option<Oid>, patience: Patience) -> Result<CurrentRecord> {
        self.state.load_full().record_iternext(next, patience)
    }

    fn iterate(&self, start: Option<Tid>, stop: Option<Tid>) -> Result<Box<dyn TransactionIterator>> {
        self.state.load_full().iterate(start, stop)
    }

    fn undo_log(
        &self,
        range: Range<u64>,
        wanted: &mut dyn FnMut(&UndoEntry) -> bool,
    ) -> Result<Option<Vec<UndoEntry>>> {
        if self.packing.load(Ordering::Acquire) {
            let why = "Undo is currently disabled for database maintenance.<p>";
            return Err(StorageError::Undo(why.into()));
        }
        self.state.load_full().undo_log(range, wanted).map(Some)
    }

    fn last_changes(&self, count: usize) -> Result<Vec<(Tid, Vec<Oid>)>> {
        self.state.load_full().last_changes(count)
    }

    fn changes_since(&self, after: Tid, oids_max: usize) -> Result<Option<Changes>> {
        self.state.load_full().changes_since(after, oids_max)
    }

    fn new_oids(&self, count: usize) -> Vec<Oid> {
        let count = count as u64;
        let first = self.next_oid.fetch_add(count, Ordering::Relaxed);
        (first..first + count).map(Oid::new).collect()
    }

    fn vote(
        &self,
        id: TransactionId,
        writes: WriteSet,
        policy: ConflictPolicy,
        patience: Patience,
    ) -> Result<Voted> {
        self.vote_on(id, &writes, policy, patience)
    }

    fn finish(&self, ids: &[TransactionId], now: Timestamp) -> Vec<Result<Tid>> {
        self.finish_batch(ids, now)
    }

    fn publish(&self, through: Tid) {
        self.publish_through(through);
    }

    fn abort(&self, id: TransactionId) {
        guard(&self.ledger).abort(id);
        self.tell_pack();
    }

    fn pack(
        &self,
        time: Timestamp,
        report: &mut dyn FnMut(PackProgress) -> ControlFlow<()>,
    ) -> Result<PackOutcome> {
        self.pack_until(time.to_tid(), report)
    }

    fn estimate_pack(
        &self,
        time: Timestamp,
        report: &mut dyn FnMut(PackProgress) -> ControlFlow<()>,
    ) -> Result<PackEstimate> {
        self.estimate_until(time.to_tid(), report)
    }

    fn checkpoint(&self) -> Result<()> {
        let index_size = self.objects() * 8;
        self.save_index_after(CHECKPOINT_GROWTH_MIN.max(index_size))
    }

    fn wants_room(&self) -> bool {
        self.wants_room.load(Ordering::Relaxed)
    }

    fn make_room(&self) {
        self.lay_room();
    }

    fn rest(&self) -> Result<()> {
        let mut writer = guard(&self.writer);
        let mut ledger = guard(&self.ledger);
        // With it the space would go that is reserved for what is voted, and perhaps not come back.
        let is_wanted = ledger.voted_len > 0;
        if writer.room.is_there() && !is_wanted {
            self.cut_off_room(&mut writer, &mut ledger)
        } else {
            Ok(())
        }
    }

    fn close(&self) -> Result<()> {
        let saved = self.save_index_after(1);
        let cut = {
            let mut writer = guard(&self.writer);
            let mut ledger = guard(&self.ledger);
            let is_longer = writer.room.is_there() || ledger.has_reserve();
            if is_longer { self.cut_off_room(&mut writer, &mut ledger) } else { Ok(()) }
        };
        cut?;
        guard(&self.lock).take();
        saved
    }
}

/// Locks a mutex whose data is whole at every moment, whatever its last holder met with.
pub(crate) fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One more than the largest oid in use, of those after which there is still room.
fn next_oid(index: &Index) -> u64 {
    let oid_max = index.oid_max().get();
    if index.count() == 0 {
        return 1;
    }
    if oid_max < OID_END {
        return oid_max + 1;
    }
    let in_room = index.iter_from(Oid::ZERO).map(|(oid, _)| oid.get()).take_while(|oid| *oid < OID_END);
    in_room.last().map_or(1, |oid| oid + 1)
}

impl Drop for FileStorage {
    /// Gives the database free even when nobody called `close`; the index is then as last saved.
    fn drop(&mut self) {
        guard(&self.lock).take();
    }
}

pub(crate) fn poisoned(path: &Path, error: &dyn Display) -> String {
    format!(
        "syncing {} failed ({error}): nobody knows what is on the disk, so nothing is written until the storage is reopened",
        path.display()
    )
}

pub(crate) const fn read_only() -> StorageError {
    StorageError::ReadOnly
}

/// New oids come from below; a client may have stored one from above, which must not end them.
const OID_END: u64 = 1 << 63;
/// An index is worth saving again after this much growth, or its own size.
const CHECKPOINT_GROWTH_MIN: u64 = 1 << 20;

/// What a file storage without blobs claims to be able to do.
const INTERFACES: [(&str, &str); 7] = [
    ("ZODB.interfaces", "IStorageRestoreable"),
    ("ZODB.interfaces", "IStorageIteration"),
    ("ZODB.interfaces", "IStorageUndoable"),
    ("ZODB.interfaces", "IStorageCurrentRecordIteration"),
    ("ZODB.interfaces", "IExternalGC"),
    ("ZODB.interfaces", "IStorage"),
    ("zope.interface", "Interface"),
];
