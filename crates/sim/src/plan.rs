//! What kind of run a seed is: who takes part, how the server is set, what goes wrong.

use crate::{Options, disk::Crash, random::Random, schedule::Micros};
use std::time::Duration;
use zeolith_core::Rules;

/// The choices that stand for a whole run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) options: Options,
    pub(crate) clients: usize,
    /// Objects that exist from the beginning.
    pub(crate) objects: u64,
    /// Objects that most commits fight for.
    pub(crate) hot: u64,
    pub(crate) queue_size: usize,
    /// The option `client-lag-max`.
    pub(crate) lag_max: usize,
    pub(crate) invalidation_age: Option<Duration>,
    pub(crate) transaction_timeout: Option<Duration>,
    pub(crate) resolves: bool,
    pub(crate) msgpack: bool,
    /// The time between two decisions of a client, at most.
    pub(crate) think: Micros,
    pub(crate) network_delay: Micros,
    /// Bytes that a socket takes, and that the server may keep besides, before it must wait for the client to read.
    pub(crate) buffers: (usize, usize),
    /// What the disk and the pool take, at most.
    pub(crate) disk_delay: Micros,
    /// In so many of 1000 cases a read would have to wait.
    pub(crate) cold: u64,
    /// The time between two faults, at most; `None` for none.
    pub(crate) fault_every: Option<Micros>,
    pub(crate) crashes: [Crash; 3],
    /// The largest record that is not unusual.
    pub(crate) record_max: u64,
    /// In so many of 1000 cases a record is filled with zeros, as a torn one is.
    pub(crate) zeros: u64,
    /// In so many of 1000 decisions a client cuts, stops, vanishes or sends nonsense.
    pub(crate) unruly: u64,
    /// In so many of 1000 decisions a client packs.
    pub(crate) packs: u64,
    /// What the storage is told of packs.
    pub(crate) pack_gc: bool,
    pub(crate) pack_keep_old: bool,
    /// Clients ask what became of transactions whose end they have not heard of.
    pub(crate) tokens: bool,
    /// In so many of 1000 decisions while it commits a client deserts its connection.
    pub(crate) deserts: u64,
    /// The option `iterators-max`, in runs in which clients walk through the transactions.
    pub(crate) iterators_max: Option<usize>,
}

impl Plan {
    /// From `later` comes what was thought of later, so that runs without it stay as they are.
    pub(crate) fn new(random: &mut Random, later: &mut Random, options: &Options) -> Self {
        let crashes = random.pick(&[
            [Crash::Killed; 3],
            [Crash::Killed, Crash::PowerInOrder, Crash::PowerAnyOrder],
            [Crash::PowerAnyOrder; 3],
        ]);
        Self {
            options: options.clone(),
            clients: random.between(2, 8) as usize,
            objects: random.pick(&[3, 8, 30]),
            hot: random.pick(&[1, 2, 5]),
            queue_size: random.pick(&[0, 1, 3, 20, 100]),
            lag_max: random.pick(&[2, 10, 10_000, 10_000]),
            invalidation_age: random.pick(&[None, Some(Duration::from_secs(3600))]),
            transaction_timeout: random.pick(&[None, Some(TIMEOUT), Some(TIMEOUT), Some(TIMEOUT)]),
            resolves: random.chance(300),
            msgpack: random.chance(500),
            think: random.pick(&[200, 1_000, 5_000]),
            network_delay: random.pick(&[20, 200, 2_000]),
            // Far less than in reality, so that a client that stops reading gets there.
            buffers: random.pick(&[(16 << 10, 8 << 10), (16 << 10, 8 << 10), (300, 200)]),
            disk_delay: random.pick(&[10, 100, 1_000, 5_000]),
            cold: random.pick(&[0, 50, 400]),
            fault_every: random.pick(&[None, Some(20_000), Some(60_000), Some(200_000)]),
            crashes,
            record_max: random.pick(&[40, 40, 700, 3_000]),
            zeros: random.pick(&[0, 50, 500]),
            unruly: random.pick(&[0, 20, 60, 150]),
            packs: random.pick(&[0, 3, 20]),
            pack_gc: random.chance(500),
            pack_keep_old: random.chance(500),
            tokens: later.chance(500),
            deserts: later.pick(&[0, 20, 100]),
            iterators_max: later.pick(&[None, None, Some(1), Some(2), Some(5)]),
        }
    }

    pub(crate) fn storage_options(&self) -> zeolith_filestorage::Options {
        let (pack_gc, pack_keep_old) = (self.pack_gc, self.pack_keep_old);
        zeolith_filestorage::Options { pack_gc, pack_keep_old, ..Default::default() }
    }

    pub(crate) fn rules(&self) -> Rules {
        Rules {
            collects_conflicts: self.resolves,
            // Where records are large all of them are put aside, else some, or none.
            transaction_memory_max: match self.record_max {
                3_000.. => 0,
                700.. => 300,
                _ => 1 << 20,
            },
            transaction_size_max: 1 << 30,
        }
    }
}

/// The option `transaction-timeout`.
const TIMEOUT: Duration = Duration::from_millis(80);
