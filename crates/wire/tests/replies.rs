//! What replies do with content that a client could not read.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic in a test is its report")]

use bytes::Bytes;
use zeolith_types::{MessageId, Outcome, Refusal, Reply, Tid, TransactionInfo, UndoEntry, Value};
use zeolith_wire::{Encoding, FrameReader, decode_message, encode_refusal, encode_reply};

const BOTH: [Encoding; 2] = [Encoding::Pickle, Encoding::Msgpack];

/// The flag and the body of what `reply` becomes.
fn sent(encoding: Encoding, reply: &Reply) -> (Value, Value) {
    let mut out = b"before".to_vec();
    encode_reply(encoding, &MessageId::Value(Value::Int(1)), reply, &mut out);
    let mut reader = FrameReader::default();
    reader.push(out.strip_prefix(b"before").unwrap());
    let frame = reader.next_frame().unwrap().unwrap();
    assert_eq!(reader.buffered(), 0);
    let Ok(Value::Tuple(parts)) = decode_message(encoding, &frame) else {
        panic!("a reply is a message");
    };
    let [_, flag, _, body] = <[Value; 4]>::try_from(parts).unwrap();
    (flag, body)
}

fn extension_sent(encoding: Encoding, extension: &'static [u8]) -> Value {
    let transaction = TransactionInfo {
        tid: Tid::new(1),
        status: b' ',
        user: Bytes::new(),
        description: Bytes::new(),
        extension: Bytes::from_static(extension),
    };
    let (_, body) = sent(encoding, &Reply::Transaction(Some(transaction)));
    body.as_sequence().unwrap()[4].clone()
}

fn str(text: &str) -> Value {
    Value::Str(text.to_owned())
}

#[test]
fn an_extension_of_foreign_classes_counts_as_empty() {
    for encoding in BOTH {
        let stored = b"\x80\x03}X\x04\0\0\0whencdatetime\ndate\n(tRs.";
        assert_eq!(extension_sent(encoding, stored), Value::Dict(Vec::new()));
        assert_eq!(extension_sent(encoding, b"not a pickle"), Value::Dict(Vec::new()));
        assert_eq!(extension_sent(encoding, b"N."), Value::Dict(Vec::new()));
    }
}

#[test]
fn entries_that_the_encoding_can_not_say_are_left_out() {
    // {'a': 1, 2: 'b', 'c': {3}, 'd': 2**64}
    let stored =
        b"}(S'a'\nK\x01K\x02S'b'\nS'c'\ncbuiltins\nset\n]K\x03a\x85RS'd'\n\x8a\x09\0\0\0\0\0\0\0\0\x01u.";
    let (a, d) = ((str("a"), Value::Int(1)), (str("d"), Value::Int(1 << 64)));
    let pickled = Value::Dict(vec![a.clone(), (Value::Int(2), str("b")), d]);
    assert_eq!(extension_sent(Encoding::Pickle, stored), pickled);
    assert_eq!(extension_sent(Encoding::Msgpack, stored), Value::Dict(vec![a]));
}

#[test]
fn the_extension_overrides_an_entry_of_the_undo_log() {
    let entry = UndoEntry {
        tid: Tid::new(1),
        time: 1.0,
        user: Bytes::new(),
        description: Bytes::from_static(b"of the storage"),
        extension: Bytes::from_static(b"}S'description'\nS'own'\ns."),
        size: 1,
    };
    for encoding in BOTH {
        let (_, body) = sent(encoding, &Reply::UndoLog(vec![entry.clone()]));
        let Some([Value::Dict(entries)]) = body.as_sequence() else {
            panic!("one dict");
        };
        let descriptions: Vec<_> = entries.iter().filter(|(key, _)| *key == str("description")).collect();
        assert_eq!(descriptions, [&(str("description"), str("own"))]);
    }
}

#[test]
fn an_outcome_is_a_word_and_the_tid_of_what_was_committed() {
    let tid = Value::Bytes(Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0, 9]));
    let words = [
        (Outcome::Committed(Tid::new(9)), "committed", tid),
        (Outcome::Aborted, "aborted", Value::None),
        (Outcome::Undecided, "undecided", Value::None),
        (Outcome::Unknown, "unknown", Value::None),
    ];
    for (outcome, word, tid) in words {
        let said = Value::Tuple(vec![str(word), tid]);
        for encoding in BOTH {
            assert_eq!(sent(encoding, &Reply::Outcome(outcome)), (Value::Int(0), said.clone()));
        }
    }
}

#[test]
fn a_reply_that_can_not_be_said_becomes_a_value_error() {
    let reply = Reply::IteratorId(1 << 70);
    assert_eq!(sent(Encoding::Pickle, &reply), (Value::Int(0), Value::Int(1 << 70)));
    let text = Value::Tuple(vec![str("Couldn't pickle response")]);
    let error = Value::Tuple(vec![str("builtins.ValueError"), text]);
    assert_eq!(sent(Encoding::Msgpack, &reply), (Value::Int(2), error));
}

#[test]
fn an_operating_system_error_without_a_number_has_its_text_alone() {
    let mut out = Vec::new();
    let refusal = Refusal::Os { errno: None, text: "gone".into() };
    encode_refusal(Encoding::Msgpack, &MessageId::Value(Value::Int(1)), &refusal, &mut out);
    assert!(out.ends_with(b"\x92\xb0builtins.OSError\x91\xa4gone"), "{}", out.escape_ascii());
}
