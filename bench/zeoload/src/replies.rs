//! What comes back to a worker: replies and invalidations, each checked.
use crate::client::Blocking;
use crate::options::{Kind, P};
use crate::payload;
use crate::proto::*;
use crate::stats::{Stats, ns10};
use crate::sys::now;
use crate::worker::{Pend, Phase, Worker};

impl Worker<'_> {
    pub fn message(&mut self, i: usize, m: [Val; 4]) {
        let t = now();
        let rec = t >= self.t_rec && t < self.t_end;
        let name = match &m[2] {
            Val::Str(s) => *s,
            Val::Bytes(b) => std::str::from_utf8(b).unwrap_or(""),
            _ => "",
        };
        if name != ".reply" {
            if name == "invalidateTransaction" {
                self.invalidation(i, &m[3], t)
            } else if name != "info" {
                self.st.error("unexpected call", || name.to_string())
            }
            return;
        }
        let failed = m[1].int().unwrap_or(0) != 0;
        // A load?
        let slot = {
            let c = &self.cs[i];
            match &m[0] {
                Val::Seq(s) if s.len() == 2 => {
                    let (o, b) = (s[0].tid(), s[1].tid());
                    c.pend.iter().position(|x| x.live && Some(x.oid) == o && Some(x.before) == b)
                }
                Val::Int(n) => c.pend.iter().position(|x| x.live && x.id == *n),
                _ => None,
            }
        };
        if let Some(s) = slot {
            let pd = self.cs[i].pend[s];
            self.cs[i].pend[s].live = false;
            self.cs[i].live -= 1;
            if failed {
                self.st.error("load failed", || format!("{:?}", m[3]))
            } else {
                self.check_load(i, &pd, &m[3])
            }
            if rec {
                self.st.lat.push(ns10(pd.t0, t));
                self.ops += 1;
                self.t_op = t
            }
            if self.cs[i].phase == Phase::PreLoad {
                if failed { self.cs[i].phase = Phase::Idle } else { self.commit_one(i) }
            }
            return;
        }
        if m[0].int() != Some(self.cs[i].id) {
            return self.st.error("unknown reply id", || format!("{:?}", m[0]));
        }
        match self.cs[i].phase {
            Phase::Vote => {
                if failed {
                    let conflict = matches!(&m[3], Val::Seq(s) if matches!(s.first(), Some(Val::Str(c)) if c.contains("Conflict")));
                    if conflict {
                        self.st.conflicts += rec as u64;
                        if !self.p.contend {
                            self.st.error("conflict", || format!("{:?}", m[3]))
                        }
                        // learn the committed serial
                        if let Val::Seq(s) = &m[3]
                            && let Some(Val::Map(kv)) = s.get(1)
                        {
                            let get = |n: &str| kv.iter().find(|(k, _)| *k == Val::Str(n)).map(|x| &x.1);
                            if let (Some(o), Some(Val::Seq(ss))) =
                                (get("oid").and_then(|v| v.tid()), get("serials"))
                                && let Some(committed) = ss.first().and_then(|v| v.tid())
                            {
                                let e = self.shared.entry(o).or_default();
                                *e = (*e).max(committed)
                            }
                        }
                    } else {
                        self.st.error("vote failed", || format!("{:?}", m[3]))
                    }
                    self.call_tx(i, "tpc_abort");
                    self.cs[i].phase = Phase::Abort;
                    return;
                }
                if let Val::Seq(s) = &m[3]
                    && s.iter().any(|x| matches!(x, Val::Map(_)))
                {
                    self.st.error("unresolved conflict list", || format!("{:?}", m[3]))
                }
                self.cs[i].t_mark = t;
                if rec {
                    self.st.vote.push(ns10(self.cs[i].t_begin, t))
                }
                self.call_tx(i, "tpc_finish");
                if self.kind == Kind::Fanout {
                    self.f_sent = t;
                    self.f_times.clear();
                    self.f_tid = 0;
                    self.f_reply = false;
                    for c in &mut self.cs {
                        c.got_inv = false
                    }
                }
                self.cs[i].phase = Phase::Finish
            }
            Phase::Finish => {
                self.cs[i].phase = Phase::Idle;
                let tid = match m[3].tid() {
                    Some(x) if !failed => x,
                    _ => return self.st.error("finish failed", || format!("{:?}", m[3])),
                };
                let prev = self.cs[i].last_tid;
                if tid <= prev {
                    self.st.error("tid not increasing", || format!("{prev:x} then {tid:x}"))
                }
                let c = &mut self.cs[i];
                c.last_tid = tid.max(prev);
                c.last_start = tid;
                let keep = self.kind == Kind::Mixed;
                for (o, g) in &c.txn {
                    if self.p.contend {
                        let e = self.shared.entry(*o).or_default();
                        *e = (*e).max(tid)
                    } else if !keep {
                        c.serials.insert(*o, tid);
                    }
                    if keep {
                        self.known.insert(*o, (tid, *g));
                    }
                }
                self.st.tids.push(tid);
                // keep a bounded sample to read back afterwards
                let (o, g) = c.txn[self.rng.below(c.txn.len() as u64) as usize];
                if self.st.samples.len() < 300 {
                    self.st.samples.push((o, tid, g))
                } else {
                    let at = self.rng.below(300) as usize;
                    self.st.samples[at] = (o, tid, g)
                }
                if rec {
                    let l = ns10(c.t_begin, t);
                    if keep {
                        self.st.lat2.push(l)
                    } else {
                        self.st.lat.push(l)
                    }
                    self.st.finish.push(ns10(c.t_mark, t));
                    self.ops += 1;
                    self.t_op = t
                }
                if self.kind == Kind::Fanout {
                    self.f_reply = true;
                    if self.f_tid != 0 && self.f_tid != tid {
                        self.st.error("invalidation tid differs", || format!("{tid:x}"))
                    }
                    self.f_tid = tid;
                    self.fan_done(i)
                }
            }
            Phase::Abort => self.cs[i].phase = Phase::Idle,
            ph => self.st.error("reply in wrong phase", || format!("{ph:?}")),
        }
    }

    fn fan_done(&mut self, writer: usize) {
        if self.f_reply && self.f_times.len() == self.p.subs {
            if self.f_sent >= self.t_rec && self.p.subs > 0 {
                self.f_times.sort_unstable();
                let n = self.f_times.len();
                self.st.inv_first.push(ns10(self.f_sent, self.f_times[0]));
                self.st.inv_med.push(ns10(self.f_sent, self.f_times[n / 2]));
                self.st.inv_last.push(ns10(self.f_sent, self.f_times[n - 1]));
            }
            self.start(writer);
            self.flush(writer)
        }
    }

    fn invalidation(&mut self, i: usize, args: &Val, t: u64) {
        self.st.invalidations += 1;
        let (tid, oids) = match args {
            Val::Seq(s) if s.len() == 2 => match (s[0].tid(), &s[1]) {
                (Some(t), Val::Seq(o)) => (t, o),
                _ => return self.st.error("bad invalidation", || format!("{args:?}")),
            },
            _ => return self.st.error("bad invalidation", || format!("{args:?}")),
        };
        let prev = self.cs[i].last_tid;
        if tid <= prev {
            self.st.error("invalidation out of order", || format!("{prev:x} then {tid:x}"))
        }
        self.cs[i].last_tid = tid.max(prev);
        if self.p.contend {
            for o in oids {
                if let Some(o) = o.tid() {
                    let e = self.shared.entry(o).or_default();
                    *e = (*e).max(tid)
                }
            }
        }
        if self.kind == Kind::Fanout {
            if self.cs[i].phase != Phase::Sub || self.cs[i].got_inv {
                return self.st.error("duplicate invalidation", || format!("{tid:x}"));
            }
            self.cs[i].got_inv = true;
            if oids.len() != self.p.k {
                self.st.error("invalidation oid count", || format!("{} not {}", oids.len(), self.p.k))
            }
            if self.f_tid == 0 {
                self.f_tid = tid
            } else if self.f_tid != tid {
                self.st.error("invalidation tid differs", || format!("{tid:x}"))
            }
            self.f_times.push(t);
            self.fan_done(0)
        }
    }

    fn check_load(&mut self, i: usize, pd: &Pend, v: &Val) {
        let s = match v {
            Val::Seq(s) if s.len() == 3 => s,
            _ => return self.st.error("load: no data", || format!("oid {:x}: {v:?}", pd.oid)),
        };
        let (data, start) = match (&s[0], s[1].tid()) {
            (Val::Bytes(d), Some(t)) => (*d, t),
            _ => return self.st.error("load: bad types", || format!("{v:?}")),
        };
        let end_ok = match &s[2] {
            Val::Nil => true,
            x => x.tid().is_some_and(|e| e >= pd.before),
        };
        if start >= pd.before || !end_ok {
            self.st.error("load: wrong validity", || {
                format!("{:x} {:?} for before {:x}", start, s[2], pd.before)
            })
        }
        match payload::verify(data, pd.oid, &mut self.scratch) {
            None => self.st.error("load: wrong bytes", || format!("oid {:x}", pd.oid)),
            Some(g) => {
                self.st.verified += 1;
                if let Some(&(tid, generation)) = self.known.get(&pd.oid)
                    && ((tid < pd.before && start < tid) || (start == tid && g != generation))
                {
                    self.st.error("load: stale", || {
                        format!("oid {:x}: start {start:x}, committed {tid:x}", pd.oid)
                    })
                }
            }
        }
        if self.cs[i].phase == Phase::PreLoad {
            self.cs[i].serials.clear();
            let o = pd.oid;
            self.cs[i].serials.insert(o, start);
        }
    }
}

/// Read sampled commits back over a new connection.
pub fn read_back(p: &P, st: &mut Stats) {
    let n = st.tids.len();
    st.tids.sort_unstable();
    st.tids.dedup();
    if st.tids.len() != n {
        let d = n - st.tids.len();
        st.error("duplicate tid", || format!("{d}"))
    }
    if st.samples.is_empty() {
        return;
    }
    let mut b = match Blocking::open(&p.addr, &p.storage, p.enc) {
        Ok(b) => b,
        Err(e) => return st.error("read back: connect", || e),
    };
    let mut scratch = vec![];
    for (oid, tid, generation) in std::mem::take(&mut st.samples) {
        let r = b.load_before(oid, tid + 1, |v| match v {
            Val::Seq(s) if s.len() == 3 => match (&s[0], s[1].tid()) {
                (Val::Bytes(d), Some(t)) if t == tid => match payload::verify(d, oid, &mut scratch) {
                    Some(g) if g == generation => Ok(()),
                    g => Err(format!("generation {g:?} not {generation}")),
                },
                (_, t) => Err(format!("start {t:x?} not {tid:x}")),
            },
            _ => Err(format!("{v:?}")),
        });
        match r {
            Ok(()) => st.verified += 1,
            Err(e) => st.error("read back", || format!("oid {oid:x}: {e}")),
        }
    }
}
