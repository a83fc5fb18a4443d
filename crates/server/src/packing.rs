//! Packs on threads of their own: started by clients, reported in the log, ended when the server stops.

use crate::{
    host::{Host, Mail},
    log,
    refusals::refusal,
};
use std::{
    ops::ControlFlow,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};
use zeolith_core::{Caller, SessionId};
use zeolith_storage::{PackOutcome, PackPhase, PackProgress, StorageError};
use zeolith_types::{Reply, Timestamp};

/// The packs of one storage that are under way.
#[derive(Default)]
pub(crate) struct Packs {
    threads: Vec<JoinHandle<()>>,
    /// The server stops, and so do they.
    stopping: bool,
}

/// Packs a storage. `waiting` is who gets the answer, if somebody waits for it.
pub(crate) fn start(host: &Arc<Host>, label: String, time: Timestamp, waiting: Option<(SessionId, Caller)>) {
    let mut packs = lock(&host.packs);
    packs.threads.retain(|thread| !thread.is_finished());
    if packs.stopping {
        return;
    }
    let for_thread = Arc::clone(host);
    let name = format!("pack {}", host.name);
    let asked = waiting.clone();
    let thread = thread::Builder::new().name(name).spawn(move || run(&for_thread, &label, time, asked));
    match (thread, waiting) {
        (Ok(thread), _) => packs.threads.push(thread),
        (Err(error), waiting) => {
            tracing::error!(target: log::STORAGE_SERVER, "('{}') can't start a pack: {error}", host.name);
            if let Some((session, to)) = waiting {
                let source = refusal(StorageError::Format(format!("can't start a pack: {error}")));
                host.send(session, Mail::Packed(to, Err(source)));
            }
        }
    }
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

fn run(host: &Host, label: &str, time: Timestamp, waiting: Option<(SessionId, Caller)>) {
    let seconds = time.as_secs_f64();
    tracing::info!(target: log::STORAGE_SERVER, "({label}) pack(time={seconds}) started...");
    let mut told = Told::default();
    let result = host.storage.pack(time, &mut |progress| {
        told.tell(&host.name, progress);
        if lock(&host.packs).stopping { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    match &result {
        Ok(PackOutcome::Packed { before, after }) => {
            let sizes = format!("{before} bytes before, {after} after");
            tracing::info!(target: log::STORAGE_SERVER, "({label}) pack(time={seconds}) complete: {sizes}");
        }
        Ok(PackOutcome::NothingToDo) => {
            let why = "there is nothing to drop that has not been dropped before";
            tracing::info!(target: log::STORAGE_SERVER, "({label}) pack(time={seconds}) complete: {why}");
        }
        Err(error) => {
            tracing::error!(target: log::STORAGE_SERVER, "({label}) pack(time={seconds}) failed: {error}");
        }
    }
    if result.is_ok() {
        // Mail comes in the order in which it is sent: everybody knows the sizes before the caller goes on.
        host.tell_sizes();
    }
    if let Some((session, to)) = waiting {
        host.send(session, Mail::Packed(to, result.map(|_| Reply::None).map_err(refusal)));
    }
}

/// How much of a pack has been told in the log.
#[derive(Default)]
struct Told(Option<(PackPhase, u64)>);

impl Told {
    /// A line for every tenth of a phase.
    fn tell(&mut self, storage: &str, progress: PackProgress) {
        let PackProgress { phase, done, total } = progress;
        let tenths = done.saturating_mul(10).checked_div(total).unwrap_or(10);
        if self.0.is_some_and(|(last, told)| last == phase && told >= tenths) {
            return;
        }
        self.0 = Some((phase, tenths));
        let doing = match phase {
            PackPhase::Survey => "looking for revisions",
            PackPhase::Mark => "marking what is kept",
            PackPhase::MarkLater => "marking what later transactions need",
            PackPhase::Copy => "copying what is kept",
            PackPhase::CatchUp => "copying what came later",
            PackPhase::Blobs => "removing blobs of what is not kept",
        };
        tracing::debug!(target: log::STORAGE_SERVER, "('{storage}') pack: {doing}, {tenths}0 %");
    }
}

fn lock(packs: &Mutex<Packs>) -> MutexGuard<'_, Packs> {
    packs.lock().unwrap_or_else(PoisonError::into_inner)
}
