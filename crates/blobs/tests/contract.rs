//! A storage with a blob directory around it keeps the contract of storages.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use zeolith_blobs::{BlobStorage, Manner, Options};
use zeolith_storage::{contract::Subject, memory::MemoryStorage};

fn blob_storage() -> Subject {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { manner: Manner::Wrapper, create: false };
    let inner = Arc::new(MemoryStorage::new("inner"));
    let (storage, _) = BlobStorage::open(inner, &folder.path().join("blobs"), options).unwrap();
    Subject::new(Arc::new(storage), false, folder)
}

zeolith_storage::contract_tests!(blob_storage);
