//! Writes plain values as zodbpickle does: protocol 3, without a memo on the wire (the fast pickler) and
//! with one in what a storage keeps.

use crate::opcode as op;
use zeolith_types::Value;

/// Appends one pickle to a buffer, value by value.
///
/// The length of a container is told ahead, because small tuples and one-item lists have opcodes of
/// their own. A text or byte string of 4 GiB or more can't be said; [`Writer::finish`] tells if
/// there was one.
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    unsayable: bool,
    /// How many objects have been put into the memo, if there is one.
    memo: Option<u32>,
}

impl<'a> Writer<'a> {
    /// Begins a pickle at the end of `out`.
    #[inline]
    #[must_use]
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        out.extend_from_slice(&[op::PROTO, 3]);
        Self { out, unsayable: false, memo: None }
    }

    /// Begins a pickle that numbers its objects in a memo, as Python's pickler does unless it is told to
    /// be fast.
    #[must_use]
    pub fn with_memo(out: &'a mut Vec<u8>) -> Self {
        let mut writer = Self::new(out);
        writer.memo = Some(0);
        writer
    }

    /// Numbers the object that was written last.
    #[inline]
    fn memoize(&mut self) {
        let Some(number) = self.memo else {
            return;
        };
        match u8::try_from(number) {
            Ok(number) => self.out.extend_from_slice(&[op::BINPUT, number]),
            Err(_) => {
                self.out.push(op::LONG_BINPUT);
                self.out.extend_from_slice(&number.to_le_bytes());
            }
        }
        self.memo = Some(number + 1);
    }

    /// Ends the pickle; false if it holds something that could not be written.
    #[inline]
    #[must_use]
    pub fn finish(self) -> bool {
        self.out.push(op::STOP);
        !self.unsayable
    }

    /// `None`
    #[inline]
    pub fn none(&mut self) {
        self.out.push(op::NONE);
    }

    /// A boolean.
    #[inline]
    pub fn bool(&mut self, value: bool) {
        self.out.push(if value { op::NEWTRUE } else { op::NEWFALSE });
    }

    /// An integer in its shortest form.
    #[inline]
    pub fn int(&mut self, value: i128) {
        push_int(self.out, value);
    }

    /// A float.
    #[inline]
    pub fn float(&mut self, value: f64) {
        self.out.push(op::BINFLOAT);
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    /// A byte string.
    #[inline]
    pub fn bytes(&mut self, value: &[u8]) {
        if let Ok(len) = u8::try_from(value.len()) {
            self.out.reserve(value.len() + 2);
            self.out.extend_from_slice(&[op::SHORT_BINBYTES, len]);
        } else if let Ok(len) = u32::try_from(value.len()) {
            self.out.reserve(value.len() + 5);
            self.out.push(op::BINBYTES);
            self.out.extend_from_slice(&len.to_le_bytes());
        } else {
            self.unsayable = true;
            return;
        }
        self.out.extend_from_slice(value);
        self.memoize();
    }

    /// A text.
    #[inline]
    pub fn str(&mut self, value: &str) {
        let Ok(len) = u32::try_from(value.len()) else {
            self.unsayable = true;
            return;
        };
        self.out.push(op::BINUNICODE);
        self.out.extend_from_slice(&len.to_le_bytes());
        self.out.extend_from_slice(value.as_bytes());
        self.memoize();
    }

    /// A tuple whose `len` items are written by `items`.
    #[inline]
    pub fn tuple(&mut self, len: usize, items: impl FnOnce(&mut Self)) {
        if len > 3 {
            self.out.push(op::MARK);
        }
        items(self);
        self.out.push(match len {
            0 => op::EMPTY_TUPLE,
            1 => op::TUPLE1,
            2 => op::TUPLE2,
            3 => op::TUPLE3,
            _ => op::TUPLE,
        });
        if len > 0 {
            self.memoize();
        }
    }

    /// A list; `write` writes one item.
    pub fn list<I: ExactSizeIterator>(&mut self, items: I, write: impl FnMut(&mut Self, I::Item)) {
        self.out.push(op::EMPTY_LIST);
        self.memoize();
        self.batches(items, op::APPEND, op::APPENDS, write);
    }

    /// A dict; `write` writes the key and the value of one entry.
    pub fn dict<I: ExactSizeIterator>(&mut self, entries: I, write: impl FnMut(&mut Self, I::Item)) {
        self.out.push(op::EMPTY_DICT);
        self.memoize();
        self.batches(entries, op::SETITEM, op::SETITEMS, write);
    }

    /// A dict of at most 1000 entries, all written by `entries`.
    pub fn small_dict(&mut self, len: usize, entries: impl FnOnce(&mut Self)) {
        assert!(len <= BATCH_LEN, "a dict written in one go fits into one batch");
        self.out.push(op::EMPTY_DICT);
        self.memoize();
        if len > 1 {
            self.out.push(op::MARK);
        }
        entries(self);
        match len {
            0 => {}
            1 => self.out.push(op::SETITEM),
            _ => self.out.push(op::SETITEMS),
        }
    }

    /// A set, which Python spells as a call.
    pub fn set<I: ExactSizeIterator>(&mut self, items: I, write: impl FnMut(&mut Self, I::Item)) {
        self.global("builtins", "set");
        self.tuple(1, |writer| writer.list(items, write));
        self.out.push(op::REDUCE);
        self.memoize();
    }

    /// A `ZopeUndo.Prefix.Prefix` of these path parts.
    pub fn undo_prefix(&mut self, path: &[String]) {
        self.global("ZopeUndo.Prefix", "Prefix");
        self.out.extend_from_slice(&[op::EMPTY_TUPLE, op::NEWOBJ]);
        self.memoize();
        self.small_dict(2, |writer| {
            writer.str("length");
            writer.int(path.len() as i128);
            writer.str("path");
            writer.list(path.iter(), |writer, part| writer.str(part));
        });
        self.out.push(op::BUILD);
    }

    /// An exception of ZODB, which pickles itself as a call with its class and a dict of `len` attributes.
    pub fn zodb_exception(&mut self, class_name: &str, len: usize, attributes: impl FnOnce(&mut Self)) {
        self.global("ZODB.POSException", "_recon");
        self.tuple(2, |writer| {
            writer.global("ZODB.POSException", class_name);
            writer.small_dict(len, attributes);
        });
        self.out.push(op::REDUCE);
        self.memoize();
    }

    /// Any value. Goes down as deep as the value is, which `decode` bounds.
    pub fn value(&mut self, value: &Value) {
        match value {
            Value::None => self.none(),
            Value::Bool(value) => self.bool(*value),
            Value::Int(value) => self.int(*value),
            Value::Float(value) => self.float(*value),
            Value::Bytes(value) => self.bytes(value),
            Value::Str(value) => self.str(value),
            Value::Tuple(items) => self.tuple(items.len(), |writer| {
                items.iter().for_each(|item| writer.value(item));
            }),
            Value::List(items) => self.list(items.iter(), Self::value),
            Value::Set(items) => self.set(items.iter(), Self::value),
            Value::Dict(pairs) => self.dict(pairs.iter(), |writer, (key, value)| {
                writer.value(key);
                writer.value(value);
            }),
            Value::UndoPrefix(path) => self.undo_prefix(path),
        }
    }

    fn global(&mut self, module: &str, name: &str) {
        self.out.push(op::GLOBAL);
        for part in [module, name] {
            self.out.extend_from_slice(part.as_bytes());
            self.out.push(b'\n');
        }
        self.memoize();
    }

    /// Writes items in batches of a thousand, as Python does; a single one needs no mark.
    fn batches<I: ExactSizeIterator>(
        &mut self,
        mut items: I,
        one: u8,
        many: u8,
        mut write: impl FnMut(&mut Self, I::Item),
    ) {
        if items.len() == 1 {
            items.for_each(|item| write(self, item));
            self.out.push(one);
            return;
        }
        while items.len() > 0 {
            self.out.push(op::MARK);
            items.by_ref().take(BATCH_LEN).for_each(|item| write(self, item));
            self.out.push(many);
        }
    }
}

/// The pickle of one value; `None` if it holds a text or byte string of 4 GiB or more.
#[must_use]
pub fn encode(value: &Value) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out);
    writer.value(value);
    writer.finish().then_some(out)
}

/// Appends an integer in its shortest form.
#[inline]
pub(crate) fn push_int(out: &mut Vec<u8>, value: i128) {
    if let Ok(byte) = u8::try_from(value) {
        out.extend_from_slice(&[op::BININT1, byte]);
    } else if let Ok(short) = u16::try_from(value) {
        out.push(op::BININT2);
        out.extend_from_slice(&short.to_le_bytes());
    } else if let Ok(int) = i32::try_from(value) {
        out.push(op::BININT);
        out.extend_from_slice(&int.to_le_bytes());
    } else {
        let bytes = value.to_le_bytes();
        let sign = if value < 0 { 0xff } else { 0 };
        let mut len = bytes.len();
        // A byte goes if the one below it carries the sign as well.
        while len > 1 && bytes[len - 1] == sign && (bytes[len - 2] ^ sign) & 0x80 == 0 {
            len -= 1;
        }
        out.extend_from_slice(&[op::LONG1, len as u8]);
        out.extend_from_slice(&bytes[..len]);
    }
}

/// How many items Python puts between a mark and its `APPENDS` or `SETITEMS`.
pub(crate) const BATCH_LEN: usize = 1000;
