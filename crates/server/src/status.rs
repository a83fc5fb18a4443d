//! What `server_status` and `ruok` tell.

use crate::host::Host;
use zeolith_types::ServerStatus;

/// The state of a storage as the reference reports it.
pub(crate) fn status(host: &Host) -> ServerStatus {
    let mut status = ServerStatus {
        start: host.started.clone(),
        last_transaction: host.storage.last_transaction(),
        ..ServerStatus::default()
    };
    host.counters.fill(&mut status);
    host.coordinator().fill(&mut status);
    host.conflicts.fill(&mut status);
    status
}
