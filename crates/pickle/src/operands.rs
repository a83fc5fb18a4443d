//! What the machines of this crate work on: a stack with marks, and a memo, none larger than its bound.
//!
//! What lies below the last mark is out of reach, as in Python.

use crate::PickleError;
use std::collections::HashMap;

/// The operands of a pickle's opcodes.
pub(crate) struct Operands<T> {
    stack: Vec<T>,
    /// The height of the stack at each mark that is open.
    marks: Vec<usize>,
    memo: HashMap<u32, T>,
    /// Of each of the three.
    size_max: usize,
}

impl<T: Copy> Operands<T> {
    pub(crate) fn new(size_max: usize) -> Self {
        Self { stack: Vec::with_capacity(16), marks: Vec::new(), memo: HashMap::new(), size_max }
    }

    /// Makes ready for another pickle, which may mention what this one put into the memo.
    pub(crate) fn next_pickle(&mut self) {
        self.stack.clear();
        self.marks.clear();
    }

    #[inline]
    pub(crate) fn push(&mut self, operand: T) -> Result<(), PickleError> {
        if self.stack.len() >= self.size_max {
            return Err(PickleError::TooMany("values"));
        }
        self.stack.push(operand);
        Ok(())
    }

    #[inline]
    pub(crate) fn pop(&mut self, at: usize) -> Result<T, PickleError> {
        if self.stack.len() > self.floor()
            && let Some(operand) = self.stack.pop()
        {
            return Ok(operand);
        }
        Err(empty(at))
    }

    pub(crate) fn top(&self, at: usize) -> Result<T, PickleError> {
        self.stack[self.floor()..].last().copied().ok_or_else(|| empty(at))
    }

    pub(crate) fn mark(&mut self) -> Result<(), PickleError> {
        if self.marks.len() >= self.size_max {
            return Err(PickleError::TooMany("marks"));
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    /// Ends the last mark and tells where it was.
    #[inline]
    pub(crate) fn unmark(&mut self, at: usize) -> Result<usize, PickleError> {
        let what = "no mark on the stack";
        self.marks.pop().ok_or(PickleError::Malformed { what, at })
    }

    /// Where the topmost `len` operands begin.
    #[inline]
    pub(crate) fn last(&self, len: usize, at: usize) -> Result<usize, PickleError> {
        let start = self.stack.len().checked_sub(len).filter(|start| *start >= self.floor());
        start.ok_or_else(|| empty(at))
    }

    /// The operands from `start` on.
    pub(crate) fn from(&self, start: usize) -> &[T] {
        &self.stack[start..]
    }

    /// Drops the operands from `start` on.
    pub(crate) fn truncate(&mut self, start: usize) {
        self.stack.truncate(start);
    }

    /// Takes the operands from `start` on.
    #[inline]
    pub(crate) fn take(&mut self, start: usize) -> Vec<T> {
        self.stack.split_off(start)
    }

    /// Takes the operands above the last mark, and the mark.
    pub(crate) fn take_marked(&mut self, at: usize) -> Result<Vec<T>, PickleError> {
        let start = self.unmark(at)?;
        Ok(self.take(start))
    }

    /// Python's `POP`, which drops a mark if nothing is above it.
    pub(crate) fn pop_or_unmark(&mut self, at: usize) -> Result<(), PickleError> {
        if self.marks.last() == Some(&self.stack.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop(at).map(drop)
    }

    /// Remembers the topmost operand.
    pub(crate) fn put(&mut self, index: u32, at: usize) -> Result<(), PickleError> {
        let top = self.top(at)?;
        if self.memo.len() >= self.size_max {
            return Err(PickleError::TooMany("memo entries"));
        }
        self.memo.insert(index, top);
        Ok(())
    }

    /// Pushes what is remembered.
    pub(crate) fn get(&mut self, index: u32, at: usize) -> Result<(), PickleError> {
        let what = "a memo entry that was never put";
        let operand = self.memo.get(&index).copied().ok_or(PickleError::Malformed { what, at })?;
        self.push(operand)
    }

    /// The index that Python gives to what is remembered without one.
    pub(crate) fn next_index(&self) -> u32 {
        self.memo.len() as u32
    }

    /// The lowest position that may be touched while the last mark is open.
    #[inline]
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }
}

#[cold]
const fn empty(at: usize) -> PickleError {
    PickleError::Malformed { what: "nothing on the stack", at }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_a_mark_is_out_of_reach_until_the_mark_is_gone() {
        let mut operands = Operands::new(10);
        operands.push(1).unwrap();
        operands.mark().unwrap();
        assert!(operands.pop(0).is_err() && operands.top(0).is_err() && operands.last(1, 0).is_err());
        operands.push(2).unwrap();
        assert!(operands.last(2, 0).is_err());
        assert_eq!(operands.take_marked(0).unwrap(), [2]);
        assert_eq!(operands.pop(0).unwrap(), 1);
        assert!(operands.take_marked(0).is_err());
    }

    #[test]
    fn nothing_grows_past_its_bound() {
        let mut operands = Operands::new(2);
        for number in 0..2 {
            operands.push(number).unwrap();
            operands.mark().unwrap();
        }
        assert!(operands.push(2).is_err() && operands.mark().is_err());
        operands.next_pickle();
        operands.push(1).unwrap();
        for index in 0..2 {
            operands.put(index, 0).unwrap();
        }
        assert!(operands.put(2, 0).is_err());
        operands.get(1, 0).unwrap();
        assert!(operands.get(1, 0).is_err(), "the stack is full");
        assert_eq!(operands.next_index(), 2);
    }
}
