//! The extension of a transaction: a pickled dict on disk, entries in memory.

use crate::{Limits, PickleError, decode, encode};
use bytes::Bytes;
use zeolith_types::Value;

/// The entries of a stored extension; no bytes are no entries.
///
/// # Errors
/// A stored extension can hold objects of any class. One that is more than plain values is an error;
/// what that means for the transaction is the caller's to say.
pub fn decode_extension(stored: &Bytes) -> Result<Vec<(Value, Value)>, PickleError> {
    if stored.is_empty() {
        return Ok(Vec::new());
    }
    match decode(stored, Limits::REQUEST)? {
        Value::Dict(entries) => Ok(entries),
        _ => Err(PickleError::Malformed { what: "an extension that is no dict", at: 0 }),
    }
}

/// The stored form of an extension: nothing for no entries, else a pickle at protocol 3.
///
/// `None` if an entry holds a text or byte string of 4 GiB or more.
#[must_use]
pub fn encode_extension(entries: Vec<(Value, Value)>) -> Option<Bytes> {
    if entries.is_empty() {
        return Some(Bytes::new());
    }
    encode(&Value::Dict(entries)).map(Bytes::from)
}
