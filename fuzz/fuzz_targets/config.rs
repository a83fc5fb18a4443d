//! A configuration of any text is a document or an error that says where.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| zeolith_hostile::run("config", input));
