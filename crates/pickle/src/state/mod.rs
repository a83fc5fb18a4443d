//! Object states as graphs: what conflict resolution reads, compares and writes again.
//!
//! The other readers of this crate either refuse what is no plain value or throw values away. Here every value
//! of a record is kept, and what is written afterwards loads as what was read: which objects are shared,
//! instances of classes that nobody here knows, references to other objects. Nothing is ever called.
//!
//! All records of one conflict are read into one graph, since references are alike across them.

mod read;
mod reference;
mod write;

pub use reference::Reference;

use bytes::Bytes;
use std::collections::HashMap;

/// The number of a node in its [`Graph`]; the same number is the same Python object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u32);

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// `None`
    None,
    /// A boolean.
    Bool(bool),
    /// An integer of at most 16 bytes.
    Int(i128),
    /// A float.
    Float(f64),
    /// A byte string.
    Bytes(Bytes),
    /// A text, as UTF-8, which sorts as Python sorts texts.
    Str(Bytes),
    /// A tuple.
    Tuple(Vec<NodeId>),
    /// A list.
    List(Vec<NodeId>),
    /// A dict, in its order.
    Dict(Vec<(NodeId, NodeId)>),
    /// A reference to another object of this or another database.
    Reference(Reference),
    /// A class or function: module and name.
    Global(Bytes, Bytes),
    /// What a class or function makes, which is all that is known of it.
    Object(Object),
}

/// A value that only Python could make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    making: Making,
    callable: NodeId,
    arguments: NodeId,
    /// What it is given after it has been made.
    state: Option<NodeId>,
}

/// How an object is made of its callable and arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Making {
    /// By a call: the opcode `REDUCE`.
    Call,
    /// By the `__new__` of a class: the opcode `NEWOBJ`.
    New,
}

/// The two pickles of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The description of the class.
    pub class: NodeId,
    /// The state.
    pub state: NodeId,
}

/// The values of a few records.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    /// References by what they are made of: of equal ones there is only one.
    references: HashMap<Vec<u8>, NodeId>,
    /// Classes and functions by their names.
    globals: HashMap<(Bytes, Bytes), NodeId>,
    /// Texts and byte strings so short that Python has only one of each.
    short: HashMap<(bool, Bytes), NodeId>,
}

impl Graph {
    /// A graph without nodes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The node of this number.
    ///
    /// # Panics
    /// The number is of another graph.
    #[must_use]
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// Adds a node of one's own.
    ///
    /// # Panics
    /// There are four billion already; what is read is bounded far below that.
    pub fn add(&mut self, node: Node) -> NodeId {
        let id = u32::try_from(self.nodes.len()).expect("a graph has fewer than four billion nodes");
        self.nodes.push(node);
        NodeId(id)
    }
}
