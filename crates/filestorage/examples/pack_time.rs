//! Packs a database to now, and tells how long each phase took, and how much memory the process had.
#![allow(clippy::print_stdout)]

use std::{
    error::Error,
    ops::ControlFlow,
    path::Path,
    sync::Arc,
    time::{Instant, SystemTime},
};
use zeolith_disk::RealDisk;
use zeolith_filestorage::{FileStorage, Options};
use zeolith_storage::{PackProgress, Storage};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("say the path of a Data.fs")?;
    let (storage, _) = FileStorage::open(Arc::new(RealDisk), Path::new(&path), Options::default())?;
    let begun = Instant::now();
    let mut last = None;
    let outcome = storage.pack(SystemTime::now().into(), &mut |progress: PackProgress| {
        if last.replace(progress.phase) != Some(progress.phase) {
            println!("{:?} begins at {:?}", progress.phase, begun.elapsed());
        }
        ControlFlow::Continue(())
    })?;
    println!("{outcome:?} in {:?}", begun.elapsed());
    let status = std::fs::read_to_string("/proc/self/status")?;
    let memory = status.lines().filter(|line| line.starts_with("VmHWM") || line.starts_with("RssAnon"));
    memory.for_each(|line| println!("{line}"));
    storage.close()?;
    Ok(())
}
