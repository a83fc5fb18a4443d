//! What the harmless constructors make of their arguments: nodes, never calls.

use super::Machine;
use crate::{
    PickleError,
    global::Global,
    graph::{Node, NodeId},
};
use bytes::Bytes;

impl Machine<'_> {
    /// Replaces a constructor and its arguments by the node that they make.
    pub(super) fn construct(
        &mut self,
        callable: NodeId,
        arguments: NodeId,
        at: usize,
    ) -> Result<(), PickleError> {
        let Node::Global(global) = self.nodes[callable as usize] else {
            return Err(self.malformed("a call of what is no constructor", at));
        };
        let Node::Tuple(arguments) = &self.nodes[arguments as usize] else {
            return Err(self.malformed("a call without a tuple of arguments", at));
        };
        let refused = |what| PickleError::Construct { callable: global.name(), what };
        let node = match (global, arguments.as_slice()) {
            (Global::Set, []) => Node::Set(Vec::new()),
            (Global::List, []) => Node::List(Vec::new()),
            (Global::Tuple, []) => Node::Tuple(Vec::new()),
            (Global::Dict, []) => Node::Dict(Vec::new()),
            (Global::Bytes | Global::Bytearray, []) => Node::OwnedBytes(Bytes::new()),
            (Global::Str, []) => Node::OwnedText(String::new()),
            (Global::UndoPrefix, []) => Node::UndoPrefix(None),
            (Global::Reconstructor, [class, base, state]) => {
                let class = &self.nodes[*class as usize];
                let base = &self.nodes[*base as usize];
                let state = &self.nodes[*state as usize];
                match (class, base, state) {
                    (Node::Global(Global::UndoPrefix), Node::Global(Global::Object), Node::None) => {
                        Node::UndoPrefix(None)
                    }
                    _ => return Err(refused("these arguments")),
                }
            }
            (_, [argument]) => {
                let argument = *argument;
                return self.convert(global, argument);
            }
            (Global::Bytearray, [text, encoding]) => {
                let text = self.latin1(*text, *encoding).ok_or_else(|| refused("these arguments"))?;
                Node::OwnedBytes(text.into())
            }
            _ => return Err(refused("these arguments")),
        };
        self.push(node)
    }

    /// Makes a node of another kind from `argument`, as `set([...])` and `bytes(b'...')` do.
    fn convert(&mut self, global: Global, argument: NodeId) -> Result<(), PickleError> {
        let refused = |what| PickleError::Construct { callable: global.name(), what };
        let node = match (global, &self.nodes[argument as usize]) {
            (
                Global::Set | Global::List | Global::Tuple,
                Node::List(items) | Node::Tuple(items) | Node::Set(items),
            ) => {
                self.copies = self.copies.saturating_add(items.len());
                let items = items.clone();
                match global {
                    Global::Set => Node::Set(items),
                    Global::List => Node::List(items),
                    _ => Node::Tuple(items),
                }
            }
            (Global::Dict, Node::Dict(pairs)) => {
                self.copies = self.copies.saturating_add(pairs.len());
                Node::Dict(pairs.clone())
            }
            // So a subclass of dict can spell itself, in the extension of a transaction.
            (Global::Dict, Node::List(items) | Node::Tuple(items)) => {
                self.copies = self.copies.saturating_add(items.len());
                let pairs = items.iter().map(|item| match &self.nodes[*item as usize] {
                    Node::Tuple(pair) | Node::List(pair) => match pair.as_slice() {
                        [key, value] => Some((*key, *value)),
                        _ => None,
                    },
                    _ => None,
                });
                Node::Dict(pairs.collect::<Option<_>>().ok_or_else(|| refused("these pairs"))?)
            }
            (Global::Bytes | Global::Bytearray, Node::Bytes(range)) => Node::Bytes(range.clone()),
            (Global::Bytes | Global::Bytearray, Node::OwnedBytes(bytes)) => Node::OwnedBytes(bytes.clone()),
            (Global::Str, Node::Text(range)) => Node::Text(range.clone()),
            (Global::Int, Node::Int(value)) => Node::Int(*value),
            (Global::Float, Node::Float(value)) => Node::Float(*value),
            (Global::Bool, Node::Bool(value)) => Node::Bool(*value),
            (Global::Bool, Node::Int(value)) => Node::Bool(*value != 0),
            _ => return Err(refused("this argument")),
        };
        if self.copies > self.limits.values_max {
            return Err(PickleError::TooMany("values"));
        }
        self.push(node)
    }

    /// The bytes of `bytearray(text, 'latin-1')`, which is how protocol 2 spells a bytearray.
    fn latin1(&self, text: NodeId, encoding: NodeId) -> Option<Vec<u8>> {
        if self.text(encoding)? != "latin-1" {
            return None;
        }
        self.text(text)?.chars().map(|char| u8::try_from(char).ok()).collect()
    }

    fn text(&self, id: NodeId) -> Option<&str> {
        match &self.nodes[id as usize] {
            Node::Text(range) => std::str::from_utf8(self.input.slice(range.clone())).ok(),
            Node::OwnedText(text) => Some(text),
            _ => None,
        }
    }

    /// Gives a `Prefix` its state.
    pub(super) fn build(&mut self, at: usize) -> Result<(), PickleError> {
        let state = self.operands.pop(at)?;
        let top = self.operands.top(at)?;
        let Node::UndoPrefix(kept) = &mut self.nodes[top as usize] else {
            return Err(self.malformed("a state for what can't have one", at));
        };
        *kept = Some(state);
        Ok(())
    }
}
