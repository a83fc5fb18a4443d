//! One client's transaction, from `tpc_begin` to its end.

use crate::{Rules, locks::LockSet, session::Caller};
use bytes::Bytes;
use zeolith_storage::{RecordData, TransactionId, Write, WriteSet};
use zeolith_types::{Oid, Refusal, Tid, TransactionStart, Value};

/// A transaction of a session.
#[derive(Debug)]
pub(crate) struct Transaction {
    /// How the client names it.
    pub(crate) id: Value,
    /// What the client will ask by what became of it.
    pub(crate) token: Option<Bytes>,
    /// What it wants written, in the order in which the client said it.
    pub(crate) writes: WriteSet,
    /// Bytes of all records.
    pub(crate) size: u64,
    /// Bytes of the records that are in memory.
    in_memory: u64,
    /// The first of the writes whose records may be in memory.
    first_in_memory: usize,
    /// What vote must answer because of something that the client said before.
    pub(crate) doom: Option<Refusal>,
    /// Bytes of the blob that is being uploaded for it, as far as they have come.
    pub(crate) uploading: Option<u64>,
    /// Bytes of all other blobs.
    blobs: u64,
    /// How far it is.
    pub(crate) phase: Phase,
}

/// What became of one more write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It is remembered.
    Kept,
    /// It is remembered, and these records must be put aside: the transaction has too much in memory.
    MemoryFull(Vec<Bytes>),
    /// The transaction has become too large: what it wanted is forgotten, and its vote will say so.
    TooLarge,
}

/// What becomes of a piece of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Uploaded {
    /// It is part of the blob.
    Kept,
    /// With it the transaction has become too large, and its vote will say so.
    TooLarge,
    /// The transaction can't succeed, so nobody needs it.
    Doomed,
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
        Self {
            id: start.id,
            token: start.token,
            writes,
            size: 0,
            in_memory: 0,
            first_in_memory: 0,
            doom: None,
            uploading: None,
            blobs: 0,
            phase: Phase::Collecting,
        }
    }

    pub(crate) fn push(&mut self, write: Write, rules: &Rules) -> Pushed {
        // A transaction that can't be voted for any more takes no more memory either.
        if self.doom.is_some() {
            return Pushed::Kept;
        }
        let len = write.record().map_or(0, RecordData::len);
        self.size += len;
        self.in_memory += len;
        if let Write::StoreBlob { blob, .. } = &write {
            self.blobs = self.blobs.saturating_add(blob.size());
        }
        self.writes.writes.push(write);
        if self.gives_up_if_too_large(rules) {
            return Pushed::TooLarge;
        }
        if self.in_memory > rules.transaction_memory_max {
            return Pushed::MemoryFull(self.records_in_memory());
        }
        Pushed::Kept
    }

    /// A piece of a blob comes; whether the transaction takes it.
    pub(crate) fn upload(&mut self, len: u64, rules: &Rules) -> Uploaded {
        if self.doom.is_some() {
            return Uploaded::Doomed;
        }
        self.uploading = self.uploading.map(|size| size.saturating_add(len));
        if self.gives_up_if_too_large(rules) { Uploaded::TooLarge } else { Uploaded::Kept }
    }

    fn gives_up_if_too_large(&mut self, rules: &Rules) -> bool {
        let writes = self.size + self.writes.writes.len() as u64 * WRITE_SIZE;
        let blobs = self.blobs.saturating_add(self.uploading.unwrap_or(0));
        let is_too_large = writes.saturating_add(blobs) > rules.transaction_size_max;
        if is_too_large {
            self.give_up(too_large(rules.transaction_size_max));
        }
        is_too_large
    }

    fn records_in_memory(&self) -> Vec<Bytes> {
        let records = self.writes.writes[self.first_in_memory..].iter().filter_map(Write::record);
        let in_memory = |data: &RecordData| match data {
            RecordData::Memory(bytes) => Some(bytes.clone()),
            RecordData::Spooled(_) => None,
        };
        records.filter_map(in_memory).collect()
    }

    /// The records that were in memory are elsewhere now: these, in their order.
    pub(crate) fn put_aside(&mut self, records: Vec<RecordData>) {
        let mut records = records.into_iter();
        for write in &mut self.writes.writes[self.first_in_memory..] {
            if let Write::Store { data, .. }
            | Write::StoreBlob { data, .. }
            | Write::Restore { data: Some(data), .. } = write
                && matches!(data, RecordData::Memory(_))
            {
                *data = records.next().expect("every record that was in memory has been put aside");
            }
        }
        self.first_in_memory = self.writes.writes.len();
        self.in_memory = 0;
    }

    /// It can't succeed any more: forgets what it wanted; its vote will say why.
    pub(crate) fn give_up(&mut self, refusal: Refusal) {
        self.writes.writes = Vec::new();
        (self.first_in_memory, self.in_memory) = (0, 0);
        self.doom.get_or_insert(refusal);
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

fn too_large(size_max: u64) -> Refusal {
    Refusal::Storage(format!(
        "the transaction is larger than {size_max} bytes; commit in smaller parts, or raise transaction-size-max"
    ))
}

/// What a write takes beside its record, about: a transaction of very many empty ones is large, too.
const WRITE_SIZE: u64 = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use zeolith_storage::UploadedBlob;

    const RULES: Rules =
        Rules { collects_conflicts: false, transaction_memory_max: 100, transaction_size_max: 10_000 };

    fn transaction(writes: Vec<Write>) -> Transaction {
        let start = TransactionStart {
            id: Value::Int(1),
            user: Bytes::new(),
            description: Bytes::new(),
            extension: Bytes::new(),
            tid: None,
            status: b' ',
            token: None,
        };
        let mut transaction = Transaction::begin(start);
        writes.into_iter().for_each(|write| assert_eq!(transaction.push(write, &RULES), Pushed::Kept));
        transaction
    }

    fn store(oid: u64, serial: u64) -> Write {
        Write::Store { oid: Oid::new(oid), serial: Tid::new(serial), data: "record".into() }
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
    fn what_is_too_much_for_memory_is_put_aside_once_and_in_order() {
        let mut transaction = transaction(vec![store(1, 1), store(2, 1)]);
        let large = |oid| Write::Store { oid: Oid::new(oid), serial: Tid::ZERO, data: vec![b'x'; 95].into() };
        let pushed = transaction.push(large(3), &RULES);
        let record = Bytes::from_static(b"record");
        assert_eq!(pushed, Pushed::MemoryFull(vec![record.clone(), record, vec![b'x'; 95].into()]));
        transaction.put_aside(["a", "b", "c"].map(RecordData::from).to_vec());
        let kept: Vec<_> = transaction.writes.writes.iter().filter_map(Write::record).cloned().collect();
        assert_eq!(kept, ["a", "b", "c"].map(RecordData::from));
        assert_eq!(transaction.push(large(4), &RULES), Pushed::Kept);
        let Pushed::MemoryFull(again) = transaction.push(store(5, 1), &RULES) else {
            unreachable!("101 bytes are too much")
        };
        assert_eq!(again.len(), 2);
    }

    #[test]
    fn a_transaction_that_is_too_large_is_forgotten_and_its_vote_says_so() {
        let check = |oid| Write::Check { oid: Oid::new(oid), serial: Tid::new(1) };
        let mut transaction = transaction((0..50).map(check).collect());
        assert_eq!(transaction.push(check(50), &RULES), Pushed::TooLarge);
        assert!(transaction.writes.writes.is_empty());
        assert!(matches!(&transaction.doom, Some(Refusal::Storage(why)) if why.contains("10000 bytes")));
        assert_eq!(transaction.push(check(51), &RULES), Pushed::Kept);
        assert!(transaction.writes.writes.is_empty());
    }

    #[test]
    fn blobs_count_from_their_first_byte_to_the_end_of_the_transaction() {
        let blob = |size| Write::StoreBlob {
            oid: Oid::new(1),
            serial: Tid::ZERO,
            data: "".into(),
            blob: UploadedBlob::new((), size),
        };
        let mut transaction = transaction(vec![blob(5_000)]);
        transaction.uploading = Some(0);
        assert_eq!(transaction.upload(4_800, &RULES), Uploaded::Kept);
        assert_eq!(transaction.upload(1, &RULES), Uploaded::TooLarge);
        assert!(transaction.writes.writes.is_empty());
        assert!(matches!(&transaction.doom, Some(Refusal::Storage(why)) if why.contains("10000 bytes")));
        assert_eq!(transaction.upload(1, &RULES), Uploaded::Doomed);
        let mut shared = super::tests::transaction(vec![blob(5_000)]);
        assert_eq!(shared.push(blob(u64::MAX), &RULES), Pushed::TooLarge);
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
