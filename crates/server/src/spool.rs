//! Where records wait that are too many for memory: a temporary file without a name.
//!
//! The file is gone with the last record that refers to it, and with the process, however that ends.

use bytes::Bytes;
use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};
use zeolith_storage::{RecordData, Spool, Spooled, StorageError};

/// The records that one connection has put aside.
#[derive(Default)]
pub(crate) struct PutAside {
    /// Still there as long as the transaction is, whose next records then go to the same file.
    current: Weak<SpoolFile>,
}

/// A temporary file without a name.
struct SpoolFile {
    file: File,
    directory: PathBuf,
    end: Mutex<u64>,
}

impl PutAside {
    /// Writes records into the temporary file; they are in memory no more when the caller drops them.
    ///
    /// # Errors
    /// `Io` if the directory has no space, or is not there.
    pub(crate) fn put(
        &mut self,
        records: &[Bytes],
        directory: &Path,
    ) -> Result<Vec<RecordData>, StorageError> {
        let failed = |source| StorageError::Io {
            what: "putting records aside in",
            path: directory.to_path_buf(),
            source,
        };
        let spool = match self.current.upgrade() {
            Some(spool) => spool,
            None => Arc::new(SpoolFile::new(directory).map_err(failed)?),
        };
        self.current = Arc::downgrade(&spool);
        spool.append(records).map_err(failed)
    }
}

impl SpoolFile {
    fn new(directory: &Path) -> io::Result<Self> {
        let file = tempfile::tempfile_in(directory)?;
        Ok(Self { file, directory: directory.to_path_buf(), end: Mutex::new(0) })
    }

    fn append(self: Arc<Self>, records: &[Bytes]) -> io::Result<Vec<RecordData>> {
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        // What a failed write left behind is written over, so the file's own position does not count.
        let mut writer = io::BufWriter::with_capacity(BUFFER, At { file: &self.file, position: *end });
        let mut kept = Vec::with_capacity(records.len());
        for record in records {
            writer.write_all(record)?;
            let len = u32::try_from(record.len()).map_err(io::Error::other)?;
            kept.push(RecordData::Spooled(Spooled::new(Arc::clone(&self) as Arc<dyn Spool>, *end, len)));
            *end += u64::from(len);
        }
        writer.flush()?;
        Ok(kept)
    }
}

impl Spool for SpoolFile {
    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, position)
    }

    fn place(&self) -> &Path {
        &self.directory
    }
}

/// Writes to a file from a position on.
struct At<'a> {
    file: &'a File,
    position: u64,
}

impl Write for At<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write_at(bytes, self.position)?;
        self.position += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Small records are written together.
const BUFFER: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use zeolith_storage::Patience;

    fn record(byte: u8, len: usize) -> Bytes {
        vec![byte; len].into()
    }

    #[test]
    fn what_is_put_aside_is_read_back_and_leaves_no_file() {
        let directory = tempfile::tempdir().unwrap();
        let mut aside = PutAside::default();
        let records = [record(1, 10), record(2, 1 << 20), record(3, 1)];
        let mut kept = aside.put(&records, directory.path()).unwrap();
        kept.extend(aside.put(&[record(4, 7)], directory.path()).unwrap());
        for (kept, record) in kept.iter().zip(records.iter().chain([&record(4, 7)])) {
            assert_eq!(&kept.bytes(Patience::Wait).unwrap(), record);
            assert!(matches!(kept.bytes(Patience::Now), Err(StorageError::WouldBlock)));
        }
        assert_eq!(directory.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn the_next_transaction_has_a_file_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let mut aside = PutAside::default();
        let first = aside.put(&[record(1, 10)], directory.path()).unwrap();
        assert!(aside.current.upgrade().is_some());
        drop(first);
        assert!(aside.current.upgrade().is_none());
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let failed = PutAside::default().put(&[record(1, 1)], Path::new("/nowhere/at all")).unwrap_err();
        assert!(failed.to_string().starts_with("putting records aside in /nowhere/at all: "), "{failed}");
    }
}
