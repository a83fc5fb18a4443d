//! A stream of any bytes, in pieces of any size, is frames within the limit or an error.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| zeolith_hostile::run("frames", input));
