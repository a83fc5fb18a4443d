//! Records as conflict resolution and pack look at them: class, references, and the whole as a graph.
#![allow(clippy::unwrap_used, missing_docs)]

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use zeolith_pickle::{class_name, references, state::Graph};

/// What ZODB writes for a mapping with so many references to other mappings.
fn record(references: u64) -> Vec<u8> {
    let mut record =
        b"\x80\x03cpersistent.mapping\nPersistentMapping\nq\x01.\x80\x03}q\x02X\x04\0\0\0dataq\x03}q\x04("
            .to_vec();
    for number in 0..references {
        record.extend_from_slice(b"X\x08\0\0\0");
        record.extend_from_slice(format!("{number:08}").as_bytes());
        record.extend_from_slice(b"C\x08");
        record.extend_from_slice(&number.to_be_bytes());
        record.extend_from_slice(b"cpersistent.mapping\nPersistentMapping\n\x86Q");
    }
    record.extend_from_slice(b"us.");
    record
}

fn records(criterion: &mut Criterion) {
    for count in [2, 60] {
        let record = record(count);
        let bytes = Bytes::from(record.clone());
        let mut group = criterion.benchmark_group(format!("a record with {count} references"));
        group.throughput(Throughput::Bytes(record.len() as u64));
        group.bench_function("class", |bencher| {
            bencher.iter(|| class_name(black_box(&record)).unwrap());
        });
        group.bench_function("references", |bencher| {
            bencher.iter(|| assert_eq!(references(black_box(&record)).unwrap().len() as u64, count));
        });
        group.bench_function("graph, read and written", |bencher| {
            bencher.iter(|| {
                let mut graph = Graph::new();
                let read = graph.read(black_box(&bytes)).unwrap();
                graph.write(read).unwrap()
            });
        });
        group.finish();
    }
}

criterion_group!(benches, records);
criterion_main!(benches);
