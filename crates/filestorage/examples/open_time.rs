//! Opens a database and tells how long it took, and how much memory the process has then.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::{path::Path, sync::Arc};
use zeolith_disk::RealDisk;
use zeolith_filestorage::{FileStorage, Options};

fn main() {
    let path = std::env::args().nth(1).expect("the path of a Data.fs");
    let options = Options { read_only: std::env::args().nth(2).is_none(), ..Options::default() };
    let (storage, report) = FileStorage::open(Arc::new(RealDisk), Path::new(&path), options).unwrap();
    println!("{report:?}");
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let memory = status.lines().filter(|line| line.starts_with("VmHWM") || line.starts_with("VmRSS"));
    memory.for_each(|line| println!("{line}"));
    zeolith_storage::Storage::close(&storage).unwrap();
}
