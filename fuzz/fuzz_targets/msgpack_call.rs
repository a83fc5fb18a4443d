//! A msgpack frame of any bytes is a call or an error; a message that was read is written and read again.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use zeolith_wire::{Encoding, decode, decode_message, encode_call};

fuzz_target!(|frame: &[u8]| {
    let frame = Bytes::copy_from_slice(frame);
    let _ = decode(Encoding::Msgpack, &frame);
    if let Ok(value) = decode_message(Encoding::Msgpack, &frame) {
        let mut out = Vec::new();
        let arguments = [value];
        encode_call(Encoding::Msgpack, &arguments[0], false, "ping", &arguments, &mut out)
            .expect("what msgpack said it can say again");
        // Two levels deeper, so a value at the very limit may be refused.
        if let Ok(again) = decode_message(Encoding::Msgpack, &Bytes::from(out).slice(4..)) {
            let parts = again.as_sequence().expect("a call is a sequence");
            assert_eq!(format!("{:?}", parts[0]), format!("{:?}", arguments[0]));
        }
    }
});
