//! A small database to pack: five objects, two of which nothing refers to.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use crate::support::{Database, Folder, noon, store};
use std::time::Duration;
use zeolith_storage::{Storage, Write};
use zeolith_types::{Tid, Timestamp};

/// A record with a number and references, as ZODB pickles them: at protocol 3, each an oid alone.
pub fn record(number: u8, references: &[u64]) -> Vec<u8> {
    let mut data = b"\x80\x03cpersistent.mapping\nPersistentMapping\n.\x80\x03]".to_vec();
    for oid in references {
        data.extend_from_slice(b"C\x08");
        data.extend_from_slice(&oid.to_be_bytes());
        data.extend_from_slice(b"Qa");
    }
    data.extend_from_slice(&[b'K', number, b'a', b'.']);
    data
}

pub fn undo(tid: Tid) -> Write {
    Write::Undo { tid }
}

pub fn time_of(tid: Tid) -> Timestamp {
    // A nanosecond later, since a moment may be rounded to the tid before.
    Timestamp::from_epoch(Timestamp::from_tid(tid).since_epoch() + Duration::from_nanos(1))
}

pub fn later() -> Timestamp {
    Timestamp::from_epoch(noon().since_epoch() + Duration::from_secs(60))
}

/// Commits the whole database `0 -> 1 -> 2`, with 3 and 4 as a garbage cycle.
pub fn filled() -> (Folder, Database, Tid) {
    let folder = Folder::new();
    let (database, _) = folder.open();
    let first = database.commit(vec![
        store(0, Tid::ZERO, &record(0, &[1])),
        store(1, Tid::ZERO, &record(1, &[2])),
        store(2, Tid::ZERO, &record(2, &[0])),
        store(3, Tid::ZERO, &record(3, &[4])),
        store(4, Tid::ZERO, &record(4, &[3])),
    ]);
    (folder, database, first)
}

/// Opens the database again, without its index: a full scan finds nothing wrong.
pub fn reopened(folder: &Folder, database: Database) -> Database {
    database.storage.close().unwrap();
    drop(database);
    folder.drop_index();
    let (database, report) = folder.open();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    database
}
