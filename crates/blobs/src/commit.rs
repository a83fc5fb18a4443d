//! The way of a transaction with blobs.
//!
//! The storage votes on the records first. Then the files get names in `tmp` that tell what they are, durably
//! (`temporary.rs`). The storage's finish gives the tid and makes the records durable, and before anybody hears
//! of it the files get their names. Whoever dies in between has left what the next start needs to go on
//! (`recover.rs`).

use crate::{
    directory::{io_at, sync_directory},
    files,
    layout::blob_name,
    storage::{BlobStorage, Manner},
    temporary::{self, TemporaryFile, VotedName},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs, io,
    path::{Path, PathBuf},
    sync::{MutexGuard, PoisonError},
};
use zeolith_storage::{
    ConflictPolicy, Patience, Result, StorageError, TransactionId, Undone, UploadedBlob, Voted, Write,
    WriteSet,
};
use zeolith_types::{Oid, Tid, Timestamp};

/// A durable file that will be the blob of an object.
pub(crate) struct VotedFile {
    oid: Oid,
    path: PathBuf,
}

/// Where the content of a blob comes from.
enum Source {
    Upload(UploadedBlob),
    /// The blob of this revision of the object, because of an undo.
    Copy(Tid),
}

impl BlobStorage {
    pub(crate) fn vote_both(
        &self,
        id: TransactionId,
        writes: WriteSet,
        policy: ConflictPolicy,
        patience: Patience,
    ) -> Result<Voted> {
        self.check_sound()?;
        let (writes, blobs) = split(writes);
        if !blobs.is_empty() && patience == Patience::Now {
            return Err(StorageError::WouldBlock);
        }
        let voted = self.inner.vote(id, writes, policy, patience)?;
        if let Voted::Ready { undone, .. } = &voted
            && let Err(error) = self.hold_files(id, blobs, undone)
        {
            self.inner.abort(id);
            return Err(error);
        }
        Ok(voted)
    }

    /// Prepares the files of a transaction that the storage has voted on, and keeps them for its finish.
    pub(crate) fn hold_files(
        &self,
        id: TransactionId,
        blobs: BTreeMap<Oid, UploadedBlob>,
        undone: &[Undone],
    ) -> Result<()> {
        let files = self.sources(blobs, undone).and_then(|sources| self.prepare(sources))?;
        if !files.is_empty() {
            self.voted_files().insert(id, files);
        }
        Ok(())
    }

    pub(crate) fn abort_both(&self, id: TransactionId) {
        self.inner.abort(id);
        let files = self.voted_files().remove(&id);
        discard(files.unwrap_or_default());
    }

    pub(crate) fn finish_both(&self, ids: &[TransactionId], now: Timestamp) -> Vec<Result<Tid>> {
        if self.check_sound().is_err() {
            ids.iter().for_each(|id| self.abort_both(*id));
            return ids.iter().map(|_| self.check_sound().map(|()| Tid::ZERO)).collect();
        }
        let mut results = self.inner.finish(ids, now);
        if let Err((first, error)) = self.settle(ids, &results) {
            let why = format!(
                "a blob of a transaction that is durable could not be brought to its place ({error}): nothing is \
                 written until the storage is reopened, which completes it"
            );
            let why = self.poison.get_or_init(|| why);
            // What comes after it would be shown together with it.
            for result in results.iter_mut().skip(first).filter(|result| result.is_ok()) {
                *result = Err(StorageError::Poisoned(why.clone()));
            }
        }
        results
    }

    /// Brings the files of finished transactions to their places, durably. The error comes with the number of
    /// the first transaction that it may concern.
    fn settle(&self, ids: &[TransactionId], results: &[Result<Tid>]) -> Result<(), (usize, StorageError)> {
        let mut places = BTreeSet::new();
        let mut first = None;
        for (number, (id, result)) in ids.iter().zip(results).enumerate() {
            let Some(files) = self.voted_files().remove(id) else { continue };
            match result {
                Ok(tid) => {
                    first = first.or(Some(number));
                    for file in files {
                        let place = self.directory.place_of(file.oid);
                        self.bring(&file.path, &place, *tid).map_err(|error| (number, error))?;
                        places.insert(place);
                    }
                }
                // Nobody knows whether the records are in the storage; the next start does.
                Err(StorageError::Poisoned(_)) => {}
                Err(_) => discard(files),
            }
        }
        for place in places {
            sync_directory(&place).map_err(|error| (first.unwrap_or(0), error))?;
        }
        Ok(())
    }

    fn bring(&self, path: &Path, place: &Path, tid: Tid) -> Result<()> {
        let target = place.join(blob_name(tid));
        for _ in 0..ATTEMPTS {
            match files::rename(path, &target) {
                // A pack has found the place empty, and removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.directory.make_all(place)?,
                moved => return moved.map_err(io_at("moving a blob to", &target)),
            }
        }
        files::rename(path, &target).map_err(io_at("moving a blob to", &target))
    }

    fn check_sound(&self) -> Result<()> {
        match self.poison.get() {
            Some(why) => Err(StorageError::Poisoned(why.clone())),
            None => Ok(()),
        }
    }

    fn voted_files(&self) -> MutexGuard<'_, HashMap<TransactionId, Vec<VotedFile>>> {
        self.voted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The blobs that a transaction writes: what was uploaded, and copies for what an undo brings back.
    fn sources(
        &self,
        blobs: BTreeMap<Oid, UploadedBlob>,
        undone: &[Undone],
    ) -> Result<BTreeMap<Oid, Source>> {
        let mut sources = BTreeMap::new();
        for undone in undone {
            // A later undo in the transaction may take the object away again; the reference leaves the copy.
            if let Some(from) = self.copied(undone)? {
                sources.insert(undone.oid, Source::Copy(from));
            }
        }
        sources.extend(blobs.into_iter().map(|(oid, blob)| (oid, Source::Upload(blob))));
        Ok(sources)
    }

    /// Which revision's blob an undo brings back, if the object is a blob.
    fn copied(&self, undone: &Undone) -> Result<Option<Tid>> {
        let Undone { oid, tid, back_to } = *undone;
        let path = |tid| self.directory.path_of(oid, tid);
        let exists = |path: &Path| path.try_exists().map_err(io_at("looking at", path));
        let Some(from) = back_to else {
            return Ok((self.manner == Manner::Wrapper && exists(&path(tid))?).then_some(tid));
        };
        if exists(&path(from))? {
            return Ok(Some(from));
        }
        let record = self.inner.load_serial(oid, from, Patience::Wait)?;
        match is_blob(&record) {
            true => Err(StorageError::NoBlobFile { path: path(from), oid, tid: from }),
            false => Ok(None),
        }
    }

    /// Gives the files of a transaction their names in `tmp`, durably. After an error nothing is left of them.
    fn prepare(&self, sources: BTreeMap<Oid, Source>) -> Result<Vec<VotedFile>> {
        let mut files = Vec::with_capacity(sources.len());
        let prepare = || {
            for (oid, source) in sources {
                self.prepare_one(oid, &source, &mut files)?;
            }
            match files.is_empty() {
                true => Ok(()),
                false => sync_directory(&self.directory.temporary()),
            }
        };
        match prepare() {
            Ok(()) => Ok(files),
            Err(error) => {
                discard(files);
                Err(error)
            }
        }
    }

    fn prepare_one(&self, oid: Oid, source: &Source, files: &mut Vec<VotedFile>) -> Result<()> {
        let before = match self.inner.current_tid(oid, Patience::Wait) {
            Ok(tid) => tid,
            Err(StorageError::NoObject(_)) => Tid::ZERO,
            Err(error) => return Err(error),
        };
        let place = self.directory.place_of(oid);
        self.directory.make_all(&place)?;
        let name = VotedName { oid, before }.to_name(self.directory.next_number());
        let path = self.directory.temporary().join(name);
        match source {
            Source::Upload(blob) => {
                let upload = blob.content::<TemporaryFile>().ok_or_else(|| {
                    StorageError::Format(format!("the blob of {oid} was not uploaded to this storage"))
                })?;
                upload.move_to(&path)?;
                files.push(VotedFile { oid, path: path.clone() });
                self.directory.protect(&path, &place)
            }
            Source::Copy(from) => {
                files.push(VotedFile { oid, path: path.clone() });
                copy(&self.directory.path_of(oid, *from), &path)?;
                self.directory.protect(&path, &place)
            }
        }
    }
}

/// A transaction as the storage sees it, and the blobs that it does not see.
///
/// The records of blobs come last and backwards, as the reference writes them; but not the record of a blob that
/// the client has stored again after it resolved a conflict.
fn split(writes: WriteSet) -> (WriteSet, BTreeMap<Oid, UploadedBlob>) {
    let is_blob = |write: &Write| matches!(write, Write::StoreBlob { .. });
    if !writes.writes.iter().any(is_blob) {
        return (writes, BTreeMap::new());
    }
    let mut last_store = HashMap::new();
    for (number, write) in writes.writes.iter().enumerate() {
        if let Write::Store { oid, .. } = write {
            last_store.insert(*oid, number);
        }
    }
    let (mut records, mut of_blobs, mut blobs) = (Vec::new(), Vec::new(), BTreeMap::new());
    for (number, write) in writes.writes.into_iter().enumerate() {
        match write {
            Write::StoreBlob { oid, serial, data, blob } => {
                blobs.insert(oid, blob);
                if last_store.get(&oid).is_none_or(|last| *last < number) {
                    of_blobs.push(Write::Store { oid, serial, data });
                }
            }
            other => records.push(other),
        }
    }
    records.extend(of_blobs.into_iter().rev());
    (WriteSet { writes: records, ..writes }, blobs)
}

/// Whether a record is that of a blob.
fn is_blob(record: &[u8]) -> bool {
    zeolith_pickle::class_name(record).is_some_and(|(module, name)| module == "ZODB.blob" && name == "Blob")
}

/// Gives a committed blob, which never changes, a second name; where that can't be done, copies it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if files::link(from, to).is_ok() {
        return Ok(());
    }
    fs::copy(from, to).map_err(io_at("copying a blob to", to))?;
    let synced = fs::File::open(to).and_then(|file| file.sync_all());
    synced.map_err(io_at("syncing", to))
}

/// Removes the files of a transaction that will not be finished.
fn discard(files: Vec<VotedFile>) {
    files.into_iter().for_each(|file| temporary::discard(file.path));
}

/// A place that is removed again and again while a blob is on its way is the work of somebody else.
const ATTEMPTS: usize = 3;
