//! A record of any bytes tells its class and references or an error; a graph survives being written.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| zeolith_hostile::run("record", input));
