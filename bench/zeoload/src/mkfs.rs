//! Write a FileStorage Data.fs directly (format "FS30"), fast.
use crate::payload;
use std::io::{BufWriter, Write};

pub struct Mk {
    pub out: String,
    pub objects: u64,
    pub size: usize,
    pub revs: u64,
    pub per_txn: u64,
    pub tree: bool,
}

struct Fs {
    f: BufWriter<std::fs::File>,
    pos: u64,
    tid: u64,
    buf: Vec<u8>,
    count: u64,
    prev: Vec<u64>,
}

impl Fs {
    fn begin(&mut self) {
        self.tid += 40_000; // about half a millisecond apart
        self.buf.clear();
        self.buf.extend_from_slice(&self.tid.to_be_bytes());
        self.buf.extend_from_slice(&[0; 8]);
        self.buf.push(b' ');
        self.buf.extend_from_slice(&[0; 6]);
    }
    fn store(&mut self, oid: u64, data: &[u8]) {
        let at = self.pos + self.buf.len() as u64;
        let prev = &mut self.prev[oid as usize];
        self.buf.extend_from_slice(&oid.to_be_bytes());
        self.buf.extend_from_slice(&self.tid.to_be_bytes());
        self.buf.extend_from_slice(&prev.to_be_bytes());
        self.buf.extend_from_slice(&self.pos.to_be_bytes());
        self.buf.extend_from_slice(&[0; 2]);
        self.buf.extend_from_slice(&(data.len() as u64).to_be_bytes());
        self.buf.extend_from_slice(data);
        *prev = at;
        self.count += 1
    }
    fn end(&mut self) -> std::io::Result<()> {
        let n = self.buf.len() as u64;
        self.buf[8..16].copy_from_slice(&n.to_be_bytes());
        self.buf.extend_from_slice(&n.to_be_bytes());
        self.f.write_all(&self.buf)?;
        self.pos += self.buf.len() as u64;
        Ok(())
    }
}

/// 2024-01-01 in ZODB's timestamp encoding.
const TID0: u64 = ((((124u64 * 12) * 31) * 24) * 60) << 32;

pub fn run(m: &Mk) -> std::io::Result<()> {
    const FAN: u64 = 500;
    // oids: 0 root, 1..=objects leaves, then interior nodes
    let mid = if m.tree { m.objects.div_ceil(FAN) } else { 0 };
    let top = if m.tree { mid.div_ceil(FAN) } else { 0 };
    let total = 1 + m.objects + mid + top;
    let mut fs = Fs {
        f: BufWriter::with_capacity(1 << 20, std::fs::File::create(&m.out)?),
        pos: 4,
        tid: TID0,
        buf: vec![],
        count: 0,
        prev: vec![0; total as usize],
    };
    fs.f.write_all(b"FS30")?;
    let mut rec = vec![];
    fs.begin();
    if m.tree {
        let refs: Vec<u64> = (0..top).map(|i| 1 + m.objects + mid + i).collect();
        fs.store(0, &payload::tree_record(&refs));
        fs.end()?;
        for t in 0..top {
            fs.begin();
            let r: Vec<u64> = (t * FAN..((t + 1) * FAN).min(mid)).map(|i| 1 + m.objects + i).collect();
            fs.store(1 + m.objects + mid + t, &payload::tree_record(&r));
            fs.end()?
        }
        for t in 0..mid {
            fs.begin();
            let r: Vec<u64> = (t * FAN..((t + 1) * FAN).min(m.objects)).map(|i| 1 + i).collect();
            fs.store(1 + m.objects + t, &payload::tree_record(&r));
            fs.end()?
        }
    } else {
        fs.store(0, &payload::tree_record(&[]));
        fs.end()?
    }
    for g in 0..m.revs {
        let mut o = 1;
        while o <= m.objects {
            fs.begin();
            for oid in o..(o + m.per_txn).min(m.objects + 1) {
                payload::record(&mut rec, oid, g, m.size);
                fs.store(oid, &rec)
            }
            fs.end()?;
            o += m.per_txn
        }
    }
    fs.f.flush()?;
    fs.f.get_ref().sync_all()?;
    println!("{{\"records\": {}, \"objects\": {}, \"bytes\": {}}}", fs.count, total, fs.pos);
    Ok(())
}
