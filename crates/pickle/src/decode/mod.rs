//! Decodes a pickle of the closed grammar to a plain value: a stack machine that can't call anything.
//!
//! Understands what zodbpickle at protocols 0 to 3 can write of plain values, including the memo and the
//! text opcodes of old peers (`docs/protocol.md` lists them). Byte strings of the binary opcodes
//! are slices of the input; nothing else about the input outlives the call.

mod construct;

use crate::{
    PickleError,
    global::Global,
    graph::{self, Node, NodeId},
    input::Input,
    opcode as op,
    operands::Operands,
    text,
};
use bytes::Bytes;
use std::ops::Range;
use zeolith_types::Value;

/// How much a pickle may make us hold, beside its own bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Values of any kind, shared ones counted each time.
    pub values_max: usize,
    /// Containers within containers.
    pub depth_max: usize,
}

impl Limits {
    /// What a request may hold: far more than any client sends.
    pub const REQUEST: Self = Self { values_max: 1 << 16, depth_max: 100 };
    /// What a reply may hold: lists of millions of oids are normal there.
    pub const REPLY: Self = Self { values_max: 1 << 24, depth_max: 100 };
}

/// Decodes the pickle at the start of `pickle`; what follows its `STOP` is ignored, as Python does.
///
/// # Errors
/// Anything outside the grammar or past a limit; a refused global is named.
pub fn decode(pickle: &Bytes, limits: Limits) -> Result<Value, PickleError> {
    let mut machine = Machine {
        input: Input::new(pickle),
        nodes: Vec::with_capacity(16),
        operands: Operands::new(limits.values_max),
        limits,
        copies: 0,
    };
    let root = machine.run()?;
    graph::into_value(&machine.nodes, root, pickle, limits)
}

struct Machine<'a> {
    input: Input<'a>,
    nodes: Vec<Node>,
    operands: Operands<NodeId>,
    limits: Limits,
    /// Children copied from one node to another, which memo and constructors could repeat.
    copies: usize,
}

impl Machine<'_> {
    /// Runs to `STOP` and gives the node on top.
    fn run(&mut self) -> Result<NodeId, PickleError> {
        loop {
            let at = self.input.at();
            match self.input.byte()? {
                op::STOP => return self.operands.pop(at),
                op::SHORT_BINBYTES => {
                    let len = self.input.byte()?;
                    let bytes = self.input.span(usize::from(len))?;
                    self.push(Node::Bytes(bytes))?;
                }
                op::BINBYTES => {
                    let len = self.input.len4()?;
                    let bytes = self.input.span(len)?;
                    self.push(Node::Bytes(bytes))?;
                }
                op::BINUNICODE => {
                    let len = self.input.len4()?;
                    let text = self.input.span(len)?;
                    self.push_text(text)?;
                }
                op::TUPLE1 => self.tuple(1, at)?,
                op::TUPLE2 => self.tuple(2, at)?,
                op::TUPLE3 => self.tuple(3, at)?,
                op::TUPLE => {
                    let items = self.operands.take_marked(at)?;
                    self.push(Node::Tuple(items))?;
                }
                op::EMPTY_TUPLE => self.push(Node::Tuple(Vec::new()))?,
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
                op::LONG1 => {
                    let len = self.input.byte()?;
                    self.long(usize::from(len), at)?;
                }
                op::LONG4 => {
                    let len = self.input.len4()?;
                    self.long(len, at)?;
                }
                op::BINFLOAT => {
                    let value = f64::from_be_bytes(self.input.array()?);
                    self.push(Node::Float(value))?;
                }
                op::EMPTY_LIST => self.push(Node::List(Vec::new()))?,
                op::EMPTY_DICT => self.push(Node::Dict(Vec::new()))?,
                op::LIST => {
                    let items = self.operands.take_marked(at)?;
                    self.push(Node::List(items))?;
                }
                op::DICT => {
                    let items = self.operands.take_marked(at)?;
                    self.push(Node::Dict(Vec::new()))?;
                    self.set_items(&items, at)?;
                }
                op::APPEND => {
                    let item = self.operands.pop(at)?;
                    self.append(&[item], at)?;
                }
                op::APPENDS => {
                    let items = self.operands.take_marked(at)?;
                    self.append(&items, at)?;
                }
                op::SETITEM => {
                    let (value, key) = (self.operands.pop(at)?, self.operands.pop(at)?);
                    self.set_items(&[key, value], at)?;
                }
                op::SETITEMS => {
                    let items = self.operands.take_marked(at)?;
                    self.set_items(&items, at)?;
                }
                op::PROTO => {
                    let protocol = self.input.byte()?;
                    if protocol > PROTOCOL_MAX {
                        return Err(PickleError::Protocol(protocol));
                    }
                }
                op::POP => {
                    self.operands.pop_or_unmark(at)?;
                }
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
                op::INT | op::LONG | op::FLOAT | op::STRING | op::UNICODE => self.text_form(at)?,
                op::BINSTRING => {
                    let len = self.input.len4()?;
                    self.py2_string(len, at)?;
                }
                op::SHORT_BINSTRING => {
                    let len = self.input.byte()?;
                    self.py2_string(usize::from(len), at)?;
                }
                op::GLOBAL => self.global()?,
                op::REDUCE | op::NEWOBJ => {
                    let (arguments, callable) = (self.operands.pop(at)?, self.operands.pop(at)?);
                    self.construct(callable, arguments, at)?;
                }
                op::BUILD => self.build(at)?,
                opcode => return Err(PickleError::Opcode { opcode, at }),
            }
        }
    }

    #[inline]
    fn push(&mut self, node: Node) -> Result<(), PickleError> {
        if self.nodes.len() >= self.limits.values_max {
            return Err(PickleError::TooMany("values"));
        }
        self.operands.push(self.nodes.len() as NodeId)?;
        self.nodes.push(node);
        Ok(())
    }

    fn tuple(&mut self, len: usize, at: usize) -> Result<(), PickleError> {
        let start = self.operands.last(len, at)?;
        let items = self.operands.take(start);
        self.push(Node::Tuple(items))
    }

    fn append(&mut self, items: &[NodeId], at: usize) -> Result<(), PickleError> {
        let top = self.operands.top(at)?;
        let Node::List(list) = &mut self.nodes[top as usize] else {
            return Err(self.malformed("items for what is no list", at));
        };
        list.extend_from_slice(items);
        Ok(())
    }

    fn set_items(&mut self, items: &[NodeId], at: usize) -> Result<(), PickleError> {
        let top = self.operands.top(at)?;
        let Node::Dict(dict) = &mut self.nodes[top as usize] else {
            return Err(self.malformed("items for what is no dict", at));
        };
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(self.malformed("a key without a value", at));
        }
        dict.extend(pairs.iter().map(|[key, value]| (*key, *value)));
        Ok(())
    }

    fn long(&mut self, len: usize, at: usize) -> Result<(), PickleError> {
        let bytes = self.input.span(len)?;
        let value = text::long_from_bytes(self.input.slice(bytes));
        let value = value.ok_or_else(|| self.malformed("an integer of more than 16 bytes", at))?;
        self.push(Node::Int(value))
    }

    fn push_text(&mut self, range: Range<usize>) -> Result<(), PickleError> {
        let at = range.start;
        if std::str::from_utf8(self.input.slice(range.clone())).is_err() {
            return Err(self.malformed("text that is not UTF-8", at));
        }
        self.push(Node::Text(range))
    }

    /// A string of Python 2, which is text and must be ASCII.
    fn py2_string(&mut self, len: usize, at: usize) -> Result<(), PickleError> {
        let range = self.input.span(len)?;
        if !self.input.slice(range.clone()).is_ascii() {
            return Err(self.malformed("a Python 2 string that is not ASCII", at));
        }
        self.push(Node::Text(range))
    }

    /// The opcodes of protocol 0 whose operand is a line of text.
    fn text_form(&mut self, at: usize) -> Result<(), PickleError> {
        let opcode = self.input.slice(at..at + 1)[0];
        let range = self.input.line()?;
        let line = self.input.slice(range);
        let node = match opcode {
            op::INT => text::int_or_bool(line).map(|value| match value {
                Ok(int) => Node::Int(int),
                Err(bool) => Node::Bool(bool),
            }),
            op::LONG => text::long(line).map(Node::Int),
            op::FLOAT => text::float(line).map(Node::Float),
            op::UNICODE => text::raw_unicode(line).map(Node::OwnedText),
            _ => {
                let string = text::quoted(line).filter(|string| string.is_ascii());
                string.and_then(|string| String::from_utf8(string).ok()).map(Node::OwnedText)
            }
        };
        let node = node.ok_or_else(|| self.malformed("a line that can't be read", at))?;
        self.push(node)
    }

    fn global(&mut self) -> Result<(), PickleError> {
        let (module, name) = (self.input.line()?, self.input.line()?);
        let (module, name) = (self.input.slice(module), self.input.slice(name));
        let global = Global::find(module, name).ok_or_else(|| PickleError::Global {
            module: String::from_utf8_lossy(module).chars().take(GLOBAL_SHOWN_MAX).collect(),
            name: String::from_utf8_lossy(name).chars().take(GLOBAL_SHOWN_MAX).collect(),
        })?;
        self.push(Node::Global(global))
    }

    #[cold]
    fn malformed(&self, what: &'static str, at: usize) -> PickleError {
        PickleError::Malformed { what, at }
    }
}

/// The newest protocol that ZEO's Python peers read and write.
const PROTOCOL_MAX: u8 = 3;
/// How much of a refused name an error repeats.
const GLOBAL_SHOWN_MAX: usize = 80;
