//! Packs that are large enough for threads of their own: the same file comes out, and trouble in a thread is
//! trouble of the pack.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "support/packing.rs"]
mod packing;
mod support;

use packing::{later, record, reopened};
use std::{ops::ControlFlow, path::Path, sync::Arc};
use support::{Database, Folder, exists, store};
use zeolith_disk::{
    faults::{EIO, ENOSPC, Operation},
    memory::MemoryDisk,
};
use zeolith_filestorage::{FileStorage, Options};
use zeolith_storage::{PackOutcome, PackPhase, PackProgress, Result, Storage, StorageError};
use zeolith_types::Tid;

/// The database is a chain of so many objects, with as many that nothing refers to.
const CHAIN: u64 = 300;

/// A record of an object of the chain, of a size that is its own.
fn large(oid: u64, turn: u8) -> Vec<u8> {
    let next: Vec<u64> = Some(oid + 1).filter(|next| *next < CHAIN).into_iter().collect();
    let mut data = record(turn, &next);
    let size = [900, 40_000, 200_000, 7_000][oid as usize % 4];
    data.extend(std::iter::repeat_n(b'a' + turn, size));
    data
}

/// About 70 MB, of which a quarter stays.
fn filled() -> (Folder, Database) {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let oids: Vec<u64> = (0..2 * CHAIN).collect();
    let mut serials = vec![Tid::ZERO; oids.len() / 10];
    for turn in 0..2 {
        for (oids, serial) in oids.chunks(10).zip(&mut serials) {
            *serial =
                database.commit(oids.iter().map(|oid| store(*oid, *serial, &large(*oid, turn))).collect());
        }
    }
    (folder, database)
}

/// Packs, and ends it at the first report of the phase after a quarter of it.
fn pack(storage: &FileStorage, cancel: Option<PackPhase>) -> Result<PackOutcome> {
    storage.pack(later(), &mut |progress: PackProgress| match cancel {
        Some(phase) if progress.phase == phase && progress.done >= progress.total / 4 => {
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    })
}

/// Nothing is left of the pack, and the next one succeeds.
fn goes_on(folder: &Folder, database: Database, before: &[u8]) {
    assert!(folder.bytes() == before);
    assert!(!exists(&folder.file("Data.fs.pack")) && !exists(&folder.file("Data.fs.old")));
    assert!(matches!(pack(&database.storage, None), Ok(PackOutcome::Packed { .. })));
    let database = reopened(folder, database);
    for oid in 0..CHAIN {
        assert!(database.current(oid) == Some(large(oid, 1)), "{oid}");
    }
    assert_eq!(database.current(CHAIN), None);
}

#[test]
fn the_file_is_the_same_with_threads_and_without() {
    let (folder, database) = filled();
    let path = Path::new("/Data.fs");
    let memory = MemoryDisk::new(1 << 30);
    memory.put(path, folder.bytes());
    let (in_order, _) = FileStorage::open(Arc::new(memory.clone()), path, Options::default()).unwrap();
    assert!(matches!(pack(&in_order, None), Ok(PackOutcome::Packed { .. })));
    assert!(matches!(pack(&database.storage, None), Ok(PackOutcome::Packed { .. })));
    assert!(memory.get(path).unwrap() == folder.bytes());
}

#[test]
fn a_disk_that_fails_in_a_thread_ends_the_pack_and_nothing_else() {
    let (folder, database) = filled();
    let before = folder.bytes();
    for (operation, spared, errno) in [
        (Operation::Read, 40, EIO),
        (Operation::Read, 130, EIO),
        (Operation::Write, 7, ENOSPC),
        (Operation::Write, 30, ENOSPC),
        (Operation::Sync, 3, EIO),
    ] {
        folder.faults.fail(operation, spared, u64::MAX, errno);
        match pack(&database.storage, None) {
            Err(StorageError::Io { source, .. }) => assert_eq!(source.raw_os_error(), Some(errno)),
            other => panic!("{operation:?} {spared}: {other:?}"),
        }
        folder.faults.heal();
        assert!(!exists(&folder.file("Data.fs.pack")));
    }
    goes_on(&folder, database, &before);
}

#[test]
fn a_pack_that_is_ended_leaves_nothing() {
    let (folder, database) = filled();
    let before = folder.bytes();
    for phase in [PackPhase::Survey, PackPhase::Mark, PackPhase::Copy] {
        assert!(matches!(pack(&database.storage, Some(phase)), Err(StorageError::Cancelled)), "{phase:?}");
        assert!(!exists(&folder.file("Data.fs.pack")));
    }
    goes_on(&folder, database, &before);
}
