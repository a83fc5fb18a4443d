//! What a server that was killed has left in `tmp`, dealt with at the next start.
//!
//! An upload that no vote has seen goes. Of what was voted on the name tells whose blob it is to be and what
//! was current before: if the storage has a newer revision of the object, the transaction was finished, since
//! nobody else could write the object meanwhile, and the file comes to its place; if not, it goes.

use crate::{
    directory::{BlobDirectory, io_at, parent, sync_directory},
    files,
    temporary::{VotedName, is_upload},
};
use std::{fs, path::Path};
use zeolith_storage::{Patience, Result, Storage, StorageError};
use zeolith_types::Tid;

/// What was left in `tmp`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Uploads and blobs of transactions that were never finished: removed.
    pub removed: u64,
    /// Blobs of transactions that were finished: brought to their places.
    pub completed: u64,
}

/// Brings `tmp` in order. Nobody uses the storage yet.
pub(crate) fn recover(directory: &BlobDirectory, storage: &dyn Storage) -> Result<Recovered> {
    let temporary = directory.temporary();
    let mut recovered = Recovered::default();
    for entry in fs::read_dir(&temporary).map_err(io_at("reading", &temporary))? {
        let entry = entry.map_err(io_at("reading", &temporary))?;
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if is_upload(&name) {
            files::remove(&path).map_err(io_at("removing", &path))?;
            recovered.removed += 1;
        } else if let Some(voted) = VotedName::from_name(&name) {
            match target(directory, storage, voted)? {
                Some(tid) => {
                    bring(directory, &path, voted, tid)?;
                    recovered.completed += 1;
                }
                None => {
                    files::remove(&path).map_err(io_at("removing", &path))?;
                    recovered.removed += 1;
                }
            }
        }
    }
    if recovered != Recovered::default() {
        sync_directory(&temporary)?;
    }
    Ok(recovered)
}

/// The transaction that a voted blob belongs to, if it was finished and has no blob yet.
fn target(directory: &BlobDirectory, storage: &dyn Storage, voted: VotedName) -> Result<Option<Tid>> {
    let current = match storage.current_tid(voted.oid, Patience::Wait) {
        Ok(tid) if tid > voted.before => tid,
        Ok(_) | Err(StorageError::NoObject(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let path = directory.path_of(voted.oid, current);
    let exists = path.try_exists().map_err(io_at("looking at", &path))?;
    Ok((!exists).then_some(current))
}

fn bring(directory: &BlobDirectory, path: &Path, voted: VotedName, tid: Tid) -> Result<()> {
    let target = directory.path_of(voted.oid, tid);
    directory.make_all(parent(&target))?;
    directory.protect(path, parent(&target))?;
    files::rename(path, &target).map_err(io_at("moving a blob to", &target))?;
    sync_directory(parent(&target))
}
