//! The table of error names: which Python exception each refusal is, and what it carries.
//!
//! Python sends the attributes of an exception as a dict if it has any, else its arguments as a
//! tuple. A client rebuilds the exception from just that form and waits for ever if it gets the other.

use crate::writer::Writer;
use zeolith_types::{Oid, Refusal, Tid};

/// Writes the pair of class name and payload.
pub(crate) fn write_refusal<W: Writer>(writer: &mut W, refusal: &Refusal) {
    writer.tuple(2, |writer| {
        writer.str(class_name(refusal));
        write_payload(writer, refusal);
    });
}

/// The exact name of the Python class.
const fn class_name(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::NoObject(_) | Refusal::NoBlobFile { .. } => "ZODB.POSException.POSKeyError",
        Refusal::Conflict { .. } => "ZODB.POSException.ConflictError",
        Refusal::ReadConflict { .. } => "ZODB.POSException.ReadConflictError",
        Refusal::ReadOnly => "ZODB.POSException.ReadOnlyError",
        Refusal::WrongTransaction { .. } | Refusal::Transaction(_) => {
            "ZODB.POSException.StorageTransactionError"
        }
        Refusal::Quota(_) => "ZODB.FileStorage.FileStorage.FileStorageQuotaError",
        Refusal::FileStorage(_) => "ZODB.FileStorage.FileStorage.FileStorageError",
        Refusal::Undo { .. } => "ZODB.POSException.UndoError",
        Refusal::UndoOf(_) => "ZODB.POSException.MultipleUndoErrors",
        Refusal::Base64(_) => "binascii.Error",
        Refusal::Unsupported(_) => "ZODB.POSException.Unsupported",
        Refusal::Os { .. } => "builtins.OSError",
        Refusal::Value(_) => "builtins.ValueError",
        Refusal::Type(_) => "builtins.TypeError",
        Refusal::Attribute(_) => "builtins.AttributeError",
        Refusal::Assertion(_) => "builtins.AssertionError",
        Refusal::Key(_) => "builtins.KeyError",
        Refusal::Exception(_) => "builtins.Exception",
        Refusal::Storage(_) => "ZODB.POSException.StorageError",
    }
}

fn write_payload<W: Writer>(writer: &mut W, refusal: &Refusal) {
    match refusal {
        Refusal::NoObject(oid) => writer.tuple(1, |writer| writer.bytes(&oid.to_bytes())),
        Refusal::NoBlobFile { path, oid, tid } => writer.tuple(3, |writer| {
            writer.str(&format!("No blob file at {path}"));
            writer.bytes(&oid.to_bytes());
            writer.bytes(&tid.to_bytes());
        }),
        Refusal::Conflict { oid, class_name, committed, read } => {
            let message = "database conflict error";
            write_conflict(writer, message, *oid, class_name.as_deref(), (*committed, *read));
        }
        Refusal::ReadConflict { oid, committed, read } => {
            let message = "database read conflict error";
            write_conflict(writer, message, *oid, None, (*committed, *read));
        }
        Refusal::ReadOnly => writer.tuple(0, |_| ()),
        Refusal::WrongTransaction { current, given } => writer.tuple(2, |writer| {
            match current {
                Some(current) => writer.value(current),
                None => writer.none(),
            }
            writer.value(given);
        }),
        Refusal::Undo { reason, oid } => writer.small_dict(2, |writer| {
            writer.str("_reason");
            writer.str(reason);
            writer.str("_oid");
            writer.optional_id(oid.map(Oid::to_bytes));
        }),
        Refusal::UndoOf(failures) => write_undo_failures(writer, failures),
        Refusal::Os { errno: Some(errno), text } => writer.tuple(2, |writer| {
            writer.int((*errno).into());
            writer.str(text);
        }),
        Refusal::Key(key) => writer.tuple(1, |writer| writer.int(*key)),
        Refusal::Transaction(text)
        | Refusal::Quota(text)
        | Refusal::FileStorage(text)
        | Refusal::Base64(text)
        | Refusal::Unsupported(text)
        | Refusal::Os { errno: None, text }
        | Refusal::Value(text)
        | Refusal::Type(text)
        | Refusal::Attribute(text)
        | Refusal::Assertion(text)
        | Refusal::Exception(text)
        | Refusal::Storage(text) => writer.tuple(1, |writer| writer.str(text)),
    }
}

/// The attributes of a `MultipleUndoErrors`. The first two tell of the first object, the wrong way round: so
/// it is in Python, and what clients expect.
fn write_undo_failures<W: Writer>(writer: &mut W, failures: &[(Oid, String)]) {
    writer.small_dict(if failures.is_empty() { 1 } else { 3 }, |writer| {
        if let Some((oid, reason)) = failures.first() {
            writer.str("_reason");
            writer.bytes(&oid.to_bytes());
            writer.str("_oid");
            writer.undo_error(reason, *oid);
        }
        writer.str("_errs");
        writer.list(failures.iter(), |writer, (oid, reason)| {
            writer.tuple(2, |writer| {
                writer.bytes(&oid.to_bytes());
                writer.undo_error(reason, *oid);
            });
        });
    });
}

/// The attributes of a `ConflictError`, all of which clients look at.
fn write_conflict<W: Writer>(
    writer: &mut W,
    message: &str,
    oid: Oid,
    class_name: Option<&str>,
    (committed, read): (Tid, Tid),
) {
    writer.small_dict(4, |writer| {
        writer.str("message");
        writer.str(message);
        writer.str("oid");
        writer.bytes(&oid.to_bytes());
        writer.str("class_name");
        match class_name {
            Some(name) => writer.str(name),
            None => writer.none(),
        }
        writer.str("serials");
        writer.tuple(2, |writer| {
            writer.bytes(&committed.to_bytes());
            writer.bytes(&read.to_bytes());
        });
    });
}
