//! Three records of any bytes are merged into one that can be read, or not at all.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| zeolith_hostile::run("conflict", input));
