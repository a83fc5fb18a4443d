//! The only crate that knows bytes on the socket: frames, the hello, both encodings, the table of error
//! names.
//!
//! The way in: [`FrameReader`] cuts the stream into frames, [`parse_answer`] reads the first one, and
//! [`decode`] makes an [`Incoming`] of every other. The way out: [`encode_reply`], [`encode_refusal`] and
//! [`encode_notice`] append complete frames to a buffer. Nothing here does I/O or decides anything.

mod arguments;
mod call;
mod client;
mod encoding;
mod error;
mod extension;
mod frame;
mod hello;
mod incoming;
mod methods;
mod msgpack;
mod outgoing;
mod refusal;
mod reply;
mod status;
mod writer;

pub use client::{decode_message, encode_call};
pub use encoding::Encoding;
pub use error::WireError;
pub use frame::{FRAME_SIZE_MAX, FrameReader, append_frame};
pub use hello::{Hello, announcement, answer, parse_announcement, parse_answer};
pub use incoming::{Incoming, decode};
pub use outgoing::{encode_notice, encode_refusal, encode_reply};
pub use reply::transaction_name;
pub use status::{append_status_frame, status_json};
