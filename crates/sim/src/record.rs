//! Records as Python writes them: the class, and a state that holds some bytes and refers to other objects.
//! A pack has to find the references, so they have to be pickles.

use bytes::Bytes;
use zeolith_types::Oid;

/// A record with these words, so many bytes of filling, and these references.
pub(crate) fn record(words: &str, filling: (u8, usize), references: &[Oid]) -> Bytes {
    let (fill, len) = filling;
    let mut record = b"\x80\x03csimulation\nObject\n.\x80\x03(B".to_vec();
    record.extend_from_slice(&((words.len() + len) as u32).to_le_bytes());
    record.extend_from_slice(words.as_bytes());
    record.resize(record.len() + len, fill);
    for oid in references {
        record.extend_from_slice(b"C\x08");
        record.extend_from_slice(&oid.to_bytes());
        record.push(b'Q');
    }
    record.extend_from_slice(b"t.");
    record.into()
}

/// The objects that a record refers to.
pub(crate) fn references(record: &[u8]) -> Vec<Oid> {
    zeolith_pickle::references(record).expect("what a simulated client stores is a pickle")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_found_whatever_the_filling_is() {
        for fill in [0, b'Q', b'.', 0xff] {
            let record = record("words", (fill, 300), &[Oid::new(3), Oid::new(9)]);
            assert_eq!(references(&record), [Oid::new(3), Oid::new(9)]);
        }
    }
}
