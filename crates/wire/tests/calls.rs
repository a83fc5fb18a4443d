//! Calls as real clients write them: what is forgiven, what is refused, and what ends the connection.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic in a test is its report")]

use bytes::Bytes;
use zeolith_types::{Call, MessageId, Oid, Refusal, Request, Tid, TransactionStart, Value};
use zeolith_wire::{Encoding, FrameReader, Incoming, WireError, decode, encode_call};

const BOTH: [Encoding; 2] = [Encoding::Pickle, Encoding::Msgpack];

fn call_with(encoding: Encoding, id: &Value, one_way: bool, method: &str, arguments: &[Value]) -> Incoming {
    let mut out = Vec::new();
    encode_call(encoding, id, one_way, method, arguments, &mut out).unwrap();
    let mut reader = FrameReader::default();
    reader.push(&out);
    decode(encoding, &reader.next_frame().unwrap().unwrap()).unwrap()
}

/// What both encodings make of a call.
fn call(method: &str, arguments: &[Value]) -> Incoming {
    let [pickled, packed] =
        BOTH.map(|encoding| call_with(encoding, &Value::Int(1), false, method, arguments));
    assert_eq!(pickled, packed);
    pickled
}

fn request(method: &str, arguments: &[Value]) -> Request {
    match call(method, arguments) {
        Incoming::Call(call) => call.request,
        other => panic!("{method} is no call: {other:?}"),
    }
}

fn refusal(method: &str, arguments: &[Value]) -> Refusal {
    match call(method, arguments) {
        Incoming::BadArguments { id, one_way: false, method: named, refusal } => {
            assert_eq!((id, named), (MessageId::Value(Value::Int(1)), method));
            refusal
        }
        other => panic!("{method} is not refused: {other:?}"),
    }
}

fn str(text: &str) -> Value {
    Value::Str(text.to_owned())
}

fn bytes(bytes: &'static [u8]) -> Value {
    Value::Bytes(Bytes::from_static(bytes))
}

fn eight(number: u64) -> Value {
    Value::Bytes(Bytes::copy_from_slice(&number.to_be_bytes()))
}

#[test]
fn register_takes_its_flag_as_bool_or_int_and_credentials_that_nobody_reads() {
    let registered = |read_only| Request::Register { storage: "main".into(), read_only };
    assert_eq!(request("register", &[str("main"), Value::Bool(true)]), registered(true));
    assert_eq!(request("register", &[str("main"), Value::Int(1)]), registered(true));
    assert_eq!(request("register", &[bytes(b"main"), Value::Int(0)]), registered(false));
    let credentials = Value::Dict(vec![(str("user"), str("bob"))]);
    assert_eq!(request("register", &[str("main"), Value::None, credentials]), registered(false));
}

#[test]
fn arguments_with_a_default_can_be_left_out() {
    assert_eq!(request("new_oids", &[]), Request::NewOids { count: 100 });
    assert_eq!(request("new_oids", &[Value::Int(-5)]), Request::NewOids { count: -5 });
    assert_eq!(request("history", &[eight(1)]), Request::History { oid: Oid::new(1), size: 1 });
    assert_eq!(request("record_iternext", &[]), Request::RecordIternext { next: None });
    let next = Request::RecordIternext { next: Some(Oid::new(9)) };
    assert_eq!(request("record_iternext", &[eight(9)]), next);
    assert_eq!(request("pack", &[Value::Int(5)]), Request::Pack { time: 5.0, wait: true });
    assert_eq!(
        request("pack", &[Value::Float(5.5), Value::Int(0)]),
        Request::Pack { time: 5.5, wait: false }
    );
    let log = Request::UndoInfo { first: 0, last: -1, filter: Vec::new() };
    assert_eq!(request("undoInfo", &[Value::Int(0), Value::Int(-1), Value::None]), log);
}

#[test]
fn tpc_begin_takes_texts_and_byte_strings_and_three_kinds_of_extension() {
    let begun = |extension: &'static [u8], tid, status| {
        Request::TpcBegin(Box::new(TransactionStart {
            id: Value::Int(7),
            user: Bytes::from_static("bób".as_bytes()),
            description: Bytes::from_static(b"d"),
            extension: Bytes::from_static(extension),
            tid,
            status,
            token: None,
        }))
    };
    let head = [Value::Int(7), str("bób"), bytes(b"d")];
    let begin = |tail: &[Value]| request("tpc_begin", &[&head, tail].concat());
    assert_eq!(begin(&[Value::None]), begun(b"", None, b' '));
    assert_eq!(begin(&[Value::Dict(Vec::new()), Value::None]), begun(b"", None, b' '));
    let ready = b"\x80\x03}X\x01\0\0\0acdatetime\ndate\n(tRs.";
    assert_eq!(begin(&[bytes(ready), eight(3), str("p")]), begun(ready, Some(Tid::new(3)), b'p'));
    let entries = Value::Dict(vec![(str("a"), Value::Int(1))]);
    let pickled = b"\x80\x03}q\0X\x01\0\0\0aq\x01K\x01s.";
    assert_eq!(begin(&[entries, Value::None, bytes(b" ")]), begun(pickled, None, b' '));
}

#[test]
fn a_transaction_has_the_token_that_is_in_its_extension() {
    let begun = |extension| {
        let head = [Value::Int(7), str("bob"), bytes(b"d")];
        let Request::TpcBegin(start) = request("tpc_begin", &[&head[..], &[extension]].concat()) else {
            panic!("no begin")
        };
        start.token
    };
    let token = |token| Value::Dict(vec![(str("zeolith-token"), token)]);
    assert_eq!(begun(token(bytes(&[7; 16]))), Some(Bytes::from_static(&[7; 16])));
    assert_eq!(begun(token(bytes(&[7; 64]))), Some(Bytes::from_static(&[7; 64])));
    for no_token in
        [token(bytes(&[7; 15])), token(bytes(&[7; 65])), token(str("as long as a token")), Value::None]
    {
        assert_eq!(begun(no_token), None);
    }
}

#[test]
fn the_outcome_of_a_transaction_is_asked_for_by_a_token_of_some_length() {
    let asked = Request::TransactionOutcome { token: Bytes::from_static(&[7; 16]), since: Tid::new(3) };
    assert_eq!(request("transaction_outcome", &[bytes(&[7; 16]), eight(3)]), asked);
    for length in [0, 15, 65] {
        let token = Value::Bytes(vec![7; length].into());
        assert_eq!(
            refusal("transaction_outcome", &[token, eight(3)]),
            Refusal::Value(format!("a token has 16 to 64 bytes, not {length}"))
        );
    }
}

#[test]
fn transactions_can_be_named_by_anything() {
    for id in [Value::Int(i128::from(u64::MAX)), str("txn"), Value::None, bytes(b"\xff")] {
        assert_eq!(request("vote", std::slice::from_ref(&id)), Request::Vote { id });
    }
}

#[test]
fn wrong_counts_are_refused_in_pythons_words() {
    let type_error = |text: &str| Refusal::Type(text.to_owned());
    let refused = refusal("getTid", &[]);
    assert_eq!(refused, type_error("getTid() missing 1 required positional argument: 'oid'"));
    let refused = refusal("loadBefore", &[]);
    assert_eq!(refused, type_error("loadBefore() missing 2 required positional arguments: 'oid' and 'tid'"));
    let refused = refusal("storea", &[Value::None]);
    let words = "storea() missing 3 required positional arguments: 'serial', 'data', and 'id'";
    assert_eq!(refused, type_error(words));
    let refused = refusal("ping", &[Value::None]);
    assert_eq!(refused, type_error("ping() takes 1 positional argument but 2 were given"));
    let refused = refusal("history", &[eight(1), Value::Int(1), Value::Int(1)]);
    assert_eq!(refused, type_error("history() takes from 2 to 3 positional arguments but 4 were given"));
}

#[test]
fn wrong_types_are_refused_in_clear_words() {
    let cases = [
        ("getTid", vec![Value::None], Refusal::Type("oid must be bytes, not NoneType".into())),
        ("getTid", vec![bytes(b"short")], Refusal::Value("oid must be 8 bytes, not 5".into())),
        ("new_oids", vec![str("5")], Refusal::Type("n must be int, not str".into())),
        ("pack", vec![Value::Float(f64::NAN)], Refusal::Value("time must be finite, not NaN".into())),
        (
            "set_client_label",
            vec![bytes(b"\xff")],
            Refusal::Value("label must be str, not bytes that are no UTF-8".into()),
        ),
        ("iterator_gc", vec![Value::Int(1)], Refusal::Type("iids must be a list, not int".into())),
        (
            "undoInfo",
            vec![Value::Int(0), Value::Int(1), str("x")],
            Refusal::Type("spec must be dict or None, not str".into()),
        ),
    ];
    for (method, arguments, expected) in cases {
        assert_eq!(refusal(method, &arguments), expected);
    }
    let begin = [Value::Int(1), bytes(b""), bytes(b""), Value::None, Value::None, str("pp")];
    assert_eq!(refusal("tpc_begin", &begin), Refusal::Value("status must be one ASCII character".into()));
}

#[test]
fn a_bad_one_way_call_is_known_as_one_way() {
    for encoding in BOTH {
        let incoming = call_with(encoding, &Value::Int(0), true, "storea", &[]);
        assert!(matches!(incoming, Incoming::BadArguments { one_way: true, method: "storea", .. }));
    }
}

#[test]
fn an_unknown_method_is_named() {
    for name in ["eval", "", ".reply", "load", "__init__"] {
        assert_eq!(call(name, &[]), Incoming::UnknownMethod { name: name.to_owned() });
    }
}

#[test]
fn ids_of_all_kinds_come_through() {
    let odd = Value::Tuple(vec![bytes(b"12345678"), bytes(b"1234567")]);
    for encoding in BOTH {
        for id in [Value::Int(0), Value::None, str("id"), bytes(b"id"), Value::Int(-2), odd.clone()] {
            let Incoming::Call(call) = call_with(encoding, &id, false, "ping", &[]) else {
                panic!("ping is a call");
            };
            assert_eq!(call, Call { id: MessageId::Value(id), one_way: false, request: Request::Ping });
        }
        let id = Value::Tuple(vec![eight(1), eight(2)]);
        let Incoming::Call(call) = call_with(encoding, &id, false, "loadBefore", &[eight(1), eight(3)])
        else {
            panic!("loadBefore is a call");
        };
        assert_eq!(call.id, MessageId::Load(Oid::new(1), Tid::new(2)));
        assert_eq!(call.request, Request::LoadBefore { oid: Oid::new(1), before: Tid::new(3) });
    }
}

#[test]
fn a_heartbeat_needs_no_more_than_its_id() {
    for encoding in BOTH {
        let incoming = call_with(encoding, &Value::Int(-1), true, "whatever", &[Value::None]);
        assert_eq!(incoming, Incoming::Heartbeat);
    }
}

#[test]
fn a_pickle_that_names_eval_ends_the_connection_and_says_why() {
    let frame =
        Bytes::from_static(b"\x80\x03(K\x01\x89X\x04\0\0\0pingcbuiltins\neval\nX\x01\0\0\x001\x85R\x85t.");
    let expected = WireError::Undecodable("global builtins.eval is not allowed".into());
    assert_eq!(decode(Encoding::Pickle, &frame), Err(expected));
}

#[test]
fn msgpack_nested_ten_thousand_deep_is_a_clean_error() {
    let arrays = [vec![0x91; 10_000], vec![0xc0]].concat();
    let maps = [b"\x81\xa1k".repeat(10_000), vec![0xc0]].concat();
    for frame in [arrays, maps] {
        let expected = WireError::Undecodable("too many levels of nesting".into());
        assert_eq!(decode(Encoding::Msgpack, &frame.into()), Err(expected));
    }
}

#[test]
fn msgpack_outside_the_protocol_is_refused() {
    for frame in [
        &b""[..],
        b"\xc1",
        b"\xd4\x01\x00",
        b"\xc7\x01\x05x",
        b"\x81\x01\x02",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xffabc",
        b"\xa2\xff\xff",
        b"\xc0\xc0",
        b"\x92\xc0",
    ] {
        let decoded = decode(Encoding::Msgpack, &Bytes::from_static(frame));
        assert!(matches!(decoded, Err(WireError::Undecodable(_))), "{}: {decoded:?}", frame.escape_ascii());
    }
    let many = [&b"\xdd\x00\x10\x00\x00"[..], &[0xc0; 1 << 20]].concat();
    let expected = WireError::Undecodable("too many values".into());
    assert_eq!(decode(Encoding::Msgpack, &many.into()), Err(expected));
}

#[test]
fn values_that_are_no_messages_are_refused() {
    for frame in [&b"\xc0"[..], b"\x93\x01\xc2\xa4ping", b"\x95\x01\xc2\xa4ping\x90\xc0", b"\x81\xa1a\x01"] {
        let decoded = decode(Encoding::Msgpack, &Bytes::from_static(frame));
        assert!(matches!(decoded, Err(WireError::NotAMessage(_))), "{}: {decoded:?}", frame.escape_ascii());
    }
    let no_sequence = call_frame(&[0x94, 1, 0xc2, 0xa4, b'p', b'i', b'n', b'g', 5]);
    assert!(matches!(no_sequence, Incoming::BadArguments { method: "ping", .. }));
    let no_text = call_frame(&[0x94, 1, 0xc2, 5, 0x90]);
    assert_eq!(no_text, Incoming::UnknownMethod { name: "a name that is int".into() });
}

fn call_frame(frame: &[u8]) -> Incoming {
    decode(Encoding::Msgpack, &Bytes::copy_from_slice(frame)).unwrap()
}

#[test]
fn the_serial_of_a_new_object_comes_in_every_form_that_stock_clients_send() {
    for serial in [eight(0), Value::None, str("\0\0\0\0\0\0\0\0")] {
        let stored = request("storea", &[eight(7), serial, bytes(b"data"), Value::Int(1)]);
        assert!(matches!(stored, Request::Store { serial: Tid::ZERO, .. }), "{stored:?}");
    }
}
