//! Opens a database and tells how long it took, and how much memory the process has then.
#![allow(clippy::print_stdout)]

use std::{error::Error, path::Path, sync::Arc, time::SystemTime};
use zeolith_disk::RealDisk;
use zeolith_filestorage::{FileStorage, Options};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("say the path of a Data.fs")?;
    let read_only = std::env::args().nth(2).is_none();
    let options = Options { read_only, clock: Some(|| SystemTime::now().into()), ..Options::default() };
    let (storage, report) = FileStorage::open(Arc::new(RealDisk), Path::new(&path), options)?;
    println!("{report:?}");
    let status = std::fs::read_to_string("/proc/self/status")?;
    let memory = status.lines().filter(|line| line.starts_with("VmHWM") || line.starts_with("VmRSS"));
    memory.for_each(|line| println!("{line}"));
    zeolith_storage::Storage::close(&storage)?;
    Ok(())
}
