//! Frames as they come and go: a load and a store in, a record and an invalidation out, in both encodings.
#![allow(clippy::unwrap_used, missing_docs)]

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::{hint::black_box, sync::Arc};
use zeolith_types::{MessageId, Notice, Oid, Reply, Revision, Tid, Value};
use zeolith_wire::{Encoding, FrameReader, append_frame, decode, encode_call, encode_notice, encode_reply};

const ENCODINGS: [(Encoding, &str); 2] = [(Encoding::Msgpack, "msgpack"), (Encoding::Pickle, "pickle")];
const RECORD_SIZE: usize = 500;

fn id(number: u64) -> Value {
    Value::Bytes(Bytes::copy_from_slice(&number.to_be_bytes()))
}

/// The content of a call's frame.
fn call(encoding: Encoding, to: &Value, name: &str, arguments: &[Value]) -> Bytes {
    let mut out = Vec::new();
    encode_call(encoding, to, *to == Value::Int(0), name, arguments, &mut out).unwrap();
    Bytes::from(out).slice(4..)
}

fn decoding(criterion: &mut Criterion) {
    for (encoding, name) in ENCODINGS {
        // As Python's client asks: what it asks for is the number of the call too.
        let asked = [id(4711), id(1 << 60)];
        let load = call(encoding, &Value::Tuple(asked.to_vec()), "loadBefore", &asked);
        criterion.bench_function(&format!("decode loadBefore, {name}"), |bencher| {
            bencher.iter(|| decode(encoding, black_box(&load)).unwrap());
        });
        let record = Value::Bytes(vec![b'r'; RECORD_SIZE].into());
        let store =
            call(encoding, &Value::Int(0), "storea", &[id(4711), id(1 << 58), record, Value::Int(12)]);
        criterion.bench_function(&format!("decode storea of 500 bytes, {name}"), |bencher| {
            bencher.iter(|| decode(encoding, black_box(&store)).unwrap());
        });
    }
}

fn encoding(criterion: &mut Criterion) {
    let revision = Revision { data: vec![b'r'; RECORD_SIZE].into(), start: Tid::new(1 << 58), end: None };
    let loaded = Reply::Loaded(Some(revision));
    let oids: Arc<[Oid]> = (0..100).map(Oid::new).collect();
    let changed = Notice::Invalidate { tid: Tid::new(1 << 58), oids };
    for (encoding, name) in ENCODINGS {
        let to = MessageId::Load(Oid::new(4711), Tid::new(1 << 60));
        criterion.bench_function(&format!("encode a record of 500 bytes, {name}"), |bencher| {
            let mut out = Vec::with_capacity(4096);
            bencher.iter(|| {
                out.clear();
                encode_reply(encoding, &to, black_box(&loaded), &mut out);
            });
        });
        criterion.bench_function(&format!("encode an invalidation of 100 objects, {name}"), |bencher| {
            let mut out = Vec::with_capacity(4096);
            bencher.iter(|| {
                out.clear();
                encode_notice(encoding, black_box(&changed), &mut out);
            });
        });
    }
}

/// A hundred frames of one read from the socket.
fn cutting(criterion: &mut Criterion) {
    let mut stream = Vec::new();
    for _ in 0..100 {
        append_frame(&mut stream, |out| out.extend_from_slice(&[b'x'; 60])).unwrap();
    }
    let mut group = criterion.benchmark_group("cut");
    group.throughput(Throughput::Elements(100));
    group.bench_function("100 frames of 60 bytes", |bencher| {
        bencher.iter_batched_ref(
            || FrameReader::new(1 << 20),
            |reader| {
                reader.push(black_box(&stream));
                let mut frames = 0;
                while reader.next_frame().unwrap().is_some() {
                    frames += 1;
                }
                assert_eq!(frames, 100);
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, decoding, encoding, cutting);
criterion_main!(benches);
