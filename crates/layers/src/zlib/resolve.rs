//! Conflict resolution of compressed records: the resolver inside sees them whole.

use super::{RECORD_SIZE_MAX, compress, decompress, is_compressed};
use bytes::Bytes;
use std::sync::Arc;
use zeolith_storage::{Disagreement, Resolution, ResolveRequest, Resolver};
use zeolith_types::Oid;

/// Hands conflicts to another resolver with their records decompressed.
#[derive(Debug)]
pub struct ZlibResolver {
    inner: Arc<dyn Resolver>,
    compress: bool,
}

impl ZlibResolver {
    /// `compress` says whether the records that come out are to be compressed.
    #[must_use]
    pub fn new(inner: Arc<dyn Resolver>, compress: bool) -> Self {
        Self { inner, compress }
    }
}

impl Resolver for ZlibResolver {
    /// A few compressed bytes can become very many, which nobody else shall wait for: such a record goes the long way.
    fn may_know(&self, oid: Oid, new: &Bytes) -> bool {
        is_compressed(new) || self.inner.may_know(oid, new)
    }

    fn undo_failed(&self, conflict: &ResolveRequest<'_>) {
        // One that is damaged tells its class to nobody.
        if let Ok(new) = decompress(conflict.new, RECORD_SIZE_MAX) {
            self.inner.undo_failed(&ResolveRequest { new: &new, ..*conflict });
        }
    }

    fn resolve(&self, conflict: &ResolveRequest<'_>) -> Resolution {
        let [old, committed, new] = [conflict.old, conflict.committed, conflict.new]
            .map(|record| decompress(record, RECORD_SIZE_MAX));
        let (old, committed, new) = match (old, committed, new) {
            (Ok(old), Ok(committed), Ok(new)) => (old, committed, new),
            (Err(why), _, _) | (_, Err(why), _) | (_, _, Err(why)) => {
                return Resolution::Refused(Disagreement::Other(format!("a record is damaged: {why}")));
            }
        };
        let whole = ResolveRequest { old: &old, committed: &committed, new: &new, ..*conflict };
        match self.inner.resolve(&whole) {
            Resolution::Resolved(record) if self.compress => Resolution::Resolved(compress(&record)),
            resolution => resolution,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Knows nothing, and looks at no compressed record.
    #[derive(Debug)]
    struct Stranger;

    impl Resolver for Stranger {
        fn may_know(&self, _: Oid, new: &Bytes) -> bool {
            assert!(!is_compressed(new));
            false
        }

        fn resolve(&self, _: &ResolveRequest<'_>) -> Resolution {
            Resolution::NotMine
        }
    }

    #[test]
    fn nobody_decompresses_a_record_before_there_is_time_for_it() {
        let resolver = ZlibResolver::new(Arc::new(Stranger), true);
        let plain = Bytes::from(vec![b'x'; 1000]);
        assert!(!resolver.may_know(Oid::new(1), &plain));
        assert!(resolver.may_know(Oid::new(1), &compress(&plain)));
    }
}
