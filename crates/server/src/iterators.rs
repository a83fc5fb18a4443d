//! The iterators that a client has open: `iterator_start` to `iterator_gc`.

use std::collections::HashMap;
use zeolith_storage::{RecordIterator, TransactionIterator};
use zeolith_types::{Refusal, Tid};

/// The iterators of one connection, by the numbers it was given.
pub(crate) struct Iterators {
    open: HashMap<i128, Open>,
    next: i128,
    /// How many may be open.
    max: usize,
}

/// The client keeps too many iterators open.
pub(crate) struct TooMany;

enum Open {
    Transactions { iterator: Box<dyn TransactionIterator>, last: Option<Tid> },
    Records(Box<dyn RecordIterator>),
}

impl Iterators {
    /// None, and room for `max`.
    pub(crate) fn new(max: usize) -> Self {
        Self { open: HashMap::new(), next: 0, max }
    }

    /// Keeps a transaction iterator, and names it.
    ///
    /// # Errors
    /// [`TooMany`] if there is no room.
    pub(crate) fn add_transactions(
        &mut self,
        iterator: Box<dyn TransactionIterator>,
    ) -> Result<i128, TooMany> {
        self.add(Open::Transactions { iterator, last: None })
    }

    /// Keeps a record iterator, and names it.
    ///
    /// # Errors
    /// [`TooMany`] if there is no room.
    pub(crate) fn add_records(&mut self, iterator: Box<dyn RecordIterator>) -> Result<i128, TooMany> {
        self.add(Open::Records(iterator))
    }

    fn add(&mut self, iterator: Open) -> Result<i128, TooMany> {
        if self.open.len() >= self.max {
            return Err(TooMany);
        }
        let id = self.next;
        self.next += 1;
        self.open.insert(id, iterator);
        Ok(id)
    }

    /// Takes a transaction iterator out, to be used where waiting is allowed.
    ///
    /// # Errors
    /// `KeyError` if there is none of that name.
    pub(crate) fn take_transactions(&mut self, id: i128) -> Result<Box<dyn TransactionIterator>, Refusal> {
        match self.open.remove(&id) {
            Some(Open::Transactions { iterator, .. }) => Ok(iterator),
            Some(other) => {
                self.open.insert(id, other);
                Err(Refusal::Key(id))
            }
            None => Err(Refusal::Key(id)),
        }
    }

    /// Puts a transaction iterator back, which has returned `last`.
    pub(crate) fn return_transactions(
        &mut self,
        id: i128,
        iterator: Box<dyn TransactionIterator>,
        last: Tid,
    ) {
        self.open.insert(id, Open::Transactions { iterator, last: Some(last) });
    }

    /// Takes a transaction iterator out whose last transaction must be `tid`.
    ///
    /// # Errors
    /// `KeyError` before the first transaction, `Exception` for any but the last one returned.
    pub(crate) fn take_transactions_at(
        &mut self,
        id: i128,
        tid: Tid,
    ) -> Result<Box<dyn TransactionIterator>, Refusal> {
        match self.open.get(&id) {
            Some(Open::Transactions { last: Some(last), .. }) if *last == tid => self.take_transactions(id),
            Some(Open::Transactions { last: Some(_), .. }) => {
                Err(Refusal::Exception(format!("Out-of-order request for the records of transaction {tid}")))
            }
            Some(Open::Transactions { last: None, .. } | Open::Records(_)) | None => Err(Refusal::Key(id)),
        }
    }

    /// Takes a record iterator out.
    ///
    /// # Errors
    /// `KeyError` if there is none of that name.
    pub(crate) fn take_records(&mut self, id: i128) -> Result<Box<dyn RecordIterator>, Refusal> {
        match self.open.remove(&id) {
            Some(Open::Records(iterator)) => Ok(iterator),
            Some(other) => {
                self.open.insert(id, other);
                Err(Refusal::Key(id))
            }
            None => Err(Refusal::Key(id)),
        }
    }

    /// Puts a record iterator back.
    pub(crate) fn return_records(&mut self, id: i128, iterator: Box<dyn RecordIterator>) {
        self.open.insert(id, Open::Records(iterator));
    }

    /// Drops iterators; names that are not there are no error.
    pub(crate) fn drop_all(&mut self, ids: &[i128]) {
        for id in ids {
            self.open.remove(id);
        }
    }
}
