//! The one thread that writes a storage's transactions: all that wait, with one write and one sync.
//!
//! While it syncs, the next batch collects. What it has made durable it publishes in the order that
//! clients' caches depend on: first into the publication log, then visible to readers, then everybody
//! is woken (invariants 6 and 7).

use crate::{
    host::{Host, Mail},
    log,
    refusals::refusal,
};
use std::{
    sync::{
        Arc,
        atomic::Ordering::{Relaxed, Release},
        mpsc,
    },
    thread,
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

/// Starts the thread; it ends when nobody can send to it any more.
pub(crate) fn spawn(host: Arc<Host>, finishes: mpsc::Receiver<Finish>) -> thread::JoinHandle<()> {
    thread::Builder::new()
        .name(format!("log writer {}", host.name))
        .spawn(move || {
            let _guard = Guard;
            while let Ok(first) = finishes.recv() {
                let mut batch = vec![first];
                batch.extend(finishes.try_iter().take(BATCH_MAX - 1));
                write(&host, batch);
            }
        })
        .expect("a thread can be started when the server starts")
}

/// A log writer that dies of a bug of ours takes the process with it: going on would leave its clients
/// waiting for ever, and what is on the disk is safe by itself.
struct Guard;

impl Drop for Guard {
    fn drop(&mut self) {
        if thread::panicking() {
            log::critical!(log::STORAGE_SERVER, "the log writer died of a defect; the server ends at once");
            std::process::abort();
        }
    }
}

fn write(host: &Host, batch: Vec<Finish>) {
    let ids: Vec<TransactionId> = batch.iter().map(|finish| finish.transaction).collect();
    let results = host.storage.finish(&ids, host.clock.now().time);
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
                if matches!(error, StorageError::Poisoned(_)) {
                    host.in_doubt.store(true, Release);
                }
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
    let grants: Vec<_> = ids.iter().flat_map(|id| coordinator.release(*id, now)).collect();
    drop(coordinator);
    if let Some(last) = last {
        host.published.send_replace(last);
    }
    for (session, error) in failed {
        report(host, session, error);
    }
    host.grant(&grants);
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

    #[test]
    fn a_transaction_is_undecided_while_it_is_written_and_not_afterwards() {
        let (host, writer, sync) = host();
        assert!(host.finish(voted(&host, 1, b"token")));
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
        assert!(host.finish(voted(&host, 1, b"token")));
        sync.send(false).unwrap();
        host.stop_finishing();
        writer.join().unwrap();
        assert!(host.is_undecided(b"token"));
        assert!(!host.is_undecided(b"open"), "no log writer has seen it");
        assert!(!host.finish(open), "and none will");
    }
}
