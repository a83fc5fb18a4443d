//! Blocking connection: connect, handshake, register, simple calls.
use crate::proto::*;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{FromRawFd, IntoRawFd, RawFd};
use std::os::unix::net::UnixStream;

pub fn connect(addr: &str) -> std::io::Result<RawFd> {
    if addr.contains('/') {
        Ok(UnixStream::connect(addr)?.into_raw_fd())
    } else {
        let s = TcpStream::connect(addr)?;
        s.set_nodelay(true)?;
        Ok(s.into_raw_fd())
    }
}

pub struct Blocking {
    f: std::fs::File,
    pub enc: Encoding,
    pub last_tid: u64,
    pub rbuf: Vec<u8>,
    id: i64,
}

pub fn choose(hello: &[u8], force: Option<Encoding>) -> Result<Encoding, String> {
    if hello.len() < 2 || !matches!(hello[0], b'M' | b'Z') {
        return Err(format!("bad hello {:?}", String::from_utf8_lossy(hello)));
    }
    Ok(force.unwrap_or(if hello[0] == b'M' { Encoding::Msgpack } else { Encoding::Pickle }))
}
pub fn hello(enc: Encoding) -> &'static [u8] {
    match enc {
        Encoding::Msgpack => b"M5",
        Encoding::Pickle => b"Z5",
    }
}
pub fn register(out: &mut Vec<u8>, enc: Encoding, id: i64, storage: &str) {
    msg(out, enc, |w| {
        w.int(id);
        w.bool(false);
        w.str("register");
        w.tuple(2);
        w.str(storage);
        w.bool(false);
        w.end_tuple(2)
    })
}
pub fn call0(out: &mut Vec<u8>, enc: Encoding, id: i64, name: &str) {
    msg(out, enc, |w| {
        w.int(id);
        w.bool(false);
        w.str(name);
        w.tuple(0);
        w.end_tuple(0)
    })
}

impl Blocking {
    pub fn open(addr: &str, storage: &str, force: Option<Encoding>) -> Result<Self, String> {
        let fd = connect(addr).map_err(|e| format!("connect {addr}: {e}"))?;
        let f = unsafe { std::fs::File::from_raw_fd(fd) };
        let tv = libc::timeval { tv_sec: 60, tv_usec: 0 };
        unsafe {
            libc::setsockopt(
                fd,
                libc::SOL_SOCKET,
                libc::SO_RCVTIMEO,
                &tv as *const _ as *const libc::c_void,
                std::mem::size_of::<libc::timeval>() as u32,
            );
        }
        let mut c = Blocking { f, enc: Encoding::Msgpack, last_tid: 0, rbuf: vec![], id: 0 };
        let h = c.frame()?;
        c.enc = choose(&h, force)?;
        let mut o = vec![];
        raw_frame(&mut o, hello(c.enc));
        register(&mut o, c.enc, 1, storage);
        c.id = 1;
        c.send(&o)?;
        c.last_tid = c.reply(1, |v| v.tid().ok_or(format!("register: {v:?}")))?;
        o.clear();
        call0(&mut o, c.enc, 2, "get_info");
        c.id = 2;
        c.send(&o)?;
        c.reply(2, |_| Ok(()))?;
        Ok(c)
    }
    pub fn send(&mut self, b: &[u8]) -> Result<(), String> {
        self.f.write_all(b).map_err(|e| e.to_string())
    }
    pub fn frame(&mut self) -> Result<Vec<u8>, String> {
        loop {
            if self.rbuf.len() >= 4 {
                let n = u32::from_be_bytes(self.rbuf[..4].try_into().unwrap()) as usize;
                if self.rbuf.len() >= 4 + n {
                    let r = self.rbuf[4..4 + n].to_vec();
                    self.rbuf.drain(..4 + n);
                    return Ok(r);
                }
            }
            let mut t = [0u8; 65536];
            let n = self.f.read(&mut t).map_err(|e| format!("read: {e}"))?;
            if n == 0 {
                return Err("closed by server".into());
            }
            self.rbuf.extend_from_slice(&t[..n])
        }
    }
    pub fn reply<T>(&mut self, id: i64, f: impl FnOnce(&Val) -> Result<T, String>) -> Result<T, String> {
        loop {
            let fr = self.frame()?;
            let m = decode(self.enc, &fr)?;
            if m[2] == Val::Str(".reply") && m[0].int() == Some(id) {
                if m[1].int().unwrap_or(0) != 0 {
                    return Err(format!("server error {:?}", m[3]));
                }
                return f(&m[3]);
            }
        }
    }
    pub fn load_before<T>(
        &mut self,
        oid: u64,
        before: u64,
        f: impl FnOnce(&Val) -> Result<T, String>,
    ) -> Result<T, String> {
        self.id += 1;
        let id = self.id;
        let mut o = vec![];
        msg(&mut o, self.enc, |w| {
            w.int(id);
            w.bool(false);
            w.str("loadBefore");
            w.tuple(2);
            w.u64(oid);
            w.u64(before);
            w.end_tuple(2)
        });
        self.send(&o)?;
        self.reply(id, f)
    }
    /// Give up the descriptor (for the event loop).
    pub fn into_parts(self) -> (RawFd, Encoding, u64, Vec<u8>) {
        let fd = self.f.into_raw_fd();
        (fd, self.enc, self.last_tid, self.rbuf)
    }
}
