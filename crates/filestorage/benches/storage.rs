//! The file storage on a disk in memory: loads, commits, opening with and without an index.
#![allow(clippy::unwrap_used, missing_docs)]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::{hint::black_box, path::Path, sync::Arc, time::Duration};
use zeolith_disk::memory::MemoryDisk;
use zeolith_filestorage::{FileStorage, Options};
use zeolith_storage::{ConflictPolicy, Found, Patience, Storage, TransactionId, Write, WriteSet};
use zeolith_types::{Oid, Tid, Timestamp};

const OBJECTS: u64 = 100_000;
const RECORD_SIZE: usize = 500;
const PATH: &str = "/db/Data.fs";

fn open(disk: &MemoryDisk) -> FileStorage {
    FileStorage::open(Arc::new(disk.clone()), Path::new(PATH), Options::default()).unwrap().0
}

/// A database with objects 0 up to `OBJECTS`, and its last transaction.
fn filled() -> (MemoryDisk, Tid) {
    let disk = MemoryDisk::new(1 << 32);
    let storage = open(&disk);
    let mut last = Tid::ZERO;
    for batch in 0..OBJECTS / 1000 {
        let oids = batch * 1000..(batch + 1) * 1000;
        last = commit(&storage, TransactionId(batch), oids.map(|oid| store(oid, Tid::ZERO)).collect());
    }
    storage.close().unwrap();
    (disk, last)
}

fn store(oid: u64, serial: Tid) -> Write {
    Write::Store { oid: Oid::new(oid), serial, data: vec![b'r'; RECORD_SIZE].into() }
}

/// Vote, finish and publication.
fn commit(storage: &FileStorage, id: TransactionId, writes: Vec<Write>) -> Tid {
    let writes = WriteSet { writes, ..WriteSet::default() };
    storage.vote(id, writes, ConflictPolicy::Refuse, Patience::Wait).unwrap();
    let now = Timestamp::from_epoch(Duration::from_secs(1_776_083_670));
    let tid = storage.finish(&[id], now).pop().unwrap().unwrap();
    storage.publish(tid);
    tid
}

fn loads(criterion: &mut Criterion) {
    let (disk, _) = filled();
    let storage = open(&disk);
    let mut oid = 0;
    criterion.bench_function("load the current revision of 500 bytes", |bencher| {
        bencher.iter(|| {
            oid = (oid + 7919) % OBJECTS;
            let load = storage.load_before(Oid::new(black_box(oid)), Tid::MAX, Patience::Now).unwrap();
            assert!(matches!(load.found, Found::Revision(_)));
        });
    });
    criterion.bench_function("look up a tid", |bencher| {
        bencher.iter(|| {
            oid = (oid + 7919) % OBJECTS;
            storage.current_tid(Oid::new(black_box(oid)), Patience::Now).unwrap()
        });
    });
}

fn commits(criterion: &mut Criterion) {
    for count in [1, 100] {
        let mut group = criterion.benchmark_group("commit");
        group.throughput(Throughput::Elements(count));
        group.bench_function(format!("vote, finish and publish {count} objects"), |bencher| {
            let disk = MemoryDisk::new(1 << 34);
            let storage = open(&disk);
            let (mut serial, mut number) = (Tid::ZERO, 0);
            bencher.iter(|| {
                number += 1;
                let writes = (0..count).map(|oid| store(oid, serial)).collect();
                serial = commit(&storage, TransactionId(number), writes);
            });
        });
        group.finish();
    }
}

fn opening(criterion: &mut Criterion) {
    let (disk, last) = filled();
    let content = disk.get(Path::new(PATH)).unwrap();
    let index = disk.get(Path::new("/db/Data.fs.index")).unwrap();
    let mut group = criterion.benchmark_group("open 100,000 objects");
    group.sample_size(10).throughput(Throughput::Elements(OBJECTS));
    for (name, index) in [("with an index", Some(index)), ("without", None)] {
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || {
                    let disk = MemoryDisk::new(1 << 32);
                    disk.put(Path::new(PATH), content.clone());
                    if let Some(index) = &index {
                        disk.put(Path::new("/db/Data.fs.index"), index.clone());
                    }
                    disk
                },
                |disk| {
                    let storage = open(&disk);
                    assert_eq!(storage.last_transaction(), last);
                    storage
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, loads, commits, opening);
criterion_main!(benches);
