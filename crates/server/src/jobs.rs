//! Work that may wait for the disk: done on the blocking pool, so that it never keeps a connection task
//! of somebody else waiting.

use crate::{
    blob_stream::BlobStream,
    conversation::Upload,
    host::{Host, Panicked},
    outcome,
    refusals::refusal,
    spool::PutAside,
    undo_filter,
};
use bytes::Bytes;
use std::path::PathBuf;
use zeolith_core::{BlobRecord, Caller, Read, VoteRequest};
use zeolith_storage::{
    ConflictPolicy, Patience, RecordData, RecordIterator, Storage, StorageError, TransactionId,
    TransactionIterator, UploadedBlob, Voted,
};
use zeolith_types::{Oid, RecordInfo, Refusal, Reply, Tid, TransactionInfo, UndoEntry};

/// What a connection waits for.
pub(crate) enum Job {
    /// A read whose bytes are not in memory.
    Read(Caller, Read),
    /// A vote that is large or needs bytes that are not in memory.
    Vote(VoteRequest, ConflictPolicy),
    /// Writing records into a temporary file.
    PutAside(Caller, Vec<Bytes>, PutAside, PathBuf),
    /// A piece of an upload.
    WriteBlob(Caller, Upload),
    /// The end of an upload.
    EndBlob(Caller, BlobRecord, Upload),
    /// A file that the client has put into the directory that it shares with the storage.
    TakeShared(Caller, BlobRecord, String),
    /// Opening a blob to be sent.
    OpenBlob(Caller, Oid, Tid),
    /// Opening an iterator.
    Iterate(Caller, Option<Tid>, Option<Tid>),
    /// The next transaction of an iterator.
    NextTransaction(Caller, i128, Box<dyn TransactionIterator>),
    /// Opening the records of a transaction.
    Records(Caller, i128, Tid, Box<dyn TransactionIterator>),
    /// The next record of an iterator.
    NextRecord(Caller, i128, Box<dyn RecordIterator>),
}

/// What a job brings back.
pub(crate) enum Done {
    Read(Caller, Result<Reply, Refusal>),
    Voted(TransactionId, Result<Voted, Refusal>),
    /// A vote that nobody holds locks for any more.
    Panicked(Panicked),
    PutAside(Caller, PutAside, Result<Vec<RecordData>, Refusal>),
    BlobWritten(Caller, Result<Upload, Refusal>),
    BlobUploaded(Caller, BlobRecord, Result<UploadedBlob, Refusal>),
    BlobOpened(BlobStream),
    Iterating(Caller, Result<Box<dyn TransactionIterator>, Refusal>),
    Transaction(Caller, i128, Box<dyn TransactionIterator>, Result<Option<TransactionInfo>, Refusal>),
    Records(Caller, i128, Tid, Box<dyn TransactionIterator>, Result<Box<dyn RecordIterator>, Refusal>),
    Record(Caller, i128, Box<dyn RecordIterator>, Result<Option<RecordInfo>, Refusal>),
}

impl Job {
    /// Does the work, however long it takes.
    pub(crate) fn run(self, host: &Host) -> Done {
        let storage = host.storage.as_ref();
        match self {
            Self::Read(caller, Read::Outcome(token, since)) => {
                let outcome = outcome::find(host, token, since).map_err(refusal);
                Done::Read(caller, outcome.map(Reply::Outcome))
            }
            Self::Read(caller, wanted) => {
                let result = read(&wanted, storage, Patience::Wait).map_err(refusal);
                Done::Read(caller, result)
            }
            Self::Vote(VoteRequest { transaction, writes, .. }, policy) => {
                match host.vote(transaction, writes, policy, Patience::Wait) {
                    Ok(voted) => Done::Voted(transaction, voted.map_err(refusal)),
                    Err(panicked) => Done::Panicked(panicked),
                }
            }
            Self::PutAside(caller, records, mut aside, directory) => {
                let kept = aside.put(&records, &directory).map_err(refusal);
                Done::PutAside(caller, aside, kept)
            }
            Self::WriteBlob(caller, mut upload) => {
                let written = storage.blobs().and_then(|blobs| upload.write(blobs));
                Done::BlobWritten(caller, written.map(|()| upload).map_err(refusal))
            }
            Self::EndBlob(caller, record, upload) => {
                let uploaded = storage.blobs().and_then(|blobs| upload.finish(blobs));
                Done::BlobUploaded(caller, record, uploaded.map_err(refusal))
            }
            Self::TakeShared(caller, record, name) => {
                let taken = storage.blobs().and_then(|blobs| blobs.take_shared(record.oid, &name));
                Done::BlobUploaded(caller, record, taken.map_err(refusal))
            }
            Self::OpenBlob(to, oid, serial) => {
                match storage.blobs().and_then(|blobs| blobs.load_blob(oid, serial)) {
                    Ok(reader) => Done::BlobOpened(BlobStream { to, oid, serial, reader }),
                    Err(error) => Done::Read(to, Err(refusal(error))),
                }
            }
            Self::Iterate(caller, start, stop) => {
                Done::Iterating(caller, storage.iterate(start, stop).map_err(refusal))
            }
            Self::NextTransaction(caller, id, mut iterator) => {
                let next = iterator.next_transaction().map_err(refusal);
                Done::Transaction(caller, id, iterator, next)
            }
            Self::Records(caller, id, tid, iterator) => {
                let records = iterator.records().map_err(refusal);
                Done::Records(caller, id, tid, iterator, records)
            }
            Self::NextRecord(caller, id, mut iterator) => {
                let next = iterator.next_record().map_err(refusal);
                Done::Record(caller, id, iterator, next)
            }
        }
    }
}

/// The reads that are a single question to the storage.
pub(crate) fn read(wanted: &Read, storage: &dyn Storage, patience: Patience) -> Result<Reply, StorageError> {
    match wanted {
        Read::Info => Ok(Reply::Info(Box::new(storage.info()))),
        Read::LastTransaction => Ok(Reply::Tid(storage.last_transaction())),
        Read::NewOids(count) => Ok(Reply::Oids(storage.new_oids(*count))),
        Read::LoadSerial(oid, serial) => storage.load_serial(*oid, *serial, patience).map(Reply::Data),
        Read::CurrentTid(oid) => storage.current_tid(*oid, patience).map(Reply::Tid),
        Read::History(oid, size) => storage.history(*oid, *size, patience).map(Reply::History),
        Read::RecordIternext(next) => storage.record_iternext(*next, patience).map(Reply::CurrentRecord),
        Read::UndoLog(range, filter) => {
            // Walking the storage takes a while however much of it is in memory.
            if patience == Patience::Now {
                return Err(StorageError::WouldBlock);
            }
            let mut wanted = |entry: &UndoEntry| undo_filter::matches(entry, filter);
            let log = storage.undo_log(range.clone(), &mut wanted)?;
            Ok(log.map_or(Reply::NoUndoLog, Reply::UndoLog))
        }
        Read::Changes(after) => {
            // Walking the storage takes a while however much of it is in memory.
            if patience == Patience::Now {
                return Err(StorageError::WouldBlock);
            }
            let changes = storage.changes_since(*after, CHANGES_MAX)?;
            Ok(Reply::Invalidations(changes.map(|changes| (changes.through, changes.oids))))
        }
        Read::LoadBefore(..)
        | Read::IteratorStart(..)
        | Read::IteratorNext(_)
        | Read::IteratorRecordStart(..)
        | Read::IteratorRecordNext(_)
        | Read::IteratorGc(_)
        | Read::Status
        | Read::Outcome(..)
        | Read::SetLabel(_) => {
            Err(StorageError::Unsupported("this is not a single question to the storage".to_owned()))
        }
    }
}

/// Objects that a client which was away can be told of; beyond, dropping its cache is cheaper. 8 bytes each.
const CHANGES_MAX: usize = 1 << 20;
