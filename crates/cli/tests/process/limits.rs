//! Clients that ask for too much: the server stays up within a bound of memory, and others do not wait for them.
//!
//! Each test states both bounds. They are wide enough for a busy machine with two processors and an
//! unoptimised build, and far below what a server without the limit would need.

use super::{
    harness::{Running, Site},
    peer::{Peer, TRANSACTION, Watch, bytes, load, vote},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{fs, io::Write, net::TcpStream, thread, time::Duration};
use zeolith_types::{Oid, Value};

/// A server of a file, with these keys in `<zeo>`, and an object 1 of ten bytes.
fn serving(keys: &str) -> (Site, Running, Value) {
    let directory = Site::new();
    let aside = directory.path().join("aside");
    fs::create_dir(&aside).unwrap();
    directory.write(
        "zeo.conf",
        &format!(
            "<zeo>\n address 127.0.0.1:0\n temporary-directory {}\n {keys}\n</zeo>\n\
             <filestorage>\n path Data.fs\n</filestorage>\n",
            aside.display()
        ),
    );
    // Else the allocator keeps what was freed, for each of its arenas; how many these are depends on the machine.
    let server = directory.start_runzeo_with(&["-C", "zeo.conf"], "MALLOC_MMAP_THRESHOLD_", "1000000");
    let serial = Peer::registered(&server.address).commit(1, Value::None, b"ten bytes.");
    (directory, server, serial)
}

/// A figure of the process in MiB: `VmRSS` is what it has in memory, `VmHWM` the most that it has had.
fn memory(server: &Running, figure: &str) -> u64 {
    status(server, figure) >> 10
}

/// A figure that the system has of the process.
fn status(server: &Running, figure: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(figure)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Loads of others take no longer than this, whatever happens. Alone on two processors it is a hundredth of that,
/// but tests run beside each other; a stall would last until somebody gives up.
const LOAD_MAX: Duration = Duration::from_secs(3);

#[test]
fn a_reader_that_stops_is_cut_off_when_it_lags_too_far_and_nobody_waits_for_it() {
    let (_site, mut server, serial) = serving("client-lag-max 3000\n client-queue-max 1MB");
    let mut writer = Peer::registered(&server.address);
    writer.commit(2, Value::None, &vec![b'x'; 1 << 20]);
    let before = memory(&server, "VmRSS");
    let mut stopped = Peer::registered(&server.address);
    // More than sockets hold. What waits in the server is at most client-queue-max and one answer, and as much
    // again has been read.
    stopped.say(&vec![(false, "loadBefore", load(2).to_vec()); 200]);
    let watch = Watch::begin(&server.address, 1);
    let (mut serial, mut commits) = (serial, 0);
    while writer.hits("client-lag-max") == 0 {
        for _ in 0..500 {
            serial = writer.commit(1, serial, b"ten bytes.");
        }
        commits += 500;
        assert!(commits < 10_000, "nobody is cut off");
    }
    server.wait_for("(client-lag-max)");
    let longest = watch.longest();
    assert!(longest < LOAD_MAX, "{longest:?}");
    assert_eq!(writer.hits("client-lag-max"), 1, "who reads is not cut off");
    let grown = memory(&server, "VmHWM") - before;
    assert!(grown < 48, "200 answers of 1 MiB to nobody have grown the server by {grown} MiB");
    // The locks and the file are as they were.
    assert!(matches!(writer.commit(1, serial, b"ten bytes."), Value::Bytes(_)));
}

#[test]
fn a_reader_that_stops_is_cut_off_in_time_even_if_nobody_commits() {
    let (_site, mut server, _) = serving("frame-timeout 1s\n client-queue-max 1MB");
    let mut writer = Peer::registered(&server.address);
    writer.commit(2, Value::None, &vec![b'x'; 8 << 20]);
    let before = memory(&server, "VmRSS");
    let mut stopped = Peer::registered(&server.address);
    stopped.say(&vec![(false, "loadBefore", load(2).to_vec()); 60]);
    server.wait_for("the client does not read what waits for it (frame-timeout)");
    assert_eq!(writer.hits("frame-timeout"), 1);
    // One record waits to go out, one is ready to follow it, each in two buffers for a moment.
    let grown = memory(&server, "VmHWM") - before;
    assert!(grown < 64, "60 answers of 8 MiB to nobody have grown the server by {grown} MiB");
}

#[test]
fn large_records_are_read_as_their_client_takes_them() {
    let (_site, server, _) = serving("client-queue-max 1MB");
    let (large, small) = (vec![b'L'; 6 << 20], vec![b's'; 100 << 10]);
    let mut client = Peer::registered(&server.address);
    client.commit(2, Value::None, &large);
    client.commit(3, Value::None, &small);
    let before = memory(&server, "VmRSS");
    let first = client.say(&[(false, "ping", vec![])]);
    let Value::Int(first) = first else { panic!("{first:?}") };
    let count = 60;
    let calls = (1..=count).map(|number| load(if number % 2 == 0 { 2 } else { 3 }).to_vec());
    client.say(&calls.map(|call| (false, "loadBefore", call)).collect::<Vec<_>>());
    let mut missing: Vec<_> = (first..=first + count).collect();
    while !missing.is_empty() {
        let (id, name, result) = client.message().unwrap();
        let Value::Int(id) = id else { panic!("{id:?}") };
        if name != ".reply" {
            continue;
        }
        missing.retain(|other| *other != id);
        if let Value::Tuple(loaded) = result {
            let wanted = if (id - first) % 2 == 0 { &large } else { &small };
            assert!(loaded[0] == bytes(wanted), "{id}");
        }
    }
    let grown = memory(&server, "VmHWM") - before;
    assert!(grown < 64, "60 answers have grown the server by {grown} MiB");
}

#[test]
fn a_thousand_idle_subscribers_hear_of_every_commit_in_order() {
    let (_site, server, mut serial) = serving("");
    let before = memory(&server, "VmRSS");
    let mut subscribers: Vec<Peer> = (0..1_000).map(|_| Peer::registered(&server.address)).collect();
    let watch = Watch::begin(&server.address, 1);
    let mut writer = Peer::registered(&server.address);
    let mut tids = Vec::new();
    for _ in 0..50 {
        serial = writer.commit(1, serial, b"ten bytes.");
        tids.push(serial.clone());
    }
    for subscriber in &mut subscribers {
        for tid in &tids {
            let (_, name, content) = subscriber.message().unwrap();
            let Value::Tuple(content) = content else { panic!("{content:?}") };
            assert_eq!((name.as_str(), &content[0]), ("invalidateTransaction", tid));
        }
    }
    let longest = watch.longest();
    assert!(longest < LOAD_MAX, "{longest:?}");
    let grown = memory(&server, "VmHWM") - before;
    assert!(grown < 64, "a thousand subscribers have grown the server by {grown} MiB");
}

#[test]
fn a_storm_of_connections_that_never_register_keeps_no_client_out() {
    let (_site, mut server, _) = serving("unregistered-connections-max 300\n connections-max 3000");
    let before = memory(&server, "VmRSS");
    let watch = Watch::begin(&server.address, 1);
    let (address, storms) = (server.address.clone(), 4);
    let storm = (0..storms).map(|number| {
        let address = address.clone();
        thread::spawn(move || {
            let mut held = Vec::new();
            for connection in 0..500 {
                let mut stream = TcpStream::connect(&address).unwrap();
                // Silent ones, half a hello, a whole hello and no registration, a message that never ends.
                let said: &[u8] = match (connection + number) % 4 {
                    0 => b"",
                    1 => b"\0\0",
                    2 => b"\0\0\0\x02M5",
                    _ => b"\0\0\0\x02M5\0\0\xff\xff",
                };
                // One that has been pushed out already hears nothing any more.
                let _ = stream.write_all(said);
                held.push(stream);
                thread::sleep(Duration::from_millis(3));
            }
            held
        })
    });
    let storm: Vec<_> = storm.collect();
    let mut clients = 0;
    while !storm.iter().all(thread::JoinHandle::is_finished) {
        // Clients that come and go meanwhile are served.
        let mut client = Peer::registered(&server.address);
        assert!(matches!(client.call("loadBefore", &load(1)), Value::Tuple(_)));
        clients += 1;
    }
    let held: Vec<_> = storm.into_iter().flat_map(|storm| storm.join().unwrap()).collect();
    assert!(clients > 10, "{clients} clients came to a word");
    let longest = watch.longest();
    assert!(longest < LOAD_MAX, "{longest:?}");
    let mut client = Peer::registered(&server.address);
    let pushed_out = client.hits("unregistered-connections-max");
    let all = held.len() as i128;
    assert!((all - 300..=all).contains(&pushed_out), "{pushed_out} of {all} made room");
    server.wait_for("(unregistered-connections-max)");
    let grown = memory(&server, "VmHWM") - before;
    assert!(grown < 64, "the storm has grown the server by {grown} MiB");
}

#[test]
fn a_connection_too_many_is_closed_at_once_and_the_next_one_finds_room_again() {
    let (_site, mut server, _) = serving("connections-max 5");
    let address = server.address.clone();
    let mut peers = Vec::new();
    let connected = || Peer::connected(&address).greeted();
    while let Some(peer) = connected() {
        peers.push(peer);
    }
    // The one that made the object may have been there still.
    assert!((4..=5).contains(&peers.len()), "{} connections", peers.len());
    drop(peers);
    let mut client = std::iter::repeat_with(connected).flatten().next().unwrap();
    client.register();
    assert!(client.hits("connections-max") >= 1);
    server.wait_for("refused: there are 5 connections already (connections-max)");
}

#[test]
fn there_is_room_for_all_connections_before_the_first_one() {
    let (_site, server, _) = serving("connections-max 3000");
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Else the table grows under way, and who connects then waits for all processors.
    assert!(status(&server, "FDSize:") >= maximum.map_or(3000, |files| files.min(3000)));
}

#[test]
fn ten_thousand_votes_queue_for_one_object_while_others_load_and_commit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    // Both processes need a file for each connection, and some of their own.
    let count = maximum.map_or(10_000, |files| files.saturating_sub(1_000).min(10_000));
    let (_site, server, first) = serving("connections-max 10100\n transaction-timeout 600");
    let before = memory(&server, "VmRSS");
    let mut other = Peer::registered(&server.address);
    let serial = other.commit(2, Value::None, b"other");
    let mut holder = Peer::registered(&server.address);
    let held = holder.say(&vote(1, first.clone(), b"held"));
    holder.answer(&held);
    let watch = Watch::begin(&server.address, 1);
    let queued: Vec<Peer> = (0..count)
        .map(|_| {
            let mut peer = Peer::registered(&server.address);
            peer.say(&vote(1, first.clone(), b"late"));
            peer
        })
        .collect();
    while other.status("waiting") != Some(Value::Int(count.into())) {
        thread::sleep(Duration::from_millis(5));
    }
    // Nobody who wants something else waits.
    let serial = other.commit(2, serial, b"other");
    holder.call("tpc_finish", &[TRANSACTION]);
    let mut last = queued;
    for peer in &mut last {
        // Each is granted the object in its turn, and finds that it has been changed.
        let (_, name, _) = loop {
            let message = peer.message().unwrap();
            if message.1 == ".reply" {
                break message;
            }
        };
        assert_eq!(name, ".reply");
    }
    assert_eq!(other.status("waiting"), Some(Value::Int(0)));
    assert_eq!(other.status("conflicts"), Some(Value::Int(count.into())));
    other.commit(2, serial, b"other");
    let longest = watch.longest();
    assert!(longest < LOAD_MAX, "{longest:?}");
    let grown = memory(&server, "VmHWM") - before;
    let grown_max = (count * 40) >> 10;
    assert!(grown < grown_max, "{count} votes have grown the server by {grown} MiB, {grown_max} are allowed");
}

#[test]
fn a_transaction_larger_than_memory_is_put_aside_and_committed_whole() {
    let (site, server, _) = serving("transaction-memory-max 8MB");
    let before = memory(&server, "VmRSS");
    let watch = Watch::begin(&server.address, 1);
    let mut writer = Peer::registered(&server.address);
    let (large, small) = (vec![b'L'; 1 << 20], vec![b's'; 1 << 10]);
    let empty = || bytes(b"");
    writer.say(&[(true, "tpc_begin", vec![TRANSACTION, empty(), empty(), Value::Dict(vec![])])]);
    let (larges, smalls) = (100, 30_000);
    for oid in 0..larges + smalls {
        let data = if oid < larges { &large } else { &small };
        let oid = bytes(&Oid::new(1_000 + oid).to_bytes());
        writer.say(&[(true, "storea", vec![oid, Value::None, bytes(data), TRANSACTION])]);
    }
    assert_eq!(writer.call("vote", &[TRANSACTION]), Value::Tuple(vec![]));
    assert!(matches!(writer.call("tpc_finish", &[TRANSACTION]), Value::Bytes(_)));
    let longest = watch.longest();
    assert!(longest < LOAD_MAX, "{longest:?}");
    // 8 MiB of records, as much again that is on its way, about 200 bytes for each of 30,000 objects.
    let grown = memory(&server, "VmHWM") - before;
    assert!(grown < 48, "a transaction of 130 MB has grown the server by {grown} MiB");
    assert!(writer.hits("transaction-memory-max") >= 10);
    assert_eq!(site.path().join("aside").read_dir().unwrap().count(), 0);
    for (oid, data) in [(1_000, &large), (1_099, &large), (1_100, &small), (31_099, &small)] {
        let Value::Tuple(loaded) = writer.call("loadBefore", &load(oid)) else {
            panic!("{oid} is not there")
        };
        assert!(loaded[0] == bytes(data), "{oid}");
    }
}

#[test]
fn a_transaction_that_is_too_large_is_refused_at_vote_and_the_client_can_go_on() {
    let (_site, mut server, serial) = serving("transaction-size-max 1MB");
    let mut writer = Peer::registered(&server.address);
    let asked = writer.say(&vote(1, serial.clone(), &vec![b'x'; 2 << 20]));
    let refused = format!("{:?}", writer.answer(&asked));
    assert!(refused.contains("ZODB.POSException.StorageError"), "{refused}");
    assert!(refused.contains("transaction-size-max"), "{refused}");
    server.wait_for("transaction-size-max");
    assert_eq!(writer.hits("transaction-size-max"), 1);
    assert!(matches!(writer.commit(1, serial, b"small"), Value::Bytes(_)));
}

#[test]
fn iterators_are_counted_and_one_too_many_is_refused() {
    let (_site, server, _) = serving("iterators-max 3");
    let mut client = Peer::registered(&server.address);
    let start = [Value::None, Value::None];
    for _ in 0..3 {
        assert!(matches!(client.call("iterator_start", &start), Value::Int(_)));
    }
    let refused = format!("{:?}", client.call("iterator_start", &start));
    assert!(refused.contains("builtins.ValueError") && refused.contains("iterators-max"), "{refused}");
    client.say(&[(true, "iterator_gc", vec![Value::Tuple(vec![Value::Int(0)])])]);
    assert!(matches!(client.call("iterator_start", &start), Value::Int(_)));
    assert_eq!(client.hits("iterators-max"), 1);
}

#[test]
fn who_says_no_hello_or_does_not_register_is_sent_away_in_time() {
    let (_site, mut server, _) = serving("hello-timeout 1s\n register-timeout 1s");
    let mut silent = Peer::connected(&server.address);
    let mut greeted = Peer::connected(&server.address);
    greeted.stream.write_all(b"\0\0\0\x02M5").unwrap();
    while silent.frame().is_some() {}
    while greeted.frame().is_some() {}
    server.wait_for("a hello did not come in time (hello-timeout)");
    server.wait_for("a registration did not come in time (register-timeout)");
}

#[test]
fn before_the_registration_only_short_messages_are_taken() {
    let (_site, mut server, _) = serving("");
    let mut greeted = Peer::connected(&server.address);
    greeted.stream.write_all(b"\0\0\0\x02M5\0\x02\0\0").unwrap();
    while greeted.frame().is_some() {}
    server.wait_for("(frame-size-max)");
}
