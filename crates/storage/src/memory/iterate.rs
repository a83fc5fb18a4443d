//! Iteration over the transactions that were there when it began.

use super::Transaction;
use crate::{RecordIterator, Result, TransactionIterator};
use std::sync::Arc;
use zeolith_types::{RecordInfo, TransactionInfo};

/// Goes through these transactions.
pub(super) fn transactions(transactions: Vec<Arc<Transaction>>) -> Box<dyn TransactionIterator> {
    Box::new(Transactions { rest: transactions.into_iter(), last: None })
}

struct Transactions {
    rest: std::vec::IntoIter<Arc<Transaction>>,
    last: Option<Arc<Transaction>>,
}

impl TransactionIterator for Transactions {
    fn next_transaction(&mut self) -> Result<Option<TransactionInfo>> {
        self.last = self.rest.next();
        Ok(self.last.as_ref().map(|transaction| transaction.info.clone()))
    }

    fn records(&self) -> Result<Box<dyn RecordIterator>> {
        Ok(Box::new(Records { transaction: self.last.clone(), next: 0 }))
    }
}

struct Records {
    transaction: Option<Arc<Transaction>>,
    next: usize,
}

impl RecordIterator for Records {
    fn next_record(&mut self) -> Result<Option<RecordInfo>> {
        let Some(transaction) = &self.transaction else { return Ok(None) };
        let record = transaction.records.get(self.next);
        self.next += 1;
        Ok(record.map(|(oid, data)| RecordInfo {
            oid: *oid,
            tid: transaction.info.tid,
            data: Some(data.clone()),
            data_txn: None,
        }))
    }
}
