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
    format::TRANSACTION_HEADER_LEN,
    ledger::Ledger,
    saved,
    storage::{FileStorage, State, guard, poisoned},
};
use std::{
    io,
    path::Path,
    sync::{Arc, PoisonError},
    time::Duration,
};
use zeolith_disk::{Access, DiskFile};
use zeolith_storage::{Held, PackPhase, Result};
use zeolith_types::Timestamp;

/// What a switch has come to.
pub(super) struct Switched {
    /// The size of the file before.
    pub(super) before: u64,
    /// The size of the new one.
    pub(super) after: u64,
    pub(super) held: Held,
    /// The files that have lost their names by it.
    pub(super) nameless: Vec<Arc<dyn DiskFile>>,
}

/// How an attempt to switch has ended.
enum Attempt {
    Switched(Switched),
    /// So much has been committed that copying it would keep others waiting for too long.
    TooMuch,
    /// A transaction that has been voted on says where things are in the old file. It will end soon.
    Undoing,
}

impl FileStorage {
    /// Puts the copy in the place of the file.
    pub(super) fn switch_to(&self, mut copier: Copier<'_>, watch: &mut Watch<'_>) -> Result<Switched> {
        // Most of what came later, before anybody else has to wait for anything.
        self.catch_up(&mut copier, watch)?;
        // Whoever saves the index must not save that of the old file any more.
        let mut index_saved_to = guard(&self.index_saved_to);
        let nameless = self.soon_nameless();
        let switched = Switched { nameless, ..self.switch_soon(&mut copier, watch)? };
        *index_saved_to = 0;
        let saved = self.save_index(&mut index_saved_to, 0);
        // Without it the next start takes longer, and the next checkpoint tries again.
        drop(saved);
        Ok(switched)
    }

    /// The files that lose their names by the switch. Their space is given back when the last handle goes: not in the
    /// middle of the switch, since it can take long.
    fn soon_nameless(&self) -> Vec<Arc<dyn DiskFile>> {
        let suffixes: &[&str] =
            if self.options.pack_keep_old { &[".old", ".index"] } else { &["", ".old", ".index"] };
        let paths = suffixes.iter().map(|suffix| saved::with_suffix(&self.path, suffix));
        paths.filter_map(|path| self.disk.open(&path, Access::Write).ok()).collect()
    }

    /// Tries until little is left to copy and no undo is in the way.
    fn switch_soon(&self, copier: &mut Copier<'_>, watch: &mut Watch<'_>) -> Result<Switched> {
        let (mut bytes_max, mut rounds) = (HELD_BYTES_MAX, 0);
        loop {
            self.catch_up(copier, watch)?;
            match self.switch_now(copier, bytes_max)? {
                Attempt::Switched(switched) => return Ok(switched),
                Attempt::TooMuch => {
                    rounds += 1;
                    if rounds >= PATIENT_ROUNDS {
                        // Commits come faster than they are copied, so they have to wait for more.
                        bytes_max = bytes_max.saturating_mul(2);
                    }
                }
                Attempt::Undoing => {
                    let ledger = guard(&self.ledger);
                    if ledger.has_backpointers() {
                        let waited = self.ledger_changed.wait_timeout(ledger, PATIENCE);
                        drop(waited.unwrap_or_else(PoisonError::into_inner));
                    }
                }
            }
            watch.now(PackPhase::CatchUp, copier.copied_to, copier.copied_to)?;
        }
    }

    /// Copies what has been committed so far, durably, so that little is left to sync later.
    fn catch_up(&self, copier: &mut Copier<'_>, watch: &mut Watch<'_>) -> Result<()> {
        let end = self.sound_end()?;
        copier.copy_later(end, watch)?;
        copier.output.sync()
    }

    /// Switches if not more than `bytes_max` are to be copied. Nobody commits meanwhile, and nobody is told how
    /// far it is.
    fn switch_now(&self, copier: &mut Copier<'_>, bytes_max: u64) -> Result<Attempt> {
        let mut writer = guard(&self.writer);
        let begun = self.options.clock.map(|clock| clock());
        // As long as nobody finishes a transaction, the end stays where it is.
        let end = self.sound_end()?;
        let bytes = end - copier.copied_to;
        if bytes > bytes_max {
            return Ok(Attempt::TooMuch);
        }
        if guard(&self.ledger).has_backpointers() {
            return Ok(Attempt::Undoing);
        }
        copier.copy_rest(end)?;
        copier.output.sync()?;
        let mut ledger = guard(&self.ledger);
        // Perhaps it was voted on just now.
        if ledger.has_backpointers() {
            return Ok(Attempt::Undoing);
        }
        // What is voted must find its space in the new file as well.
        if ledger.voted_len > 0 {
            let new = &copier.output.data;
            let len = ledger.voted_len + TRANSACTION_HEADER_LEN as u64;
            let allocated = new.file.allocate(copier.output.position(), len);
            allocated.map_err(|source| failed(&new.path, source))?;
        }
        let old = Arc::clone(&self.state.load().file);
        self.replace_marked(&copier.output)?;
        let is_longer = ledger.has_reserve() || writer.room.is_there();
        let after = self.replace_state(copier, &mut ledger);
        writer.room.is_gone();
        drop(ledger);
        let directory = self.path.parent().unwrap_or(Path::new("."));
        if let Err(error) = self.disk.sync_directory(directory) {
            // Nobody knows which file will be there after a power failure.
            guard(&self.ledger).poison(poisoned(&self.path, &error));
        }
        let time = begun.zip(self.options.clock).map(|(begun, clock)| passed(begun, clock()));
        drop(writer);
        if self.options.pack_keep_old && is_longer {
            // For transactions that go to the new file now.
            let _ = old.file.set_len(end);
        }
        Ok(Attempt::Switched(Switched {
            before: end,
            after,
            held: Held { bytes, time },
            nameless: Vec::new(),
        }))
    }

    /// The end of what is durable, if more may be written after it.
    fn sound_end(&self) -> Result<u64> {
        let ledger = guard(&self.ledger);
        ledger.check()?;
        Ok(ledger.end)
    }

    /// The new file takes the place of the old, and is marked as durable before it does: after a power failure
    /// whichever is there finds a mark of its own.
    fn replace_marked(&self, output: &Output) -> Result<()> {
        let mut watermark = guard(&self.watermark);
        let watermark = watermark.as_mut().expect("a file that is written to has a watermark");
        let before = watermark.move_to(&output.data, output.position())?;
        self.replace_file().inspect_err(|_| watermark.keep(before))
    }

    /// From here on the name of the file means the new one. After an error nothing has changed.
    fn replace_file(&self) -> Result<()> {
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
        if !keep_old {
            // The file of an earlier pack only takes space if it stays.
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
    fn replace_state(&self, copier: &mut Copier<'_>, ledger: &mut Ledger) -> u64 {
        let mut unpublished = guard(&self.unpublished);
        for transaction in unpublished.iter_mut() {
            transaction.end = copier.moved(transaction.end);
        }
        let old = self.state.load_full();
        let (published, end) = (copier.moved(old.end), copier.output.position());
        let file = Arc::new(copier.output.data_as(&self.path));
        let index = Arc::new(std::mem::take(&mut copier.index));
        ledger.move_to(end, &file, &index);
        let generation = ledger.generation;
        let (recent, tid) = (Arc::default(), old.tid);
        self.state.store(Arc::new(State { file, index, recent, tid, end: published, generation }));
        end
    }
}

/// Nothing, if the clock was set back meanwhile.
fn passed(begun: Timestamp, now: Timestamp) -> Duration {
    now.since_epoch().saturating_sub(begun.since_epoch())
}

/// So many bytes are copied at most while others wait to commit.
const HELD_BYTES_MAX: u64 = 256 << 10;
/// So often it is tried to have no more left than that.
const PATIENT_ROUNDS: u32 = 32;
