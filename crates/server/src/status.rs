//! What `server_status` and `ruok` tell.

use crate::{host::Host, limits::Limits, packing};
use std::sync::atomic::Ordering::Relaxed;
use zeolith_types::ServerStatus;

/// The state of a storage as the reference reports it, and the limits that took effect.
pub(crate) fn status(host: &Host, limits: &Limits) -> ServerStatus {
    let mut status = ServerStatus {
        start: host.started.clone(),
        last_transaction: host.storage.last_transaction(),
        ..ServerStatus::default()
    };
    status.pack = packing::status(host);
    host.counters.fill(&mut status);
    host.coordinator().fill(&mut status);
    host.conflicts.fill(&mut status);
    status.limits = limits.counts().collect();
    status.limits.extend([
        ("transaction-memory-max", host.counters.spills.load(Relaxed)),
        ("transaction-size-max", host.counters.transactions_too_large.load(Relaxed)),
    ]);
    status.limits.retain(|(_, count)| *count > 0);
    status
}
