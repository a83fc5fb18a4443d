//! Checks a transaction against both storages, and hands what is left to do to the changes.

use super::{DemoStorage, lacks};
use bytes::Bytes;
use std::collections::BTreeSet;
use zeolith_storage::{
    ConflictPolicy, Patience, RecordData, Resolution, ResolveRequest, Result, StorageError, TransactionId,
    Voted, Write, WriteSet,
};
use zeolith_types::{Conflict, Oid, Tid};

/// What becomes of a store.
enum Admitted {
    /// It can go on with this serial and record.
    Store { serial: Tid, data: RecordData, was_resolved: bool },
    /// Somebody else was quicker, and nobody resolved it.
    Conflict(Conflict),
}

impl DemoStorage {
    /// The changes see nothing of a conflict: they do not know what the base knows.
    pub(super) fn vote_over_base(
        &self,
        id: TransactionId,
        mut writes: WriteSet,
        policy: ConflictPolicy,
        patience: Patience,
    ) -> Result<Voted> {
        if writes.tid.is_some_and(|tid| tid <= self.base_tid) {
            return Err(StorageError::Format("a transaction must come after the last one".into()));
        }
        let asked = std::mem::take(&mut writes.writes);
        let (mut conflicts, mut resolved) = (Vec::<Conflict>::new(), BTreeSet::new());
        for write in asked {
            let (oid, admitted, blob) = match write {
                Write::Store { oid, serial, data } => {
                    (oid, self.admit(oid, serial, data, policy, patience)?, None)
                }
                Write::StoreBlob { oid, serial, data, blob } => {
                    (oid, self.admit(oid, serial, data, policy, patience)?, Some(blob))
                }
                Write::Check { oid, serial } => {
                    self.check(oid, serial, patience)?;
                    continue;
                }
                Write::Undo { tid } => {
                    if !self.changes.info().supports_undo {
                        return Err(lacks("undo"));
                    }
                    writes.writes.push(Write::Undo { tid });
                    continue;
                }
                Write::Restore { .. } => return Err(lacks("restore")),
                Write::Delete { .. } => return Err(lacks("deleteObject")),
            };
            conflicts.retain(|earlier| earlier.oid != oid);
            match admitted {
                Admitted::Store { serial, data, was_resolved } => {
                    if was_resolved {
                        resolved.insert(oid);
                    }
                    writes.writes.push(match blob {
                        None => Write::Store { oid, serial, data },
                        Some(blob) => Write::StoreBlob { oid, serial, data, blob },
                    });
                }
                Admitted::Conflict(conflict) if policy == ConflictPolicy::Refuse => {
                    return Err(StorageError::Conflict(conflict));
                }
                Admitted::Conflict(conflict) => conflicts.push(conflict),
            }
        }
        if !conflicts.is_empty() {
            return Ok(Voted::Conflicts(conflicts));
        }
        let mut voted = self.changes.vote(id, writes, policy, patience)?;
        if let Voted::Ready { resolved: by_changes, .. } = &mut voted {
            resolved.extend(by_changes.drain(..));
            by_changes.extend(resolved);
        }
        Ok(voted)
    }

    fn admit(
        &self,
        oid: Oid,
        read: Tid,
        data: RecordData,
        policy: ConflictPolicy,
        patience: Patience,
    ) -> Result<Admitted> {
        let committed = match self.newest_tid(oid, patience) {
            Ok(committed) if committed != read => committed,
            Ok(_) | Err(StorageError::NoObject(_)) => {
                return Ok(Admitted::Store { serial: read, data, was_resolved: false });
            }
            Err(error) => return Err(error),
        };
        let data = data.bytes(patience)?;
        match self.merge(oid, committed, read, &data, policy, patience)? {
            Some(data) => Ok(Admitted::Store { serial: committed, data: data.into(), was_resolved: true }),
            None => Ok(Admitted::Conflict(Conflict { oid, committed, read, data })),
        }
    }

    /// The record that holds both what has been committed and what the client made of revision `read`, if there
    /// is one.
    fn merge(
        &self,
        oid: Oid,
        committed_tid: Tid,
        read_tid: Tid,
        new: &Bytes,
        policy: ConflictPolicy,
        patience: Patience,
    ) -> Result<Option<Bytes>> {
        let Some(resolver) = self.resolver.as_ref().filter(|_| policy == ConflictPolicy::Refuse) else {
            return Ok(None);
        };
        if !resolver.may_know(oid, new) {
            return Ok(None);
        }
        if patience == Patience::Now {
            // A resolver takes its time.
            return Err(StorageError::WouldBlock);
        }
        let record = |serial| match self.load_exactly(oid, serial, patience) {
            Err(StorageError::NoObject(_)) => Ok(None),
            found => found.map(Some),
        };
        let (Some(old), Some(committed)) = (record(read_tid)?, record(committed_tid)?) else {
            return Ok(None);
        };
        let (old, committed) = (&old, &committed);
        let request = ResolveRequest { oid, committed_tid, read_tid, old, committed, new };
        Ok(match resolver.resolve(&request) {
            Resolution::Resolved(record) => Some(record),
            Resolution::Refused(_) | Resolution::NotMine => None,
        })
    }

    /// The caller holds the object's lock, so what is true here stays true.
    fn check(&self, oid: Oid, read: Tid, patience: Patience) -> Result<()> {
        let committed = self.newest_tid(oid, patience)?;
        if committed == read { Ok(()) } else { Err(StorageError::ReadConflict { oid, committed, read }) }
    }
}
