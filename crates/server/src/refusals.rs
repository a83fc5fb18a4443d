//! What a storage's error is to a client.

use zeolith_storage::StorageError;
use zeolith_types::Refusal;

/// The refusal that the reference would answer, as far as it knows such an error.
pub(crate) fn refusal(error: StorageError) -> Refusal {
    let text = error.to_string();
    match error {
        StorageError::NoObject(oid) => Refusal::NoObject(oid),
        StorageError::Conflict(conflict) => Refusal::Conflict {
            oid: conflict.oid,
            class_name: zeolith_pickle::class_name(&conflict.data)
                .map(|(module, name)| format!("{module}.{name}")),
            committed: conflict.committed,
            read: conflict.read,
        },
        StorageError::ReadConflict { oid, committed, read } => Refusal::ReadConflict { oid, committed, read },
        StorageError::Cancelled => Refusal::FileStorage(text),
        StorageError::Undo(reason) => Refusal::Undo { reason, oid: None },
        StorageError::UndoOf(failures) => Refusal::UndoOf(failures),
        StorageError::ReadOnly => Refusal::ReadOnly,
        StorageError::Quota { .. } => Refusal::Quota(text),
        StorageError::Format(text) => Refusal::FileStorage(text),
        StorageError::Unsupported(text) => Refusal::Attribute(text),
        StorageError::NoBlobs => Refusal::Type(text),
        StorageError::NoBlobFile { path, oid, tid } => {
            Refusal::NoBlobFile { path: path.display().to_string(), oid, tid }
        }
        StorageError::BadBlobName(name) => Refusal::Value(name),
        StorageError::Empty(text) | StorageError::PackTime(text) => Refusal::Value(text),
        StorageError::Io { source, .. } => Refusal::Os { errno: source.raw_os_error(), text },
        StorageError::WouldBlock
        | StorageError::NoRoom { .. }
        | StorageError::Corrupt { .. }
        | StorageError::Poisoned(_)
        | StorageError::Locked(_) => Refusal::Storage(text),
    }
}
