//! The log writer: takes all finishes that wait, writes them at once, then tells. One step an event.

use super::{Mail, Server, outbox::refusal};
use crate::{Sabotage, checks::Invariant, context::Context, schedule::Event};
use zeolith_core::{Grant, Publication, SessionId};
use zeolith_storage::{Storage, StorageError, TransactionId};
use zeolith_types::{Oid, Tid};

/// A transaction that its client wants finished.
#[derive(Debug)]
pub(super) struct Finish {
    pub(super) session: SessionId,
    pub(super) transaction: TransactionId,
    pub(super) changed: Vec<Oid>,
}

/// How far the log writer is with a batch.
pub(super) enum LogWriter {
    Idle,
    /// It has been woken.
    Collecting,
    Writing(Vec<Finish>),
    Noticing(Written),
    Revealing(Written),
    Releasing(Written),
    Waking(Written),
    Reporting(Written),
    MakingRoom,
}

/// What came of a batch.
pub(super) struct Written {
    ids: Vec<TransactionId>,
    publications: Vec<Publication>,
    failed: Vec<(SessionId, StorageError)>,
    last: Option<Tid>,
    grants: Vec<Grant>,
}

impl Server {
    pub(super) fn log_writer_is_idle(&self) -> bool {
        matches!(self.log_writer, LogWriter::Idle) && self.finishes.is_empty()
    }

    pub(super) fn rouse_log_writer(&mut self, context: &mut Context) {
        if matches!(self.log_writer, LogWriter::Idle) {
            self.log_writer = LogWriter::Collecting;
            context.soon(THREAD_DELAY, Event::LogWriter(self.boot));
        }
    }

    pub(crate) fn log_writer_step(&mut self, boot: u64, context: &mut Context) {
        if boot != self.boot {
            return;
        }
        let publish_first = context.plan.options.sabotage == Some(Sabotage::RevealBeforeNotice);
        let step = std::mem::replace(&mut self.log_writer, LogWriter::Idle);
        let (next, delay) = match step {
            LogWriter::Idle | LogWriter::Collecting => {
                let batch: Vec<Finish> = self.finishes.drain(..).collect();
                if batch.is_empty() {
                    return;
                }
                (LogWriter::Writing(batch), context.plan.disk_delay)
            }
            LogWriter::Writing(batch) => {
                let written = self.write(batch, context);
                if self.disk.is_dead() {
                    return;
                }
                if publish_first {
                    (LogWriter::Revealing(written), context.plan.disk_delay)
                } else {
                    (LogWriter::Noticing(written), context.plan.disk_delay)
                }
            }
            LogWriter::Noticing(mut written) => {
                self.log.append(written.publications.drain(..));
                let next =
                    if publish_first { LogWriter::Releasing(written) } else { LogWriter::Revealing(written) };
                (next, THREAD_DELAY)
            }
            LogWriter::Revealing(written) => {
                if let Some(last) = written.last {
                    self.storage.publish(last);
                    context.note(format_args!("log writer: {last:?} is visible"));
                }
                let next =
                    if publish_first { LogWriter::Noticing(written) } else { LogWriter::Releasing(written) };
                (next, THREAD_DELAY)
            }
            // Before anybody is woken: who hears that a commit is done finds its locks free.
            LogWriter::Releasing(mut written) => {
                if written.failed.iter().any(|(_, error)| matches!(error, StorageError::Poisoned(_))) {
                    self.coordinator.doubt();
                }
                for id in std::mem::take(&mut written.ids) {
                    written.grants.extend(self.give_up(id, context));
                }
                (LogWriter::Waking(written), THREAD_DELAY)
            }
            LogWriter::Waking(written) => {
                if let Some(last) = written.last {
                    self.published = last;
                    for id in self.sessions() {
                        self.wake(id, context);
                    }
                }
                (LogWriter::Reporting(written), THREAD_DELAY)
            }
            LogWriter::Reporting(written) => {
                self.report(written, context);
                (LogWriter::MakingRoom, THREAD_DELAY)
            }
            LogWriter::MakingRoom => {
                if self.storage.wants_room() {
                    self.storage.make_room();
                    context.note(format_args!("log writer: room"));
                    if self.disk.is_dead() {
                        return;
                    }
                }
                if self.finishes.is_empty() {
                    return;
                }
                (LogWriter::Collecting, THREAD_DELAY)
            }
        };
        self.log_writer = next;
        context.soon(delay, Event::LogWriter(self.boot));
    }

    fn write(&mut self, batch: Vec<Finish>, context: &mut Context) -> Written {
        let ids: Vec<TransactionId> = batch.iter().map(|finish| finish.transaction).collect();
        for id in &ids {
            if let Some(vote) = self.votes.get(id) {
                let changes = vote.changes(&context.history);
                context.history.doubt(&vote.writes.description, changes);
            }
        }
        let results = self.storage.finish(&ids, context.clock(self.started).time);
        let mut written =
            Written { ids, publications: Vec::new(), failed: Vec::new(), last: None, grants: Vec::new() };
        if self.disk.is_dead() {
            context.note(format_args!("log writer: the process dies while it writes {:?}", written.ids));
            return written;
        }
        for (finish, result) in batch.into_iter().zip(results) {
            match result {
                Ok(tid) => {
                    context.note(format_args!("log writer: ticket {} is {tid:?}", finish.transaction.0));
                    if let Some(vote) = self.votes.get(&finish.transaction) {
                        let (label, changes) = (&vote.writes.description, vote.changes(&context.history));
                        context.history.commit(tid, label, changes, &mut context.checks);
                    }
                    written.last = Some(tid);
                    written.publications.push(Publication {
                        tid,
                        oids: finish.changed.into(),
                        committer: Some(finish.session),
                    });
                }
                Err(error) => {
                    context.note(format_args!("log writer: ticket {} failed: {error}", finish.transaction.0));
                    self.finish_failed(&error, context);
                    written.failed.push((finish.session, error));
                }
            }
        }
        written
    }

    fn finish_failed(&mut self, error: &StorageError, context: &mut Context) {
        let excused = self.has_lost_reserve || self.is_poisoned;
        match error {
            StorageError::Poisoned(_) => self.is_poisoned = true,
            // A write that fails takes the reserve of all others with it.
            StorageError::Io { source, .. } if source.raw_os_error() == Some(EIO) => {
                self.has_lost_reserve = true;
            }
            other => context.checks.ensure(excused, Invariant::VotedMeansFinishable, || {
                format!("a transaction was voted and then not written: {other}")
            }),
        }
    }

    fn report(&mut self, written: Written, context: &mut Context) {
        for (session, error) in written.failed {
            self.mail(session, Mail::FinishFailed(refusal(error)), context);
        }
        self.grant(&written.grants, context);
    }
}

/// Between two steps of a thread, at most.
const THREAD_DELAY: u64 = 30;
const EIO: i32 = 5;
