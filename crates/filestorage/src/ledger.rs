//! Keeps count of the end of the file: what is written, what is voted, and what space is reserved for it.
//!
//! Guards the promise that a voted transaction can be finished: its space is reserved before its vote ends,
//! where the file system can do that.

use crate::{file::DataFile, format::TRANSACTION_HEADER_LEN, index::Index, prepare::Prepared};
use std::{collections::BTreeMap, io};
use zeolith_disk::Allocation;
use zeolith_storage::{Patience, Result, StorageError, TransactionId};

/// The transactions between vote and finish, and the space for them.
pub(crate) struct Ledger {
    /// The end of what is durable.
    pub(crate) end: u64,
    /// How often the file has been replaced by a packed one.
    pub(crate) generation: u64,
    voted: BTreeMap<TransactionId, Prepared>,
    /// Bytes of all voted transactions, those that are being written included.
    pub(crate) voted_len: u64,
    reservation: Reservation,
    /// Set by a sync that failed: why nothing is written any more.
    poison: Option<String>,
}

enum Reservation {
    /// Space is reserved up to here.
    UpTo(u64),
    /// The file system can't reserve space.
    Unsupported,
}

impl Ledger {
    pub(crate) fn new(end: u64) -> Self {
        let reservation = Reservation::UpTo(end);
        Self { end, generation: 0, voted: BTreeMap::new(), voted_len: 0, reservation, poison: None }
    }

    /// Takes a transaction in, with space for it.
    pub(crate) fn vote(
        &mut self,
        id: TransactionId,
        prepared: Prepared,
        file: &DataFile,
        patience: Patience,
    ) -> Result<()> {
        self.check()?;
        if self.voted.contains_key(&id) {
            return Err(StorageError::Format(format!("transaction {} has been voted already", id.0)));
        }
        self.reserve(prepared.len(), file, patience)?;
        self.voted_len += prepared.len();
        self.voted.insert(id, prepared);
        Ok(())
    }

    /// Whether a voted transaction points back to data in the file.
    pub(crate) fn has_backpointers(&self) -> bool {
        self.voted.values().any(Prepared::has_backpointers)
    }

    /// The file was replaced by a packed one that ends at `end`: what is voted goes there, with as much space.
    pub(crate) fn move_to(&mut self, end: u64, file: &DataFile, index: &Index) {
        self.end = end;
        self.generation += 1;
        for prepared in self.voted.values_mut() {
            prepared.rebase(|oid| index.get(oid).unwrap_or(0));
        }
        self.reserve_again(file);
    }

    /// Hands a transaction out for writing. Its space stays reserved until `settle`.
    pub(crate) fn take(&mut self, id: TransactionId) -> Option<Prepared> {
        self.voted.remove(&id)
    }

    /// Forgets a transaction.
    pub(crate) fn abort(&mut self, id: TransactionId) {
        if let Some(prepared) = self.voted.remove(&id) {
            self.voted_len -= prepared.len();
        }
    }

    /// A transaction that had been taken will not be written.
    pub(crate) fn release(&mut self, prepared: &Prepared) {
        self.voted_len -= prepared.len();
    }

    /// Transactions of `len` bytes that had been taken have come to their end, with the file now ending at `end`.
    pub(crate) fn settle(&mut self, len: u64, end: u64) {
        assert!(end >= self.end, "the file never gets shorter");
        self.end = end;
        self.voted_len -= len;
    }

    /// The file was cut off at its end, which gives reserved space back: takes it again.
    pub(crate) fn reserve_again(&mut self, file: &DataFile) {
        if let Reservation::UpTo(up_to) = &mut self.reservation {
            *up_to = self.end;
            // Without success the voted transactions have to get along with what the disk has.
            let _ = self.reserve(0, file, Patience::Wait);
        }
    }

    /// Whether space has been reserved beyond the end.
    pub(crate) const fn has_reserve(&self) -> bool {
        matches!(self.reservation, Reservation::UpTo(up_to) if up_to > self.end)
    }

    pub(crate) fn poison(&mut self, why: String) {
        self.poison.get_or_insert(why);
    }

    /// An error if nothing may be written any more.
    pub(crate) fn check(&self) -> Result<()> {
        match &self.poison {
            Some(why) => Err(StorageError::Poisoned(why.clone())),
            None => Ok(()),
        }
    }

    fn reserve(&mut self, len: u64, file: &DataFile, patience: Patience) -> Result<()> {
        if self.voted_len + len == 0 {
            return Ok(());
        }
        // With the header of the room behind the last one.
        let needed = self.end + self.voted_len + len + TRANSACTION_HEADER_LEN as u64;
        let Reservation::UpTo(up_to) = self.reservation else { return Ok(()) };
        if needed <= up_to {
            return Ok(());
        }
        if patience == Patience::Now {
            return Err(StorageError::WouldBlock);
        }
        let ahead = needed - up_to + RESERVE_AHEAD;
        let allocated = match file.file.allocate(up_to, ahead) {
            Ok(allocation) => Ok((allocation, up_to + ahead)),
            // Perhaps there is space for this one.
            Err(_) => file.file.allocate(up_to, needed - up_to).map(|allocation| (allocation, needed)),
        };
        match allocated {
            Ok((Allocation::Reserved, up_to)) => self.reservation = Reservation::UpTo(up_to),
            Ok((Allocation::Unsupported, _)) => self.reservation = Reservation::Unsupported,
            Err(error) => return Err(file.io("reserving space in", error)),
        }
        Ok(())
    }
}

/// An error for each of several transactions.
pub(crate) fn again(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

/// So much space is reserved beyond what is needed, so that few votes have to.
const RESERVE_AHEAD: u64 = 4 << 20;
