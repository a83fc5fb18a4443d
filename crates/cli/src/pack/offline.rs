//! Packs a database in this process. Its lock keeps servers away meanwhile.

use super::{Options, Trouble, show, show::Show};
use crate::{
    eventlog::{EventLog, LogSettings},
    open::{close, open_storages},
    settings::{self, DemoSettings, FileSettings, StorageKind, StorageSettings},
};
use std::{
    ops::ControlFlow,
    path::Path,
    time::{Instant, SystemTime},
};
use zeolith_server::pack_progress::Progress;
use zeolith_storage::{PackOutcome, PackProgress, Storage, StorageError};
use zeolith_types::Timestamp;

pub(super) fn run(time: f64, options: &Options) -> Result<(), Trouble> {
    let settings = match (&options.file, &options.configure) {
        (Some(path), _) => of_file(path, options)?,
        (None, Some(location)) => of_configuration(location, options)?,
        (None, None) => return Err(Trouble::NotStarted("name a server or a file".to_owned())),
    };
    // What opening finds wrong is for people to know.
    let mut log = LogSettings::terminal();
    log.level = WARNING;
    let _log = EventLog::install(log).map_err(|error| Trouble::NotStarted(error.to_string()))?;
    // Nobody commits, so there are no conflicts that a process would resolve.
    let opened = open_storages(&[settings], None).map_err(|error| Trouble::Failed(error.to_string()))?;
    let result = match opened.first() {
        Some(named) => pack(&*named.storage, Timestamp::from_secs_f64(time), options),
        None => Ok(()),
    };
    close(&opened);
    result.map_err(|error| Trouble::Failed(error.to_string()))
}

fn of_file(path: &Path, options: &Options) -> Result<StorageSettings, Trouble> {
    // Opening would make it.
    if !path.is_file() {
        return Err(Trouble::NotStarted(format!("there is no file {}", path.display())));
    }
    let mut file = FileSettings::new(path);
    if let Some(directory) = options.blob_dir.as_deref().filter(|directory| !directory.is_dir()) {
        return Err(Trouble::NotStarted(format!("there is no directory {}", directory.display())));
    }
    file.blob_directory.clone_from(&options.blob_dir);
    (file.pack_gc, file.pack_keep_old) = (!options.no_gc, !options.no_old);
    Ok(StorageSettings { name: "1".to_owned(), kind: StorageKind::File(file) })
}

fn of_configuration(location: &str, options: &Options) -> Result<StorageSettings, Trouble> {
    let settings = settings::load(location, &[]).map_err(|error| Trouble::NotStarted(error.to_string()))?;
    let wanted = options.storage.to_lowercase();
    let named = settings.storages.into_iter().find(|storage| storage.name == wanted);
    let named = named.ok_or_else(|| {
        Trouble::NotStarted(format!("{location} has no storage '{wanted}'; say which by --storage"))
    })?;
    if creates(&named.kind) {
        return Err(Trouble::NotStarted(format!("{location} says create: opening it would empty the file")));
    }
    Ok(named)
}

/// Whether opening a storage would throw away what is there. As deep as the sections of the configuration.
fn creates(kind: &StorageKind) -> bool {
    match kind {
        StorageKind::File(file) => file.create,
        StorageKind::Memory(_) => false,
        StorageKind::Demo(DemoSettings { base, changes, .. }) => {
            [base, changes].into_iter().flatten().any(|kind| creates(kind))
        }
        StorageKind::Zlib(zlib) => creates(&zlib.base),
        StorageKind::Blob(blobs) => creates(&blobs.inner),
    }
}

fn pack(storage: &dyn Storage, time: Timestamp, options: &Options) -> Result<(), StorageError> {
    let mut show = Show::new(options.quiet);
    let begun = Instant::now();
    let mut progress = Progress::begin(begun.elapsed(), SystemTime::now().into());
    let mut report = |now: PackProgress| {
        show.progress(&progress.status(now, begun.elapsed()));
        ControlFlow::Continue(())
    };
    if options.dry_run {
        let estimate = storage.estimate_pack(time, &mut report)?;
        show.end(&show::estimate(estimate.before, estimate.after));
        return Ok(());
    }
    match storage.pack(time, &mut report)? {
        PackOutcome::Packed { before, after, .. } => show.end(&show::packed(before, after)),
        PackOutcome::NothingToDo => {
            show.end("there is nothing to drop that has not been dropped before");
        }
    }
    Ok(())
}

const WARNING: u8 = 30;
