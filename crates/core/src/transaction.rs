//! One client's transaction, from `tpc_begin` to its end.

use crate::{locks::LockSet, session::Caller};
use zeolith_storage::{TransactionId, Write, WriteSet};
use zeolith_types::{Oid, Refusal, Tid, TransactionStart, Value};

/// A transaction of a session.
#[derive(Debug)]
pub(crate) struct Transaction {
    /// How the client names it.
    pub(crate) id: Value,
    /// What it wants written, in the order in which the client said it.
    pub(crate) writes: WriteSet,
    /// Bytes of all records.
    pub(crate) size: u64,
    /// What vote must answer because of something that the client said before.
    pub(crate) doom: Option<Refusal>,
    /// How far it is.
    pub(crate) phase: Phase,
}

/// How far a transaction is. Locks are held from `Voting` on.
#[derive(Debug)]
pub(crate) enum Phase {
    /// The client says what it wants.
    Collecting,
    /// The vote waits for locks.
    Waiting { call: Caller, transaction: TransactionId },
    /// The storage looks at it.
    Voting { call: Caller, transaction: TransactionId },
    /// It can be finished.
    Voted { transaction: TransactionId, changed: Vec<Oid> },
    /// The log writer has it.
    Finishing { call: Caller },
}

/// What the storage is asked at vote, once the locks are held.
#[derive(Debug)]
pub struct VoteRequest {
    /// The ticket that holds the locks.
    pub transaction: TransactionId,
    /// What the client wants written.
    pub writes: WriteSet,
    /// Bytes of all records, to tell work for this task from work for the pool.
    pub size: u64,
}

/// A vote that will not be finished: its locks must be released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abandoned {
    /// The ticket.
    pub transaction: TransactionId,
    /// Whether the storage has voted and must forget it.
    pub voted: bool,
}

impl Transaction {
    pub(crate) fn begin(start: TransactionStart) -> Self {
        let writes = WriteSet {
            user: start.user,
            description: start.description,
            extension: start.extension,
            tid: start.tid,
            status: start.status,
            writes: Vec::new(),
        };
        Self { id: start.id, writes, size: 0, doom: None, phase: Phase::Collecting }
    }

    pub(crate) fn push(&mut self, write: Write) {
        self.size += match &write {
            Write::Store { data, .. }
            | Write::StoreBlob { data, .. }
            | Write::Restore { data: Some(data), .. } => data.len() as u64,
            Write::Restore { data: None, .. }
            | Write::Delete { .. }
            | Write::Check { .. }
            | Write::Undo { .. } => 0,
        };
        self.writes.writes.push(write);
    }

    /// What its vote must hold.
    ///
    /// A copy from another database brings its tid along and can't be checked, so it takes the whole
    /// storage. So does an undo, which only the storage can tell the objects of. So does a transaction that names no existing object: it has nothing of its own to
    /// hold, and the reference lets such commits wait for each other.
    pub(crate) fn lock_set(&self) -> LockSet {
        let writes = &self.writes.writes;
        let unnamed = |w: &Write| matches!(w, Write::Restore { .. } | Write::Undo { .. });
        let depends_on_all = self.writes.tid.is_some() || writes.iter().any(unnamed);
        let creates = |w: &Write| matches!(w, Write::Store { serial, .. } | Write::StoreBlob { serial, .. } if *serial == Tid::ZERO);
        if depends_on_all || (!writes.is_empty() && writes.iter().all(creates)) {
            return LockSet::WholeStorage;
        }
        let mut oids: Vec<Oid> = writes.iter().filter_map(Write::oid).collect();
        oids.sort_unstable();
        oids.dedup();
        LockSet::Objects(oids)
    }

    /// The ticket and state that must be cleaned up if the transaction ends now. `None` while the
    /// storage is looking at it (who asked the storage cleans up) and when nothing is held.
    pub(crate) fn abandoned(&self) -> Option<Abandoned> {
        match self.phase {
            Phase::Waiting { transaction, .. } => Some(Abandoned { transaction, voted: false }),
            Phase::Voted { transaction, .. } => Some(Abandoned { transaction, voted: true }),
            Phase::Collecting | Phase::Voting { .. } | Phase::Finishing { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn transaction(writes: Vec<Write>) -> Transaction {
        let start = TransactionStart {
            id: Value::Int(1),
            user: Bytes::new(),
            description: Bytes::new(),
            extension: Bytes::new(),
            tid: None,
            status: b' ',
        };
        let mut transaction = Transaction::begin(start);
        writes.into_iter().for_each(|write| transaction.push(write));
        transaction
    }

    fn store(oid: u64, serial: u64) -> Write {
        Write::Store { oid: Oid::new(oid), serial: Tid::new(serial), data: Bytes::from_static(b"record") }
    }

    #[test]
    fn a_commit_locks_each_object_that_it_names_once() {
        let check = Write::Check { oid: Oid::new(1), serial: Tid::new(5) };
        let transaction = transaction(vec![store(9, 0), store(4, 3), store(4, 3), check]);
        assert_eq!(transaction.lock_set(), LockSet::Objects([1, 4, 9].map(Oid::new).to_vec()));
        assert_eq!(transaction.size, 18);
    }

    #[test]
    fn a_commit_that_names_no_existing_object_takes_the_whole_storage() {
        assert_eq!(transaction(vec![store(9, 0), store(8, 0)]).lock_set(), LockSet::WholeStorage);
        assert_eq!(transaction(vec![]).lock_set(), LockSet::Objects(vec![]));
    }

    #[test]
    fn a_copy_takes_the_whole_storage() {
        let copy = Write::Restore { oid: Oid::new(1), serial: Tid::new(5), data: None, prev_txn: None };
        assert_eq!(transaction(vec![store(4, 3), copy]).lock_set(), LockSet::WholeStorage);
    }

    #[test]
    fn an_undo_takes_the_whole_storage() {
        let undo = Write::Undo { tid: Tid::new(5) };
        assert_eq!(transaction(vec![store(4, 3), undo]).lock_set(), LockSet::WholeStorage);
    }
}
