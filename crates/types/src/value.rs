//! A plain value as a peer may send it: what the closed grammar of both encodings can say.

use bytes::Bytes;

/// A value without behaviour: message ids, transaction ids of clients, extension data, undo filters.
///
/// Both encodings decode to this; msgpack arrays become tuples, as Python's peers read them.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Python's `None`, msgpack's nil.
    None,
    /// A boolean.
    Bool(bool),
    /// An integer. Pickle integers of more than 16 bytes are refused at the edge.
    Int(i128),
    /// A float.
    Float(f64),
    /// A byte string.
    Bytes(Bytes),
    /// A text.
    Str(String),
    /// A tuple, and any msgpack array.
    Tuple(Vec<Value>),
    /// A list; only pickle tells it from a tuple.
    List(Vec<Value>),
    /// A dictionary in its order on the wire. Keys can be any value in pickle.
    Dict(Vec<(Value, Value)>),
    /// A set or frozenset (pickle only).
    Set(Vec<Value>),
    /// A `ZopeUndo.Prefix.Prefix`: equal to a user name whose first path parts are these.
    UndoPrefix(Vec<String>),
}

impl Value {
    /// The byte string, if it is one.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&Bytes> {
        if let Self::Bytes(bytes) = self { Some(bytes) } else { None }
    }

    /// The items of a tuple or list.
    #[must_use]
    pub fn as_sequence(&self) -> Option<&[Self]> {
        match self {
            Self::Tuple(items) | Self::List(items) => Some(items),
            _ => None,
        }
    }

    /// What Python calls the type, for error messages.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::None => "NoneType",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Bytes(_) => "bytes",
            Self::Str(_) => "str",
            Self::Tuple(_) => "tuple",
            Self::List(_) => "list",
            Self::Dict(_) => "dict",
            Self::Set(_) => "set",
            Self::UndoPrefix(_) => "Prefix",
        }
    }
}
