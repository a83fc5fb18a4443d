//! Whether a file is open through another handle: the kernel gives a write lease only to who has the only one.

use crate::Onlookers;
use std::{fs::File, io, os::fd::AsRawFd as _};

/// Who else has a file without a name open, in any process. Not every file system knows leases, and only the owner of the
/// file is told.
pub(crate) fn other_handles(file: &File) -> Onlookers {
    // Whoever comes meanwhile, by way of `/proc`, has a signal sent to us: one that nobody minds, and not the usual one,
    // which would end the process.
    let asked = set(file, F_SETSIG, libc::SIGURG).and_then(|()| set(file, libc::F_SETLEASE, libc::F_WRLCK));
    match asked {
        Ok(()) => set(file, libc::F_SETLEASE, libc::F_UNLCK).map_or(Onlookers::Unknown, |()| Onlookers::None),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Onlookers::Handles,
        Err(_) => Onlookers::Unknown,
    }
}

/// Sets a property of a handle (`fcntl(2)`) that is a number.
fn set(file: &File, property: libc::c_int, value: libc::c_int) -> io::Result<()> {
    #[allow(unsafe_code, reason = "docs/decisions/0019: no crate wraps these calls")]
    // SAFETY: the call takes three numbers and touches no memory of ours, and the handle is open while it is borrowed.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), property, value) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// As Linux numbers it on the processors that we know (`asm-generic/fcntl.h`); `libc` leaves it out.
const F_SETSIG: libc::c_int = 10;
