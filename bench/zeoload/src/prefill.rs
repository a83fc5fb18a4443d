//! Fills a server over the wire.
use crate::client::Blocking;
use crate::commit;
use crate::options::P;
use crate::payload;
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
        commit::begin(&mut o, b.enc, tx, b"prefill");
        for oid in next..next + k {
            payload::record(&mut rec, oid, 0, p.size);
            commit::store(&mut o, b.enc, tx, oid, 0, &rec);
        }
        for name in ["vote", "tpc_finish"] {
            id += 1;
            commit::call(&mut o, b.enc, id, name, tx);
            b.send(&o)?;
            o.clear();
            b.reply(id, |_| Ok(()))?
        }
        next += k
    }
    Ok((now() - t0) as f64 / 1e9)
}
