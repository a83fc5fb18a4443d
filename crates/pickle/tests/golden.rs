//! Pickles are those of Python: written byte for byte, read at every protocol that peers use.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic in a test is its report")]

use bytes::Bytes;
use zeolith_pickle::{Limits, class_name, decode, encode, references};
use zeolith_types::Value;

#[test]
fn values_are_written_as_the_fast_pickler_writes_them() {
    for golden in golden_values().iter().filter(|golden| golden.who == "fast") {
        let written = encode(&value(&golden.name)).unwrap();
        assert_eq!(Bytes::from(written), golden.pickle, "{}", golden.name);
    }
}

#[test]
fn values_are_read_from_every_protocol_with_and_without_memo() {
    let mut protocols = Vec::new();
    for golden in golden_values() {
        let read = decode(&golden.pickle, Limits::REQUEST);
        assert_eq!(read, Ok(value(&golden.name)), "{} {}", golden.who, golden.name);
        protocols.push(golden.who);
    }
    protocols.sort_unstable();
    protocols.dedup();
    assert_eq!(protocols, ["fast", "memo0", "memo1", "memo2", "memo3"]);
}

#[test]
fn a_record_tells_its_class_as_zodb_tells_it() {
    for golden in golden_records() {
        let (module, name) = class_name(&golden.record).unwrap();
        assert_eq!(format!("{module}.{name}"), golden.class_name, "{}", golden.name);
    }
}

#[test]
fn a_record_tells_its_references_as_zodb_finds_them() {
    for golden in golden_records() {
        let found = references(&golden.record).unwrap();
        let found: Vec<_> = found.iter().map(|oid| format!("{:016x}", oid.get())).collect();
        assert_eq!(found.join(","), golden.references, "{}", golden.name);
    }
}

#[test]
fn a_record_cut_off_anywhere_is_an_error_or_tells_the_same_class() {
    for golden in golden_records() {
        let whole = class_name(&golden.record);
        for len in 0..golden.record.len() {
            let part = class_name(&golden.record[..len]);
            assert!(part.is_none() || part == whole, "{} at {len}", golden.name);
            // Before the first reference there is nothing to miss.
            let has_reference = golden.record[..len].iter().any(|byte| matches!(byte, b'P' | b'Q'));
            assert_eq!(references(&golden.record[..len]).is_err(), has_reference, "{} at {len}", golden.name);
        }
    }
}

struct GoldenValue {
    who: &'static str,
    name: String,
    pickle: Bytes,
}

struct GoldenRecord {
    name: &'static str,
    class_name: &'static str,
    references: &'static str,
    record: Vec<u8>,
}

/// The committed pickles. See `golden/generate.py`.
fn golden_values() -> Vec<GoldenValue> {
    let lines = include_str!("golden/values.txt").lines().map(|line| {
        let [who, name, hex] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        GoldenValue { who, name: name.to_owned(), pickle: unhex(hex).into() }
    });
    lines.collect()
}

fn golden_records() -> Vec<GoldenRecord> {
    let lines = include_str!("golden/records.txt").lines().map(|line| {
        let [name, class_name, references, hex] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let references = references.trim_start_matches('-');
        GoldenRecord { name, class_name, references, record: unhex(hex) }
    });
    lines.collect()
}

fn unhex(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

fn value(name: &str) -> Value {
    let numbers = |range: std::ops::Range<i128>| Value::List(range.map(Value::Int).collect());
    match name {
        "none" => Value::None,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "ints" => {
            let small = [0, 1, 255, 256, 65535, 65536, (1 << 31) - 1, 1 << 31, -1, -128, -129];
            let large = [-(1 << 31), -(1 << 31) - 1, 1 << 63, -(1 << 63), 1 << 100, -(1 << 100)];
            let padded = [255 << 32, -(1 << 39)];
            Value::List([small.as_slice(), &large, &padded].concat().into_iter().map(Value::Int).collect())
        }
        "floats" => Value::List([0.0, -1.5, 1e300].map(Value::Float).into()),
        "bytes" => {
            let strings = [Vec::new(), vec![b'a'; 255], vec![b'b'; 256], vec![0xff, 0]];
            Value::List(strings.map(bytes).into())
        }
        "texts" => Value::List(["", "plain", "größe €", "😀", "a\\b\n'\""].map(str).into()),
        "tuples" => {
            let tuples = (0..5).map(|len| Value::Tuple((1..=len).map(Value::Int).collect()));
            Value::List(tuples.collect())
        }
        "dicts" => {
            let one = vec![(str("a"), Value::Int(1))];
            let two = vec![(str("a"), Value::Int(1)), (Value::Int(2), bytes(*b"x"))];
            Value::List([Vec::new(), one, two].map(Value::Dict).into())
        }
        "list-of-1000" => numbers(0..1000),
        "list-of-1001" => numbers(0..1001),
        "list-of-2000" => numbers(0..2000),
        "dict-of-1001" => Value::Dict((0..1001).map(|n| (Value::Int(n), Value::None)).collect()),
        "set" => Value::Set(vec![Value::Int(5)]),
        "sharing" => {
            let shared = Value::List(vec![str("shared"), bytes(*b"bytes")]);
            let both = Value::Tuple(vec![shared.clone(), shared.clone()]);
            Value::Dict(vec![(str("a"), shared.clone()), (str("b"), shared), (str("c"), both)])
        }
        "binary" => Value::List(vec![bytes(*b"ascii")]),
        "bytearray" => bytes(*b"\x00\xff"),
        other => panic!("no test knows {other}"),
    }
}

fn bytes(value: impl Into<Vec<u8>>) -> Value {
    Value::Bytes(value.into().into())
}

fn str(text: &str) -> Value {
    Value::Str(text.to_owned())
}
