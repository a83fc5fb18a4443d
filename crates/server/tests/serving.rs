//! A whole server on a socket, asked by clients that speak the protocol byte by byte.

use bytes::Bytes;
use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};
use tokio::runtime::Runtime;
use zeolith_server::{Address, NamedStorage, Server, Settings};
use zeolith_storage::memory::MemoryStorage;
use zeolith_types::{Oid, Tid, Value};
use zeolith_wire::{Encoding, FrameReader, decode_message, encode_call};

/// A server of an empty storage in memory, stopped at the end of the test.
struct Serving {
    runtime: Runtime,
    server: Option<Server>,
    address: String,
}

fn serving(settings: Settings) -> Serving {
    let runtime = Runtime::new().expect("a runtime");
    let storage = NamedStorage {
        name: "1".to_owned(),
        storage: Arc::new(MemoryStorage::new("memory")),
        conflicts: Arc::default(),
    };
    let address = Address::Tcp { host: "127.0.0.1".to_owned(), port: 0 };
    let server = runtime.block_on(Server::start(&address, settings, vec![storage])).expect("a free port");
    let address = server.local_addresses().remove(0);
    Serving { runtime, server: Some(server), address }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            let stopped = self.runtime.block_on(server.stop());
            assert!(stopped.is_ok() || std::thread::panicking());
        }
    }
}

/// A client that says what it is told and takes messages one by one.
struct Client {
    stream: TcpStream,
    incoming: FrameReader,
    calls: i128,
}

impl Client {
    /// Connected and past the hello.
    fn greeted(serving: &Serving) -> Self {
        let stream = TcpStream::connect(&serving.address).expect("the server listens");
        stream.set_nodelay(true).expect("a socket can send at once");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout can be set");
        let mut client = Self { stream, incoming: FrameReader::default(), calls: 0 };
        assert_eq!(client.frame().as_deref(), Some(b"Z5".as_slice()));
        client.stream.write_all(b"\0\0\0\x02M5").expect("the server reads");
        client
    }

    fn registered(serving: &Serving) -> Self {
        let mut client = Self::greeted(serving);
        client.call("register", &[Value::Str("1".into()), Value::Bool(false)]);
        client
    }

    /// The next frame; `None` when the server has closed the connection.
    fn frame(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.incoming.next_frame().expect("whole frames") {
                return Some(frame);
            }
            let mut some = [0; 4096];
            match self.stream.read(&mut some) {
                Ok(0) => return None,
                Ok(read) => self.incoming.push(&some[..read]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => unreachable!("the server says nothing: {error}"),
            }
        }
    }

    /// The next message as (id, name, result or arguments).
    fn message(&mut self) -> (Value, String, Value) {
        let frame = self.frame().expect("the connection is open");
        match decode_message(Encoding::Msgpack, &frame).expect("a message") {
            Value::Tuple(parts) => match <[Value; 4]>::try_from(parts) {
                Ok([id, _, Value::Str(name), content]) => (id, name, content),
                other => unreachable!("{other:?}"),
            },
            other => unreachable!("{other:?}"),
        }
    }

    fn ask(&mut self, method: &str, arguments: &[Value]) -> Value {
        self.calls += 1;
        let id = Value::Int(self.calls);
        self.send(&id, false, method, arguments);
        id
    }

    fn tell(&mut self, method: &str, arguments: &[Value]) {
        self.send(&Value::Int(0), true, method, arguments);
    }

    fn send(&mut self, id: &Value, one_way: bool, method: &str, arguments: &[Value]) {
        let mut out = Vec::new();
        encode_call(Encoding::Msgpack, id, one_way, method, arguments, &mut out).expect("a short call");
        self.stream.write_all(&out).expect("the server reads");
    }

    /// Asks, and waits for the answer; notices before it are dropped.
    fn call(&mut self, method: &str, arguments: &[Value]) -> Value {
        let asked = self.ask(method, arguments);
        loop {
            let (id, name, result) = self.message();
            if name == ".reply" && id == asked {
                return result;
            }
        }
    }

    /// Begins a transaction that stores one object.
    fn begin(&mut self, id: i128, oid: Oid, serial: Value, data: &'static [u8]) {
        let id = Value::Int(id);
        let empty = || bytes(b"");
        self.tell("tpc_begin", &[id.clone(), empty(), empty(), Value::Dict(vec![])]);
        self.tell("storea", &[bytes(&oid.to_bytes()), serial, bytes(data), id]);
    }

    fn commit(&mut self, oid: Oid, serial: Value, data: &'static [u8]) -> Value {
        self.begin(7, oid, serial, data);
        self.call("vote", &[Value::Int(7)]);
        self.call("tpc_finish", &[Value::Int(7)])
    }
}

fn bytes(bytes: &[u8]) -> Value {
    Value::Bytes(Bytes::copy_from_slice(bytes))
}

fn load(oid: Oid) -> [Value; 2] {
    [bytes(&oid.to_bytes()), bytes(&Tid::MAX.to_bytes())]
}

#[test]
fn a_commit_is_heard_of_by_others_before_they_can_read_it() {
    let serving = serving(Settings::default());
    let (mut writer, mut reader) = (Client::registered(&serving), Client::registered(&serving));
    let oid = Oid::new(1);
    let mut serial = writer.commit(oid, Value::None, b"first");
    let mut told = serial.clone();
    for _ in 0..50 {
        serial = writer.commit(oid, serial, b"next");
        let asked = reader.ask("loadBefore", &load(oid));
        loop {
            let (id, name, content) = reader.message();
            let Value::Tuple(content) = content else { unreachable!("{content:?}") };
            if name == "invalidateTransaction" {
                told = content[0].clone();
                continue;
            }
            assert_eq!((id, &content[1], &content[2]), (asked, &told, &Value::None));
            break;
        }
        assert_eq!(told, serial, "the commit was answered before the load was asked for");
    }
}

/// What `server_sync` of stock clients relies on. With many readers some are asked for before the server has come
/// to tell them.
#[test]
fn who_asks_after_a_commit_was_answered_hears_of_it_before_the_answer() {
    let serving = serving(Settings::default());
    let mut writer = Client::registered(&serving);
    let mut readers: Vec<_> = (0..32).map(|_| Client::registered(&serving)).collect();
    let oid = Oid::new(1);
    let mut serial = Value::None;
    for _ in 0..100 {
        serial = writer.commit(oid, serial, b"data");
        let asked: Vec<_> = readers.iter_mut().rev().map(|reader| reader.ask("ping", &[])).collect();
        for (reader, asked) in readers.iter_mut().rev().zip(asked) {
            let (_, name, content) = reader.message();
            assert_eq!(name, "invalidateTransaction", "the answer came first");
            let Value::Tuple(content) = content else { unreachable!("{content:?}") };
            assert_eq!(content[0], serial);
            assert_eq!(reader.message().0, asked);
        }
    }
}

#[test]
fn a_store_that_makes_no_sense_fails_its_vote_and_not_the_connection() {
    let serving = serving(Settings::default());
    let mut client = Client::registered(&serving);
    let store = [bytes(&[0; 8]), bytes(&[0; 8]), Value::Str("no bytes".into()), Value::Int(7)];
    for _ in 0..2 {
        client.tell("tpc_begin", &[Value::Int(7), bytes(b""), bytes(b""), Value::Dict(vec![])]);
        client.tell("storea", &store);
        let asked = client.ask("vote", &[Value::Int(7)]);
        let (id, _, content) = client.message();
        let Value::Tuple(error) = content else { unreachable!("the vote does not fail: {content:?}") };
        assert_eq!((id, &error[0]), (asked, &Value::Str("builtins.TypeError".into())));
    }
    client.commit(Oid::new(1), Value::None, b"bytes");
    // Without a transaction there is no vote that could fail.
    client.tell("storea", &store);
    assert_eq!(client.frame(), None);
}

#[test]
fn a_thousand_loads_sent_at_once_are_answered_in_their_order() {
    let serving = serving(Settings::default());
    let mut client = Client::registered(&serving);
    client.commit(Oid::new(1), Value::None, b"data");
    let asked: Vec<Value> = (0..1000).map(|_| client.ask("loadBefore", &load(Oid::new(1)))).collect();
    for id in asked {
        assert_eq!(client.message().0, id);
    }
}

#[test]
fn a_vote_held_for_too_long_is_cut_off_and_the_next_one_has_its_objects() {
    let settings = Settings { transaction_timeout: Some(Duration::from_millis(200)), ..Settings::default() };
    let serving = serving(settings);
    let (mut stalled, mut next) = (Client::registered(&serving), Client::registered(&serving));
    let oid = Oid::new(1);
    let serial = next.commit(oid, Value::None, b"first");
    stalled.begin(1, oid, serial.clone(), b"stalled");
    stalled.call("vote", &[Value::Int(1)]);
    next.begin(2, oid, serial, b"next");
    assert_eq!(next.call("vote", &[Value::Int(2)]), Value::Tuple(vec![]));
    assert!(matches!(next.call("tpc_finish", &[Value::Int(2)]), Value::Bytes(_)));
    while stalled.frame().is_some() {}
}

#[test]
fn votes_on_different_objects_do_not_wait_for_each_other() {
    let serving = serving(Settings::default());
    let (mut one, mut other) = (Client::registered(&serving), Client::registered(&serving));
    let first = one.commit(Oid::new(1), Value::None, b"first");
    let second = one.commit(Oid::new(2), Value::None, b"second");
    one.begin(1, Oid::new(1), first, b"held");
    one.call("vote", &[Value::Int(1)]);
    assert!(matches!(other.commit(Oid::new(2), second, b"free"), Value::Bytes(_)));
    assert!(matches!(one.call("tpc_finish", &[Value::Int(1)]), Value::Bytes(_)));
}

#[test]
fn who_does_not_register_in_time_is_disconnected() {
    let settings = Settings { register_timeout: Duration::from_millis(100), ..Settings::default() };
    let serving = serving(settings);
    let mut client = Client::greeted(&serving);
    assert_eq!(client.frame(), None);
}

#[test]
fn a_server_that_stops_closes_its_connections() {
    let mut serving = serving(Settings::default());
    let mut client = Client::registered(&serving);
    let server = serving.server.take().expect("it runs");
    serving.runtime.block_on(server.stop()).expect("memory closes in good order");
    assert_eq!(client.frame(), None);
    assert!(TcpStream::connect(&serving.address).is_err());
}
