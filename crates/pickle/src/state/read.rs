//! Reads the two pickles of a record into a graph: a stack machine that can't call anything.
//!
//! Understands protocols 0 to 3, which is what ZODB writes. What it does not know it refuses, and whoever asked
//! does without the values.

use super::{Graph, Making, Node, NodeId, Object, Record};
use crate::{PickleError, input::Input, opcode as op, operands::Operands, text};
use bytes::Bytes;
use std::ops::Range;

impl Graph {
    /// Reads a record; its texts and byte strings become slices of it.
    ///
    /// # Errors
    /// The record is no pair of pickles, holds something outside the grammar, or is too large.
    pub fn read(&mut self, record: &Bytes) -> Result<Record, PickleError> {
        let input = Input::new(record);
        let mut machine = Machine { graph: self, record, input, operands: Operands::new(NODES_MAX) };
        let class = machine.run()?;
        let state = machine.run()?;
        Ok(Record { class, state })
    }
}

struct Machine<'a> {
    graph: &'a mut Graph,
    record: &'a Bytes,
    input: Input<'a>,
    operands: Operands<NodeId>,
}

impl Machine<'_> {
    /// Runs one pickle to its `STOP` and gives the node on top.
    fn run(&mut self) -> Result<NodeId, PickleError> {
        self.operands.next_pickle();
        loop {
            let at = self.input.at();
            match self.input.byte()? {
                op::STOP => return self.operands.pop(at),
                op::PROTO => match self.input.byte()? {
                    0..=PROTOCOL_MAX => {}
                    protocol => return Err(PickleError::Protocol(protocol)),
                },
                op::MARK => self.operands.mark()?,
                op::NONE => self.push(Node::None)?,
                op::NEWTRUE => self.push(Node::Bool(true))?,
                op::NEWFALSE => self.push(Node::Bool(false))?,
                op::BININT1 => {
                    let value = self.input.byte()?;
                    self.push(Node::Int(value.into()))?;
                }
                op::BININT2 => {
                    let value = u16::from_le_bytes(self.input.array()?);
                    self.push(Node::Int(value.into()))?;
                }
                op::BININT => {
                    let value = i32::from_le_bytes(self.input.array()?);
                    self.push(Node::Int(value.into()))?;
                }
                op::BINFLOAT => {
                    let value = f64::from_be_bytes(self.input.array()?);
                    self.push(Node::Float(value))?;
                }
                opcode @ (op::LONG1 | op::SHORT_BINBYTES | op::SHORT_BINSTRING) => {
                    let len = usize::from(self.input.byte()?);
                    self.span(opcode, len, at)?;
                }
                opcode @ (op::LONG4 | op::BINBYTES | op::BINSTRING | op::BINUNICODE) => {
                    let len = self.input.len4()?;
                    self.span(opcode, len, at)?;
                }
                opcode @ (op::INT | op::LONG | op::FLOAT | op::STRING | op::UNICODE) => {
                    self.text_form(opcode, at)?;
                }
                op::EMPTY_TUPLE => self.push(Node::Tuple(Vec::new()))?,
                opcode @ (op::TUPLE1 | op::TUPLE2 | op::TUPLE3) => {
                    let len = usize::from(opcode - op::TUPLE1) + 1;
                    let start = self.operands.last(len, at)?;
                    let items = self.operands.take(start);
                    self.push(Node::Tuple(items))?;
                }
                op::TUPLE => {
                    let items = self.operands.take_marked(at)?;
                    self.push(Node::Tuple(items))?;
                }
                op::EMPTY_LIST => self.push(Node::List(Vec::new()))?,
                op::LIST => {
                    let items = self.operands.take_marked(at)?;
                    self.push(Node::List(items))?;
                }
                op::APPEND => {
                    let item = self.operands.pop(at)?;
                    self.append(&[item], at)?;
                }
                op::APPENDS => {
                    let items = self.operands.take_marked(at)?;
                    self.append(&items, at)?;
                }
                op::EMPTY_DICT => self.push(Node::Dict(Vec::new()))?,
                op::DICT => {
                    let items = self.operands.take_marked(at)?;
                    self.push(Node::Dict(Vec::new()))?;
                    self.set_items(&items, at)?;
                }
                op::SETITEM => {
                    let (value, key) = (self.operands.pop(at)?, self.operands.pop(at)?);
                    self.set_items(&[key, value], at)?;
                }
                op::SETITEMS => {
                    let items = self.operands.take_marked(at)?;
                    self.set_items(&items, at)?;
                }
                op::GLOBAL => {
                    let (module, name) = (self.input.line()?, self.input.line()?);
                    self.push_global(self.record.slice(module), self.record.slice(name))?;
                }
                op::REDUCE => self.object(Making::Call, at)?,
                op::NEWOBJ => self.object(Making::New, at)?,
                op::BUILD => self.build(at)?,
                op::BINPERSID => {
                    let data = self.operands.pop(at)?;
                    self.room()?;
                    let reference = self.graph.reference(data, at)?;
                    self.operands.push(reference)?;
                }
                op::POP => self.operands.pop_or_unmark(at)?,
                op::POP_MARK => {
                    self.operands.take_marked(at)?;
                }
                op::DUP => {
                    let top = self.operands.top(at)?;
                    self.operands.push(top)?;
                }
                opcode @ (op::PUT | op::BINPUT | op::LONG_BINPUT) => {
                    let index = self.input.memo_index(opcode, at)?;
                    self.operands.put(index, at)?;
                }
                opcode @ (op::GET | op::BINGET | op::LONG_BINGET) => {
                    let index = self.input.memo_index(opcode, at)?;
                    self.operands.get(index, at)?;
                }
                opcode => return Err(PickleError::Opcode { opcode, at }),
            }
        }
    }

    /// Whether another node may be made.
    fn room(&self) -> Result<(), PickleError> {
        if self.graph.nodes.len() < NODES_MAX { Ok(()) } else { Err(PickleError::TooMany("values")) }
    }

    fn push(&mut self, node: Node) -> Result<(), PickleError> {
        self.room()?;
        let id = self.graph.add(node);
        self.operands.push(id)
    }

    /// A text or byte string; the shortest ones are one object wherever they are met.
    fn push_string(&mut self, is_text: bool, bytes: Bytes) -> Result<(), PickleError> {
        let is_short = match is_text {
            true => std::str::from_utf8(&bytes).is_ok_and(|text| {
                let mut chars = text.chars();
                chars.next().is_none_or(|first| u32::from(first) < 256) && chars.next().is_none()
            }),
            false => bytes.len() <= 1,
        };
        let node = |bytes| if is_text { Node::Str(bytes) } else { Node::Bytes(bytes) };
        if !is_short {
            return self.push(node(bytes));
        }
        let key = (is_text, bytes);
        if let Some(id) = self.graph.short.get(&key).copied() {
            return self.operands.push(id);
        }
        self.room()?;
        let id = self.graph.add(node(key.1.clone()));
        self.graph.short.insert(key, id);
        self.operands.push(id)
    }

    /// A class or function, which is one object wherever it is named.
    fn push_global(&mut self, module: Bytes, name: Bytes) -> Result<(), PickleError> {
        let key = (module, name);
        if let Some(id) = self.graph.globals.get(&key).copied() {
            return self.operands.push(id);
        }
        self.room()?;
        let id = self.graph.add(Node::Global(key.0.clone(), key.1.clone()));
        self.graph.globals.insert(key, id);
        self.operands.push(id)
    }

    /// The opcodes whose operand is a number of bytes.
    fn span(&mut self, opcode: u8, len: usize, at: usize) -> Result<(), PickleError> {
        let span: Range<usize> = self.input.span(len)?;
        let bytes = self.input.slice(span.clone());
        let is_text = match opcode {
            op::LONG1 | op::LONG4 => {
                let what = "an integer of more than 16 bytes";
                let value = text::long_from_bytes(bytes).ok_or(PickleError::Malformed { what, at })?;
                return self.push(Node::Int(value));
            }
            op::BINUNICODE if std::str::from_utf8(bytes).is_err() => {
                return Err(PickleError::Malformed { what: "text that is not UTF-8", at });
            }
            op::SHORT_BINSTRING | op::BINSTRING if !bytes.is_ascii() => {
                return Err(PickleError::Malformed { what: "a Python 2 string that is not ASCII", at });
            }
            opcode => !matches!(opcode, op::SHORT_BINBYTES | op::BINBYTES),
        };
        self.push_string(is_text, self.record.slice(span))
    }

    /// The opcodes of protocol 0 whose operand is a line of text.
    fn text_form(&mut self, opcode: u8, at: usize) -> Result<(), PickleError> {
        let line = self.input.line()?;
        let line = self.input.slice(line);
        let wrong = || PickleError::Malformed { what: "a line that can't be read", at };
        let string = match opcode {
            op::INT => {
                let value = text::int_or_bool(line).ok_or_else(wrong)?;
                return self.push(value.map_or_else(Node::Bool, Node::Int));
            }
            op::LONG => {
                let value = text::long(line).ok_or_else(wrong)?;
                return self.push(Node::Int(value));
            }
            op::FLOAT => {
                let value = text::float(line).ok_or_else(wrong)?;
                return self.push(Node::Float(value));
            }
            op::UNICODE => text::raw_unicode(line).map(String::into_bytes),
            _ => text::quoted(line).filter(|string| string.is_ascii()),
        };
        self.push_string(true, string.ok_or_else(wrong)?.into())
    }

    fn object(&mut self, making: Making, at: usize) -> Result<(), PickleError> {
        let (arguments, callable) = (self.operands.pop(at)?, self.operands.pop(at)?);
        let made_of = (self.graph.node(callable), self.graph.node(arguments));
        let (Node::Global(..), Node::Tuple(_)) = made_of else {
            return Err(PickleError::Malformed { what: "an object that is made of something strange", at });
        };
        self.push(Node::Object(Object { making, callable, arguments, state: None }))
    }

    fn build(&mut self, at: usize) -> Result<(), PickleError> {
        let given = self.operands.pop(at)?;
        let top = self.operands.top(at)?;
        match &mut self.graph.nodes[top.0 as usize] {
            Node::Object(Object { state: state @ None, .. }) => {
                *state = Some(given);
                Ok(())
            }
            _ => Err(PickleError::Malformed { what: "a state for what takes none", at }),
        }
    }

    fn append(&mut self, items: &[NodeId], at: usize) -> Result<(), PickleError> {
        let top = self.operands.top(at)?;
        let Node::List(list) = &mut self.graph.nodes[top.0 as usize] else {
            return Err(PickleError::Malformed { what: "items for what is no list", at });
        };
        list.extend_from_slice(items);
        Ok(())
    }

    fn set_items(&mut self, items: &[NodeId], at: usize) -> Result<(), PickleError> {
        let top = self.operands.top(at)?;
        let Node::Dict(dict) = &mut self.graph.nodes[top.0 as usize] else {
            return Err(PickleError::Malformed { what: "items for what is no dict", at });
        };
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(PickleError::Malformed { what: "a key without a value", at });
        }
        dict.extend(pairs.iter().map(|[key, value]| (*key, *value)));
        Ok(())
    }
}

/// The newest protocol that ZODB writes.
const PROTOCOL_MAX: u8 = 3;
/// How many values the records of one conflict may hold together.
const NODES_MAX: usize = 1 << 20;
const _: () =
    assert!(NODES_MAX * size_of::<Node>() <= 80 << 20, "a conflict may cost some memory, and no more");
