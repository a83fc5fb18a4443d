//! Decodes one msgpack value. Never recurses, and reserves no memory by a length that is only claimed.

use super::marker;
use crate::WireError;
use bytes::Bytes;
use zeolith_pickle::Limits;
use zeolith_types::Value;

/// Decodes a frame that is exactly one value. Byte strings are slices of it.
///
/// # Errors
/// Whatever Python's `unpackb(raw=False)` refuses too, extension types, and anything past a limit.
pub(crate) fn decode(frame: &Bytes, limits: Limits) -> Result<Value, WireError> {
    let mut input = Input { frame, at: 0 };
    let mut open: Vec<Container> = Vec::new();
    let mut values_left = limits.values_max;
    loop {
        let mut value = match input.item()? {
            Item::Value(value) => value,
            Item::Container(container) => {
                values_left = values_left.checked_sub(container.left).ok_or_else(too_many)?;
                if open.len() >= limits.depth_max {
                    return Err(undecodable("too many levels of nesting"));
                }
                if container.left > 0 {
                    open.push(container);
                    continue;
                }
                container.into_value()?
            }
        };
        // Each value that is complete may complete the container it stands in, and so on outwards.
        loop {
            let Some(container) = open.last_mut() else {
                return if input.at == frame.len() { Ok(value) } else { Err(undecodable("extra bytes")) };
            };
            container.items.push(value);
            container.left -= 1;
            if container.left > 0 {
                break;
            }
            let Some(full) = open.pop() else { break };
            value = full.into_value()?;
        }
    }
}

/// An array or map whose items are still to come.
struct Container {
    is_map: bool,
    /// Values to come; a map has two for each entry.
    left: usize,
    items: Vec<Value>,
}

impl Container {
    fn into_value(self) -> Result<Value, WireError> {
        if !self.is_map {
            return Ok(Value::Tuple(self.items));
        }
        let mut pairs = Vec::with_capacity(self.items.len() / 2);
        let mut items = self.items.into_iter();
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            if !matches!(key, Value::Str(_) | Value::Bytes(_)) {
                return Err(undecodable("a map key that is neither text nor bytes"));
            }
            pairs.push((key, value));
        }
        Ok(Value::Dict(pairs))
    }
}

/// What stands at a position.
enum Item {
    Value(Value),
    Container(Container),
}

struct Input<'a> {
    frame: &'a Bytes,
    at: usize,
}

impl Input<'_> {
    fn item(&mut self) -> Result<Item, WireError> {
        let [first] = self.array()?;
        Ok(Item::Value(match first {
            0..=0x7f => Value::Int(first.into()),
            0xe0..=0xff => Value::Int((first as i8).into()),
            0x80..=0x8f => return self.map(usize::from(first - marker::FIXMAP)),
            0x90..=0x9f => return self.container(false, usize::from(first - marker::FIXARRAY)),
            0xa0..=0xbf => self.str(usize::from(first - marker::FIXSTR))?,
            marker::NIL => Value::None,
            marker::FALSE => Value::Bool(false),
            marker::TRUE => Value::Bool(true),
            marker::BIN8 => {
                let len = self.len1()?;
                self.bytes(len)?
            }
            marker::BIN16 => {
                let len = self.len2()?;
                self.bytes(len)?
            }
            marker::BIN32 => {
                let len = self.len4()?;
                self.bytes(len)?
            }
            marker::STR8 => {
                let len = self.len1()?;
                self.str(len)?
            }
            marker::STR16 => {
                let len = self.len2()?;
                self.str(len)?
            }
            marker::STR32 => {
                let len = self.len4()?;
                self.str(len)?
            }
            marker::ARRAY16 => {
                let len = self.len2()?;
                return self.container(false, len);
            }
            marker::ARRAY32 => {
                let len = self.len4()?;
                return self.container(false, len);
            }
            marker::MAP16 => {
                let len = self.len2()?;
                return self.map(len);
            }
            marker::MAP32 => {
                let len = self.len4()?;
                return self.map(len);
            }
            marker::FLOAT32 => Value::Float(f32::from_be_bytes(self.array()?).into()),
            marker::FLOAT64 => Value::Float(f64::from_be_bytes(self.array()?)),
            marker::UINT8 => Value::Int(u8::from_be_bytes(self.array()?).into()),
            marker::UINT16 => Value::Int(u16::from_be_bytes(self.array()?).into()),
            marker::UINT32 => Value::Int(u32::from_be_bytes(self.array()?).into()),
            marker::UINT64 => Value::Int(u64::from_be_bytes(self.array()?).into()),
            marker::INT8 => Value::Int(i8::from_be_bytes(self.array()?).into()),
            marker::INT16 => Value::Int(i16::from_be_bytes(self.array()?).into()),
            marker::INT32 => Value::Int(i32::from_be_bytes(self.array()?).into()),
            marker::INT64 => Value::Int(i64::from_be_bytes(self.array()?).into()),
            _ => return Err(undecodable("a value of a type outside the protocol")),
        }))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let Some((array, _)) = self.frame[self.at..].split_first_chunk::<N>() else {
            return Err(cut_off());
        };
        self.at += N;
        Ok(*array)
    }

    fn len1(&mut self) -> Result<usize, WireError> {
        Ok(usize::from(u8::from_be_bytes(self.array()?)))
    }

    fn len2(&mut self) -> Result<usize, WireError> {
        Ok(usize::from(u16::from_be_bytes(self.array()?)))
    }

    fn len4(&mut self) -> Result<usize, WireError> {
        usize::try_from(u32::from_be_bytes(self.array()?)).map_err(|_| cut_off())
    }

    fn bytes(&mut self, len: usize) -> Result<Value, WireError> {
        self.check_left(len)?;
        let bytes = self.frame.slice(self.at..self.at + len);
        self.at += len;
        Ok(Value::Bytes(bytes))
    }

    fn str(&mut self, len: usize) -> Result<Value, WireError> {
        self.check_left(len)?;
        let text = std::str::from_utf8(&self.frame[self.at..self.at + len]);
        self.at += len;
        text.map(|text| Value::Str(text.to_owned())).map_err(|_| undecodable("text that is not UTF-8"))
    }

    fn map(&mut self, len: usize) -> Result<Item, WireError> {
        self.container(true, len.checked_mul(2).ok_or_else(cut_off)?)
    }

    /// Each item takes a byte at least, so more items than bytes can't be there.
    fn container(&mut self, is_map: bool, left: usize) -> Result<Item, WireError> {
        self.check_left(left)?;
        let items = Vec::with_capacity(left.min(RESERVED_MAX));
        Ok(Item::Container(Container { is_map, left, items }))
    }

    fn check_left(&self, len: usize) -> Result<(), WireError> {
        if len > self.frame.len() - self.at { Err(cut_off()) } else { Ok(()) }
    }
}

#[cold]
fn undecodable(what: &str) -> WireError {
    WireError::Undecodable(what.to_owned())
}

#[cold]
fn cut_off() -> WireError {
    undecodable("the value is cut off")
}

#[cold]
fn too_many() -> WireError {
    undecodable("too many values")
}

/// How many items a container gets room for before they are there.
const RESERVED_MAX: usize = 64;
