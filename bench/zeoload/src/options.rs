//! What a workload is asked to do.
use crate::proto::Encoding;

/// Which workload of the event loop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Read,
    Commit,
    Mixed,
    Fanout,
}

/// The options of a run, as on the command line.
#[derive(Clone, Debug)]
pub struct P {
    pub addr: String,
    pub storage: String,
    pub enc: Option<Encoding>,
    pub conns: usize,
    pub depth: usize,
    pub objects: u64,
    pub size: usize,
    pub k: usize,
    pub slots: usize,
    pub warmup: f64,
    pub duration: f64,
    pub max_ops: u64,
    pub read_frac: f64,
    pub contend: bool,
    pub int_ids: bool,
    pub subs: usize,
    pub oid_base: u64,
    pub seed: u64,
    pub threads: usize,
}
