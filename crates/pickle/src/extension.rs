//! The extension of a transaction: a pickled dict on disk, entries in memory.

use crate::{Limits, PickleError, Writer, decode};
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

/// The stored form of an extension: nothing for no entries, else a pickle at protocol 3, byte for byte as
/// the reference stores it.
///
/// `None` if an entry holds a text or byte string of 4 GiB or more.
#[must_use]
pub fn encode_extension(entries: Vec<(Value, Value)>) -> Option<Bytes> {
    if entries.is_empty() {
        return Some(Bytes::new());
    }
    let mut out = Vec::new();
    let mut writer = Writer::with_memo(&mut out);
    writer.value(&Value::Dict(entries));
    writer.finish().then(|| Bytes::from(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_extension_has_the_bytes_of_zodbpickle() {
        // zodbpickle.pickle.dumps({'ext': 1, 'x': (b'ab', [1])}, 3)
        let entries = vec![
            (Value::Str("ext".into()), Value::Int(1)),
            (
                Value::Str("x".into()),
                Value::Tuple(vec![Value::Bytes(Bytes::from_static(b"ab")), Value::List(vec![Value::Int(1)])]),
            ),
        ];
        let expected: &[u8] = b"\x80\x03\x7d\x71\x00\x28\x58\x03\x00\x00\x00\x65\x78\x74\x71\x01\x4b\x01\x58\x01\x00\x00\x00\x78\x71\x02\x43\x02\x61\x62\x71\x03\x5d\x71\x04\x4b\x01\x61\x86\x71\x05\x75\x2e";
        assert_eq!(encode_extension(entries).as_deref(), Some(expected));
    }
}
