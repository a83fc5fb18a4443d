//! A client that speaks the protocol message by message, and one that watches how long loads take.

use bytes::Bytes;
use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};
use zeolith_types::{Oid, Tid, Value};
use zeolith_wire::{Encoding, FrameReader, decode_message, encode_call};

/// A client that says what it is told and takes messages one by one.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    incoming: FrameReader,
    calls: i128,
}

impl Peer {
    /// Connected; nothing has been said.
    pub(crate) fn connected(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, incoming: FrameReader::default(), calls: 0 }
    }

    /// Registered with storage 1 for reading and writing.
    pub(crate) fn registered(address: &str) -> Self {
        let mut peer = Self::connected(address);
        peer.register();
        peer
    }

    pub(crate) fn register(&mut self) {
        self.stream.write_all(b"\0\0\0\x02M5").unwrap();
        self.call("register", &[Value::Str("1".into()), Value::Bool(false)]);
    }

    /// Itself, if the server has said anything before it closed the connection.
    pub(crate) fn greeted(mut self) -> Option<Self> {
        self.frame().map(|_| self)
    }

    /// The next frame; `None` when the server has closed the connection.
    pub(crate) fn frame(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.incoming.next_frame().unwrap() {
                return Some(frame);
            }
            let mut some = [0; 64 << 10];
            match self.stream.read(&mut some) {
                Ok(0) => return None,
                Ok(read) => self.incoming.push(&some[..read]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("the server says nothing: {error}"),
            }
        }
    }

    /// The next message as (id, name, result or arguments); `None` when the connection has ended.
    pub(crate) fn message(&mut self) -> Option<(Value, String, Value)> {
        loop {
            let frame = self.frame()?;
            if frame.len() == 2 {
                continue;
            }
            let Ok(Value::Tuple(parts)) = decode_message(Encoding::Msgpack, &frame) else {
                panic!("no message: {frame:?}");
            };
            let Ok([id, _, Value::Str(name), content]) = <[Value; 4]>::try_from(parts) else {
                panic!("no message: {frame:?}");
            };
            return Some((id, name, content));
        }
    }

    /// Says several things with one write.
    pub(crate) fn say(&mut self, calls: &[(bool, &str, Vec<Value>)]) -> Value {
        let mut out = Vec::new();
        let mut id = Value::Int(0);
        for (one_way, method, arguments) in calls {
            self.calls += i128::from(!one_way);
            id = if *one_way { Value::Int(0) } else { Value::Int(self.calls) };
            encode_call(Encoding::Msgpack, &id, *one_way, method, arguments, &mut out).unwrap();
        }
        self.stream.write_all(&out).unwrap();
        id
    }

    /// Asks, and waits for the answer; notices before it are dropped.
    pub(crate) fn call(&mut self, method: &str, arguments: &[Value]) -> Value {
        let asked = self.say(&[(false, method, arguments.to_vec())]);
        self.answer(&asked)
    }

    /// Waits for an answer; notices before it are dropped.
    pub(crate) fn answer(&mut self, asked: &Value) -> Value {
        loop {
            let (id, name, result) = self.message().expect("the connection is open");
            if name == ".reply" && id == *asked {
                return result;
            }
        }
    }

    pub(crate) fn commit(&mut self, oid: u64, serial: Value, data: &[u8]) -> Value {
        let vote = self.say(&vote(oid, serial, data));
        self.answer(&vote);
        self.call("tpc_finish", &[TRANSACTION])
    }

    /// A value of `server_status`.
    pub(crate) fn status(&mut self, key: &str) -> Option<Value> {
        let Value::Dict(entries) = self.call("server_status", &[]) else { panic!("no dict") };
        entries.into_iter().find(|(name, _)| *name == Value::Str(key.into())).map(|(_, value)| value)
    }

    /// How often a limit took effect.
    pub(crate) fn hits(&mut self, limit: &str) -> i128 {
        let Some(Value::Dict(limits)) = self.status("limits") else { return 0 };
        let found = limits.into_iter().find(|(name, _)| *name == Value::Str(limit.into()));
        let Some((_, Value::Int(hits))) = found else { return 0 };
        hits
    }
}

/// The calls of a transaction that stores one object, up to its vote.
pub(crate) fn vote(oid: u64, serial: Value, data: &[u8]) -> Vec<(bool, &'static str, Vec<Value>)> {
    let empty = || bytes(b"");
    vec![
        (true, "tpc_begin", vec![TRANSACTION, empty(), empty(), Value::Dict(vec![])]),
        (true, "storea", vec![bytes(&Oid::new(oid).to_bytes()), serial, bytes(data), TRANSACTION]),
        (false, "vote", vec![TRANSACTION]),
    ]
}

pub(crate) fn bytes(bytes: &[u8]) -> Value {
    Value::Bytes(Bytes::copy_from_slice(bytes))
}

pub(crate) fn load(oid: u64) -> [Value; 2] {
    [bytes(&Oid::new(oid).to_bytes()), bytes(&Tid::MAX.to_bytes())]
}

/// Another client, which loads an object again and again.
pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<(u32, Duration)>,
}

impl Watch {
    /// Begins to load object `oid`.
    pub(crate) fn begin(address: &str, oid: u64) -> Self {
        let mut peer = Peer::registered(address);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let (mut loads, mut longest) = (0, Duration::ZERO);
            while !stopped.load(Relaxed) {
                let begun = Instant::now();
                peer.call("loadBefore", &load(oid));
                longest = longest.max(begun.elapsed());
                loads += 1;
                // A client that does nothing else would itself be the load of the machine.
                thread::sleep(Duration::from_millis(1));
            }
            (loads, longest)
        });
        Self { stop, thread }
    }

    /// The longest that a load has taken.
    pub(crate) fn longest(self) -> Duration {
        self.stop.store(true, Relaxed);
        let (loads, longest) = self.thread.join().unwrap();
        assert!(loads > 0, "nothing was loaded meanwhile");
        longest
    }
}

/// How a client of these tests names its transaction.
pub(crate) const TRANSACTION: Value = Value::Int(7);
const PATIENCE: Duration = Duration::from_secs(60);
