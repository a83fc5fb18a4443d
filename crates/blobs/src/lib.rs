//! Blob directories, and the storage that adds one to any other storage.
//!
//! A blob is a file beside the storage, named after the object and the transaction that wrote it.
//! [`BlobStorage`] keeps the two together: an upload is durable before its vote succeeds, gets its name between
//! the moment when the transaction is durable and the one when anybody hears of it, and what was voted on when
//! the server died is either brought to its place or removed at the next start. `docs/blobs.md` has the table.
//!
//! Files are touched through `std::fs` and not through the `Disk` seam: what is needed of them is names, links
//! and permissions, and the simulation serves no blobs.

mod commit;
mod directory;
mod files;
mod layout;
mod old;
mod pack;
#[cfg(test)]
mod power_loss_tests;
mod recover;
mod remove;
mod storage;
mod temporary;
mod walk;

pub use directory::{BlobDirectory, DirectoryReport};
pub use layout::Layout;
pub use recover::Recovered;
pub use storage::{BlobStorage, Manner, OpenReport, Options};
