//! Carries bytes between sockets, the core and the storages: listeners, connection tasks, the log writer.
//!
//! No rule of the protocol lives here. A connection task reads frames, lets `zeolith-wire` decode
//! them and `zeolith-core` decide, does what the core's [`zeolith_core::Step`] says, and writes what comes out.
//! Start reading at `connection.rs` for the way of a load, at `log_writer.rs` for the end of a commit.

mod acceptor;
mod address;
mod balance;
mod bell;
mod blob_stream;
mod clock;
mod conflicts;
mod connection;
mod conversation;
mod courtesy;
mod ended;
mod host;
mod jobs;
mod limits;
mod listeners;
mod log;
mod log_writer;
mod mailbox;
mod outcome;
mod output;
mod packing;
mod pipe;
mod refusals;
#[cfg(test)]
mod scripted;
mod server;
mod settings;
mod slow_loads;
mod socket;
mod spool;
mod status;
mod undo_filter;
mod vigil;
mod workers;

pub use address::Address;
pub use conflicts::{ConflictCounts, Settled};
pub use packing::progress as pack_progress;
pub use server::{Server, StartError};
pub use settings::{NamedStorage, Settings};
