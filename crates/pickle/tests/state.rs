//! A state comes out of its graph as it went in, and nothing in a record makes reading or writing it panic.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic in a test is its report")]

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use zeolith_pickle::{
    PickleError,
    state::{Graph, Node},
};

fn rewritten(record: &'static [u8]) -> Vec<u8> {
    let mut graph = Graph::new();
    let read = graph.read(&Bytes::from_static(record)).unwrap();
    graph.write(read).unwrap()
}

#[test]
fn what_zodb_wrote_comes_out_byte_for_byte() {
    for record in [
        // OOBucket: (('a', (b'x', 1.5), 'b', None), reference to the next bucket), whose class is in the memo
        &b"\x80\x03cBTrees.OOBTree\nOOBucket\nq\x00.\x80\x03(X\x01\x00\x00\x00aq\x01C\x01xq\x02G?\xf8\x00\x00\x00\x00\x00\x00\x86q\x03X\x01\x00\x00\x00bq\x04Ntq\x05C\x08\x00\x00\x00\x00\x00\x00\x00\x09q\x06h\x00\x86q\x07Q\x86q\x08."[..],
        // an instance of an application's class with a state, twice the same; a set; a long; booleans
        b"\x80\x03capp\nThing\nq\x00.\x80\x03(capp\nValue\nq\x01)\x81q\x02}q\x03X\x02\x00\x00\x00abq\x04\x8a\x05\x00\x00\x00\x00\x01sbh\x02cbuiltins\nset\nq\x05]q\x06(K\x01M\x00\x01J\xff\xff\xff\xffe\x85q\x07Rq\x08\x88\x89tq\x09.",
        // a list that contains itself, by way of a tuple
        b"\x80\x03capp\nThing\nq\x00.\x80\x03]q\x01h\x01\x85q\x02a.",
        // references of all forms
        b"\x80\x03capp\nThing\nq\x00.\x80\x03C\x08\x00\x00\x00\x00\x00\x00\x00\x01q\x01Q]q\x02(X\x01\x00\x00\x00wq\x03C\x08\x00\x00\x00\x00\x00\x00\x00\x02q\x04\x85q\x05eQ]q\x06(X\x01\x00\x00\x00mq\x07X\x02\x00\x00\x00dbq\x08h\x04h\x00\x87q\x09eQ\x87q\x0a.",
    ] {
        let written = rewritten(record);
        assert_eq!(written.escape_ascii().to_string(), record.escape_ascii().to_string());
    }
}

#[test]
fn a_state_of_any_old_protocol_is_written_at_protocol_3() {
    // (1, 'é', 2.5, None, True, [1, -70000], {'a': 2**70, 'b': ()}, (1, 2, 3, 4)), by zodbpickle
    let expected = b"\x80\x03N.\x80\x03(K\x01X\x02\x00\x00\x00\xc3\xa9q\x00G@\x04\x00\x00\x00\x00\x00\x00N\x88]q\x01(K\x01J\x90\xee\xfe\xffe}q\x02(X\x01\x00\x00\x00aq\x03\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00@X\x01\x00\x00\x00bq\x04)u(K\x01K\x02K\x03K\x04tq\x05tq\x06.";
    for record in [
        &b"N.(L1L\nV\xe9\np0\nF2.5\nNI01\n(lp1\nL1L\naL-70000L\na(dp2\nVa\np3\nL1180591620717411303424L\nsVb\np4\n(ts(L1L\nL2L\nL3L\nL4L\ntp5\ntp6\n."[..],
        b"N.(K\x01X\x02\x00\x00\x00\xc3\xa9q\x00G@\x04\x00\x00\x00\x00\x00\x00NI01\n]q\x01(K\x01J\x90\xee\xfe\xffe}q\x02(X\x01\x00\x00\x00aq\x03L1180591620717411303424L\nX\x01\x00\x00\x00bq\x04)u(K\x01K\x02K\x03K\x04tq\x05tq\x06.",
        b"N.\x80\x02(K\x01X\x02\x00\x00\x00\xc3\xa9q\x00G@\x04\x00\x00\x00\x00\x00\x00N\x88]q\x01(K\x01J\x90\xee\xfe\xffe}q\x02(X\x01\x00\x00\x00aq\x03\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00@X\x01\x00\x00\x00bq\x04)u(K\x01K\x02K\x03K\x04tq\x05tq\x06.",
    ] {
        assert_eq!(rewritten(record).escape_ascii().to_string(), expected.escape_ascii().to_string());
    }
}

#[test]
fn equal_references_are_one_node_across_records() {
    let with_class = b"N.C\x08\x00\x00\x00\x00\x00\x00\x00\x01capp\nThing\n\x86Q.";
    let with_other = b"N.C\x08\x00\x00\x00\x00\x00\x00\x00\x01capp\nOther\n\x86Q.";
    let mut graph = Graph::new();
    let first = graph.read(&Bytes::from_static(with_class)).unwrap().state;
    let again = graph.read(&Bytes::from_static(with_class)).unwrap().state;
    let other = graph.read(&Bytes::from_static(with_other)).unwrap().state;
    assert_eq!(first, again);
    assert_ne!(first, other);
    let (Node::Reference(a), Node::Reference(b)) = (graph.node(first), graph.node(other)) else {
        panic!("references were pickled")
    };
    assert!(a.is_same_object(b));
}

#[test]
fn weak_references_are_never_the_same_object_for_certain() {
    let weak = b"N.](X\x01\x00\x00\x00wC\x08\x00\x00\x00\x00\x00\x00\x00\x01\x85eQ.";
    let mut graph = Graph::new();
    let state = graph.read(&Bytes::from_static(weak)).unwrap().state;
    let Node::Reference(reference) = graph.node(state) else { panic!("a reference was pickled") };
    assert!(!reference.is_same_object(reference));
}

#[test]
fn what_is_no_pair_of_pickles_is_an_error() {
    for record in [
        &b""[..],
        b"N.",
        b"N.N",
        b"N.(.",
        b"N.K\x01Q.",
        b"N.](X\x01\x00\x00\x00zNeQ.",
        b"N.h\x00.",
        b"N.NNR.",
        b"N.N}b.",
        b"N.NN\x86a.",
        b"N.}(Nu.",
        b"N.X\xff\xff\xff\xffa.",
        b"N.X\x01\x00\x00\x00\xff.",
        b"N.U\x01\xff.",
        b"N.\x82\x01.",
        b"N.\x80\x04N.",
    ] {
        let result = Graph::new().read(&Bytes::from_static(record));
        assert!(result.is_err(), "{}: {result:?}", record.escape_ascii());
    }
}

#[test]
fn a_record_of_too_many_values_is_refused() {
    let mut record = b"N.(".to_vec();
    record.resize(3 + (1 << 20) + 1, b'N');
    record.extend_from_slice(b"t.");
    assert_eq!(Graph::new().read(&record.into()), Err(PickleError::TooMany("values")));
}

const PIECES: &[&[u8]] = &[
    b".",
    b"(",
    b")",
    b"]",
    b"}",
    b"N",
    b"K\x01",
    b"C\x08\0\0\0\0\0\0\0\x01",
    b"X\x01\0\0\0w",
    b"capp\nThing\n",
    b"\x85",
    b"\x86",
    b"t",
    b"a",
    b"e",
    b"s",
    b"u",
    b"Q",
    b"R",
    b"\x81",
    b"b",
    b"2",
    b"0",
    b"1",
    b"l",
    b"d",
];

/// Pieces of pickles, so that random records are read further than their first byte.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        any::<u8>().prop_map(|byte| vec![byte]),
        (0..6_u8).prop_map(|index| vec![b'q', index]),
        (0..6_u8).prop_map(|index| vec![b'h', index]),
        proptest::sample::select(PIECES).prop_map(<[u8]>::to_vec),
    ];
    vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn garbage_neither_panics_nor_grows(garbage in pieces()) {
        let record = Bytes::from([b"capp\nThing\nq\x00.", &garbage[..], b"."].concat());
        let mut graph = Graph::new();
        if let Ok(read) = graph.read(&record) {
            let written = graph.write(read).unwrap();
            prop_assert!(written.len() <= 16 * record.len() + 64);
            // What was written is read as the same, and written the same again.
            let mut again = Graph::new();
            let read = again.read(&written.clone().into()).unwrap();
            prop_assert_eq!(again.write(read).unwrap(), written);
        }
    }
}
