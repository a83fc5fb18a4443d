//! The keys or the values of a bucket as C holds them: objects, numbers of some width, short byte strings.

use crate::Failure;
use bytes::Bytes;
use zeolith_pickle::state::{Graph, Node, NodeId};

/// What the keys and values of a collection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Columns {
    pub(crate) keys: Kind,
    /// `None` in a set.
    pub(crate) values: Option<Kind>,
}

/// What one column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Object,
    I32,
    U32,
    I64,
    U64,
    F32,
    /// Byte strings of this length.
    Bytes(usize),
}

/// One key or value.
#[derive(Clone, Debug)]
pub(crate) enum Cell {
    Object(NodeId),
    Int(i128),
    Float(f32),
    Bytes(Bytes),
}

impl Kind {
    /// The cell for a value of a state, which must be of the right type and size.
    pub(crate) fn cell(self, graph: &Graph, id: NodeId) -> Result<Cell, Failure> {
        let range = match self {
            Self::Object => return Ok(Cell::Object(id)),
            Self::F32 => return float(graph.node(id)),
            Self::Bytes(len) => {
                return match graph.node(id) {
                    Node::Bytes(bytes) if bytes.len() == len => Ok(Cell::Bytes(bytes.clone())),
                    Node::Object(_) => Err(Failure::Unknown),
                    _ => Err(Failure::Python("a byte string of another length was expected")),
                };
            }
            Self::I32 => i128::from(i32::MIN)..=i128::from(i32::MAX),
            Self::U32 => 0..=i128::from(u32::MAX),
            Self::I64 => i128::from(i64::MIN)..=i128::from(i64::MAX),
            Self::U64 => 0..=i128::from(u64::MAX),
        };
        let value = match graph.node(id) {
            Node::Int(value) => *value,
            Node::Bool(value) => i128::from(*value),
            Node::Object(_) => return Err(Failure::Unknown),
            _ => return Err(Failure::Python("an integer was expected")),
        };
        if !range.contains(&value) {
            return Err(Failure::Python("integer out of range"));
        }
        Ok(Cell::Int(value))
    }
}

impl Cell {
    /// The node that the cell becomes in a new state.
    pub(crate) fn node(&self, graph: &mut Graph) -> NodeId {
        match self {
            Self::Object(id) => *id,
            Self::Int(value) => graph.add(Node::Int(*value)),
            Self::Float(value) => graph.add(Node::Float((*value).into())),
            Self::Bytes(bytes) => graph.add(Node::Bytes(bytes.clone())),
        }
    }
}

/// C narrows floats, and takes integers that fit 64 bits.
fn float(node: &Node) -> Result<Cell, Failure> {
    match node {
        Node::Float(value) => Ok(Cell::Float(*value as f32)),
        Node::Bool(value) => Ok(Cell::Float(f32::from(u8::from(*value)))),
        Node::Int(value) => match i64::try_from(*value) {
            Ok(value) => Ok(Cell::Float(value as f32)),
            Err(_) => Err(Failure::Python("an integer that is no C long")),
        },
        Node::Object(_) => Err(Failure::Unknown),
        _ => Err(Failure::Python("expected float or int value")),
    }
}
