//! Blobs and limits: a client that stops reading one, and one that uploads too much.

use super::{
    harness::{Running, Site},
    peer::{Peer, TRANSACTION, bytes},
};
use std::fs;
use zeolith_types::{Oid, Tid, Value};

/// A server of a file with blobs, with these keys in `<zeo>`.
fn serving(keys: &str) -> (Site, Running) {
    let site = Site::with(&format!(
        "<zeo>\n address 127.0.0.1:0\n {keys}\n</zeo>\n\
         <filestorage>\n path Data.fs\n blob-dir blobs\n</filestorage>\n"
    ));
    let server = site.start_runzeo(&["-C", "zeo.conf"]);
    (site, server)
}

/// The calls of a transaction that stores blobs of so many bytes, up to its vote.
fn vote(sizes: &[usize]) -> Vec<(bool, &'static str, Vec<Value>)> {
    let empty = || bytes(b"");
    let mut calls = vec![(true, "tpc_begin", vec![TRANSACTION, empty(), empty(), Value::Dict(vec![])])];
    for (oid, size) in (1..).zip(sizes) {
        let oid = bytes(&Oid::new(oid).to_bytes());
        calls.push((true, "storeBlobStart", vec![]));
        let content = vec![b'b'; *size];
        calls.extend(content.chunks(1 << 16).map(|chunk| (true, "storeBlobChunk", vec![bytes(chunk)])));
        calls.push((true, "storeBlobEnd", vec![oid, bytes(&[0; 8]), bytes(b"record"), TRANSACTION]));
    }
    calls.push((false, "vote", vec![TRANSACTION]));
    calls
}

fn uploads(site: &Site) -> usize {
    fs::read_dir(site.path().join("blobs/tmp")).unwrap().count()
}

#[test]
fn a_blob_to_a_client_that_stops_reading_ends_in_time() {
    let (_site, mut server) = serving("frame-timeout 1s");
    let mut writer = Peer::registered(&server.address);
    let asked = writer.say(&vote(&[32 << 20]));
    assert_eq!(writer.answer(&asked), Value::Tuple(vec![]));
    let Value::Bytes(tid) = writer.call("tpc_finish", &[TRANSACTION]) else { panic!("it is not committed") };
    let mut stopped = Peer::registered(&server.address);
    let wanted = vec![bytes(&Oid::new(1).to_bytes()), Value::Bytes(tid)];
    // Sockets hold less than one of them.
    stopped.say(&[(false, "sendBlob", wanted.clone()), (false, "sendBlob", wanted.clone())]);
    server.wait_for("the client does not read what waits for it (frame-timeout)");
    assert_eq!(writer.hits("frame-timeout"), 1);
    // Who reads gets all of it.
    writer.call("sendBlob", &wanted);
    assert_eq!(writer.hits("frame-timeout"), 1);
}

#[test]
fn a_transaction_with_too_large_blobs_is_refused_at_vote_and_leaves_nothing() {
    let (site, server) = serving("transaction-size-max 1MB");
    let mut writer = Peer::registered(&server.address);
    // In the middle of one, with what came before it, and in a later one.
    for sizes in [&[2 << 20][..], &[600 << 10, 600 << 10], &[2 << 20, 10]] {
        let asked = writer.say(&vote(sizes));
        let refused = format!("{:?}", writer.answer(&asked));
        assert!(refused.contains("ZODB.POSException.StorageError"), "{refused}");
        assert!(refused.contains("transaction-size-max"), "{refused}");
        assert_eq!(uploads(&site), 0, "{sizes:?}");
    }
    assert_eq!(writer.hits("transaction-size-max"), 3);
    let asked = writer.say(&vote(&[400 << 10, 400 << 10]));
    assert_eq!(writer.answer(&asked), Value::Tuple(vec![]));
    let Value::Bytes(tid) = writer.call("tpc_finish", &[TRANSACTION]) else { panic!("it is not committed") };
    assert_ne!(tid.as_ref(), Tid::ZERO.to_bytes());
}
