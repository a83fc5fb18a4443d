//! What a server that was killed has left is brought to an end at the next start, and nothing else is touched.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::fs;
use support::{Site, content, noon, store, store_blob, upload};
use zeolith_blobs::Recovered;
use zeolith_storage::Storage;
use zeolith_types::Tid;

#[test]
fn an_upload_that_was_under_way_is_removed() {
    let site = Site::new();
    let (storage, _) = site.open();
    std::mem::forget(upload(&storage, b"cut short"));
    assert_eq!(site.files().len(), 1);
    let (_, report) = site.open();
    assert_eq!(report.recovered, Recovered { removed: 1, completed: 0 });
    assert_eq!(site.files(), [""; 0]);
}

#[test]
fn a_blob_that_was_voted_on_but_never_finished_is_removed() {
    let site = Site::new();
    let (storage, _) = site.open();
    let first = site.commit(&storage, vec![store_blob(1, Tid::ZERO, upload(&storage, b"first"))]);
    site.vote(&storage, vec![store_blob(1, first, upload(&storage, b"second"))]).unwrap();
    site.vote(&storage, vec![store_blob(2, Tid::ZERO, upload(&storage, b"new"))]).unwrap();
    let plain = site.commit(&storage, vec![store(3, Tid::ZERO, "a record without a blob")]);
    site.vote(&storage, vec![store_blob(3, plain, upload(&storage, b"its first"))]).unwrap();
    assert_eq!(site.files().len(), 4);
    let (storage, report) = site.open();
    assert_eq!(report.recovered, Recovered { removed: 3, completed: 0 });
    assert_eq!(content(&storage, 1, first).unwrap(), b"first");
    assert_eq!(site.files().len(), 1);
}

#[test]
fn a_blob_of_a_transaction_that_was_finished_comes_to_its_place() {
    let site = Site::new();
    let (storage, _) = site.open();
    let first = site.commit(&storage, vec![store_blob(1, Tid::ZERO, upload(&storage, b"first"))]);
    let blobs = [(1, first, "second"), (2, Tid::ZERO, "new")];
    let writes = blobs.map(|(oid, serial, text)| store_blob(oid, serial, upload(&storage, text.as_bytes())));
    let (id, _) = site.vote(&storage, writes.to_vec()).unwrap();
    drop(writes);
    // The server dies after the records are durable and before the files are moved.
    let second = site.inner.finish(&[id], noon()).pop().unwrap().unwrap();
    site.inner.publish(second);
    drop(storage);

    let (storage, report) = site.open();
    assert_eq!(report.recovered, Recovered { removed: 0, completed: 2 });
    assert_eq!(content(&storage, 1, first).unwrap(), b"first");
    assert_eq!(content(&storage, 1, second).unwrap(), b"second");
    assert_eq!(content(&storage, 2, second).unwrap(), b"new");
    assert_eq!(site.files().len(), 3);
    assert_eq!(site.open().1.recovered, Recovered::default(), "once");
}

#[test]
fn a_file_left_over_beside_a_blob_that_is_there_does_not_replace_it() {
    let site = Site::new();
    let (storage, _) = site.open();
    let voted = site.vote(&storage, vec![store_blob(1, Tid::ZERO, upload(&storage, b"left over"))]);
    assert!(voted.is_ok());
    let name = site.files().pop().unwrap();
    let (kept, path) = (site.folder.path().join("kept"), site.directory().join(name));
    fs::rename(&path, &kept).unwrap();
    let tid = site.commit(&storage, vec![store_blob(1, Tid::ZERO, upload(&storage, b"committed"))]);
    fs::rename(&kept, &path).unwrap();
    let (storage, report) = site.open();
    assert_eq!(report.recovered, Recovered { removed: 1, completed: 0 });
    assert_eq!(content(&storage, 1, tid).unwrap(), b"committed");
}

#[test]
fn files_of_clients_that_share_the_directory_stay() {
    let site = Site::new();
    let (storage, _) = site.open();
    site.commit(&storage, vec![store(1, Tid::ZERO, "one")]);
    let temporary = site.directory().join("tmp");
    fs::create_dir(temporary.join("savepoints1")).unwrap();
    let names = ["BUCabc", "savepoints1/0x01-0x02.spb", "tmpabc", "CTFTabc.tmp", "zeolith-voted-x"];
    names.iter().for_each(|name| fs::write(temporary.join(name), b"in use").unwrap());
    let (_, report) = site.open();
    assert_eq!(report.recovered, Recovered::default());
    assert_eq!(site.files().len(), names.len());
}
