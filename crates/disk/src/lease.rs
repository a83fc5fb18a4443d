//! Whether a file is open through another handle: the kernel gives a write lease only to who has the only one.

use std::{fs::File, os::fd::AsRawFd as _};

/// Whether this is the only handle of the file, of any process. No, if the kernel won't tell: not every file system
/// knows leases, and only the owner of the file is told.
pub(crate) fn is_only_handle(file: &File) -> bool {
    let is_only = set(file, libc::F_WRLCK);
    if is_only {
        set(file, libc::F_UNLCK);
    }
    is_only
}

/// Sets or gives up a lease (`fcntl(2)`, `F_SETLEASE`); true if that was allowed.
fn set(file: &File, kind: libc::c_int) -> bool {
    #[allow(unsafe_code, reason = "docs/decisions/0019: no crate wraps this call")]
    // SAFETY: the call takes three numbers and touches no memory of ours, and the handle is open while it is borrowed.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) };
    result == 0
}
