//! The write side of a storage: votes, finishes in batches, publishes.

use crate::{
    append::{Appender, Unwritten},
    file::DataFile,
    format::{STATUS_VOTED, TRANSACTION_STATUS},
    ledger::{Ledger, again},
    nearby::Nearby,
    prepare::Prepared,
    room::{Plan, Room},
    storage::{FileStorage, State, Writer, guard, poisoned, read_only},
    vote::{Checked, Voter},
};
use std::{
    fmt::Display,
    io::{self, IoSlice},
    ops::Range,
    sync::{Arc, MutexGuard, TryLockError, atomic::Ordering},
};
use zeolith_disk::DiskFile;
use zeolith_storage::{ConflictPolicy, Patience, Result, StorageError, TransactionId, Voted, WriteSet};
use zeolith_types::{Tid, Timestamp};

/// A durable transaction that readers do not see yet.
pub(crate) struct Unpublished {
    pub(crate) tid: Tid,
    /// Where it ends.
    pub(crate) end: u64,
}

/// A transaction on its way into the file.
struct Placed {
    prepared: Prepared,
    tid: Tid,
    position: u64,
}

/// How a batch went wrong.
enum Failure {
    /// Nothing of it is in the file.
    Undone(io::Error),
    /// Nobody knows what of it is in the file.
    InDoubt(String),
}

impl FileStorage {
    pub(crate) fn vote_on(
        &self,
        id: TransactionId,
        writes: &WriteSet,
        policy: ConflictPolicy,
        patience: Patience,
    ) -> Result<Voted> {
        if self.options.read_only {
            return Err(read_only());
        }
        loop {
            let state = self.state.load_full();
            if let Some(tid) = writes.tid.filter(|tid| *tid <= state.tid) {
                return Err(not_rising(tid, state.tid));
            }
            let (end, ahead, generation) = {
                let ledger = self.ledger_in(patience)?;
                ledger.check()?;
                (ledger.end, ledger.voted_len, ledger.generation)
            };
            if generation != state.generation {
                continue;
            }
            let (quota, resolver) = (self.options.quota, self.options.resolver.as_deref());
            let (file, index, recent) = (&*state.file, &*state.index, &*state.recent);
            let nearby = Nearby::new(file, end, patience);
            let voter = Voter { file, index, recent, nearby, end, ahead, quota, policy, patience, resolver };
            let (prepared, resolved, undone) = match voter.check(writes)? {
                Checked::Prepared { prepared, resolved, undone } => (prepared, resolved, undone),
                Checked::Conflicts(conflicts) => return Ok(Voted::Conflicts(conflicts)),
            };
            let changed = prepared.changed();
            changed.iter().for_each(|oid| self.raise_next_oid(*oid));
            let mut ledger = self.ledger_in(patience)?;
            // If a packed file has taken the place of the one that was looked at, positions are others now.
            if ledger.generation == generation {
                ledger.vote(id, prepared, &state.file, patience)?;
                return Ok(Voted::Ready { changed, resolved, undone });
            }
        }
    }

    /// The ledger, which a pack keeps for the time of a few syncs when its file takes the place of this one.
    fn ledger_in(&self, patience: Patience) -> Result<MutexGuard<'_, Ledger>> {
        if patience == Patience::Wait {
            return Ok(guard(&self.ledger));
        }
        match self.ledger.try_lock() {
            Ok(ledger) => Ok(ledger),
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => Err(StorageError::WouldBlock),
        }
    }

    pub(crate) fn finish_batch(&self, ids: &[TransactionId], now: Timestamp) -> Vec<Result<Tid>> {
        let mut writer = guard(&self.writer);
        let (mut batch, start, mut results) = self.take_batch(ids, writer.last_tid, now);
        let end = place(&mut batch, start);
        let taken: u64 = batch.iter().map(|placed| placed.prepared.len()).sum();
        let outcome = match batch.is_empty() {
            true => Ok(()),
            false => self.write(&mut batch, start..end, now, &mut writer),
        };
        match outcome {
            Ok(()) => {
                self.enter(&batch);
                let mut ledger = guard(&self.ledger);
                ledger.settle(taken, end);
                let wanted = writer.room.wanted(end, ledger.voted_len == 0);
                self.wants_room.store(wanted.is_some(), Ordering::Relaxed);
                drop(ledger);
                writer.last_tid = batch.iter().map(|placed| placed.tid).fold(writer.last_tid, Tid::max);
            }
            Err(_) => {
                let file = Arc::clone(&self.state.load().file);
                let mut ledger = guard(&self.ledger);
                ledger.settle(taken, start);
                ledger.reserve_again(&file);
            }
        }
        self.tell_pack();
        let mut placed = batch.iter();
        for result in results.iter_mut().filter(|result| matches!(result, Ok(Tid::ZERO))) {
            let tid = placed.next().map_or(Tid::ZERO, |placed| placed.tid);
            *result = match &outcome {
                Ok(()) => Ok(tid),
                Err(Failure::Undone(error)) => Err(self.state.load().file.io("writing", again(error))),
                Err(Failure::InDoubt(why)) => Err(StorageError::Poisoned(why.clone())),
            };
        }
        results
    }

    /// The voted transactions of these names with their tids, and for each name a result that is `Ok(ZERO)`
    /// until it is known.
    fn take_batch(
        &self,
        ids: &[TransactionId],
        last_tid: Tid,
        now: Timestamp,
    ) -> (Vec<Placed>, u64, Vec<Result<Tid>>) {
        let mut ledger = guard(&self.ledger);
        let (mut batch, mut last_tid) = (Vec::with_capacity(ids.len()), last_tid);
        let mut take = |id: &TransactionId| {
            ledger.check()?;
            let prepared = ledger.take(*id);
            let prepared = prepared
                .ok_or_else(|| StorageError::Format(format!("transaction {} has not been voted", id.0)))?;
            let tid = prepared.tid.unwrap_or_else(|| now.to_tid().later_than(last_tid));
            if tid <= last_tid {
                ledger.release(&prepared);
                return Err(not_rising(tid, last_tid));
            }
            last_tid = tid;
            batch.push(Placed { prepared, tid, position: 0 });
            Ok(Tid::ZERO)
        };
        let results = ids.iter().map(&mut take).collect();
        let start = ledger.end;
        (batch, start, results)
    }

    /// Writes a batch with as few calls as can be, and syncs once, or twice where that could leave half of it.
    fn write(
        &self,
        batch: &mut [Placed],
        Range { start, end }: Range<u64>,
        now: Timestamp,
        writer: &mut Writer,
    ) -> Result<(), Failure> {
        let state = self.state.load();
        let file = &state.file.file;
        let plan = writer.room.plan(start..end, batch.len(), now);
        let give_up = |error: &dyn Display| {
            let failure = self.poison(error);
            // Whoever reopens the file must not take what was perhaps never written for a transaction.
            let _ = file.set_len(start);
            failure
        };
        let is_ambiguous =
            batch.first().is_some_and(|first| plan.is_ambiguous(start, first.tid, writer.last_tid));
        let status = hide(batch, plan);
        let written = write_pieces(&**file, batch, end, plan, &mut writer.room);
        if written.is_ok() && is_ambiguous {
            // As long as it has no status nothing can be taken for a transaction.
            file.sync_data().map_err(|error| give_up(&error))?;
        }
        let needs_mark = match written.and_then(|needs_mark| {
            show(&**file, start, status)?;
            Ok(needs_mark)
        }) {
            Ok(needs_mark) => needs_mark,
            Err(Unwritten::Unsynced(error)) => return Err(give_up(&error)),
            Err(Unwritten::Failed(error)) => {
                writer.room.is_gone();
                // Synced, or what is left of this batch on the disk might one day show through a torn next one.
                return Err(match file.set_len(start).and_then(|()| file.sync_all()) {
                    Ok(()) => Failure::Undone(error),
                    // What was written would stand between this batch and the next.
                    Err(second) => self.poison(&second),
                });
            }
        };
        file.sync_data().map_err(|error| give_up(&error))?;
        if needs_mark {
            self.mark_durable(&state.file, end).map_err(|error| give_up(&error))?;
        }
        Ok(())
    }

    /// Puts into words for the next opening that everything up to `end` has been synced.
    fn mark_durable(&self, file: &DataFile, end: u64) -> Result<()> {
        let mut watermark = guard(&self.watermark);
        watermark.as_mut().expect("a file that is written to has a watermark").advance(file, end)
    }

    fn poison(&self, error: &dyn Display) -> Failure {
        let why = poisoned(&self.path, error);
        guard(&self.ledger).poison(why.clone());
        Failure::InDoubt(why)
    }

    /// Enters durable transactions into the index and among the recent ones; readers go by the published end and do
    /// not see them yet.
    fn enter(&self, batch: &[Placed]) {
        let state = self.state.load();
        let mut unpublished = guard(&self.unpublished);
        for placed in batch {
            for (oid, in_transaction) in placed.prepared.records() {
                state.index.set(oid, placed.position + in_transaction);
            }
            let end = placed.position + placed.prepared.len();
            state.recent.push(placed.position..end, placed.tid, placed.prepared.is_plain());
            unpublished.push_back(Unpublished { tid: placed.tid, end });
        }
    }

    pub(crate) fn publish_through(&self, through: Tid) {
        let mut unpublished = guard(&self.unpublished);
        let mut last = None;
        while let Some(next) = unpublished.pop_front_if(|next| next.tid <= through) {
            last = Some(next);
        }
        let Some(last) = last else { return };
        let state = self.state.load();
        self.state.store(Arc::new(State {
            file: Arc::clone(&state.file),
            index: Arc::clone(&state.index),
            recent: Arc::clone(&state.recent),
            tid: state.tid.max(last.tid),
            end: last.end,
            generation: state.generation,
        }));
    }
}

/// Takes the status from the first transaction of a batch that must not look whole before it is: where a reader sees
/// zeros behind what is written.
fn hide(batch: &mut [Placed], plan: Plan) -> Option<u8> {
    let first = batch.first_mut().filter(|_| plan.found)?;
    Some(first.prepared.replace_status(STATUS_VOTED))
}

/// Gives the status to a batch that is written.
fn show(file: &dyn DiskFile, start: u64, status: Option<u8>) -> io::Result<()> {
    let Some(status) = status else { return Ok(()) };
    file.write_all_at(&mut [IoSlice::new(&[status])], start + TRANSACTION_STATUS as u64)
}

/// Writes the transactions of a batch, and what the plan leaves behind them. Whether a mark must say that they are
/// durable before anybody is told.
fn write_pieces(
    file: &dyn DiskFile,
    batch: &[Placed],
    end: u64,
    plan: Plan,
    room: &mut Room,
) -> Result<bool, Unwritten> {
    let [first, ..] = batch else { return Ok(false) };
    let header = batch.last().and_then(|last| plan.header(last.tid));
    let mut appender = Appender::new(file, first.position);
    for placed in batch {
        appender.begin_transaction(placed.position);
        placed.prepared.pieces(|piece| appender.push(piece))?;
    }
    if let Some(header) = &header {
        appender.push_behind(header)?;
    }
    appender.flush()?;
    room.is_used(plan, end);
    Ok(appender.has_blank_piece())
}

/// Gives the transactions their positions; the position after the last.
fn place(batch: &mut [Placed], start: u64) -> u64 {
    batch.iter_mut().fold(start, |position, placed| {
        placed.position = position;
        placed.prepared.place(placed.tid, position);
        position + placed.prepared.len()
    })
}

/// Readers, caches and indexes rely on tids that rise, those of restored transactions included.
fn not_rising(tid: Tid, last_tid: Tid) -> StorageError {
    StorageError::Format(format!("transaction {tid} does not come after the last one, {last_tid}"))
}
