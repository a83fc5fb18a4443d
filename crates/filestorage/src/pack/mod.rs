//! Packing: a new file without what nobody needs any more, beside commits and loads.
//!
//! Three passes over the file: find the objects' revisions at the pack time, mark those that are kept, copy
//! them. Then what was committed meanwhile is copied too, until so little is left that the log writer can wait
//! for it, and the new file takes the place of the old. Until that moment the old file is untouched, and
//! readers that began before it keep it as long as they need it.

mod behind;
mod copy;
mod estimate;
mod kept;
mod mark;
mod output;
mod references;
mod survey;
mod switch;
mod watch;

use crate::{
    saved,
    storage::{FileStorage, guard, read_only},
};
use copy::Copier;
use output::Output;
use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use survey::Survey;
use switch::Switched;
use watch::Watch;
use zeolith_storage::{PackOutcome, PackProgress, Result, StorageError};
use zeolith_types::Tid;

/// The right to pack, which one has at a time.
pub(crate) struct Packing<'a>(&'a AtomicBool);

impl<'a> Packing<'a> {
    fn begin(flag: &'a AtomicBool) -> Result<Self> {
        match flag.swap(true, Ordering::AcqRel) {
            false => Ok(Self(flag)),
            true => Err(StorageError::Format("Already packing".into())),
        }
    }
}

impl Drop for Packing<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl FileStorage {
    pub(crate) fn pack_until(
        &self,
        until: Tid,
        report: &mut dyn FnMut(PackProgress) -> ControlFlow<()>,
    ) -> Result<PackOutcome> {
        if self.options.read_only {
            return Err(read_only());
        }
        let packing = Packing::begin(&self.packing)?;
        guard(&self.ledger).check()?;
        let mut watch = self.watch(report);
        let state = self.state.load_full();
        if state.index.count() == 0 {
            return Ok(PackOutcome::NothingToDo);
        }
        let Some(survey) = Survey::of(&state, until, &mut watch)? else {
            return Ok(PackOutcome::NothingToDo);
        };
        let kept = mark::mark(survey, self.options.pack_gc, &mut watch)?;
        let path = saved::with_suffix(&self.path, ".pack");
        let file = Arc::clone(&state.file);
        let packed = Output::create(&*self.disk, &path)
            .and_then(|output| Copier::start(&file, output, kept, &mut watch))
            .and_then(|mut copier| match copier.has_gained() {
                true => {
                    copier.copy_later(state.end, &mut watch)?;
                    // What is committed now must be copied faster than it comes.
                    watch.hurry();
                    self.switch_to(copier, &mut watch).map(Some)
                }
                false => Ok(None),
            });
        if !matches!(packed, Ok(Some(_))) {
            // What is in the way of removing it now, the next start deals with.
            let _ = self.disk.remove(&path);
        }
        let Some(Switched { before, after, held, nameless }) = packed? else {
            return Ok(PackOutcome::NothingToDo);
        };
        // All is done but to give space back, and for that the old file must not be open here.
        drop((packing, file, state));
        for file in nameless {
            // At the worst the end of the handle does it at once.
            let _ = file.give_back(READERS_PATIENCE);
        }
        Ok(PackOutcome::Packed { before, after, held })
    }

    /// Whoever watches a pack of this storage.
    fn watch<'a>(&self, report: &'a mut dyn FnMut(PackProgress) -> ControlFlow<()>) -> Watch<'a> {
        Watch::new(report, self.options.pack_rate_max.zip(self.options.clock))
    }
}

/// How long the space of the old file is kept for those who still read it here, before they decide when it goes.
const READERS_PATIENCE: Duration = Duration::from_secs(2);
