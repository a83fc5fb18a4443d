//! Whatever arrives, in whatever pieces, is a message or an error; whatever is written is read again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic in a test is its report")]

use bytes::Bytes;
use proptest::{collection::vec, prelude::*, sample::Index};
use zeolith_types::Value;
use zeolith_wire::{
    Encoding, FrameReader, append_frame, decode, decode_message, encode_call, parse_announcement,
    parse_answer,
};

fn any_encoding() -> impl Strategy<Value = Encoding> {
    prop_oneof![Just(Encoding::Pickle), Just(Encoding::Msgpack)]
}

/// Any value that both encodings can say and give back as it was.
fn any_value() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        any::<String>().prop_map(Value::Str),
        vec(any::<u8>(), 0..40).prop_map(|bytes| Value::Bytes(bytes.into())),
    ];
    let leaf = prop_oneof![
        Just(Value::None),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(|int| Value::Int(int.into())),
        any::<u64>().prop_map(|int| Value::Int(int.into())),
        any::<i16>().prop_map(|int| Value::Int(int.into())),
        any::<f32>()
            .prop_filter("NaN is not itself", |float| !float.is_nan())
            .prop_map(|float| { Value::Float(float.into()) }),
        vec(any::<u8>(), 0..70_000).prop_map(|bytes| Value::Bytes(bytes.into())),
        "[a-zé]{0,300}".prop_map(Value::Str),
        key.clone(),
    ];
    leaf.prop_recursive(3, 40, 20, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..20).prop_map(Value::Tuple),
            vec((key.clone(), inner), 0..20).prop_map(Value::Dict),
        ]
    })
}

/// Names that are methods, mostly.
fn any_method() -> impl Strategy<Value = String> {
    const NAMES: &[&str] =
        &["loadBefore", "storea", "tpc_begin", "undoInfo", "iterator_gc", "register", "pack", "unknown"];
    prop::sample::select(NAMES).prop_map(str::to_owned)
}

fn frame(encoding: Encoding, id: &Value, method: &str, arguments: &[Value]) -> Bytes {
    let mut out = Vec::new();
    encode_call(encoding, id, false, method, arguments, &mut out).unwrap();
    Bytes::from(out).slice(4..)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_call_is_read_as_it_was_written(
        encoding in any_encoding(),
        id in any_value(),
        method in any_method(),
        arguments in vec(any_value(), 0..6),
    ) {
        let frame = frame(encoding, &id, &method, &arguments);
        let message = [id, Value::Bool(false), Value::Str(method), Value::Tuple(arguments)];
        prop_assert_eq!(decode_message(encoding, &frame), Ok(Value::Tuple(message.into())));
        let _ = decode(encoding, &frame);
    }

    #[test]
    fn a_damaged_call_is_a_message_or_an_error(
        encoding in any_encoding(),
        method in any_method(),
        arguments in vec(any_value(), 0..6),
        damage in vec((any::<Index>(), any::<u8>()), 1..4),
        cut in any::<Index>(),
    ) {
        let mut frame = frame(encoding, &Value::Int(1), &method, &arguments).to_vec();
        for (position, byte) in damage {
            let position = position.index(frame.len());
            frame[position] = byte;
        }
        let _ = decode(encoding, &Bytes::copy_from_slice(&frame[..cut.index(frame.len() + 1)]));
        let _ = decode(encoding, &frame.into());
    }

    #[test]
    fn garbage_is_a_message_or_an_error(encoding in any_encoding(), frame in vec(any::<u8>(), 0..200)) {
        let _ = parse_answer(&frame);
        let _ = parse_announcement(&frame);
        let _ = decode(encoding, &frame.into());
    }

    #[test]
    fn frames_come_out_whole_however_the_stream_is_cut(
        contents in vec(vec(any::<u8>(), 1..50), 0..10),
        sizes in vec(1_usize..30, 1..10),
    ) {
        let mut stream = Vec::new();
        for content in &contents {
            append_frame(&mut stream, |out| out.extend_from_slice(content)).unwrap();
        }
        let mut reader = FrameReader::default();
        let mut found = Vec::new();
        let (mut rest, mut sizes) = (stream.as_slice(), sizes.iter().cycle());
        while !rest.is_empty() {
            let size = (*sizes.next().unwrap()).min(rest.len());
            reader.space().extend_from_slice(&rest[..size]);
            rest = &rest[size..];
            while let Some(frame) = reader.next_frame().unwrap() {
                found.push(frame.to_vec());
            }
        }
        prop_assert_eq!(found, contents);
        prop_assert_eq!(reader.buffered(), 0);
    }

    #[test]
    fn a_garbage_stream_is_frames_or_an_error(stream in vec(any::<u8>(), 0..300)) {
        let mut reader = FrameReader::new(64);
        reader.push(&stream);
        while let Ok(Some(frame)) = reader.next_frame() {
            prop_assert!((1..=64).contains(&frame.len()));
        }
    }
}
