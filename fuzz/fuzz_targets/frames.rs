//! A stream of any bytes, in pieces of any size, is frames within the limit or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zeolith_wire::{FrameReader, parse_announcement, parse_answer};

const SIZE_MAX: usize = 1 << 12;

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, stream) = input;
    let mut reader = FrameReader::new(SIZE_MAX);
    for piece in stream.chunks(usize::from(piece) + 1) {
        reader.space().extend_from_slice(piece);
        loop {
            match reader.next_frame() {
                Ok(Some(frame)) => {
                    assert!((1..=SIZE_MAX).contains(&frame.len()));
                    let _ = parse_answer(&frame);
                    let _ = parse_announcement(&frame);
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
});
