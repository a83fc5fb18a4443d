//! The extension of a transaction on its way to a client.
//!
//! A stored extension is a pickle that may hold objects of any class. A Python client loads none of
//! them, and waits for ever for a reply that names one. So an extension that is more than plain values
//! counts as empty, and an entry that the encoding can't say is left out; the rest of the reply arrives.

use crate::writer::Writer;
use bytes::Bytes;
use zeolith_pickle::decode_extension;
use zeolith_types::Value;

/// The entries of a stored extension that a client of this encoding can read.
pub(crate) fn entries<W: Writer>(stored: &Bytes) -> Vec<(Value, Value)> {
    let mut entries = decode_extension(stored).unwrap_or_default();
    entries.retain(|(key, value)| W::can_say_key(key) && W::can_say(value));
    entries
}

/// Both sets of entries; what the second one names comes from it alone.
pub(crate) fn overridden(mut entries: Vec<(Value, Value)>, by: Vec<(Value, Value)>) -> Vec<(Value, Value)> {
    entries.retain(|(key, _)| by.iter().all(|(other, _)| other != key));
    entries.extend(by);
    entries
}

/// Writes entries as a dict.
pub(crate) fn write_entries<W: Writer>(writer: &mut W, entries: &[(Value, Value)]) {
    writer.dict(entries.iter(), |writer, (key, value)| {
        writer.value(key);
        writer.value(value);
    });
}
