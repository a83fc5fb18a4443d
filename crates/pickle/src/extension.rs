//! The extension of a transaction: a pickled dict on disk, entries in memory.

use crate::{Limits, PickleError, Writer, decode};
use bytes::Bytes;
use zeolith_types::{TOKEN_KEY, TOKEN_LEN, Value};

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

/// The token in a stored extension by which its client asks what became of the transaction.
#[must_use]
pub fn transaction_token(stored: &Bytes) -> Option<Bytes> {
    // Few have one, and whoever has a key has its bytes.
    if !stored.windows(TOKEN_KEY.len()).any(|bytes| bytes == TOKEN_KEY.as_bytes()) {
        return None;
    }
    let entries = decode_extension(stored).ok()?;
    entries.into_iter().find_map(|(key, value)| match (key, value) {
        (Value::Str(key), Value::Bytes(token)) if key == TOKEN_KEY && TOKEN_LEN.contains(&token.len()) => {
            Some(token)
        }
        _ => None,
    })
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
    fn a_token_is_found_among_other_entries_and_only_if_it_is_one() {
        let extension = |key: &str, value: Value| {
            let other = (Value::Str("note".into()), Value::Bytes(TOKEN_KEY.into()));
            encode_extension(vec![other, (Value::Str(key.into()), value)]).unwrap()
        };
        let token = Bytes::from_static(b"sixteen bytes ok");
        assert_eq!(
            transaction_token(&extension(TOKEN_KEY, Value::Bytes(token.clone()))),
            Some(token.clone())
        );
        assert_eq!(transaction_token(&extension("token", Value::Bytes(token))), None);
        assert_eq!(transaction_token(&extension(TOKEN_KEY, Value::Bytes("too short".into()))), None);
        assert_eq!(transaction_token(&extension(TOKEN_KEY, Value::Str("no bytes at all!".into()))), None);
        assert_eq!(transaction_token(&Bytes::from_static(b"no pickle, zeolith-token")), None);
        assert_eq!(transaction_token(&Bytes::new()), None);
    }

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
