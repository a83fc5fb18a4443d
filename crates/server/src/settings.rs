//! What a server is told when it starts.

use crate::ConflictCounts;
use std::{path::PathBuf, sync::Arc, time::Duration};
use zeolith_storage::Storage;

/// The options of a server; names and defaults are those of the `<zeo>` section where it has them.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `read-only`: no client may write.
    pub read_only: bool,
    /// `invalidation-queue-size`: for how many transactions a returning client can be told at once what
    /// changed.
    pub invalidation_queue_size: usize,
    /// `invalidation-age`: a client that was away no longer than this is told from the storage itself.
    pub invalidation_age: Option<Duration>,
    /// `transaction-timeout`: how long a vote may hold its locks.
    pub transaction_timeout: Option<Duration>,
    /// `client-conflict-resolution`: conflicts are sent to the client to be resolved.
    pub client_conflict_resolution: bool,
    /// `msgpack`: announce msgpack instead of pickle.
    pub msgpack: bool,
    /// `frame-size-max`: a larger message closes its connection. Bytes.
    pub frame_size_max: usize,
    /// `hello-timeout`: for the first frame.
    pub hello_timeout: Duration,
    /// `register-timeout`: for `register` after it.
    pub register_timeout: Duration,
    /// `frame-timeout`: how long a message that has begun may stand still, and what a client does not read.
    pub frame_timeout: Duration,
    /// `connections-max`: more are closed at once.
    pub connections_max: usize,
    /// `unregistered-connections-max`: when there are more that have not registered, the oldest is closed.
    pub unregistered_connections_max: usize,
    /// `client-queue-max`: with more bytes waiting for a client that does not read, its calls are not served.
    pub client_queue_max: usize,
    /// `client-lag-max`: a client that has not been told of so many transactions is disconnected.
    pub client_lag_max: usize,
    /// `iterators-max`: iterators that one connection may have open.
    pub iterators_max: usize,
    /// `busy-poll`: how long a worker stays awake for a client that is alone and has asked again within that time.
    pub busy_poll: Duration,
    /// `transaction-memory-max`: records of one transaction that are kept in memory; more are put aside in a
    /// temporary file. Bytes.
    pub transaction_memory_max: u64,
    /// `transaction-size-max`: a larger transaction is refused at vote. Bytes.
    pub transaction_size_max: u64,
    /// `temporary-directory`: where records are put aside.
    pub temporary_directory: PathBuf,
    /// How often a storage is asked to save what makes its next start quick.
    pub checkpoint_interval: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            read_only: false,
            invalidation_queue_size: 100,
            invalidation_age: None,
            transaction_timeout: None,
            client_conflict_resolution: false,
            msgpack: false,
            frame_size_max: zeolith_wire::FRAME_SIZE_MAX,
            hello_timeout: Duration::from_secs(30),
            register_timeout: Duration::from_secs(30),
            frame_timeout: Duration::from_secs(60),
            connections_max: 10_000,
            unregistered_connections_max: 4_000,
            client_queue_max: 4 << 20,
            client_lag_max: 10_000,
            iterators_max: 1_000,
            busy_poll: Duration::from_micros(300),
            transaction_memory_max: 16 << 20,
            transaction_size_max: 16 << 30,
            temporary_directory: std::env::temp_dir(),
            checkpoint_interval: Duration::from_secs(300),
        }
    }
}

/// A storage and the name by which clients ask for it.
#[derive(Clone)]
pub struct NamedStorage {
    /// Lower case, as ZConfig makes section names.
    pub name: String,
    /// What it serves.
    pub storage: Arc<dyn Storage>,
    /// Where its conflicts are counted, by the server and by whoever resolves them.
    pub conflicts: Arc<ConflictCounts>,
}
