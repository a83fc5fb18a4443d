//! Work that may wait for the disk: asked now, done some time later, answered some time after that.

use super::{
    Server,
    iterating::{Iterate, Iterated},
    outbox::refusal,
};
use crate::{context::Context, schedule::Event};
use bytes::Bytes;
use std::{
    io::{self, Write},
    ops::ControlFlow,
    path::Path,
    sync::Arc,
};
use zeolith_core::{Caller, OutcomeSearch, Read, SessionId, VoteRequest};
use zeolith_filestorage::FileStorage;
use zeolith_storage::{
    ConflictPolicy, Load, Patience, RecordData, Spool, Spooled, Storage, StorageError, TransactionId, Voted,
};
use zeolith_types::{Oid, Outcome, Refusal, Reply, Tid, TransactionInfo};

/// What a connection wants to know, until it is answered.
pub(super) enum Question {
    Load(Caller, Oid, Tid, u32),
    Read(Caller, Read),
    Vote(VoteRequest, ConflictPolicy),
    PutAside(Caller, Vec<Bytes>),
    Iterate(Iterate),
    Answered(Done),
}

/// What comes back.
pub(super) enum Done {
    Load(SlowLoad),
    Read(Caller, Result<Reply, Refusal>),
    Voted(TransactionId, Result<Voted, Refusal>),
    PutAside(Caller, Result<Vec<RecordData>, Refusal>),
    Iterated(Iterated),
}

/// A load that may come late.
pub(super) struct SlowLoad {
    pub(super) caller: Caller,
    pub(super) oid: Oid,
    pub(super) before: Tid,
    pub(super) repeats: u32,
    pub(super) result: Result<Load, StorageError>,
}

impl Server {
    pub(super) fn ask(&mut self, session: SessionId, question: Question, context: &mut Context) {
        self.question_count += 1;
        // Questions of one server process are no questions of the next.
        let number = self.boot << 32 | self.question_count;
        self.questions.insert(number, (session, question));
        context.soon(context.plan.disk_delay, Event::PoolRuns(number));
    }

    /// A thread of the pool does the work.
    pub(crate) fn pool_runs(&mut self, number: u64, context: &mut Context) {
        let Some((session, question)) = self.questions.remove(&number) else { return };
        let done = match question {
            Question::Load(caller, oid, before, repeats) => {
                let result = self.storage.load_before(oid, before, Patience::Wait);
                Done::Load(SlowLoad { caller, oid, before, repeats, result })
            }
            Question::Read(caller, Read::Outcome(token, since)) => {
                let outcome = self.outcome(token, since).map_err(refusal);
                Done::Read(caller, outcome.map(Reply::Outcome))
            }
            Question::Read(caller, wanted) => {
                let result = read(&wanted, &self.storage, Patience::Wait).map_err(refusal);
                Done::Read(caller, result)
            }
            Question::Vote(request, policy) => {
                let id = request.transaction;
                self.vote_begins(session, id, &request.writes);
                let voted = self.storage.vote(id, request.writes, policy, Patience::Wait).map_err(refusal);
                self.vote_is_over(id, &voted, context);
                Done::Voted(id, voted)
            }
            Question::PutAside(caller, records) => Done::PutAside(caller, Ok(put_aside(&records))),
            Question::Iterate(iterate) => Done::Iterated(iterate.run(&self.storage, &self.open_iterators)),
            Question::Answered(done) => done,
        };
        self.questions.insert(number, (session, Question::Answered(done)));
        context.soon(context.plan.disk_delay, Event::PoolAnswers(number));
    }

    /// What became of a transaction that is not open any more.
    fn outcome(&self, token: Bytes, since: Tid) -> Result<Outcome, StorageError> {
        let mut search = OutcomeSearch::new(token, since);
        let mut transactions = self.storage.iterate(Some(since), None)?;
        while let Some(TransactionInfo { tid, status, extension, .. }) = transactions.next_transaction()? {
            let token = zeolith_pickle::transaction_token(&extension);
            if let ControlFlow::Break(outcome) = search.see(tid, status, token.as_deref()) {
                return Ok(outcome);
            }
        }
        Ok(search.end(self.coordinator.packed_until()))
    }

    /// The connection hears of it, if it is still there. What a vote holds is then released, as the real
    /// connection waits for its vote before it ends.
    pub(crate) fn pool_answers(&mut self, number: u64, context: &mut Context) {
        let Some((session, Question::Answered(done))) = self.questions.remove(&number) else { return };
        if let Some(connection) = self.connections.get_mut(&session) {
            connection.answers.push_back(done);
            self.wake(session, context);
        }
    }
}

/// What is put aside, without a disk that could fail.
struct Aside(Vec<u8>);

impl Spool for Aside {
    fn read_exact_at(&self, mut buffer: &mut [u8], position: u64) -> io::Result<()> {
        let rest = usize::try_from(position).ok().and_then(|position| self.0.get(position..));
        let rest = rest.and_then(|rest| rest.get(..buffer.len())).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.write_all(rest)
    }

    fn place(&self) -> &Path {
        Path::new("aside")
    }
}

fn put_aside(records: &[Bytes]) -> Vec<RecordData> {
    let spool: Arc<dyn Spool> = Arc::new(Aside(records.concat()));
    let mut end = 0;
    let place = |record: &Bytes| {
        let position = end;
        end += record.len() as u64;
        RecordData::Spooled(Spooled::new(Arc::clone(&spool), position, record.len() as u32))
    };
    records.iter().map(place).collect()
}

/// The reads that are a single question to the storage.
pub(super) fn read(wanted: &Read, storage: &FileStorage, patience: Patience) -> Result<Reply, StorageError> {
    match wanted {
        Read::Info => Ok(Reply::Info(Box::new(storage.info()))),
        Read::LastTransaction => Ok(Reply::Tid(storage.last_transaction())),
        Read::NewOids(count) => Ok(Reply::Oids(storage.new_oids(*count))),
        Read::LoadSerial(oid, serial) => storage.load_serial(*oid, *serial, patience).map(Reply::Data),
        Read::CurrentTid(oid) => storage.current_tid(*oid, patience).map(Reply::Tid),
        Read::History(oid, size) => storage.history(*oid, *size, patience).map(Reply::History),
        Read::RecordIternext(next) => storage.record_iternext(*next, patience).map(Reply::CurrentRecord),
        Read::Changes(after) => {
            // Walking the storage takes a while however much of it is in memory.
            if patience == Patience::Now {
                return Err(StorageError::WouldBlock);
            }
            let changes = storage.changes_since(*after, CHANGES_MAX)?;
            Ok(Reply::Invalidations(changes.map(|changes| (changes.through, changes.oids))))
        }
        _ => Err(StorageError::Unsupported("no simulated client asks this".to_owned())),
    }
}

const CHANGES_MAX: usize = 1 << 20;
