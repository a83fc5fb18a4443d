//! The messages of a typical session, as captured from Python peers and listed in `docs/protocol.md`.

use bytes::Bytes;
use zeolith_types::{Call, MessageId, Notice, Oid, Refusal, Request, Tid, Value};
use zeolith_wire::{Encoding, Incoming, announcement, decode, encode_notice, encode_refusal};

#[test]
fn the_announcements_are_two_letters_in_a_frame() {
    assert_eq!(announcement(Encoding::Pickle), b"\0\0\0\x02Z5");
    assert_eq!(announcement(Encoding::Msgpack), b"\0\0\0\x02M5");
}

#[test]
fn a_client_registers() {
    let expected = Incoming::Call(Call {
        id: MessageId::Value(Value::Int(1)),
        one_way: false,
        request: Request::Register { storage: "1".into(), read_only: false },
    });
    let pickled = Bytes::from_static(b"\x80\x03(K\x01\x89X\x08\0\0\0registerX\x01\0\0\x001K\0\x86t.");
    assert_eq!(decode(Encoding::Pickle, &pickled).as_ref(), Ok(&expected));
    let packed = Bytes::from_static(b"\x94\x01\xc2\xa8register\x92\xa11\xc2");
    assert_eq!(decode(Encoding::Msgpack, &packed).as_ref(), Ok(&expected));
}

#[test]
fn a_client_loads_and_hears_that_there_is_no_such_object() {
    let load = b"\x80\x03(C\x08\0\0\0\0\0\0\0\0C\x08\0\0\0\0\0\0\0\x01\x86\x89X\x0a\0\0\0loadBefore\
        C\x08\0\0\0\0\0\0\0\0C\x08\0\0\0\0\0\0\0\x01\x86t.";
    let id = MessageId::Load(Oid::ZERO, Tid::new(1));
    let request = Request::LoadBefore { oid: Oid::ZERO, before: Tid::new(1) };
    let call = Incoming::Call(Call { id: id.clone(), one_way: false, request });
    assert_eq!(decode(Encoding::Pickle, &Bytes::from_static(load)), Ok(call));

    let mut out = Vec::new();
    encode_refusal(Encoding::Pickle, &id, &Refusal::NoObject(Oid::ZERO), &mut out);
    let expected =
        b"\0\0\0\x55\x80\x03(C\x08\0\0\0\0\0\0\0\0C\x08\0\0\0\0\0\0\0\x01\x86K\x02X\x06\0\0\0.reply\
        X\x1d\0\0\0ZODB.POSException.POSKeyErrorC\x08\0\0\0\0\0\0\0\0\x85\x86t.";
    assert_eq!(out.escape_ascii().to_string(), expected.escape_ascii().to_string());
}

#[test]
fn a_client_hears_of_a_conflict() {
    let refusal = Refusal::Conflict {
        oid: Oid::new(1),
        class_name: Some("persistent.mapping.PersistentMapping".into()),
        committed: Tid::new(3),
        read: Tid::new(2),
    };
    let mut out = Vec::new();
    encode_refusal(Encoding::Msgpack, &MessageId::Value(Value::Int(16)), &refusal, &mut out);
    let expected = b"\x94\x10\x02\xa6.reply\x92\xbfZODB.POSException.ConflictError\x84\
        \xa7message\xb7database conflict error\xa3oid\xc4\x08\0\0\0\0\0\0\0\x01\
        \xaaclass_name\xd9\x24persistent.mapping.PersistentMapping\
        \xa7serials\x92\xc4\x08\0\0\0\0\0\0\0\x03\xc4\x08\0\0\0\0\0\0\0\x02";
    assert_eq!(out[4..].escape_ascii().to_string(), expected.escape_ascii().to_string());
}

#[test]
fn a_client_hears_of_a_commit() {
    let notice = Notice::Invalidate { tid: Tid::new(3), oids: [Oid::new(1), Oid::new(2)].into() };
    let mut out = Vec::new();
    encode_notice(Encoding::Pickle, &notice, &mut out);
    let expected = b"\x80\x03(K\0\x88X\x15\0\0\0invalidateTransactionC\x08\0\0\0\0\0\0\0\x03\
        ](C\x08\0\0\0\0\0\0\0\x01C\x08\0\0\0\0\0\0\0\x02e\x86t.";
    assert_eq!(out[4..].escape_ascii().to_string(), expected.escape_ascii().to_string());
}

#[test]
fn a_client_gives_a_sign_of_life() {
    let pickled = Bytes::from_static(b"\x80\x03(J\xff\xff\xff\xffK\0X\x06\0\0\0.replyNt.");
    assert_eq!(decode(Encoding::Pickle, &pickled), Ok(Incoming::Heartbeat));
    let packed = Bytes::from_static(b"\x94\xff\0\xa6.reply\xc0");
    assert_eq!(decode(Encoding::Msgpack, &packed), Ok(Incoming::Heartbeat));
}
