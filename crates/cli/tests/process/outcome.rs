//! Clients that lose their connection while they commit, and ask afterwards what became of it.

use super::{
    harness::{Running, Site},
    peer::{Peer, TRANSACTION, bytes, load},
};
use std::{
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use zeolith_types::{Oid, Value};

const CONFIGURATION: &str =
    "<zeo>\n address 127.0.0.1:0\n</zeo>\n<filestorage>\n path Data.fs\n</filestorage>\n";

/// A root object that refers to nothing.
const ROOT: &[u8] = b"\x80\x03cpersistent.mapping\nPersistentMapping\n.\x80\x03}.";

fn token(number: u8) -> Value {
    bytes(&[number; 16])
}

/// Sends a transaction with a token that stores an object, and hears that it can be finished.
fn voted(peer: &mut Peer, token: Value, oid: u64, serial: Value, data: &[u8]) {
    let empty = || bytes(b"");
    let extension = Value::Dict(vec![(Value::Str("zeolith-token".into()), token)]);
    let oid = bytes(&Oid::new(oid).to_bytes());
    let vote = peer.say(&[
        (true, "tpc_begin", vec![TRANSACTION, empty(), empty(), extension]),
        (true, "storea", vec![oid, serial, bytes(data), TRANSACTION]),
        (false, "vote", vec![TRANSACTION]),
    ]);
    assert_eq!(peer.answer(&vote), Value::Tuple(vec![]));
}

fn ask(peer: &mut Peer, token: &Value, since: &Value) -> (String, Value) {
    let Value::Tuple(answer) = peer.call("transaction_outcome", &[token.clone(), since.clone()]) else {
        panic!("no pair")
    };
    let [Value::Str(outcome), tid] = answer.as_slice() else { panic!("{answer:?}") };
    (outcome.clone(), tid.clone())
}

/// The tid of an object's current revision.
fn current(peer: &mut Peer, oid: u64) -> Value {
    let Value::Tuple(loaded) = peer.call("loadBefore", &load(oid)) else { panic!("{oid} is not there") };
    loaded[1].clone()
}

/// Kills the server, without a warning, and starts it again.
fn killed(server: Running, site: &Site) -> Running {
    drop(server);
    site.start_runzeo(&["-C", "zeo.conf"])
}

#[test]
fn what_was_committed_is_found_again_also_after_a_crash() {
    let site = Site::with(CONFIGURATION);
    let server = site.start_runzeo(&["-C", "zeo.conf"]);
    let mut lost = Peer::registered(&server.address);
    let since = lost.commit(1, Value::None, b"first");
    voted(&mut lost, token(1), 1, since.clone(), b"second");
    let tid = lost.call("tpc_finish", &[TRANSACTION]);
    drop(lost);
    let mut back = Peer::registered(&server.address);
    let committed = ("committed".to_owned(), tid);
    assert_eq!(ask(&mut back, &token(1), &since), committed);
    let server = killed(server, &site);
    let mut back = Peer::registered(&server.address);
    assert_eq!(ask(&mut back, &token(1), &since), committed);
    assert_eq!(ask(&mut back, &token(2), &since), ("aborted".to_owned(), Value::None));
}

#[test]
fn whoever_is_told_that_it_is_aborted_can_rely_on_it() {
    let site = Site::with(CONFIGURATION);
    let mut server = site.start_runzeo(&["-C", "zeo.conf"]);
    let (mut lost, mut back) = (Peer::registered(&server.address), Peer::registered(&server.address));
    let since = lost.commit(1, Value::None, b"first");
    voted(&mut lost, token(1), 1, since.clone(), b"second");
    // The network has lost the client, and the server does not know yet.
    assert_eq!(ask(&mut back, &token(1), &since), ("aborted".to_owned(), Value::None));
    // Now the network gives what it had kept.
    lost.say(&[(false, "tpc_finish", vec![TRANSACTION])]);
    while lost.frame().is_some() {}
    server.wait_for("the client has given up its transaction on another connection");
    assert_eq!(current(&mut back, 1), since);
    assert_eq!(ask(&mut back, &token(1), &since), ("aborted".to_owned(), Value::None));
    // Its locks are free.
    voted(&mut back, token(2), 1, since, b"second");
}

#[test]
fn the_answer_after_a_crash_in_mid_finish_is_what_the_database_says() {
    let site = Site::with(CONFIGURATION);
    let mut server = site.start_runzeo(&["-C", "zeo.conf"]);
    let mut serial = Peer::registered(&server.address).commit(1, Value::None, b"first");
    for number in 0..10 {
        let mut lost = Peer::registered(&server.address);
        voted(&mut lost, token(number), 1, serial.clone(), &[b'x'; 5_000]);
        lost.say(&[(false, "tpc_finish", vec![TRANSACTION])]);
        // From at once to after the reply.
        thread::sleep(Duration::from_micros(u64::from(number) * 200));
        server = killed(server, &site);
        let mut back = Peer::registered(&server.address);
        let now = current(&mut back, 1);
        let expected = if now == serial {
            ("aborted".to_owned(), Value::None)
        } else {
            ("committed".to_owned(), now.clone())
        };
        assert_eq!(ask(&mut back, &token(number), &serial), expected);
        serial = now;
    }
}

#[test]
fn what_others_have_heard_of_is_committed_though_the_server_died_before_its_client_heard() {
    let site = Site::with(CONFIGURATION);
    let server = site.start_runzeo(&["-C", "zeo.conf"]);
    let mut lost = Peer::registered(&server.address);
    let since = lost.commit(1, Value::None, b"first");
    let mut other = Peer::registered(&server.address);
    voted(&mut lost, token(1), 1, since.clone(), b"second");
    lost.say(&[(false, "tpc_finish", vec![TRANSACTION])]);
    let (_, name, arguments) = other.message().unwrap();
    assert_eq!(name, "invalidateTransaction");
    let server = killed(server, &site);
    let Value::Tuple(arguments) = arguments else { panic!("{arguments:?}") };
    let mut back = Peer::registered(&server.address);
    assert_eq!(ask(&mut back, &token(1), &since), ("committed".to_owned(), arguments[0].clone()));
}

#[test]
fn what_a_pack_could_have_dropped_is_unknown() {
    // The one marks all that it has packed, the other only what has lost something.
    for storage in ["<filestorage>\n path Data.fs\n</filestorage>\n", "<mappingstorage>\n</mappingstorage>\n"]
    {
        let site = Site::with(&format!("<zeo>\n address 127.0.0.1:0\n</zeo>\n{storage}"));
        let server = site.start_runzeo(&["-C", "zeo.conf"]);
        let mut peer = Peer::registered(&server.address);
        let since = peer.commit(0, Value::None, ROOT);
        voted(&mut peer, token(1), 1, Value::None, b"nothing refers to it");
        let committed = peer.call("tpc_finish", &[TRANSACTION]);
        assert_eq!(ask(&mut peer, &token(1), &since), ("committed".to_owned(), committed));
        // The last transaction would be kept.
        let later = peer.commit(0, since.clone(), ROOT);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        assert_eq!(peer.call("pack", &[Value::Float(now)]), Value::None);
        assert_eq!(ask(&mut peer, &token(1), &since), ("unknown".to_owned(), Value::None), "{storage}");
        let later = peer.commit(0, later, ROOT);
        assert_eq!(ask(&mut peer, &token(1), &later), ("aborted".to_owned(), Value::None), "{storage}");
    }
}

#[test]
fn a_token_that_is_too_short_is_refused_and_the_connection_stays() {
    let site = Site::with(CONFIGURATION);
    let server = site.start_runzeo(&["-C", "zeo.conf"]);
    let mut peer = Peer::registered(&server.address);
    let refused = peer.call("transaction_outcome", &[bytes(b"short"), bytes(&[0; 8])]);
    let refused = format!("{refused:?}");
    assert!(refused.contains("builtins.ValueError") && refused.contains("16 to 64 bytes"), "{refused}");
    assert_eq!(ask(&mut peer, &token(1), &bytes(&[0; 8])), ("unknown".to_owned(), Value::None));
}
