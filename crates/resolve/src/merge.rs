//! The merge of three buckets, with the rules and reasons of BTrees' `MergeTemplate.c`.
//!
//! A walk through all three at once, smallest key first. Each side may insert, delete and change as long as the
//! other left that key alone; what would change the tree around the bucket is refused: a bucket that
//! becomes empty, and a side that deleted its first key.

use crate::{
    Failure,
    bucket::Bucket,
    column::{Cell, Columns},
    compare::{CompareError, Operator, compare},
};
use std::cmp::Ordering;
use zeolith_pickle::state::{Graph, Node, NodeId};
use zeolith_storage::BTreesConflict;

/// A merge on its way.
pub(crate) struct Merge<'a> {
    graph: &'a Graph,
    columns: Columns,
    old: Cursor<'a>,
    committed: Cursor<'a>,
    new: Cursor<'a>,
    merged: Bucket,
    /// An exception that a comparison of values has raised. C looks for it only when it compares keys that are
    /// objects, and at the end.
    raised: Option<&'static str>,
}

/// A bucket with the item that comes next.
#[derive(Clone, Copy)]
struct Cursor<'a> {
    bucket: &'a Bucket,
    at: usize,
}

/// Which of the sides has an item that is taken over.
#[derive(Clone, Copy)]
enum Side {
    Committed,
    New,
}

impl<'a> Merge<'a> {
    pub(crate) fn new(
        graph: &'a Graph,
        columns: Columns,
        old: &'a Bucket,
        committed: &'a Bucket,
        new: &'a Bucket,
    ) -> Self {
        let cursor = |bucket| Cursor { bucket, at: 0 };
        let (old, committed, new) = (cursor(old), cursor(committed), cursor(new));
        Self { graph, columns, old, committed, new, merged: Bucket::default(), raised: None }
    }

    /// The merged bucket, without the one after it.
    pub(crate) fn run(mut self) -> Result<Bucket, Failure> {
        if self.committed.is_over() || self.new.is_over() {
            return Err(conflict([-1; 3], 12));
        }
        while !self.old.is_over() && !self.committed.is_over() && !self.new.is_over() {
            self.step()?;
        }
        while !self.committed.is_over() && !self.new.is_over() {
            match self.keys(self.committed, self.new)? {
                Ordering::Equal => return Err(self.conflict(6)),
                Ordering::Greater => self.take(Side::New),
                Ordering::Less => self.take(Side::Committed),
            }
        }
        while !self.old.is_over() && !self.committed.is_over() {
            self.rest(Side::Committed, 7)?;
        }
        while !self.old.is_over() && !self.new.is_over() {
            self.rest(Side::New, 8)?;
        }
        if !self.old.is_over() {
            return Err(self.conflict(9));
        }
        while !self.committed.is_over() {
            self.take(Side::Committed);
        }
        while !self.new.is_over() {
            self.take(Side::New);
        }
        if self.merged.keys.is_empty() {
            return Err(conflict([-1; 3], 10));
        }
        match self.raised {
            Some(text) => Err(Failure::Python(text)),
            None => Ok(self.merged),
        }
    }

    /// One step while all three have items.
    fn step(&mut self) -> Result<(), Failure> {
        let committed = self.keys(self.old, self.committed)?;
        let new = self.keys(self.old, self.new)?;
        match (committed, new) {
            (Ordering::Equal, Ordering::Equal) => {
                if self.same_values(Side::Committed)? {
                    self.take(Side::New);
                    self.committed.at += 1;
                } else if self.same_values(Side::New)? {
                    self.take(Side::Committed);
                    self.new.at += 1;
                } else {
                    return Err(self.conflict(1));
                }
                self.old.at += 1;
            }
            (Ordering::Equal, Ordering::Greater) => self.take(Side::New),
            (Ordering::Equal, Ordering::Less) => self.deleted_in(Side::New, 2)?,
            (Ordering::Greater, Ordering::Equal) => self.take(Side::Committed),
            (Ordering::Less, Ordering::Equal) => self.deleted_in(Side::Committed, 3)?,
            (committed, new) => match (self.keys(self.committed, self.new)?, committed, new) {
                (Ordering::Equal, _, _) => return Err(self.conflict(4)),
                (Ordering::Greater, Ordering::Greater, _) => self.take(Side::New),
                (Ordering::Less, Ordering::Greater, _) => self.take(Side::Committed),
                (_, _, Ordering::Greater) => self.take(Side::New),
                _ => return Err(self.conflict(5)),
            },
        }
        Ok(())
    }

    /// A key that one side has deleted, which the other must not have changed.
    fn deleted_in(&mut self, side: Side, changed: u8) -> Result<(), Failure> {
        let other = side.other();
        if !self.same_values(other)? {
            return Err(self.conflict(changed));
        }
        if self.cursor(side).at == 0 {
            // The tree around may have changed for it.
            return Err(self.conflict(13));
        }
        self.cursor_mut(other).at += 1;
        self.old.at += 1;
        Ok(())
    }

    /// One step when the other side has deleted all that is left of the old bucket.
    fn rest(&mut self, side: Side, reason: u8) -> Result<(), Failure> {
        match self.keys(self.old, *self.cursor(side))? {
            Ordering::Greater => self.take(side),
            Ordering::Equal if self.same_values(side)? => {
                self.old.at += 1;
                self.cursor_mut(side).at += 1;
            }
            Ordering::Equal | Ordering::Less => return Err(self.conflict(reason)),
        }
        Ok(())
    }

    /// Takes the next item of a side over.
    fn take(&mut self, side: Side) {
        let cursor = *self.cursor(side);
        self.merged.keys.push(cursor.bucket.keys[cursor.at].clone());
        self.merged.values.extend(cursor.bucket.values.get(cursor.at).cloned());
        self.cursor_mut(side).at += 1;
    }

    /// Compares the keys of two cursors that are not over.
    fn keys(&self, left: Cursor<'_>, right: Cursor<'_>) -> Result<Ordering, Failure> {
        match (&left.bucket.keys[left.at], &right.bucket.keys[right.at]) {
            (Cell::Int(left), Cell::Int(right)) => Ok(left.cmp(right)),
            (Cell::Bytes(left), Cell::Bytes(right)) => Ok(left.cmp(right)),
            (Cell::Object(left), Cell::Object(right)) => match self.raised {
                Some(text) => Err(Failure::Python(text)),
                None => objects(self.graph, *left, *right).map_err(Failure::from),
            },
            _ => Err(Failure::Unknown),
        }
    }

    /// Whether a side left the value of this key alone. In a set all values are the same.
    fn same_values(&mut self, side: Side) -> Result<bool, Failure> {
        if self.columns.values.is_none() {
            return Ok(true);
        }
        let cursor = *self.cursor(side);
        let (left, right) = match (&self.old.bucket.values[self.old.at], &cursor.bucket.values[cursor.at]) {
            (Cell::Int(left), Cell::Int(right)) => return Ok(left == right),
            (Cell::Bytes(left), Cell::Bytes(right)) => return Ok(left == right),
            // For C two floats are the same if none is less: what is no number is the same as any.
            (Cell::Float(left), Cell::Float(right)) => {
                return Ok(left.partial_cmp(right).is_none_or(Ordering::is_eq));
            }
            (Cell::Object(left), Cell::Object(right)) => (*left, *right),
            _ => return Err(Failure::Unknown),
        };
        let is_reference = |id| matches!(self.graph.node(id), Node::Reference(_));
        if self.raised.is_some() && (is_reference(left) || is_reference(right)) {
            // Python code that runs while an exception is set ends with one.
            return Ok(false);
        }
        match objects(self.graph, left, right) {
            Ok(ordering) => Ok(ordering.is_eq()),
            Err(CompareError::Unknown) => Err(Failure::Unknown),
            Err(CompareError::Python(text)) => {
                self.raised.get_or_insert(text);
                Ok(false)
            }
        }
    }

    const fn cursor(&self, side: Side) -> &Cursor<'a> {
        match side {
            Side::Committed => &self.committed,
            Side::New => &self.new,
        }
    }

    const fn cursor_mut(&mut self, side: Side) -> &mut Cursor<'a> {
        match side {
            Side::Committed => &mut self.committed,
            Side::New => &mut self.new,
        }
    }

    fn conflict(&self, reason: u8) -> Failure {
        conflict([self.old, self.committed, self.new].map(Cursor::position), reason)
    }
}

impl Cursor<'_> {
    const fn is_over(&self) -> bool {
        self.at >= self.bucket.keys.len()
    }

    /// As C counts: from 1, and -1 when it is over.
    fn position(self) -> i32 {
        if self.is_over() { -1 } else { i32::try_from(self.at + 1).unwrap_or(i32::MAX) }
    }
}

impl Side {
    const fn other(self) -> Self {
        match self {
            Self::Committed => Self::New,
            Self::New => Self::Committed,
        }
    }
}

/// `BTreesConflictError` with these positions and this reason.
pub(crate) const fn conflict([old, committed, new]: [i32; 3], reason: u8) -> Failure {
    Failure::BTrees(BTreesConflict { old, committed, new, reason })
}

/// `None` comes before everything; else what is neither less nor equal is greater.
fn objects(graph: &Graph, left: NodeId, right: NodeId) -> Result<Ordering, CompareError> {
    let is_none = |id| matches!(graph.node(id), Node::None);
    match (is_none(left), is_none(right)) {
        (true, true) => return Ok(Ordering::Equal),
        (true, false) => return Ok(Ordering::Less),
        (false, true) => return Ok(Ordering::Greater),
        (false, false) => {}
    }
    if compare(graph, Operator::Less, left, right)? {
        return Ok(Ordering::Less);
    }
    let equal = compare(graph, Operator::Equal, left, right)?;
    Ok(if equal { Ordering::Equal } else { Ordering::Greater })
}
