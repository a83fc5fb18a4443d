//! The seam for conflict resolution: three records of one object go in, one may come out.

use bytes::Bytes;
use std::fmt;
use zeolith_types::{Oid, Tid};

/// A conflict with the records it is about.
#[derive(Clone, Copy, Debug)]
pub struct ResolveRequest<'a> {
    /// The object.
    pub oid: Oid,
    /// The revision that somebody else has committed.
    pub committed_tid: Tid,
    /// The revision that both began with.
    pub read_tid: Tid,
    /// The record that both began with.
    pub old: &'a Bytes,
    /// The record that somebody else has committed.
    pub committed: &'a Bytes,
    /// The record that is to be stored.
    pub new: &'a Bytes,
}

/// What a resolver says to a conflict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// The record that holds the changes of both.
    Resolved(Bytes),
    /// The changes of both don't go together.
    Refused(Disagreement),
    /// It does not know this class, or how to compare these values; another resolver may.
    NotMine,
}

/// Why changes don't go together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disagreement {
    /// The rules of BTrees forbid it.
    BTrees(BTreesConflict),
    /// The class can't do it with these values; a Python class would raise something else than a conflict.
    Other(String),
}

/// The arguments of ZODB's `BTreesConflictError`: how far the three buckets had been read, from 1, and -1 for to
/// the end; and the number of the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BTreesConflict {
    /// In the bucket that both began with.
    pub old: i32,
    /// In the bucket that somebody else has committed.
    pub committed: i32,
    /// In the bucket that is to be stored.
    pub new: i32,
    /// Which rule.
    pub reason: u8,
}

/// Merges the changes of two transactions to one object.
///
/// It may be asked by many threads at once, and while locks are held.
pub trait Resolver: fmt::Debug + Send + Sync {
    /// Whether it may have something to say to a conflict about this record, which is to be stored. If not, the
    /// other records need not be read, and nobody waits for that. Asked on threads that serve connections: the answer
    /// must be quick.
    fn may_know(&self, oid: Oid, new: &Bytes) -> bool {
        let _ = (oid, new);
        true
    }

    /// Looks at a conflict.
    fn resolve(&self, conflict: &ResolveRequest<'_>) -> Resolution;

    /// An undo fails because this conflict has not been resolved. That of a commit is told by its vote, with the class
    /// of the object; what a failed undo tells does not have it.
    fn undo_failed(&self, _conflict: &ResolveRequest<'_>) {}
}

/// As the reference prints it.
impl fmt::Display for BTreesConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { old, committed, new, reason } = self;
        let text = REASONS.get(usize::from(*reason)).copied().unwrap_or("Unknown reason");
        write!(f, "BTrees conflict error at {old}/{committed}/{new}: {text}")
    }
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BTrees(conflict) => conflict.fmt(f),
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// What ZODB says for each reason.
const REASONS: [&str; 14] = [
    "Conflicting bucket split",
    "Conflicting changes",
    "Conflicting delete and change",
    "Conflicting delete and change",
    "Conflicting inserts or deletes",
    "Conflicting deletes",
    "Conflicting inserts",
    "Conflicting deletes, or delete and change",
    "Conflicting deletes, or delete and change",
    "Conflicting deletes",
    "Empty bucket from deleting all keys",
    "Conflicting changes in an internal BTree node",
    "Empty bucket in a transaction",
    "Delete of first key",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_btrees_conflict_reads_as_zodb_prints_it() {
        let conflict = BTreesConflict { old: -1, committed: -1, new: -1, reason: 12 };
        let expected = "BTrees conflict error at -1/-1/-1: Empty bucket in a transaction";
        assert_eq!(Disagreement::BTrees(conflict).to_string(), expected);
    }
}
