//! Nothing that a peer can put into a pickle runs code, panics, or costs much more than its bytes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic in a test is its report")]

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use zeolith_pickle::{
    Limits, PickleError, class_name, decode, decode_extension, encode, encode_extension, references,
};
use zeolith_types::Value;

fn request(pickle: impl Into<Bytes>) -> Result<Value, PickleError> {
    decode(&pickle.into(), Limits::REQUEST)
}

#[test]
fn a_pickle_that_calls_eval_is_refused_by_name() {
    let refused = request(&b"\x80\x03cbuiltins\neval\nX\x03\0\0\x001+1\x85R."[..]);
    let expected = PickleError::Global { module: "builtins".into(), name: "eval".into() };
    assert_eq!(refused, Err(expected));
    assert_eq!(refused.unwrap_err().to_string(), "global builtins.eval is not allowed");
}

#[test]
fn every_way_to_name_a_global_is_closed() {
    for pickle in [
        &b"cdatetime\ndatetime\n."[..],
        b"(S'ls'\nios\nsystem\n.",
        b"(cos\nsystem\nS'ls'\no.",
        b"\x82\x01.",
        b"\x83\x01\0.",
        b"\x84\x01\0\0\0.",
        b"\x8c\x02os\x8c\x06system\x93.",
        b"Pid\n.",
        b"NQ.",
    ] {
        assert!(request(pickle).is_err(), "{}", pickle.escape_ascii());
    }
}

#[test]
fn constructors_make_plain_values_and_nothing_else() {
    let set = Value::Set(vec![Value::Int(1)]);
    assert_eq!(request(&b"cbuiltins\nfrozenset\n]K\x01a\x85R."[..]), Ok(set));
    let binary = Value::Bytes(Bytes::from_static(b"x"));
    assert_eq!(request(&b"czodbpickle\nbinary\nC\x01x\x85R."[..]), Ok(binary));
    let dict = Value::Dict(vec![(Value::Str("a".into()), Value::Int(1))]);
    assert_eq!(request(&b"cbuiltins\ndict\n(X\x01\0\0\0aK\x01\x86t\x85R."[..]), Ok(dict));
    let prefix = Value::UndoPrefix(vec!["a".into()]);
    let old_style = b"ccopy_reg\n_reconstructor\n(cZopeUndo.Prefix\nPrefix\nc__builtin__\nobject\nNtR}S'path'\n]S'a'\nasb.";
    assert_eq!(request(&old_style[..]), Ok(prefix));
    for pickle in [
        &b"cbuiltins\nset\n."[..],
        b"cbuiltins\nset\nK\x01\x85R.",
        b"cbuiltins\nbytes\nJ\xff\xff\xff\x7f\x85R.",
        b"cbuiltins\nobject\n)R.",
        b"cbuiltins\nset\nNR.",
        b"cbuiltins\ndict\n((K\x01tt\x85R.",
        b"cbuiltins\ndict\n(K\x01t\x85R.",
        b"NNR.",
        b"cZopeUndo.Prefix\nPrefix\n)\x81.",
        b"cZopeUndo.Prefix\nPrefix\n)\x81}b.",
        b"N}b.",
    ] {
        assert!(request(pickle).is_err(), "{}", pickle.escape_ascii());
    }
}

#[test]
fn protocols_after_the_third_are_refused() {
    assert_eq!(request(&b"\x80\x04N."[..]), Err(PickleError::Protocol(4)));
    assert_eq!(request(&b"\x80\x03N."[..]), Ok(Value::None));
}

#[test]
fn nesting_ends_at_its_limit_and_not_at_the_end_of_the_stack() {
    let nested = |depth: usize| [vec![b')'], vec![0x85; depth], vec![b'.']].concat();
    assert!(request(nested(Limits::REQUEST.depth_max - 1)).is_ok());
    let refused = Err(PickleError::TooMany("levels of nesting"));
    assert_eq!(request(nested(Limits::REQUEST.depth_max)), refused);
    assert_eq!(request(nested(60_000)), refused);
}

#[test]
fn a_list_that_contains_itself_is_refused() {
    assert_eq!(request(&b"]q\0h\0a."[..]), Err(PickleError::TooMany("levels of nesting")));
}

#[test]
fn doubling_by_the_memo_ends_at_the_limit_on_values() {
    let mut pickle = b"]q\0".to_vec();
    for level in 0..60 {
        // A list of the last list, twice.
        pickle.extend([b']', b'q', level + 1, b'(', b'h', level, b'h', level, b'e']);
    }
    pickle.push(b'.');
    assert_eq!(request(pickle), Err(PickleError::TooMany("values")));
}

#[test]
fn repeating_a_long_text_by_the_memo_ends_at_the_limit_on_text() {
    for opcode in [b'X', b'B'] {
        let mut pickle = vec![b'(', opcode];
        pickle.extend(100_000_u32.to_le_bytes());
        pickle.extend([b'x'; 100_000]);
        pickle.extend(b"q\0");
        pickle.extend(b"h\0".repeat(100));
        pickle.extend(b"t.");
        assert_eq!(request(pickle), Err(PickleError::TooMany("repeated texts")));
    }
}

#[test]
fn more_values_than_any_request_has_are_refused() {
    for opcode in [b'N', b'(', b'2'] {
        let pickle = [vec![b'N'], vec![opcode; 1 << 20], vec![b'.']].concat();
        assert!(matches!(request(pickle), Err(PickleError::TooMany(_))));
    }
}

#[test]
fn a_length_beyond_the_end_is_an_error_before_it_is_reserved() {
    for pickle in [&b"X\xff\xff\xff\xff"[..], b"B\xff\xff\xff\x7fabc", b"U\x05abc", b"\x8b\xff\xff\xff\xff"] {
        assert!(matches!(request(pickle), Err(PickleError::CutOff { .. })), "{}", pickle.escape_ascii());
    }
}

#[test]
fn the_stack_can_not_be_read_below_its_bottom_or_a_mark() {
    for pickle in [
        &b"."[..],
        b"0.",
        b"(.",
        b"N(.",
        b"N(\x85.",
        b"N(q\0.",
        b"t.",
        b"h\x01.",
        b"a.",
        b"]a.",
        b"}K\x01s.",
        b"K\x01K\x02\x86b.",
    ] {
        assert!(request(pickle).is_err(), "{}", pickle.escape_ascii());
    }
}

#[test]
fn a_stored_extension_of_any_class_is_an_error_and_none_is_no_entries() {
    assert_eq!(decode_extension(&Bytes::new()), Ok(Vec::new()));
    let entries = vec![(Value::Str("note".into()), Value::Int(1))];
    let stored = encode_extension(entries.clone()).unwrap();
    assert_eq!(decode_extension(&stored), Ok(entries));
    assert_eq!(encode_extension(Vec::new()), Some(Bytes::new()));
    assert!(decode_extension(&Bytes::from_static(b"}S'when'\ncdatetime\ndate\n(tRs.")).is_err());
    assert!(decode_extension(&Bytes::from_static(b"N.")).is_err());
}

/// Any value that decoding can give.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::None),
        any::<bool>().prop_map(Value::Bool),
        any::<i128>().prop_map(Value::Int),
        any::<i16>().prop_map(|int| Value::Int(int.into())),
        (-1e9..1e9).prop_map(Value::Float),
        vec(any::<u8>(), 0..300).prop_map(|bytes| Value::Bytes(bytes.into())),
        any::<String>().prop_map(Value::Str),
        vec(any::<String>(), 0..4).prop_map(Value::UndoPrefix),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..8).prop_map(Value::Tuple),
            vec(inner.clone(), 0..8).prop_map(Value::List),
            vec(inner.clone(), 0..8).prop_map(Value::Set),
            vec((inner.clone(), inner), 0..8).prop_map(Value::Dict),
        ]
    })
}

/// Opcodes more often than other bytes, so that garbage gets somewhere.
fn opcode() -> impl Strategy<Value = u8> {
    prop::sample::select(b"(.012FIJKLMNPQRSTUVXabcdeghijlo]pqrst)u}GBC\x80\x81\x85\x86\x87\x88\x8a\n\0\x01")
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(value in any_value()) {
        let pickle = Bytes::from(encode(&value).unwrap());
        prop_assert_eq!(decode(&pickle, Limits::REQUEST), Ok(value));
    }

    #[test]
    fn a_damaged_pickle_is_a_value_or_an_error(
        value in any_value(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut pickle = encode(&value).unwrap();
        for (position, byte) in damage {
            let position = position.index(pickle.len());
            pickle[position] = byte;
        }
        let _ = class_name(&pickle);
        let _ = references(&pickle);
        let _ = request(pickle);
    }

    #[test]
    fn garbage_is_a_value_or_an_error(opcodes in vec(prop_oneof![any::<u8>(), opcode()], 0..60)) {
        let _ = class_name(&opcodes);
        let _ = references(&opcodes);
        let _ = request(opcodes);
    }
}
