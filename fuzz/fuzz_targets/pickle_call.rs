//! A pickled frame of any bytes is a call or an error; a value that was read is read again as it was.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| zeolith_hostile::run("pickle_call", input));
