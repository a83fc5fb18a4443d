//! Packing: a new file without what nobody needs any more, beside commits and loads.
//!
//! Three passes over the file: find the objects' revisions at the pack time, mark those that are kept, copy
//! them. Then what was committed meanwhile is copied too, until so little is left that the log writer can wait
//! for it, and the new file takes the place of the old. Until that moment the old file is untouched, and
//! readers that began before it keep it as long as they need it.

mod copy;
mod input;
mod mark;
mod output;
mod switch;

use crate::{
    saved,
    storage::{FileStorage, guard, read_only},
};
use copy::Copier;
use mark::Kept;
use output::Output;
use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use zeolith_storage::{PackOutcome, PackPhase, PackProgress, Result, StorageError};
use zeolith_types::Tid;

/// Tells how far a pack is, and hears whether it is to go on.
pub(crate) struct Watch<'a> {
    report: &'a mut dyn FnMut(PackProgress) -> ControlFlow<()>,
    next: (Option<PackPhase>, u64),
}

impl<'a> Watch<'a> {
    fn new(report: &'a mut dyn FnMut(PackProgress) -> ControlFlow<()>) -> Self {
        Self { report, next: (None, 0) }
    }

    /// So much of a phase is done.
    fn at(&mut self, phase: PackPhase, done: u64, total: u64) -> Result<()> {
        if self.next.0 == Some(phase) && done < self.next.1 {
            return Ok(());
        }
        self.next = (Some(phase), done + total / REPORTS);
        self.now(phase, done, total)
    }

    fn now(&mut self, phase: PackPhase, done: u64, total: u64) -> Result<()> {
        match (self.report)(PackProgress { phase, done, total }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(StorageError::Cancelled),
        }
    }
}

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
        let _packing = Packing::begin(&self.packing)?;
        guard(&self.ledger).check()?;
        let mut watch = Watch::new(report);
        let state = self.state.load_full();
        if state.index.count() == 0 {
            return Ok(PackOutcome::NothingToDo);
        }
        let Some(mut kept) = Kept::survey(&state, until, self.options.pack_gc, &mut watch)? else {
            return Ok(PackOutcome::NothingToDo);
        };
        kept.mark(&mut watch)?;
        let path = saved::with_suffix(&self.path, ".pack");
        let file = Arc::clone(&state.file);
        let packed = Output::create(&*self.disk, &path)
            .and_then(|output| Copier::start(&file, output, kept, &mut watch))
            .and_then(|copier| match copier.has_gained() {
                true => self.switch_to(copier, &mut watch).map(Some),
                false => Ok(None),
            });
        if !matches!(packed, Ok(Some(_))) {
            // What is in the way of removing it now, the next start deals with.
            let _ = self.disk.remove(&path);
        }
        let Some((before, after)) = packed? else {
            return Ok(PackOutcome::NothingToDo);
        };
        Ok(PackOutcome::Packed { before, after })
    }
}

/// About so often a phase is reported.
const REPORTS: u64 = 200;
