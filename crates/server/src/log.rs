//! Log lines with the logger names and levels of the reference, which operators' tools look for.
//!
//! A tracing target is the Python logger's name. Levels that tracing lacks travel in the field
//! `level_number`: 50 is CRITICAL, 15 is BLATHER.

/// `ZEO.StorageServer`: storages, transactions, clients.
pub(crate) const STORAGE_SERVER: &str = "ZEO.StorageServer";
/// `ZEO.asyncio.server`: connections and what is wrong with their bytes.
pub(crate) const PROTOCOL: &str = "ZEO.asyncio.server";

/// Logs at CRITICAL.
macro_rules! critical {
    ($target:expr, $($arg:tt)+) => {
        tracing::error!(target: $target, level_number = 50_u64, $($arg)+)
    };
}

/// Logs at BLATHER.
macro_rules! blather {
    ($target:expr, $($arg:tt)+) => {
        tracing::debug!(target: $target, level_number = 15_u64, $($arg)+)
    };
}

pub(crate) use {blather, critical};
