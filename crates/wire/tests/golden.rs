//! Messages are byte for byte those of the Python reference, both ways and in both encodings.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic in a test is its report")]

use bytes::Bytes;
use zeolith_types::{
    Call, Conflict, CurrentRecord, HistoryEntry, MessageId, Notice, Oid, RecordInfo, Refusal, Reply, Request,
    Revision, ServerStatus, StorageInfo, Tid, TransactionInfo, TransactionStart, UndoEntry, Value,
};
use zeolith_wire::{
    Encoding, FrameReader, Incoming, decode, decode_message, encode_call, encode_notice, encode_refusal,
    encode_reply,
};

const OID: Oid = Oid::new(0x1234);
const TID: Tid = Tid::new(0x03f0_1234_5678_9abc);
const READ: Tid = Tid::new(0x03f0_0000_0000_0001);
const TXN: Value = Value::Int(140_000_000_000_123);

#[test]
fn every_call_of_the_reference_is_understood() {
    let mut names = Vec::new();
    for golden in golden("call-") {
        let expected = expected_request(&golden.name);
        names.push(expected.method());
        let Ok(Incoming::Call(Call { id, one_way, request })) = decode(golden.encoding, &golden.frame) else {
            panic!("{golden:?} is no call");
        };
        assert_eq!(request, expected, "{golden:?}");
        assert_eq!(one_way, id == MessageId::Value(Value::Int(0)), "{golden:?}");
        if golden.name == "call-loadBefore" {
            assert_eq!(id, MessageId::Load(OID, TID));
        }
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 25, "{names:?}");
}

#[test]
fn a_call_written_again_is_the_same_bytes() {
    for golden in golden("call-") {
        let Ok(Value::Tuple(parts)) = decode_message(golden.encoding, &golden.frame) else {
            panic!("{golden:?} is no message");
        };
        let [id, Value::Bool(one_way), Value::Str(name), Value::Tuple(arguments)] = parts.as_slice() else {
            panic!("{golden:?} is no call");
        };
        let mut out = Vec::new();
        encode_call(golden.encoding, id, *one_way, name, arguments, &mut out).unwrap();
        assert_eq!(only_frame(&out), golden.frame, "{golden:?}");
    }
}

#[test]
fn a_heartbeat_is_no_call() {
    let heartbeats = golden("heartbeat");
    assert_eq!(heartbeats.len(), 2);
    for golden in heartbeats {
        assert_eq!(decode(golden.encoding, &golden.frame), Ok(Incoming::Heartbeat));
    }
}

#[test]
fn every_reply_is_what_the_reference_sends() {
    for golden in golden("reply-") {
        let (id, reply) = reply(&golden.name);
        let mut out = Vec::new();
        encode_reply(golden.encoding, &id, &reply, &mut out);
        assert_eq!(only_frame(&out), golden.frame, "{golden:?}");
    }
}

#[test]
fn every_refusal_is_the_exception_of_the_reference() {
    for golden in golden("refusal-") {
        let mut out = Vec::new();
        encode_refusal(golden.encoding, &seven(), &refusal(&golden.name), &mut out);
        assert_eq!(only_frame(&out), golden.frame, "{golden:?}");
    }
}

#[test]
fn every_notice_is_what_the_reference_sends() {
    for golden in golden("notice-") {
        let mut out = Vec::new();
        encode_notice(golden.encoding, &notice(&golden.name), &mut out);
        assert_eq!(only_frame(&out), golden.frame, "{golden:?}");
    }
}

struct Golden {
    encoding: Encoding,
    name: String,
    frame: Bytes,
}

impl std::fmt::Debug for Golden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {}", self.encoding, self.name)
    }
}

/// The committed messages whose names begin so. See `golden/generate.py`.
fn golden(prefix: &str) -> Vec<Golden> {
    let lines = include_str!("golden/frames.txt").lines().map(|line| {
        let [letter, name, hex] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let encoding = if letter == "Z" { Encoding::Pickle } else { Encoding::Msgpack };
        let digits = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        let frame = digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
        Golden { encoding, name: name.to_owned(), frame }
    });
    let found: Vec<_> = lines.filter(|golden| golden.name.starts_with(prefix)).collect();
    assert!(!found.is_empty(), "no golden messages for {prefix}");
    found
}

fn only_frame(out: &[u8]) -> Bytes {
    let mut reader = FrameReader::default();
    reader.push(out);
    let frame = reader.next_frame().unwrap().unwrap();
    assert_eq!(reader.buffered(), 0, "one call makes one frame");
    frame
}

fn seven() -> MessageId {
    MessageId::Value(Value::Int(7))
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn text(text: &str) -> String {
    text.to_owned()
}

/// The pickled `{'note': 'x'}`.
fn note() -> Bytes {
    Bytes::from_static(b"\x80\x03}q\0X\x04\0\0\0noteq\x01X\x01\0\0\0xq\x02s.")
}

fn expected_request(name: &str) -> Request {
    match name {
        "call-register" | "call-register-with-a-number" => {
            Request::Register { storage: text("1"), read_only: false }
        }
        "call-get_info" => Request::GetInfo,
        "call-lastTransaction" => Request::LastTransaction,
        "call-getInvalidations" => Request::GetInvalidations { after: TID },
        "call-ping" => Request::Ping,
        "call-new_oids" => Request::NewOids { count: 100 },
        "call-loadBefore" | "call-loadBefore-counted" => Request::LoadBefore { oid: OID, before: TID },
        "call-loadSerial" => Request::LoadSerial { oid: OID, serial: TID },
        "call-getTid" => Request::GetTid { oid: OID },
        "call-history" => Request::History { oid: OID, size: 20 },
        "call-record_iternext" => Request::RecordIternext { next: None },
        "call-tpc_begin" => Request::TpcBegin(Box::new(TransactionStart {
            id: TXN,
            user: bytes("/ bob"),
            description: bytes("d"),
            extension: Bytes::new(),
            tid: None,
            status: b' ',
            token: None,
        })),
        "call-tpc_begin-with-all" => Request::TpcBegin(Box::new(TransactionStart {
            id: TXN,
            user: bytes("bob"),
            description: bytes("d"),
            extension: note(),
            tid: Some(TID),
            status: b'p',
            token: None,
        })),
        "call-storea" => Request::Store { oid: OID, serial: READ, data: vec![b'r'; 300].into(), id: TXN },
        "call-restorea" => {
            Request::Restore { oid: OID, serial: TID, data: None, prev_txn: Some(READ), id: TXN }
        }
        "call-deleteObject" => Request::DeleteObject { oid: OID, serial: READ, id: TXN },
        "call-checkCurrentSerialInTransaction" => {
            Request::CheckCurrentSerial { oid: OID, serial: READ, id: TXN }
        }
        "call-vote" => Request::Vote { id: TXN },
        "call-tpc_finish" => Request::TpcFinish { id: TXN },
        "call-tpc_abort" => Request::TpcAbort { id: TXN },
        "call-undoLog" => Request::UndoLog { first: 0, last: -20 },
        "call-undoInfo" => Request::UndoInfo {
            first: 0,
            last: -20,
            filter: vec![(text("user_name"), Value::Str(text("bob")))],
        },
        "call-undoInfo-with-a-prefix" => Request::UndoInfo {
            first: 0,
            last: -20,
            filter: vec![(text("user_name"), Value::UndoPrefix(vec![text(""), text("a")]))],
        },
        "call-pack" => Request::Pack { time: 1_776_083_670.25, wait: true },
        "call-iterator_start" => Request::IteratorStart { start: None, stop: Some(TID) },
        "call-iterator_gc" => Request::IteratorGc { iterators: vec![1, 2] },
        "call-iterator_gc-with-a-set" => Request::IteratorGc { iterators: vec![4] },
        "call-set_client_label" => Request::SetClientLabel { label: text("zope-1") },
        other => panic!("no test knows {other}"),
    }
}

fn reply(name: &str) -> (MessageId, Reply) {
    let loaded = |size, end| {
        let revision = Revision { data: vec![b'r'; size].into(), start: READ, end };
        Reply::Loaded(Some(revision))
    };
    let history = |in_memory| {
        Reply::History(vec![HistoryEntry {
            time: 1.5,
            user: bytes("bob"),
            description: bytes("d"),
            extension: note(),
            tid: TID,
            size: 9,
            in_memory,
        }])
    };
    let reply = match name {
        "reply-none" => Reply::None,
        "reply-tid" => Reply::Tid(TID),
        "reply-oids" => Reply::Oids(vec![OID, Oid::new(1), Oid::new(2)]),
        "reply-one-oid" => Reply::Oids(vec![OID]),
        "reply-voted" => Reply::Voted(Vec::new()),
        "reply-loaded" => return (MessageId::Load(OID, TID), loaded(300, Some(TID))),
        "reply-loaded-current" => return (MessageId::Load(OID, TID), loaded(200, None)),
        "reply-data" => Reply::Data(bytes("record")),
        "reply-info" => Reply::Info(Box::new(StorageInfo {
            length: 70_000,
            size: 5_000_000_000,
            name: text("var/Data.fs"),
            supports_undo: false,
            supports_record_iternext: true,
            interfaces: vec![("ZODB.interfaces", "IStorage"), ("zope.interface", "Interface")],
        })),
        "reply-invalidations" => Reply::Invalidations(Some((TID, vec![OID]))),
        "reply-current-record" => Reply::CurrentRecord(CurrentRecord {
            oid: OID,
            tid: TID,
            data: bytes("record"),
            next: Some(Oid::new(0x1235)),
        }),
        "reply-history" => history(false),
        "reply-memory-history" => history(true),
        "reply-conflicts" => Reply::Conflicts(vec![Conflict {
            oid: OID,
            committed: TID,
            read: READ,
            data: bytes("resolve me"),
        }]),
        "reply-iterator-id" => Reply::IteratorId(3),
        "reply-transaction" => Reply::Transaction(Some(TransactionInfo {
            tid: TID,
            status: b'p',
            user: bytes("bob"),
            description: bytes("d"),
            extension: note(),
        })),
        "reply-record" => {
            Reply::Record(Some(RecordInfo { oid: OID, tid: TID, data: None, data_txn: Some(READ) }))
        }
        "reply-undo-log" => Reply::UndoLog(vec![UndoEntry {
            tid: TID,
            time: 1.5,
            user: bytes("bob"),
            description: bytes("d"),
            extension: note(),
            size: 200,
        }]),
        "reply-no-undo-log" => Reply::NoUndoLog,
        "reply-status" => Reply::Status(Box::new(ServerStatus {
            connections: 3,
            loads: 300,
            stores: 70_000,
            commits: 1,
            aborts: 0,
            conflicts: 4,
            conflicts_resolved: 0,
            active_txns: 2,
            lock_time: Some(1_776_083_670.25),
            start: text("Mon Apr 13 12:34:30 2026"),
            waiting: 1,
            has_timeout: false,
            last_transaction: TID,
            conflicts_by_class: vec![],
            limits: Vec::new(),
            pack: None,
        })),
        other => panic!("no test knows {other}"),
    };
    (seven(), reply)
}

fn refusal(name: &str) -> Refusal {
    let conflict = |class_name| Refusal::Conflict { oid: OID, class_name, committed: TID, read: READ };
    match name {
        "refusal-no-object" => Refusal::NoObject(OID),
        "refusal-no-blob-file" => Refusal::NoBlobFile { path: text("b/x"), oid: OID, tid: TID },
        "refusal-conflict" => conflict(Some(text("persistent.mapping.PersistentMapping"))),
        "refusal-conflict-without-class" => conflict(None),
        "refusal-read-conflict" => Refusal::ReadConflict { oid: OID, committed: TID, read: READ },
        "refusal-read-only" => Refusal::ReadOnly,
        "refusal-wrong-transaction" => Refusal::WrongTransaction { current: None, given: TXN },
        "refusal-transaction" => Refusal::Transaction(text("Multiple")),
        "refusal-quota" => Refusal::Quota(text("The storage quota has been exceeded.")),
        "refusal-file-storage" => Refusal::FileStorage(text("Already packing")),
        "refusal-undo" => Refusal::Undo { reason: text("Some data"), oid: Some(OID) },
        "refusal-undo-of-one" => Refusal::UndoOf(vec![(OID, text("Some data"))]),
        "refusal-undo-of-several" => {
            let gone = (Oid::new(1), text("_loadBack() failed"));
            Refusal::UndoOf(vec![(OID, text("Some data")), gone])
        }
        "refusal-base64" => Refusal::Base64(text("Incorrect padding")),
        "refusal-unsupported" => Refusal::Unsupported(text("no")),
        "refusal-os" => Refusal::Os { errno: Some(28), text: text("No space left on device") },
        "refusal-value" => Refusal::Value(text("unknown storage: X")),
        "refusal-type" => Refusal::Type(text("no")),
        "refusal-attribute" => Refusal::Attribute(text("new_oid")),
        "refusal-assertion" => Refusal::Assertion(text("finished called wo lock")),
        "refusal-key" => Refusal::Key(5),
        "refusal-exception" => Refusal::Exception(text("Out-of-order")),
        "refusal-storage" => Refusal::Storage(text("closed")),
        other => panic!("no test knows {other}"),
    }
}

fn notice(name: &str) -> Notice {
    match name {
        "notice-invalidate" => Notice::Invalidate { tid: TID, oids: [OID, Oid::new(1)].into() },
        "notice-invalidate-nothing" => Notice::Invalidate { tid: TID, oids: [].into() },
        "notice-info" => Notice::Info { length: 1, size: 300 },
        "notice-blob-start" => Notice::BlobStart(OID, TID),
        "notice-blob-chunk" => Notice::BlobChunk(OID, TID, bytes("chunk")),
        "notice-blob-stop" => Notice::BlobStop(OID, TID),
        other => panic!("no test knows {other}"),
    }
}
