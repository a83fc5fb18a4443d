//! Reads the arguments of a call one by one, with the leniencies that Python peers rely on.

use crate::msgpack::PackedArguments;
use bytes::Bytes;
use zeolith_pickle::encode_extension;
use zeolith_types::{Oid, Refusal, TOKEN_LEN, Tid, Value};

/// The arguments of one call that have not been read yet. Their count was checked before.
pub(crate) enum Arguments<'a> {
    /// They have been decoded.
    Values(std::vec::IntoIter<Value>),
    /// They still stand in the frame.
    Packed(PackedArguments<'a>),
}

/// What one argument turned out to be.
type Read<T> = Result<T, Refusal>;

impl Arguments<'_> {
    fn next(&mut self) -> Option<Value> {
        match self {
            Self::Values(values) => values.next(),
            Self::Packed(arguments) => arguments.next(),
        }
    }

    /// An argument of any type; one that was left out is `None`.
    pub(crate) fn value(&mut self) -> Value {
        self.next().unwrap_or(Value::None)
    }

    /// The next one, if it is what nearly all oids and tids are and stands there as such.
    fn packed_id(&mut self) -> Option<[u8; 8]> {
        if let Self::Packed(arguments) = self { arguments.eight_bytes() } else { None }
    }

    fn id(&mut self, name: &'static str) -> Read<[u8; 8]> {
        self.packed_id().map_or_else(|| eight_bytes(&self.value(), name), Ok)
    }

    pub(crate) fn oid(&mut self) -> Read<Oid> {
        self.id("oid").map(Oid::from_bytes)
    }

    /// An oid that is looked up before anything else is asked of it: `None` is one that nobody has.
    pub(crate) fn oid_to_look_up(&mut self) -> Read<Oid> {
        match self.value() {
            Value::None => Err(Refusal::NoObject(Oid::ZERO)),
            other => eight_bytes(&other, "oid").map(Oid::from_bytes),
        }
    }

    pub(crate) fn tid(&mut self, name: &'static str) -> Read<Tid> {
        self.id(name).map(Tid::from_bytes)
    }

    /// The serial of a revision that was read. `None` means that there is none, and eight ASCII characters
    /// are taken for their bytes: Python's storages do not look at the serial of a new object.
    pub(crate) fn serial(&mut self) -> Read<Tid> {
        if let Some(serial) = self.packed_id() {
            return Ok(serial.into());
        }
        match self.value() {
            Value::None => Ok(Tid::ZERO),
            Value::Str(text) if text.is_ascii() => {
                eight_bytes(&Value::Bytes(text.into()), "serial").map(Tid::from_bytes)
            }
            value => eight_bytes(&value, "serial").map(Tid::from_bytes),
        }
    }

    pub(crate) fn optional_oid(&mut self, name: &'static str) -> Read<Option<Oid>> {
        let value = self.value();
        if value == Value::None { Ok(None) } else { eight_bytes(&value, name).map(|id| Some(id.into())) }
    }

    pub(crate) fn optional_tid(&mut self, name: &'static str) -> Read<Option<Tid>> {
        let value = self.value();
        if value == Value::None { Ok(None) } else { eight_bytes(&value, name).map(|id| Some(id.into())) }
    }

    pub(crate) fn bytes(&mut self, name: &'static str) -> Read<Bytes> {
        match self.value() {
            Value::Bytes(bytes) => Ok(bytes),
            other => Err(wrong_type(name, "bytes", &other)),
        }
    }

    pub(crate) fn optional_bytes(&mut self, name: &'static str) -> Read<Option<Bytes>> {
        match self.value() {
            Value::None => Ok(None),
            Value::Bytes(bytes) => Ok(Some(bytes)),
            other => Err(wrong_type(name, "bytes or None", &other)),
        }
    }

    /// Bytes, or text that becomes its UTF-8.
    pub(crate) fn bytes_or_text(&mut self, name: &'static str) -> Read<Bytes> {
        match self.value() {
            Value::Bytes(bytes) => Ok(bytes),
            Value::Str(text) => Ok(Bytes::from(text)),
            other => Err(wrong_type(name, "bytes or str", &other)),
        }
    }

    pub(crate) fn text(&mut self, name: &'static str) -> Read<String> {
        text(self.value(), name)
    }

    pub(crate) fn int(&mut self, name: &'static str) -> Read<i128> {
        int(&self.value(), name)
    }

    /// An integer, or `default` if it was left out.
    pub(crate) fn int_or(&mut self, name: &'static str, default: i128) -> Read<i128> {
        self.next().map_or(Ok(default), |value| int(&value, name))
    }

    /// An index; numbers beyond 64 bits mean the same as the largest of them.
    pub(crate) fn index(&mut self, name: &'static str) -> Read<i64> {
        let clamped = self.int(name)?.clamp(i64::MIN.into(), i64::MAX.into());
        Ok(i64::try_from(clamped).expect("a clamped integer fits"))
    }

    pub(crate) fn seconds(&mut self, name: &'static str) -> Read<f64> {
        let seconds = match self.value() {
            Value::Float(seconds) => seconds,
            Value::Int(seconds) => seconds as f64,
            other => return Err(wrong_type(name, "a number", &other)),
        };
        if seconds.is_finite() {
            return Ok(seconds);
        }
        Err(Refusal::Value(format!("{name} must be finite, not {seconds}")))
    }

    /// Anything, as Python's `bool` sees it; `default` if it was left out.
    pub(crate) fn truth_or(&mut self, default: bool) -> bool {
        self.next().map_or(default, |value| is_true(&value))
    }

    /// The extension of a transaction: a dict, a dict pickled already, or nothing.
    pub(crate) fn extension(&mut self) -> Read<Bytes> {
        match self.value() {
            Value::None => Ok(Bytes::new()),
            Value::Bytes(pickled) => Ok(pickled),
            Value::Dict(entries) => encode_extension(entries)
                .ok_or_else(|| Refusal::Value("the extension holds a string of 4 GiB or more".into())),
            other => Err(wrong_type("ext", "dict, bytes or None", &other)),
        }
    }

    /// The token of a transaction.
    pub(crate) fn token(&mut self) -> Read<Bytes> {
        let token = self.bytes("token")?;
        if TOKEN_LEN.contains(&token.len()) {
            return Ok(token);
        }
        let (min, max) = (TOKEN_LEN.start(), TOKEN_LEN.end());
        Err(Refusal::Value(format!("a token has {min} to {max} bytes, not {}", token.len())))
    }

    /// The status of a transaction: one ASCII character; a blank if it was left out.
    pub(crate) fn status(&mut self) -> Read<u8> {
        let status = match self.next() {
            None => return Ok(b' '),
            Some(Value::Str(status)) => status.into(),
            Some(Value::Bytes(status)) => status,
            Some(other) => return Err(wrong_type("status", "str", &other)),
        };
        match *status {
            [status] if status.is_ascii() => Ok(status),
            _ => Err(Refusal::Value("status must be one ASCII character".into())),
        }
    }

    /// The filter of `undoInfo`: a dict by name, or nothing.
    pub(crate) fn undo_filter(&mut self) -> Read<Vec<(String, Value)>> {
        match self.value() {
            Value::None => Ok(Vec::new()),
            Value::Dict(entries) => {
                entries.into_iter().map(|(name, value)| Ok((text(name, "a name in spec")?, value))).collect()
            }
            other => Err(wrong_type("spec", "dict or None", &other)),
        }
    }

    /// A list of integers.
    pub(crate) fn ints(&mut self, name: &'static str) -> Read<Vec<i128>> {
        let value = self.value();
        match &value {
            Value::Tuple(items) | Value::List(items) | Value::Set(items) => {
                items.iter().map(|item| int(item, name)).collect()
            }
            other => Err(wrong_type(name, "a list", other)),
        }
    }
}

/// Whether Python's `bool` says so.
pub(crate) fn is_true(value: &Value) -> bool {
    match value {
        Value::None => false,
        Value::Bool(value) => *value,
        Value::Int(value) => *value != 0,
        Value::Float(value) => *value != 0.0,
        Value::Bytes(bytes) => !bytes.is_empty(),
        Value::Str(text) => !text.is_empty(),
        Value::Tuple(items) | Value::List(items) | Value::Set(items) => !items.is_empty(),
        Value::Dict(entries) => !entries.is_empty(),
        Value::UndoPrefix(_) => true,
    }
}

fn eight_bytes(value: &Value, name: &str) -> Read<[u8; 8]> {
    let Value::Bytes(bytes) = value else {
        return Err(wrong_type(name, "bytes", value));
    };
    <[u8; 8]>::try_from(bytes.as_ref())
        .map_err(|_| Refusal::Value(format!("{name} must be 8 bytes, not {}", bytes.len())))
}

fn text(value: Value, name: &str) -> Read<String> {
    match value {
        Value::Str(text) => Ok(text),
        Value::Bytes(bytes) => String::from_utf8(bytes.into())
            .map_err(|_| Refusal::Value(format!("{name} must be str, not bytes that are no UTF-8"))),
        other => Err(wrong_type(name, "str", &other)),
    }
}

fn int(value: &Value, name: &str) -> Read<i128> {
    match value {
        Value::Int(value) => Ok(*value),
        Value::Bool(value) => Ok(i128::from(*value)),
        other => Err(wrong_type(name, "int", other)),
    }
}

#[cold]
fn wrong_type(name: &str, wanted: &str, given: &Value) -> Refusal {
    Refusal::Type(format!("{name} must be {wanted}, not {}", given.type_name()))
}
