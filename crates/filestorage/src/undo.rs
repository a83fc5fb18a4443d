//! Undo: a new record for every object of a transaction, pointing back to the data from before it.
//!
//! The caller holds the whole storage, so everything that is finished is also published, and nothing
//! comes between the vote and its place at the end of the file.

use crate::{
    file::{Content, Record, Want},
    format::{STATUS_COMMITTED, STATUS_PACKED, TransactionHeader},
    prepare::{Body, Prepared, Written},
    vote::Voter,
    walk::Backwards,
};
use bytes::Bytes;
use std::collections::HashMap;
use zeolith_storage::{Patience, RecordData, ResolveRequest, Result, StorageError, Undone};
use zeolith_types::{Oid, Tid};

/// The last record that the transaction itself has for each object, so far.
#[derive(Default)]
pub(crate) struct Latest {
    numbers: HashMap<Oid, usize>,
    seen: usize,
}

/// What becomes of one record of the undone transaction.
enum Reversal {
    /// The object gets a record that points there; 0 if it is not to exist.
    To(u64),
    /// The object gets a record of its own, which keeps what others have changed since.
    Merged(RecordData),
    /// It stands in the way, in the words of the reference.
    Failed(&'static str),
}

/// An object whose data is not that of the undone transaction any more.
struct Changed {
    oid: Oid,
    /// The undone transaction.
    tid: Tid,
    /// What it wrote.
    undone: Bytes,
    /// What there is now.
    current: Bytes,
}

/// The failures so far, each with its place among them.
#[derive(Default)]
struct Failures {
    by_oid: HashMap<Oid, (usize, &'static str)>,
    count: usize,
}

impl Voter<'_> {
    /// Undoes transaction `tid` and tells which objects that touches.
    pub(crate) fn undo(&self, tid: Tid, latest: &mut Latest, prepared: &mut Prepared) -> Result<Vec<Undone>> {
        if self.patience == Patience::Now {
            return Err(StorageError::WouldBlock);
        }
        latest.catch_up(prepared);
        let (start, header) = self.find(tid)?;
        let end = start + header.len;
        let mut position = start + header.header_len();
        let (mut touched, mut places, mut failures) =
            (Vec::<Undone>::new(), HashMap::new(), Failures::default());
        while position < end {
            let record = self.file.any_record(position, end, Want::Header, self.patience)?;
            let oid = record.header.oid;
            position += record.header.record_len();
            // A later record of the object can do what an earlier one could not.
            failures.by_oid.remove(&oid);
            let undone = self.undo_record(record, latest.of(oid, prepared))?;
            let body = match &undone {
                Reversal::Failed(why) => {
                    failures.add(oid, why);
                    continue;
                }
                Reversal::To(pointer) => Body::Backpointer(*pointer),
                Reversal::Merged(data) => Body::Data(data),
            };
            prepared.push(oid, None, self.index.get(oid).unwrap_or(0), &body);
            let back_to = match undone {
                Reversal::To(pointer) => self.transaction_of(oid, pointer)?,
                Reversal::Merged(_) | Reversal::Failed(_) => None,
            };
            let place = *places.entry(oid).or_insert(touched.len());
            let of_object = Undone { oid, tid, back_to };
            match touched.get_mut(place) {
                Some(earlier) => *earlier = of_object,
                None => touched.push(of_object),
            }
        }
        failures.into_result().map(|()| touched)
    }

    /// The transaction of the record at `position`; `None` if it says that the object does not exist.
    fn transaction_of(&self, oid: Oid, position: u64) -> Result<Option<Tid>> {
        if position == 0 {
            return Ok(None);
        }
        let record = self.file.record(oid, position, self.end, Want::Header, self.patience)?;
        let tid = record.header.tid;
        Ok(self.file.has_data(record, self.end, self.patience)?.then_some(tid))
    }

    /// The transaction, if it is after the last pack.
    fn find(&self, tid: Tid) -> Result<(u64, TransactionHeader)> {
        let mut walk = Backwards::new(self.file, self.end);
        while let Some((position, header)) = walk.next_any()? {
            if header.tid == tid {
                return match header.status {
                    STATUS_COMMITTED => Ok((position, header)),
                    _ => Err(StorageError::Undo("non-undoable transaction".into())),
                };
            }
            if header.status == STATUS_PACKED {
                break;
            }
        }
        Err(StorageError::Undo("Invalid transaction id".into()))
    }

    /// What undoes a record, if the object is as that record left it. `latest` is what the transaction
    /// that undoes has written for the object already.
    fn undo_record(&self, undone: Record, latest: Option<Written>) -> Result<Reversal> {
        let (oid, position, before) = (undone.header.oid, undone.position, undone.header.prev);
        let tid = undone.header.tid;
        let current = self.index.get(oid).unwrap_or(0);
        let (pointer, data) = match latest {
            None if current == position => return Ok(Reversal::To(before)),
            None => self.pointer_or_data(oid, current)?,
            Some(Written::Data(data)) => (0, Some(data.bytes(self.patience)?)),
            Some(Written::Backpointer(pointer)) => (pointer, None),
        };
        if pointer == position {
            return Ok(Reversal::To(before));
        }
        let Content::Data(data_undone) = self.file.content(undone, self.end, self.patience)? else {
            return Ok(Reversal::Failed("_loadBack() failed"));
        };
        let data = match data {
            None => self.data_at(oid, pointer)?,
            data => data,
        };
        match data {
            None => Ok(Reversal::Failed("_loadBack() failed")),
            Some(data) if data == data_undone => Ok(Reversal::To(before)),
            Some(data) => self.undo_changed(before, Changed { oid, tid, undone: data_undone, current: data }),
        }
    }

    /// The object has changed since: what it was before is merged with what it is now, as if the one and the
    /// other had been made of what is undone.
    fn undo_changed(&self, before: u64, changed: Changed) -> Result<Reversal> {
        if before == 0 {
            let why = "Can't undo an add transaction followed by conflicting transactions.";
            return Ok(Reversal::Failed(why));
        }
        let Changed { oid, tid, undone, current } = changed;
        let Some(data_before) = self.data_at(oid, before)? else {
            return Ok(Reversal::Failed("_loadBack() failed for %s"));
        };
        if self.may_resolve()? {
            let conflict = ResolveRequest {
                oid,
                committed_tid: self.current(oid)?.map_or(tid, |record| record.header.tid),
                read_tid: tid,
                old: &undone,
                committed: &current,
                new: &data_before,
            };
            match (self.resolve(&conflict), self.resolver) {
                (Some(merged), _) => return Ok(Reversal::Merged(merged.into())),
                (None, Some(resolver)) => resolver.undo_failed(&conflict),
                (None, None) => {}
            }
        }
        Ok(Reversal::Failed("Some data were modified by a later transaction"))
    }

    /// Where the record at `position` points for its data, or its data.
    fn pointer_or_data(&self, oid: Oid, position: u64) -> Result<(u64, Option<Bytes>)> {
        let record = self.file.record(oid, position, self.end, Want::Data, self.patience)?;
        if record.is_gone() {
            return Ok((0, None));
        }
        if let Some(pointer) = record.backpointer() {
            return Ok((pointer, None));
        }
        match self.file.content(record, self.end, self.patience)? {
            Content::Data(data) => Ok((0, Some(data))),
            Content::Gone => Ok((0, None)),
        }
    }

    /// The data that the record at `position` stands for, if it stands for any.
    fn data_at(&self, oid: Oid, position: u64) -> Result<Option<Bytes>> {
        if position == 0 {
            return Ok(None);
        }
        let record = self.file.record(oid, position, self.end, Want::Data, self.patience)?;
        match self.file.content(record, self.end, self.patience)? {
            Content::Data(data) => Ok(Some(data)),
            Content::Gone => Ok(None),
        }
    }
}

impl Latest {
    /// Takes in what was written since the last time. What an undo writes counts from its end on.
    fn catch_up(&mut self, prepared: &Prepared) {
        for number in self.seen..prepared.record_count() {
            self.numbers.insert(prepared.oid(number), number);
        }
        self.seen = prepared.record_count();
    }

    fn of(&self, oid: Oid, prepared: &Prepared) -> Option<Written> {
        self.numbers.get(&oid).map(|number| prepared.written(*number))
    }
}

impl Failures {
    fn add(&mut self, oid: Oid, why: &'static str) {
        self.by_oid.insert(oid, (self.count, why));
        self.count += 1;
    }

    fn into_result(self) -> Result<()> {
        if self.by_oid.is_empty() {
            return Ok(());
        }
        let mut failures: Vec<_> = self.by_oid.into_iter().collect();
        failures.sort_unstable_by_key(|(_, (place, _))| *place);
        failures.truncate(FAILURES_TOLD_MAX);
        Err(StorageError::UndoOf(failures.into_iter().map(|(oid, (_, why))| (oid, why.to_owned())).collect()))
    }
}

/// Whoever wants to undo a transaction with more failures than this is not helped by a longer list.
const FAILURES_TOLD_MAX: usize = 1000;
