//! Blobs of both storages: read from the changes or the base, written to the changes.

use super::DemoStorage;
use zeolith_storage::{BlobReader, BlobUpload, Blobs, Patience, Result, StorageError, UploadedBlob};
use zeolith_types::{Oid, Tid};

impl Blobs for DemoStorage {
    fn load_blob(&self, oid: Oid, serial: Tid) -> Result<Box<dyn BlobReader>> {
        match self.changes.blobs()?.load_blob(oid, serial) {
            Err(StorageError::NoBlobFile { .. } | StorageError::NoObject(_)) => {}
            found => return found,
        }
        let serial = self.serial_in_base(oid, serial, Patience::Wait)?;
        match self.base.blobs() {
            Ok(blobs) => blobs.load_blob(oid, serial),
            Err(_) => Err(StorageError::NoObject(oid)),
        }
    }

    fn begin_upload(&self) -> Result<Box<dyn BlobUpload>> {
        self.changes.blobs()?.begin_upload()
    }

    fn take_shared(&self, oid: Oid, name: &str) -> Result<UploadedBlob> {
        self.changes.blobs()?.take_shared(oid, name)
    }
}
