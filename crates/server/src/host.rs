//! A storage with everything that its connections share.

use crate::{
    ConflictCounts, NamedStorage,
    bell::Rings,
    clock::Clock,
    log,
    log::blather,
    log_writer,
    log_writer::{Finish, Pen, Work},
    mailbox::Mailbox,
    packing::Packs,
    settings::Settings,
};
use bytes::Bytes;
use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, mpsc},
    time::Duration,
};
use tokio::sync::{Notify, watch};
use zeolith_core::{
    Abandoned, Answer, Coordinator, Counters, Grant, Inquiry, Lock, LockSet, PublicationLog, SessionId,
};
use zeolith_storage::{ConflictPolicy, Patience, Storage, StorageError, TransactionId, Voted, WriteSet};
use zeolith_types::{Refusal, Tid};

/// A storage that is served.
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) storage: Arc<dyn Storage>,
    /// No client may write, because of the server's option or the storage's.
    pub(crate) read_only: bool,
    pub(crate) invalidation_age: Option<Duration>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) conflicts: Arc<ConflictCounts>,
    pub(crate) clock: Clock,
    /// When the server started, as `ctime` writes it.
    pub(crate) started: String,
    /// The last transaction that all sessions may be told of.
    pub(crate) published: watch::Sender<Tid>,
    /// Who is to be woken when there is another one.
    pub(crate) rings: Rings,
    /// Something got a deadline.
    pub(crate) deadline_set: Notify,
    coordinator: Mutex<Coordinator>,
    log: RwLock<PublicationLog>,
    mailboxes: Mutex<HashMap<SessionId, Arc<Mailbox>>>,
    finishes: Mutex<Option<mpsc::Sender<Work>>>,
    pub(crate) pen: Pen,
    /// The threads that pack, until the server stops.
    pub(crate) packs: Mutex<Packs>,
}

/// What a session is told by others than its client.
#[derive(Debug)]
pub(crate) enum Mail {
    /// The locks that its vote waited for are held.
    Granted(TransactionId),
    /// Its transaction could not be written.
    FinishFailed(Refusal),
    /// It held its locks for too long.
    TimedOut(Duration),
    /// Its client has come back on another connection and taken its transaction for lost.
    Disowned,
    /// The storage was packed.
    SizesChanged,
    /// What became of the pack that its client waits for.
    Packed(Answer),
}

/// The storage has a defect: what it said as it panicked.
#[derive(Debug)]
pub(crate) struct Panicked(pub(crate) String);

impl Host {
    /// Prepares a storage for being served and starts its log writer.
    pub(crate) fn start(
        NamedStorage { name, storage, conflicts }: NamedStorage,
        settings: &Settings,
        clock: Clock,
        started: String,
    ) -> Result<(Arc<Self>, std::thread::JoinHandle<()>), StorageError> {
        let last = storage.last_transaction();
        let remembered = storage.last_changes(settings.invalidation_queue_size)?;
        let (finishes, waiting) = mpsc::channel();
        let host = Arc::new(Self {
            read_only: settings.read_only || storage.is_read_only(),
            invalidation_age: settings.invalidation_age,
            counters: Arc::default(),
            conflicts,
            clock,
            started,
            published: watch::Sender::new(last),
            rings: Rings::default(),
            deadline_set: Notify::new(),
            coordinator: Mutex::new(Coordinator::new(settings.transaction_timeout)),
            log: RwLock::new(PublicationLog::new(
                settings.invalidation_queue_size,
                settings.client_lag_max,
                last,
                remembered,
            )),
            mailboxes: Mutex::default(),
            finishes: Mutex::new(Some(finishes)),
            pen: Pen::default(),
            packs: Mutex::default(),
            name,
            storage,
        });
        let writer = log_writer::spawn(Arc::clone(&host), waiting);
        Ok((host, writer))
    }

    pub(crate) fn coordinator(&self) -> MutexGuard<'_, Coordinator> {
        self.coordinator.lock().expect("no thread panics while it decides")
    }

    pub(crate) fn log(&self) -> RwLockReadGuard<'_, PublicationLog> {
        self.log.read().expect("no thread panics while it publishes")
    }

    pub(crate) fn log_mut(&self) -> RwLockWriteGuard<'_, PublicationLog> {
        self.log.write().expect("no thread panics while it publishes")
    }

    /// A session has registered.
    pub(crate) fn join(&self, session: SessionId, mailbox: Arc<Mailbox>) {
        self.mailboxes().insert(session, mailbox);
        self.coordinator().join();
    }

    /// A registered session is gone, and so are its locks.
    pub(crate) fn leave(&self, session: SessionId, abandoned: Option<Abandoned>) {
        if let Some(abandoned) = abandoned {
            self.release(abandoned);
        }
        self.mailboxes().remove(&session);
        self.coordinator().leave();
    }

    /// Asks for locks; a session that must wait gets [`Mail::Granted`].
    pub(crate) fn lock(
        &self,
        session: SessionId,
        set: LockSet,
        token: Option<Bytes>,
    ) -> (TransactionId, Lock) {
        let now = self.clock.now();
        let mut coordinator = self.coordinator();
        let (transaction, lock) = coordinator.request(session, set, now);
        if let Some(token) = token {
            coordinator.name(transaction, token);
        }
        let waiting = coordinator.waiting();
        drop(coordinator);
        match lock {
            Lock::Granted => self.deadline_set.notify_one(),
            Lock::Waiting => self.report_waiting(waiting),
        }
        (transaction, lock)
    }

    /// Votes that wait are normal; many of them tell of somebody who holds locks for too long.
    fn report_waiting(&self, waiting: u64) {
        let line = format!("('{}') queue lock: transactions waiting: {waiting}", self.name);
        match waiting {
            0..=3 => tracing::debug!(target: log::STORAGE_SERVER, "{line}"),
            4..=9 => tracing::warn!(target: log::STORAGE_SERVER, "{line}"),
            _ => log::critical!(log::STORAGE_SERVER, "{line}"),
        }
    }

    /// Ends a vote that is not finished.
    pub(crate) fn release(&self, abandoned: Abandoned) {
        if abandoned.voted {
            self.storage.abort(abandoned.transaction);
        }
        let now = self.clock.now();
        let grants = self.coordinator().release(abandoned.transaction, now);
        self.grant(&grants);
    }

    /// Lets the storage vote. If it panics, the vote is taken back as far as that goes: the transaction of one client
    /// holds nothing that others wait for because of a defect that only it has met with.
    ///
    /// # Errors
    /// [`Panicked`]; the locks are free, and whoever asked must not go on.
    pub(crate) fn vote(
        &self,
        id: TransactionId,
        writes: WriteSet,
        policy: ConflictPolicy,
        patience: Patience,
    ) -> Result<Result<Voted, StorageError>, Panicked> {
        // What a storage shares is behind locks of its own, and it says itself what a panic means to them.
        let vote = AssertUnwindSafe(|| self.storage.vote(id, writes, policy, patience));
        catch_unwind(vote).map_err(|payload| {
            // One that has forgotten what it was asked may panic again.
            let _ = catch_unwind(AssertUnwindSafe(|| self.storage.abort(id)));
            self.release(Abandoned { transaction: id, voted: false });
            let said = payload.downcast_ref::<String>().map(String::as_str);
            Panicked(said.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("?").to_owned())
        })
    }

    /// Tells sessions that they hold their locks.
    pub(crate) fn grant(&self, grants: &[Grant]) {
        for grant in grants {
            blather!(
                log::STORAGE_SERVER,
                "('{}') dequeue lock: transaction {}",
                self.name,
                grant.transaction.0
            );
            self.send(grant.session, Mail::Granted(grant.transaction));
        }
        if !grants.is_empty() {
            self.deadline_set.notify_one();
        }
    }

    /// Whether the transaction of this token is still open in any way. If it is and need not be, it is
    /// given up, and its session is told.
    pub(crate) fn is_undecided(&self, token: &[u8]) -> bool {
        let inquiry = self.coordinator().inquire(token);
        match inquiry {
            Inquiry::Undecided => true,
            Inquiry::NotOpen => false,
            Inquiry::Disowned(session) => {
                self.send(session, Mail::Disowned);
                false
            }
        }
    }

    /// Hands a voted transaction to the log writer, or writes it `here` if nobody need wait for that; unless its client
    /// has been told that it is aborted.
    pub(crate) fn finish(&self, mut finish: Finish, here: bool) -> bool {
        if !self.coordinator().finishing(finish.transaction) {
            self.release(Abandoned { transaction: finish.transaction, voted: true });
            return false;
        }
        if here {
            match log_writer::write_here(self, finish) {
                Ok(()) => return true,
                Err(unwritten) => finish = unwritten,
            }
        }
        self.pen.expect_one_more();
        self.tell_log_writer(Work::Finish(finish));
        true
    }

    pub(crate) fn tell_log_writer(&self, work: Work) {
        let finishes = self.finishes.lock().expect("nobody panics while sending");
        if let Some(finishes) = finishes.as_ref() {
            // A log writer that is gone has left with the server.
            let _ = finishes.send(work);
        }
    }

    /// Lets the log writer end after what it has.
    pub(crate) fn stop_finishing(&self) {
        self.finishes.lock().expect("nobody panics while sending").take();
    }

    /// Tells a session, if it is still there.
    pub(crate) fn send(&self, session: SessionId, mail: Mail) {
        if let Some(mailbox) = self.mailboxes().get(&session) {
            mailbox.put(mail);
        }
    }

    /// Tells all sessions that the storage was packed.
    pub(crate) fn tell_sizes(&self) {
        for mailbox in self.mailboxes().values() {
            mailbox.put(Mail::SizesChanged);
        }
    }

    fn mailboxes(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Mailbox>>> {
        self.mailboxes.lock().expect("nobody panics while looking up a mailbox")
    }
}
