//! Records compressed as `zc.zlibstorage` compresses them: the bytes `.z`, and a zlib stream.
//!
//! Which records are compressed is to be seen from their first bytes, so a storage can hold both kinds.

mod resolve;
mod storage;

use bytes::Bytes;
use miniz_oxide::{
    deflate::compress_to_vec_zlib,
    inflate::{TINFLStatus, decompress_to_vec_zlib_with_limit},
};
use std::{borrow::Cow, fmt};
use zeolith_types::Oid;

pub use resolve::ZlibResolver;
pub use storage::ZlibStorage;

/// What a record refers to, whether it is compressed or not.
///
/// # Errors
/// It can't be decompressed, or its references can't be read.
pub fn references(record: &[u8]) -> Result<Vec<Oid>, String> {
    let whole = match record.strip_prefix(PREFIX) {
        None => Cow::Borrowed(record),
        Some(compressed) => Cow::Owned(inflate(compressed, RECORD_SIZE_MAX).map_err(|why| why.to_string())?),
    };
    zeolith_pickle::references(&whole).map_err(|error| error.to_string())
}

fn is_compressed(record: &[u8]) -> bool {
    record.starts_with(PREFIX)
}

/// The record in its compressed form, unless that is longer.
fn compress(record: &Bytes) -> Bytes {
    if record.len() <= WORTHLESS_MAX || is_compressed(record) {
        return record.clone();
    }
    let stream = compress_to_vec_zlib(record, LEVEL);
    if PREFIX.len() + stream.len() >= record.len() {
        return record.clone();
    }
    [PREFIX, &stream].concat().into()
}

/// The record as its client knows it, if that has no more than `size_max` bytes.
fn decompress(record: &Bytes, size_max: usize) -> Result<Bytes, InflateError> {
    let Some(compressed) = record.strip_prefix(PREFIX) else {
        return Ok(record.clone());
    };
    let whole = inflate(compressed, size_max)?;
    // As in the reference: a record is never empty, so this one was not compressed.
    Ok(if whole.is_empty() { record.clone() } else { whole.into() })
}

fn inflate(compressed: &[u8], size_max: usize) -> Result<Vec<u8>, InflateError> {
    decompress_to_vec_zlib_with_limit(compressed, size_max).map_err(|error| match error.status {
        TINFLStatus::HasMoreOutput => InflateError::Larger { size_max },
        _ => InflateError::NoZlib(error.to_string()),
    })
}

/// Why a record can't be decompressed.
#[derive(Debug, PartialEq, Eq)]
enum InflateError {
    /// It would grow beyond what is allowed.
    Larger { size_max: usize },
    /// It only looks compressed.
    NoZlib(String),
}

impl fmt::Display for InflateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Larger { size_max } => write!(f, "it would grow beyond {size_max} bytes"),
            Self::NoZlib(why) => write!(f, "it begins with .z, and what follows is no zlib stream: {why}"),
        }
    }
}

/// With this a compressed record begins.
const PREFIX: &[u8] = b".z";
/// The reference leaves records of this length or less alone.
const WORTHLESS_MAX: usize = 20;
/// That of Python's `zlib.compress`.
const LEVEL: u8 = 6;
/// What a few bytes of a hostile record may grow to.
const RECORD_SIZE_MAX: usize = 256 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_as_it_was() {
        for size in [0, 1, 20, 21, 22, 500, 100_000] {
            let record = Bytes::from(vec![b'x'; size]);
            let stored = compress(&record);
            assert_eq!(is_compressed(&stored), size > WORTHLESS_MAX, "{size}");
            assert_eq!(decompress(&stored, size), Ok(record));
        }
    }

    #[test]
    fn what_gains_nothing_stays_as_it_is() {
        let mut state = 1_u32;
        let mut byte = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let noise: Bytes = (0..1000).map(|_| byte()).collect();
        assert_eq!(compress(&noise), noise);
        let stored = compress(&Bytes::from(vec![b'x'; 500]));
        assert_eq!(compress(&stored), stored);
    }

    #[test]
    fn a_record_that_python_compressed_is_read() {
        // b'.z' + zlib.compress(b'a' * 40)
        let stored = b".z\x78\x9c\x4b\x4c\x24\x0e\x00\x00\x36\xeb\x0f\x29";
        assert_eq!(decompress(&Bytes::from_static(stored), RECORD_SIZE_MAX).unwrap(), vec![b'a'; 40]);
    }

    #[test]
    fn what_only_looks_compressed_is_refused() {
        let error = decompress(&Bytes::from_static(b".z is no zlib stream"), RECORD_SIZE_MAX).unwrap_err();
        assert!(error.to_string().contains("no zlib stream"), "{error}");
        assert!(references(b".z").is_err());
    }

    #[test]
    fn a_record_that_would_grow_without_bound_is_refused() {
        let bomb = compress_to_vec_zlib(&[0; 1001], LEVEL);
        assert_eq!(inflate(&bomb, 1001), Ok(vec![0; 1001]));
        assert_eq!(inflate(&bomb, 1000), Err(InflateError::Larger { size_max: 1000 }));
    }

    #[test]
    fn references_are_found_in_both_kinds() {
        let record = b"\x80\x02czope\nA\n.\x80\x02}U\x01a(U\x08\0\0\0\0\0\0\0\x05czope\nB\ntQs.";
        let stored = [PREFIX, &compress_to_vec_zlib(record, 6)].concat();
        assert_eq!(references(record), Ok(vec![Oid::new(5)]));
        assert_eq!(references(&stored), Ok(vec![Oid::new(5)]));
    }
}
