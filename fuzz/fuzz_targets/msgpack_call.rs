//! A msgpack frame of any bytes is a call or an error; a message that was read is written and read again.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| zeolith_hostile::run("msgpack_call", input));
