//! The resolver of a storage: what needs no Python is resolved here, the rest in a process if there is one. What
//! is resolved is counted, and of what is not the log says why.

use bytes::Bytes;
use std::sync::Arc;
use zeolith_interpreter::ProcessResolver;
use zeolith_pickle::class_name;
use zeolith_resolve::NativeResolver;
use zeolith_server::{ConflictCounts, Settled};
use zeolith_storage::{Resolution, ResolveRequest, Resolver};
use zeolith_types::Oid;

/// Asks one resolver after the other.
#[derive(Debug)]
pub(crate) struct SiteResolver {
    /// The processes that all storages of the server share.
    pub(crate) process: Option<Arc<ProcessResolver>>,
    pub(crate) counts: Arc<ConflictCounts>,
}

impl Resolver for SiteResolver {
    fn may_know(&self, oid: Oid, new: &Bytes) -> bool {
        let may_know = self.process.is_some() || NativeResolver.may_know(oid, new);
        if !may_know {
            let class = class_of(new);
            let class = class.as_deref().unwrap_or(UNKNOWN);
            tracing::debug!(target: LOGGER, "Conflict resolution on {class} {oid} failed: {ONLY_PYTHON}");
        }
        may_know
    }

    fn resolve(&self, conflict: &ResolveRequest<'_>) -> Resolution {
        let mut resolution = NativeResolver.resolve(conflict);
        let mut settled = Settled::Natively;
        if let (Resolution::NotMine, Some(process)) = (&resolution, &self.process) {
            resolution = process.resolve(conflict);
            settled = Settled::ByProcess;
        }
        let class = class_of(conflict.new);
        let ResolveRequest { oid, committed_tid, read_tid, .. } = conflict;
        let why = match &resolution {
            Resolution::Resolved(_) => {
                self.counts.count(class.as_deref(), settled);
                return resolution;
            }
            Resolution::Refused(why) => why.to_string(),
            Resolution::NotMine => ONLY_PYTHON.to_owned(),
        };
        // That the conflict stands is counted and told by who hears of it in the end.
        let class = class.as_deref().unwrap_or(UNKNOWN);
        tracing::debug!(
            target: LOGGER,
            "Conflict resolution on {class} {oid} failed: {why} (committed {committed_tid}, read {read_tid})"
        );
        resolution
    }

    fn undo_failed(&self, conflict: &ResolveRequest<'_>) {
        self.counts.count(class_of(conflict.new).as_deref(), Settled::NotAtAll);
    }
}

fn class_of(record: &[u8]) -> Option<String> {
    class_name(record).map(|(module, name)| format!("{module}.{name}"))
}

const UNKNOWN: &str = "an unknown class";
const ONLY_PYTHON: &str = "only Python knows its class (see conflict-resolver)";
/// As in ZODB.
const LOGGER: &str = "ZODB.ConflictResolution";
