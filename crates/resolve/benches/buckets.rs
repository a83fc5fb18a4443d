//! A conflict of a bucket of 60 keys, to which both sides have added one.
#![allow(clippy::unwrap_used, missing_docs)]

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use zeolith_resolve::NativeResolver;
use zeolith_storage::{Resolution, ResolveRequest, Resolver};
use zeolith_types::{Oid, Tid};

/// An `OOBucket` with these keys, each of which has itself for a value.
fn bucket(keys: impl Iterator<Item = u16>) -> Bytes {
    let mut record = b"\x80\x03cBTrees.OOBTree\nOOBucket\nq\0.\x80\x03(".to_vec();
    for key in keys {
        let text = format!("key {key:04}");
        for _ in 0..2 {
            record.extend_from_slice(b"X\x08\0\0\0");
            record.extend_from_slice(text.as_bytes());
        }
    }
    record.extend_from_slice(b"t\x85.");
    record.into()
}

fn buckets(criterion: &mut Criterion) {
    let old = bucket((0..60).map(|key| 10 * key));
    let committed = bucket((0..60).map(|key| 10 * key).chain([1000]));
    let new = bucket((0..60).map(|key| 10 * key).chain([2000]));
    let conflict = ResolveRequest {
        oid: Oid::new(1),
        committed_tid: Tid::new(2),
        read_tid: Tid::new(1),
        old: &old,
        committed: &committed,
        new: &new,
    };
    assert!(matches!(NativeResolver.resolve(&conflict), Resolution::Resolved(_)));
    criterion.bench_function("merge an OOBucket of 60 keys", |bencher| {
        bencher.iter(|| NativeResolver.resolve(black_box(&conflict)));
    });
}

criterion_group!(benches, buckets);
criterion_main!(benches);
