//! A session's blob uploads: a stream of one-way calls that becomes one write of the transaction.
//!
//! The bytes themselves pass by: the shell takes them to the storage.

use super::Session;
use crate::{
    session::step::{Caller, Step},
    transaction::Uploaded,
};
use bytes::Bytes;
use std::sync::atomic::Ordering::Relaxed;
use zeolith_storage::{UploadedBlob, Write};
use zeolith_types::{Oid, Refusal, Tid, Value};

/// What the shell does for an upload.
#[derive(Debug)]
pub enum BlobStep {
    /// Begin one.
    Begin,
    /// Add these bytes to it.
    Append(Bytes),
    /// Let go what has come of it: its transaction can't succeed.
    Discard,
    /// End it, then [`Session::blob_uploaded`].
    End(BlobRecord),
    /// Take over the file of this name, which the client has put into the directory that it shares with the
    /// storage, then [`Session::blob_uploaded`].
    Shared(BlobRecord, String),
}

/// The record that belongs to an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobRecord {
    /// The object.
    pub oid: Oid,
    /// The revision that the client read.
    pub serial: Tid,
    /// The record.
    pub data: Bytes,
}

impl Session {
    pub(super) fn begin_blob(&mut self, to: Caller) -> Step {
        let open = match self.collecting_any() {
            Ok(open) => open,
            Err(refusal) => return to.refuse(refusal),
        };
        if open.uploading.is_some() {
            return to.refuse(Refusal::Assertion("another blob is being uploaded".to_owned()));
        }
        open.uploading = Some(0);
        Step::Blob(to, BlobStep::Begin)
    }

    pub(super) fn append_to_blob(&mut self, to: Caller, chunk: Bytes) -> Step {
        let rules = self.rules;
        let uploaded = match self.collecting_any() {
            Ok(open) if open.uploading.is_some() => open.upload(chunk.len() as u64, &rules),
            Ok(_) => return to.refuse(no_upload()),
            Err(refusal) => return to.refuse(refusal),
        };
        match uploaded {
            Uploaded::Kept => return Step::Blob(to, BlobStep::Append(chunk)),
            Uploaded::TooLarge => {
                self.counters.transactions_too_large.fetch_add(1, Relaxed);
            }
            Uploaded::Doomed => {}
        }
        Step::Blob(to, BlobStep::Discard)
    }

    pub(super) fn end_blob(&mut self, to: Caller, given: &Value, record: BlobRecord) -> Step {
        match self.collecting(given) {
            Ok(open) => match (open.uploading.take(), &open.doom) {
                (Some(_), None) => Step::Blob(to, BlobStep::End(record)),
                (Some(_), Some(_)) => Step::Blob(to, BlobStep::Discard),
                (None, _) => to.refuse(no_upload()),
            },
            Err(refusal) => to.refuse(refusal),
        }
    }

    pub(super) fn shared_blob(
        &mut self,
        to: Caller,
        given: &Value,
        record: BlobRecord,
        name: String,
    ) -> Step {
        match self.collecting(given) {
            Ok(_) => Step::Blob(to, BlobStep::Shared(record, name)),
            Err(refusal) => to.refuse(refusal),
        }
    }

    /// An upload has ended, and its content is with the storage. A refusal is that of the storage. The client
    /// can't have said anything since, because its calls wait for each other.
    pub fn blob_uploaded(
        &mut self,
        to: Caller,
        record: BlobRecord,
        blob: Result<UploadedBlob, Refusal>,
    ) -> Step {
        let BlobRecord { oid, serial, data } = record;
        match blob {
            Ok(blob) => self.push(to, Write::StoreBlob { oid, serial, data: data.into(), blob }),
            Err(refusal) => to.refuse(refusal),
        }
    }
}

fn no_upload() -> Refusal {
    Refusal::Type("no blob is being uploaded".to_owned())
}
