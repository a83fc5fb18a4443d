//! Room for open files, for every connection is one: as many as this process may open, and a table that holds them.

use rustix::{
    io::fcntl_dupfd_cloexec,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

/// Makes the table of open files as long as `wanted` connections need it, before the process has a second thread.
///
/// Linux doubles the table when it is full, and where threads share it, whoever opens the file that has no place waits
/// until all processors have let go of the old one: 8 ms at the 256th connection of a storm and 15 ms at the 512th, in
/// which nobody connects. Before there are threads it costs nothing. Without success the table grows later.
pub(crate) fn make_room(wanted: usize) {
    let limits = getrlimit(Resource::Nofile);
    let allowed = if raise_limit(limits) { limits.maximum } else { limits.current };
    let wanted = u64::try_from(wanted.saturating_add(OWN_FILES)).unwrap_or(u64::MAX);
    let last = wanted.min(allowed.unwrap_or(u64::MAX)).saturating_sub(1);
    // A copy under that number, closed at once: the table stays.
    let _ = fcntl_dupfd_cloexec(std::io::stdin(), i32::try_from(last).unwrap_or(i32::MAX));
    // How far the limit is raised is told later, when there is a log.
    let _ = setrlimit(Resource::Nofile, limits);
}

/// Raises the soft limit to the hard one. The result is how many connections fit, at most `wanted`.
pub(crate) fn raise(wanted: usize) -> usize {
    let limits = getrlimit(Resource::Nofile);
    let allowed = if raise_limit(limits) { limits.maximum } else { limits.current };
    let told = |limit: Option<u64>| limit.map_or_else(|| "no limit".to_owned(), |limit| limit.to_string());
    // At BLATHER: the reference says nothing at INFO here.
    tracing::debug!(
        target: "ZEO.runzeo",
        level_number = 15_u64,
        "limit of open files: {}, raised from {}",
        told(allowed),
        told(limits.current)
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

fn raise_limit(Rlimit { maximum, .. }: Rlimit) -> bool {
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok()
}

/// Files that are no connections: databases, logs, records that were put aside, event loops.
const OWN_FILES: usize = 256;
