//! The other direction: calls as a client writes them, and any message as a plain value.

use crate::{
    Encoding, WireError,
    incoming::decode_value,
    writer::{Message, Writer, append_message},
};
use bytes::Bytes;
use zeolith_pickle::Limits;
use zeolith_types::Value;

/// Appends the frame of a call as Python's client writes it.
///
/// # Errors
/// Nothing is appended if the encoding can't say an argument, or a frame can't hold the call.
pub fn encode_call(
    encoding: Encoding,
    id: &Value,
    one_way: bool,
    method: &str,
    arguments: &[Value],
    out: &mut Vec<u8>,
) -> Result<(), WireError> {
    append_message(encoding, &ClientCall { id, one_way, method, arguments }, out)
}

/// Decodes a message of either direction, as it stands.
///
/// # Errors
/// The frame is no value of its encoding.
pub fn decode_message(encoding: Encoding, frame: &Bytes) -> Result<Value, WireError> {
    decode_value(encoding, frame, Limits::REPLY)
}

struct ClientCall<'a> {
    id: &'a Value,
    one_way: bool,
    method: &'a str,
    arguments: &'a [Value],
}

impl Message for ClientCall<'_> {
    fn write<W: Writer>(&self, writer: &mut W) {
        writer.tuple(4, |writer| {
            writer.value(self.id);
            writer.bool(self.one_way);
            writer.str(self.method);
            writer.tuple(self.arguments.len(), |writer| {
                self.arguments.iter().for_each(|argument| writer.value(argument));
            });
        });
    }
}
