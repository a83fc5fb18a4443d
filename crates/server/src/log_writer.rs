//! Writes a storage's transactions: all that wait, with one write and one sync.
//!
//! One thread does it, the log writer; while it syncs, the next batch collects, and before it writes it lets workers run
//! that wait for its processor ([`Courtesy`]). Only if nobody else waits for
//! anything a worker writes the transaction of its client itself, which spares the client the time that two threads
//! need to wake one another ([`write_here`]). Whoever writes has the storage's [`Pen`]. What is durable is
//! published in the order that clients' caches depend on: first into the publication log, then visible to
//! readers, then everybody is woken (invariants 6 and 7). When that is done the log writer has the storage make room for
//! the next batch, whoever wrote the last one.

use crate::{
    courtesy::Courtesy,
    host::{Host, Mail},
    log,
    refusals::refusal,
};
use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};
use zeolith_core::{Publication, SessionId};
use zeolith_storage::{StorageError, TransactionId};
use zeolith_types::Oid;

/// A transaction that its client wants finished.
#[derive(Debug)]
pub(crate) struct Finish {
    pub(crate) session: SessionId,
    pub(crate) transaction: TransactionId,
    /// What others must hear of.
    pub(crate) changed: Vec<Oid>,
}

/// What there is to do for the log writer.
#[derive(Debug)]
pub(crate) enum Work {
    Finish(Finish),
    /// Rounds are to be made, or room.
    Chores,
}

impl Work {
    fn finish(self) -> Option<Finish> {
        match self {
            Self::Finish(finish) => Some(finish),
            Self::Chores => None,
        }
    }
}

/// Starts the thread; it ends when nobody can send to it any more.
pub(crate) fn spawn(host: Arc<Host>, works: mpsc::Receiver<Work>) -> thread::JoinHandle<()> {
    thread::Builder::new()
        .name(format!("log writer {}", host.name))
        .spawn(move || {
            let _defects_end_all = DefectsEndAll;
            let mut courtesy = Courtesy::default();
            while let Some(first) = next_finish(&host, &works) {
                if host.pen.is_slow.load(Relaxed) {
                    host.rings.end_rounds();
                }
                let held = host.pen.take();
                let batch = collect(&works, first, || let_others_in(&mut courtesy));
                host.pen.waiting.fetch_sub(batch.len(), Relaxed);
                write(&host, batch, &held);
                drop(held);
                make_room(&host);
            }
        })
        .expect("a thread can be started when the server starts")
}

/// Waits for somebody who wants to finish, and makes rounds meanwhile for those who are owed news; `None` when nobody
/// can come any more.
fn next_finish(host: &Host, works: &mpsc::Receiver<Work>) -> Option<Finish> {
    loop {
        let work = match host.rings.round_at() {
            None => works.recv().ok()?,
            Some(at) => match works.recv_timeout(at.saturating_duration_since(Instant::now())) {
                Ok(work) => work,
                Err(RecvTimeoutError::Timeout) => {
                    host.rings.round(Instant::now());
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return None,
            },
        };
        if let Some(finish) = work.finish() {
            return Some(finish);
        }
        make_room(host);
    }
}

/// Has the storage prepare for the next batch, now that everybody has been told of the last one.
fn make_room(host: &Host) {
    if host.storage.wants_room() {
        let _held = host.pen.take();
        host.storage.make_room();
    }
}

/// The next batch: the first one and all that wait, and those that come while others are let in, for as long as any do.
fn collect(works: &mpsc::Receiver<Work>, first: Finish, mut let_others_in: impl FnMut()) -> Vec<Finish> {
    let mut batch = vec![first];
    loop {
        let_others_in();
        let before = batch.len();
        batch.extend(works.try_iter().filter_map(Work::finish).take(BATCH_MAX - before));
        if batch.len() == before || batch.len() == BATCH_MAX {
            return batch;
        }
    }
}

/// Lets others have the processor before a batch is written. Where workers wait for it they bring what else is to be
/// finished, which then needs no sync of its own; where nobody waits it takes no time.
fn let_others_in(courtesy: &mut Courtesy) {
    let begun = Instant::now();
    if !courtesy.is_paused(begun) {
        thread::yield_now();
        courtesy.was_let_in(begun, Instant::now());
    }
}

/// Writes a transaction on the thread of its worker, which serves nobody else meanwhile; gives it back if it is for
/// the log writer: others wait for theirs, or the disk is slow.
pub(crate) fn write_here(host: &Host, finish: Finish) -> Result<(), Finish> {
    match host.pen.take_if_quick() {
        Some(held) => {
            if write(host, vec![finish], &held) || host.storage.wants_room() {
                host.tell_log_writer(Work::Chores);
            }
            Ok(())
        }
        None => Err(finish),
    }
}

/// The right to write to a storage, which one thread has at a time: tids rise in the order in which they are published.
#[derive(Debug, Default)]
pub(crate) struct Pen {
    held: Mutex<()>,
    /// Transactions that are on their way to the log writer.
    waiting: AtomicUsize,
    /// The last write and sync took longer than [`QUICK`].
    is_slow: AtomicBool,
}

impl Pen {
    /// A transaction is about to be sent to the log writer.
    pub(crate) fn expect_one_more(&self) {
        self.waiting.fetch_add(1, Relaxed);
    }

    fn take(&self) -> Held<'_> {
        Held {
            _guard: self.held.lock().expect("a panic of who has the pen ends the process"),
            is_slow: &self.is_slow,
            _defects_end_all: DefectsEndAll,
        }
    }

    /// The pen, if that takes no time and its next use won't either, as far as can be known.
    fn take_if_quick(&self) -> Option<Held<'_>> {
        if self.is_slow.load(Relaxed) || self.waiting.load(Relaxed) > 0 {
            return None;
        }
        let guard = self.held.try_lock().ok()?;
        Some(Held { _guard: guard, is_slow: &self.is_slow, _defects_end_all: DefectsEndAll })
    }
}

/// Whoever has the pen.
struct Held<'a> {
    _guard: MutexGuard<'a, ()>,
    is_slow: &'a AtomicBool,
    _defects_end_all: DefectsEndAll,
}

/// A defect of ours that ends the thread of who writes takes the process with it: going on would leave clients waiting for
/// ever, and what is on the disk is safe by itself.
struct DefectsEndAll;

impl Drop for DefectsEndAll {
    fn drop(&mut self) {
        if thread::panicking() {
            log::critical!(log::STORAGE_SERVER, "a write ended by a defect; the server ends at once");
            std::process::abort();
        }
    }
}

/// Whether rounds are to be made to tell everybody, and none were before.
fn write(host: &Host, batch: Vec<Finish>, held: &Held<'_>) -> bool {
    let mut sessions: Vec<SessionId> = batch.iter().map(|finish| finish.session).collect();
    sessions.sort_unstable();
    let ids: Vec<TransactionId> = batch.iter().map(|finish| finish.transaction).collect();
    let begun = Instant::now();
    let results = host.storage.finish(&ids, host.clock.now().time);
    held.is_slow.store(begun.elapsed() > QUICK, Relaxed);
    assert_eq!(results.len(), batch.len(), "a storage answers for every transaction");
    let mut last = None;
    let (mut publications, mut failed) = (Vec::with_capacity(batch.len()), Vec::new());
    for (finish, result) in batch.into_iter().zip(results) {
        match result {
            Ok(tid) => {
                last = Some(tid);
                let (oids, committer) = (finish.changed.into(), Some(finish.session));
                publications.push(Publication { tid, oids, committer });
            }
            Err(error) => {
                failed.push((finish.session, error));
            }
        }
    }
    host.log_mut().append(publications);
    host.counters.commits.fetch_add((ids.len() - failed.len()) as u64, Relaxed);
    if let Some(last) = last {
        host.storage.publish(last);
    }
    // Before anybody is woken: who hears that a commit is done finds its locks free.
    let now = host.clock.now();
    let mut coordinator = host.coordinator();
    if failed.iter().any(|(_, error)| matches!(error, StorageError::Poisoned(_))) {
        coordinator.doubt();
    }
    let grants: Vec<_> = ids.iter().flat_map(|id| coordinator.release(*id, now)).collect();
    drop(coordinator);
    let makes_rounds = last.is_some_and(|last| {
        host.published.send_replace(last);
        host.rings.ring(&sessions, last, Instant::now())
    });
    for (session, error) in failed {
        report(host, session, error);
    }
    host.grant(&grants);
    makes_rounds
}

fn report(host: &Host, session: SessionId, error: StorageError) {
    log::critical!(
        log::STORAGE_SERVER,
        "('{}') a transaction could not be written and was dropped: {error}",
        host.name
    );
    host.send(session, Mail::FinishFailed(refusal(error)));
}

/// Transactions in one batch. More would only make the first ones wait longer.
const BATCH_MAX: usize = 1024;
/// After a write that took longer a worker leaves the next one to the log writer.
const QUICK: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::{self, Scripted};
    use bytes::Bytes;
    use std::sync::Mutex;
    use zeolith_core::{Lock, LockSet};
    use zeolith_storage::{ConflictPolicy, Patience, WriteSet};

    fn host() -> (Arc<Host>, thread::JoinHandle<()>, mpsc::Sender<bool>) {
        let (sync, gate) = mpsc::channel();
        let (host, writer) = scripted::host(Scripted { gate: Some(Mutex::new(gate)), ..Scripted::default() });
        (host, writer, sync)
    }

    fn voted(host: &Host, oid: u64, token: &'static [u8]) -> Finish {
        let (session, oid) = (SessionId(oid), Oid::new(oid));
        let (transaction, lock) =
            host.lock(session, LockSet::Objects(vec![oid]), Some(Bytes::from_static(token)));
        assert_eq!(lock, Lock::Granted);
        host.storage.vote(transaction, WriteSet::default(), ConflictPolicy::Refuse, Patience::Wait).unwrap();
        Finish { session, transaction, changed: vec![oid] }
    }

    fn unvoted(session: u64) -> Finish {
        Finish { session: SessionId(session), transaction: TransactionId(session), changed: Vec::new() }
    }

    #[test]
    fn a_batch_has_what_waits_and_what_comes_while_others_are_let_in() {
        let (sender, works) = mpsc::channel();
        let send = |session| sender.send(Work::Finish(unvoted(session))).unwrap();
        send(2);
        sender.send(Work::Chores).unwrap();
        let mut times = 0;
        let batch = collect(&works, unvoted(1), || {
            times += 1;
            if times <= 2 {
                send(2 + times);
            }
        });
        let sessions: Vec<u64> = batch.iter().map(|finish| finish.session.0).collect();
        assert_eq!((sessions, times), (vec![1, 2, 3, 4], 3));
    }

    #[test]
    fn a_batch_has_an_end_however_many_come() {
        let (sender, works) = mpsc::channel();
        let batch = collect(&works, unvoted(0), || {
            for session in 1..=10 {
                sender.send(Work::Finish(unvoted(session))).unwrap();
            }
        });
        assert_eq!(batch.len(), BATCH_MAX);
    }

    #[test]
    fn a_transaction_is_undecided_while_it_is_written_and_not_afterwards() {
        let (host, writer, sync) = host();
        assert!(host.finish(voted(&host, 1, b"token"), false));
        assert!(host.is_undecided(b"token"));
        sync.send(true).unwrap();
        host.stop_finishing();
        writer.join().unwrap();
        assert!(!host.is_undecided(b"token"));
    }

    #[test]
    fn after_a_failed_sync_nobody_is_told_that_a_transaction_is_aborted() {
        let (host, writer, sync) = host();
        let open = voted(&host, 2, b"open");
        assert!(host.finish(voted(&host, 1, b"token"), false));
        sync.send(false).unwrap();
        host.stop_finishing();
        writer.join().unwrap();
        assert!(host.is_undecided(b"token"));
        assert!(!host.is_undecided(b"open"), "no log writer has seen it");
        assert!(!host.finish(open, true), "and none will");
    }

    #[test]
    fn nobody_writes_in_place_of_the_log_writer_while_others_wait_or_the_disk_is_slow() {
        let pen = Pen::default();
        assert!(pen.take_if_quick().is_some());
        let held = pen.take();
        assert!(pen.take_if_quick().is_none(), "somebody else is writing");
        held.is_slow.store(true, Relaxed);
        drop(held);
        assert!(pen.take_if_quick().is_none(), "the disk is slow");
        pen.take().is_slow.store(false, Relaxed);
        pen.expect_one_more();
        assert!(pen.take_if_quick().is_none(), "somebody else has come first");
    }

    #[test]
    fn the_log_writer_makes_room_whoever_has_written() {
        for here in [true, false] {
            let (room, rooms) = mpsc::channel();
            let scripted = Scripted { rooms: Some(Mutex::new(room)), ..Scripted::default() };
            scripted.wants_room.store(true, Relaxed);
            let (host, writer) = scripted::host(scripted);
            assert!(host.finish(voted(&host, 1, b"token"), here));
            assert_eq!(rooms.recv_timeout(Duration::from_secs(10)).unwrap(), writer.thread().id(), "{here}");
            host.stop_finishing();
            writer.join().unwrap();
        }
    }

    #[test]
    fn what_the_log_writer_has_written_others_need_not_wait_for() {
        let (host, writer, sync) = host();
        assert!(host.finish(voted(&host, 1, b"token"), false));
        assert!(host.pen.take_if_quick().is_none());
        sync.send(true).unwrap();
        host.stop_finishing();
        writer.join().unwrap();
        assert_eq!(host.pen.waiting.load(Relaxed), 0);
    }
}
