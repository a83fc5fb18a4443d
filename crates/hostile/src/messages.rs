//! What a peer sends: a stream of any bytes, and frames of any bytes in both encodings.

use bytes::Bytes;
use zeolith_pickle::{Limits, decode, encode};
use zeolith_wire::{Encoding, FrameReader, decode_message, encode_call, parse_announcement, parse_answer};

/// A stream in pieces, whose size is the first byte, is frames within the limit or an error.
pub(crate) fn frames(input: &[u8]) {
    let Some((size, stream)) = input.split_first() else { return };
    let mut reader = FrameReader::new(SIZE_MAX);
    for piece in stream.chunks(usize::from(*size) + 1) {
        reader.space().extend_from_slice(piece);
        loop {
            match reader.next_frame() {
                Ok(Some(frame)) => {
                    assert!(
                        (1..=SIZE_MAX).contains(&frame.len()),
                        "a frame has no more bytes than the limit"
                    );
                    let _ = parse_answer(&frame);
                    let _ = parse_announcement(&frame);
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

/// A pickled frame is a call or an error; a value that was read is read again as it was.
pub(crate) fn pickle_call(frame: &[u8]) {
    let frame = Bytes::copy_from_slice(frame);
    let _ = zeolith_wire::decode(Encoding::Pickle, &frame);
    if let Ok(value) = decode(&frame, Limits::REQUEST) {
        let again = Bytes::from(encode(&value).expect("what fits into a frame fits into a pickle"));
        // Debug forms, since a float that is no number does not equal itself.
        let read = decode(&again, Limits::REQUEST).expect("what we write can be read");
        assert_eq!(format!("{read:?}"), format!("{value:?}"), "a value survives being written");
    }
}

/// A msgpack frame is a call or an error; a message that was read is written and read again.
pub(crate) fn msgpack_call(frame: &[u8]) {
    let frame = Bytes::copy_from_slice(frame);
    let _ = zeolith_wire::decode(Encoding::Msgpack, &frame);
    if let Ok(value) = decode_message(Encoding::Msgpack, &frame) {
        let mut out = Vec::new();
        let arguments = [value];
        encode_call(Encoding::Msgpack, &arguments[0], false, "ping", &arguments, &mut out)
            .expect("what msgpack said it can say again");
        // Two levels deeper, so a value at the very limit may be refused.
        if let Ok(again) = decode_message(Encoding::Msgpack, &Bytes::from(out).slice(4..)) {
            let parts = again.as_sequence().expect("a call is a sequence");
            let read = parts.first().expect("a call begins with its number");
            assert_eq!(format!("{read:?}"), format!("{:?}", arguments[0]), "a value survives being written");
        }
    }
}

/// Small, so that short inputs reach the limit.
const SIZE_MAX: usize = 1 << 12;
