//! Reads a pickle's bytes from front to back; every length is checked against what is left.

use crate::{PickleError, opcode as op, text};
use std::ops::Range;

/// A position in a pickle.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Where the next byte stands.
    pub(crate) const fn at(&self) -> usize {
        self.at
    }

    #[inline]
    pub(crate) fn byte(&mut self) -> Result<u8, PickleError> {
        let Some(byte) = self.bytes.get(self.at) else {
            return Err(PickleError::CutOff { at: self.bytes.len() });
        };
        self.at += 1;
        Ok(*byte)
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let Some((array, _)) = self.bytes[self.at..].split_first_chunk::<N>() else {
            return Err(PickleError::CutOff { at: self.bytes.len() });
        };
        self.at += N;
        Ok(*array)
    }

    /// A length of four bytes.
    pub(crate) fn len4(&mut self) -> Result<usize, PickleError> {
        let len = u32::from_le_bytes(self.array()?);
        usize::try_from(len).map_err(|_| PickleError::CutOff { at: self.bytes.len() })
    }

    /// A length of eight bytes.
    pub(crate) fn len8(&mut self) -> Result<usize, PickleError> {
        let len = u64::from_le_bytes(self.array()?);
        usize::try_from(len).map_err(|_| PickleError::CutOff { at: self.bytes.len() })
    }

    /// The next `len` bytes, as a range of the whole.
    #[inline]
    pub(crate) fn span(&mut self, len: usize) -> Result<Range<usize>, PickleError> {
        if len > self.bytes.len() - self.at {
            return Err(PickleError::CutOff { at: self.bytes.len() });
        }
        let start = self.at;
        self.at += len;
        Ok(start..self.at)
    }

    /// The rest of the line as a range of the whole; its newline is passed over.
    pub(crate) fn line(&mut self) -> Result<Range<usize>, PickleError> {
        let rest = &self.bytes[self.at..];
        let Some(len) = rest.iter().position(|byte| *byte == b'\n') else {
            return Err(PickleError::CutOff { at: self.bytes.len() });
        };
        let start = self.at;
        self.at += len + 1;
        Ok(start..start + len)
    }

    /// The operand of an opcode that puts something into the memo, or gets it out.
    pub(crate) fn memo_index(&mut self, opcode: u8, at: usize) -> Result<u32, PickleError> {
        Ok(match opcode {
            op::BINPUT | op::BINGET => u32::from(self.byte()?),
            op::LONG_BINPUT | op::LONG_BINGET => u32::from_le_bytes(self.array()?),
            _ => {
                let line = self.line()?;
                let what = "a memo index that can't be read";
                text::decimal(self.slice(line)).ok_or(PickleError::Malformed { what, at })?
            }
        })
    }

    /// The bytes of a range that `span` or `line` gave.
    #[inline]
    pub(crate) fn slice(&self, range: Range<usize>) -> &'a [u8] {
        &self.bytes[range]
    }
}
