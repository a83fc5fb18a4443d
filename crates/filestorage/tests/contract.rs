//! The file storage keeps the contract.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use zeolith_disk::RealDisk;
use zeolith_filestorage::{FileStorage, Options};
use zeolith_storage::contract::Subject;

fn file_storage() -> Subject {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("Data.fs");
    let (storage, _) = FileStorage::open(Arc::new(RealDisk), &path, Options::default()).unwrap();
    Subject::new(Arc::new(storage), true, folder)
}

zeolith_storage::contract_tests!(file_storage);
