//! One single-threaded event loop over many connections: what it sends, and when.
//!
//! What comes back is in `replies`.
use crate::client::*;
use crate::commit;
use crate::options::{Kind, P};
use crate::payload;
use crate::proto::*;
use crate::stats::Stats;
use crate::sys::*;
use std::collections::HashMap;
use std::os::fd::RawFd;

/// Where a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    Idle,
    PreLoad,
    Vote,
    Finish,
    Abort,
    Sub,
    Dead,
}

#[derive(Clone, Copy, Default)]
pub struct Pend {
    pub live: bool,
    pub id: i64,
    pub oid: u64,
    pub before: u64,
    pub t0: u64,
}

pub struct Conn {
    pub fd: RawFd,
    pub enc: Encoding,
    pub rbuf: Vec<u8>,
    pub wbuf: Vec<u8>,
    pub wpos: usize,
    pub want_out: bool,
    pub pend: Vec<Pend>,
    pub live: usize,
    pub last_tid: u64,   // newest transaction this connection has heard of
    pub last_start: u64, // newest own commit
    pub phase: Phase,
    pub id: i64,
    pub t_begin: u64,
    pub t_mark: u64,
    pub cursor: u64,
    pub generation: u64,
    pub txn: Vec<(u64, u64)>, // oid, generation of the open transaction
    pub serials: HashMap<u64, u64>,
    pub wr_oid: u64,
    pub got_inv: bool,
}

pub struct Worker<'a> {
    pub p: &'a P,
    pub kind: Kind,
    pub index: usize,
    pub cs: Vec<Conn>,
    pub ep: Epoll,
    pub st: Stats,
    pub rng: Rng,
    pub t_rec: u64,
    pub t_end: u64,
    pub ops: u64,
    pub t_op: u64, // when the latest counted operation ended
    pub scratch: Vec<u8>,
    pub rec: Vec<u8>,
    pub known: HashMap<u64, (u64, u64)>, // oid -> (tid, generation) committed by this worker
    pub shared: HashMap<u64, u64>,       // contended oids -> serial
    // fan-out
    pub f_sent: u64,
    pub f_times: Vec<u64>,
    pub f_tid: u64,
    pub f_reply: bool,
}

impl<'a> Worker<'a> {
    pub fn new(p: &'a P, kind: Kind, index: usize, nconns: usize) -> Result<Self, String> {
        let ep = Epoll::new();
        let mut cs = Vec::new();
        let extra = if kind == Kind::Fanout { p.subs } else { 0 };
        for i in 0..nconns + extra {
            let b = Blocking::open(&p.addr, &p.storage, p.enc)?;
            let (fd, enc, last, rbuf) = b.into_parts();
            nonblock(fd);
            ep.ctl(libc::EPOLL_CTL_ADD, fd, libc::EPOLLIN as u32, i as u64);
            cs.push(Conn {
                fd,
                enc,
                rbuf,
                wbuf: vec![],
                wpos: 0,
                want_out: false,
                pend: vec![Pend::default(); p.depth],
                live: 0,
                last_tid: last,
                last_start: 0,
                phase: if i >= nconns { Phase::Sub } else { Phase::Idle },
                id: 1000,
                t_begin: 0,
                t_mark: 0,
                cursor: 0,
                generation: (((index * 4096 + i) as u64) << 40) + 1,
                txn: vec![],
                serials: HashMap::new(),
                wr_oid: 0,
                got_inv: false,
            });
        }
        Ok(Worker {
            p,
            kind,
            index,
            cs,
            ep,
            st: Stats::default(),
            rng: Rng(p.seed ^ ((index as u64) << 32) ^ now()),
            t_rec: 0,
            t_end: 0,
            ops: 0,
            t_op: 0,
            scratch: vec![],
            rec: vec![],
            known: HashMap::new(),
            shared: HashMap::new(),
            f_sent: 0,
            f_times: vec![],
            f_tid: 0,
            f_reply: false,
        })
    }

    pub fn run(&mut self) {
        let t0 = now();
        self.t_rec = t0 + (self.p.warmup * 1e9) as u64;
        self.t_end = self.t_rec + (self.p.duration * 1e9) as u64;
        for i in 0..self.cs.len() {
            self.start(i);
            self.flush(i)
        }
        let mut evs: Vec<libc::epoll_event> = Vec::with_capacity(256);
        let mut buf = vec![0u8; 1 << 18];
        let drain = self.t_end + 30_000_000_000;
        loop {
            let n = self.ep.wait(&mut evs, 200);
            for event in evs.iter().take(n).copied() {
                let i = event.u64 as usize;
                let ev = event.events;
                if self.cs[i].phase == Phase::Dead {
                    continue;
                }
                if ev & libc::EPOLLOUT as u32 != 0 {
                    self.flush(i)
                }
                if ev & !(libc::EPOLLOUT as u32) != 0 {
                    self.readable(i, &mut buf)
                }
                if !self.cs[i].wbuf.is_empty() && !self.cs[i].want_out {
                    self.flush(i)
                }
            }
            let t = now();
            if t >= self.t_end || self.done() {
                let idle = self
                    .cs
                    .iter()
                    .all(|c| matches!(c.phase, Phase::Idle | Phase::Sub | Phase::Dead) && c.live == 0);
                if idle && !self.fan_wait() {
                    break;
                }
                if t > drain || (self.kind == Kind::Fanout && t > self.f_sent + 15_000_000_000) {
                    let k = self.cs.iter().filter(|c| c.live > 0).count();
                    self.st.error("timeout", || format!("{k} connections with calls unanswered"));
                    break;
                }
            } else if self.cs.iter().all(|c| matches!(c.phase, Phase::Sub | Phase::Dead)) {
                break;
            }
        }
        let end = if self.done() { self.t_op } else { self.t_end };
        self.st.window = end.saturating_sub(self.t_rec).max(1) as f64 / 1e9;
        for c in &self.cs {
            unsafe { libc::close(c.fd) };
        }
    }
    pub fn done(&self) -> bool {
        self.p.max_ops > 0 && self.ops >= self.p.max_ops
    }
    pub fn fan_wait(&self) -> bool {
        self.kind == Kind::Fanout && self.f_sent != 0 && self.f_times.len() < self.p.subs
    }

    /// Begin as many operations as the connection may have open.
    pub fn start(&mut self, i: usize) {
        if now() >= self.t_end || self.done() {
            return;
        }
        match self.kind {
            Kind::Read => {
                while self.cs[i].live < self.p.depth && self.cs[i].phase == Phase::Idle {
                    self.read_one(i, None)
                }
            }
            Kind::Commit | Kind::Fanout => {
                if self.cs[i].phase == Phase::Idle && !self.fan_wait() {
                    self.commit_one(i)
                }
            }
            Kind::Mixed => {
                if self.cs[i].phase != Phase::Idle || self.cs[i].live > 0 {
                    return;
                }
                if (self.rng.next() >> 11) as f64 / (1u64 << 53) as f64 <= self.p.read_frac {
                    self.read_one(i, None)
                } else {
                    // update an object of this connection's own share: load, then store
                    let n = self.p.conns as u64;
                    let me = (self.index + i * self.p.threads) as u64 % n;
                    let o = 1 + (self.rng.below(self.p.objects / n)) * n + me;
                    self.cs[i].phase = Phase::PreLoad;
                    self.cs[i].wr_oid = o;
                    self.read_one(i, Some(o))
                }
            }
        }
    }

    pub fn read_one(&mut self, i: usize, oid: Option<u64>) {
        let oid = oid.unwrap_or_else(|| 1 + self.rng.below(self.p.objects));
        let int_ids = self.p.int_ids;
        let c = &mut self.cs[i];
        let before = c.last_tid + 1;
        let s = c.pend.iter().position(|x| !x.live).unwrap();
        c.id += 1;
        let id = c.id;
        msg(&mut c.wbuf, c.enc, |w| {
            if int_ids {
                w.int(id)
            } else {
                // what the Python client sends: the arguments are the id
                w.tuple(2);
                w.u64(oid);
                w.u64(before);
                w.end_tuple(2)
            }
            w.bool(false);
            w.str("loadBefore");
            w.tuple(2);
            w.u64(oid);
            w.u64(before);
            w.end_tuple(2)
        });
        c.pend[s] = Pend { live: true, id, oid, before, t0: now() };
        c.live += 1;
    }

    pub fn commit_one(&mut self, i: usize) {
        let p = self.p;
        let mut rec = std::mem::take(&mut self.rec);
        let c = &mut self.cs[i];
        c.txn.clear();
        c.generation += 1;
        let generation = c.generation;
        let tx = 0x7f00_1234_0000i64 + (self.index as i64) * 0x100000 + (i as i64) * 64;
        c.t_begin = now();
        commit::begin(&mut c.wbuf, c.enc, tx, b"");
        let base = p.oid_base + (((self.index * p.conns + i) as u64) << 22);
        for j in 0..p.k as u64 {
            let (oid, serial) = if c.phase == Phase::PreLoad {
                (c.wr_oid, c.serials.get(&c.wr_oid).copied().unwrap_or(0))
            } else if p.contend {
                let o = p.oid_base + j;
                (o, self.shared.get(&o).copied().unwrap_or(0))
            } else {
                let o = base + (c.cursor + j) % p.slots as u64;
                (o, c.serials.get(&o).copied().unwrap_or(0))
            };
            payload::record(&mut rec, oid, generation, p.size);
            commit::store(&mut c.wbuf, c.enc, tx, oid, serial, &rec);
            c.txn.push((oid, generation))
        }
        c.cursor += p.k as u64;
        c.id += 1;
        let id = c.id;
        commit::call(&mut c.wbuf, c.enc, id, "vote", tx);
        c.phase = Phase::Vote;
        self.rec = rec;
    }

    pub fn call_tx(&mut self, i: usize, name: &str) {
        let tx = 0x7f00_1234_0000i64 + (self.index as i64) * 0x100000 + (i as i64) * 64;
        let c = &mut self.cs[i];
        c.id += 1;
        let id = c.id;
        commit::call(&mut c.wbuf, c.enc, id, name, tx);
    }

    pub fn flush(&mut self, i: usize) {
        let c = &mut self.cs[i];
        while c.wpos < c.wbuf.len() {
            let r = unsafe {
                libc::send(
                    c.fd,
                    c.wbuf[c.wpos..].as_ptr() as *const libc::c_void,
                    c.wbuf.len() - c.wpos,
                    libc::MSG_NOSIGNAL,
                )
            };
            if r < 0 {
                let e = std::io::Error::last_os_error();
                if e.kind() == std::io::ErrorKind::WouldBlock {
                    if !c.want_out {
                        c.want_out = true;
                        self.ep.ctl(
                            libc::EPOLL_CTL_MOD,
                            c.fd,
                            (libc::EPOLLIN | libc::EPOLLOUT) as u32,
                            i as u64,
                        )
                    }
                    return;
                }
                return self.dead(i, e.to_string());
            }
            c.wpos += r as usize;
            self.st.bytes_out += r as u64
        }
        c.wbuf.clear();
        c.wpos = 0;
        if c.want_out {
            c.want_out = false;
            self.ep.ctl(libc::EPOLL_CTL_MOD, c.fd, libc::EPOLLIN as u32, i as u64)
        }
    }

    pub fn dead(&mut self, i: usize, why: String) {
        let c = &mut self.cs[i];
        c.phase = Phase::Dead;
        c.live = 0;
        c.wbuf.clear();
        self.ep.ctl(libc::EPOLL_CTL_DEL, c.fd, 0, 0);
        self.st.error("disconnected", || why)
    }

    pub fn readable(&mut self, i: usize, buf: &mut [u8]) {
        let r = unsafe { libc::recv(self.cs[i].fd, buf.as_mut_ptr() as *mut libc::c_void, buf.len(), 0) };
        if r <= 0 {
            let e = std::io::Error::last_os_error();
            if r < 0 && e.kind() == std::io::ErrorKind::WouldBlock {
                return;
            }
            return self.dead(i, if r == 0 { "closed by server".into() } else { e.to_string() });
        }
        let r = r as usize;
        self.st.bytes_in += r as u64;
        // Common case: parse straight out of `buf`, keep only the tail.
        let mut own = std::mem::take(&mut self.cs[i].rbuf);
        let data: &[u8] = if own.is_empty() {
            &buf[..r]
        } else {
            own.extend_from_slice(&buf[..r]);
            &own
        };
        let mut p = 0;
        while data.len() - p >= 4 {
            let n = u32::from_be_bytes(data[p..p + 4].try_into().unwrap()) as usize;
            if data.len() - p < 4 + n {
                break;
            }
            let enc = self.cs[i].enc;
            match decode(enc, &data[p + 4..p + 4 + n]) {
                Ok(m) => self.message(i, m),
                Err(e) => self.st.error("undecodable", || e),
            }
            p += 4 + n;
            if self.cs[i].phase == Phase::Dead {
                return;
            }
        }
        if p < data.len() {
            self.cs[i].rbuf = data[p..].to_vec()
        } else {
            own.clear();
            self.cs[i].rbuf = own
        }
        self.start(i)
    }
}
