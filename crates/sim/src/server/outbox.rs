//! What the core says, as frames in a connection's output.

use std::sync::Arc;
use zeolith_core::{Outbox, Publication};
use zeolith_filestorage::FileStorage;
use zeolith_storage::{Sizes, Storage, StorageError};
use zeolith_types::{MessageId, Notice, Refusal, Reply};
use zeolith_wire::Encoding;

pub(super) struct Output<'a> {
    pub(super) out: &'a mut Vec<u8>,
    pub(super) encoding: Encoding,
    pub(super) storage: &'a FileStorage,
}

impl Outbox for Output<'_> {
    fn invalidate(&mut self, publication: &Publication) {
        let notice = Notice::Invalidate { tid: publication.tid, oids: Arc::clone(&publication.oids) };
        zeolith_wire::encode_notice(self.encoding, &notice, self.out);
    }

    fn info(&mut self) {
        let Sizes { length, size } = self.storage.sizes();
        zeolith_wire::encode_notice(self.encoding, &Notice::Info { length, size }, self.out);
    }

    fn reply(&mut self, id: &MessageId, reply: &Reply) {
        zeolith_wire::encode_reply(self.encoding, id, reply, self.out);
    }

    fn refuse(&mut self, id: &MessageId, refusal: &Refusal) {
        zeolith_wire::encode_refusal(self.encoding, id, refusal, self.out);
    }
}

/// What a storage's error is to a client.
pub(super) fn refusal(error: StorageError) -> Refusal {
    let text = error.to_string();
    match error {
        StorageError::NoObject(oid) => Refusal::NoObject(oid),
        StorageError::Conflict(conflict) => Refusal::Conflict {
            oid: conflict.oid,
            class_name: None,
            committed: conflict.committed,
            read: conflict.read,
        },
        StorageError::ReadConflict { oid, committed, read } => Refusal::ReadConflict { oid, committed, read },
        StorageError::ReadOnly => Refusal::ReadOnly,
        StorageError::Quota { .. } => Refusal::Quota(text),
        StorageError::Format(text) => Refusal::FileStorage(text),
        StorageError::Unsupported(text) => Refusal::Attribute(text),
        StorageError::Empty(text) => Refusal::Value(text),
        StorageError::Io { source, .. } => Refusal::Os { errno: source.raw_os_error(), text },
        // Simulated clients do nothing for which the others differ.
        _ => Refusal::Storage(text),
    }
}
