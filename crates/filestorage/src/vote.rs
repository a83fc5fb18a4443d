//! Checks a transaction against the current revisions and prepares its bytes.
//!
//! The caller holds the locks of the objects, so what is read here stays true until the transaction ends.

use crate::{
    file::{Content, DataFile, Record, Want},
    format::{self, POSITION_MAX},
    index::Index,
    nearby::Nearby,
    prepare::{Body, Prepared},
    recent::Recent,
    undo::Latest,
};
use bytes::Bytes;
use std::collections::BTreeSet;
use zeolith_storage::{
    ConflictPolicy, Patience, RecordData, Resolver, Result, StorageError, Undone, Write, WriteSet,
};
use zeolith_types::{Conflict, Oid, Tid};

/// What a vote is checked against.
pub(crate) struct Voter<'a> {
    pub(crate) file: &'a DataFile,
    pub(crate) index: &'a Index,
    pub(crate) recent: &'a Recent,
    /// Where the current records are read.
    pub(crate) nearby: Nearby<'a>,
    /// The end of what is durable.
    pub(crate) end: u64,
    /// Bytes of the other voted transactions, which may come before this one.
    pub(crate) ahead: u64,
    pub(crate) quota: Option<u64>,
    pub(crate) policy: ConflictPolicy,
    pub(crate) patience: Patience,
    pub(crate) resolver: Option<&'a dyn Resolver>,
}

/// A checked transaction.
pub(crate) enum Checked {
    Prepared {
        prepared: Prepared,
        /// The objects whose conflicts were resolved, each once.
        resolved: Vec<Oid>,
        /// The objects that an undo touched.
        undone: Vec<Undone>,
    },
    Conflicts(Vec<Conflict>),
}

impl Voter<'_> {
    /// Goes through the writes in order.
    pub(crate) fn check(&self, writes: &WriteSet) -> Result<Checked> {
        let mut prepared = Prepared::new(writes, status(writes)?)?;
        if writes.tid.is_some_and(|tid| tid > Tid::MAX) {
            return Err(StorageError::Format("no tid could come after the given one".into()));
        }
        let mut conflicts: Vec<Conflict> = Vec::new();
        let (mut resolved, mut undone, mut latest) = (BTreeSet::new(), Vec::new(), Latest::default());
        for write in &writes.writes {
            if let Write::Undo { tid } = write {
                undone.extend(self.undo(*tid, &mut latest, &mut prepared)?);
            } else if let Some(conflict) = self.write(write, &mut prepared, &mut resolved)? {
                if self.policy == ConflictPolicy::Refuse {
                    return Err(StorageError::Conflict(conflict));
                }
                conflicts.retain(|earlier| earlier.oid != conflict.oid);
                conflicts.push(conflict);
            } else if let Write::Store { oid, .. } = write {
                conflicts.retain(|earlier| earlier.oid != *oid);
            }
        }
        if !conflicts.is_empty() {
            return Ok(Checked::Conflicts(conflicts));
        }
        prepared.seal();
        if self.end + self.ahead + prepared.len() > POSITION_MAX {
            return Err(StorageError::Format("the file would grow past what its index can address".into()));
        }
        Ok(Checked::Prepared { prepared, resolved: resolved.into_iter().collect(), undone })
    }

    fn write(
        &self,
        write: &Write,
        prepared: &mut Prepared,
        resolved: &mut BTreeSet<Oid>,
    ) -> Result<Option<Conflict>> {
        match write {
            Write::Store { oid, serial, data } => self.store(*oid, *serial, data, prepared, resolved),
            Write::StoreBlob { .. } => Err(StorageError::NoBlobs),
            Write::Restore { oid, serial, data, prev_txn } => {
                self.restore(*oid, *serial, data.as_ref(), *prev_txn, prepared).map(|()| None)
            }
            Write::Delete { oid, serial } => self.delete(*oid, *serial, prepared).map(|()| None),
            Write::Check { oid, serial } => self.check_current(*oid, *serial).map(|()| None),
            Write::Undo { .. } => Ok(None),
        }
    }

    fn store(
        &self,
        oid: Oid,
        serial: Tid,
        data: &RecordData,
        prepared: &mut Prepared,
        resolved: &mut BTreeSet<Oid>,
    ) -> Result<Option<Conflict>> {
        let position = self.index.get(oid);
        let mut merged = None;
        if let Some(current) = self.unless_revision(oid, position, serial)? {
            merged = self.resolve_store(oid, serial, &current, data)?.map(RecordData::from);
            if merged.is_none() {
                let committed = current.header.tid;
                let data = data.bytes(self.patience)?;
                return Ok(Some(Conflict { oid, committed, read: serial, data }));
            }
            resolved.insert(oid);
        }
        let data = merged.as_ref().unwrap_or(data);
        self.check_quota(prepared)?;
        // A record without data can't be told from a backpointer.
        if data.is_empty() {
            return Err(StorageError::Format(format!("the record of {oid} is empty")));
        }
        prepared.push(oid, None, position.unwrap_or(0), &Body::Data(data));
        Ok(None)
    }

    fn delete(&self, oid: Oid, serial: Tid, prepared: &mut Prepared) -> Result<()> {
        let current = self.current(oid)?.ok_or(StorageError::NoObject(oid))?;
        if current.header.tid != serial {
            let committed = current.header.tid;
            return Err(StorageError::Conflict(Conflict {
                oid,
                committed,
                read: serial,
                data: Bytes::new(),
            }));
        }
        self.check_quota(prepared)?;
        prepared.push(oid, None, current.position, &Body::Backpointer(0));
        Ok(())
    }

    fn check_current(&self, oid: Oid, serial: Tid) -> Result<()> {
        let position = self.index.get(oid);
        if position.is_some_and(|position| self.recent.is_revision(position, serial)) {
            return Ok(());
        }
        let current = self.current(oid)?.filter(|record| !record.is_gone());
        let current = current.ok_or(StorageError::NoObject(oid))?;
        if current.header.tid != serial {
            return Err(StorageError::ReadConflict { oid, committed: current.header.tid, read: serial });
        }
        Ok(())
    }

    fn restore(
        &self,
        oid: Oid,
        serial: Tid,
        data: Option<&RecordData>,
        prev_txn: Option<Tid>,
        prepared: &mut Prepared,
    ) -> Result<()> {
        let current = self.current(oid)?;
        let prev = current.as_ref().map_or(0, |record| record.position);
        let twin = match (current, prev_txn) {
            (Some(current), Some(prev_txn)) => self.twin(current, prev_txn, data)?,
            _ => None,
        };
        let body = match (twin, data) {
            (Some(twin), _) => Body::Backpointer(twin),
            (None, Some(data)) if !data.is_empty() => Body::Data(data),
            (None, Some(_)) => return Err(StorageError::Format(format!("the record of {oid} is empty"))),
            (None, None) => Body::Backpointer(0),
        };
        prepared.push(oid, Some(serial), prev, &body);
        Ok(())
    }

    /// Where the record of transaction `tid` is, if it holds the same data.
    fn twin(&self, current: Record, tid: Tid, data: Option<&RecordData>) -> Result<Option<u64>> {
        let mut next = Some(current);
        while let Some(record) = next {
            if record.header.tid == tid {
                let position = record.position;
                let same = match self.file.content(record, self.end, self.patience)? {
                    Content::Data(old) => match data {
                        Some(data) if data.len() == old.len() as u64 => data.bytes(self.patience)? == old,
                        _ => false,
                    },
                    Content::Gone => data.is_none(),
                };
                return Ok(same.then_some(position));
            }
            next = self.file.previous(&record, self.end, Want::Header, self.patience)?;
        }
        Ok(None)
    }

    /// The current record, if there is one and it is another revision than `serial`.
    fn unless_revision(&self, oid: Oid, position: Option<u64>, serial: Tid) -> Result<Option<Record>> {
        let Some(position) = position else { return Ok(None) };
        if self.recent.is_revision(position, serial) {
            return Ok(None);
        }
        let current = self.nearby.record(oid, position)?;
        Ok((current.header.tid != serial).then_some(current))
    }

    pub(crate) fn current(&self, oid: Oid) -> Result<Option<Record>> {
        let Some(position) = self.index.get(oid) else { return Ok(None) };
        self.nearby.record(oid, position).map(Some)
    }

    /// The reference compares the quota with where a record begins, so one may reach beyond.
    fn check_quota(&self, prepared: &Prepared) -> Result<()> {
        match self.quota {
            Some(quota) if self.end + self.ahead + prepared.len() > quota => {
                Err(StorageError::Quota { quota })
            }
            _ => Ok(()),
        }
    }
}

/// Any other status would have readers skip the transaction, or cut it off.
fn status(writes: &WriteSet) -> Result<u8> {
    match writes.status {
        0 => Ok(format::STATUS_COMMITTED),
        status @ (format::STATUS_COMMITTED | format::STATUS_PACKED) => Ok(status),
        status => Err(StorageError::Format(format!("a transaction can't have status {status:#04x}"))),
    }
}
