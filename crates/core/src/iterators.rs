//! The iterators that a client has open: `iterator_start` to `iterator_gc`.
//!
//! Only the storage's own part of an iterator can wait for a disk, so whoever lets it wait takes it out meanwhile and
//! puts it back. What is not put back is gone, as is everything here with the session.

use std::{collections::HashMap, fmt};
use zeolith_storage::{RecordIterator, TransactionIterator};
use zeolith_types::{Refusal, Tid};

/// The iterators of one connection, by the numbers it was given.
pub struct Iterators {
    open: HashMap<i128, Open>,
    next: i128,
    /// How many may be open.
    max: usize,
}

/// The client keeps too many iterators open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

enum Open {
    Transactions { iterator: Box<dyn TransactionIterator>, last: Option<Tid> },
    Records(Box<dyn RecordIterator>),
}

impl Iterators {
    /// None, and room for `max`.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { open: HashMap::new(), next: 0, max }
    }

    /// Keeps a transaction iterator, and names it.
    ///
    /// # Errors
    /// [`TooMany`] if there is no room.
    pub fn add_transactions(&mut self, iterator: Box<dyn TransactionIterator>) -> Result<i128, TooMany> {
        self.add(Open::Transactions { iterator, last: None })
    }

    /// Keeps a record iterator, and names it.
    ///
    /// # Errors
    /// [`TooMany`] if there is no room.
    pub fn add_records(&mut self, iterator: Box<dyn RecordIterator>) -> Result<i128, TooMany> {
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
    pub fn take_transactions(&mut self, id: i128) -> Result<Box<dyn TransactionIterator>, Refusal> {
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
    pub fn return_transactions(&mut self, id: i128, iterator: Box<dyn TransactionIterator>, last: Tid) {
        self.open.insert(id, Open::Transactions { iterator, last: Some(last) });
    }

    /// Takes a transaction iterator out whose last transaction must be `tid`.
    ///
    /// # Errors
    /// `KeyError` before the first transaction, `Exception` for any but the last one returned.
    pub fn take_transactions_at(
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
    pub fn take_records(&mut self, id: i128) -> Result<Box<dyn RecordIterator>, Refusal> {
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
    pub fn return_records(&mut self, id: i128, iterator: Box<dyn RecordIterator>) {
        self.open.insert(id, Open::Records(iterator));
    }

    /// Drops iterators; names that are not there are no error.
    pub fn drop_all(&mut self, ids: &[i128]) {
        for id in ids {
            self.open.remove(id);
        }
    }
}

impl fmt::Debug for Iterators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iterators").field("open", &self.open.len()).field("max", &self.max).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeolith_storage::{Storage, memory::MemoryStorage};

    fn iterator() -> Box<dyn TransactionIterator> {
        MemoryStorage::new("test").iterate(None, None).unwrap()
    }

    #[test]
    fn an_iterator_that_is_dropped_or_not_put_back_makes_room_for_another() {
        let mut iterators = Iterators::new(2);
        assert_eq!(iterators.add_transactions(iterator()), Ok(0));
        assert_eq!(iterators.add_records(iterator().records().unwrap()), Ok(1));
        assert_eq!(iterators.add_transactions(iterator()), Err(TooMany));
        iterators.drop_all(&[1, 77]);
        assert_eq!(iterators.add_transactions(iterator()), Ok(2), "no number is given twice");
        assert!(iterators.take_transactions(0).is_ok());
        assert_eq!(iterators.take_transactions(0).err(), Some(Refusal::Key(0)));
        assert_eq!(iterators.add_transactions(iterator()), Ok(3));
    }

    #[test]
    fn only_the_records_of_the_last_transaction_can_be_asked_for() {
        let mut iterators = Iterators::new(10);
        let id = iterators.add_transactions(iterator()).unwrap();
        let (first, second) = (Tid::new(1), Tid::new(2));
        assert_eq!(iterators.take_transactions_at(id, first).err(), Some(Refusal::Key(id)), "there was none");
        let taken = iterators.take_transactions(id).unwrap();
        iterators.return_transactions(id, taken, second);
        assert!(matches!(iterators.take_transactions_at(id, first), Err(Refusal::Exception(_))));
        assert!(iterators.take_transactions_at(id, second).is_ok());
    }

    #[test]
    fn transactions_are_no_records() {
        let mut iterators = Iterators::new(10);
        let transactions = iterators.add_transactions(iterator()).unwrap();
        let records = iterators.add_records(iterator().records().unwrap()).unwrap();
        assert_eq!(iterators.take_records(transactions).err(), Some(Refusal::Key(transactions)));
        assert_eq!(iterators.take_transactions(records).err(), Some(Refusal::Key(records)));
        assert!(iterators.take_transactions(transactions).is_ok() && iterators.take_records(records).is_ok());
    }
}
