//! Loads the saved index and checks it against the file before it is trusted; saves it.

use crate::{
    file::DataFile,
    format::{self, FIRST_TRANSACTION},
    index::Index,
    saved_index::{self, Unreadable},
    window::Window,
};
use std::{
    io::{self, BufReader, BufWriter, IoSlice, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};
use zeolith_disk::{Access, Disk, DiskFile};
use zeolith_storage::{Patience, Result, StorageError};
use zeolith_types::{Oid, Tid};

/// An index from disk that agrees with the file.
pub(crate) struct Trusted {
    pub(crate) index: Index,
    /// Up to where it is true.
    pub(crate) end: u64,
    /// The tid of the transaction that ends there.
    pub(crate) last_tid: Tid,
}

/// The saved index, `None` if there is none, or why it can't be used.
pub(crate) fn load(
    disk: &dyn Disk,
    path: &Path,
    data: &DataFile,
    file_size: u64,
) -> std::result::Result<Option<Trusted>, String> {
    let file = match disk.open(path, Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mut input = BufReader::with_capacity(BUFFER_SIZE, Stream { file, position: 0 });
    let (index, end) = saved_index::read(&mut input).map_err(|Unreadable(why)| why)?;
    let last_tid = check(&index, end, data, file_size)?;
    check_tids(end, last_tid, data).map_err(|error| error.to_string())??;
    Ok(Some(Trusted { index, end, last_tid }))
}

/// Looks at the last records before `end`; the tid of the last transaction if all are where they should be.
fn check(index: &Index, end: u64, data: &DataFile, file_size: u64) -> std::result::Result<Tid, String> {
    if end < COVERED_MIN {
        return Err(format!("it covers only {end} bytes"));
    }
    if end > file_size {
        return Err(format!("it covers {end} bytes, the file has only {file_size}"));
    }
    let mut window = Window::new(data, CHECK_WINDOW_SIZE);
    let (mut position, mut last_tid) = (end, None);
    // The last transaction that wrote anything; objects of older ones may have moved on.
    while position != FIRST_TRANSACTION {
        let after = position;
        position = data.transaction_before(after, Patience::Wait).map_err(|error| error.to_string())?;
        let header = data.transaction(position, end, Patience::Wait).map_err(|error| error.to_string())?;
        if position + header.len + format::NUMBER_LEN as u64 != after {
            return Err(format!("the lengths of the transaction at {position} differ"));
        }
        last_tid.get_or_insert(header.tid);
        match header.status {
            format::STATUS_UNDONE => continue,
            format::STATUS_COMMITTED | format::STATUS_PACKED => {}
            status => return Err(format!("the transaction at {position} has status {status:#04x}")),
        }
        let transaction_end = position + header.len;
        let records = position + header.header_len()..transaction_end;
        if check_records(index, position, records, &mut window)? > 0 {
            break;
        }
    }
    last_tid.ok_or_else(|| "there is no transaction before its end".into())
}

/// Looks whether tids fall near `end`. An index does not tell the largest, and Python's may have been saved there.
fn check_tids(end: u64, last_tid: Tid, data: &DataFile) -> Result<std::result::Result<(), String>> {
    let mut position = end;
    for _ in 0..TRANSACTIONS_COMPARED {
        if position <= FIRST_TRANSACTION {
            break;
        }
        position = data.transaction_before(position, Patience::Wait)?;
        let tid = data.transaction(position, end, Patience::Wait)?.tid;
        if tid > last_tid {
            return Ok(Err(format!("the transaction at {position} has {tid}, the last one only {last_tid}")));
        }
    }
    Ok(Ok(()))
}

/// Compares the first records of a transaction with the index, and tells how many.
fn check_records(
    index: &Index,
    transaction: u64,
    records: std::ops::Range<u64>,
    window: &mut Window<'_>,
) -> std::result::Result<u64, String> {
    let (mut at, mut checked) = (records.start, 0);
    while at < records.end && checked < RECORDS_CHECKED {
        let header = window.record_header(at).map_err(|error| error.to_string())?;
        let fits = header
            .filter(|header| header.record_len() <= records.end - at && header.transaction == transaction);
        let Some(header) = fits else {
            return Err(format!("there is no data record at {at}"));
        };
        // An object that is stored twice in the transaction is indexed at its last record.
        let indexed = index.get(header.oid).unwrap_or(0);
        let mut is_later_record = || -> Result<bool> {
            let there = window.record_header(indexed)?;
            Ok(indexed > at
                && there.is_some_and(|there| (there.oid, there.transaction) == (header.oid, transaction)))
        };
        if indexed != at && !is_later_record().map_err(|error| error.to_string())? {
            return Err(format!("{} is at {at}, the index says {indexed}", header.oid));
        }
        checked += 1;
        at += header.record_len();
    }
    Ok(checked)
}

/// Writes an index beside `path` and puts it in its place.
pub(crate) fn save(
    disk: &dyn Disk,
    path: &Path,
    end: u64,
    entries: impl Iterator<Item = io::Result<(Oid, u64)>>,
) -> Result<()> {
    let beside = with_suffix(path, ".index_tmp");
    let failed = |source| StorageError::Io { what: "saving the index to", path: beside.clone(), source };
    let file = disk.open(&beside, Access::Truncate).map_err(failed)?;
    let mut output = BufWriter::with_capacity(BUFFER_SIZE, Stream { file: file.clone(), position: 0 });
    saved_index::write(&mut output, end, entries).and_then(|()| output.flush()).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    disk.rename(&beside, path).map_err(failed)?;
    disk.sync_directory(path.parent().unwrap_or(Path::new("."))).map_err(failed)
}

/// `path` with something added to its last part.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A file read or written from its beginning on.
pub(crate) struct Stream {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) position: u64,
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.file.read_at(buffer, self.position)?;
        self.position += len as u64;
        Ok(len)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.file.write_at(&[IoSlice::new(bytes)], self.position)?;
        self.position += len as u64;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Below this a scan is as quick, and Python does not trust it either.
const COVERED_MIN: u64 = 100;
/// So many transactions before the end are compared with the last.
const TRANSACTIONS_COMPARED: usize = 16;
/// So many records at most are compared with the index before it is trusted.
const RECORDS_CHECKED: u64 = 5;
const BUFFER_SIZE: usize = 64 << 10;
const CHECK_WINDOW_SIZE: usize = 4 << 10;
