//! What a client's frame says: a call, a heartbeat, or something that we must refuse.

use crate::{
    Encoding, WireError,
    arguments::is_true,
    call::find_method,
    msgpack::{self, Message},
};
use bytes::Bytes;
use zeolith_pickle::{self as pickle, Limits};
use zeolith_types::{Call, MessageId, Oid, Refusal, Request, Tid, Value};

/// One frame from a client, decoded.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    /// A sign of life that nobody answers.
    Heartbeat,
    /// A call.
    Call(Call),
    /// A call of a known method with arguments that it does not take.
    BadArguments {
        /// Where the refusal goes.
        id: MessageId,
        /// A failing one-way call closes the connection instead.
        one_way: bool,
        /// The method.
        method: &'static str,
        /// What is wrong.
        refusal: Refusal,
    },
    /// A call of something else, which closes the connection.
    UnknownMethod {
        /// What was called.
        name: String,
    },
}

/// Decodes a frame from a client.
///
/// # Errors
/// The frame can't be decoded or is no message: the peer is to be disconnected.
pub fn decode(encoding: Encoding, frame: &Bytes) -> Result<Incoming, WireError> {
    if let Some((oid, before)) = load_before(encoding, frame) {
        let request = Request::LoadBefore { oid, before };
        return Ok(Incoming::Call(Call { id: MessageId::Load(oid, before), one_way: false, request }));
    }
    match packed_call(encoding, frame) {
        Some(call) => Ok(Incoming::Call(call)),
        None => decode_whole(encoding, frame),
    }
}

/// A call without anything wrong, in msgpack.
fn packed_call(encoding: Encoding, frame: &Bytes) -> Option<Call> {
    if encoding != Encoding::Msgpack {
        return None;
    }
    let Message { id, flag, name, arguments } = Message::begin(frame, Limits::REQUEST)?;
    if id == HEARTBEAT {
        return None;
    }
    let request = find_method(name)?.packed_request(arguments)?;
    Some(Call { id: message_id(id), one_way: is_true(&flag), request })
}

/// Decodes whatever there is, in either encoding.
fn decode_whole(encoding: Encoding, frame: &Bytes) -> Result<Incoming, WireError> {
    let message = decode_value(encoding, frame, Limits::REQUEST)?;
    let (Value::Tuple(parts) | Value::List(parts)) = message else {
        return Err(WireError::NotAMessage("no sequence"));
    };
    let Ok([id, flag, name, arguments]) = <[Value; 4]>::try_from(parts) else {
        return Err(WireError::NotAMessage("not four parts"));
    };
    // A heartbeat is known by its id alone.
    if id == HEARTBEAT {
        return Ok(Incoming::Heartbeat);
    }
    let Value::Str(name) = name else {
        return Ok(Incoming::UnknownMethod { name: format!("a name that is {}", name.type_name()) });
    };
    let Some(method) = find_method(&name) else {
        return Ok(Incoming::UnknownMethod { name });
    };
    let (id, one_way) = (message_id(id), is_true(&flag));
    let request = match arguments {
        Value::Tuple(arguments) | Value::List(arguments) => method.request(arguments),
        other => Err(Refusal::Type(format!("arguments must be a sequence, not {}", other.type_name()))),
    };
    Ok(match request {
        Ok(request) => Incoming::Call(Call { id, one_way, request }),
        Err(refusal) => Incoming::BadArguments { id, one_way, method: method.name, refusal },
    })
}

/// Decodes any value in either encoding.
pub(crate) fn decode_value(encoding: Encoding, frame: &Bytes, limits: Limits) -> Result<Value, WireError> {
    match encoding {
        Encoding::Pickle => {
            pickle::decode(frame, limits).map_err(|error| WireError::Undecodable(error.to_string()))
        }
        Encoding::Msgpack => msgpack::decode(frame, limits),
    }
}

/// The way of the most frequent message by far: Python's clients always write it in the same bytes.
fn load_before(encoding: Encoding, frame: &[u8]) -> Option<(Oid, Tid)> {
    let template = match encoding {
        Encoding::Pickle => PICKLED_LOAD,
        Encoding::Msgpack => PACKED_LOAD,
    };
    let mut rest = frame;
    let mut ids = [[0; 8]; 4];
    for (text, id) in template.iter().zip(&mut ids) {
        let (found, after) = rest.strip_prefix(*text)?.split_first_chunk()?;
        (*id, rest) = (*found, after);
    }
    let [id_oid, id_tid, oid, tid] = ids;
    let is_whole = rest == template[4] && id_oid == oid && id_tid == tid;
    is_whole.then(|| (Oid::from_bytes(oid), Tid::from_bytes(tid)))
}

fn message_id(id: Value) -> MessageId {
    if let Value::Tuple(parts) = &id
        && let [Value::Bytes(oid), Value::Bytes(tid)] = parts.as_slice()
        && let (Ok(oid), Ok(tid)) = (<[u8; 8]>::try_from(&**oid), <[u8; 8]>::try_from(&**tid))
    {
        return MessageId::Load(oid.into(), tid.into());
    }
    MessageId::Value(id)
}

/// The id of a message that only says that the client is there.
const HEARTBEAT: Value = Value::Int(-1);
/// `((oid, tid), False, 'loadBefore', (oid, tid))` around its four ids.
const PICKLED_LOAD: [&[u8]; 5] =
    [b"\x80\x03(C\x08", b"C\x08", b"\x86\x89X\x0a\0\0\0loadBeforeC\x08", b"C\x08", b"\x86t."];
/// The same in msgpack.
const PACKED_LOAD: [&[u8]; 5] =
    [b"\x94\x92\xc4\x08", b"\xc4\x08", b"\xc2\xaaloadBefore\x92\xc4\x08", b"\xc4\x08", b""];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    /// Pieces of which messages are made, and some that do not belong there.
    const PIECES: [&[u8]; 17] = [
        b"\x94",
        b"\x93",
        b"\x01",
        b"\xff",
        b"\xc2",
        b"\xa4vote",
        b"\xa6storea",
        b"\x94\xc4\x08objectid\xc4\x08serial..\xc4\x04data\x05",
        b"\x94\xc4\x08objectid\xc0\xc4\x04data\x05",
        b"\xc4\x08objectid",
        b"\x92",
        b"\xd9\x04vote",
        b"\xa3\xff\xfe\xfd",
        b"\x91\xc4\x02ab",
        b"\x90",
        b"\x81\xa1k\x92\x05\xc0",
        b"\xdc\xff\xff",
    ];

    #[test]
    fn the_messages_of_a_commit_take_the_short_way() {
        let eight = Value::Bytes(Bytes::from_static(b"objectid"));
        let (nothing, data) = (Value::Bytes(Bytes::new()), Value::Bytes(Bytes::from_static(b"data")));
        let id = || Value::Int(5);
        let begin =
            [id(), nothing.clone(), nothing, Value::Dict(Vec::new()), Value::None, Value::Str(" ".into())];
        for (name, arguments) in [
            ("tpc_begin", begin.to_vec()),
            ("storea", vec![eight.clone(), eight, data, id()]),
            ("vote", vec![id()]),
            ("tpc_finish", vec![id()]),
        ] {
            let mut frame = Vec::new();
            crate::encode_call(Encoding::Msgpack, &id(), true, name, &arguments, &mut frame).unwrap();
            let call = packed_call(Encoding::Msgpack, &Bytes::from(frame.split_off(4)));
            assert_eq!(call.map(|call| call.request.method()), Some(name));
        }
    }

    proptest! {
        #[test]
        fn the_short_way_through_a_message_leads_to_the_same_place(
            chosen in vec(0..PIECES.len(), 0..6), begins in 0_usize..4, cut in 0_usize..4,
        ) {
            let starts: [&[u8]; 4] =
                [b"\x94", b"\x94\x07\xc3\xa4vote", b"\x94\x00\xc3\xa6storea", b"\x94\x07\xc2\xa8new_oids"];
            let mut frame = starts[begins].to_vec();
            chosen.iter().for_each(|piece| frame.extend_from_slice(PIECES[*piece]));
            frame.truncate(frame.len().saturating_sub(cut));
            let frame = Bytes::from(frame);
            prop_assert_eq!(decode(Encoding::Msgpack, &frame), decode_whole(Encoding::Msgpack, &frame));
        }

        #[test]
        fn it_does_for_deep_and_wide_arguments_too(depth in 95_usize..105, width in 65_500_usize..65_536) {
            for arguments in [vec![0x91; depth], [&[0xdc][..], &(width as u16).to_be_bytes(), &vec![7; width]].concat()] {
                let mut frame = b"\x94\x07\xc3\xa4vote".to_vec();
                frame.extend(arguments);
                frame.push(0xc0);
                let end = frame.len() - 1;
                for len in [end, frame.len()] {
                    let frame = Bytes::copy_from_slice(&frame[..len]);
                    prop_assert_eq!(decode(Encoding::Msgpack, &frame), decode_whole(Encoding::Msgpack, &frame));
                }
            }
        }
    }
}
