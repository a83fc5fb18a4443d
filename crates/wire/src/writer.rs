//! What the two encodings have in common when a message is written.

use crate::{Encoding, WireError, append_frame, msgpack};
use zeolith_pickle as pickle;
use zeolith_types::{Oid, Value};

/// Writes values in one encoding. Lists and tuples are the same in msgpack; pickle tells them apart.
pub(crate) trait Writer {
    /// Whether a value of any depth can be written so that a Python client reads it.
    fn can_say(value: &Value) -> bool;
    /// Whether a value can be written as the key of a dict.
    fn can_say_key(key: &Value) -> bool;
    fn none(&mut self);
    fn bool(&mut self, value: bool);
    fn int(&mut self, value: i128);
    fn bytes(&mut self, value: &[u8]);
    fn str(&mut self, value: &str);
    fn value(&mut self, value: &Value);
    /// A tuple whose `len` items are written by `items`.
    fn tuple(&mut self, len: usize, items: impl FnOnce(&mut Self));
    /// A list; `write` writes one item.
    fn list<I: ExactSizeIterator>(&mut self, items: I, write: impl FnMut(&mut Self, I::Item));
    /// A dict of at most 1000 entries, all written by `entries`.
    fn small_dict(&mut self, len: usize, entries: impl FnOnce(&mut Self));
    /// A dict; `write` writes the key and the value of one entry.
    fn dict<I: ExactSizeIterator>(&mut self, entries: I, write: impl FnMut(&mut Self, I::Item));

    /// An `UndoError` inside of another exception.
    fn undo_error(&mut self, reason: &str, oid: Oid);

    /// Eight bytes, or nothing.
    fn optional_id(&mut self, id: Option<[u8; 8]>) {
        match id {
            Some(id) => self.bytes(&id),
            None => self.none(),
        }
    }
}

impl Writer for pickle::Writer<'_> {
    /// A Python client loads no global but exceptions and `Prefix`, so a set would hang it.
    fn can_say(value: &Value) -> bool {
        match value {
            Value::Set(_) => false,
            Value::Tuple(items) | Value::List(items) => items.iter().all(Self::can_say),
            Value::Dict(pairs) => {
                pairs.iter().all(|(key, value)| Self::can_say_key(key) && Self::can_say(value))
            }
            Value::None
            | Value::Bool(_)
            | Value::Int(_)
            | Value::Float(_)
            | Value::Bytes(_)
            | Value::Str(_)
            | Value::UndoPrefix(_) => true,
        }
    }

    fn can_say_key(key: &Value) -> bool {
        is_hashable(key) && Self::can_say(key)
    }

    #[inline]
    fn none(&mut self) {
        self.none();
    }

    #[inline]
    fn bool(&mut self, value: bool) {
        self.bool(value);
    }

    #[inline]
    fn int(&mut self, value: i128) {
        self.int(value);
    }

    #[inline]
    fn bytes(&mut self, value: &[u8]) {
        self.bytes(value);
    }

    #[inline]
    fn str(&mut self, value: &str) {
        self.str(value);
    }

    fn value(&mut self, value: &Value) {
        self.value(value);
    }

    #[inline]
    fn tuple(&mut self, len: usize, items: impl FnOnce(&mut Self)) {
        self.tuple(len, items);
    }

    fn list<I: ExactSizeIterator>(&mut self, items: I, write: impl FnMut(&mut Self, I::Item)) {
        self.list(items, write);
    }

    fn small_dict(&mut self, len: usize, entries: impl FnOnce(&mut Self)) {
        self.small_dict(len, entries);
    }

    fn dict<I: ExactSizeIterator>(&mut self, entries: I, write: impl FnMut(&mut Self, I::Item)) {
        self.dict(entries, write);
    }

    fn undo_error(&mut self, reason: &str, oid: Oid) {
        let oid = oid.to_bytes();
        self.zodb_exception("UndoError", 3, |writer| {
            writer.str("_reason");
            writer.str(reason);
            writer.str("_oid");
            writer.bytes(&oid);
            writer.str("args");
            writer.tuple(2, |writer| {
                writer.str(reason);
                writer.bytes(&oid);
            });
        });
    }
}

impl Writer for msgpack::Writer<'_> {
    fn can_say(value: &Value) -> bool {
        match value {
            Value::Set(_) | Value::UndoPrefix(_) => false,
            Value::Int(value) => i64::try_from(*value).is_ok() || u64::try_from(*value).is_ok(),
            Value::Tuple(items) | Value::List(items) => items.iter().all(Self::can_say),
            Value::Dict(pairs) => {
                pairs.iter().all(|(key, value)| Self::can_say_key(key) && Self::can_say(value))
            }
            Value::None | Value::Bool(_) | Value::Float(_) | Value::Bytes(_) | Value::Str(_) => true,
        }
    }

    fn can_say_key(key: &Value) -> bool {
        matches!(key, Value::Str(_) | Value::Bytes(_))
    }

    #[inline]
    fn none(&mut self) {
        self.none();
    }

    #[inline]
    fn bool(&mut self, value: bool) {
        self.bool(value);
    }

    #[inline]
    fn int(&mut self, value: i128) {
        self.int(value);
    }

    #[inline]
    fn bytes(&mut self, value: &[u8]) {
        self.bytes(value);
    }

    #[inline]
    fn str(&mut self, value: &str) {
        self.str(value);
    }

    fn value(&mut self, value: &Value) {
        self.value(value);
    }

    #[inline]
    fn tuple(&mut self, len: usize, items: impl FnOnce(&mut Self)) {
        self.array(len);
        items(self);
    }

    fn list<I: ExactSizeIterator>(&mut self, items: I, mut write: impl FnMut(&mut Self, I::Item)) {
        self.array(items.len());
        items.for_each(|item| write(self, item));
    }

    fn small_dict(&mut self, len: usize, entries: impl FnOnce(&mut Self)) {
        self.map(len);
        entries(self);
    }

    fn dict<I: ExactSizeIterator>(&mut self, entries: I, mut write: impl FnMut(&mut Self, I::Item)) {
        self.map(entries.len());
        entries.for_each(|entry| write(self, entry));
    }

    fn undo_error(&mut self, reason: &str, oid: Oid) {
        self.array(2);
        self.str("ZODB.POSException.UndoError");
        self.map(2);
        self.str("_reason");
        self.str(reason);
        self.str("_oid");
        self.bytes(&oid.to_bytes());
    }
}

/// Whether Python takes it as the key of a dict.
fn is_hashable(value: &Value) -> bool {
    match value {
        Value::List(_) | Value::Dict(_) | Value::Set(_) | Value::UndoPrefix(_) => false,
        Value::Tuple(items) => items.iter().all(is_hashable),
        Value::None | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Bytes(_) | Value::Str(_) => {
            true
        }
    }
}

/// Something that can be written in either encoding.
pub(crate) trait Message {
    fn write<W: Writer>(&self, writer: &mut W);
}

/// Appends one message as a frame.
///
/// # Errors
/// Nothing is appended if the encoding can't say the message, or a frame can't hold it.
#[inline]
pub(crate) fn append_message(
    encoding: Encoding,
    message: &impl Message,
    out: &mut Vec<u8>,
) -> Result<(), WireError> {
    let start = out.len();
    let mut is_said = true;
    append_frame(out, |out| match encoding {
        Encoding::Pickle => {
            let mut writer = pickle::Writer::new(out);
            message.write(&mut writer);
            is_said = writer.finish();
        }
        Encoding::Msgpack => {
            let mut writer = msgpack::Writer::new(out);
            message.write(&mut writer);
            is_said = writer.finish();
        }
    })?;
    if is_said {
        return Ok(());
    }
    out.truncate(start);
    Err(WireError::NotAMessage("it holds what the encoding can't say"))
}
