//! A client as the reference client is: it connects, verifies its cache, keeps it true by what it
//! is told, and checks all of that against the history.

mod actor;
mod cache;
mod lost;
mod receive;
mod scan;
mod transaction;

use crate::{
    context::Context,
    network::{Arrival, Toward},
    random::Random,
    schedule::Event,
};
use bytes::Bytes;
use cache::Cache;
use lost::Lost;
use scan::Scan;
use std::collections::BTreeMap;
use transaction::Transaction;
use zeolith_core::SessionId;
use zeolith_types::{Oid, Tid, Value};
use zeolith_wire::{Encoding, FrameReader};

/// One client, across all its connections. Its cache stays when a connection ends.
pub(crate) struct Client {
    number: usize,
    /// For what only some runs have, so that the others stay as they are.
    chance: Random,
    encoding: Encoding,
    cache: Cache,
    connection: Option<SessionId>,
    phase: Phase,
    incoming: FrameReader,
    calls: i128,
    pending: BTreeMap<i128, Expected>,
    /// Loads under way, and what the client knew when it asked; the same load is asked once.
    loads: BTreeMap<(Oid, Tid), Tid>,
    /// The server's last transaction when this connection registered.
    registered_at: Tid,
    /// Invalidations that came while the cache was verified.
    queued: Vec<(Tid, Vec<Oid>)>,
    transaction: Transaction,
    transactions: u64,
    /// Across connections, too: what it has not heard the end of.
    lost: Vec<Lost>,
    /// Walks through the transactions, by numbers of its own.
    scans: BTreeMap<u64, Scan>,
    scan_count: u64,
    /// Iterators that the server keeps and this client has forgotten.
    forgotten_iterators: usize,
    /// Oids that the server gave and nobody has used.
    new_oids: Vec<Oid>,
    is_reading: bool,
    /// In the calm at the end: it has loaded everything and committed once more.
    is_done: bool,
    /// In the calm at the end: it has asked for everything.
    has_swept: bool,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Offline,
    Hello,
    Registering,
    Verifying,
    Info,
    Ready,
}

/// What a call will be answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Registered,
    Invalidations,
    Info,
    Oids,
    LastTransaction,
    Voted,
    Finished,
    Aborted,
    Packed,
    /// What became of the transaction of this number.
    Outcome(i128),
    /// A step of the walk of this number.
    Scanned(u64),
    NoIterator,
}

impl Client {
    pub(crate) fn new(number: usize, chance: Random, context: &mut Context) -> Self {
        context.soon(5_000, Event::Client(number));
        Self {
            number,
            chance,
            encoding: if context.random.chance(500) { Encoding::Pickle } else { Encoding::Msgpack },
            cache: Cache::default(),
            connection: None,
            phase: Phase::Offline,
            incoming: FrameReader::default(),
            calls: 0,
            pending: BTreeMap::new(),
            loads: BTreeMap::new(),
            registered_at: Tid::ZERO,
            queued: Vec::new(),
            transaction: Transaction::None,
            transactions: 0,
            lost: Vec::new(),
            scans: BTreeMap::new(),
            scan_count: 0,
            forgotten_iterators: 0,
            new_oids: Vec::new(),
            is_reading: true,
            is_done: false,
            has_swept: false,
        }
    }

    pub(crate) const fn is_done(&self) -> bool {
        self.is_done
    }

    pub(crate) const fn connection(&self) -> Option<SessionId> {
        self.connection
    }

    pub(crate) fn describe(&self) -> String {
        let (phase, transaction, loads) = (self.phase, &self.transaction, self.loads.len());
        let lost = &self.lost;
        format!(
            "client {}: {phase:?}, {transaction:?}, {loads} loads, lost {lost:?}, knows {}",
            self.number,
            self.cache.last()
        )
    }

    /// Something of the server arrives.
    pub(crate) fn arrive(&mut self, id: SessionId, context: &mut Context) {
        if self.connection != Some(id) {
            return;
        }
        if !self.is_reading {
            context.network.postpone(id, Toward::Client);
            return;
        }
        let Context { network, schedule, random, .. } = context;
        match network.arrive(id, Toward::Client, schedule, random) {
            Arrival::Nothing => {}
            Arrival::End => self.disconnected(context),
            Arrival::Bytes(bytes) => {
                self.incoming.push(&bytes);
                self.read_frames(context);
            }
        }
    }

    fn connect(&mut self, context: &mut Context) -> Option<SessionId> {
        context.boot?;
        context.sessions += 1;
        let id = SessionId(context.sessions);
        context.network.connect(id, self.number, context.plan.network_delay, context.plan.buffers.0);
        self.connection = Some(id);
        self.phase = Phase::Hello;
        self.incoming = FrameReader::default();
        self.is_reading = true;
        context.note(format_args!("client {} connects as {}", self.number, id.0));
        Some(id)
    }

    /// The connection is gone, whoever ended it. The cache stays.
    fn disconnected(&mut self, context: &mut Context) {
        if let Some(id) = self.connection.take() {
            context.note(format_args!("client {} has lost {}", self.number, id.0));
        }
        self.phase = Phase::Offline;
        self.pending.clear();
        self.loads.clear();
        self.queued.clear();
        self.new_oids.clear();
        self.lose_transaction(context);
        self.lose_walks();
        (self.is_done, self.has_swept) = (false, false);
    }

    fn hang_up(&mut self, context: &mut Context) {
        if let Some(id) = self.connection {
            context.close(id, Toward::Client);
        }
        self.disconnected(context);
    }

    fn call(&mut self, method: &str, arguments: &[Value], expected: Expected, context: &mut Context) {
        self.calls += 1;
        self.pending.insert(self.calls, expected);
        self.send(&Value::Int(self.calls), false, method, arguments, context);
    }

    fn tell(&self, method: &str, arguments: &[Value], context: &mut Context) {
        self.send(&Value::Int(0), true, method, arguments, context);
    }

    fn send(&self, id: &Value, one_way: bool, method: &str, arguments: &[Value], context: &mut Context) {
        let Some(connection) = self.connection else { return };
        let mut out = Vec::new();
        let encoded = zeolith_wire::encode_call(self.encoding, id, one_way, method, arguments, &mut out);
        encoded.expect("what a simulated client says fits both encodings");
        context.send(connection, Toward::Server, &out);
    }
}

fn oid_value(oid: Oid) -> Value {
    Value::Bytes(Bytes::copy_from_slice(&oid.to_bytes()))
}

fn tid_value(tid: Tid) -> Value {
    Value::Bytes(Bytes::copy_from_slice(&tid.to_bytes()))
}
