//! Goes through all objects of a blob directory. Keeps no more than one open directory for each level.

use crate::{
    directory::{BlobDirectory, io_at},
    layout::tid_of,
};
use std::{
    fs::{self, ReadDir},
    io,
    path::{Path, PathBuf},
};
use zeolith_storage::Result;
use zeolith_types::{Oid, Tid};

/// The objects that have a place in a blob directory, in no order. What comes and goes meanwhile may be
/// seen or not.
pub(crate) struct Objects<'a> {
    directory: &'a BlobDirectory,
    open: Vec<(PathBuf, ReadDir)>,
}

impl<'a> Objects<'a> {
    /// From the beginning.
    pub(crate) fn of(directory: &'a BlobDirectory) -> Result<Self> {
        let mut objects = Self { directory, open: Vec::new() };
        objects.enter(directory.path().to_path_buf())?;
        Ok(objects)
    }

    /// The next object, with its place.
    pub(crate) fn next(&mut self) -> Result<Option<(Oid, PathBuf)>> {
        while let Some((path, entries)) = self.open.last_mut() {
            let Some(entry) = entries.next() else {
                self.open.pop();
                continue;
            };
            let entry = entry.map_err(io_at("reading", path))?;
            // A link to a directory is none of ours.
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let path = entry.path();
            if self.open.len() < self.directory.layout().depth() {
                if entry.file_name().as_encoded_bytes().starts_with(b"0x") {
                    self.enter(path)?;
                }
                continue;
            }
            let place = path.strip_prefix(self.directory.path()).unwrap_or(&path);
            if let Some(oid) = self.directory.layout().oid_of(place) {
                return Ok(Some((oid, path)));
            }
        }
        Ok(None)
    }

    fn enter(&mut self, path: PathBuf) -> Result<()> {
        match fs::read_dir(&path) {
            Ok(entries) => self.open.push((path, entries)),
            // It has gone in the meantime.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_at("reading", &path)(error)),
        }
        Ok(())
    }
}

/// The revisions that have a blob at `place`, oldest first.
pub(crate) fn revisions(place: &Path) -> Result<Vec<Tid>> {
    let entries = match fs::read_dir(place) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_at("reading", place)(error)),
    };
    let mut tids = Vec::new();
    for entry in entries {
        let entry = entry.map_err(io_at("reading", place))?;
        tids.extend(entry.file_name().to_str().and_then(tid_of));
    }
    tids.sort_unstable();
    Ok(tids)
}
