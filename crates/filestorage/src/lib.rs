//! The only crate that knows bytes in `Data.fs` and its index.
//!
//! [`FileStorage`] is ZODB's FileStorage behind the storage contract: the same files byte for byte, but for zeros at
//! the end while commits follow one another; reads without locks, one sync for all transactions that finish together. The layout stands in
//! `docs/disk-format.md`. Knows nothing of sessions and messages.

mod ahead;
mod append;
mod blank;
mod file;
mod finish;
mod format;
mod index;
mod input;
mod iterate;
mod ledger;
mod lock;
mod nearby;
mod open;
mod pack;
mod prepare;
mod read;
mod recent;
mod report;
mod resolve;
mod room;
mod saved;
mod saved_index;
mod scan;
mod storage;
mod tail;
mod undo;
mod vote;
mod walk;
mod watermark;
mod window;

pub use open::Options;
pub use report::{Finding, IndexUse, OpenReport, TailTrouble};
pub use storage::FileStorage;
