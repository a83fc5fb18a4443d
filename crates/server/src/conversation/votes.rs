//! The votes of a conversation, and the results of everything that had to wait.

use super::Conversation;
use crate::{
    ended::Ended,
    jobs::{Done, Job},
    limits::Limit,
    log,
    refusals::refusal,
};
use zeolith_core::{Answer, TooMany, Verdict, VoteRequest};
use zeolith_storage::{ConflictPolicy, Patience, StorageError};
use zeolith_types::{Refusal, Reply};

impl Conversation {
    /// Asks the storage, here if that is quick.
    pub(super) fn vote(&mut self, request: VoteRequest, out: &mut Vec<u8>) -> Result<Option<Job>, Ended> {
        let Some(host) = self.host.clone() else { return Ok(None) };
        let policy = if self.shared.settings.client_conflict_resolution {
            ConflictPolicy::Collect
        } else {
            ConflictPolicy::Refuse
        };
        let (objects, bytes) = (request.writes.writes.len(), request.size);
        log::blather!(
            log::STORAGE_SERVER,
            "({}) Preparing to commit transaction: {objects} objects, {bytes} bytes",
            self.label
        );
        let (objects_max, bytes_max) = if self.seat.is_alone() { SMALL_FOR_ONE } else { SMALL };
        self.voted_small = objects <= objects_max && bytes <= bytes_max;
        if !self.voted_small {
            return Ok(Some(Job::Vote(request, policy)));
        }
        let voted = host.vote(request.transaction, request.writes.clone(), policy, Patience::Now);
        match voted.map_err(Ended::Defect)? {
            Err(StorageError::WouldBlock) => Ok(Some(Job::Vote(request, policy))),
            voted => {
                let voted = voted.map_err(refusal);
                self.done(Done::Voted(request.transaction, voted), out)
            }
        }
    }

    /// Takes the result of a job; now and then another job follows from it.
    pub(crate) fn done(&mut self, done: Done, out: &mut Vec<u8>) -> Result<Option<Job>, Ended> {
        let (to, result) = match done {
            Done::Read(to, result) => (to, result),
            Done::Voted(transaction, outcome) => {
                if let Some(host) = &self.host {
                    host.conflicts.note(&self.label, &outcome);
                }
                let Verdict { answer, release } = self.session.voted(transaction, outcome);
                if let (Some(host), Some(release)) = (&self.host, release) {
                    host.release(release);
                }
                return answer.map_or(Ok(None), |answer| self.answer(answer, out).map(|()| None));
            }
            Done::Panicked(panicked) => return Err(Ended::Defect(panicked)),
            Done::PutAside(to, aside, kept) => {
                self.put_aside = aside;
                let answer = self.session.put_aside(to, kept);
                return answer.map_or(Ok(None), |answer| self.answer(answer, out).map(|()| None));
            }
            Done::BlobWritten(to, upload) => {
                let result = upload.map(|upload| {
                    self.upload = Some(upload);
                    Reply::None
                });
                (to, result)
            }
            Done::BlobUploaded(to, record, blob) => {
                if let Err(refusal @ Refusal::Value(_)) = &blob {
                    self.report_bad_name(refusal);
                }
                let step = self.session.blob_uploaded(to, record, blob);
                return self.take(step, out);
            }
            Done::BlobOpened(stream) => {
                self.stream = Some(stream);
                return Ok(None);
            }
            Done::Iterating(to, iterator) => {
                let id = iterator.and_then(|iterator| {
                    self.iterators.add_transactions(iterator).map_err(|TooMany| self.too_many_iterators())
                });
                (to, id.map(Reply::IteratorId))
            }
            Done::Transaction(to, id, iterator, next) => {
                if let Ok(Some(transaction)) = &next {
                    self.iterators.return_transactions(id, iterator, transaction.tid);
                }
                (to, next.map(Reply::Transaction))
            }
            Done::Records(to, id, tid, iterator, records) => {
                self.iterators.return_transactions(id, iterator, tid);
                let id = records.and_then(|records| {
                    self.iterators.add_records(records).map_err(|TooMany| self.too_many_iterators())
                });
                (to, id.map(Reply::IteratorId))
            }
            Done::Record(to, id, iterator, next) => {
                if let Ok(Some(_)) = &next {
                    self.iterators.return_records(id, iterator);
                }
                (to, next.map(Reply::Record))
            }
        };
        self.answer(Answer { to, result }, out).map(|()| None)
    }

    fn too_many_iterators(&self) -> Refusal {
        self.shared.limits.count(Limit::Iterators);
        let max = self.shared.settings.iterators_max;
        Refusal::Value(format!(
            "this connection has {max} iterators open, the iterators-max of the server; read them to their end or drop them"
        ))
    }
}

/// A transaction of more objects or more bytes than this is not voted in the connection's task, because the worker's
/// other clients wait for it.
const SMALL: (usize, u64) = (128, 256 << 10);
/// The same if the worker has no other clients: only who connects just then would wait. A thousand objects commit an
/// eighth faster than by way of two other threads.
const SMALL_FOR_ONE: (usize, u64) = (1024, 1 << 20);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        conversation::Conversation,
        scripted::{self, Scripted, say},
    };
    use bytes::Bytes;
    use std::{
        sync::{Mutex, mpsc},
        thread,
    };
    use zeolith_types::{Oid, Value};

    const TRANSACTION: Value = Value::Int(5);

    /// Stores the first so many objects, and asks for the vote.
    fn vote(client: &mut Conversation, objects: u64) -> Result<(Option<Job>, Vec<u8>), Ended> {
        let bytes = |bytes: &[u8]| Value::Bytes(Bytes::copy_from_slice(bytes));
        let begin = [TRANSACTION, bytes(b""), bytes(b""), Value::Dict(Vec::new())];
        say(client, "tpc_begin", &begin)?;
        for oid in 0..objects {
            let oid = bytes(&Oid::new(oid).to_bytes());
            say(client, "storea", &[oid, bytes(&[0; 8]), bytes(b"data"), TRANSACTION])?;
        }
        say(client, "vote", &[TRANSACTION])
    }

    #[test]
    fn a_worker_writes_what_is_small_for_the_only_client_that_it_has() {
        let (more, most) = (SMALL.0 as u64 + 1, SMALL_FOR_ONE.0 as u64 + 1);
        for (objects, others, voted_here, here) in [
            (1, 0, true, true),
            (more, 0, true, true),
            (most, 0, false, false),
            (1, 1, true, false),
            (more, 1, false, false),
        ] {
            let (finishes, finished) = mpsc::channel();
            let storage = Scripted { finishes: Some(Mutex::new(finishes)), ..Scripted::default() };
            let (host, _) = scripted::host(storage);
            let mut client = scripted::registered(&host, 1);
            let _others: Vec<_> = (0..others).map(|_| client.seat.next_to()).collect();
            let (job, _) = vote(&mut client, objects).unwrap_or_else(|ended| panic!("{ended}"));
            assert_eq!(job.is_none(), voted_here, "{objects} objects, {others} others");
            if let Some(job) = job {
                assert!(client.done(job.run(&host), &mut Vec::new()).is_ok());
            }
            assert!(say(&mut client, "tpc_finish", &[TRANSACTION]).is_ok());
            let by_whom = finished.recv().unwrap();
            assert_eq!(by_whom == thread::current().id(), here, "{objects} objects, {others} others");
        }
    }

    #[test]
    fn a_storage_that_panics_at_a_vote_ends_one_connection_and_nobody_waits_for_its_locks() {
        for objects in [1, SMALL_FOR_ONE.0 as u64 + 1] {
            let storage = Scripted::default();
            storage.vote_panics.store(true, std::sync::atomic::Ordering::Relaxed);
            let (host, _) = scripted::host(storage);
            let (mut unlucky, mut other) = (scripted::registered(&host, 1), scripted::registered(&host, 2));
            let ended = match vote(&mut unlucky, objects) {
                Ok((Some(job), _)) => unlucky.done(job.run(&host), &mut Vec::new()).err(),
                Ok((None, _)) => None,
                Err(ended) => Some(ended),
            };
            let said = ended.unwrap().to_string();
            assert!(
                said.contains("panicked at the vote") && said.contains("a defect of the storage"),
                "{said}"
            );
            let (job, heard) = vote(&mut other, 1).unwrap_or_else(|ended| panic!("{ended}"));
            assert!(job.is_none() && !heard.is_empty(), "it has its locks, and its answer");
            drop(unlucky);
            assert!(other.session.is_voting());
            assert!(say(&mut other, "tpc_finish", &[TRANSACTION]).is_ok());
        }
    }
}
