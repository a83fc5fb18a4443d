//! Writes msgpack as Python's `packb(use_bin_type=True)` does: every value in its shortest form.

use super::marker;
use zeolith_types::Value;

/// Appends msgpack values to a buffer.
pub(crate) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    unsayable: bool,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, unsayable: false }
    }

    /// False if something was written that msgpack can't say; it stands there as nil.
    pub(crate) fn finish(self) -> bool {
        !self.unsayable
    }

    pub(crate) fn none(&mut self) {
        self.out.push(marker::NIL);
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.out.push(if value { marker::TRUE } else { marker::FALSE });
    }

    pub(crate) fn int(&mut self, value: i128) {
        if let Ok(value) = u64::try_from(value) {
            match value {
                0..=0x7f => self.out.push(value as u8),
                0x80..=0xff => self.out.extend_from_slice(&[marker::UINT8, value as u8]),
                0x100..=0xffff => self.tagged(marker::UINT16, &(value as u16).to_be_bytes()),
                0x1_0000..=0xffff_ffff => self.tagged(marker::UINT32, &(value as u32).to_be_bytes()),
                _ => self.tagged(marker::UINT64, &value.to_be_bytes()),
            }
        } else if let Ok(value) = i64::try_from(value) {
            match value {
                -0x20.. => self.out.push(value as u8),
                -0x80.. => self.tagged(marker::INT8, &(value as i8).to_be_bytes()),
                -0x8000.. => self.tagged(marker::INT16, &(value as i16).to_be_bytes()),
                -0x8000_0000.. => self.tagged(marker::INT32, &(value as i32).to_be_bytes()),
                _ => self.tagged(marker::INT64, &value.to_be_bytes()),
            }
        } else {
            self.unsayable();
        }
    }

    pub(crate) fn float(&mut self, value: f64) {
        self.tagged(marker::FLOAT64, &value.to_be_bytes());
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.out.reserve(value.len() + 5);
        if let Ok(len) = u8::try_from(value.len()) {
            self.out.extend_from_slice(&[marker::BIN8, len]);
        } else if let Ok(len) = u16::try_from(value.len()) {
            self.tagged(marker::BIN16, &len.to_be_bytes());
        } else if let Ok(len) = u32::try_from(value.len()) {
            self.tagged(marker::BIN32, &len.to_be_bytes());
        } else {
            self.unsayable();
            return;
        }
        self.out.extend_from_slice(value);
    }

    pub(crate) fn str(&mut self, value: &str) {
        if value.len() < 32 {
            self.out.push(marker::FIXSTR | value.len() as u8);
        } else if let Ok(len) = u8::try_from(value.len()) {
            self.out.extend_from_slice(&[marker::STR8, len]);
        } else if let Ok(len) = u16::try_from(value.len()) {
            self.tagged(marker::STR16, &len.to_be_bytes());
        } else if let Ok(len) = u32::try_from(value.len()) {
            self.tagged(marker::STR32, &len.to_be_bytes());
        } else {
            self.unsayable();
            return;
        }
        self.out.extend_from_slice(value.as_bytes());
    }

    /// The head of an array; its `len` items are to follow.
    pub(crate) fn array(&mut self, len: usize) {
        self.head(len, marker::FIXARRAY, marker::ARRAY16, marker::ARRAY32);
    }

    /// The head of a map; its `len` keys and values are to follow.
    pub(crate) fn map(&mut self, len: usize) {
        self.head(len, marker::FIXMAP, marker::MAP16, marker::MAP32);
    }

    /// Any value. Goes down as deep as the value is, which decoding bounds.
    pub(crate) fn value(&mut self, value: &Value) {
        match value {
            Value::None => self.none(),
            Value::Bool(value) => self.bool(*value),
            Value::Int(value) => self.int(*value),
            Value::Float(value) => self.float(*value),
            Value::Bytes(value) => self.bytes(value),
            Value::Str(value) => self.str(value),
            Value::Tuple(items) | Value::List(items) => {
                self.array(items.len());
                items.iter().for_each(|item| self.value(item));
            }
            Value::Dict(pairs) => {
                self.map(pairs.len());
                for (key, value) in pairs {
                    self.unsayable |= !matches!(key, Value::Str(_) | Value::Bytes(_));
                    self.value(key);
                    self.value(value);
                }
            }
            Value::Set(_) | Value::UndoPrefix(_) => self.unsayable(),
        }
    }

    fn head(&mut self, len: usize, fix: u8, marker16: u8, marker32: u8) {
        if len < 16 {
            self.out.push(fix | len as u8);
        } else if let Ok(len) = u16::try_from(len) {
            self.tagged(marker16, &len.to_be_bytes());
        } else if let Ok(len) = u32::try_from(len) {
            self.tagged(marker32, &len.to_be_bytes());
        } else {
            self.unsayable();
        }
    }

    fn tagged(&mut self, marker: u8, bytes: &[u8]) {
        self.out.push(marker);
        self.out.extend_from_slice(bytes);
    }

    #[cold]
    fn unsayable(&mut self) {
        self.unsayable = true;
        self.none();
    }
}
