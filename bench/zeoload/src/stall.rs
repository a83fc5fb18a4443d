//! How long one client's loads stand still while another one commits something large.
//!
//! One thread loads at random, one call at a time, the whole time through. The other uploads a transaction,
//! waits until the server has taken all of it in, and then votes and finishes: what the first one saw between
//! the vote and the reply to the finish is the stall.
use crate::client::Blocking;
use crate::commit;
use crate::options::P;
use crate::payload;
use crate::proto::*;
use crate::stats::{Stats, ns10};
use crate::sys::{Rng, now};
use std::sync::atomic::{AtomicBool, Ordering};

/// Commits `p.k` records of `p.size` bytes. Operations are the loads between vote and finish; `inv_last` is
/// the longest of them, `inv_first` the longest during the upload before.
pub fn stall(p: &P, stats: &mut Stats) {
    let done = AtomicBool::new(false);
    let outcome = std::thread::scope(|scope| {
        let reader = scope.spawn(|| loads(p, &done));
        // Connected before the writer begins, or the first load would wait for the handshake.
        std::thread::sleep(std::time::Duration::from_secs_f64(p.warmup));
        let written = commit(p);
        done.store(true, Ordering::Release);
        let loads = reader.join().unwrap_or_else(|_| Err("the reader panicked".into()));
        loads.and_then(|loads| written.map(|times| (loads, times)))
    });
    match outcome {
        Err(e) => stats.error("stall", || e),
        Ok((loads, times)) => {
            let within = |from: u64, to: u64| {
                loads.iter().filter(move |(a, b)| *b > from && *a < to).map(|(a, b)| ns10(*a, *b))
            };
            stats.verified += loads.len() as u64;
            stats.lat = within(times.vote, times.done).collect();
            stats.inv_last = within(times.vote, times.done).max().into_iter().collect();
            stats.inv_first = within(times.begin, times.vote).max().into_iter().collect();
            stats.vote.push(ns10(times.vote, times.voted));
            stats.finish.push(ns10(times.voted, times.done));
            stats.window = (times.done - times.vote) as f64 / 1e9;
        }
    }
}

/// Begin and end of every load.
fn loads(p: &P, done: &AtomicBool) -> Result<Vec<(u64, u64)>, String> {
    let mut connection = Blocking::open(&p.addr, &p.storage, p.enc)?;
    let mut random = Rng(p.seed ^ now());
    let (mut times, mut scratch) = (vec![], vec![]);
    while !done.load(Ordering::Acquire) {
        let oid = 1 + random.below(p.objects);
        let from = now();
        connection.load_before(oid, u64::MAX >> 1, |reply| match reply {
            Val::Seq(parts) if parts.len() == 3 => match &parts[0] {
                Val::Bytes(data) if payload::verify(data, oid, &mut scratch).is_some() => Ok(()),
                other => Err(format!("wrong bytes: {other:?}")),
            },
            other => Err(format!("no data: {other:?}")),
        })?;
        times.push((from, now()));
    }
    Ok(times)
}

struct Times {
    begin: u64,
    vote: u64,
    voted: u64,
    done: u64,
}

fn commit(p: &P) -> Result<Times, String> {
    let mut connection = Blocking::open(&p.addr, &p.storage, p.enc)?;
    let encoding = connection.enc;
    let tx = 0x7f00_7777_0000i64;
    let (mut out, mut record) = (vec![], vec![]);
    commit::begin(&mut out, encoding, tx, b"large");
    for oid in p.oid_base..p.oid_base + p.k as u64 {
        payload::record(&mut record, oid, 1, p.size);
        commit::store(&mut out, encoding, tx, oid, 0, &record);
    }
    // Answered after everything before it has been taken in.
    msg(&mut out, encoding, |w| {
        w.int(100);
        w.bool(false);
        w.str("lastTransaction");
        w.tuple(0);
        w.end_tuple(0)
    });
    let begin = now();
    connection.send(&out)?;
    connection.reply(100, |_| Ok(()))?;
    let mut step = |id: i64, name: &str| {
        let mut out = vec![];
        commit::call(&mut out, encoding, id, name, tx);
        let at = now();
        connection.send(&out)?;
        connection.reply(id, |_| Ok(at))
    };
    let vote = step(101, "vote")?;
    let voted = step(102, "tpc_finish")?;
    Ok(Times { begin, vote, voted, done: now() })
}
