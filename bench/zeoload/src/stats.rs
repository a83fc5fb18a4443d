//! What a workload measured and found wrong.
use std::collections::BTreeMap;

/// Latencies in tenths of a microsecond, and everything that was not as it should be.
#[derive(Default)]
pub struct Stats {
    pub lat: Vec<u32>,  // 0.1 microseconds
    pub lat2: Vec<u32>, // mixed: commits
    pub vote: Vec<u32>,
    pub finish: Vec<u32>,
    pub inv_first: Vec<u32>,
    pub inv_med: Vec<u32>,
    pub inv_last: Vec<u32>,
    pub conflicts: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub invalidations: u64,
    pub err: BTreeMap<&'static str, u64>,
    pub example: Option<String>,
    pub tids: Vec<u64>,
    pub samples: Vec<(u64, u64, u64)>,
    pub verified: u64,
    pub window: f64,
}

impl Stats {
    pub fn error(&mut self, what: &'static str, ex: impl FnOnce() -> String) {
        *self.err.entry(what).or_default() += 1;
        if self.example.is_none() {
            self.example = Some(format!("{what}: {}", ex()))
        }
    }
    pub fn merge(&mut self, o: Stats) {
        self.lat.extend(o.lat);
        self.lat2.extend(o.lat2);
        self.vote.extend(o.vote);
        self.finish.extend(o.finish);
        self.inv_first.extend(o.inv_first);
        self.inv_med.extend(o.inv_med);
        self.inv_last.extend(o.inv_last);
        self.conflicts += o.conflicts;
        self.bytes_in += o.bytes_in;
        self.bytes_out += o.bytes_out;
        self.invalidations += o.invalidations;
        for (k, v) in o.err {
            *self.err.entry(k).or_default() += v
        }
        if self.example.is_none() {
            self.example = o.example
        }
        self.tids.extend(o.tids);
        self.samples.extend(o.samples);
        self.verified += o.verified;
        self.window = self.window.max(o.window);
    }
}

/// From `a` to `b`, both in nanoseconds, in tenths of a microsecond.
pub fn ns10(a: u64, b: u64) -> u32 {
    (b.saturating_sub(a) / 100).min(u32::MAX as u64) as u32
}
