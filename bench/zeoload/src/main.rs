//! `zeoload`: load generator for ZEO 5 servers, a stub server, and a maker of Data.fs files.

mod client;
mod commit;
mod mkfs;
mod nullserver;
mod options;
mod payload;
mod prefill;
mod proto;
mod replies;
mod stall;
mod stats;
mod storm;
mod sys;
mod worker;

use options::{Kind, P};
use prefill::prefill;
use proto::Encoding;
use replies::read_back;
use stall::stall;
use stats::Stats;
use std::collections::HashMap;
use std::fmt::Write as _;
use storm::storm;
use worker::Worker;

const HELP: &str = "\
zeoload COMMAND [--key value]...
Workloads (need --addr HOST:PORT or a unix path; --pid SERVER adds its CPU and memory):
  prefill  --objects N --size S --k BATCH      store oids 1..N over the wire
  read     --conns N --depth D --objects N     random loadBefore of oids 1..N
  commit   --conns N --k K --size S [--contend 1]  tpc_begin, storea x K, vote, tpc_finish
  mixed    --conns N --read-frac 0.9           reads, and load+store commits, by turns
  fanout   --subs M --commits C --k K          one writer, M idle subscribers
  storm    --conns 1000 --burst 64             connect, handshake, register, get_info
  stall    --k 1000 --size 50000 --objects N   loads of one client while another votes and finishes
Common: --storage 1 --enc auto|m|z --warmup 1 --duration 5 --max-ops 0 --threads 1
  --int-ids 1 (plain ids for loads; default: the Python client's (oid, tid) ids)
  --json FILE|-   --label TEXT   --oid-base N
Others:
  nullserver --addr A --objects N --size S --enc m|z --sync none|each|group --path LOG
  mkfs       --out Data.fs --objects N --size S --revs R --per-txn K [--tree 1]
";

fn main() {
    let a: Vec<String> = std::env::args().collect();
    if a.len() < 2 || a[1].starts_with('-') {
        eprint!("{HELP}");
        std::process::exit(2)
    }
    let cmd = a[1].as_str();
    let mut o: HashMap<String, String> = HashMap::new();
    let mut i = 2;
    while i < a.len() {
        let Some(k) = a[i].strip_prefix("--") else {
            eprintln!("not an option: {}", a[i]);
            std::process::exit(2)
        };
        if i + 1 >= a.len() {
            eprintln!("--{k} needs a value");
            std::process::exit(2)
        }
        o.insert(k.to_string(), a[i + 1].clone());
        i += 2
    }
    const KNOWN: &[&str] = &[
        "addr",
        "storage",
        "enc",
        "conns",
        "depth",
        "objects",
        "size",
        "k",
        "slots",
        "warmup",
        "duration",
        "max-ops",
        "commits",
        "read-frac",
        "contend",
        "int-ids",
        "subs",
        "oid-base",
        "seed",
        "threads",
        "pid",
        "json",
        "label",
        "burst",
        "sync",
        "path",
        "out",
        "revs",
        "per-txn",
        "tree",
    ];
    for k in o.keys() {
        if !KNOWN.contains(&k.as_str()) {
            eprintln!("unknown option --{k}");
            std::process::exit(2)
        }
    }
    let s = |k: &str, d: &str| o.get(k).cloned().unwrap_or(d.to_string());
    let n = |k: &str, d: f64| -> f64 {
        o.get(k).map(|v| v.parse().unwrap_or_else(|_| panic!("--{k}: not a number: {v}"))).unwrap_or(d)
    };
    let enc = match s("enc", "auto").as_str() {
        "m" | "M" => Some(Encoding::Msgpack),
        "z" | "Z" => Some(Encoding::Pickle),
        _ => None,
    };
    match cmd {
        "nullserver" => {
            return nullserver::run(
                &s("addr", "127.0.0.1:8100"),
                n("objects", 100000.) as u64,
                n("size", 500.) as usize,
                enc.unwrap_or(Encoding::Msgpack),
                &s("sync", "none"),
                &s("path", "/tmp/nullserver.log"),
            );
        }
        "mkfs" => {
            return mkfs::run(&mkfs::Mk {
                out: s("out", "Data.fs"),
                objects: n("objects", 100000.) as u64,
                size: n("size", 500.) as usize,
                revs: n("revs", 1.) as u64,
                per_txn: n("per-txn", 100.) as u64,
                tree: n("tree", 0.) != 0.,
            })
            .unwrap();
        }
        _ => {}
    }
    let k = n("k", if cmd == "prefill" { 1000. } else { 1. }) as usize;
    let millis =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    let p = P {
        addr: s("addr", "127.0.0.1:8100"),
        storage: s("storage", "1"),
        enc,
        conns: n("conns", if cmd == "storm" { 1000. } else { 1. }) as usize,
        depth: n("depth", 1.) as usize,
        objects: n("objects", 100000.) as u64,
        size: n("size", 500.) as usize,
        k,
        slots: n("slots", (4 * k).max(64) as f64) as usize,
        warmup: n("warmup", if cmd == "fanout" { 0.2 } else { 1. }),
        duration: n(
            "duration",
            match cmd {
                "fanout" => 30.,
                "storm" => 15.,
                _ => 5.,
            },
        ),
        max_ops: n("max-ops", n("commits", if cmd == "fanout" { 200. } else { 0. })) as u64,
        read_frac: n("read-frac", 0.9),
        contend: n("contend", 0.) != 0.,
        int_ids: n("int-ids", 0.) != 0.,
        subs: n("subs", 10.) as usize,
        // a fresh range for each run, so that runs against one server don't meet
        oid_base: match n("oid-base", 0.) as u64 {
            0 => (1 << 60) | ((millis / 1000) & 0xfff_ffff) << 32,
            b => b,
        },
        seed: n("seed", 1.) as u64,
        threads: (n("threads", 1.) as usize).max(1),
    };
    let pid = n("pid", 0.) as u32;
    let mut js = String::from("{");
    let kv = |js: &mut String, k: &str, v: String| {
        if js.len() > 1 {
            js.push_str(", ")
        }
        let _ = write!(js, "\"{k}\": {v}");
    };
    let q = |v: &str| format!("{:?}", v.replace(|c: char| !(' '..='~').contains(&c), "?").replace('\'', " "));
    kv(&mut js, "workload", q(cmd));
    kv(&mut js, "label", q(&s("label", "")));
    for (name, v) in [
        ("conns", p.conns),
        ("depth", p.depth),
        ("size", p.size),
        ("k", p.k),
        ("subs", p.subs),
        ("contend", p.contend as usize),
        ("threads", p.threads),
        ("objects", p.objects as usize),
    ] {
        kv(&mut js, name, v.to_string())
    }
    let u0 = sys::usage(pid);
    let c0 = sys::self_cpu();
    let m0 = sys::machine();
    let t0 = sys::now();
    let mut st = Stats::default();
    let mut extra = String::new();
    match cmd {
        "prefill" => match prefill(&p) {
            Ok(t) => {
                st.window = t;
                kv(&mut js, "objects_per_s", format!("{:.1}", p.objects as f64 / t));
                let _ = write!(extra, " {:.0} objects/s", p.objects as f64 / t);
            }
            Err(e) => st.error("prefill", || e),
        },
        "stall" => stall(&p, &mut st),
        "storm" => {
            let r = storm(&p, n("burst", 64.) as usize);
            st.lat = r.lat;
            st.window = r.total;
            if r.failed > 0 {
                let ex = r.example.clone().unwrap_or_default();
                *st.err.entry("connection failed").or_default() += r.failed;
                st.example = Some(ex)
            }
            let u = sys::usage(pid);
            if pid != 0 {
                let per = (u.rss_kb as f64 - u0.rss_kb as f64) / p.conns as f64;
                kv(&mut js, "server_rss_per_conn_kb", format!("{per:.1}"));
                let _ = write!(extra, " server RSS/conn {per:.1} KB");
            }
            for fd in r.fds {
                unsafe { libc::close(fd) };
            }
        }
        "read" | "commit" | "mixed" | "fanout" => {
            let kind = match cmd {
                "read" => Kind::Read,
                "commit" => Kind::Commit,
                "mixed" => Kind::Mixed,
                _ => Kind::Fanout,
            };
            let threads = if kind == Kind::Fanout { 1 } else { p.threads.min(p.conns) };
            // Connect everything first, then start all the loops together.
            let bar = std::sync::Barrier::new(threads);
            let out = std::sync::Mutex::new(Stats::default());
            std::thread::scope(|sc| {
                for t in 0..threads {
                    let (p, bar, out) = (&p, &bar, &out);
                    let mine = p.conns / threads + (t < p.conns % threads) as usize;
                    sc.spawn(move || {
                        let w = Worker::new(p, kind, t, mine);
                        bar.wait();
                        match w {
                            Ok(mut w) => {
                                w.run();
                                out.lock().unwrap().merge(std::mem::take(&mut w.st))
                            }
                            Err(e) => out.lock().unwrap().error("connect", || e),
                        }
                    });
                }
            });
            st = out.into_inner().unwrap();
        }
        _ => {
            eprint!("{HELP}");
            std::process::exit(2)
        }
    }
    let wall = (sys::now() - t0) as f64 / 1e9;
    let u1 = sys::usage(pid);
    let c1 = sys::self_cpu();
    let m1 = sys::machine();
    if !st.tids.is_empty() {
        read_back(&p, &mut st)
    }
    let ops = st.lat.len() + st.lat2.len();
    let rate = ops as f64 / st.window.max(1e-9);
    kv(&mut js, "ops", ops.to_string());
    kv(&mut js, "window_s", format!("{:.3}", st.window));
    kv(&mut js, "ops_per_s", format!("{rate:.2}"));
    if cmd == "commit" {
        kv(&mut js, "objects_per_s", format!("{:.1}", rate * p.k as f64));
        kv(&mut js, "conflicts", st.conflicts.to_string())
    }
    if cmd == "mixed" {
        kv(&mut js, "commits_per_s", format!("{:.2}", st.lat2.len() as f64 / st.window));
        kv(&mut js, "reads_per_s", format!("{:.2}", st.lat.len() as f64 / st.window))
    }
    let mut table = String::new();
    for (name, l) in [
        (if cmd == "mixed" { "read" } else { "op" }, &mut st.lat),
        ("commit", &mut st.lat2),
        ("vote", &mut st.vote),
        ("finish", &mut st.finish),
        ("inv_first", &mut st.inv_first),
        ("inv_median", &mut st.inv_med),
        ("inv_last", &mut st.inv_last),
    ] {
        if l.is_empty() {
            continue;
        }
        l.sort_unstable();
        let at = |f: f64| l[((l.len() as f64 * f) as usize).min(l.len() - 1)] as f64 / 10.;
        let mean = l.iter().map(|x| *x as f64).sum::<f64>() / l.len() as f64 / 10.;
        kv(
            &mut js,
            &format!("{name}_us"),
            format!(
                "{{\"mean\": {mean:.1}, \"p50\": {:.1}, \"p90\": {:.1}, \"p99\": {:.1}, \"p999\": {:.1}, \"max\": {:.1}}}",
                at(0.5),
                at(0.9),
                at(0.99),
                at(0.999),
                at(1.0)
            ),
        );
        let _ = writeln!(
            table,
            "  {name:<10} us: mean {mean:>9.1}  p50 {:>9.1}  p99 {:>9.1}  p999 {:>9.1}  max {:>9.1}",
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0)
        );
    }
    let errors: u64 = st.err.values().sum();
    kv(&mut js, "verified", st.verified.to_string());
    kv(&mut js, "errors", errors.to_string());
    kv(
        &mut js,
        "error_kinds",
        format!(
            "{{{}}}",
            st.err.iter().map(|(k, v)| format!("{}: {v}", q(k))).collect::<Vec<_>>().join(", ")
        ),
    );
    if let Some(e) = &st.example {
        kv(&mut js, "error_example", q(&e.chars().take(300).collect::<String>()))
    }
    kv(&mut js, "invalidations", st.invalidations.to_string());
    kv(&mut js, "mb_in", format!("{:.2}", st.bytes_in as f64 / 1e6));
    kv(&mut js, "mb_out", format!("{:.2}", st.bytes_out as f64 / 1e6));
    kv(&mut js, "client_cpu_s", format!("{:.2}", c1 - c0));
    kv(&mut js, "client_cpu_frac", format!("{:.3}", (c1 - c0) / wall));
    if pid != 0 {
        let cpu = u1.utime + u1.stime - u0.utime - u0.stime;
        kv(&mut js, "server_cpu_s", format!("{cpu:.2}"));
        kv(&mut js, "server_cpu_frac", format!("{:.3}", cpu / wall));
        kv(&mut js, "server_user_s", format!("{:.2}", u1.utime - u0.utime));
        kv(&mut js, "server_rss_mb", format!("{:.1}", u1.rss_kb as f64 / 1024.));
        kv(&mut js, "server_hwm_mb", format!("{:.1}", u1.hwm_kb as f64 / 1024.));
        kv(&mut js, "server_threads", u1.threads.to_string());
        if ops > 0 {
            kv(
                &mut js,
                "server_us_per_op",
                format!("{:.1}", cpu * 1e6 / ops as f64 * st.window / wall.max(1e-9)),
            )
        }
    }
    let mt = (m1.1 - m0.1).max(1) as f64;
    kv(&mut js, "machine_busy_frac", format!("{:.3}", (m1.0 - m0.0) as f64 / mt));
    kv(&mut js, "machine_steal_frac", format!("{:.4}", (m1.2 - m0.2) as f64 / mt));
    // CPU that neither this program nor the server used (other work on the machine), in cores
    let hz = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
    let mine = c1 - c0 + u1.utime + u1.stime - u0.utime - u0.stime;
    let other = ((m1.0 - m0.0) as f64 / hz - mine).max(0.) / wall;
    kv(&mut js, "other_cpu_cores", format!("{other:.3}"));
    kv(&mut js, "wall_s", format!("{wall:.2}"));
    js.push('}');
    eprintln!(
        "{cmd} conns={} depth={} k={} size={} subs={}: {rate:.1} ops/s{extra}, errors {errors}, verified {}, client cpu {:.0}%, server cpu {:.0}% rss {:.0} MB, others {:.0}%",
        p.conns,
        p.depth,
        p.k,
        p.size,
        p.subs,
        st.verified,
        (c1 - c0) / wall * 100.,
        (u1.utime + u1.stime - u0.utime - u0.stime) / wall * 100.,
        u1.rss_kb as f64 / 1024.,
        other * 100.,
    );
    eprint!("{table}");
    if let Some(e) = &st.example {
        eprintln!("  first error: {}", e.chars().take(300).collect::<String>())
    }
    match o.get("json").map(|x| x.as_str()) {
        Some("-") => println!("{js}"),
        Some(f) => std::fs::write(f, js + "\n").unwrap(),
        None => {}
    }
    std::process::exit(if errors > 0 { 1 } else { 0 })
}
