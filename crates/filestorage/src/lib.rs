//! The only crate that knows bytes in Data.fs and its index.
