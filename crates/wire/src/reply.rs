//! The results of calls, in the forms and key orders that the reference gives them.

use crate::{
    extension::{entries, overridden, write_entries},
    status::write_status,
    writer::Writer,
};
use bytes::Bytes;
use zeolith_types::{
    Conflict, HistoryEntry, Oid, Outcome, Reply, StorageInfo, Tid, TransactionInfo, UndoEntry, Value,
};

/// Writes the result of a call.
#[inline]
pub(crate) fn write_reply<W: Writer>(writer: &mut W, reply: &Reply) {
    match reply {
        Reply::Loaded(Some(revision)) => writer.tuple(3, |writer| {
            writer.bytes(&revision.data);
            writer.bytes(&revision.start.to_bytes());
            writer.optional_id(revision.end.map(Tid::to_bytes));
        }),
        other => write_other(writer, other),
    }
}

fn write_other<W: Writer>(writer: &mut W, reply: &Reply) {
    match reply {
        Reply::None
        | Reply::Loaded(_)
        | Reply::Invalidations(None)
        | Reply::Transaction(None)
        | Reply::Record(None) => writer.none(),
        Reply::Tid(tid) => writer.bytes(&tid.to_bytes()),
        Reply::Oids(oids) | Reply::Voted(oids) => write_oids(writer, oids),
        Reply::Data(data) => writer.bytes(data),
        Reply::Info(info) => write_info(writer, info),
        Reply::Invalidations(Some((tid, oids))) => writer.tuple(2, |writer| {
            writer.bytes(&tid.to_bytes());
            write_oids(writer, oids);
        }),
        Reply::CurrentRecord(record) => writer.tuple(4, |writer| {
            writer.bytes(&record.oid.to_bytes());
            writer.bytes(&record.tid.to_bytes());
            writer.bytes(&record.data);
            writer.optional_id(record.next.map(Oid::to_bytes));
        }),
        Reply::History(history) => {
            writer.list(history.iter(), |writer, entry| {
                let entries = history_entries::<W>(entry);
                write_entries(writer, &entries);
            });
        }
        Reply::Conflicts(conflicts) => writer.list(conflicts.iter(), write_conflict),
        Reply::IteratorId(id) => writer.int(*id),
        Reply::Transaction(Some(transaction)) => write_transaction(writer, transaction),
        Reply::Record(Some(record)) => writer.tuple(4, |writer| {
            writer.bytes(&record.oid.to_bytes());
            writer.bytes(&record.tid.to_bytes());
            match &record.data {
                Some(data) => writer.bytes(data),
                None => writer.none(),
            }
            writer.optional_id(record.data_txn.map(Tid::to_bytes));
        }),
        Reply::UndoLog(log) => {
            writer.list(log.iter(), |writer, entry| {
                let entries = undo_entries::<W>(entry);
                write_entries(writer, &entries);
            });
        }
        Reply::NoUndoLog => writer.tuple(0, |_| ()),
        Reply::Cancelled(cancelled) => writer.bool(*cancelled),
        Reply::PackEstimate { before, after } => writer.small_dict(2, |writer| {
            writer.str("before");
            writer.int((*before).into());
            writer.str("after");
            writer.int((*after).into());
        }),
        Reply::Status(status) => write_status(writer, status),
        Reply::Outcome(outcome) => write_outcome(writer, *outcome),
    }
}

fn write_outcome<W: Writer>(writer: &mut W, outcome: Outcome) {
    let (name, tid) = match outcome {
        Outcome::Committed(tid) => ("committed", Some(tid)),
        Outcome::Aborted => ("aborted", None),
        Outcome::Undecided => ("undecided", None),
        Outcome::Unknown => ("unknown", None),
    };
    writer.tuple(2, |writer| {
        writer.str(name);
        writer.optional_id(tid.map(Tid::to_bytes));
    });
}

fn write_oids<W: Writer>(writer: &mut W, oids: &[Oid]) {
    writer.list(oids.iter(), |writer, oid| writer.bytes(&oid.to_bytes()));
}

fn write_info<W: Writer>(writer: &mut W, info: &StorageInfo) {
    writer.small_dict(6, |writer| {
        writer.str("length");
        writer.int(info.length.into());
        writer.str("size");
        writer.int(info.size.into());
        writer.str("name");
        writer.str(&info.name);
        writer.str("supportsUndo");
        writer.bool(info.supports_undo);
        writer.str("supports_record_iternext");
        writer.bool(info.supports_record_iternext);
        writer.str("interfaces");
        // Clients compare with tuples; in a list of lists they would find no ability at all.
        writer.tuple(info.interfaces.len(), |writer| {
            for (module, name) in &info.interfaces {
                writer.tuple(2, |writer| {
                    writer.str(module);
                    writer.str(name);
                });
            }
        });
    });
}

fn write_conflict<W: Writer>(writer: &mut W, conflict: &Conflict) {
    writer.small_dict(3, |writer| {
        writer.str("oid");
        writer.bytes(&conflict.oid.to_bytes());
        writer.str("serials");
        writer.tuple(2, |writer| {
            writer.bytes(&conflict.committed.to_bytes());
            writer.bytes(&conflict.read.to_bytes());
        });
        writer.str("data");
        writer.bytes(&conflict.data);
    });
}

/// The status is text here, though it is a byte in the file.
fn write_transaction<W: Writer>(writer: &mut W, transaction: &TransactionInfo) {
    writer.tuple(5, |writer| {
        writer.bytes(&transaction.tid.to_bytes());
        writer.str(char::from(transaction.status).encode_utf8(&mut [0; 4]));
        writer.bytes(&transaction.user);
        writer.bytes(&transaction.description);
        write_entries(writer, &entries::<W>(&transaction.extension));
    });
}

/// What the storage knows overrides the extension.
fn history_entries<W: Writer>(entry: &HistoryEntry) -> Vec<(Value, Value)> {
    let tid = bytes(entry.tid);
    if entry.in_memory {
        return vec![
            (key("time"), Value::Float(entry.time)),
            (key("tid"), tid.clone()),
            (key("serial"), tid),
            (key("user_name"), Value::Bytes(entry.user.clone())),
            (key("description"), Value::Bytes(entry.description.clone())),
            (key("extension"), Value::Dict(entries::<W>(&entry.extension))),
            (key("size"), Value::Int(entry.size.into())),
        ];
    }
    let known = vec![
        (key("time"), Value::Float(entry.time)),
        (key("user_name"), Value::Bytes(entry.user.clone())),
        (key("description"), Value::Bytes(entry.description.clone())),
        (key("tid"), tid),
        (key("size"), Value::Int(entry.size.into())),
    ];
    overridden(entries::<W>(&entry.extension), known)
}

/// The extension overrides what the storage knows.
fn undo_entries<W: Writer>(entry: &UndoEntry) -> Vec<(Value, Value)> {
    let known = vec![
        (key("id"), Value::Bytes(transaction_name(entry.tid))),
        (key("time"), Value::Float(entry.time)),
        (key("user_name"), Value::Bytes(entry.user.clone())),
        (key("size"), Value::Int(entry.size.into())),
        (key("description"), Value::Bytes(entry.description.clone())),
    ];
    overridden(known, entries::<W>(&entry.extension))
}

fn key(name: &str) -> Value {
    Value::Str(name.to_owned())
}

fn bytes(tid: Tid) -> Value {
    Value::Bytes(Bytes::copy_from_slice(&tid.to_bytes()))
}

/// The base64 form of a tid, by which clients name the transaction to undo.
#[must_use]
pub fn transaction_name(tid: Tid) -> Bytes {
    // Eight bytes are ten groups of six bits and four bits that begin an eleventh.
    let bits = u128::from(tid.get()) << 2;
    let digits = (0..11).rev().map(|group| BASE64[(bits >> (6 * group) & 0x3f) as usize]);
    digits.chain([b'=']).collect()
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tid_in_base64_is_what_python_makes_of_it() {
        assert_eq!(transaction_name(Tid::ZERO), "AAAAAAAAAAA=");
        assert_eq!(transaction_name(Tid::new(0x0123_4567_89ab_cdef)), "ASNFZ4mrze8=");
        assert_eq!(transaction_name(Tid::new(u64::MAX)), "//////////8=");
    }
}
