//! Reads of one object through both storages.
//!
//! The changes know an object or they don't. If they know it, they say when it was changed; before that, it was
//! as the base says. Where a change says that the object does not exist, which is what an undo of the object's
//! first change leaves, it is from then on what the base says again. The reference shows the base's own
//! tid then, and takes no further change of the object.

use super::DemoStorage;
use bytes::Bytes;
use zeolith_storage::{Found, Load, Patience, Result, StorageError};
use zeolith_types::{HistoryEntry, Oid, Revision, Tid};

/// Where a tid lies among the revisions of an object in the changes.
struct Neighbours {
    newest_before: Option<Tid>,
    oldest_from: Option<Tid>,
}

impl DemoStorage {
    pub(super) fn load_both(&self, oid: Oid, before: Tid, patience: Patience) -> Result<Load> {
        let Load { found, as_of } = self.changes.load_before(oid, before, patience)?;
        let found = match found {
            Found::Revision(revision) => Found::Revision(revision),
            Found::NoObject => match self.neighbours(oid, before, as_of, patience)? {
                None => self.base.load_before(oid, before, patience)?.found,
                Some(Neighbours { newest_before: Some(start), oldest_from }) => {
                    match self.base.load_before(oid, Tid::MAX, patience)?.found {
                        Found::Revision(Revision { data, .. }) => {
                            Found::Revision(Revision { data, start, end: oldest_from })
                        }
                        Found::NothingBefore | Found::NoObject => Found::NoObject,
                    }
                }
                Some(neighbours) => self.load_from_base(oid, before, &neighbours, patience)?,
            },
            Found::NothingBefore => {
                let neighbours = self.neighbours(oid, before, as_of, patience)?;
                let neighbours = neighbours.unwrap_or(Neighbours { newest_before: None, oldest_from: None });
                self.load_from_base(oid, before, &neighbours, patience)?
            }
        };
        Ok(Load { found, as_of: as_of.max(self.base_tid) })
    }

    /// What the base says of an object that has no change before `before`, but later ones.
    fn load_from_base(
        &self,
        oid: Oid,
        before: Tid,
        changes: &Neighbours,
        patience: Patience,
    ) -> Result<Found> {
        Ok(match self.base.load_before(oid, before, patience)?.found {
            Found::Revision(Revision { data, start, end }) => {
                Found::Revision(Revision { data, start, end: end.or(changes.oldest_from) })
            }
            Found::NothingBefore | Found::NoObject => Found::NothingBefore,
        })
    }

    pub(super) fn load_exactly(&self, oid: Oid, serial: Tid, patience: Patience) -> Result<Bytes> {
        match self.changes.load_serial(oid, serial, patience) {
            Err(StorageError::NoObject(_)) => {}
            found => return found,
        }
        let serial = self.serial_in_base(oid, serial, patience)?;
        self.base.load_serial(oid, serial, patience)
    }

    pub(super) fn newest_tid(&self, oid: Oid, patience: Patience) -> Result<Tid> {
        match self.changes.current_tid(oid, patience) {
            Err(StorageError::NoObject(_)) => {}
            found => return found,
        }
        let in_base = self.base.current_tid(oid, patience)?;
        let neighbours = self.neighbours(oid, Tid::MAX, Tid::MAX, patience)?;
        Ok(neighbours.and_then(|neighbours| neighbours.newest_before).unwrap_or(in_base))
    }

    pub(super) fn history_of_both(
        &self,
        oid: Oid,
        size: usize,
        patience: Patience,
    ) -> Result<Vec<HistoryEntry>> {
        let mut entries = match self.changes.history(oid, size, patience) {
            Err(StorageError::NoObject(_)) => Vec::new(),
            found => found?,
        };
        let rest = size.saturating_sub(entries.len());
        if rest == 0 {
            return Ok(entries);
        }
        match self.base.history(oid, rest, patience) {
            Ok(older) => entries.extend(older),
            Err(StorageError::NoObject(_)) if !entries.is_empty() => {}
            Err(error) => return Err(error),
        }
        Ok(entries)
    }

    /// The revision of the base that is meant by `serial`: another one only where a change has made the object
    /// what the base says.
    pub(super) fn serial_in_base(&self, oid: Oid, serial: Tid, patience: Patience) -> Result<Tid> {
        if serial <= self.base_tid {
            return Ok(serial);
        }
        let after = Tid::new(serial.get().saturating_add(1));
        let neighbours = self.neighbours(oid, after, Tid::MAX, patience)?;
        match neighbours.and_then(|neighbours| neighbours.newest_before) {
            Some(tid) if tid == serial => self.base.current_tid(oid, patience),
            Some(_) | None => Ok(serial),
        }
    }

    /// The changes of an object on both sides of `before`, as far as they are not above `as_of`; `None` if there
    /// is none. Looks no further back than it must.
    fn neighbours(
        &self,
        oid: Oid,
        before: Tid,
        as_of: Tid,
        patience: Patience,
    ) -> Result<Option<Neighbours>> {
        let mut size = HISTORY_FIRST;
        loop {
            let entries = match self.changes.history(oid, size, patience) {
                Err(StorageError::NoObject(_)) => return Ok(None),
                found => found?,
            };
            let is_all = entries.len() < size;
            let mut tids = entries.iter().map(|entry| entry.tid).filter(|tid| *tid <= as_of).peekable();
            if is_all && tids.peek().is_none() {
                return Ok(None);
            }
            let mut oldest_from = None;
            while let Some(tid) = tids.next_if(|tid| *tid >= before) {
                oldest_from = Some(tid);
            }
            let newest_before = tids.next();
            if is_all || newest_before.is_some() {
                return Ok(Some(Neighbours { newest_before, oldest_from }));
            }
            size = size.saturating_mul(HISTORY_GROWTH);
        }
    }
}

/// So many revisions are looked at at first: nearly always the newest is the one.
const HISTORY_FIRST: usize = 2;
/// How many times as many are looked at next.
const HISTORY_GROWTH: usize = 8;
