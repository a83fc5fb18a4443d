//! Files on their way: uploads that are under way or done, and what has been voted on.
//!
//! All of them are in `tmp`, under names that no client makes there: clients that share the directory have
//! files of their own in it (`BUC...`, `savepoints...`), which are none of our business.

use crate::{
    directory::{BlobDirectory, io_at},
    files,
};
use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
};
use zeolith_storage::{BlobReader, BlobUpload, Result, StorageError, UploadedBlob};
use zeolith_types::{Oid, Tid};

/// A file that goes with its last owner, unless it has been taken.
#[derive(Debug)]
pub(crate) struct TemporaryFile {
    path: Mutex<Option<PathBuf>>,
}

impl TemporaryFile {
    const fn new(path: PathBuf) -> Self {
        Self { path: Mutex::new(Some(path)) }
    }

    /// Gives the file another name, and away.
    pub(crate) fn move_to(&self, target: &Path) -> Result<()> {
        let mut path = self.path.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(from) = path.as_ref() else {
            return Err(StorageError::Format("the same upload is named by two transactions".into()));
        };
        files::rename(from, target).map_err(io_at("moving an uploaded blob to", target))?;
        *path = None;
        Ok(())
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let path = self.path.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(path) = path {
            discard(path);
        }
    }
}

/// Removes a file that nobody needs any more. What can't be removed now is removed at the next start.
///
/// A file system takes a while to give back the space of a large file, and whoever drops one serves connections.
pub(crate) fn discard(path: PathBuf) {
    let is_large = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.len() > REMOVED_AT_ONCE);
    let remove = move || drop(files::remove(&path));
    if is_large {
        // Without a thread it stays until the next start.
        drop(thread::Builder::new().name("blob remover".to_owned()).spawn(remove));
    } else {
        remove();
    }
}

/// An upload that is under way.
pub(crate) struct Upload {
    // Closed before the file goes, or closing it would give back its space.
    file: File,
    temporary: TemporaryFile,
    path: PathBuf,
    size: u64,
    unsynced: usize,
}

impl Upload {
    /// Makes an empty file in `tmp`.
    pub(crate) fn begin(directory: &BlobDirectory) -> Result<Self> {
        loop {
            let name = format!("{UPLOAD_PREFIX}{:016x}", directory.next_number());
            let path = directory.temporary().join(name);
            match files::create(&path) {
                Ok(file) => {
                    let temporary = TemporaryFile::new(path.clone());
                    return Ok(Self { temporary, file, path, size: 0, unsynced: 0 });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(io_at("making", &path)(error)),
            }
        }
    }
}

impl BlobUpload for Upload {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        files::append(&self.file, &self.path, bytes).map_err(io_at("writing", &self.path))?;
        self.size += bytes.len() as u64;
        self.unsynced += bytes.len();
        if self.unsynced < SYNC_EVERY {
            return Ok(());
        }
        self.unsynced = 0;
        files::sync(&self.file, &self.path).map_err(io_at("syncing", &self.path))
    }

    fn finish(self: Box<Self>) -> Result<UploadedBlob> {
        files::sync(&self.file, &self.path).map_err(io_at("syncing", &self.path))?;
        Ok(UploadedBlob::new(self.temporary, self.size))
    }
}

/// Takes over a file that a client has put into the place of an object's blobs.
pub(crate) fn take_shared(directory: &BlobDirectory, oid: Oid, name: &str) -> Result<UploadedBlob> {
    if !is_shared_name(name) {
        return Err(StorageError::BadBlobName(name.to_owned()));
    }
    let path = directory.place_of(oid).join(name);
    let found = fs::symlink_metadata(&path).map_err(io_at("taking over", &path))?;
    if !found.is_file() {
        return Err(StorageError::BadBlobName(name.to_owned()));
    }
    let file = File::open(&path).map_err(io_at("taking over", &path))?;
    let opened = file.metadata().map_err(io_at("taking over", &path))?;
    // Had it become a symlink in between, this would be another file.
    if (opened.dev(), opened.ino()) != (found.dev(), found.ino()) {
        return Err(StorageError::BadBlobName(name.to_owned()));
    }
    let temporary = TemporaryFile::new(path.clone());
    files::sync(&file, &path).map_err(io_at("syncing", &path))?;
    directory.sync_way_to(&directory.place_of(oid))?;
    Ok(UploadedBlob::new(temporary, opened.len()))
}

/// Whether a name that a client gives is that of a file which clients make: without a path, and ending in
/// `.tmp` or `.tmp` and one more character.
fn is_shared_name(name: &str) -> bool {
    let mut shorter = name.chars();
    shorter.next_back();
    let ends_well = name.ends_with(".tmp") || shorter.as_str().ends_with(".tmp");
    ends_well && !name.contains(['/', '\0'])
}

/// What the name of a voted file tells of it: whose blob it is to be, and what was current before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VotedName {
    pub(crate) oid: Oid,
    pub(crate) before: Tid,
}

impl VotedName {
    /// A file name, made unlike all others by `number`.
    pub(crate) fn to_name(self, number: u64) -> String {
        let (oid, before) = (self.oid.get(), self.before.get());
        format!("{VOTED_PREFIX}{oid:016x}-{before:016x}-{number:016x}")
    }

    /// The inverse of [`Self::to_name`].
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        let mut numbers = name.strip_prefix(VOTED_PREFIX)?.split('-').map(|digits| {
            let is_hex = digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            is_hex.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
        });
        let (oid, before, _) = (numbers.next()??, numbers.next()??, numbers.next()??);
        numbers.next().is_none().then_some(Self { oid: Oid::new(oid), before: Tid::new(before) })
    }
}

/// Whether a name in `tmp` is that of an upload.
pub(crate) fn is_upload(name: &str) -> bool {
    name.starts_with(UPLOAD_PREFIX)
}

/// A blob that is being read.
pub(crate) struct Reader {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
}

impl BlobReader for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            match io::Read::read(&mut self.file, buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read.map_err(io_at("reading", &self.path)),
            }
        }
    }
}

/// Bytes of a file that is removed here and now.
const REMOVED_AT_ONCE: u64 = 16 << 20;
const UPLOAD_PREFIX: &str = "zeolith-upload-";
const VOTED_PREFIX: &str = "zeolith-voted-";
/// So many bytes of an upload are synced at a time: a sync of everything at its end would keep the disk so
/// busy that the syncs of others' commits wait for it.
const SYNC_EVERY: usize = 32 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_clients_stay_in_their_place() {
        for name in ["0x03a.tmp", "0x03a.tmp-", ".tmp", "x.tmpü"] {
            assert!(is_shared_name(name), "{name}");
        }
        for name in ["", "a", "../x.tmp-", "/etc/x.tmp", "x/y.tmp", "x.tmp--", "x.tmp\0", "..", "x.blob", "ü"]
        {
            assert!(!is_shared_name(name), "{name}");
        }
    }

    #[test]
    fn a_voted_name_tells_what_it_was_made_of() {
        let voted = VotedName { oid: Oid::new(0xfedc_ba98_7654_3210), before: Tid::new(7) };
        assert_eq!(VotedName::from_name(&voted.to_name(u64::MAX)), Some(voted));
        let name = voted.to_name(0);
        for bad in
            [&name[1..], &name[..name.len() - 1], &format!("{name}-{:016x}", 1), &name.replace('7', "+")]
        {
            assert_eq!(VotedName::from_name(bad), None, "{bad}");
        }
    }
}
