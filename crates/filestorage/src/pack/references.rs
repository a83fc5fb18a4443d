//! What a record refers to, whether zc.zlibstorage has compressed it or not.

use std::borrow::Cow;
use zeolith_types::Oid;

/// The objects that a record refers to, duplicates kept; or why that can't be told.
pub(super) fn references(data: &[u8]) -> Result<Vec<Oid>, String> {
    let data = match data.strip_prefix(COMPRESSED) {
        None => Cow::Borrowed(data),
        Some(compressed) => {
            let whole = miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(compressed, RECORD_SIZE_MAX);
            Cow::Owned(whole.map_err(|error| error.to_string())?)
        }
    };
    zeolith_pickle::references(&data).map_err(|error| error.to_string())
}

/// With this a record begins that zc.zlibstorage has compressed.
const COMPRESSED: &[u8] = b".z";
/// A compressed record that grows beyond this is taken for damaged.
const RECORD_SIZE_MAX: usize = 1 << 30;
