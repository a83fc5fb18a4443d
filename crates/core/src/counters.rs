//! What `server_status` counts, kept where every session can count without waiting for another.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use zeolith_types::ServerStatus;

/// Counts of one storage since the server started.
#[derive(Debug, Default)]
pub struct Counters {
    /// `loadBefore` calls.
    pub loads: AtomicU64,
    /// Stores, deletions and restores.
    pub stores: AtomicU64,
    /// Transactions finished.
    pub commits: AtomicU64,
    /// Transactions aborted.
    pub aborts: AtomicU64,
    /// Votes that failed.
    pub conflicts: AtomicU64,
    /// Conflicts that the storage resolved.
    pub conflicts_resolved: AtomicU64,
    /// Times that a transaction's records were put aside because of `transaction-memory-max`.
    pub spills: AtomicU64,
    /// Transactions given up because of `transaction-size-max`.
    pub transactions_too_large: AtomicU64,
    /// Transactions begun and not ended.
    pub active_transactions: AtomicU64,
}

impl Counters {
    /// Writes the counts into a status.
    pub fn fill(&self, status: &mut ServerStatus) {
        status.loads = self.loads.load(Relaxed);
        status.stores = self.stores.load(Relaxed);
        status.commits = self.commits.load(Relaxed);
        status.aborts = self.aborts.load(Relaxed);
        status.conflicts = self.conflicts.load(Relaxed);
        status.conflicts_resolved = self.conflicts_resolved.load(Relaxed);
        status.active_txns = self.active_transactions.load(Relaxed);
    }
}
