//! An index of any bytes beside a good file is used or not; no object gets the record of another one.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| zeolith_hostile::run("saved_index", input));
