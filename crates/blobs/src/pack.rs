//! What a pack does to blobs: those of revisions that the storage does not have any more go.
//!
//! This comes after the storage's own pack, which has put its new file in place by then: a crash in between
//! leaves blobs that nobody refers to, never a record without its blob. A marker in the blob directory tells
//! the next pack that there is something left to do, even if the storage has nothing to pack.

use crate::{
    directory::{BlobDirectory, io_at, sync_directory},
    files,
    layout::blob_name,
    old::OldBlobs,
    remove::Remover,
    storage::{BlobStorage, Manner},
    walk::{Objects, revisions},
};
use std::{io, ops::ControlFlow, path::Path};
use zeolith_storage::{PackOutcome, PackPhase, PackProgress, Patience, Result, Storage, StorageError};
use zeolith_types::{Oid, Tid, Timestamp};

/// Is told how far a pack is, and says whether it is to go on.
type Report<'a> = dyn FnMut(PackProgress) -> ControlFlow<()> + 'a;

impl BlobStorage {
    /// Packs the storage, then its blobs.
    pub(crate) fn pack_both(&self, time: Timestamp, report: &mut Report<'_>) -> Result<PackOutcome> {
        let marker = self.directory.path().join(PENDING);
        let was_pending = marker.try_exists().map_err(io_at("looking at", &marker))?;
        if !was_pending && !self.inner.is_read_only() {
            files::create(&marker).map_err(io_at("making", &marker))?;
            sync_directory(self.directory.path())?;
        }
        let outcome = self.inner.pack(time, report);
        let begins = match &outcome {
            Ok(PackOutcome::Packed { .. }) => Some(Begins::Anew),
            // If nothing is gone, that pack did not come to its end, and what it would have replaced stays.
            Ok(PackOutcome::NothingToDo) if was_pending => {
                let is_due = self.has_begun_old(&marker)? || self.sweep(None).finds_something(report)?;
                is_due.then_some(Begins::WhereOneWasCutShort)
            }
            Ok(PackOutcome::NothingToDo) => None,
            Err(_) if was_pending => return outcome,
            Err(_) => None,
        };
        let old = match begins {
            Some(begins) => {
                let old = self.old(begins, &marker)?;
                self.sweep(old.as_ref()).run(report)?;
                old
            }
            None => None,
        };
        match files::remove(&marker) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_at("removing", &marker)(error));
            }
            _ => {}
        }
        if let Some(old) = old {
            old.end()?;
        }
        outcome
    }

    fn sweep<'a>(&'a self, old: Option<&'a OldBlobs>) -> Sweep<'a> {
        Sweep { storage: &*self.inner, directory: &self.directory, manner: self.manner, old }
    }

    fn has_begun_old(&self, marker: &Path) -> Result<bool> {
        let keeps = self.manner == Manner::FileStorage { keep_old: true };
        Ok(keeps && OldBlobs::beside(&self.directory).is_begun_by(marker)?)
    }

    /// Where the blobs of the file from before the pack are kept; `None` if they are not.
    fn old(&self, begins: Begins, marker: &Path) -> Result<Option<OldBlobs>> {
        let Manner::FileStorage { keep_old } = self.manner else { return Ok(None) };
        let old = OldBlobs::beside(&self.directory);
        if begins == Begins::Anew || !keep_old {
            old.remove()?;
        }
        if !keep_old {
            return Ok(None);
        }
        old.begin(&self.directory, marker)?;
        Ok(Some(old))
    }
}

/// Where the work on the blobs begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begins {
    /// The storage has just been packed.
    Anew,
    /// The storage had been packed when the server ended.
    WhereOneWasCutShort,
}

/// Goes through the blob directory once.
struct Sweep<'a> {
    storage: &'a dyn Storage,
    directory: &'a BlobDirectory,
    manner: Manner,
    /// To where what goes is moved, and where what stays gets a second name.
    old: Option<&'a OldBlobs>,
}

impl Sweep<'_> {
    /// Removes or moves all that the storage does not have any more.
    fn run(&self, report: &mut Report<'_>) -> Result<()> {
        let mut objects = Objects::of(self.directory)?;
        let (mut done, mut remover) = (0_u64, Remover::default());
        while let Some((oid, place)) = objects.next()? {
            self.object(oid, &place, &mut remover)?;
            done += 1;
            tell(done, report)?;
        }
        Ok(())
    }

    /// Whether there is a blob that the storage does not have any more.
    fn finds_something(&self, report: &mut Report<'_>) -> Result<bool> {
        let mut objects = Objects::of(self.directory)?;
        let mut done = 0_u64;
        while let Some((oid, place)) = objects.next()? {
            for tid in self.judged(&place)? {
                if !self.has(oid, tid)? {
                    return Ok(true);
                }
            }
            done += 1;
            tell(done, report)?;
        }
        Ok(false)
    }

    /// The revisions with a blob that can be judged: what is not published yet, the storage would not know.
    fn judged(&self, place: &Path) -> Result<Vec<Tid>> {
        let through = self.storage.last_transaction();
        let mut tids = revisions(place)?;
        tids.retain(|tid| *tid <= through);
        Ok(tids)
    }

    fn object(&self, oid: Oid, place: &Path, remover: &mut Remover) -> Result<()> {
        let mut is_changed = false;
        for tid in self.judged(place)? {
            let path = place.join(blob_name(tid));
            match (self.has(oid, tid)?, self.old) {
                (true, None) => {}
                (true, Some(old)) => old.share(self.directory, &path)?,
                (false, None) => {
                    remover.file(&path).map_err(io_at("removing", &path))?;
                    is_changed = true;
                }
                (false, Some(old)) => {
                    old.take(self.directory, &path)?;
                    is_changed = true;
                }
            }
        }
        if is_changed {
            self.directory.prune(place);
        }
        Ok(())
    }

    /// Whether the storage still has a record of the revision. The reference's wrapper asks for what can be
    /// loaded, its file storage keeps the blobs of all records that it keeps.
    fn has(&self, oid: Oid, tid: Tid) -> Result<bool> {
        if self.manner != Manner::Wrapper {
            return self.storage.has_record(oid, tid, Patience::Wait);
        }
        match self.storage.load_serial(oid, tid, Patience::Wait) {
            Ok(_) => Ok(true),
            Err(StorageError::NoObject(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn tell(done: u64, report: &mut Report<'_>) -> Result<()> {
    let progress = PackProgress { phase: PackPhase::Blobs, done, total: done };
    match done.is_multiple_of(REPORT_EVERY) && report(progress).is_break() {
        true => Err(StorageError::Cancelled),
        false => Ok(()),
    }
}

/// Tells that blobs of an earlier pack may have stayed.
pub(crate) const PENDING: &str = ".zeolith-pack";
/// Objects between two reports.
const REPORT_EVERY: u64 = 100;
