//! What happened, in order: a hash of everything, and the last lines for people.

use crate::schedule::Micros;
use std::{collections::VecDeque, fmt};

/// The record of one run.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    lines: VecDeque<String>,
    kept: usize,
}

impl Trace {
    /// Keeps the last `kept` lines.
    pub(crate) const fn new(kept: usize) -> Self {
        Self { hash: FNV_OFFSET, lines: VecDeque::new(), kept }
    }

    pub(crate) fn note(&mut self, now: Micros, what: fmt::Arguments<'_>) {
        let line = format!("{:>10}.{:03} ms  {what}", now / 1000, now % 1000);
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
        }
        self.lines.push_back(line);
        if self.lines.len() > self.kept {
            self.lines.pop_front();
        }
    }

    /// Equal for two runs if, and for all purposes only if, everything noted was equal.
    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn last_lines(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;
