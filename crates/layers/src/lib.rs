//! Storages made of other storages: ZODB's `DemoStorage`, which lays changes over a base that stays as it is,
//! and the compressed records of `zc.zlibstorage`.
//!
//! They know the storages inside by the contract alone, so they can be put into each other in any way.

mod demo;
mod zlib;

pub use demo::DemoStorage;
pub use zlib::{ZlibResolver, ZlibStorage, references};
