//! What opening does to the end of a file: what is no transaction is saved elsewhere and cut off, and what is
//! one becomes durable before anybody is told of it.

use crate::{
    file::DataFile,
    report::{Finding, TailTrouble},
    saved::{Stream, with_suffix},
};
use std::{
    io::{self, IoSlice, Read, Write},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};
use zeolith_disk::{Access, Disk};
use zeolith_storage::{Result, StorageError};

/// Cuts off what comes after the last transaction.
pub(crate) fn cut_at(data: &DataFile, from: u64) -> Result<()> {
    let cut = data.file.set_len(from).and_then(|()| data.file.sync_all());
    cut.map_err(|error| data.io("cutting off the end of", error))
}

/// The same, and keeps it if it could matter to anybody.
pub(crate) fn cut_off(
    disk: &dyn Disk,
    data: &DataFile,
    from: u64,
    to: u64,
    why: TailTrouble,
) -> Result<Finding> {
    let saved = match why {
        TailTrouble::ShortHeader => None,
        TailTrouble::Unfinished | TailTrouble::TooLong | TailTrouble::BadHeader | TailTrouble::Torn => {
            Some(save(disk, data, from, to)?)
        }
    };
    cut_at(data, from)?;
    Ok(Finding::CutOff { from, to, saved, why })
}

/// Makes everything durable that the last process left in memory. What it wrote `in_doubt` is written again:
/// after a sync that failed, the system can take bytes for written that are not.
pub(crate) fn make_durable(data: &DataFile, in_doubt: Range<u64>) -> Result<()> {
    let mut buffer = vec![0; COPY_LEN.min(in_doubt.end.saturating_sub(in_doubt.start) as usize)];
    let mut position = in_doubt.start;
    while position < in_doubt.end {
        let len = (in_doubt.end - position).min(buffer.len() as u64) as usize;
        let bytes = &mut buffer[..len];
        let again = data.file.read_exact_at(bytes, position);
        let again = again.and_then(|()| data.file.write_all_at(&mut [IoSlice::new(bytes)], position));
        again.map_err(|error| data.io("writing again the end of", error))?;
        position += len as u64;
    }
    data.file.sync_all().map_err(|error| data.io("syncing", error))
}

/// Copies the end of the file to the first `.trN` that is free.
fn save(disk: &dyn Disk, data: &DataFile, from: u64, to: u64) -> Result<PathBuf> {
    let mut number = 0_u32;
    let (path, file) = loop {
        let path = with_suffix(&data.path, &format!(".tr{number}"));
        match disk.open(&path, Access::CreateNew) {
            Ok(file) => break (path, file),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(source) => return Err(failed(&path, source)),
        }
    };
    let mut input = Stream { file: Arc::clone(&data.file), position: from }.take(to - from);
    let mut output = Stream { file, position: 0 };
    io::copy(&mut input, &mut output)
        .and_then(|_| output.flush())
        .and_then(|()| output.file.sync_all())
        .and_then(|()| disk.sync_directory(path.parent().unwrap_or(Path::new("."))))
        .map_err(|source| failed(&path, source))?;
    Ok(path)
}

fn failed(path: &Path, source: io::Error) -> StorageError {
    StorageError::Io { what: "saving the cut-off end to", path: path.to_path_buf(), source }
}

const COPY_LEN: usize = 1 << 20;
