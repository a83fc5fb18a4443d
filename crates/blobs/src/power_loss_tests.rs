//! The power fails after every change of a blob directory, and takes with it any of what was not synced: each
//! blob of a durable transaction is there, whole, when the storage is opened again.
//!
//! What a rename did is there or not, never half, and what was written is there or not, piece by piece.
#![allow(clippy::unwrap_used, clippy::panic)]

use crate::{BlobStorage, Layout, Manner, Options};
use bytes::Bytes;
use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs::{self, File},
    io::Write as _,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use zeolith_storage::{
    Blobs as _, ConflictPolicy, PackOutcome, Patience, Storage, TransactionId, UploadedBlob, Write, WriteSet,
    memory::MemoryStorage,
};
use zeolith_types::{Oid, Tid, Timestamp};

/// What `files` has done.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Create(PathBuf),
    Append(PathBuf, Vec<u8>),
    Sync(PathBuf),
    MakeDirectory(PathBuf),
    SyncDirectory(PathBuf),
    Rename(PathBuf, PathBuf),
    Link(PathBuf, PathBuf),
    Remove(PathBuf),
}

thread_local! {
    static CHANGES: RefCell<Vec<Change>> = const { RefCell::new(Vec::new()) };
}

pub(crate) fn note(change: Change) {
    CHANGES.with_borrow_mut(|changes| changes.push(change));
}

fn count() -> usize {
    CHANGES.with_borrow(Vec::len)
}

/// What has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Directory,
    File(usize),
}

/// Names that come and go with one change, all or none.
type Entries = Vec<(PathBuf, Option<Node>)>;

/// A disk, and what of it would be there after the power has failed.
#[derive(Default)]
struct SimulatedDisk {
    names: BTreeMap<PathBuf, Node>,
    durable_names: BTreeMap<PathBuf, Node>,
    unsynced_names: Vec<Entries>,
    files: Vec<Content>,
}

#[derive(Clone, Default)]
struct Content {
    durable: Vec<u8>,
    unsynced: Vec<Vec<u8>>,
}

impl SimulatedDisk {
    fn after(changes: &[Change]) -> Self {
        let mut disk = Self::default();
        changes.iter().for_each(|change| disk.apply(change));
        disk
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Create(path) => {
                self.files.push(Content::default());
                self.enter(vec![(path.clone(), Some(Node::File(self.files.len() - 1)))]);
            }
            Change::Append(path, bytes) => self.content(path).unsynced.push(bytes.clone()),
            Change::Sync(path) => {
                let content = self.content(path);
                content.durable.extend(content.unsynced.drain(..).flatten());
            }
            Change::MakeDirectory(path) => self.enter(vec![(path.clone(), Some(Node::Directory))]),
            Change::SyncDirectory(directory) => {
                let mut waiting = Vec::new();
                for entries in std::mem::take(&mut self.unsynced_names) {
                    let is_of = |(path, _): &(PathBuf, _)| path.parent() == Some(directory);
                    match entries.iter().any(is_of) {
                        true => change_names(&mut self.durable_names, &entries),
                        false => waiting.push(entries),
                    }
                }
                self.unsynced_names = waiting;
            }
            Change::Rename(from, to) => {
                let node = self.names[from];
                self.enter(vec![(from.clone(), None), (to.clone(), Some(node))]);
            }
            Change::Link(from, to) => {
                let node = self.names[from];
                self.enter(vec![(to.clone(), Some(node))]);
            }
            Change::Remove(path) => self.enter(vec![(path.clone(), None)]),
        }
    }

    fn enter(&mut self, entries: Entries) {
        change_names(&mut self.names, &entries);
        self.unsynced_names.push(entries);
    }

    fn content(&mut self, path: &Path) -> &mut Content {
        let Some(Node::File(number)) = self.names.get(path) else { panic!("{path:?} is no file") };
        &mut self.files[*number]
    }

    /// Makes what is left of the directory `of` after a power failure in `target`.
    fn leave(&self, of: &Path, target: &Path, survives: &mut dyn FnMut() -> bool) {
        let mut names = self.durable_names.clone();
        for entries in &self.unsynced_names {
            if survives() {
                change_names(&mut names, entries);
            }
        }
        let mut there = BTreeMap::new();
        // In the order of paths a directory comes before what is in it.
        for (path, node) in &names {
            let Ok(inside) = path.strip_prefix(of) else { continue };
            let copy = target.join(inside);
            if !copy.parent().is_some_and(Path::is_dir) {
                continue;
            }
            match node {
                Node::Directory => fs::create_dir_all(copy).unwrap(),
                Node::File(number) => match there.get(number) {
                    Some(first) => fs::hard_link(first, copy).unwrap(),
                    None => {
                        let Content { durable, unsynced } = &self.files[*number];
                        let mut file = File::create(&copy).unwrap();
                        file.write_all(durable).unwrap();
                        for piece in unsynced.iter().filter(|_| survives()) {
                            file.write_all(piece).unwrap();
                        }
                        there.insert(number, copy);
                    }
                },
            }
        }
    }
}

fn change_names(names: &mut BTreeMap<PathBuf, Node>, entries: &Entries) {
    for (path, node) in entries {
        match node {
            Some(node) => names.insert(path.clone(), *node),
            None => names.remove(path),
        };
    }
}

/// What the records' storage has done, which is durable at once.
#[derive(Clone, Debug)]
enum Step {
    Commit { oid: u64, serial: Tid, tid: Tid, content: Option<&'static [u8]> },
    Pack,
}

/// A story, and after how many changes of the directory each step of the records' storage came.
struct Story {
    folder: tempfile::TempDir,
    inner: Arc<MemoryStorage>,
    steps: Vec<(usize, Step)>,
    ids: u64,
}

impl Story {
    fn begin() -> Self {
        CHANGES.take();
        let inner = Arc::new(MemoryStorage::new("test"));
        Self { folder: tempfile::tempdir().unwrap(), inner, steps: Vec::new(), ids: 0 }
    }

    fn directory(&self) -> PathBuf {
        self.folder.path().join("blobs")
    }

    fn commit(
        &mut self,
        storage: &BlobStorage,
        oid: u64,
        serial: Tid,
        blob: UploadedBlob,
        content: &'static [u8],
    ) -> Tid {
        self.ids += 1;
        let id = TransactionId(self.ids);
        vote(storage, id, Write::StoreBlob { oid: Oid::new(oid), serial, data: DATA.into(), blob });
        // The records are durable before the next change of the directory.
        let before = count();
        let tid = finish(storage, id);
        self.steps.push((before, Step::Commit { oid, serial, tid, content: Some(content) }));
        tid
    }

    /// The records' storage after so many of its steps.
    fn storage_after(&self, steps: usize) -> Arc<MemoryStorage> {
        let storage = MemoryStorage::new("test");
        for (number, (_, step)) in self.steps[..steps].iter().enumerate() {
            match step {
                Step::Commit { oid, serial, tid, .. } => {
                    let id = TransactionId(number as u64);
                    vote(
                        &storage,
                        id,
                        Write::Store { oid: Oid::new(*oid), serial: *serial, data: DATA.into() },
                    );
                    assert_eq!(finish(&storage, id), *tid);
                }
                Step::Pack => pack(&storage),
            }
        }
        Arc::new(storage)
    }

    /// The power fails after so many changes, and the records' storage has come so far.
    fn fail_power(&self, changes: &[Change], steps: usize, survives: &mut dyn FnMut() -> bool) {
        let folder = tempfile::tempdir().unwrap();
        SimulatedDisk::after(changes).leave(self.folder.path(), folder.path(), survives);
        let inner = self.storage_after(steps);
        let what = format!("after {:?} and {steps} steps", changes.last());
        let opened =
            BlobStorage::open(Arc::clone(&inner) as Arc<dyn Storage>, &folder.path().join("blobs"), OPTIONS);
        let (storage, report) = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(report.directory.layout, Layout::Bushy, "{what}");
        for (_, step) in &self.steps[..steps] {
            let Step::Commit { oid, tid, content: Some(content), .. } = step else { continue };
            if !inner.has_record(Oid::new(*oid), *tid, Patience::Wait).unwrap() {
                continue;
            }
            let mut found = vec![0; content.len() + 1];
            let mut reader =
                storage.load_blob(Oid::new(*oid), *tid).unwrap_or_else(|error| panic!("{what}: {error}"));
            let len = reader.read(&mut found).unwrap();
            assert_eq!(&found[..len], *content, "{what}");
        }
        let left = fs::read_dir(folder.path().join("blobs/tmp")).unwrap().count();
        assert_eq!(left, 0, "{what}");
    }
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

fn pack(storage: &dyn Storage) {
    let outcome = storage.pack(at(60), &mut |_| ControlFlow::Continue(())).unwrap();
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
    let mut story = Story::begin();
    note(Change::MakeDirectory(story.folder.path().into()));
    let inner: Arc<dyn Storage> = Arc::clone(&story.inner) as Arc<dyn Storage>;
    let (storage, _) = BlobStorage::open(inner, &story.directory(), OPTIONS).unwrap();
    let first =
        story.commit(&storage, 1, Tid::ZERO, upload(&storage, b"the first content"), b"the first content");
    story.commit(&storage, 1, first, upload(&storage, b"the second"), b"the second");
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
    // The records are packed after the marker has been made.
    let before = count() + 2;
    pack(&storage);
    story.steps.push((before, Step::Pack));
    story.commit(&storage, 4, Tid::ZERO, upload(&storage, b""), b"");

    let changes = CHANGES.take();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for after in 1..=changes.len() {
        let certain = story.steps.iter().filter(|(before, _)| *before < after).count();
        let possible = story.steps.iter().filter(|(before, _)| *before <= after).count();
        for steps in certain..=possible {
            for chance in [0, 2, 2, 2, 2, 4] {
                story.fail_power(&changes[..after], steps, &mut || {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    random >> 62 < chance
                });
            }
        }
    }
}

const OPTIONS: Options = Options { manner: Manner::Wrapper, create: false };
const DATA: Bytes = Bytes::from_static(b"a blob");
