//! A `Data.fs` of any bytes is opened or refused; all ways to read, pack and write it agree.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| zeolith_hostile::run("data_fs", input));
