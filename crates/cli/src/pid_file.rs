//! The file that tells other programs which process the server is.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A pid file that this process has written; it is removed when dropped.
pub(crate) struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes the file, in place of one that a server before may have left. A server runs without it if
    /// that can't be done.
    pub(crate) fn write(path: &Path) -> Option<Self> {
        let pid = std::process::id();
        match remove_if_there(path).and_then(|_| fs::write(path, format!("{pid}\n"))) {
            Ok(()) => {
                tracing::info!(target: "ZEO.runzeo", "({pid}) created PID file '{}'", path.display());
                Some(Self { path: path.to_owned() })
            }
            Err(error) => {
                let path = path.display();
                tracing::error!(target: "ZEO.runzeo", "PID file '{path}' cannot be opened: {error}");
                None
            }
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let (pid, path) = (std::process::id(), self.path.display());
        match remove_if_there(&self.path) {
            Ok(true) => tracing::info!(target: "ZEO.runzeo", "({pid}) removed PID file '{path}'"),
            Ok(false) => {}
            Err(error) => {
                tracing::error!(target: "ZEO.runzeo", "PID file '{path}' could not be removed: {error}");
            }
        }
    }
}

/// Whether there was a file, which is gone now.
fn remove_if_there(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
