//! The end of a pack: what was committed meanwhile is copied, and the new file takes the place of the old.
//!
//! Nobody commits during the last step, which copies little, syncs it, and renames. Transactions between their
//! vote and their finish move with the file.

use super::{
    copy::Copier,
    output::{Output, failed},
    watch::{PATIENCE, Watch},
};
use crate::{
    ledger::Ledger,
    saved,
    storage::{FileStorage, State, guard, poisoned},
};
use std::{
    io,
    path::Path,
    sync::{Arc, PoisonError},
};
use zeolith_disk::Access;
use zeolith_storage::{PackPhase, Result};

impl FileStorage {
    /// Puts the copy in the place of the file; the sizes before and after.
    pub(super) fn switch_to(&self, mut copier: Copier<'_>, watch: &mut Watch<'_>) -> Result<(u64, u64)> {
        // Twice, since syncing what was copied first takes a while.
        for _ in 0..2 {
            self.catch_up(&mut copier, watch)?;
            copier.output.sync()?;
        }
        self.catch_up(&mut copier, watch)?;
        // An earlier pack's file is given back to the disk when it is closed: after the switch, since that can
        // take long.
        let _old = self.disk.open(&saved::with_suffix(&self.path, ".old"), Access::Read);
        // Whoever saves the index must not save that of the old file any more.
        let mut index_saved_to = guard(&self.index_saved_to);
        let sizes = self.switch_now(copier, watch)?;
        *index_saved_to = 0;
        let saved = self.save_index(&mut index_saved_to, 0);
        // Without it the next start takes longer, and the next checkpoint tries again.
        drop(saved);
        Ok(sizes)
    }

    /// Copies what has been committed, until that is little.
    fn catch_up(&self, copier: &mut Copier<'_>, watch: &mut Watch<'_>) -> Result<()> {
        for _ in 0..CATCH_UPS_MAX {
            let end = guard(&self.ledger).end;
            let behind = end - copier.copied_to;
            copier.copy_later(end, watch)?;
            if behind <= LITTLE {
                break;
            }
        }
        Ok(())
    }

    fn switch_now(&self, mut copier: Copier<'_>, watch: &mut Watch<'_>) -> Result<(u64, u64)> {
        loop {
            let last_tid = guard(&self.last_tid);
            // As long as nobody finishes a transaction, the end stays where it is.
            let end = self.sound_end()?;
            copier.copy_later(end, watch)?;
            copier.output.sync()?;
            let mut ledger = guard(&self.ledger);
            if ledger.has_backpointers() {
                // An undo that has been voted says where things are in the old file. It will end soon.
                drop(last_tid);
                let waited = self.ledger_changed.wait_timeout(ledger, PATIENCE);
                drop(waited.unwrap_or_else(PoisonError::into_inner));
                watch.now(PackPhase::CatchUp, end, end)?;
                continue;
            }
            // What is voted must find its space in the new file as well.
            if ledger.voted_len > 0 {
                let new = &copier.output.data;
                let allocated = new.file.allocate(copier.output.position(), ledger.voted_len);
                allocated.map_err(|source| failed(&new.path, source))?;
            }
            self.replace_marked(&copier.output, &ledger)?;
            let after = self.replace_state(copier, &mut ledger);
            drop(ledger);
            let directory = self.path.parent().unwrap_or(Path::new("."));
            if let Err(error) = self.disk.sync_directory(directory) {
                // Nobody knows which file will be there after a power failure.
                guard(&self.ledger).poison(poisoned(&self.path, &error));
            }
            return Ok((end, after));
        }
    }

    /// The end of what is durable, if more may be written after it.
    fn sound_end(&self) -> Result<u64> {
        let ledger = guard(&self.ledger);
        ledger.check()?;
        Ok(ledger.end)
    }

    /// The new file takes the place of the old, and is marked as durable before it does: after a power failure
    /// whichever is there finds a mark of its own.
    fn replace_marked(&self, output: &Output, ledger: &Ledger) -> Result<()> {
        let mut watermark = guard(&self.watermark);
        let watermark = watermark.as_mut().expect("a file that is written to has a watermark");
        let before = watermark.move_to(&output.data, output.position())?;
        self.replace_file(ledger).inspect_err(|_| watermark.keep(before))
    }

    /// From here on the name of the file means the new one. After an error nothing has changed.
    fn replace_file(&self, ledger: &Ledger) -> Result<()> {
        let [pack, old, index] =
            [".pack", ".old", ".index"].map(|suffix| saved::with_suffix(&self.path, suffix));
        let keep_old = self.options.pack_keep_old;
        // A start must not take it for the index of the new file.
        self.remove_if_there(&index)?;
        if keep_old {
            self.remove_if_there(&old)?;
            self.disk.link(&self.path, &old).map_err(|source| failed(&old, source))?;
        }
        if let Err(source) = self.disk.rename(&pack, &self.path) {
            if keep_old {
                // It is a second name of the file that stays in use.
                let _ = self.disk.remove(&old);
            }
            return Err(failed(&pack, source));
        }
        // Both only take space if they stay: what had been reserved for transactions that go to the new
        // file now, and the file of an earlier pack.
        if keep_old && ledger.has_reserve() {
            let _ = self.state.load().file.file.set_len(ledger.end);
        }
        if !keep_old {
            let _ = self.remove_if_there(&old);
        }
        Ok(())
    }

    fn remove_if_there(&self, path: &Path) -> Result<()> {
        match self.disk.remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(path, error)),
            _ => Ok(()),
        }
    }

    /// Shows readers the new file; its size.
    fn replace_state(&self, copier: Copier<'_>, ledger: &mut Ledger) -> u64 {
        let mut unpublished = guard(&self.unpublished);
        for transaction in unpublished.iter_mut() {
            transaction.end = copier.moved(transaction.end);
        }
        let old = self.state.load_full();
        let (published, end) = (copier.moved(old.end), copier.output.position());
        let file = Arc::new(copier.output.into_data(&self.path));
        let index = Arc::new(copier.index);
        ledger.move_to(end, &file, &index);
        let generation = ledger.generation;
        self.state.store(Arc::new(State { file, index, tid: old.tid, end: published, generation }));
        end
    }
}

/// So many bytes may be left to copy when the log writer is stopped.
const LITTLE: u64 = 256 << 10;
/// If commits come so fast that this often too much is left, they have to wait.
const CATCH_UPS_MAX: usize = 64;
