//! The resolver of the server: what needs no Python is resolved here, the rest in a process if there is one. It
//! says in the log why a conflict could not be resolved.

use std::sync::Arc;
use zeolith_interpreter::{ProcessResolver, Settings};
use zeolith_resolve::NativeResolver;
use zeolith_storage::{Resolution, ResolveRequest, Resolver};

/// Asks one resolver after the other.
#[derive(Debug)]
pub(crate) struct SiteResolver {
    process: Option<ProcessResolver>,
}

impl SiteResolver {
    /// A resolver for all storages of a server, with a process if it is wanted.
    pub(crate) fn start(process: Option<&Settings>) -> Arc<dyn Resolver> {
        Arc::new(Self { process: process.cloned().map(ProcessResolver::start) })
    }
}

impl Resolver for SiteResolver {
    fn resolve(&self, conflict: &ResolveRequest<'_>) -> Resolution {
        let mut resolution = NativeResolver.resolve(conflict);
        if let (Resolution::NotMine, Some(process)) = (&resolution, &self.process) {
            resolution = process.resolve(conflict);
        }
        let oid = conflict.oid;
        match &resolution {
            Resolution::Resolved(_) => {}
            Resolution::Refused(why) => {
                tracing::debug!(target: LOGGER, "Conflict resolution on {oid} failed: {why}");
            }
            Resolution::NotMine => {
                let why = "only Python knows its class (see conflict-resolver)";
                tracing::debug!(target: LOGGER, "Conflict resolution on {oid} failed: {why}");
            }
        }
        resolution
    }
}

/// As in ZODB.
const LOGGER: &str = "ZODB.ConflictResolution";
