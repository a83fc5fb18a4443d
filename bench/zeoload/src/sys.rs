//! epoll, clocks, /proc.
use std::os::fd::RawFd;

pub fn now() -> u64 {
    let mut ts: libc::timespec = unsafe { std::mem::zeroed() };
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut ts) };
    ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64
}

pub struct Epoll {
    pub fd: RawFd,
}
impl Epoll {
    pub fn new() -> Self {
        Epoll { fd: unsafe { libc::epoll_create1(0) } }
    }
    pub fn ctl(&self, op: i32, fd: RawFd, ev: u32, key: u64) {
        let mut e = libc::epoll_event { events: ev, u64: key };
        let r = unsafe { libc::epoll_ctl(self.fd, op, fd, &mut e) };
        if r < 0 {
            panic!("epoll_ctl: {}", std::io::Error::last_os_error())
        }
    }
    pub fn wait(&self, evs: &mut Vec<libc::epoll_event>, ms: i32) -> usize {
        let r = unsafe { libc::epoll_wait(self.fd, evs.as_mut_ptr(), evs.capacity() as i32, ms) };
        let n = if r < 0 { 0 } else { r as usize };
        unsafe { evs.set_len(n) };
        n
    }
}
impl Drop for Epoll {
    fn drop(&mut self) {
        unsafe { libc::close(self.fd) };
    }
}

pub fn nonblock(fd: RawFd) {
    unsafe {
        let f = libc::fcntl(fd, libc::F_GETFL);
        libc::fcntl(fd, libc::F_SETFL, f | libc::O_NONBLOCK);
    }
}
pub fn nodelay(fd: RawFd) {
    let one: i32 = 1;
    unsafe {
        libc::setsockopt(
            fd,
            libc::IPPROTO_TCP,
            libc::TCP_NODELAY,
            &one as *const _ as *const libc::c_void,
            4,
        );
    }
}

/// The pid and all its descendants.
fn tree(pid: u32) -> Vec<u32> {
    let mut parent = vec![];
    if let Ok(rd) = std::fs::read_dir("/proc") {
        for e in rd.flatten() {
            if let Ok(p) = e.file_name().to_string_lossy().parse::<u32>()
                && let Ok(s) = std::fs::read_to_string(format!("/proc/{p}/stat"))
                && let Some(i) = s.rfind(')')
            {
                let f: Vec<&str> = s[i + 2..].split(' ').collect();
                parent.push((p, f[1].parse::<u32>().unwrap_or(0)))
            }
        }
    }
    let mut out = vec![pid];
    let mut i = 0;
    while i < out.len() {
        let q = out[i];
        out.extend(parent.iter().filter(|(_, pp)| *pp == q).map(|(p, _)| *p));
        i += 1
    }
    out
}

#[derive(Default, Clone, Copy, Debug)]
pub struct Usage {
    pub utime: f64,
    pub stime: f64,
    pub rss_kb: u64,
    pub hwm_kb: u64,
    pub threads: u64,
}

pub fn usage(pid: u32) -> Usage {
    let mut u = Usage::default();
    if pid == 0 {
        return u;
    }
    let hz = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
    for p in tree(pid) {
        if let Ok(s) = std::fs::read_to_string(format!("/proc/{p}/stat"))
            && let Some(i) = s.rfind(')')
        {
            let f: Vec<&str> = s[i + 2..].split(' ').collect();
            u.utime += f[11].parse::<f64>().unwrap_or(0.) / hz;
            u.stime += f[12].parse::<f64>().unwrap_or(0.) / hz;
        }
        if let Ok(s) = std::fs::read_to_string(format!("/proc/{p}/status")) {
            for l in s.lines() {
                let n = || l.split_whitespace().nth(1).and_then(|x| x.parse::<u64>().ok()).unwrap_or(0);
                if l.starts_with("VmRSS:") {
                    u.rss_kb += n()
                } else if l.starts_with("VmHWM:") {
                    u.hwm_kb += n()
                } else if l.starts_with("Threads:") {
                    u.threads += n()
                }
            }
        }
    }
    u
}

pub fn self_cpu() -> f64 {
    let mut r: libc::rusage = unsafe { std::mem::zeroed() };
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut r) };
    let t = |v: libc::timeval| v.tv_sec as f64 + v.tv_usec as f64 / 1e6;
    t(r.ru_utime) + t(r.ru_stime)
}

/// Machine-wide (busy, total, steal) jiffies; niced user time does not count as busy,
/// since niced work yields to a benchmark.
pub fn machine() -> (u64, u64, u64) {
    let s = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let f: Vec<u64> =
        s.lines().next().unwrap_or("").split_whitespace().skip(1).filter_map(|x| x.parse().ok()).collect();
    if f.len() < 8 {
        return (0, 0, 0);
    }
    let total: u64 = f[..8].iter().sum();
    (total - f[1] - f[3] - f[4], total, f[7])
}

pub struct Rng(pub u64);
impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e3779b97f4a7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d049bb133111eb);
        z ^ (z >> 31)
    }
    pub fn below(&mut self, n: u64) -> u64 {
        ((self.next() as u128 * n as u128) >> 64) as u64
    }
}
