//! The blobs of the file from before a pack, which are kept beside the blob directory as that file is.
//!
//! What a pack drops is moved there, and is nowhere else then. So nothing is removed from there but by a pack that
//! has just put another file in the place of the one that the old blobs belong to. A pack that was cut short is gone
//! on with: a second name of its marker tells that it has begun to move blobs there.

use crate::{
    directory::{BlobDirectory, MARKER, io_at, parent, sync_directory},
    files,
    pack::PENDING,
    remove::Remover,
};
use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};
use zeolith_storage::Result;

/// The directory of the old blobs.
pub(crate) struct OldBlobs {
    path: PathBuf,
    /// Is there while a pack fills the directory: a second name of that pack's marker.
    begun: PathBuf,
}

impl OldBlobs {
    /// Those of a blob directory, be they there or not.
    pub(crate) fn beside(directory: &BlobDirectory) -> Self {
        let mut name = OsString::from(directory.path());
        name.push(".old");
        let path = PathBuf::from(name);
        Self { begun: path.join(PENDING), path }
    }

    /// Whether the pack with this marker has begun to fill it.
    pub(crate) fn is_begun_by(&self, marker: &Path) -> Result<bool> {
        let identity = |path: &Path| match fs::symlink_metadata(path) {
            Ok(found) => Ok(Some((found.dev(), found.ino()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_at("looking at", path)(error)),
        };
        let begun = identity(&self.begun)?;
        Ok(begun.is_some() && begun == identity(marker)?)
    }

    /// Makes it if it is not there, and notes that the pack with this marker fills it, durably.
    pub(crate) fn begin(&self, directory: &BlobDirectory, marker: &Path) -> Result<()> {
        if !self.path.is_dir() {
            files::make_directory(&self.path).map_err(io_at("making", &self.path))?;
        }
        link(&directory.path().join(MARKER), &self.path.join(MARKER))?;
        sync_directory(parent(&self.path))?;
        if !self.is_begun_by(marker)? {
            remove_if_there(&self.begun)?;
            link(marker, &self.begun)?;
        }
        sync_directory(&self.path)
    }

    /// It is filled, and the pack's marker has gone.
    pub(crate) fn end(&self) -> Result<()> {
        remove_if_there(&self.begun)
    }

    /// Removes it with all that is in it.
    pub(crate) fn remove(&self) -> Result<()> {
        match Remover::default().tree(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_at("removing", &self.path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Moves a blob to it.
    pub(crate) fn take(&self, directory: &BlobDirectory, path: &Path) -> Result<()> {
        let kept = self.place_for(directory, path)?;
        files::rename(path, &kept).map_err(io_at("keeping an old blob as", &kept))?;
        // Nothing is renamed if the blob has its second name there from a pack before.
        remove_if_there(path)
    }

    /// Gives a blob that stays a second name in it.
    pub(crate) fn share(&self, directory: &BlobDirectory, path: &Path) -> Result<()> {
        link(path, &self.place_for(directory, path)?)
    }

    /// Where a blob is kept, with its directory made.
    fn place_for(&self, directory: &BlobDirectory, path: &Path) -> Result<PathBuf> {
        let kept = self.path.join(path.strip_prefix(directory.path()).unwrap_or(path));
        let missing: Vec<&Path> = kept.ancestors().skip(1).take_while(|path| !path.is_dir()).collect();
        for path in missing.into_iter().rev() {
            files::make_directory(path).map_err(io_at("making", path))?;
        }
        Ok(kept)
    }
}

/// Gives a file a second name, if a pack that was cut short has not done so.
fn link(path: &Path, second: &Path) -> Result<()> {
    match files::link(path, second) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked.map_err(io_at("keeping an old blob as", second)),
    }
}

fn remove_if_there(path: &Path) -> Result<()> {
    match files::remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_at("removing", path)(error)),
        _ => Ok(()),
    }
}
