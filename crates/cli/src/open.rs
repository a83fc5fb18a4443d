//! Opens the storages that the settings name, and logs what was found in them.

use crate::{
    resolve::SiteResolver,
    settings::{DemoSettings, FileSettings, StorageKind, StorageSettings, ZlibSettings},
};
use std::{
    hash::{BuildHasher, Hasher, RandomState},
    path::Path,
    sync::Arc,
    time::SystemTime,
};
use tempfile::TempDir;
use zeolith_blobs::{BlobStorage, Layout, Manner, Options as BlobOptions, Recovered};
use zeolith_config::quoted;
use zeolith_disk::RealDisk;
use zeolith_filestorage::{FileStorage, IndexUse, OpenReport, Options};
use zeolith_interpreter::ProcessResolver;
use zeolith_layers::{DemoStorage, ZlibResolver, ZlibStorage, references};
use zeolith_server::{ConflictCounts, NamedStorage};
use zeolith_storage::{Resolver, Storage, StorageError, memory::MemoryStorage};
use zeolith_types::Tid;

/// A storage that can't be opened.
#[derive(Debug, thiserror::Error)]
#[error("storage '{name}' can't be opened: {source}")]
pub(crate) struct OpenError {
    name: String,
    source: StorageError,
}

/// Opens all storages, in their order, with one process for the conflicts of all. Takes as long as their files
/// need.
pub(crate) fn open_storages(
    storages: &[StorageSettings],
    process: Option<&Arc<ProcessResolver>>,
) -> Result<Vec<NamedStorage>, OpenError> {
    let mut opened: Vec<NamedStorage> = Vec::new();
    for settings in storages {
        let (pid, name) = (std::process::id(), &settings.name);
        let class = settings.kind.class();
        tracing::info!(target: "ZEO.runzeo", "({pid}) opening storage '{name}' using {class}");
        let (conflicts, process) = (Arc::<ConflictCounts>::default(), process.cloned());
        let resolver: Arc<dyn Resolver> = Arc::new(SiteResolver { process, counts: Arc::clone(&conflicts) });
        let place = Place { resolver, collects_garbage: true };
        match open(&settings.kind, &place) {
            Ok(storage) => opened.push(NamedStorage { name: name.clone(), storage, conflicts }),
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
    for NamedStorage { name, storage, .. } in storages {
        if let Err(error) = storage.close() {
            tracing::warn!(target: "ZEO.runzeo", "closing storage '{name}': {error}");
        }
    }
}

/// What the storages around a storage want of it.
#[derive(Clone)]
struct Place {
    resolver: Arc<dyn Resolver>,
    /// Whether a pack may drop what can't be reached from this storage's own root.
    collects_garbage: bool,
}

/// Opens a storage with those inside it, as deep as the sections of the configuration.
fn open(kind: &StorageKind, place: &Place) -> Result<Arc<dyn Storage>, StorageError> {
    match kind {
        StorageKind::Memory(name) => Ok(Arc::new(open_memory(name, place))),
        StorageKind::File(file) => open_file(file, place),
        StorageKind::Demo(demo) => open_demo(demo, place),
        StorageKind::Zlib(zlib) => open_zlib(zlib, place),
        StorageKind::Blob(blobs) => {
            let options = BlobOptions { manner: Manner::Wrapper, create: false };
            with_blobs(open(&blobs.inner, place)?, &blobs.directory, options)
        }
    }
}

fn open_memory(name: &str, place: &Place) -> MemoryStorage {
    let storage = MemoryStorage::new(name);
    if place.collects_garbage { storage.collecting_garbage(references) } else { storage }
}

fn open_demo(demo: &DemoSettings, place: &Place) -> Result<Arc<dyn Storage>, StorageError> {
    let base = match &demo.base {
        Some(base) => open(base, place)?,
        None => Arc::new(open_memory(UNNAMED, place)),
    };
    // The base refers to objects of the changes that the changes themselves do not, unless it is empty. Changes
    // that last are never collected, as in the reference: the next base may be another one.
    let is_empty = base.last_transaction() == Tid::ZERO;
    let collects_garbage = place.collects_garbage && is_empty && demo.changes.is_none();
    let over_base = Place { collects_garbage, ..place.clone() };
    let (changes, scratch) = match &demo.changes {
        Some(changes) => (open(changes, &over_base).inspect_err(|_| close_base(&*base))?, None),
        None => open_temporary(&over_base),
    };
    let names = || [&base, &changes].map(|storage| quoted(&storage.info().name));
    let name = demo.name.clone().unwrap_or_else(|| format!("DemoStorage({})", names().join(", ")));
    let seed = RandomState::new().build_hasher().finish();
    let resolver = Some(Arc::clone(&place.resolver));
    Ok(Arc::new(DemoStorage::new(name, base, changes, resolver, seed).with_scratch(scratch)))
}

/// Changes that are in no configuration: in memory, with blobs in a directory that goes with them. Where no such
/// directory can be made, without blobs.
fn open_temporary(place: &Place) -> (Arc<dyn Storage>, Option<TempDir>) {
    let changes: Arc<dyn Storage> = Arc::new(open_memory(UNNAMED, place));
    let directory = match tempfile::Builder::new().suffix(".demoblobs").tempdir() {
        Ok(directory) => directory,
        Err(error) => {
            let place = std::env::temp_dir();
            tracing::warn!(
                target: "ZODB.blob",
                "a demostorage keeps no blobs: can't make a directory for them in {}: {error}", place.display()
            );
            return (changes, None);
        }
    };
    let options = BlobOptions { manner: Manner::Wrapper, create: false };
    match with_blobs(Arc::clone(&changes), directory.path(), options) {
        Ok(storage) => (storage, Some(directory)),
        Err(error) => {
            tracing::warn!(target: "ZODB.blob", "a demostorage keeps no blobs: {error}");
            (changes, None)
        }
    }
}

fn close_base(base: &dyn Storage) {
    if let Err(error) = base.close() {
        tracing::warn!(target: "ZEO.runzeo", "closing the base of a demostorage: {error}");
    }
}

fn open_zlib(zlib: &ZlibSettings, place: &Place) -> Result<Arc<dyn Storage>, StorageError> {
    let resolver = Arc::new(ZlibResolver::new(Arc::clone(&place.resolver), zlib.compress));
    let base = open(&zlib.base, &Place { resolver, ..place.clone() })?;
    Ok(Arc::new(if zlib.clients_compress {
        ZlibStorage::for_compressing_clients(base)
    } else {
        ZlibStorage::new(base, zlib.compress)
    }))
}

fn open_file(file: &FileSettings, place: &Place) -> Result<Arc<dyn Storage>, StorageError> {
    let FileSettings { create, read_only, quota, pack_gc, pack_keep_old, pack_rate_max, .. } = *file;
    let clock = || SystemTime::now().into();
    let options = Options {
        create,
        read_only,
        quota,
        pack_gc: pack_gc && place.collects_garbage,
        pack_keep_old,
        pack_rate_max,
        clock: Some(clock),
        resolver: Some(Arc::clone(&place.resolver)),
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
    match &file.blob_directory {
        Some(directory) => {
            let options = BlobOptions { manner: Manner::FileStorage { keep_old: pack_keep_old }, create };
            with_blobs(Arc::new(storage), directory, options)
        }
        None => Ok(Arc::new(storage)),
    }
}

/// Gives a storage a blob directory.
fn with_blobs(
    storage: Arc<dyn Storage>,
    directory: &Path,
    options: BlobOptions,
) -> Result<Arc<dyn Storage>, StorageError> {
    let (storage, report) = BlobStorage::open(storage, directory, options)?;
    let (pid, path) = (std::process::id(), storage.directory().path().display());
    if report.directory.created {
        tracing::info!(target: "ZODB.blob", "({pid}) Blob directory '{path}/' does not exist. Created new directory.");
    }
    if report.directory.layout == Layout::Lawn {
        tracing::warn!(
            target: "ZODB.blob",
            "({pid}) Blob directory '{path}/' has the layout lawn, which is slow with many blobs; consider to \
             migrate it to bushy, with migrateblobs of ZODB"
        );
    }
    let Recovered { removed, completed } = report.recovered;
    if removed + completed > 0 {
        tracing::warn!(
            target: "ZODB.blob",
            "({pid}) Blob directory '{path}/': the last server ended amid transactions: {completed} blobs of \
             finished ones brought to their places, {removed} of others removed"
        );
    }
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

/// What the reference calls a storage in memory that is not in the configuration.
const UNNAMED: &str = "MappingStorage";
/// A scan of less is over before anybody asks.
const SCAN_WORTH_TELLING: u64 = 256 << 20;
