//! Iteration: all transactions in order, and the records of each, as far as published at its start.

use crate::{
    file::{Content, Want},
    format::{NUMBER_LEN, STATUS_UNDONE},
    storage::State,
};
use std::sync::Arc;
use zeolith_storage::{Patience, RecordIterator, Result, TransactionIterator};
use zeolith_types::{RecordInfo, Tid, TransactionInfo};

impl State {
    pub(crate) fn iterate(
        self: Arc<Self>,
        start: Option<Tid>,
        stop: Option<Tid>,
    ) -> Result<Box<dyn TransactionIterator>> {
        let position = self.seek(start.unwrap_or(Tid::ZERO))?;
        Ok(Box::new(Transactions { state: self, position, stop, records: (0, 0) }))
    }
}

/// Goes through the transactions of a file. Keeps the file, so that a pack does not pull it away.
struct Transactions {
    state: Arc<State>,
    position: u64,
    stop: Option<Tid>,
    /// Where the records of the last transaction begin and end.
    records: (u64, u64),
}

impl TransactionIterator for Transactions {
    fn next_transaction(&mut self) -> Result<Option<TransactionInfo>> {
        self.records = (0, 0);
        while self.position < self.state.end {
            let start = self.position;
            let (header, [user, description, extension]) =
                self.state.file.transaction_with_texts(start, self.state.end, Patience::Wait)?;
            if self.stop.is_some_and(|stop| header.tid > stop) {
                break;
            }
            let end = start + header.len;
            self.position = end + NUMBER_LEN as u64;
            if header.status == STATUS_UNDONE {
                continue;
            }
            self.records = (start + header.header_len(), end);
            let (tid, status) = (header.tid, header.status);
            return Ok(Some(TransactionInfo { tid, status, user, description, extension }));
        }
        self.position = self.state.end;
        Ok(None)
    }

    fn records(&self) -> Result<Box<dyn RecordIterator>> {
        let (position, end) = self.records;
        Ok(Box::new(Records { state: Arc::clone(&self.state), position, end }))
    }
}

/// Goes through the records of one transaction.
struct Records {
    state: Arc<State>,
    position: u64,
    end: u64,
}

impl RecordIterator for Records {
    fn next_record(&mut self) -> Result<Option<RecordInfo>> {
        if self.position >= self.end {
            return Ok(None);
        }
        let file = &self.state.file;
        let record = file.any_record(self.position, self.end, Want::Data, Patience::Wait)?;
        self.position += record.header.record_len();
        let (oid, tid) = (record.header.oid, record.header.tid);
        let data_txn = match record.backpointer() {
            Some(pointer) => {
                let pointed = file.record(oid, pointer, self.state.end, Want::Header, Patience::Wait)?;
                Some(pointed.header.tid)
            }
            None => None,
        };
        let data = match file.content(record, self.state.end, Patience::Wait)? {
            Content::Data(data) => Some(data),
            Content::Gone => None,
        };
        Ok(Some(RecordInfo { oid, tid, data, data_txn }))
    }
}
