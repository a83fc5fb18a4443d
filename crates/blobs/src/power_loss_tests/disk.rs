//! A disk on which changes of a blob directory become durable, and what a power failure leaves of it.
//!
//! What a rename did is there or not, never half, and what was written is there or not, piece by piece. Nothing
//! is in a directory that is not there.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

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

/// How many changes there have been.
pub(super) fn count() -> usize {
    CHANGES.with_borrow(Vec::len)
}

/// The changes since the last time.
pub(crate) fn take() -> Vec<Change> {
    CHANGES.take()
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
pub(super) struct SimulatedDisk {
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
    pub(super) fn after(changes: &[Change]) -> Self {
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
            Change::SyncDirectory(directory) => self.sync_directory(directory),
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

    fn sync_directory(&mut self, directory: &Path) {
        let (mut synced, mut needed) = (BTreeSet::from([directory.to_path_buf()]), BTreeSet::new());
        let (mut durable, mut waiting) = (Vec::new(), Vec::new());
        for entries in std::mem::take(&mut self.unsynced_names).into_iter().rev() {
            let is_of = |path: &Path| path.parent().is_some_and(|parent| synced.contains(parent));
            let is_durable = entries.iter().any(|(path, _)| is_of(path) || needed.contains(path));
            if !is_durable {
                waiting.push(entries);
                continue;
            }
            let gone: Vec<PathBuf> =
                entries.iter().filter(|(_, node)| node.is_none()).map(|(path, _)| path.clone()).collect();
            // A rename is whole: what has gone from here for good is where it went to, and so is the way there.
            if gone.iter().any(|path| is_of(path)) {
                needed.extend(entries.iter().flat_map(|(path, _)| path.ancestors()).map(Path::to_path_buf));
            }
            // A directory that goes for good is one that had become empty for good.
            synced.extend(gone);
            durable.push(entries);
        }
        durable.iter().rev().for_each(|entries| change_names(&mut self.durable_names, entries));
        waiting.reverse();
        self.unsynced_names = waiting;
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
    pub(super) fn leave(&self, of: &Path, target: &Path, survives: &mut dyn FnMut() -> bool) {
        let mut names = self.durable_names.clone();
        for entries in &self.unsynced_names {
            if survives() && entries.iter().all(|entry| is_possible(&names, of, entry)) {
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

/// Nothing comes to where no directory is, and no directory goes that has something in it: a change is whole, or is
/// not there.
fn is_possible(names: &BTreeMap<PathBuf, Node>, of: &Path, (path, node): &(PathBuf, Option<Node>)) -> bool {
    match node {
        Some(_) => path
            .parent()
            .is_some_and(|parent| parent == of || path == of || names.get(parent) == Some(&Node::Directory)),
        None => !names.keys().any(|other| other.parent() == Some(path)),
    }
}
