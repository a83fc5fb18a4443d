//! Many connections at once: connect, hello, register, get_info.
use crate::client::*;
use crate::options::P;
use crate::proto::*;
use crate::stats::ns10;
use crate::sys::*;
use std::os::fd::RawFd;

/// What came of it.
pub struct Storm {
    pub lat: Vec<u32>,
    pub total: f64,
    pub failed: u64,
    pub fds: Vec<RawFd>,
    pub example: Option<String>,
}

/// `conns` connect + handshake + register + get_info, `burst` under way at once; all stay open.
pub fn storm(p: &P, burst: usize) -> Storm {
    struct C {
        fd: RawFd,
        t0: u64,
        step: u8,
        rbuf: Vec<u8>,
        enc: Encoding,
    }
    let ep = Epoll::new();
    let mut cs: Vec<C> = vec![];
    let mut out = Storm { lat: vec![], total: 0., failed: 0, fds: vec![], example: None };
    let unix = p.addr.contains('/');
    let sa: Option<std::net::SocketAddr> = if unix { None } else { p.addr.parse().ok() };
    let t_start = now();
    let (mut begun, mut done) = (0usize, 0usize);
    let mut evs: Vec<libc::epoll_event> = Vec::with_capacity(256);
    let mut buf = vec![0u8; 65536];
    while done < p.conns {
        while begun < p.conns && begun - done < burst {
            let t0 = now();
            let fd = unsafe {
                if let Some(std::net::SocketAddr::V4(a)) = sa {
                    let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0);
                    let mut s: libc::sockaddr_in = std::mem::zeroed();
                    s.sin_family = libc::AF_INET as u16;
                    s.sin_port = a.port().to_be();
                    s.sin_addr.s_addr = u32::from_ne_bytes(a.ip().octets());
                    libc::connect(fd, &s as *const _ as *const libc::sockaddr, 16);
                    nodelay(fd);
                    fd
                } else {
                    match connect(&p.addr) {
                        Ok(fd) => {
                            nonblock(fd);
                            fd
                        }
                        Err(e) => {
                            out.failed += 1;
                            out.example.get_or_insert(e.to_string());
                            begun += 1;
                            done += 1;
                            continue;
                        }
                    }
                }
            };
            ep.ctl(libc::EPOLL_CTL_ADD, fd, libc::EPOLLIN as u32, cs.len() as u64);
            cs.push(C { fd, t0, step: 0, rbuf: vec![], enc: Encoding::Msgpack });
            begun += 1
        }
        let n = ep.wait(&mut evs, 1000);
        if now() - t_start > p.duration.max(1.) as u64 * 1_000_000_000 {
            out.failed += (p.conns - done) as u64;
            out.example.get_or_insert("timeout".into());
            break;
        }
        for event in evs.iter().take(n).copied() {
            let c = &mut cs[event.u64 as usize];
            if c.step > 2 {
                continue;
            }
            let r = unsafe { libc::recv(c.fd, buf.as_mut_ptr() as *mut libc::c_void, buf.len(), 0) };
            if r <= 0 {
                let er = std::io::Error::last_os_error();
                if r < 0 && er.kind() == std::io::ErrorKind::WouldBlock {
                    continue;
                }
                out.failed += 1;
                out.example.get_or_insert(if r == 0 { "closed".into() } else { er.to_string() });
                c.step = 9;
                done += 1;
                unsafe { libc::close(c.fd) };
                continue;
            }
            c.rbuf.extend_from_slice(&buf[..r as usize]);
            while c.rbuf.len() >= 4 {
                let l = u32::from_be_bytes(c.rbuf[..4].try_into().unwrap()) as usize;
                if c.rbuf.len() < 4 + l {
                    break;
                }
                let fr: Vec<u8> = c.rbuf[4..4 + l].to_vec();
                c.rbuf.drain(..4 + l);
                let mut o = vec![];
                let mut bad = None;
                match c.step {
                    0 => match choose(&fr, p.enc) {
                        Ok(enc) => {
                            c.enc = enc;
                            raw_frame(&mut o, hello(enc));
                            register(&mut o, enc, 1, &p.storage);
                            c.step = 1
                        }
                        Err(e) => bad = Some(e),
                    },
                    _ => match decode(c.enc, &fr) {
                        Ok(m) if m[2] != Val::Str(".reply") => continue,
                        Ok(m) if m[1].int() == Some(0) => {
                            if c.step == 1 {
                                call0(&mut o, c.enc, 2, "get_info");
                                c.step = 2
                            } else {
                                c.step = 3;
                                out.lat.push(ns10(c.t0, now()));
                                out.fds.push(c.fd);
                                done += 1
                            }
                        }
                        Ok(m) => bad = Some(format!("{:?}", m[3])),
                        Err(e) => bad = Some(e),
                    },
                }
                if let Some(b) = bad {
                    out.failed += 1;
                    out.example.get_or_insert(b);
                    c.step = 9;
                    done += 1;
                    break;
                }
                if !o.is_empty() {
                    unsafe {
                        libc::send(c.fd, o.as_ptr() as *const libc::c_void, o.len(), libc::MSG_NOSIGNAL)
                    };
                }
            }
        }
    }
    out.total = (now() - t_start) as f64 / 1e9;
    out
}
