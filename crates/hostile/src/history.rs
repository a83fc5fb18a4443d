//! A database as iteration shows it, to hold everything else that a storage says against it.

use bytes::Bytes;
use std::collections::BTreeMap;
use zeolith_filestorage::FileStorage;
use zeolith_storage::{Found, Patience, Storage, StorageError};
use zeolith_types::{Oid, Tid};

/// What one object was at one time; `None` if it did not exist.
pub(crate) type State = Option<Bytes>;

/// Everything that iteration has told.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) tids: Vec<Tid>,
    /// A record says that it is of another transaction than the one it stands in, which the scan does not look at.
    is_astray: bool,
    /// The revisions of each object in the order of the file; of several in one transaction the last.
    pub(crate) revisions: BTreeMap<Oid, Vec<(Tid, State)>>,
}

impl History {
    /// Goes through all transactions; `None` if one of them is damaged.
    pub(crate) fn of(storage: &FileStorage) -> Option<Self> {
        let mut history = Self::default();
        let transactions_max = storage.info().size;
        let mut transactions = damage(storage.iterate(None, None))?;
        while let Some(transaction) = damage(transactions.next_transaction())? {
            history.tids.push(transaction.tid);
            assert!(history.tids.len() as u64 <= transactions_max, "iteration comes to an end");
            let mut records = damage(transactions.records())?;
            while let Some(record) = damage(records.next_record())? {
                history.is_astray |= record.tid != transaction.tid;
                let revisions = history.revisions.entry(record.oid).or_default();
                revisions.retain(|(tid, _)| *tid != record.tid);
                revisions.push((record.tid, record.data));
            }
        }
        Some(history)
    }

    /// Whether every object's tids rise, as they do in every file that is in order.
    pub(crate) fn is_in_order(&self) -> bool {
        let rising = |tids: &[Tid]| tids.windows(2).all(|pair| pair[0] < pair[1]);
        !self.is_astray
            && rising(&self.tids)
            && self.revisions.values().all(|revisions| {
                let tids: Vec<Tid> = revisions.iter().map(|(tid, _)| *tid).collect();
                rising(&tids)
            })
    }

    /// Whether there is such a revision with this content.
    pub(crate) fn has(&self, oid: Oid, tid: Tid, data: &Bytes) -> bool {
        let revisions = self.revisions.get(&oid).map(Vec::as_slice).unwrap_or_default();
        revisions.iter().any(|(start, state)| *start == tid && state.as_ref() == Some(data))
    }

    /// Holds loads, serials, histories and the walk over current records against the revisions.
    pub(crate) fn agrees_with(&self, storage: &FileStorage) {
        for (oid, revisions) in &self.revisions {
            for (index, (tid, state)) in revisions.iter().enumerate() {
                let end = revisions.get(index + 1).map(|(next, _)| *next);
                let before = end.unwrap_or(Tid::new(u64::MAX));
                let loaded = damage(storage.load_before(*oid, before, Patience::Wait));
                let found = loaded.expect("what iteration has read can be loaded").found;
                match (state, found) {
                    (Some(data), Found::Revision(revision)) => {
                        assert_eq!((&revision.data, revision.start), (data, *tid), "{oid} before {before}");
                        assert_eq!(revision.end, end, "the end of {oid} at {tid}");
                        let serial = damage(storage.load_serial(*oid, *tid, Patience::Wait));
                        assert_eq!(serial.as_ref(), Some(data), "{oid} at {tid}");
                    }
                    (None, Found::NoObject) => {}
                    (state, found) => unreachable!("{oid} before {before} is {state:?} and {found:?}"),
                }
            }
            let entries = damage(storage.history(*oid, HISTORY_SIZE, Patience::Wait)).unwrap_or_default();
            let newest = revisions.last().map(|(tid, _)| *tid);
            assert_eq!(entries.first().map(|entry| entry.tid), newest, "history of {oid} begins at its end");
        }
        self.agrees_with_walk(storage);
    }

    fn agrees_with_walk(&self, storage: &FileStorage) {
        let mut next = None;
        for _ in 0..=self.revisions.len() {
            let Some(current) = damage(storage.record_iternext(next, Patience::Wait)) else { return };
            assert!(next.is_none_or(|next| next <= current.oid), "the walk goes on");
            assert!(self.has(current.oid, current.tid, &current.data), "{} is as iterated", current.oid);
            match current.next {
                Some(after) => {
                    assert!(after > current.oid, "oids rise");
                    next = Some(after);
                }
                None => return,
            }
        }
        unreachable!("a walk over current records comes to an end");
    }

    /// What every object is now.
    pub(crate) fn current(&self) -> BTreeMap<Oid, State> {
        let last = |revisions: &Vec<(Tid, State)>| revisions.last().and_then(|(_, state)| state.clone());
        self.revisions.iter().map(|(oid, revisions)| (*oid, last(revisions))).collect()
    }
}

/// What a storage says; `None` if it says that the file is damaged or there is nothing.
///
/// # Panics
/// It says something that no content of a file can be the reason for.
pub(crate) fn damage<T>(result: zeolith_storage::Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(
            StorageError::Corrupt { .. }
            | StorageError::NoObject(_)
            | StorageError::Empty(_)
            | StorageError::Undo(_)
            | StorageError::UndoOf(_)
            | StorageError::Format(_)
            | StorageError::Conflict(_)
            | StorageError::ReadConflict { .. },
        ) => None,
        Err(error) => unreachable!("nothing in a file leads to this: {error}"),
    }
}

/// More than any input has revisions of one object.
const HISTORY_SIZE: usize = 1000;
