//! Raises the limit of open files as far as this process may, for every connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard one. The result is how many connections fit, at most `wanted`.
pub(crate) fn raise(wanted: usize) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let allowed = if raised.is_ok() { maximum } else { current };
    let told = |limit: Option<u64>| limit.map_or_else(|| "no limit".to_owned(), |limit| limit.to_string());
    // At BLATHER: the reference says nothing at INFO here.
    tracing::debug!(
        target: "ZEO.runzeo",
        level_number = 15_u64,
        "limit of open files: {}, raised from {}",
        told(allowed),
        told(current)
    );
    let fit = allowed.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
    let fit = fit.saturating_sub(OWN_FILES).max(1);
    if fit < wanted {
        tracing::warn!(
            target: "ZEO.runzeo",
            "the limit of open files ({}) leaves room for {fit} connections, not for the {wanted} of connections-max",
            told(allowed)
        );
    }
    fit.min(wanted)
}

/// Files that are no connections: databases, logs, records that were put aside, event loops.
const OWN_FILES: usize = 256;
