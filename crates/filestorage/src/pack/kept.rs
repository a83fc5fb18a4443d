//! What a pack keeps of the time before it: the revisions that were marked, and those that later transactions point
//! back to.

use crate::{format::RecordHeader, index::Index, input::Input};
use std::collections::HashSet;
use zeolith_storage::Result;
use zeolith_types::Oid;

/// Which records up to the pack time are kept.
pub(super) struct Kept {
    /// Where each object's last record up to the pack time is, or `GONE`; with `MARK` if it is reached.
    pub(super) positions: Index,
    /// Whether only what is reached is kept.
    pub(super) gc: bool,
    /// Other records that later transactions point back to.
    pub(super) extra: HashSet<u64>,
    /// The objects that they are of.
    pub(super) extra_oids: HashSet<Oid>,
    /// Where the first transaction after the pack time is.
    pub(super) pack_position: u64,
    /// Where the last transaction ends that the pack has seen.
    pub(super) end: u64,
}

impl Kept {
    /// Nothing is reached yet.
    pub(super) fn new(positions: Index, gc: bool, pack_position: u64, end: u64) -> Self {
        Self { positions, gc, extra: HashSet::new(), extra_oids: HashSet::new(), pack_position, end }
    }

    /// Whether the record at `position`, which is before the pack time, is kept.
    pub(super) fn takes(&self, input: &mut Input<'_>, record: &RecordHeader, position: u64) -> Result<bool> {
        if self.is_extra(position) {
            return Ok(true);
        }
        let mark = if self.gc { MARK } else { 0 };
        if self.extra_oids.contains(&record.oid) {
            // What it was at the pack time stays in any case, be it deleted or garbage. Or it would seem to be what
            // the older record says that is kept, until the later transaction that points back to that one.
            return match self.positions.get(record.oid).map(|entry| entry & !MARK) {
                // It was a deletion, and is not known by its position any more.
                Some(GONE) => Ok(record.data_len == 0 && input.is_gone(record, position)?),
                at_pack_time => Ok(at_pack_time == Some(position)),
            };
        }
        if self.positions.get(record.oid) != Some(position | mark) {
            return Ok(false);
        }
        input.is_gone(record, position).map(|is_gone| !is_gone)
    }

    /// Whether nothing has been committed after the transaction that ends at `end`, which is packed.
    ///
    /// Such a one is kept even if nothing is left of it. What is the storage's last transaction must be so after a
    /// restart, or clients that know of it would not connect any more: their caches were newer than the server.
    pub(super) const fn is_last(&self, end: u64) -> bool {
        end == self.pack_position && end == self.end
    }

    /// Whether a later transaction points back to the record at `position`.
    pub(super) fn is_extra(&self, position: u64) -> bool {
        !self.extra.is_empty() && self.extra.contains(&position)
    }
}

/// Marks a position as reached.
pub(super) const MARK: u64 = 1 << 63;
/// Stands for the position of an object that does not exist; no record can be there.
pub(super) const GONE: u64 = 1;
