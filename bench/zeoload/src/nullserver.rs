//! A stub ZEO 5 server: memory only, no locking, no conflict checks.  It shows what the load
//! generator and the loopback can reach on a machine, i.e. the ceiling any server could get.
//! sync: none | each (append + fdatasync before every finish reply)
//!       | group (one fdatasync for all finishes of one loop turn).
use crate::client::hello;
use crate::payload;
use crate::proto::*;
use crate::sys::*;
use std::collections::HashMap;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};

struct C {
    fd: RawFd,
    enc: Encoding,
    up: bool,
    reg: bool,
    rbuf: Vec<u8>,
    wbuf: Vec<u8>,
    txn: Vec<(u64, Vec<u8>)>,
    open: bool,
    dirty: bool,
    want_out: bool,
}

pub fn run(addr: &str, objects: u64, size: usize, enc: Encoding, sync: &str, path: &str) {
    let l = TcpListener::bind(addr).expect("bind");
    unsafe { libc::listen(l.as_raw_fd(), 4096) };
    l.set_nonblocking(true).unwrap();
    let mut db: HashMap<u64, Vec<(u64, Vec<u8>)>> = HashMap::with_capacity(objects as usize);
    let mut tid = 1u64 << 58;
    for o in 1..=objects {
        let mut r = vec![];
        payload::record(&mut r, o, 0, size);
        db.insert(o, vec![(tid, r)]);
    }
    let log = (sync != "none")
        .then(|| std::fs::OpenOptions::new().create(true).append(true).open(path).expect("log file"));
    let group = sync == "group";
    let ep = Epoll::new();
    ep.ctl(libc::EPOLL_CTL_ADD, l.as_raw_fd(), libc::EPOLLIN as u32, u64::MAX);
    let mut cs: Vec<Option<C>> = vec![];
    let mut evs: Vec<libc::epoll_event> = Vec::with_capacity(256);
    let mut buf = vec![0u8; 1 << 18];
    let mut finishing: Vec<(usize, i64, u64)> = vec![];
    let mut dirty: Vec<usize> = vec![];
    eprintln!("nullserver on {addr}");
    loop {
        let n = ep.wait(&mut evs, 1000);
        for event in evs.iter().take(n).copied() {
            if event.u64 == u64::MAX {
                while let Ok((s, _)) = l.accept() {
                    s.set_nodelay(true).ok();
                    let fd = s.into_raw_fd();
                    nonblock(fd);
                    let i = cs.len();
                    ep.ctl(libc::EPOLL_CTL_ADD, fd, libc::EPOLLIN as u32, i as u64);
                    let mut c = C {
                        fd,
                        enc,
                        up: false,
                        reg: false,
                        rbuf: vec![],
                        wbuf: vec![],
                        txn: vec![],
                        open: false,
                        dirty: true,
                        want_out: false,
                    };
                    raw_frame(&mut c.wbuf, hello(enc));
                    cs.push(Some(c));
                    dirty.push(i)
                }
                continue;
            }
            let i = event.u64 as usize;
            let Some(mut c) = cs[i].take() else { continue };
            if event.events & libc::EPOLLOUT as u32 != 0 {
                c.dirty = true;
                dirty.push(i)
            }
            if event.events & !(libc::EPOLLOUT as u32) != 0 {
                let r = unsafe { libc::recv(c.fd, buf.as_mut_ptr() as *mut _, buf.len(), 0) };
                if r == 0
                    || (r < 0 && std::io::Error::last_os_error().kind() != std::io::ErrorKind::WouldBlock)
                {
                    unsafe { libc::close(c.fd) };
                    continue;
                }
                let r = r.max(0) as usize;
                let mut own = std::mem::take(&mut c.rbuf);
                let data: &[u8] = if own.is_empty() {
                    &buf[..r]
                } else {
                    own.extend_from_slice(&buf[..r]);
                    &own
                };
                let mut p = 0;
                while data.len() - p >= 4 {
                    let l = u32::from_be_bytes(data[p..p + 4].try_into().unwrap()) as usize;
                    if data.len() - p < 4 + l {
                        break;
                    }
                    let fr = &data[p + 4..p + 4 + l];
                    p += 4 + l;
                    if !c.up {
                        c.up = true;
                        c.enc = if fr.first() == Some(&b'M') { Encoding::Msgpack } else { Encoding::Pickle };
                        continue;
                    }
                    let Ok(m) = decode(c.enc, fr) else { continue };
                    let name = match &m[2] {
                        Val::Str(s) => *s,
                        _ => "",
                    };
                    let id = |w: &mut W| match &m[0] {
                        Val::Int(i) => w.int(*i),
                        Val::Seq(s) => {
                            w.tuple(s.len());
                            for x in s {
                                if let Val::Bytes(b) = x {
                                    w.bytes(b)
                                }
                            }
                            w.end_tuple(s.len())
                        }
                        _ => w.int(0),
                    };
                    let a = m[3].seq().unwrap_or(&[]);
                    let enc = c.enc;
                    match name {
                        "loadBefore" => {
                            let (o, before) = (a[0].tid().unwrap_or(0), a[1].tid().unwrap_or(0));
                            let h = db.get(&o).map(|h| &h[..]).unwrap_or(&[]);
                            let at = h.iter().rposition(|x| x.0 < before);
                            msg(&mut c.wbuf, enc, |w| {
                                id(w);
                                w.int(0);
                                w.str(".reply");
                                if let Some(at) = at {
                                    w.tuple(3);
                                    w.bytes(&h[at].1);
                                    w.u64(h[at].0);
                                    match h.get(at + 1) {
                                        Some(x) => w.u64(x.0),
                                        None => w.nil(),
                                    }
                                    w.end_tuple(3)
                                } else {
                                    w.nil()
                                }
                            })
                        }
                        "tpc_begin" => {
                            c.txn.clear();
                            c.open = true
                        }
                        "storea" => {
                            if let (Some(o), Val::Bytes(d)) = (a[0].tid(), &a[2]) {
                                c.txn.push((o, d.to_vec()))
                            }
                        }
                        "tpc_finish" => {
                            tid += 1;
                            finishing.push((i, m[0].int().unwrap_or(0), tid));
                            if let Some(f) = &log {
                                use std::io::Write;
                                let mut all = vec![];
                                for (_, d) in &c.txn {
                                    all.extend_from_slice(d)
                                }
                                (&mut &*f).write_all(&all).unwrap();
                                if !group {
                                    f.sync_data().unwrap()
                                }
                            }
                            if !group {
                                cs[i] = Some(c);
                                finish(&mut cs, &mut db, &mut finishing, &mut dirty);
                                c = cs[i].take().unwrap()
                            }
                        }
                        _ => msg(&mut c.wbuf, enc, |w| {
                            id(w);
                            w.int(0);
                            w.str(".reply");
                            match name {
                                "register" => {
                                    c.reg = true;
                                    w.u64(tid)
                                }
                                "get_info" => {
                                    w.map(1);
                                    w.str("length");
                                    w.int(db.len() as i64);
                                    w.end_map(1)
                                }
                                "vote" => {
                                    w.list(0);
                                    w.end_list(0)
                                }
                                _ => w.nil(),
                            }
                        }),
                    }
                }
                if p < data.len() {
                    c.rbuf = data[p..].to_vec()
                } else {
                    own.clear();
                    c.rbuf = own
                }
                if !c.wbuf.is_empty() && !c.dirty {
                    c.dirty = true;
                    dirty.push(i)
                }
            }
            cs[i] = Some(c)
        }
        if !finishing.is_empty() {
            if let Some(f) = &log {
                f.sync_data().unwrap()
            }
            finish(&mut cs, &mut db, &mut finishing, &mut dirty)
        }
        for i in dirty.drain(..) {
            let Some(c) = &mut cs[i] else { continue };
            c.dirty = false;
            if c.wbuf.is_empty() {
                continue;
            }
            let r =
                unsafe { libc::send(c.fd, c.wbuf.as_ptr() as *const _, c.wbuf.len(), libc::MSG_NOSIGNAL) };
            let r = r.max(0) as usize;
            c.wbuf.drain(..r);
            if c.want_out == c.wbuf.is_empty() {
                c.want_out = !c.want_out;
                let ev = if c.want_out { libc::EPOLLIN | libc::EPOLLOUT } else { libc::EPOLLIN };
                ep.ctl(libc::EPOLL_CTL_MOD, c.fd, ev as u32, i as u64)
            }
        }
    }
}

fn finish(
    cs: &mut [Option<C>],
    db: &mut HashMap<u64, Vec<(u64, Vec<u8>)>>,
    fin: &mut Vec<(usize, i64, u64)>,
    dirty: &mut Vec<usize>,
) {
    for (i, id, tid) in fin.drain(..) {
        let Some(c) = &mut cs[i] else { continue };
        let txn = std::mem::take(&mut c.txn);
        msg(&mut c.wbuf, c.enc, |w| {
            w.int(id);
            w.int(0);
            w.str(".reply");
            w.u64(tid)
        });
        if !c.dirty {
            c.dirty = true;
            dirty.push(i)
        }
        let mut cache: [Option<Vec<u8>>; 2] = [None, None];
        for (j, o) in cs.iter_mut().enumerate() {
            let Some(o) = o else { continue };
            if j == i || !o.reg {
                continue;
            }
            let m = cache[(o.enc == Encoding::Pickle) as usize].get_or_insert_with(|| {
                let mut b = vec![];
                msg(&mut b, o.enc, |w| {
                    w.int(0);
                    w.bool(true);
                    w.str("invalidateTransaction");
                    w.tuple(2);
                    w.u64(tid);
                    w.list(txn.len());
                    for (x, _) in &txn {
                        w.u64(*x)
                    }
                    w.end_list(txn.len());
                    w.end_tuple(2)
                });
                b
            });
            o.wbuf.extend_from_slice(m);
            if !o.dirty {
                o.dirty = true;
                dirty.push(j)
            }
        }
        for (o, d) in txn {
            db.entry(o).or_default().push((tid, d));
        }
    }
}
