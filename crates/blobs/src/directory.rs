//! A blob directory on the disk: its layout and marker, and files that come, move and go in it.

use crate::{
    files,
    layout::{Layout, blob_name},
};
use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};
use zeolith_storage::{Result, StorageError};
use zeolith_types::{Oid, Tid};

/// A blob directory.
#[derive(Debug)]
pub struct BlobDirectory {
    path: PathBuf,
    layout: Layout,
    /// Numbers the files in `tmp`.
    next: AtomicU64,
}

/// What was found or made when a blob directory was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryReport {
    /// The directory was not there.
    pub created: bool,
    /// Its layout.
    pub layout: Layout,
}

impl BlobDirectory {
    /// Opens the blob directory at `path`, or makes it unless it is only to be read.
    ///
    /// # Errors
    /// `Format` if it has a layout that no server has, else `Io`.
    pub fn open(path: &Path, read_only: bool) -> Result<(Self, DirectoryReport)> {
        let path = std::path::absolute(path).map_err(io_at("naming", path))?;
        let created = !path.try_exists().map_err(io_at("opening", &path))?;
        let marker = path.join(MARKER);
        let (layout, is_marked) = match fs::read_to_string(&marker) {
            Ok(name) => (known_layout(&path, name.trim())?, true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (guessed_layout(&path)?, false),
            Err(error) => return Err(io_at("reading", &marker)(error)),
        };
        let directory = Self { path, layout, next: AtomicU64::new(0) };
        if !read_only {
            // The marker first: an empty directory may have any layout, one with something in it an old one.
            directory.make_all(&directory.path)?;
            if !is_marked {
                directory.write_marker().map_err(io_at("writing", &marker))?;
                sync_directory(&directory.path)?;
            }
            directory.make_all(&directory.temporary())?;
        }
        Ok((directory, DirectoryReport { created, layout }))
    }

    /// Writes down what layout it has: whole or not at all, since nobody could open it with a marker that says
    /// nothing.
    fn write_marker(&self) -> io::Result<()> {
        let fresh = self.path.join(FRESH_MARKER);
        match files::remove(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = files::create(&fresh)?;
        file.set_permissions(Permissions::from_mode(MARKER_MODE))?;
        files::append(&file, &fresh, self.layout.name().as_bytes())?;
        files::sync(&file, &fresh)?;
        files::rename(&fresh, &self.path.join(MARKER))
    }

    /// Its absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its layout.
    #[must_use]
    pub const fn layout(&self) -> Layout {
        self.layout
    }

    /// Where what is not committed is: uploads, what has been voted on, and what clients have that share it.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.path.join("tmp")
    }

    /// Where the blobs of an object are.
    #[must_use]
    pub fn place_of(&self, oid: Oid) -> PathBuf {
        self.path.join(self.layout.place_of(oid))
    }

    /// Where the blob of a revision is.
    #[must_use]
    pub fn path_of(&self, oid: Oid, tid: Tid) -> PathBuf {
        self.place_of(oid).join(blob_name(tid))
    }

    /// A number that no other file in `tmp` has got in this run.
    pub(crate) fn next_number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes a directory with those above it, durably.
    pub(crate) fn make_all(&self, path: &Path) -> Result<()> {
        let missing: Vec<&Path> = path.ancestors().take_while(|path| !path.is_dir()).collect();
        for path in missing.into_iter().rev() {
            match files::make_directory(path) {
                // Somebody else may have been quicker.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => made.map_err(io_at("making", path))?,
            }
            sync_directory(parent(path))?;
        }
        Ok(())
    }

    /// Makes durable that a place is there which somebody else has made.
    pub(crate) fn sync_way_to(&self, place: &Path) -> Result<()> {
        let mut above = place.ancestors().skip(1).take_while(|path| path.starts_with(&self.path));
        above.try_for_each(sync_directory)
    }

    /// Takes the right to write to a file from everybody, and gives that to read it to those who may read
    /// the directory of its object, as the reference does.
    pub(crate) fn protect(&self, file: &Path, place: &Path) -> Result<()> {
        let mode = |path: &Path| {
            let metadata = fs::symlink_metadata(path).map_err(io_at("looking at", path))?;
            Ok(metadata.permissions().mode() & PERMISSIONS)
        };
        let allowed = mode(file)? & !WRITE | mode(place)? & READ;
        fs::set_permissions(file, Permissions::from_mode(allowed)).map_err(io_at("protecting", file))
    }

    /// Removes the directory of an object if it is empty, and those above it that get empty by that.
    pub(crate) fn prune(&self, place: &Path) {
        for path in place.ancestors().take_while(|path| *path != self.path) {
            // It stays if it is not empty, or somebody has put something into it just now.
            if files::remove_directory(path).is_err() {
                return;
            }
        }
    }
}

fn known_layout(path: &Path, name: &str) -> Result<Layout> {
    Layout::from_name(name).ok_or_else(|| {
        let hint = match name {
            "zeocache" => "; that is the cache of a client: give the server a blob directory of its own",
            _ => "; known are bushy and lawn",
        };
        StorageError::Format(format!("the blob directory {} has layout {name:?}{hint}", path.display()))
    })
}

/// The layout of a directory that has no marker: old ones with something in them have the old layout.
fn guessed_layout(path: &Path) -> Result<Layout> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Layout::Bushy),
        Err(error) => return Err(io_at("reading", path)(error)),
    };
    for entry in entries {
        let entry = entry.map_err(io_at("reading", path))?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            return Ok(Layout::Lawn);
        }
    }
    Ok(Layout::Bushy)
}

/// The directory of a file.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// Makes what came into a directory and went from it durable.
pub(crate) fn sync_directory(path: &Path) -> Result<()> {
    files::sync_directory(path).map_err(io_at("syncing", path))
}

/// Wraps what the operating system said about `path`.
pub(crate) fn io_at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StorageError {
    let path = path.to_path_buf();
    move |source| StorageError::Io { what, path, source }
}

/// Names the layout of a blob directory.
pub(crate) const MARKER: &str = ".layout";
/// What a marker is called until it is durable.
const FRESH_MARKER: &str = ".zeolith-layout";
/// Clients that share the directory read it.
const MARKER_MODE: u32 = 0o644;
const PERMISSIONS: u32 = 0o7777;
const WRITE: u32 = 0o222;
const READ: u32 = 0o444;

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path) -> Result<(BlobDirectory, DirectoryReport)> {
        BlobDirectory::open(path, false)
    }

    #[test]
    fn a_new_directory_is_bushy_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blobs");
        let (_, report) = open(&path).unwrap();
        assert_eq!(report, DirectoryReport { created: true, layout: Layout::Bushy });
        assert_eq!(fs::read(path.join(".layout")).unwrap(), b"bushy");
        assert!(path.join("tmp").is_dir());
        let (_, report) = open(&path).unwrap();
        assert_eq!(report, DirectoryReport { created: false, layout: Layout::Bushy });
    }

    #[test]
    fn a_used_directory_without_a_marker_has_the_old_layout() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("0x01")).unwrap();
        let (directory, _) = open(folder.path()).unwrap();
        assert_eq!(directory.layout(), Layout::Lawn);
        assert_eq!(fs::read(folder.path().join(".layout")).unwrap(), b"lawn");
        fs::write(folder.path().join(".layout"), "bushy\n").unwrap();
        assert_eq!(open(folder.path()).unwrap().0.layout(), Layout::Bushy, "the marker counts");
    }

    #[test]
    fn a_directory_of_a_client_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(".layout"), "zeocache").unwrap();
        let error = open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("zeocache") && error.contains("cache of a client"), "{error}");
    }

    #[test]
    fn who_only_reads_makes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blobs");
        let (directory, _) = BlobDirectory::open(&path, true).unwrap();
        assert_eq!(directory.layout(), Layout::Bushy);
        assert!(!path.exists());
    }

    #[test]
    fn a_protected_file_can_be_read_by_those_who_may_read_its_directory() {
        let folder = tempfile::tempdir().unwrap();
        let (directory, _) = open(&folder.path().join("blobs")).unwrap();
        let file = directory.temporary().join("file");
        for (before, of_place, after) in [(0o600, 0o755, 0o444), (0o666, 0o700, 0o444), (0o600, 0o700, 0o400)]
        {
            fs::write(&file, b"").unwrap();
            fs::set_permissions(&file, Permissions::from_mode(before)).unwrap();
            let place = directory.path().join("place");
            directory.make_all(&place).unwrap();
            fs::set_permissions(&place, Permissions::from_mode(of_place)).unwrap();
            directory.protect(&file, &place).unwrap();
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, after);
            fs::remove_file(&file).unwrap();
        }
    }

    #[test]
    fn pruning_ends_at_what_is_not_empty_and_at_the_blob_directory() {
        let folder = tempfile::tempdir().unwrap();
        let (directory, _) = open(&folder.path().join("blobs")).unwrap();
        let [one, two] = [0x01_02, 0x01_03].map(|oid| directory.place_of(Oid::new(oid)));
        directory.make_all(&one).unwrap();
        directory.make_all(&two).unwrap();
        directory.prune(&one);
        assert!(!one.exists() && two.exists());
        directory.prune(&two);
        assert!(!directory.path().join("0x00").exists() && directory.path().exists());
    }
}
