//! Blobs on their way into the directory: committed ones are there and complete, all others leave nothing.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::{fs, os::unix::fs::PermissionsExt, sync::Arc};
use support::{Site, content, noon, store, store_blob, upload};
use zeolith_blobs::{BlobStorage, Manner, Options};
use zeolith_storage::{Blobs, Found, Patience, Storage, StorageError, Voted, WriteSet};
use zeolith_types::{Oid, Tid};

#[test]
fn a_committed_blob_is_there_as_it_was_uploaded_and_nobody_may_write_it() {
    let site = Site::new();
    let (storage, _) = site.open();
    let blob = upload(&storage, b"content of a blob");
    let tid = site.commit(&storage, vec![store(1, Tid::ZERO, "a blob"), store_blob(1, Tid::ZERO, blob)]);
    assert_eq!(content(&storage, 1, tid).unwrap(), b"content of a blob");
    let path = storage.directory().path_of(Oid::new(1), tid);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o444);
    assert_eq!(site.files(), [format!("0x00/0x00/0x00/0x00/0x00/0x00/0x00/0x01/{tid}.blob")]);
    let Found::Revision(revision) = storage.load_before(Oid::new(1), Tid::MAX, Patience::Now).unwrap().found
    else {
        panic!("no revision");
    };
    assert_eq!((revision.start, revision.data.as_ref()), (tid, &b"a blob"[..]));
}

#[test]
fn an_empty_blob_is_a_blob() {
    let site = Site::new();
    let (storage, _) = site.open();
    let blob = upload(&storage, b"");
    let tid = site.commit(&storage, vec![store_blob(1, Tid::ZERO, blob)]);
    assert_eq!(content(&storage, 1, tid).unwrap(), b"");
}

#[test]
fn a_blob_that_is_not_there_is_an_error_that_names_the_file() {
    let site = Site::new();
    let (storage, _) = site.open();
    let tid = site.commit(&storage, vec![store(1, Tid::ZERO, "a blob without a file")]);
    match content(&storage, 1, tid) {
        Err(StorageError::NoBlobFile { path, oid, tid: of }) => {
            assert_eq!((oid, of), (Oid::new(1), tid));
            assert!(path.is_absolute() && path.ends_with(format!("{tid}.blob")), "{path:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_not_committed_leaves_nothing() {
    let site = Site::new();
    let (storage, _) = site.open();

    let mut half = storage.begin_upload().unwrap();
    half.append(b"half of a blob").unwrap();
    assert_eq!(site.files().len(), 1);
    drop(half);
    assert_eq!(site.files(), [""; 0], "an upload that ended half-way");

    drop(upload(&storage, b"never voted on"));
    assert_eq!(site.files(), [""; 0], "an upload of a transaction that was aborted before its vote");

    let blob = upload(&storage, b"voted on");
    let (id, _) = site.vote(&storage, vec![store_blob(1, Tid::ZERO, blob)]).unwrap();
    assert_eq!(site.files().len(), 1);
    storage.abort(id);
    assert_eq!(site.files(), [""; 0], "a transaction that was aborted after its vote");
    assert!(matches!(storage.finish(&[id], noon()).pop(), Some(Err(_))));

    let mine = upload(&storage, b"mine");
    let refused =
        site.vote(&storage, vec![store_blob(1, Tid::ZERO, mine.clone()), store_blob(2, Tid::ZERO, mine)]);
    assert!(matches!(refused, Err(StorageError::Format(_))), "one upload for two objects");
    assert_eq!(site.files(), [""; 0], "a vote that failed half-way");
    assert_eq!(storage.last_transaction(), Tid::ZERO);
}

#[test]
fn a_blob_outlives_a_conflict_that_the_client_resolves() {
    let site = Site::new();
    let (storage, _) = site.open();
    let first = site.commit(&storage, vec![store_blob(1, Tid::ZERO, upload(&storage, b"first"))]);
    let second = site.commit(&storage, vec![store_blob(1, first, upload(&storage, b"second"))]);

    let mut writes = vec![store(1, first, "a blob"), store_blob(1, first, upload(&storage, b"third"))];
    let (_, voted) = site.vote(&storage, writes.clone()).unwrap();
    assert!(matches!(voted, Voted::Conflicts(conflicts) if conflicts.len() == 1));

    writes.push(store(1, second, "resolved"));
    let (id, voted) = site.vote(&storage, writes).unwrap();
    assert!(matches!(voted, Voted::Ready { .. }), "{voted:?}");
    let third = storage.finish(&[id], noon()).pop().unwrap().unwrap();
    storage.publish(third);
    assert_eq!(content(&storage, 1, third).unwrap(), b"third");
    let Found::Revision(revision) = storage.load_before(Oid::new(1), Tid::MAX, Patience::Now).unwrap().found
    else {
        panic!("no revision");
    };
    assert_eq!(revision.data.as_ref(), b"resolved");
    assert_eq!(site.files().len(), 3);
}

#[test]
fn a_file_in_a_shared_directory_is_taken_over_by_its_name_alone() {
    let site = Site::new();
    let (storage, _) = site.open();
    let oid = Oid::new(1);
    let place = storage.directory().place_of(oid);
    fs::create_dir_all(&place).unwrap();
    fs::write(place.join("0x00abc.tmp-"), b"shared").unwrap();
    let tid = {
        let blob = storage.take_shared(oid, "0x00abc.tmp-").unwrap();
        site.commit(&storage, vec![store_blob(1, Tid::ZERO, blob)])
    };
    assert_eq!(content(&storage, 1, tid).unwrap(), b"shared");
    assert_eq!(site.files().len(), 1);

    fs::write(place.join("b.tmp-"), b"given up").unwrap();
    drop(storage.take_shared(oid, "b.tmp-").unwrap());
    assert_eq!(site.files().len(), 1, "an abort removes what the client has put there");
}

#[test]
fn a_name_can_not_lead_out_of_the_shared_directory() {
    let site = Site::new();
    let (storage, _) = site.open();
    let oid = Oid::new(1);
    let place = storage.directory().place_of(oid);
    fs::create_dir_all(&place).unwrap();
    let secret = site.folder.path().join("secret.tmp-");
    fs::write(&secret, b"secret").unwrap();
    std::os::unix::fs::symlink(&secret, place.join("link.tmp-")).unwrap();
    fs::create_dir(place.join("folder.tmp-")).unwrap();
    let far = "../".repeat(9) + "secret.tmp-";
    for name in
        [far.as_str(), secret.to_str().unwrap(), "link.tmp-", "folder.tmp-", "x.blob", "", "..", "a\0.tmp"]
    {
        let refused = storage.take_shared(oid, name);
        assert!(matches!(refused, Err(StorageError::BadBlobName(_))), "{name}: {refused:?}");
    }
    assert!(matches!(storage.take_shared(oid, "missing.tmp-"), Err(StorageError::Io { .. })));
    assert_eq!(fs::read(&secret).unwrap(), b"secret");
    assert!(place.join("link.tmp-").exists());
}

#[test]
fn a_blob_that_can_not_come_to_its_place_ends_all_writing_and_the_next_start_completes_it() {
    let site = Site::new();
    let (storage, _) = site.open();
    let (first, _) = site.vote(&storage, vec![store(1, Tid::ZERO, "first")]).unwrap();
    let blob = upload(&storage, b"second");
    let (second, _) = site.vote(&storage, vec![store_blob(2, Tid::ZERO, blob)]).unwrap();
    let (third, _) = site.vote(&storage, vec![store(3, Tid::ZERO, "third")]).unwrap();
    let in_the_way = storage.directory().path_of(Oid::new(2), noon().to_tid().later_than(noon().to_tid()));
    fs::create_dir_all(&in_the_way).unwrap();

    let results = storage.finish(&[first, second, third], noon());
    assert!(results[0].is_ok());
    assert!(
        results[1..].iter().all(|result| matches!(result, Err(StorageError::Poisoned(_)))),
        "{results:?}"
    );
    storage.publish(*results[0].as_ref().unwrap());
    assert!(matches!(site.vote(&storage, vec![]), Err(StorageError::Poisoned(_))));
    assert!(matches!(storage.finish(&[third], noon())[..], [Err(StorageError::Poisoned(_))]));

    fs::remove_dir(in_the_way).unwrap();
    site.inner.publish(Tid::MAX);
    let (storage, report) = site.open();
    assert_eq!((report.recovered.completed, report.recovered.removed), (1, 0));
    let tid = storage.current_tid(Oid::new(2), Patience::Wait).unwrap();
    assert_eq!(content(&storage, 2, tid).unwrap(), b"second");
}

#[test]
fn an_upload_of_another_storage_is_refused() {
    struct Foreign;
    let site = Site::new();
    let (storage, _) = site.open();
    let foreign = zeolith_storage::UploadedBlob::new(Foreign, 0);
    let refused = site.vote(&storage, vec![store_blob(1, Tid::ZERO, foreign)]);
    assert!(matches!(refused, Err(StorageError::Format(_))), "{refused:?}");
    let plain = site.inner.vote(
        site.next_id(),
        WriteSet { writes: vec![store_blob(1, Tid::ZERO, upload(&storage, b"x"))], ..WriteSet::default() },
        zeolith_storage::ConflictPolicy::Refuse,
        Patience::Wait,
    );
    assert!(matches!(plain, Err(StorageError::NoBlobs)), "a storage without blobs says so: {plain:?}");
}

#[test]
fn a_storage_gets_one_blob_directory_only() {
    let site = Site::new();
    let (storage, _) = site.open();
    let options = Options { manner: Manner::Wrapper, create: false };
    let second = BlobStorage::open(Arc::new(storage), &site.folder.path().join("second"), options);
    assert!(matches!(second, Err(StorageError::Format(_))));
}
