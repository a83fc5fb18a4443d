//! Iterators on the way between their connection and the pool. Each counts as open until it is dropped, wherever it is.

use super::{
    Server,
    connection::{Connection, Ended},
    outbox::refusal,
    pool::Question,
};
use crate::context::Context;
use std::sync::Arc;
use zeolith_core::{Answer, Caller, Read, TooMany};
use zeolith_filestorage::FileStorage;
use zeolith_storage::{RecordIterator, Result, Storage, TransactionIterator};
use zeolith_types::{RecordInfo, Refusal, Reply, Tid, TransactionInfo};

/// What the pool is to do with an iterator.
pub(super) enum Iterate {
    Start(Caller, Option<Tid>, Option<Tid>),
    Next(Caller, i128, Box<dyn TransactionIterator>),
    Records(Caller, i128, Tid, Box<dyn TransactionIterator>),
    NextRecord(Caller, i128, Box<dyn RecordIterator>),
}

/// What it brings back.
pub(super) enum Iterated {
    Started(Caller, Outcome<Box<dyn TransactionIterator>>),
    Next(Caller, i128, Box<dyn TransactionIterator>, Outcome<Option<TransactionInfo>>),
    Records(Caller, i128, Tid, Box<dyn TransactionIterator>, Outcome<Box<dyn RecordIterator>>),
    NextRecord(Caller, i128, Box<dyn RecordIterator>, Outcome<Option<RecordInfo>>),
}

type Outcome<T> = std::result::Result<T, Refusal>;

impl Iterate {
    /// A thread of the pool does it. All iterators hold `open`.
    pub(super) fn run(self, storage: &FileStorage, open: &Arc<()>) -> Iterated {
        match self {
            Self::Start(to, start, stop) => {
                let counted = |iterator| -> Box<dyn TransactionIterator> {
                    Box::new(Counted { iterator, open: Arc::clone(open) })
                };
                Iterated::Started(to, storage.iterate(start, stop).map(counted).map_err(refusal))
            }
            Self::Next(to, id, mut iterator) => {
                let next = iterator.next_transaction().map_err(refusal);
                Iterated::Next(to, id, iterator, next)
            }
            Self::Records(to, id, tid, iterator) => {
                let records = iterator.records().map_err(refusal);
                Iterated::Records(to, id, tid, iterator, records)
            }
            Self::NextRecord(to, id, mut iterator) => {
                let next = iterator.next_record().map_err(refusal);
                Iterated::NextRecord(to, id, iterator, next)
            }
        }
    }
}

impl Server {
    /// Takes the iterator that is wanted to the pool, if the connection has it.
    pub(super) fn iterate(
        &mut self,
        connection: &mut Connection,
        to: Caller,
        wanted: Read,
        context: &mut Context,
    ) -> std::result::Result<(), Ended> {
        let iterators = &mut connection.iterators;
        let taken = match wanted {
            Read::IteratorStart(start, stop) => Ok(Iterate::Start(to.clone(), start, stop)),
            Read::IteratorNext(id) => {
                iterators.take_transactions(id).map(|iterator| Iterate::Next(to.clone(), id, iterator))
            }
            Read::IteratorRecordStart(id, tid) => iterators
                .take_transactions_at(id, tid)
                .map(|iterator| Iterate::Records(to.clone(), id, tid, iterator)),
            Read::IteratorRecordNext(id) => {
                iterators.take_records(id).map(|iterator| Iterate::NextRecord(to.clone(), id, iterator))
            }
            other => unreachable!("{other:?} is about no iterator"),
        };
        match taken {
            Ok(iterate) => {
                connection.is_busy = true;
                self.ask(connection.id, Question::Iterate(iterate), context);
                Ok(())
            }
            Err(refusal) => self.answer(connection, Answer { to, result: Err(refusal) }),
        }
    }

    /// Puts back what has come from the pool, if there is more to come of it.
    pub(super) fn iterated(
        &self,
        connection: &mut Connection,
        iterated: Iterated,
    ) -> std::result::Result<(), Ended> {
        let iterators = &mut connection.iterators;
        let too_many = |TooMany| Refusal::Value("too many iterators are open".to_owned());
        let (to, result) = match iterated {
            Iterated::Started(to, iterator) => {
                let id = iterator.and_then(|one| iterators.add_transactions(one).map_err(too_many));
                (to, id.map(Reply::IteratorId))
            }
            Iterated::Next(to, id, iterator, next) => {
                if let Ok(Some(transaction)) = &next {
                    iterators.return_transactions(id, iterator, transaction.tid);
                }
                (to, next.map(Reply::Transaction))
            }
            Iterated::Records(to, id, tid, iterator, records) => {
                iterators.return_transactions(id, iterator, tid);
                let id = records.and_then(|records| iterators.add_records(records).map_err(too_many));
                (to, id.map(Reply::IteratorId))
            }
            Iterated::NextRecord(to, id, iterator, next) => {
                if let Ok(Some(_)) = &next {
                    iterators.return_records(id, iterator);
                }
                (to, next.map(Reply::Record))
            }
        };
        self.answer(connection, Answer { to, result })
    }
}

/// An iterator that is counted as long as it is open.
struct Counted<I: ?Sized> {
    open: Arc<()>,
    iterator: Box<I>,
}

impl TransactionIterator for Counted<dyn TransactionIterator> {
    fn next_transaction(&mut self) -> Result<Option<TransactionInfo>> {
        self.iterator.next_transaction()
    }

    fn records(&self) -> Result<Box<dyn RecordIterator>> {
        let iterator = self.iterator.records()?;
        Ok(Box::new(Counted { iterator, open: Arc::clone(&self.open) }))
    }
}

impl RecordIterator for Counted<dyn RecordIterator> {
    fn next_record(&mut self) -> Result<Option<RecordInfo>> {
        self.iterator.next_record()
    }
}
