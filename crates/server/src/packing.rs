//! Packs on threads of their own: started and cancelled by clients, shown in the log and in the status, ended
//! when the server stops.

pub mod progress;

use crate::{
    host::{Host, Mail},
    log,
    refusals::refusal,
};
use progress::Progress;
use std::{
    ops::ControlFlow,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};
use zeolith_core::{Answer, Caller, SessionId};
use zeolith_storage::{PackOutcome, PackPhase, PackProgress, Result, StorageError};
use zeolith_types::{PackStatus, Reply, Timestamp};

/// The packs of one storage that are under way, and the estimates.
#[derive(Default)]
pub(crate) struct Packs {
    threads: Vec<JoinHandle<()>>,
    /// The server stops, and so do they.
    stopping: bool,
    /// How far the one pack is that the storage lets go on.
    status: Option<PackStatus>,
    /// Somebody wants that one to end.
    cancelled: bool,
}

/// Who gets the answer at the end.
type Waiting = (SessionId, Caller);

/// Packs a storage. `waiting` is who gets the answer, if somebody waits for it.
pub(crate) fn start(host: &Arc<Host>, label: String, time: Timestamp, waiting: Option<Waiting>) {
    host.coordinator().packing(time.to_tid());
    spawn(host, waiting, move |host| pack(host, &label, time));
}

/// Finds out what a pack would do.
pub(crate) fn start_estimate(host: &Arc<Host>, label: String, time: Timestamp, waiting: Waiting) {
    spawn(host, Some(waiting), move |host| estimate(host, &label, time));
}

/// Ends the pack that is under way; whether there is one. It ends soon, and whoever waits for it gets an error.
pub(crate) fn cancel(host: &Host, label: &str) -> bool {
    let mut packs = lock(&host.packs);
    let is_packing = packs.status.is_some();
    packs.cancelled = is_packing;
    drop(packs);
    if is_packing {
        tracing::info!(target: log::STORAGE_SERVER, "({label}) pack: is to be cancelled");
    }
    is_packing
}

/// The pack that is under way.
pub(crate) fn status(host: &Host) -> Option<PackStatus> {
    lock(&host.packs).status.clone()
}

/// Ends all packs and waits for that; none begins afterwards.
pub(crate) fn stop(host: &Host) {
    let threads = {
        let mut packs = lock(&host.packs);
        packs.stopping = true;
        std::mem::take(&mut packs.threads)
    };
    for thread in threads {
        let _ = thread.join();
    }
}

/// Does something long on a thread, and answers at its end.
fn spawn(
    host: &Arc<Host>,
    waiting: Option<Waiting>,
    work: impl FnOnce(&Host) -> Result<Reply> + Send + 'static,
) {
    let mut packs = lock(&host.packs);
    packs.threads.retain(|thread| !thread.is_finished());
    if packs.stopping {
        return;
    }
    let (for_thread, asked) = (Arc::clone(host), waiting.clone());
    let thread = thread::Builder::new().name(format!("pack {}", host.name)).spawn(move || {
        let result = work(&for_thread).map_err(refusal);
        if let Some((session, to)) = asked {
            for_thread.send(session, Mail::Packed(Answer { to, result }));
        }
    });
    match (thread, waiting) {
        (Ok(thread), _) => packs.threads.push(thread),
        (Err(error), waiting) => {
            tracing::error!(target: log::STORAGE_SERVER, "('{}') can't start a pack: {error}", host.name);
            if let Some((session, to)) = waiting {
                let source = refusal(StorageError::Format(format!("can't start a pack: {error}")));
                host.send(session, Mail::Packed(Answer { to, result: Err(source) }));
            }
        }
    }
}

fn pack(host: &Host, label: &str, time: Timestamp) -> Result<Reply> {
    let seconds = time.as_secs_f64();
    let say = |what: &str| {
        tracing::info!(target: log::STORAGE_SERVER, "({label}) pack(time={seconds}) {what}");
    };
    say("started...");
    let mut shown = Shown { host, progress: None };
    let mut has_packed = false;
    let result = host.storage.pack(time, &mut |progress: PackProgress| {
        has_packed = progress.phase == PackPhase::Blobs;
        shown.show(progress)
    });
    drop(shown);
    has_packed |= result.is_ok();
    match &result {
        Ok(PackOutcome::Packed { before, after, held }) => {
            say(&format!("complete: {before} bytes before, {after} after{}", progress::held(*held)));
        }
        Ok(PackOutcome::NothingToDo) => {
            say("complete: there is nothing to drop that has not been dropped before");
        }
        Err(StorageError::Cancelled) if has_packed => say("cancelled: some blobs stay until the next pack"),
        Err(StorageError::Cancelled) => say("cancelled: nothing has changed"),
        Err(error) => {
            tracing::error!(target: log::STORAGE_SERVER, "({label}) pack(time={seconds}) failed: {error}");
        }
    }
    if has_packed {
        // Mail comes in the order in which it is sent: everybody knows the sizes before the caller goes on.
        host.tell_sizes();
    }
    result.map(|_| Reply::None)
}

fn estimate(host: &Host, label: &str, time: Timestamp) -> Result<Reply> {
    let mut go_on = |_: PackProgress| match lock(&host.packs).stopping {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    };
    let estimate = host.storage.estimate_pack(time, &mut go_on)?;
    let (before, after) = (estimate.before, estimate.after);
    let what = format!("pack_estimate(time={}): {before} bytes now, {after} afterwards", time.as_secs_f64());
    tracing::info!(target: log::STORAGE_SERVER, "({label}) {what}");
    Ok(Reply::PackEstimate { before, after })
}

/// Shows a pack in the log and in the status as long as it is under way.
struct Shown<'a> {
    host: &'a Host,
    /// Nothing as long as the storage has not let the pack begin.
    progress: Option<Progress>,
}

impl Shown<'_> {
    fn show(&mut self, now: PackProgress) -> ControlFlow<()> {
        let clock = self.host.clock.now();
        let progress = self.progress.get_or_insert_with(|| Progress::begin(clock.uptime, clock.time));
        let status = progress.status(now, clock.uptime);
        if progress.is_worth_a_line(now.phase, clock.uptime) {
            let line = progress::line(&status);
            tracing::info!(target: log::STORAGE_SERVER, "('{}') pack: {line}", self.host.name);
        }
        let mut packs = lock(&self.host.packs);
        packs.status = Some(status);
        match packs.stopping || packs.cancelled {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if self.progress.is_some() {
            let mut packs = lock(&self.host.packs);
            (packs.status, packs.cancelled) = (None, false);
        }
    }
}

fn lock(packs: &Mutex<Packs>) -> MutexGuard<'_, Packs> {
    packs.lock().unwrap_or_else(PoisonError::into_inner)
}
