//! Opens the storages that the settings name, and logs what was found in them.

use crate::settings::{FileSettings, StorageKind, StorageSettings};
use std::{sync::Arc, time::SystemTime};
use zeolith_disk::RealDisk;
use zeolith_filestorage::{FileStorage, IndexUse, OpenReport, Options};
use zeolith_server::NamedStorage;
use zeolith_storage::{Resolver, Storage, StorageError, memory::MemoryStorage};

/// A storage that can't be opened.
#[derive(Debug, thiserror::Error)]
#[error("storage '{name}' can't be opened: {source}")]
pub(crate) struct OpenError {
    name: String,
    source: StorageError,
}

/// Opens all storages, in their order, with one resolver of conflicts for all. Takes as long as their files need.
pub(crate) fn open_storages(
    storages: &[StorageSettings],
    resolver: &Arc<dyn Resolver>,
) -> Result<Vec<NamedStorage>, OpenError> {
    let mut opened: Vec<NamedStorage> = Vec::new();
    for settings in storages {
        let (pid, name) = (std::process::id(), &settings.name);
        let class = settings.kind.class();
        tracing::info!(target: "ZEO.runzeo", "({pid}) opening storage '{name}' using {class}");
        match open(&settings.kind, resolver) {
            Ok(storage) => opened.push(NamedStorage { name: name.clone(), storage }),
            Err(source) => {
                close(&opened);
                return Err(OpenError { name: name.clone(), source });
            }
        }
    }
    Ok(opened)
}

/// Closes storages that are not going to be served. What they hold is safe even if that fails.
pub(crate) fn close(storages: &[NamedStorage]) {
    for NamedStorage { name, storage } in storages {
        if let Err(error) = storage.close() {
            tracing::warn!(target: "ZEO.runzeo", "closing storage '{name}': {error}");
        }
    }
}

/// Opens a storage with those inside it, as deep as the sections of the configuration.
fn open(kind: &StorageKind, resolver: &Arc<dyn Resolver>) -> Result<Arc<dyn Storage>, StorageError> {
    match kind {
        StorageKind::Memory(name) => Ok(Arc::new(MemoryStorage::new(name))),
        StorageKind::File(file) => open_file(file, resolver),
        StorageKind::Demo(_) => {
            let message = "<demostorage> is not supported yet: serve a copy of the file by <filestorage>";
            Err(StorageError::Unsupported(message.to_owned()))
        }
    }
}

fn open_file(file: &FileSettings, resolver: &Arc<dyn Resolver>) -> Result<Arc<dyn Storage>, StorageError> {
    let FileSettings { create, read_only, quota, pack_gc, pack_keep_old, .. } = *file;
    let clock = || SystemTime::now().into();
    let options = Options {
        create,
        read_only,
        quota,
        pack_gc,
        pack_keep_old,
        clock: Some(clock),
        resolver: Some(Arc::clone(resolver)),
        ..Options::default()
    };
    let mut tenths = 0;
    let mut progress = |done: u64, all: u64| {
        let now = done.saturating_mul(10).checked_div(all).unwrap_or(10);
        if now > tenths && all >= SCAN_WORTH_TELLING {
            tenths = now;
            let path = file.path.display();
            tracing::info!(target: "ZODB.FileStorage", "scanning {path}: {}0 %", now);
        }
    };
    let (storage, report) =
        FileStorage::open_with_progress(Arc::new(RealDisk), &file.path, options, &mut progress)?;
    log_report(file, &report);
    Ok(Arc::new(storage))
}

fn log_report(file: &FileSettings, report: &OpenReport) {
    let path = file.path.display();
    if let IndexUse::Ignored { why } = &report.index {
        tracing::warn!(target: "ZODB.FileStorage", "{path}: the saved index is not used: {why}");
    }
    for finding in &report.findings {
        tracing::warn!(target: "ZODB.FileStorage", "{path}: {finding}");
    }
    if report.findings_omitted > 0 {
        tracing::warn!(target: "ZODB.FileStorage", "{path}: {} more findings", report.findings_omitted);
    }
    let OpenReport { objects, size, scanned, duration, .. } = report;
    let seconds = duration.as_secs_f64();
    let summary = format!("{objects} objects, {size} bytes, {scanned} of them scanned, in {seconds:.3} s");
    if *scanned >= SCAN_WORTH_TELLING {
        tracing::info!(target: "ZODB.FileStorage", "opened {path}: {summary}");
    } else {
        // At BLATHER: tests compare the INFO lines of a quick start with those of the reference.
        tracing::debug!(target: "ZODB.FileStorage", level_number = 15_u64, "opened {path}: {summary}");
    }
}

/// A scan of less is over before anybody asks.
const SCAN_WORTH_TELLING: u64 = 256 << 20;
