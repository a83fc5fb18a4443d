//! What the server says: replies, refusals and notices, each as a complete frame.

use crate::{
    Encoding,
    refusal::write_refusal,
    reply::write_reply,
    writer::{Message, Writer, append_message},
};
use zeolith_types::{MessageId, Notice, Refusal, Reply};

/// Appends the frame that answers the call `id`.
///
/// A reply that the encoding can't say, or that is larger than a frame can be, becomes the refusal that the
/// reference gives.
pub fn encode_reply(encoding: Encoding, id: &MessageId, reply: &Reply, out: &mut Vec<u8>) {
    let answer = Answer { id, flag: REPLY, body: Body::Reply(reply) };
    if append_message(encoding, &answer, out).is_err() {
        encode_refusal(encoding, id, &Refusal::Value("Couldn't pickle response".into()), out);
    }
}

/// Appends the frame that refuses the call `id`.
pub fn encode_refusal(encoding: Encoding, id: &MessageId, refusal: &Refusal, out: &mut Vec<u8>) {
    let answer = Answer { id, flag: ERROR, body: Body::Refusal(refusal) };
    if append_message(encoding, &answer, out).is_err() {
        let refusal = Refusal::Value("Couldn't pickle response".into());
        let answer = Answer { id, flag: ERROR, body: Body::Refusal(&refusal) };
        append_message(encoding, &answer, out).expect("an id that was decoded can be encoded");
    }
}

/// Appends the frame of a one-way call to the client.
pub fn encode_notice(encoding: Encoding, notice: &Notice, out: &mut Vec<u8>) {
    append_message(encoding, notice, out).expect("oids, numbers and chunks fit into a frame");
}

struct Answer<'a> {
    id: &'a MessageId,
    flag: i128,
    body: Body<'a>,
}

enum Body<'a> {
    Reply(&'a Reply),
    Refusal(&'a Refusal),
}

impl Message for Answer<'_> {
    #[inline]
    fn write<W: Writer>(&self, writer: &mut W) {
        writer.tuple(4, |writer| {
            match self.id {
                MessageId::Load(oid, tid) => writer.tuple(2, |writer| {
                    writer.bytes(&oid.to_bytes());
                    writer.bytes(&tid.to_bytes());
                }),
                MessageId::Value(id) => writer.value(id),
            }
            writer.int(self.flag);
            writer.str(".reply");
            match self.body {
                Body::Reply(reply) => write_reply(writer, reply),
                Body::Refusal(refusal) => write_refusal(writer, refusal),
            }
        });
    }
}

impl Message for Notice {
    fn write<W: Writer>(&self, writer: &mut W) {
        writer.tuple(4, |writer| {
            writer.int(0);
            writer.bool(true);
            match self {
                Self::Invalidate { tid, oids } => {
                    writer.str("invalidateTransaction");
                    writer.tuple(2, |writer| {
                        writer.bytes(&tid.to_bytes());
                        writer.list(oids.iter(), |writer, oid| writer.bytes(&oid.to_bytes()));
                    });
                }
                Self::Info { length, size } => {
                    writer.str("info");
                    writer.tuple(1, |writer| {
                        writer.small_dict(2, |writer| {
                            writer.str("length");
                            writer.int((*length).into());
                            writer.str("size");
                            writer.int((*size).into());
                        });
                    });
                }
                Self::BlobStart(oid, tid) | Self::BlobStop(oid, tid) => {
                    let is_start = matches!(self, Self::BlobStart(..));
                    writer.str(if is_start { "receiveBlobStart" } else { "receiveBlobStop" });
                    writer.tuple(2, |writer| {
                        writer.bytes(&oid.to_bytes());
                        writer.bytes(&tid.to_bytes());
                    });
                }
                Self::BlobChunk(oid, tid, chunk) => {
                    writer.str("receiveBlobChunk");
                    writer.tuple(3, |writer| {
                        writer.bytes(&oid.to_bytes());
                        writer.bytes(&tid.to_bytes());
                        writer.bytes(chunk);
                    });
                }
            }
        });
    }
}

/// The flag of a reply.
const REPLY: i128 = 0;
/// The flag of an error reply.
const ERROR: i128 = 2;
