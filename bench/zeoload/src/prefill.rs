//! Fills a server over the wire.
use crate::client::Blocking;
use crate::options::P;
use crate::payload;
use crate::proto::*;
use crate::sys::now;

/// Store objects 1..=n, generation 0, over the wire.
pub fn prefill(p: &P) -> Result<f64, String> {
    let mut b = Blocking::open(&p.addr, &p.storage, p.enc)?;
    let t0 = now();
    let (mut o, mut rec) = (vec![], vec![]);
    let mut next = 1u64;
    let (tx, mut id) = (0x7f00_5555_0000i64, 10i64);
    while next <= p.objects {
        let k = (p.k as u64).min(p.objects - next + 1);
        o.clear();
        msg(&mut o, b.enc, |w| {
            w.int(0);
            w.bool(true);
            w.str("tpc_begin");
            w.tuple(6);
            w.int(tx);
            w.bytes(b"");
            w.bytes(b"prefill");
            w.map(0);
            w.end_map(0);
            w.nil();
            w.str(" ");
            w.end_tuple(6)
        });
        for oid in next..next + k {
            payload::record(&mut rec, oid, 0, p.size);
            msg(&mut o, b.enc, |w| {
                w.int(0);
                w.bool(true);
                w.str("storea");
                w.tuple(4);
                w.u64(oid);
                w.u64(0);
                w.bytes(&rec);
                w.int(tx);
                w.end_tuple(4)
            })
        }
        for name in ["vote", "tpc_finish"] {
            id += 1;
            msg(&mut o, b.enc, |w| {
                w.int(id);
                w.bool(false);
                w.str(name);
                w.tuple(1);
                w.int(tx);
                w.end_tuple(1)
            });
            b.send(&o)?;
            o.clear();
            b.reply(id, |_| Ok(()))?
        }
        next += k
    }
    Ok((now() - t0) as f64 / 1e9)
}
