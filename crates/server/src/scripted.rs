//! A storage in memory that does what a test wants, and conversations with its server without a socket.

use crate::{
    bell::Bells,
    clock::Clock,
    connection::Shared,
    conversation::Conversation,
    ended::Ended,
    host::Host,
    jobs::Job,
    limits::Limits,
    settings::{NamedStorage, Settings},
    workers::Seat,
};
use bytes::Bytes;
use std::{
    collections::BTreeMap,
    ops::{ControlFlow, Range},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc,
    },
    thread::{self, ThreadId},
};
use zeolith_core::SessionId;
use zeolith_storage::{
    Changes, ConflictPolicy, Load, PackOutcome, PackProgress, Patience, Result, Storage, StorageError,
    TransactionId, TransactionIterator, Voted, WriteSet, memory::MemoryStorage,
};
use zeolith_types::{CurrentRecord, HistoryEntry, Oid, StorageInfo, Tid, Timestamp, UndoEntry, Value};
use zeolith_wire::{Encoding, encode_call};

/// A storage in memory, but for what its fields say.
pub(crate) struct Scripted {
    pub(crate) inner: MemoryStorage,
    /// A batch is finished when something comes from here; the sync fails if that is false.
    pub(crate) gate: Option<Mutex<mpsc::Receiver<bool>>>,
    /// The next vote panics.
    pub(crate) vote_panics: AtomicBool,
    /// Hears of each checkpoint.
    pub(crate) checkpoints: Option<Mutex<mpsc::Sender<()>>>,
    /// Hears which thread makes room, which is wanted once.
    pub(crate) rooms: Option<Mutex<mpsc::Sender<ThreadId>>>,
    pub(crate) wants_room: AtomicBool,
    /// Hears which thread finishes a batch.
    pub(crate) finishes: Option<Mutex<mpsc::Sender<ThreadId>>>,
}

impl Default for Scripted {
    fn default() -> Self {
        Self {
            inner: MemoryStorage::new("scripted"),
            gate: None,
            vote_panics: AtomicBool::new(false),
            checkpoints: None,
            rooms: None,
            wants_room: AtomicBool::new(false),
            finishes: None,
        }
    }
}

/// The storage as it is served, and its log writer.
pub(crate) fn host(storage: Scripted) -> (Arc<Host>, thread::JoinHandle<()>) {
    let storage = NamedStorage { name: "1".into(), storage: Arc::new(storage), conflicts: Arc::default() };
    Host::start(storage, &Settings::default(), Clock::start(), String::new()).unwrap()
}

/// A client that has registered.
pub(crate) fn registered(host: &Arc<Host>, session: u64) -> Conversation {
    let hosts = BTreeMap::from([("1".to_owned(), Arc::clone(host))]);
    let shared = Shared { settings: Settings::default(), hosts, limits: Arc::new(Limits::default()) };
    let session = SessionId(session);
    let (peer, shared) = ("peer".to_owned(), Arc::new(shared));
    let mut conversation =
        Conversation::new(session, peer, Encoding::Msgpack, shared, Seat::only(Bells::default()));
    let registered = say(&mut conversation, "register", &[Value::Str("1".into()), Value::Bool(false)]);
    assert!(matches!(registered, Ok((None, _))));
    conversation
}

/// A call of a client: what is left to be done, and what the client hears at once.
pub(crate) fn say(
    conversation: &mut Conversation,
    method: &'static str,
    arguments: &[Value],
) -> std::result::Result<(Option<Job>, Vec<u8>), Ended> {
    let (mut words, mut heard) = (Vec::new(), Vec::new());
    let one_way = matches!(method, "tpc_begin" | "storea");
    encode_call(Encoding::Msgpack, &Value::Int(1), one_way, method, arguments, &mut words).unwrap();
    let job = conversation.receive(&Bytes::from(words).slice(4..), &mut heard)?;
    Ok((job, heard))
}

impl Storage for Scripted {
    fn finish(&self, ids: &[TransactionId], now: Timestamp) -> Vec<Result<Tid>> {
        if let Some(heard) = &self.finishes {
            heard.lock().unwrap().send(thread::current().id()).unwrap();
        }
        match self.gate.as_ref().map_or(Ok(true), |gate| gate.lock().unwrap().recv()) {
            Ok(true) => self.inner.finish(ids, now),
            _ => ids.iter().map(|_| Err(StorageError::Poisoned("no sync".into()))).collect(),
        }
    }

    fn info(&self) -> StorageInfo {
        self.inner.info()
    }

    fn is_read_only(&self) -> bool {
        self.inner.is_read_only()
    }

    fn last_transaction(&self) -> Tid {
        self.inner.last_transaction()
    }

    fn load_before(&self, oid: Oid, before: Tid, patience: Patience) -> Result<Load> {
        self.inner.load_before(oid, before, patience)
    }

    fn load_serial(&self, oid: Oid, serial: Tid, patience: Patience) -> Result<Bytes> {
        self.inner.load_serial(oid, serial, patience)
    }

    fn current_tid(&self, oid: Oid, patience: Patience) -> Result<Tid> {
        self.inner.current_tid(oid, patience)
    }

    fn history(&self, oid: Oid, size: usize, patience: Patience) -> Result<Vec<HistoryEntry>> {
        self.inner.history(oid, size, patience)
    }

    fn record_iternext(&self, next: Option<Oid>, patience: Patience) -> Result<CurrentRecord> {
        self.inner.record_iternext(next, patience)
    }

    fn iterate(&self, start: Option<Tid>, stop: Option<Tid>) -> Result<Box<dyn TransactionIterator>> {
        self.inner.iterate(start, stop)
    }

    fn undo_log(
        &self,
        range: Range<u64>,
        wanted: &mut dyn FnMut(&UndoEntry) -> bool,
    ) -> Result<Option<Vec<UndoEntry>>> {
        self.inner.undo_log(range, wanted)
    }

    fn last_changes(&self, count: usize) -> Result<Vec<(Tid, Vec<Oid>)>> {
        self.inner.last_changes(count)
    }

    fn changes_since(&self, after: Tid, oids_max: usize) -> Result<Option<Changes>> {
        self.inner.changes_since(after, oids_max)
    }

    fn new_oids(&self, count: usize) -> Vec<Oid> {
        self.inner.new_oids(count)
    }

    fn vote(
        &self,
        id: TransactionId,
        writes: WriteSet,
        policy: ConflictPolicy,
        patience: Patience,
    ) -> Result<Voted> {
        assert!(!self.vote_panics.swap(false, Relaxed), "a defect of the storage");
        self.inner.vote(id, writes, policy, patience)
    }

    fn publish(&self, through: Tid) {
        self.inner.publish(through);
    }

    fn abort(&self, id: TransactionId) {
        self.inner.abort(id);
    }

    fn pack(
        &self,
        time: Timestamp,
        report: &mut dyn FnMut(PackProgress) -> ControlFlow<()>,
    ) -> Result<PackOutcome> {
        self.inner.pack(time, report)
    }

    fn wants_room(&self) -> bool {
        self.wants_room.load(Relaxed)
    }

    fn make_room(&self) {
        if self.wants_room.swap(false, Relaxed)
            && let Some(heard) = &self.rooms
        {
            heard.lock().unwrap().send(thread::current().id()).unwrap();
        }
    }

    fn rest(&self) -> Result<()> {
        self.inner.rest()
    }

    fn checkpoint(&self) -> Result<()> {
        if let Some(heard) = &self.checkpoints {
            heard.lock().unwrap().send(()).unwrap();
        }
        self.inner.checkpoint()
    }

    fn close(&self) -> Result<()> {
        self.inner.close()
    }
}
