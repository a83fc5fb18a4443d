//! What a storage that keeps blobs can do besides: take uploads, and give blobs out piece by piece.
//!
//! A blob's bytes never stand in memory as a whole. An upload becomes an [`UploadedBlob`], which a
//! transaction names in a [`Write::StoreBlob`](crate::Write::StoreBlob); whoever holds the last
//! handle of one that no transaction has kept lets it go, and nothing of it stays behind.

use crate::Result;
use std::{any::Any, fmt, sync::Arc};
use zeolith_types::{Oid, Tid};

/// The blobs of a storage. Every method may wait for a device, so none is called on a thread that serves
/// connections.
///
/// # Errors
/// Every method that can fail says why by [`StorageError`](crate::StorageError).
pub trait Blobs: Send + Sync {
    /// Opens the blob that transaction `serial` wrote for `oid`; `NoBlobFile` if there is none.
    fn load_blob(&self, oid: Oid, serial: Tid) -> Result<Box<dyn BlobReader>>;

    /// Begins an upload.
    fn begin_upload(&self) -> Result<Box<dyn BlobUpload>>;

    /// Takes over a file that a client has put into the blob directory that it shares with the server: the one
    /// called `name`, which comes from the client, in the place for the blobs of `oid`.
    fn take_shared(&self, oid: Oid, name: &str) -> Result<UploadedBlob>;
}

/// Reads a blob from its beginning to its end.
pub trait BlobReader: Send {
    /// The next bytes; 0 at the end.
    ///
    /// # Errors
    /// What the device said.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize>;
}

/// An upload that is under way. Dropping it leaves nothing behind.
pub trait BlobUpload: Send {
    /// Adds bytes at the end.
    ///
    /// # Errors
    /// What the device said; the upload is of no use any more.
    fn append(&mut self, bytes: &[u8]) -> Result<()>;

    /// Ends the upload: its bytes are durable.
    ///
    /// # Errors
    /// What the device said; the upload is gone.
    fn finish(self: Box<Self>) -> Result<UploadedBlob>;
}

/// The whole content of a blob, durable, on its way into a transaction. Only the storage that took the upload
/// knows what is in it; a storage that wraps another one hands it on.
#[derive(Clone)]
pub struct UploadedBlob {
    content: Arc<dyn Any + Send + Sync>,
    size: u64,
}

impl UploadedBlob {
    /// Wraps what a storage needs to find the content of `size` bytes again. Its `Drop` cleans up.
    pub fn new(content: impl Any + Send + Sync, size: u64) -> Self {
        Self { content: Arc::new(content), size }
    }

    /// How many bytes the blob has.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// What the storage had wrapped, if it is of this type.
    #[must_use]
    pub fn content<T: Any>(&self) -> Option<&T> {
        self.content.downcast_ref()
    }
}

impl fmt::Debug for UploadedBlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UploadedBlob").finish_non_exhaustive()
    }
}

/// Two handles are equal if they are of the same upload.
impl PartialEq for UploadedBlob {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.content, &other.content)
    }
}

impl Eq for UploadedBlob {}
