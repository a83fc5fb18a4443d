//! Decodes one msgpack value, or a message whose arguments are read one by one. Never recurses, and reserves no memory by a length that is only claimed.

use super::marker;
use crate::WireError;
use bytes::Bytes;
use zeolith_pickle::Limits;
use zeolith_types::Value;

/// Decodes a frame that is exactly one value. Byte strings are slices of it.
///
/// # Errors
/// Whatever Python's `unpackb(raw=False)` refuses too, extension types, and anything past a limit.
pub(crate) fn decode(frame: &Bytes, mut limits: Limits) -> Result<Value, WireError> {
    let mut input = Input { frame, at: 0 };
    let value = input.value(&mut limits)?;
    input.end().map(|()| value)
}

/// A message whose name is a text and whose arguments are an array, as nearly all are. The arguments are read one by
/// one, without a value for the whole and for what is known to be bytes.
pub(crate) struct Message<'a> {
    pub(crate) id: Value,
    pub(crate) flag: Value,
    pub(crate) name: &'a str,
    pub(crate) arguments: PackedArguments<'a>,
}

impl<'a> Message<'a> {
    /// The message in a frame; `None` if it is something else or broken, which only [`decode`] can tell.
    pub(crate) fn begin(frame: &'a Bytes, mut limits: Limits) -> Option<Self> {
        let mut input = Input { frame, at: 0 };
        if input.array() != Ok([MESSAGE]) {
            return None;
        }
        limits.depth_max = limits.depth_max.checked_sub(2)?;
        limits.values_max = limits.values_max.checked_sub(MESSAGE_PARTS)?;
        let (id, flag) = (input.value(&mut limits).ok()?, input.value(&mut limits).ok()?);
        let name = input.short_text()?;
        let Ok([first @ 0x90..=0x9f]) = input.array() else { return None };
        let left = usize::from(first - marker::FIXARRAY);
        limits.values_max = limits.values_max.checked_sub(left)?;
        let arguments = PackedArguments { input, limits, left, is_broken: false };
        Some(Self { id, flag, name, arguments })
    }
}

/// The arguments of a call that have not been read yet.
pub(crate) struct PackedArguments<'a> {
    input: Input<'a>,
    limits: Limits,
    left: usize,
    is_broken: bool,
}

impl PackedArguments<'_> {
    /// How many are left.
    pub(crate) const fn left(&self) -> usize {
        self.left
    }

    /// Whether all have been read, and nothing was wrong.
    pub(crate) fn are_over(&self) -> bool {
        self.left == 0 && !self.is_broken && self.input.end().is_ok()
    }

    /// The next one, if it is a string of eight bytes.
    pub(crate) fn eight_bytes(&mut self) -> Option<[u8; 8]> {
        let (head, rest) = self.input.frame.get(self.input.at..)?.split_first_chunk()?;
        if self.left == 0 || *head != [marker::BIN8, 8] {
            return None;
        }
        let bytes = *rest.first_chunk()?;
        self.input.at += head.len() + bytes.len();
        self.left -= 1;
        Some(bytes)
    }
}

impl Iterator for PackedArguments<'_> {
    type Item = Value;

    /// What can't be decoded is `None`, and then not all is well.
    fn next(&mut self) -> Option<Value> {
        self.left = self.left.checked_sub(1)?;
        let value = self.input.value(&mut self.limits);
        self.is_broken |= value.is_err();
        value.ok()
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

impl<'a> Input<'a> {
    /// The next value with all that it holds; `limits` keeps count of what is left.
    #[inline]
    fn value(&mut self, limits: &mut Limits) -> Result<Value, WireError> {
        match self.item()? {
            Item::Value(value) => Ok(value),
            Item::Container(container) => self.filled(container, limits),
        }
    }

    /// A container with the items that follow, and with all that they hold.
    fn filled(&mut self, outermost: Container, limits: &mut Limits) -> Result<Value, WireError> {
        let (mut open, mut item): (Vec<Container>, _) = (Vec::new(), Item::Container(outermost));
        loop {
            let mut value = match item {
                Item::Value(value) => value,
                Item::Container(container) => {
                    let left = limits.values_max.checked_sub(container.left);
                    limits.values_max = left.ok_or_else(too_many)?;
                    if open.len() >= limits.depth_max {
                        return Err(undecodable("too many levels of nesting"));
                    }
                    if container.left > 0 {
                        open.push(container);
                        item = self.item()?;
                        continue;
                    }
                    container.into_value()?
                }
            };
            // Each value that is complete may complete the container it stands in, and so on outwards.
            loop {
                let Some(container) = open.last_mut() else { return Ok(value) };
                container.items.push(value);
                container.left -= 1;
                if container.left > 0 {
                    break;
                }
                let Some(full) = open.pop() else { break };
                value = full.into_value()?;
            }
            item = self.item()?;
        }
    }

    fn end(&self) -> Result<(), WireError> {
        if self.at == self.frame.len() { Ok(()) } else { Err(undecodable("extra bytes")) }
    }

    /// The next value, if it is a text of less than 32 bytes.
    fn short_text(&mut self) -> Option<&'a str> {
        let (first @ 0xa0..=0xbf, rest) = self.frame.get(self.at..)?.split_first()? else { return None };
        let len = usize::from(first - marker::FIXSTR);
        let text = std::str::from_utf8(rest.get(..len)?).ok()?;
        self.at += 1 + len;
        Some(text)
    }

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

/// How a message begins: an array of four.
const MESSAGE: u8 = marker::FIXARRAY + MESSAGE_PARTS as u8;
const MESSAGE_PARTS: usize = 4;
/// How many items a container gets room for before they are there.
const RESERVED_MAX: usize = 64;
