//! [`ZlibStorage`]: the storage of `zc.zlibstorage`, on either side of the socket.

use super::{InflateError, RECORD_SIZE_MAX, compress, decompress, is_compressed};
use bytes::Bytes;
use std::{
    ops::{ControlFlow, Range},
    sync::Arc,
};
use zeolith_storage::{
    Blobs, Changes, ConflictPolicy, Found, Load, PackEstimate, PackOutcome, PackProgress, Patience,
    RecordData, RecordIterator, Result, Sizes, Storage, StorageError, TransactionId, TransactionIterator,
    Voted, Write, WriteSet,
};
use zeolith_types::{
    CurrentRecord, HistoryEntry, Oid, RecordInfo, StorageInfo, Tid, Timestamp, TransactionInfo, UndoEntry,
};

/// Compresses what goes into another storage and decompresses what comes out, or leaves that to the clients.
///
/// The storage inside packs and resolves conflicts, so it has to be given [`references`](super::references) and
/// a [`ZlibResolver`](super::ZlibResolver) itself.
pub struct ZlibStorage {
    base: Arc<dyn Storage>,
    clients_see: ClientsSee,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ClientsSee {
    Whole { compress: bool },
    Compressed,
}

impl ZlibStorage {
    /// `<zlibstorage>`: clients know nothing of compression. Without `compress` new records stay as they are.
    #[must_use]
    pub fn new(base: Arc<dyn Storage>, compress: bool) -> Self {
        Self { base, clients_see: ClientsSee::Whole { compress } }
    }

    /// `<serverzlibstorage>`: clients compress and decompress, records pass as they are.
    #[must_use]
    pub fn for_compressing_clients(base: Arc<dyn Storage>) -> Self {
        Self { base, clients_see: ClientsSee::Compressed }
    }

    fn given_out(&self, oid: Oid, record: Bytes, patience: Patience) -> Result<Bytes> {
        match self.clients_see {
            ClientsSee::Compressed => Ok(record),
            ClientsSee::Whole { .. } => {
                if patience == Patience::Now && record.len() > QUICK_MAX && is_compressed(&record) {
                    return Err(StorageError::WouldBlock);
                }
                let size_max = match patience {
                    Patience::WaitUpTo(max) => usize::try_from(max).unwrap_or(RECORD_SIZE_MAX),
                    Patience::Now | Patience::Wait => RECORD_SIZE_MAX,
                };
                whole(oid, &record, size_max)
            }
        }
    }

    /// The writes as the storage inside gets them. What was put aside because its transaction is too large for
    /// memory stays as it is: compressed, it would be in memory again.
    fn taken_in(&self, writes: &mut [Write], patience: Patience) -> Result<()> {
        if self.clients_see != (ClientsSee::Whole { compress: true }) {
            return Ok(());
        }
        let mut records: Vec<&mut Bytes> = writes.iter_mut().filter_map(record_in_memory).collect();
        let size: usize = records.iter().map(|record| record.len()).sum();
        if patience == Patience::Now && size > QUICK_MAX {
            return Err(StorageError::WouldBlock);
        }
        records.iter_mut().for_each(|record| **record = compress(record));
        Ok(())
    }
}

fn record_in_memory(write: &mut Write) -> Option<&mut Bytes> {
    match write {
        Write::Store { data: RecordData::Memory(data), .. }
        | Write::StoreBlob { data: RecordData::Memory(data), .. }
        | Write::Restore { data: Some(RecordData::Memory(data)), .. } => Some(data),
        Write::Store { .. }
        | Write::StoreBlob { .. }
        | Write::Restore { .. }
        | Write::Delete { .. }
        | Write::Check { .. }
        | Write::Undo { .. } => None,
    }
}

fn whole(oid: Oid, record: &Bytes, size_max: usize) -> Result<Bytes> {
    decompress(record, size_max.min(RECORD_SIZE_MAX)).map_err(|why| match why {
        // Only decompressing it to its end would tell how long it is.
        InflateError::Larger { size_max } if size_max < RECORD_SIZE_MAX => {
            StorageError::NoRoom { room: size_max.saturating_mul(4) as u64 }
        }
        why => StorageError::Format(format!("the record of {oid} can't be decompressed: {why}")),
    })
}

impl Storage for ZlibStorage {
    /// It has all methods, so it promises the walk through current records even where the one inside has none.
    fn info(&self) -> StorageInfo {
        let mut info = self.base.info();
        let wrapper = ("ZODB.interfaces", "IStorageWrapper");
        if !info.interfaces.contains(&wrapper) {
            info.interfaces.insert(info.interfaces.len().saturating_sub(1), wrapper);
        }
        StorageInfo { supports_record_iternext: true, ..info }
    }

    fn sizes(&self) -> Sizes {
        self.base.sizes()
    }

    fn is_read_only(&self) -> bool {
        self.base.is_read_only()
    }

    fn last_transaction(&self) -> Tid {
        self.base.last_transaction()
    }

    fn load_before(&self, oid: Oid, before: Tid, patience: Patience) -> Result<Load> {
        let mut load = self.base.load_before(oid, before, patience)?;
        if let Found::Revision(revision) = &mut load.found {
            revision.data = self.given_out(oid, std::mem::take(&mut revision.data), patience)?;
        }
        Ok(load)
    }

    fn load_serial(&self, oid: Oid, serial: Tid, patience: Patience) -> Result<Bytes> {
        self.given_out(oid, self.base.load_serial(oid, serial, patience)?, patience)
    }

    fn has_record(&self, oid: Oid, serial: Tid, patience: Patience) -> Result<bool> {
        self.base.has_record(oid, serial, patience)
    }

    fn current_tid(&self, oid: Oid, patience: Patience) -> Result<Tid> {
        self.base.current_tid(oid, patience)
    }

    fn history(&self, oid: Oid, size: usize, patience: Patience) -> Result<Vec<HistoryEntry>> {
        self.base.history(oid, size, patience)
    }

    fn record_iternext(&self, next: Option<Oid>, patience: Patience) -> Result<CurrentRecord> {
        let record = self.base.record_iternext(next, patience)?;
        let data = self.given_out(record.oid, record.data, patience)?;
        Ok(CurrentRecord { data, ..record })
    }

    fn iterate(&self, start: Option<Tid>, stop: Option<Tid>) -> Result<Box<dyn TransactionIterator>> {
        let transactions = self.base.iterate(start, stop)?;
        Ok(match self.clients_see {
            ClientsSee::Compressed => transactions,
            ClientsSee::Whole { .. } => Box::new(WholeTransactions(transactions)),
        })
    }

    fn undo_log(
        &self,
        range: Range<u64>,
        wanted: &mut dyn FnMut(&UndoEntry) -> bool,
    ) -> Result<Option<Vec<UndoEntry>>> {
        self.base.undo_log(range, wanted)
    }

    fn last_changes(&self, count: usize) -> Result<Vec<(Tid, Vec<Oid>)>> {
        self.base.last_changes(count)
    }

    fn changes_since(&self, after: Tid, oids_max: usize) -> Result<Option<Changes>> {
        self.base.changes_since(after, oids_max)
    }

    fn new_oids(&self, count: usize) -> Vec<Oid> {
        self.base.new_oids(count)
    }

    fn vote(
        &self,
        id: TransactionId,
        mut writes: WriteSet,
        policy: ConflictPolicy,
        patience: Patience,
    ) -> Result<Voted> {
        self.taken_in(&mut writes.writes, patience)?;
        match self.base.vote(id, writes, policy, patience) {
            Ok(Voted::Conflicts(mut conflicts)) if self.clients_see != ClientsSee::Compressed => {
                for conflict in &mut conflicts {
                    conflict.data = whole(conflict.oid, &conflict.data, RECORD_SIZE_MAX)?;
                }
                Ok(Voted::Conflicts(conflicts))
            }
            // What is told of its class is read from the record.
            Err(StorageError::Conflict(mut conflict)) => {
                conflict.data = decompress(&conflict.data, RECORD_SIZE_MAX).unwrap_or(conflict.data);
                Err(StorageError::Conflict(conflict))
            }
            voted => voted,
        }
    }

    fn finish(&self, ids: &[TransactionId], now: Timestamp) -> Vec<Result<Tid>> {
        self.base.finish(ids, now)
    }

    fn publish(&self, through: Tid) {
        self.base.publish(through);
    }

    fn abort(&self, id: TransactionId) {
        self.base.abort(id);
    }

    fn pack(
        &self,
        time: Timestamp,
        report: &mut dyn FnMut(PackProgress) -> ControlFlow<()>,
    ) -> Result<PackOutcome> {
        self.base.pack(time, report)
    }

    fn estimate_pack(
        &self,
        time: Timestamp,
        report: &mut dyn FnMut(PackProgress) -> ControlFlow<()>,
    ) -> Result<PackEstimate> {
        self.base.estimate_pack(time, report)
    }

    fn blobs(&self) -> Result<&dyn Blobs> {
        self.base.blobs()
    }

    fn wants_room(&self) -> bool {
        self.base.wants_room()
    }

    fn make_room(&self) {
        self.base.make_room();
    }

    fn rest(&self) -> Result<()> {
        self.base.rest()
    }

    fn checkpoint(&self) -> Result<()> {
        self.base.checkpoint()
    }

    fn close(&self) -> Result<()> {
        self.base.close()
    }
}

struct WholeTransactions(Box<dyn TransactionIterator>);

impl TransactionIterator for WholeTransactions {
    fn next_transaction(&mut self) -> Result<Option<TransactionInfo>> {
        self.0.next_transaction()
    }

    fn records(&self) -> Result<Box<dyn RecordIterator>> {
        Ok(Box::new(WholeRecords(self.0.records()?)))
    }
}

struct WholeRecords(Box<dyn RecordIterator>);

impl RecordIterator for WholeRecords {
    fn next_record(&mut self) -> Result<Option<RecordInfo>> {
        let Some(mut record) = self.0.next_record()? else { return Ok(None) };
        record.data = record.data.map(|data| whole(record.oid, &data, RECORD_SIZE_MAX)).transpose()?;
        Ok(Some(record))
    }
}

/// So much is compressed or decompressed in well under a millisecond or two.
const QUICK_MAX: usize = 32 << 10;
