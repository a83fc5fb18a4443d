//! Iteration over the transactions of the base, and then those of the changes.

use zeolith_storage::{RecordIterator, Result, TransactionIterator};
use zeolith_types::TransactionInfo;

/// Goes through both.
pub(super) fn one_after_the_other(
    base: Box<dyn TransactionIterator>,
    changes: Box<dyn TransactionIterator>,
) -> Box<dyn TransactionIterator> {
    Box::new(Both { current: base, next: Some(changes) })
}

struct Both {
    current: Box<dyn TransactionIterator>,
    next: Option<Box<dyn TransactionIterator>>,
}

impl TransactionIterator for Both {
    fn next_transaction(&mut self) -> Result<Option<TransactionInfo>> {
        let found = self.current.next_transaction()?;
        if found.is_some() {
            return Ok(found);
        }
        match self.next.take() {
            Some(next) => {
                self.current = next;
                self.current.next_transaction()
            }
            None => Ok(None),
        }
    }

    fn records(&self) -> Result<Box<dyn RecordIterator>> {
        self.current.records()
    }
}
