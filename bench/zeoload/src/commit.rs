//! The messages of a commit, as every workload that commits says them.
use crate::proto::{Encoding, msg};

/// A one-way `tpc_begin` of transaction `tx`.
pub fn begin(out: &mut Vec<u8>, enc: Encoding, tx: i64, description: &[u8]) {
    msg(out, enc, |w| {
        w.int(0);
        w.bool(true);
        w.str("tpc_begin");
        w.tuple(6);
        w.int(tx);
        w.bytes(b"");
        w.bytes(description);
        w.map(0);
        w.end_map(0);
        w.nil();
        w.str(" ");
        w.end_tuple(6)
    });
}

/// A one-way `storea`; `serial` is 0 for an object that is new.
pub fn store(out: &mut Vec<u8>, enc: Encoding, tx: i64, oid: u64, serial: u64, record: &[u8]) {
    msg(out, enc, |w| {
        w.int(0);
        w.bool(true);
        w.str("storea");
        w.tuple(4);
        w.u64(oid);
        w.u64(serial);
        w.bytes(record);
        w.int(tx);
        w.end_tuple(4)
    });
}

/// A call whose one argument is the transaction: `vote`, `tpc_finish`, `tpc_abort`.
pub fn call(out: &mut Vec<u8>, enc: Encoding, id: i64, name: &str, tx: i64) {
    msg(out, enc, |w| {
        w.int(id);
        w.bool(false);
        w.str(name);
        w.tuple(1);
        w.int(tx);
        w.end_tuple(1)
    });
}
