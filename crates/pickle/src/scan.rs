//! Runs any pickle without making objects: what remains of a value is a tag.
//!
//! This is what ZODB's `noload` does, for protocols 0 to 5. A tag keeps what class descriptions and
//! persistent references are made of, which is texts and short tuples of them; every other value is
//! [`Tag::Other`]. One scanner runs both pickles of a record, since they share their memo.

use crate::{PickleError, input::Input, opcode as op, operands::Operands, text};
use std::ops::Range;

/// What remains of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    /// Nothing that anybody asks for.
    Other,
    /// A byte string or text.
    Text(Span),
    /// A list, whatever is in it.
    List,
    /// A tuple that begins with one text.
    TextFirst(Span),
    /// A tuple that begins with two texts.
    TextPair(Span, Span),
    /// A tuple of another kind.
    Tuple,
    /// A global: module and name.
    Global(Span, Span),
    /// A tuple that begins with a global or with a pair of texts: a class description.
    Class(Span, Span),
}

/// Bytes of the record, or beyond its end of what was unescaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    start: usize,
    end: usize,
}

impl From<Range<usize>> for Span {
    fn from(range: Range<usize>) -> Self {
        Self { start: range.start, end: range.end }
    }
}

/// Runs the pickles of one record one after the other.
pub(crate) struct Scanner<'a> {
    record: &'a [u8],
    input: Input<'a>,
    operands: Operands<Tag>,
    /// Texts whose bytes do not stand in the record as they are.
    unescaped: Vec<u8>,
    /// The operands of persistent references in the order in which they came.
    persistent: Vec<Tag>,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(record: &'a [u8]) -> Self {
        Self {
            record,
            input: Input::new(record),
            // Each byte of the record can bring one in.
            operands: Operands::new(record.len()),
            unescaped: Vec::new(),
            persistent: Vec::new(),
        }
    }

    /// The persistent references met so far.
    pub(crate) fn persistent(&self) -> &[Tag] {
        &self.persistent
    }

    pub(crate) fn bytes(&self, span: Span) -> &[u8] {
        let end = self.record.len();
        match span.start.checked_sub(end) {
            Some(start) => &self.unescaped[start..span.end - end],
            None => &self.record[span.start..span.end],
        }
    }

    /// Runs one pickle to its `STOP`.
    pub(crate) fn run(&mut self) -> Result<Tag, PickleError> {
        self.operands.next_pickle();
        loop {
            let at = self.input.at();
            let opcode = self.input.byte()?;
            match opcode {
                op::STOP => return self.operands.pop(at),
                op::PROTO => {
                    let protocol = self.input.byte()?;
                    if protocol > PROTOCOL_MAX {
                        return Err(PickleError::Protocol(protocol));
                    }
                }
                op::FRAME => {
                    self.input.array::<8>()?;
                }
                op::MARK => self.operands.mark()?,
                op::NONE | op::NEWTRUE | op::NEWFALSE | op::EMPTY_DICT | op::EMPTY_SET | op::NEXT_BUFFER => {
                    self.operands.push(Tag::Other)?;
                }
                op::EMPTY_LIST => self.operands.push(Tag::List)?,
                op::EMPTY_TUPLE => self.operands.push(Tag::Tuple)?,
                op::READONLY_BUFFER => {
                    self.operands.pop(at)?;
                    self.operands.push(Tag::Other)?;
                }
                op::TUPLE1 | op::TUPLE2 | op::TUPLE3 => {
                    let len = usize::from(opcode - op::TUPLE1) + 1;
                    let start = self.operands.last(len, at)?;
                    self.tuple(start)?;
                }
                op::TUPLE => {
                    let start = self.operands.unmark(at)?;
                    self.tuple(start)?;
                }
                op::LIST | op::DICT | op::FROZENSET | op::INST | op::OBJ => {
                    let start = self.operands.unmark(at)?;
                    self.operands.truncate(start);
                    if opcode == op::INST {
                        self.input.line()?;
                        self.input.line()?;
                    }
                    self.operands.push(if opcode == op::LIST { Tag::List } else { Tag::Other })?;
                }
                op::APPENDS | op::SETITEMS | op::ADDITEMS => {
                    let start = self.operands.unmark(at)?;
                    self.operands.truncate(start);
                    self.operands.top(at)?;
                }
                op::POP_MARK => {
                    let start = self.operands.unmark(at)?;
                    self.operands.truncate(start);
                }
                op::APPEND | op::BUILD => self.drop_operands(1, at)?,
                op::SETITEM => self.drop_operands(2, at)?,
                op::REDUCE | op::NEWOBJ => self.replace_operands(2, at)?,
                op::NEWOBJ_EX => self.replace_operands(3, at)?,
                op::POP => self.operands.pop_or_unmark(at)?,
                op::DUP => {
                    let top = self.operands.top(at)?;
                    self.operands.push(top)?;
                }
                op::GLOBAL => {
                    let (module, name) = (self.input.line()?, self.input.line()?);
                    self.operands.push(Tag::Global(module.into(), name.into()))?;
                }
                op::STACK_GLOBAL => {
                    let (name, module) = (self.operands.pop(at)?, self.operands.pop(at)?);
                    let (Tag::Text(module), Tag::Text(name)) = (module, name) else {
                        return Err(PickleError::Malformed { what: "a global without a name", at });
                    };
                    self.operands.push(Tag::Global(module, name))?;
                }
                op::PERSID => {
                    let id = self.input.line()?;
                    self.persistent.push(Tag::Text(id.into()));
                    self.operands.push(Tag::Other)?;
                }
                op::BINPERSID => {
                    let id = self.operands.pop(at)?;
                    self.persistent.push(id);
                    self.operands.push(Tag::Other)?;
                }
                op::MEMOIZE => {
                    let index = self.operands.next_index();
                    self.operands.put(index, at)?;
                }
                op::PUT | op::BINPUT | op::LONG_BINPUT => {
                    let index = self.input.memo_index(opcode, at)?;
                    self.operands.put(index, at)?;
                }
                op::GET | op::BINGET | op::LONG_BINGET => {
                    let index = self.input.memo_index(opcode, at)?;
                    self.operands.get(index, at)?;
                }
                op::STRING | op::UNICODE => self.escaped_text(opcode, at)?,
                opcode => self.plain(opcode, at)?,
            }
        }
    }

    /// Texts and numbers that stand in the record as they are.
    fn plain(&mut self, opcode: u8, at: usize) -> Result<(), PickleError> {
        let len = match opcode {
            op::SHORT_BINSTRING | op::SHORT_BINBYTES | op::SHORT_BINUNICODE | op::LONG1 => {
                usize::from(self.input.byte()?)
            }
            op::BINSTRING | op::BINBYTES | op::BINUNICODE | op::LONG4 => self.input.len4()?,
            op::BINUNICODE8 | op::BINBYTES8 | op::BYTEARRAY8 => self.input.len8()?,
            op::BININT1 | op::EXT1 => 1,
            op::BININT2 | op::EXT2 => 2,
            op::BININT | op::EXT4 => 4,
            op::BINFLOAT => 8,
            op::INT | op::LONG | op::FLOAT => {
                self.input.line()?;
                0
            }
            _ => return Err(PickleError::Opcode { opcode, at }),
        };
        let span = self.input.span(len)?;
        let is_text = matches!(
            opcode,
            op::SHORT_BINSTRING
                | op::SHORT_BINBYTES
                | op::SHORT_BINUNICODE
                | op::BINSTRING
                | op::BINBYTES
                | op::BINUNICODE
                | op::BINUNICODE8
                | op::BINBYTES8
        );
        self.operands.push(if is_text { Tag::Text(span.into()) } else { Tag::Other })
    }

    fn escaped_text(&mut self, opcode: u8, at: usize) -> Result<(), PickleError> {
        let line = self.input.line()?;
        let line = self.input.slice(line);
        let text = if opcode == op::STRING {
            text::quoted(line)
        } else {
            text::raw_unicode(line).map(String::into_bytes)
        };
        let text = text.ok_or(PickleError::Malformed { what: "a line that can't be read", at })?;
        let start = self.record.len() + self.unescaped.len();
        self.unescaped.extend_from_slice(&text);
        self.operands.push(Tag::Text((start..start + text.len()).into()))
    }

    /// Replaces the stack from `start` on by the tag of a tuple of it.
    fn tuple(&mut self, start: usize) -> Result<(), PickleError> {
        let tag = match self.operands.from(start) {
            [Tag::Text(first), Tag::Text(second), ..] => Tag::TextPair(*first, *second),
            [Tag::Text(first), ..] => Tag::TextFirst(*first),
            [Tag::Global(module, name) | Tag::TextPair(module, name), ..] => Tag::Class(*module, *name),
            _ => Tag::Tuple,
        };
        self.operands.truncate(start);
        self.operands.push(tag)
    }

    /// Takes operands off the stack that only change what stands below them.
    fn drop_operands(&mut self, count: usize, at: usize) -> Result<(), PickleError> {
        for _ in 0..count {
            self.operands.pop(at)?;
        }
        self.operands.top(at).map(drop)
    }

    /// Takes operands off the stack and puts the object there that they would make.
    fn replace_operands(&mut self, count: usize, at: usize) -> Result<(), PickleError> {
        for _ in 0..count {
            self.operands.pop(at)?;
        }
        self.operands.push(Tag::Other)
    }
}

const PROTOCOL_MAX: u8 = 5;
