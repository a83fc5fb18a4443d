//! A pickled frame of any bytes is a call or an error; a value that was read is read again as it was.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use zeolith_pickle::{Limits, class_name, decode, encode, references};
use zeolith_wire::Encoding;

fuzz_target!(|frame: &[u8]| {
    let _ = class_name(frame);
    let _ = references(frame);
    let frame = Bytes::copy_from_slice(frame);
    let _ = zeolith_wire::decode(Encoding::Pickle, &frame);
    if let Ok(value) = decode(&frame, Limits::REQUEST) {
        let again = Bytes::from(encode(&value).expect("what fits into a frame fits into a pickle"));
        // Debug forms, since a float that is no number does not equal itself.
        let read = decode(&again, Limits::REQUEST).expect("what we write can be read");
        assert_eq!(format!("{read:?}"), format!("{value:?}"));
    }
});
