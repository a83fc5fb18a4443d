//! Reads the two pickles of a record into a graph: a stack machine that can't call anything.
//!
//! Understands protocols 0 to 3, which is what ZODB writes. What it does not know it refuses, and whoever asked
//! does without the values.

use super::{Graph, Making, Node, NodeId, Object, Record};
use crate::{PickleError, input::Input, opcode as op, text};
use bytes::Bytes;
use std::{collections::HashMap, ops::Range};

impl Graph {
    /// Reads a record; its texts and byte strings become slices of it.
    ///
    /// # Errors
    /// The record is no pair of pickles, holds something outside the grammar, or is too large.
    pub fn read(&mut self, record: &Bytes) -> Result<Record, PickleError> {
        let input = Input::new(record);
        let (stack, marks, memo) = (Vec::with_capacity(16), Vec::new(), HashMap::new());
        let mut machine = Machine { graph: self, record, input, stack, marks, memo };
        let class = machine.run()?;
        let state = machine.run()?;
        Ok(Record { class, state })
    }
}

struct Machine<'a> {
    graph: &'a mut Graph,
    record: &'a Bytes,
    input: Input<'a>,
    stack: Vec<NodeId>,
    /// The height of the stack at each mark that is open.
    marks: Vec<usize>,
    /// The second pickle may mention what the first one made.
    memo: HashMap<u32, NodeId>,
}

impl Machine<'_> {
    /// Runs one pickle to its `STOP` and gives the node on top.
    fn run(&mut self) -> Result<NodeId, PickleError> {
        self.stack.clear();
        self.marks.clear();
        loop {
            let at = self.input.at();
            match self.input.byte()? {
                op::STOP => return self.pop(at),
                op::PROTO => match self.input.byte()? {
                    0..=PROTOCOL_MAX => {}
                    protocol => return Err(PickleError::Protocol(protocol)),
                },
                op::MARK => {
                    if self.marks.len() >= NODES_MAX {
                        return Err(PickleError::TooMany("marks"));
                    }
                    self.marks.push(self.stack.len());
                }
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
                    let start = self.stack.len().checked_sub(len).filter(|start| *start >= self.floor());
                    let items = self.stack.split_off(start.ok_or_else(|| empty(at))?);
                    self.push(Node::Tuple(items))?;
                }
                op::TUPLE => {
                    let items = self.pop_to_mark(at)?;
                    self.push(Node::Tuple(items))?;
                }
                op::EMPTY_LIST => self.push(Node::List(Vec::new()))?,
                op::LIST => {
                    let items = self.pop_to_mark(at)?;
                    self.push(Node::List(items))?;
                }
                op::APPEND => {
                    let item = self.pop(at)?;
                    self.append(&[item], at)?;
                }
                op::APPENDS => {
                    let items = self.pop_to_mark(at)?;
                    self.append(&items, at)?;
                }
                op::EMPTY_DICT => self.push(Node::Dict(Vec::new()))?,
                op::DICT => {
                    let items = self.pop_to_mark(at)?;
                    self.push(Node::Dict(Vec::new()))?;
                    self.set_items(&items, at)?;
                }
                op::SETITEM => {
                    let (value, key) = (self.pop(at)?, self.pop(at)?);
                    self.set_items(&[key, value], at)?;
                }
                op::SETITEMS => {
                    let items = self.pop_to_mark(at)?;
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
                    let data = self.pop(at)?;
                    self.room()?;
                    let reference = self.graph.reference(data, at)?;
                    self.push_again(reference)?;
                }
                op::POP if self.marks.last() == Some(&self.stack.len()) => {
                    self.marks.pop();
                }
                op::POP => {
                    self.pop(at)?;
                }
                op::POP_MARK => {
                    self.pop_to_mark(at)?;
                }
                op::DUP => {
                    let top = self.top(at)?;
                    self.push_again(top)?;
                }
                opcode @ (op::PUT | op::BINPUT | op::LONG_BINPUT) => {
                    let index = self.memo_index(opcode, at)?;
                    let top = self.top(at)?;
                    if self.memo.len() >= NODES_MAX {
                        return Err(PickleError::TooMany("memo entries"));
                    }
                    self.memo.insert(index, top);
                }
                opcode @ (op::GET | op::BINGET | op::LONG_BINGET) => {
                    let index = self.memo_index(opcode, at)?;
                    let what = "a memo entry that was never put";
                    let id = self.memo.get(&index).copied();
                    self.push_again(id.ok_or(PickleError::Malformed { what, at })?)?;
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
        self.stack.push(id);
        Ok(())
    }

    /// Pushes a node that exists. The stack is bounded like the nodes are.
    fn push_again(&mut self, id: NodeId) -> Result<(), PickleError> {
        if self.stack.len() >= NODES_MAX {
            return Err(PickleError::TooMany("values"));
        }
        self.stack.push(id);
        Ok(())
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
            return self.push_again(id);
        }
        self.room()?;
        let id = self.graph.add(node(key.1.clone()));
        self.graph.short.insert(key, id);
        self.stack.push(id);
        Ok(())
    }

    /// A class or function, which is one object wherever it is named.
    fn push_global(&mut self, module: Bytes, name: Bytes) -> Result<(), PickleError> {
        let key = (module, name);
        if let Some(id) = self.graph.globals.get(&key).copied() {
            return self.push_again(id);
        }
        self.room()?;
        let id = self.graph.add(Node::Global(key.0.clone(), key.1.clone()));
        self.graph.globals.insert(key, id);
        self.push_again(id)
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
        let (arguments, callable) = (self.pop(at)?, self.pop(at)?);
        let made_of = (self.graph.node(callable), self.graph.node(arguments));
        let (Node::Global(..), Node::Tuple(_)) = made_of else {
            return Err(PickleError::Malformed { what: "an object that is made of something strange", at });
        };
        self.push(Node::Object(Object { making, callable, arguments, state: None }))
    }

    fn build(&mut self, at: usize) -> Result<(), PickleError> {
        let given = self.pop(at)?;
        let top = self.top(at)?;
        match &mut self.graph.nodes[top.0 as usize] {
            Node::Object(Object { state: state @ None, .. }) => {
                *state = Some(given);
                Ok(())
            }
            _ => Err(PickleError::Malformed { what: "a state for what takes none", at }),
        }
    }

    fn append(&mut self, items: &[NodeId], at: usize) -> Result<(), PickleError> {
        let top = self.top(at)?;
        let Node::List(list) = &mut self.graph.nodes[top.0 as usize] else {
            return Err(PickleError::Malformed { what: "items for what is no list", at });
        };
        list.extend_from_slice(items);
        Ok(())
    }

    fn set_items(&mut self, items: &[NodeId], at: usize) -> Result<(), PickleError> {
        let top = self.top(at)?;
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

    fn memo_index(&mut self, opcode: u8, at: usize) -> Result<u32, PickleError> {
        Ok(match opcode {
            op::BINPUT | op::BINGET => u32::from(self.input.byte()?),
            op::LONG_BINPUT | op::LONG_BINGET => u32::from_le_bytes(self.input.array()?),
            _ => {
                let line = self.input.line()?;
                let what = "a memo index that can't be read";
                text::decimal(self.input.slice(line)).ok_or(PickleError::Malformed { what, at })?
            }
        })
    }

    /// The lowest stack position that may be touched while the last mark is open.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self, at: usize) -> Result<NodeId, PickleError> {
        if self.stack.len() <= self.floor() {
            return Err(empty(at));
        }
        self.stack.pop().ok_or_else(|| empty(at))
    }

    fn top(&self, at: usize) -> Result<NodeId, PickleError> {
        self.stack[self.floor()..].last().copied().ok_or_else(|| empty(at))
    }

    fn pop_to_mark(&mut self, at: usize) -> Result<Vec<NodeId>, PickleError> {
        let mark = self.marks.pop().ok_or_else(|| empty(at))?;
        Ok(self.stack.split_off(mark))
    }
}

const fn empty(at: usize) -> PickleError {
    PickleError::Malformed { what: "nothing on the stack", at }
}

/// The newest protocol that ZODB writes.
const PROTOCOL_MAX: u8 = 3;
/// How many values the records of one conflict may hold together.
const NODES_MAX: usize = 1 << 20;
const _: () =
    assert!(NODES_MAX * size_of::<Node>() <= 80 << 20, "a conflict may cost some memory, and no more");
