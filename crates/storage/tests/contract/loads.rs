//! What loads give.

use super::{Subject, after, revision, store};
use crate::{Found, Patience, RecordData, Spool, Spooled, StorageError, Write};
use bytes::Bytes;
use std::{io, path::Path, sync::Arc};
use zeolith_types::{Oid, Tid};

/// Each bound selects its revision, with the tid that ended it.
pub fn a_load_gives_the_newest_revision_before_its_bound(subject: &Subject) {
    let first = subject.commit(vec![store(1, Tid::ZERO, "one")]);
    let second = subject.commit(vec![store(1, first, "two")]);
    let third = subject.commit(vec![store(1, second, "three")]);
    let oid = Oid::new(1);
    assert_eq!(subject.found(oid, Tid::MAX), revision("three", third, None));
    assert_eq!(subject.found(oid, after(third)), revision("three", third, None));
    assert_eq!(subject.found(oid, third), revision("two", second, Some(third)));
    assert_eq!(subject.found(oid, after(second)), revision("two", second, Some(third)));
    assert_eq!(subject.found(oid, second), revision("one", first, Some(second)));
    assert_eq!(subject.found(oid, first), Found::NothingBefore);
    assert_eq!(subject.found(oid, Tid::ZERO), Found::NothingBefore);
}

/// Clients retry the one and give up on the other.
pub fn an_unknown_object_is_not_one_without_old_revisions(subject: &Subject) {
    assert_eq!(subject.found(Oid::ZERO, Tid::MAX), Found::NoObject);
    let tid = subject.commit(vec![store(0, Tid::ZERO, "root")]);
    assert_eq!(subject.found(Oid::ZERO, tid), Found::NothingBefore);
    assert_eq!(subject.found(Oid::new(1), Tid::MAX), Found::NoObject);
    let error = subject.storage.current_tid(Oid::new(1), Patience::Wait).unwrap_err();
    assert!(matches!(error, StorageError::NoObject(oid) if oid == Oid::new(1)));
}

/// `load_serial` takes exact tids only.
pub fn a_serial_names_one_revision(subject: &Subject) {
    let first = subject.commit(vec![store(1, Tid::ZERO, "one")]);
    let second = subject.commit(vec![store(1, first, "two")]);
    let load = |serial| subject.storage.load_serial(Oid::new(1), serial, Patience::Wait);
    assert_eq!(load(first).unwrap(), "one");
    assert_eq!(load(second).unwrap(), "two");
    for serial in [Tid::ZERO, Tid::new(first.get() - 1), after(first), after(second), Tid::MAX] {
        if serial != second {
            assert!(matches!(load(serial), Err(StorageError::NoObject(_))), "{serial}");
        }
    }
    assert_eq!(subject.storage.current_tid(Oid::new(1), Patience::Wait).unwrap(), second);
}

/// Newest first, never more than asked for.
pub fn history_goes_from_the_newest_backwards(subject: &Subject) {
    let first = subject.commit(vec![store(1, Tid::ZERO, "one")]);
    let second = subject.commit(vec![store(1, first, "four")]);
    let history = |size| subject.storage.history(Oid::new(1), size, Patience::Wait).unwrap();
    let entries: Vec<(Tid, u64)> = history(9).iter().map(|entry| (entry.tid, entry.size)).collect();
    assert_eq!(entries, [(second, 4), (first, 3)]);
    assert_eq!(history(1).len(), 1);
    assert!(history(0).is_empty());
    let unknown = subject.storage.history(Oid::new(2), 1, Patience::Wait);
    assert!(matches!(unknown, Err(StorageError::NoObject(_))));
}

/// Some records in memory, some put aside, small and large, before and after each other.
pub fn records_that_were_put_aside_come_back_whole(subject: &Subject) {
    let sizes = [10, 3_000_000, 1, 20_000, 2 << 20, 5, 70_000, 1 << 20, 16_384, 40, 1_048_575];
    let record = |number: usize| vec![number as u8; sizes[number]];
    let all: Vec<u8> = (0..sizes.len()).flat_map(record).collect();
    let spool: Arc<dyn Spool> = Arc::new(Memory(all));
    let mut position = 0;
    let mut writes = Vec::new();
    for (number, size) in sizes.iter().enumerate() {
        let spooled = Spooled::new(Arc::clone(&spool), position, *size as u32);
        let data = if number % 4 == 3 { record(number).into() } else { RecordData::Spooled(spooled) };
        position += *size as u64;
        writes.push(Write::Store { oid: Oid::new(number as u64), serial: Tid::ZERO, data });
    }
    subject.commit(writes);
    for (number, size) in sizes.iter().enumerate() {
        let stored = subject.current(Oid::new(number as u64)).map(Vec::from);
        assert!(stored == Some(record(number)), "record {number} of {size} bytes");
    }
}

/// A spool that is none.
struct Memory(Vec<u8>);

impl Spool for Memory {
    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        let position = position as usize;
        buffer.copy_from_slice(&self.0[position..position + buffer.len()]);
        Ok(())
    }

    fn place(&self) -> &Path {
        Path::new("memory")
    }
}

/// From one byte to several megabytes, in one transaction.
pub fn a_record_of_any_size_comes_back_whole(subject: &Subject) {
    let sizes = [1, 41, 981, 982, 983, 4053, 4054, 4055, 16_383, 16_384, 70_000, 3_000_000];
    let record = |size: usize| Bytes::from((0..size).map(|n| (n % 251) as u8).collect::<Vec<_>>());
    let writes = sizes.iter().enumerate().map(|(oid, size)| Write::Store {
        oid: Oid::new(oid as u64),
        serial: Tid::ZERO,
        data: record(*size).into(),
    });
    subject.commit(writes.collect());
    for (oid, size) in sizes.iter().enumerate() {
        assert_eq!(subject.current(Oid::new(oid as u64)), Some(record(*size)), "{size} bytes");
    }
}
