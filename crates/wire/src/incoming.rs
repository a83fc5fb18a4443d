//! What a client's frame says: a call, a heartbeat, or something that we must refuse.

use crate::{Encoding, WireError, arguments::is_true, call::find_method, msgpack};
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
    let message = decode_value(encoding, frame, Limits::REQUEST)?;
    let (Value::Tuple(parts) | Value::List(parts)) = message else {
        return Err(WireError::NotAMessage("no sequence"));
    };
    let Ok([id, flag, name, arguments]) = <[Value; 4]>::try_from(parts) else {
        return Err(WireError::NotAMessage("not four parts"));
    };
    // A heartbeat is known by its id alone.
    if id == Value::Int(-1) {
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

/// `((oid, tid), False, 'loadBefore', (oid, tid))` around its four ids.
const PICKLED_LOAD: [&[u8]; 5] =
    [b"\x80\x03(C\x08", b"C\x08", b"\x86\x89X\x0a\0\0\0loadBeforeC\x08", b"C\x08", b"\x86t."];
/// The same in msgpack.
const PACKED_LOAD: [&[u8]; 5] =
    [b"\x94\x92\xc4\x08", b"\xc4\x08", b"\xc2\xaaloadBefore\x92\xc4\x08", b"\xc4\x08", b""];
