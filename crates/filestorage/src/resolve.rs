//! Asks the resolver about conflicts: gathers the three records that it needs.
//!
//! A conflict that nobody resolves stands, whatever the reason; the reference tells clients nothing else either.

use crate::{
    file::{Content, Record, Want},
    vote::Voter,
};
use bytes::Bytes;
use zeolith_storage::{
    ConflictPolicy, Patience, RecordData, Resolution, ResolveRequest, Result, StorageError,
};
use zeolith_types::{Oid, Tid};

impl Voter<'_> {
    /// The record that holds both what `current` says and what the client made of revision `read`, if there is
    /// one.
    pub(crate) fn resolve_store(
        &self,
        oid: Oid,
        read: Tid,
        current: &Record,
        new: &RecordData,
    ) -> Result<Option<Bytes>> {
        if self.is_hopeless(oid, new) || !self.may_resolve()? {
            return Ok(None);
        }
        let committed_tid = current.header.tid;
        let Some(old) = self.data_of(current, read)? else { return Ok(None) };
        let Some(committed) = self.data_of(current, committed_tid)? else { return Ok(None) };
        let (old, committed, new) = (&old, &committed, &new.bytes(self.patience)?);
        Ok(self.resolve(&ResolveRequest { oid, committed_tid, read_tid: read, old, committed, new }))
    }

    /// Whether the record alone tells that nobody will resolve this.
    fn is_hopeless(&self, oid: Oid, new: &RecordData) -> bool {
        match (self.resolver, self.policy, new) {
            (Some(resolver), ConflictPolicy::Refuse, RecordData::Memory(new)) => !resolver.may_know(oid, new),
            (None, _, _) | (_, ConflictPolicy::Collect, _) | (_, _, RecordData::Spooled(_)) => false,
        }
    }

    /// Whether there is a resolver, and clients do not resolve conflicts themselves.
    pub(crate) fn may_resolve(&self) -> Result<bool> {
        if self.resolver.is_none() || self.policy == ConflictPolicy::Collect {
            return Ok(false);
        }
        match self.patience {
            // A resolver takes its time.
            Patience::Now => Err(StorageError::WouldBlock),
            Patience::Wait | Patience::WaitUpTo(_) => Ok(true),
        }
    }

    /// The record that settles this conflict.
    pub(crate) fn resolve(&self, conflict: &ResolveRequest<'_>) -> Option<Bytes> {
        match self.resolver?.resolve(conflict) {
            Resolution::Resolved(record) => Some(record),
            Resolution::Refused(_) | Resolution::NotMine => None,
        }
    }

    /// The data of revision `tid`, which is `current` or an earlier one.
    fn data_of(&self, current: &Record, tid: Tid) -> Result<Option<Bytes>> {
        let oid = current.header.oid;
        let mut next = Some(self.file.record(oid, current.position, self.end, Want::Data, self.patience)?);
        while let Some(record) = next.filter(|record| record.header.tid >= tid) {
            if record.header.tid == tid {
                return Ok(match self.file.content(record, self.end, self.patience)? {
                    Content::Data(data) => Some(data),
                    Content::Gone => None,
                });
            }
            next = self.file.previous(&record, self.end, Want::Header, self.patience)?;
        }
        Ok(None)
    }
}
