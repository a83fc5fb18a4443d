//! The reads of a conversation: a load is answered here and now if its bytes are in memory.

use super::Conversation;
use crate::{
    ended::Ended,
    host::Host,
    jobs::{Job, read},
    log,
    refusals::refusal,
    slow_loads::{Asked, Finished, Loaded},
    status::status,
};
use zeolith_core::{Answer, Caller, Read, Session, load_reply};
use zeolith_storage::{Patience, StorageError};
use zeolith_types::{Oid, Outcome, Reply, Tid};

impl Conversation {
    /// The way of a load: one look-up, one read, one reply.
    pub(super) fn load(&mut self, asked: Asked, out: &mut Vec<u8>) -> Result<(), Ended> {
        let Some(host) = &self.host else { return Ok(()) };
        match host.storage.load_before(asked.oid, asked.before, Patience::Now) {
            Err(StorageError::WouldBlock) => {
                self.slow_loads.begin(asked, &host.storage);
                Ok(())
            }
            result => self.loaded(Loaded { asked, result }, out),
        }
    }

    /// Takes what a thread of the pool has brought back.
    pub(crate) fn load_finished(&mut self, finished: Finished, out: &mut Vec<u8>) -> Result<(), Ended> {
        match self.slow_loads.settle(finished) {
            Some(loaded) => self.loaded(loaded, out),
            None => Ok(()),
        }
    }

    /// Goes on with the loads that need room, `waiting` bytes being on their way to the client.
    pub(crate) fn go_on_loading(&mut self, waiting: usize) {
        if self.slow_loads.are_any_parked()
            && let Some(host) = &self.host
        {
            self.slow_loads.go_on(waiting, &host.storage);
        }
    }

    /// Answers a load, early or late.
    fn loaded(&mut self, loaded: Loaded, out: &mut Vec<u8>) -> Result<(), Ended> {
        let Loaded { asked: Asked { caller: to, oid, before, repeats }, result } = loaded;
        let mut load = match result {
            Ok(load) => load,
            Err(error) => return self.answer(Answer { to, result: Err(refusal(error)) }, out),
        };
        let Some(host) = &self.host else { return Ok(()) };
        if self.session.is_ahead_of(load.as_of) {
            let corrected = self.session.correct_load(oid, load, &host.log());
            load = corrected.map_err(|lagged| Ended::Core(lagged.into()))?;
            if Session::is_outdated(&load, before, repeats) {
                return self.load(Asked { caller: to, oid, before, repeats: repeats + 1 }, out);
            }
        }
        self.answer_as_of(Answer { to, result: load_reply(oid, load.found) }, load.as_of, out)
    }

    pub(super) fn read(&mut self, to: Caller, wanted: Read, out: &mut Vec<u8>) -> Result<Option<Job>, Ended> {
        let Some(host) = self.host.clone() else { return Ok(None) };
        let result = match wanted {
            Read::IteratorStart(start, stop) => return Ok(Some(Job::Iterate(to, start, stop))),
            Read::IteratorNext(id) => match self.iterators.take_transactions(id) {
                Ok(iterator) => return Ok(Some(Job::NextTransaction(to, id, iterator))),
                Err(refusal) => Err(refusal),
            },
            Read::IteratorRecordStart(id, tid) => match self.iterators.take_transactions_at(id, tid) {
                Ok(iterator) => return Ok(Some(Job::Records(to, id, tid, iterator))),
                Err(refusal) => Err(refusal),
            },
            Read::IteratorRecordNext(id) => match self.iterators.take_records(id) {
                Ok(iterator) => return Ok(Some(Job::NextRecord(to, id, iterator))),
                Err(refusal) => Err(refusal),
            },
            Read::IteratorGc(ids) => {
                self.iterators.drop_all(&ids);
                Ok(Reply::None)
            }
            Read::Status => Ok(Reply::Status(Box::new(status(&host, &self.shared.limits)))),
            Read::Outcome(token, _) if host.is_undecided(&token) => Ok(Reply::Outcome(Outcome::Undecided)),
            Read::Outcome(token, since) => return Ok(Some(Job::Read(to, Read::Outcome(token, since)))),
            Read::SetLabel(label) => {
                self.label = format!("{label} {}", self.peer);
                Ok(Reply::None)
            }
            Read::Changes(after) => match self.changes(after, &host) {
                Changes::Known(changes) => Ok(Reply::Invalidations(changes)),
                Changes::Walk => return Ok(Some(Job::Read(to, Read::Changes(after)))),
            },
            wanted => match read(&wanted, host.storage.as_ref(), Patience::Now) {
                Err(StorageError::WouldBlock) => return Ok(Some(Job::Read(to, wanted))),
                result => result.map_err(refusal),
            },
        };
        self.answer(Answer { to, result }, out).map(|()| None)
    }

    /// `getInvalidations`: from the queue, else from the storage if the client was not away for too long.
    fn changes(&self, after: Tid, host: &Host) -> Changes {
        if let Some(changes) = host.log().changes_since(after, host.storage.last_transaction()) {
            let (tid, oids) = (&changes.0, changes.1.len());
            tracing::info!(target: log::STORAGE_SERVER, "({}) Return {oids} invalidations up to tid {tid}", self.label);
            return Changes::Known(Some(changes));
        }
        let away = zeolith_core::time_away(after, host.clock.now().time);
        if host.invalidation_age.is_some_and(|age| away < age) {
            return Changes::Walk;
        }
        tracing::info!(target: log::STORAGE_SERVER, "({}) tid to old for invq: {after}", self.label);
        Changes::Known(None)
    }
}

enum Changes {
    Known(Option<(Tid, Vec<Oid>)>),
    Walk,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::{self, Scripted};
    use bytes::Bytes;
    use std::sync::Arc;
    use zeolith_core::Publication;
    use zeolith_storage::{ConflictPolicy, RecordData, TransactionId, Write, WriteSet};
    use zeolith_types::{MessageId, Timestamp, Value};

    /// Somebody else writes an object.
    fn written(host: &Host, oid: Oid, serial: Tid, data: &'static [u8]) -> Tid {
        let id = TransactionId(1);
        let data = RecordData::from(Bytes::from_static(data));
        let writes = WriteSet { writes: vec![Write::Store { oid, serial, data }], ..WriteSet::default() };
        host.storage.vote(id, writes, ConflictPolicy::Refuse, Patience::Wait).unwrap();
        let tid = host.storage.finish(&[id], Timestamp::default()).remove(0).unwrap();
        host.log_mut().append([Publication { tid, oids: Arc::from([oid]), committer: None }]);
        host.storage.publish(tid);
        host.published.send_replace(tid);
        tid
    }

    #[test]
    fn who_asks_for_the_current_revision_gets_it_though_the_disk_was_slower_than_the_notice() {
        let (host, _) = scripted::host(Scripted::default());
        let oid = Oid::new(7);
        let first = written(&host, oid, Tid::ZERO, b"the first one");
        let mut conversation = scripted::registered(&host, 1);
        let slow = host.storage.load_before(oid, Tid::MAX, Patience::Wait);
        written(&host, oid, first, b"the second one");
        let mut out = Vec::new();
        conversation.published(&mut out).unwrap_or_else(|ended| panic!("{ended}"));
        let caller = Caller { id: MessageId::Value(Value::Int(2)), one_way: false, method: "loadBefore" };

        let asked = Asked { caller, oid, before: Tid::MAX, repeats: 0 };
        let late = Loaded { asked, result: slow };
        conversation.loaded(late, &mut out).unwrap_or_else(|ended| panic!("{ended}"));

        let has = |words: &[u8]| out.windows(words.len()).any(|part| part == words);
        assert!(has(b"the second one") && !has(b"the first one"));
    }
}
