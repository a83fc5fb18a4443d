//! The power fails after every change of a blob directory, and takes with it any of what was not synced: each
//! blob of a durable transaction is there, whole, when the storage is opened again, and what a pack has dropped is
//! where it is kept.
#![allow(clippy::unwrap_used, clippy::panic)]

mod disk;

use crate::{BlobStorage, Layout, Manner, Options};
use bytes::Bytes;
use disk::{SimulatedDisk, count};
use std::{
    collections::BTreeMap, fs, ops::ControlFlow, os::unix::fs::MetadataExt as _, path::Path, sync::Arc,
    time::Duration,
};
use zeolith_storage::{
    Blobs as _, ConflictPolicy, PackOutcome, Patience, Storage, TransactionId, Undone, UploadedBlob, Write,
    WriteSet, memory::MemoryStorage,
};
use zeolith_types::{Oid, Tid, Timestamp};

pub(crate) use disk::{Change, note, take};

/// What the records' storage has done, which is durable at once.
#[derive(Clone, Copy, Debug)]
enum Step {
    Commit(Commit),
    Pack(Timestamp),
}

#[derive(Clone, Copy, Debug)]
struct Commit {
    oid: Oid,
    serial: Tid,
    tid: Tid,
    content: &'static [u8],
}

/// A story, and after how many changes of the directory each step of the records' storage came.
struct Story {
    folder: tempfile::TempDir,
    manner: Manner,
    inner: Arc<MemoryStorage>,
    steps: Vec<(usize, Step)>,
    ids: u64,
}

impl Story {
    fn begin(manner: Manner) -> (Self, BlobStorage) {
        take();
        let inner = Arc::new(MemoryStorage::new("test"));
        let folder = tempfile::tempdir().unwrap();
        note(Change::MakeDirectory(folder.path().into()));
        let story = Self { folder, manner, inner, steps: Vec::new(), ids: 0 };
        let (storage, _) = story.open(story.folder.path(), &story.inner);
        (story, storage)
    }

    fn open(&self, folder: &Path, inner: &Arc<MemoryStorage>) -> (BlobStorage, Layout) {
        let options = Options { manner: self.manner, create: false };
        let opened = BlobStorage::open(Arc::clone(inner) as Arc<dyn Storage>, &folder.join("blobs"), options);
        let (storage, report) = opened.unwrap();
        (storage, report.directory.layout)
    }

    fn next_id(&mut self) -> TransactionId {
        self.ids += 1;
        TransactionId(self.ids)
    }

    fn commit(
        &mut self,
        storage: &BlobStorage,
        oid: u64,
        serial: Tid,
        blob: UploadedBlob,
        content: &'static [u8],
    ) -> Tid {
        let (id, oid) = (self.next_id(), Oid::new(oid));
        vote(storage, id, Write::StoreBlob { oid, serial, data: DATA.into(), blob });
        self.finish(storage, id, oid, serial, content)
    }

    /// The same with an upload.
    fn upload(&mut self, storage: &BlobStorage, oid: u64, serial: Tid, content: &'static [u8]) -> Tid {
        self.commit(storage, oid, serial, upload(storage, content), content)
    }

    /// Gives an object the blob again that transaction `back_to` gave it. The records' storage here has no undo: it
    /// is told what it would do.
    fn undo(&mut self, storage: &BlobStorage, oid: u64, last: Tid, back_to: (Tid, &'static [u8])) -> Tid {
        let (id, oid) = (self.next_id(), Oid::new(oid));
        vote(&*self.inner, id, Write::Store { oid, serial: last, data: DATA.into() });
        let undone = Undone { oid, tid: last, back_to: Some(back_to.0) };
        storage.hold_files(id, BTreeMap::new(), &[undone]).unwrap();
        self.finish(storage, id, oid, last, back_to.1)
    }

    fn finish(
        &mut self,
        storage: &BlobStorage,
        id: TransactionId,
        oid: Oid,
        serial: Tid,
        content: &'static [u8],
    ) -> Tid {
        // The records are durable before the next change of the directory.
        let before = count();
        let tid = finish(storage, id);
        self.steps.push((before, Step::Commit(Commit { oid, serial, tid, content })));
        tid
    }

    fn pack(&mut self, storage: &BlobStorage, time: Timestamp) {
        // The records are packed after the marker has been made.
        let before = count() + 2;
        pack(storage, time);
        self.steps.push((before, Step::Pack(time)));
    }

    /// The records' storage after so many of its steps.
    fn storage_after(&self, steps: usize) -> Arc<MemoryStorage> {
        let storage = MemoryStorage::new("test");
        for (number, (_, step)) in self.steps[..steps].iter().enumerate() {
            match step {
                Step::Commit(Commit { oid, serial, tid, .. }) => {
                    let id = TransactionId(number as u64);
                    vote(&storage, id, Write::Store { oid: *oid, serial: *serial, data: DATA.into() });
                    assert_eq!(finish(&storage, id), *tid);
                }
                Step::Pack(time) => pack(&storage, *time),
            }
        }
        Arc::new(storage)
    }

    /// The power fails at all moments, and takes this and that with it.
    fn fail_power_everywhere(&self) {
        let changes = take();
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        for after in 1..=changes.len() {
            let certain = self.steps.iter().filter(|(before, _)| *before < after).count();
            let possible = self.steps.iter().filter(|(before, _)| *before <= after).count();
            for steps in certain..=possible {
                for chance in [0, 2, 2, 2, 2, 4] {
                    self.fail_power(&changes[..after], steps, &mut || {
                        random ^= random << 13;
                        random ^= random >> 7;
                        random ^= random << 17;
                        random >> 62 < chance
                    });
                }
            }
        }
    }

    /// The power fails after so many changes, and the records' storage has come so far.
    fn fail_power(&self, changes: &[Change], steps: usize, survives: &mut dyn FnMut() -> bool) {
        let folder = tempfile::tempdir().unwrap();
        SimulatedDisk::after(changes).leave(self.folder.path(), folder.path(), survives);
        let what = format!("after {:?} and {steps} steps", changes.last());
        let marker = folder.path().join("blobs/.zeolith-pack");
        let begun = folder.path().join("blobs.old/.zeolith-pack");
        let left_by_pack = match (fs::metadata(&marker), fs::metadata(&begun)) {
            (Ok(marker), Ok(begun)) if marker.ino() == begun.ino() => Kept::All,
            (Ok(_), _) => Kept::Dropped,
            (Err(_), _) => Kept::Somewhere,
        };
        let inner = self.storage_after(steps);
        let (storage, layout) = self.open(folder.path(), &inner);
        assert_eq!(layout, Layout::Bushy, "{what}");
        let left = fs::read_dir(folder.path().join("blobs/tmp")).unwrap().count();
        assert_eq!(left, 0, "{what}");

        let is_pack = |(_, step): &(usize, Step)| matches!(step, Step::Pack(_));
        let last_pack = self.steps[..steps].iter().rposition(is_pack);
        let before_pack = last_pack.map_or_else(|| Arc::clone(&inner), |step| self.storage_after(step));
        let commits = Commits { of: &self.steps[..steps], storage: &storage, inner: &inner, what };
        commits.are_there();
        commits.are_kept(&before_pack, Kept::Somewhere);

        // The next pack brings to an end what was cut short.
        let Some((_, Step::Pack(time))) = last_pack.map(|step| self.steps[step]) else { return };
        storage.pack(time, &mut |_| ControlFlow::Continue(())).unwrap();
        commits.are_there();
        commits.are_kept(&before_pack, left_by_pack);
        assert!(left_by_pack == Kept::Somewhere || !marker.exists(), "{}", commits.what);
        assert!(left_by_pack != Kept::All || !begun.exists(), "{}", commits.what);
    }
}

/// Where the blobs from before a pack are, if old ones are kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// Each is in its place or with the old ones.
    Somewhere,
    /// Those that the pack has dropped are with the old ones, and nowhere else.
    Dropped,
    /// The same, and those that stay have a second name there.
    All,
}

/// The transactions of a story, and a storage that has been opened after a power failure.
struct Commits<'a> {
    of: &'a [(usize, Step)],
    storage: &'a BlobStorage,
    inner: &'a MemoryStorage,
    what: String,
}

impl Commits<'_> {
    fn each(&self) -> impl Iterator<Item = Commit> {
        self.of.iter().filter_map(|(_, step)| match step {
            Step::Commit(commit) => Some(*commit),
            Step::Pack(_) => None,
        })
    }

    fn are_there(&self) {
        for commit in self.each().filter(|commit| has(self.inner, commit)) {
            let mut found = vec![0; commit.content.len() + 1];
            let reader = self.storage.load_blob(commit.oid, commit.tid);
            let len =
                reader.unwrap_or_else(|error| panic!("{}: {error}", self.what)).read(&mut found).unwrap();
            assert_eq!(&found[..len], commit.content, "{}", self.what);
        }
    }

    fn are_kept(&self, before_pack: &MemoryStorage, kept: Kept) {
        let directory = self.storage.directory();
        let keeps = self.storage.manner == Manner::FileStorage { keep_old: true };
        for commit in self.each().filter(|commit| has(before_pack, commit)) {
            let path = directory.path_of(commit.oid, commit.tid);
            let inside = path.strip_prefix(directory.path()).unwrap();
            let old = directory.path().with_extension("old").join(inside);
            let found = [&path, &old].map(|path| fs::read(path).ok());
            let whole = Some(commit.content.to_vec());
            if keeps {
                assert!(found.contains(&whole), "{}: {path:?} is lost: {found:?}", self.what);
            }
            let stays = has(self.inner, &commit);
            if stays && kept == Kept::All {
                assert_eq!(found[1], whole, "{}: {path:?}", self.what);
            } else if !stays && kept != Kept::Somewhere {
                assert_eq!(found, [None, whole.filter(|_| keeps)], "{}: {path:?}", self.what);
            }
        }
    }
}

fn has(storage: &MemoryStorage, commit: &Commit) -> bool {
    storage.has_record(commit.oid, commit.tid, Patience::Wait).unwrap()
}

fn vote(storage: &dyn Storage, id: TransactionId, write: Write) {
    let writes = WriteSet { writes: vec![write], ..WriteSet::default() };
    storage.vote(id, writes, ConflictPolicy::Refuse, Patience::Wait).unwrap();
}

fn finish(storage: &dyn Storage, id: TransactionId) -> Tid {
    let tid = storage.finish(&[id], at(0)).pop().unwrap().unwrap();
    storage.publish(tid);
    tid
}

fn pack(storage: &dyn Storage, time: Timestamp) {
    let outcome = storage.pack(time, &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(matches!(outcome, PackOutcome::Packed { .. }));
}

fn upload(storage: &BlobStorage, content: &[u8]) -> UploadedBlob {
    let mut upload = storage.begin_upload().unwrap();
    content.chunks(4).for_each(|piece| upload.append(piece).unwrap());
    upload.finish().unwrap()
}

/// What a client does that shares the directory: it syncs nothing.
fn put_beside(storage: &BlobStorage, oid: u64, name: &str, content: &[u8]) -> UploadedBlob {
    let place = storage.directory().place_of(Oid::new(oid));
    let missing: Vec<&Path> = place.ancestors().take_while(|path| !path.exists()).collect();
    missing.into_iter().rev().for_each(|path| crate::files::make_directory(path).unwrap());
    let path = place.join(name);
    crate::files::append(&crate::files::create(&path).unwrap(), &path, content).unwrap();
    storage.take_shared(Oid::new(oid), name).unwrap()
}

/// So many seconds after noon.
fn at(seconds: u64) -> Timestamp {
    Timestamp::from_epoch(Duration::from_secs(1_776_083_670 + seconds))
}

#[test]
fn a_power_failure_at_any_moment_takes_no_blob_of_a_durable_transaction() {
    let (mut story, storage) = Story::begin(Manner::Wrapper);
    let first = story.upload(&storage, 1, Tid::ZERO, b"the first content");
    story.upload(&storage, 1, first, b"the second");
    drop(upload(&storage, b"given up"));
    let given_up = Write::StoreBlob {
        oid: Oid::new(2),
        serial: Tid::ZERO,
        data: DATA.into(),
        blob: upload(&storage, b"x"),
    };
    vote(&storage, TransactionId(1000), given_up);
    storage.abort(TransactionId(1000));
    let shared = put_beside(&storage, 0x0300, "0x03.tmp-", b"shared");
    story.commit(&storage, 0x0300, Tid::ZERO, shared, b"shared");
    story.pack(&storage, at(60));
    story.upload(&storage, 4, Tid::ZERO, b"");
    story.fail_power_everywhere();
}

#[test]
fn a_power_failure_at_any_moment_takes_no_blob_that_an_undo_has_brought_back() {
    let (mut story, storage) = Story::begin(Manner::Wrapper);
    let first = story.upload(&storage, 1, Tid::ZERO, b"the first content");
    let second = story.upload(&storage, 1, first, b"the second");
    let undone = story.undo(&storage, 1, second, (first, b"the first content"));
    let undone = story.undo(&storage, 1, undone, (second, b"the second"));
    // Both that have this content are two names of one file, and one of them goes.
    story.pack(&storage, at(60));
    let third = story.upload(&storage, 1, undone, b"the third");
    story.undo(&storage, 1, third, (undone, b"the second"));
    story.fail_power_everywhere();
}

#[test]
fn a_power_failure_at_any_moment_takes_no_blob_that_a_pack_keeps_as_an_old_one() {
    let (mut story, storage) = Story::begin(Manner::FileStorage { keep_old: true });
    let first = story.upload(&storage, 1, Tid::ZERO, b"the first content");
    let second = story.upload(&storage, 1, first, b"the second");
    story.undo(&storage, 1, second, (first, b"the first content"));
    let other = story.upload(&storage, 2, Tid::ZERO, b"of the second object");
    let other = story.upload(&storage, 2, other, b"its next");
    story.upload(&storage, 0x0300, Tid::ZERO, b"far from them");
    story.pack(&storage, at(60));
    story.upload(&storage, 2, other, b"its last");
    story.pack(&storage, at(120));
    story.upload(&storage, 3, Tid::ZERO, b"later");
    story.fail_power_everywhere();
}

#[test]
fn a_power_failure_at_any_moment_leaves_a_pack_that_the_next_one_brings_to_its_end() {
    for manner in [Manner::Wrapper, Manner::FileStorage { keep_old: false }] {
        let (mut story, storage) = Story::begin(manner);
        for oid in [1, 2, 0x0300] {
            let first = story.upload(&storage, oid, Tid::ZERO, b"to be dropped");
            story.upload(&storage, oid, first, b"to stay");
        }
        story.pack(&storage, at(60));
        story.fail_power_everywhere();
    }
}

const DATA: Bytes = Bytes::from_static(b"a blob");
