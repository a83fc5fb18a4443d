//! References from one object to another: their forms, and when two are one.

use super::{Graph, Node, NodeId};
use crate::PickleError;
use bytes::Bytes;

/// A reference to an object that is not loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// What it is written as.
    pub(super) data: NodeId,
    oid: Bytes,
    /// `None`: the database of the record.
    database: Option<Bytes>,
    weak: bool,
}

impl Reference {
    /// Whether both lead to the same object for certain. Weak ones never do, unless they are one node.
    #[must_use]
    pub fn is_same_object(&self, other: &Self) -> bool {
        self.oid == other.oid && self.database == other.database && !self.weak && !other.weak
    }
}

impl Graph {
    /// The node of the reference that is written as `data`: the one that is there, or a new one.
    pub(super) fn reference(&mut self, data: NodeId, at: usize) -> Result<NodeId, PickleError> {
        let mut key = Vec::with_capacity(64);
        self.spell(data, 0, &mut key).ok_or_else(|| unknown(at))?;
        if let Some(id) = self.references.get(&key) {
            return Ok(*id);
        }
        let reference = self.understand(data).ok_or_else(|| unknown(at))?;
        let id = self.add(Node::Reference(reference));
        self.references.insert(key, id);
        Ok(id)
    }

    /// The forms of `ZODB.serialize`: the oid, `(oid, class)`, and lists that begin with a letter.
    fn understand(&self, data: NodeId) -> Option<Reference> {
        let reference = |oid, database, weak| {
            let database = match database {
                None => None,
                Some(name) => Some(self.text(name)?),
            };
            Some(Reference { data, oid: self.oid(oid)?, database, weak })
        };
        match self.node(data) {
            Node::Bytes(_) | Node::Str(_) => reference(data, None, false),
            Node::Tuple(parts) => match parts[..] {
                [oid, _] => reference(oid, None, false),
                _ => None,
            },
            Node::List(parts) => match parts[..] {
                [oid] => reference(oid, None, true),
                [letter, arguments] => {
                    let (Node::Str(letter), Node::Tuple(arguments)) =
                        (self.node(letter), self.node(arguments))
                    else {
                        return None;
                    };
                    match (&letter[..], &arguments[..]) {
                        (b"m", [database, oid, _]) | (b"n", [database, oid]) => {
                            reference(*oid, Some(*database), false)
                        }
                        (b"w", [oid]) => reference(*oid, None, true),
                        (b"w", [oid, database]) => reference(*oid, Some(*database), true),
                        _ => None,
                    }
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// An oid is bytes, or a text that a Python 2 wrote.
    fn oid(&self, id: NodeId) -> Option<Bytes> {
        match self.node(id) {
            Node::Bytes(oid) => Some(oid.clone()),
            Node::Str(oid) if oid.is_ascii() => Some(oid.clone()),
            _ => None,
        }
    }

    fn text(&self, id: NodeId) -> Option<Bytes> {
        if let Node::Str(text) = self.node(id) { Some(text.clone()) } else { None }
    }

    /// Writes down what makes a reference, so that equal ones are spelled alike.
    fn spell(&self, id: NodeId, depth: usize, key: &mut Vec<u8>) -> Option<()> {
        let mut part = |kind: u8, bytes: &[u8]| {
            key.push(kind);
            key.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
            key.extend_from_slice(bytes);
        };
        match self.node(id) {
            Node::None => part(b'N', b""),
            Node::Bytes(bytes) => part(b'B', bytes),
            Node::Str(text) => part(b'U', text),
            Node::Global(module, name) => {
                part(b'c', module);
                part(b'c', name);
            }
            Node::Tuple(parts) | Node::List(parts) if parts.len() <= PARTS_MAX && depth < DEPTH_MAX => {
                part(b't', &[parts.len() as u8]);
                parts.iter().try_for_each(|part| self.spell(*part, depth + 1, key))?;
            }
            _ => return None,
        }
        Some(())
    }
}

const fn unknown(at: usize) -> PickleError {
    PickleError::Malformed { what: "a reference of no known form", at }
}

/// No form has more parts than this,
const PARTS_MAX: usize = 3;
/// or is nested deeper: a list with a tuple with a class with its arguments.
const DEPTH_MAX: usize = 5;
