//! The resolver of the server, which says in the log why a conflict could not be resolved.

use zeolith_resolve::NativeResolver;
use zeolith_storage::{Resolution, ResolveRequest, Resolver};

/// Resolves what can be resolved without Python.
#[derive(Debug)]
pub(crate) struct LoggingResolver;

impl Resolver for LoggingResolver {
    fn resolve(&self, conflict: &ResolveRequest<'_>) -> Resolution {
        let resolution = NativeResolver.resolve(conflict);
        let oid = conflict.oid;
        match &resolution {
            Resolution::Resolved(_) => {}
            Resolution::Refused(why) => {
                tracing::debug!(target: LOGGER, "Conflict resolution on {oid} failed: {why}");
            }
            Resolution::NotMine => {
                tracing::debug!(target: LOGGER, "Conflict resolution on {oid} failed: only Python knows its class");
            }
        }
        resolution
    }
}

/// As in ZODB.
const LOGGER: &str = "ZODB.ConflictResolution";
