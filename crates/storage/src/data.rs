//! The bytes of a record on their way to a storage: in memory, or put aside until the storage wants them.
//!
//! A transaction that is larger than what the server keeps in memory for one client has its records
//! put aside. Who does that, and where, the storage does not know.

use crate::{Patience, Result, StorageError};
use bytes::Bytes;
use std::{fmt, io, path::Path, sync::Arc};

/// Keeps bytes that were put aside, as long as anybody refers to them.
pub trait Spool: Send + Sync {
    /// Fills `buffer` with what stands at `position`, however long that takes.
    ///
    /// # Errors
    /// What the operating system said.
    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()>;

    /// Where it is, for messages.
    fn place(&self) -> &Path;
}

/// The bytes of a record that a client wants stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordData {
    /// Here.
    Memory(Bytes),
    /// In a spool.
    Spooled(Spooled),
}

/// A record in a spool.
#[derive(Clone)]
pub struct Spooled {
    spool: Arc<dyn Spool>,
    position: u64,
    len: u32,
}

impl RecordData {
    /// How many bytes.
    #[must_use]
    pub const fn len(&self) -> u64 {
        match self {
            Self::Memory(data) => data.len() as u64,
            Self::Spooled(spooled) => spooled.len(),
        }
    }

    /// Whether there is no byte.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes themselves.
    ///
    /// # Errors
    /// `WouldBlock` if they are in a spool and the caller can't wait; `Io` if the spool can't be read.
    pub fn bytes(&self, patience: Patience) -> Result<Bytes> {
        match (self, patience) {
            (Self::Memory(data), _) => Ok(data.clone()),
            (Self::Spooled(_), Patience::Now) => Err(StorageError::WouldBlock),
            (Self::Spooled(spooled), Patience::Wait | Patience::WaitUpTo(_)) => {
                let mut data = vec![0; spooled.len as usize];
                spooled.read(0, &mut data).map_err(|source| StorageError::Io {
                    what: "reading a record that was put aside in",
                    path: spooled.spool.place().to_path_buf(),
                    source,
                })?;
                Ok(data.into())
            }
        }
    }
}

impl Spooled {
    /// The `len` bytes at `position`.
    #[must_use]
    pub const fn new(spool: Arc<dyn Spool>, position: u64, len: u32) -> Self {
        Self { spool, position, len }
    }

    /// How many bytes.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len as u64
    }

    /// Whether there is no byte.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Fills `buffer` from byte `offset` of the record on, waiting for the device if need be.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        assert!(offset + buffer.len() as u64 <= self.len(), "nobody reads beyond the record");
        self.spool.read_exact_at(buffer, self.position + offset)
    }
}

impl fmt::Debug for Spooled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spooled({} bytes at {} in {})", self.len, self.position, self.spool.place().display())
    }
}

impl PartialEq for Spooled {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.spool, &other.spool) && (self.position, self.len) == (other.position, other.len)
    }
}

impl Eq for Spooled {}

impl From<Bytes> for RecordData {
    fn from(data: Bytes) -> Self {
        Self::Memory(data)
    }
}

impl From<Vec<u8>> for RecordData {
    fn from(data: Vec<u8>) -> Self {
        Self::Memory(data.into())
    }
}

impl From<String> for RecordData {
    fn from(data: String) -> Self {
        Self::Memory(data.into())
    }
}

impl From<&'static str> for RecordData {
    fn from(data: &'static str) -> Self {
        Self::Memory(data.into())
    }
}
