//! Writes a record from a graph, as Python's pickler writes it at protocol 3.
//!
//! Both pickles share one memo, and every node that the memo can hold is written once. So the record has the
//! bytes that ZODB's conflict resolution would have stored, and is never much longer than what was read.

use super::{Graph, Making, Node, NodeId, Record};
use crate::{
    encode::{BATCH_LEN, push_int},
    opcode as op,
};
use std::collections::HashMap;

impl Graph {
    /// The bytes of the record; `None` if it holds a text or byte string of 4 GiB or more.
    #[must_use]
    pub fn write(&self, record: Record) -> Option<Vec<u8>> {
        let mut pickler = Pickler { graph: self, out: Vec::new(), memo: HashMap::new(), steps: Vec::new() };
        pickler.dump(record.class)?;
        pickler.dump(record.state)?;
        Some(pickler.out)
    }
}

struct Pickler<'a> {
    graph: &'a Graph,
    out: Vec<u8>,
    memo: HashMap<NodeId, u32>,
    /// What remains to be written, last first.
    steps: Vec<Step>,
}

#[derive(Clone, Copy)]
enum Step {
    Visit(NodeId),
    Opcode(u8),
    /// Number the node that has just been written.
    Memoize(NodeId),
    /// Make a tuple of what has just been written.
    EndTuple(NodeId, usize),
    /// Write the items of a list or dict from this one on.
    Items(NodeId, usize),
}

impl Pickler<'_> {
    fn dump(&mut self, root: NodeId) -> Option<()> {
        self.out.extend_from_slice(&[op::PROTO, 3]);
        self.steps.push(Step::Visit(root));
        while let Some(step) = self.steps.pop() {
            match step {
                Step::Visit(id) => self.visit(id)?,
                Step::Opcode(opcode) => self.out.push(opcode),
                Step::Memoize(id) => self.memoize(id),
                Step::EndTuple(id, len) => self.end_tuple(id, len),
                Step::Items(id, from) => self.items(id, from),
            }
        }
        self.out.push(op::STOP);
        Some(())
    }

    fn visit(&mut self, id: NodeId) -> Option<()> {
        if let Some(number) = self.memo.get(&id) {
            self.get(*number);
            return Some(());
        }
        let graph = self.graph;
        match graph.node(id) {
            Node::None => self.out.push(op::NONE),
            Node::Bool(value) => self.out.push(if *value { op::NEWTRUE } else { op::NEWFALSE }),
            Node::Int(value) => push_int(&mut self.out, *value),
            Node::Float(value) => {
                self.out.push(op::BINFLOAT);
                self.out.extend_from_slice(&value.to_be_bytes());
            }
            Node::Bytes(bytes) => {
                match u8::try_from(bytes.len()) {
                    Ok(len) => self.out.extend_from_slice(&[op::SHORT_BINBYTES, len]),
                    Err(_) => self.long(op::BINBYTES, bytes.len())?,
                }
                self.out.extend_from_slice(bytes);
                self.memoize(id);
            }
            Node::Str(text) => {
                self.long(op::BINUNICODE, text.len())?;
                self.out.extend_from_slice(text);
                self.memoize(id);
            }
            Node::Tuple(items) if items.is_empty() => self.out.push(op::EMPTY_TUPLE),
            Node::Tuple(items) => {
                if items.len() > SHORT_TUPLE_MAX {
                    self.out.push(op::MARK);
                }
                self.steps.push(Step::EndTuple(id, items.len()));
                self.steps.extend(items.iter().rev().map(|item| Step::Visit(*item)));
            }
            Node::List(_) => {
                self.out.push(op::EMPTY_LIST);
                self.memoize(id);
                self.items(id, 0);
            }
            Node::Dict(_) => {
                self.out.push(op::EMPTY_DICT);
                self.memoize(id);
                self.items(id, 0);
            }
            Node::Reference(reference) => {
                self.steps.extend([Step::Opcode(op::BINPERSID), Step::Visit(reference.data)]);
            }
            Node::Global(module, name) => {
                self.out.push(op::GLOBAL);
                for part in [module, name] {
                    self.out.extend_from_slice(part);
                    self.out.push(b'\n');
                }
                self.memoize(id);
            }
            Node::Object(object) => {
                if let Some(state) = object.state {
                    self.steps.extend([Step::Opcode(op::BUILD), Step::Visit(state)]);
                }
                let make = match object.making {
                    Making::Call => op::REDUCE,
                    Making::New => op::NEWOBJ,
                };
                self.steps.extend([Step::Memoize(id), Step::Opcode(make)]);
                self.steps.extend([Step::Visit(object.arguments), Step::Visit(object.callable)]);
            }
        }
        Some(())
    }

    /// A tuple that contains itself, by way of a list or an object, has been written meanwhile.
    fn end_tuple(&mut self, id: NodeId, len: usize) {
        if let Some(number) = self.memo.get(&id).copied() {
            match len {
                0..=SHORT_TUPLE_MAX => self.out.extend(std::iter::repeat_n(op::POP, len)),
                _ => self.out.push(op::POP_MARK),
            }
            return self.get(number);
        }
        self.out.push(match len {
            1 => op::TUPLE1,
            2 => op::TUPLE2,
            3 => op::TUPLE3,
            _ => op::TUPLE,
        });
        self.memoize(id);
    }

    /// A batch of items; a single one needs no mark.
    fn items(&mut self, id: NodeId, from: usize) {
        let graph = self.graph;
        let (len, one, many) = match graph.node(id) {
            Node::List(items) => (items.len(), op::APPEND, op::APPENDS),
            Node::Dict(pairs) => (pairs.len(), op::SETITEM, op::SETITEMS),
            _ => return,
        };
        if from >= len {
            return;
        }
        let end = len.min(from + BATCH_LEN);
        if len == 1 {
            self.steps.push(Step::Opcode(one));
        } else {
            self.out.push(op::MARK);
            self.steps.extend([Step::Items(id, end), Step::Opcode(many)]);
        }
        match graph.node(id) {
            Node::List(items) => {
                self.steps.extend(items[from..end].iter().rev().map(|item| Step::Visit(*item)));
            }
            Node::Dict(pairs) => {
                let pairs = pairs[from..end].iter().rev();
                self.steps.extend(pairs.flat_map(|(key, value)| [Step::Visit(*value), Step::Visit(*key)]));
            }
            _ => {}
        }
    }

    fn long(&mut self, opcode: u8, len: usize) -> Option<()> {
        let len = u32::try_from(len).ok()?;
        self.out.push(opcode);
        self.out.extend_from_slice(&len.to_le_bytes());
        Some(())
    }

    fn memoize(&mut self, id: NodeId) {
        let number = self.memo.len() as u32;
        self.numbered(op::BINPUT, op::LONG_BINPUT, number);
        self.memo.insert(id, number);
    }

    fn get(&mut self, number: u32) {
        self.numbered(op::BINGET, op::LONG_BINGET, number);
    }

    fn numbered(&mut self, short: u8, long: u8, number: u32) {
        match u8::try_from(number) {
            Ok(number) => self.out.extend_from_slice(&[short, number]),
            Err(_) => {
                self.out.push(long);
                self.out.extend_from_slice(&number.to_le_bytes());
            }
        }
    }
}

const SHORT_TUPLE_MAX: usize = 3;
