//! Every change of a blob directory, so that a test can follow what is durable after which step.
//!
//! Nothing here decides anything: each function is one call of the operating system. In the tests of this crate's
//! inside the power fails on a simulated disk only, so they wait for no real one.

#[cfg(test)]
use crate::power_loss_tests::{Change, note};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

/// Makes a file for its owner alone, which must not be there.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    #[cfg(test)]
    note(Change::Create(path.into()));
    Ok(file)
}

/// Writes `bytes` to the end of the file at `path`, which is open.
#[cfg_attr(not(test), expect(unused_variables, reason = "the path is for the test"))]
pub(crate) fn append(mut file: &File, path: &Path, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    #[cfg(test)]
    note(Change::Append(path.into(), bytes.into()));
    Ok(())
}

/// Makes the content of the file at `path` durable, which is open.
#[cfg_attr(not(test), expect(unused_variables, reason = "the path is for the test"))]
pub(crate) fn sync(file: &File, path: &Path) -> io::Result<()> {
    if cfg!(not(test)) {
        file.sync_all()?;
    }
    #[cfg(test)]
    note(Change::Sync(path.into()));
    Ok(())
}

/// Makes what came into a directory and went from it durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = File::open(path)?;
    if cfg!(not(test)) {
        directory.sync_all()?;
    }
    #[cfg(test)]
    note(Change::SyncDirectory(path.into()));
    Ok(())
}

/// Makes a directory.
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    fs::create_dir(path)?;
    #[cfg(test)]
    note(Change::MakeDirectory(path.into()));
    Ok(())
}

/// Gives a file another name.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    #[cfg(test)]
    note(Change::Rename(from.into(), to.into()));
    Ok(())
}

/// Gives a file a second name.
pub(crate) fn link(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to)?;
    #[cfg(test)]
    note(Change::Link(from.into(), to.into()));
    Ok(())
}

/// Removes a file.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    #[cfg(test)]
    note(Change::Remove(path.into()));
    Ok(())
}

/// Removes a directory, which must be empty.
pub(crate) fn remove_directory(path: &Path) -> io::Result<()> {
    fs::remove_dir(path)?;
    #[cfg(test)]
    note(Change::Remove(path.into()));
    Ok(())
}
