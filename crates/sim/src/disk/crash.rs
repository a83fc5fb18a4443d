//! What a crash leaves of the changes that no sync had made durable.

use super::{Change, Content, Faults, State, put, rename};
use crate::random::Random;
use std::collections::BTreeMap;

/// How a server process ends without warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process is killed: all that was written is there, of the last write perhaps only a beginning.
    Killed,
    /// The power fails on a disk that keeps the order: a beginning of what was not synced survives.
    PowerInOrder,
    /// The power fails: any subset of the sectors that were not synced survives.
    PowerAnyOrder,
}

impl State {
    /// The disk that the next process finds.
    pub(super) fn survivors(&mut self, crash: Crash) -> Self {
        let mut random = self.random.fork();
        let mut next = match crash {
            Crash::Killed => self.as_it_is(),
            Crash::PowerInOrder => self.after_power_loss(self.in_order(&mut random)),
            Crash::PowerAnyOrder => self.after_power_loss(self.in_any_order(&mut random)),
        };
        next.random = random;
        next
    }

    /// The process is gone, the system is not: nothing has become durable, and nothing is lost.
    fn as_it_is(&self) -> Self {
        let mut next = self.clone();
        next.files.values_mut().for_each(|content| content.locked_by = None);
        next.faults = self.faults.after_a_crash();
        next.dead = false;
        next
    }

    fn after_power_loss(&self, (mut files, names): Surviving) -> Self {
        files.retain(|file, _| names.values().any(|named| named == file));
        let whole = |bytes: Vec<u8>| Content {
            durable: bytes.clone(),
            reserved: bytes.len() as u64,
            bytes,
            locked_by: None,
        };
        Self {
            files: files.into_iter().map(|(file, bytes)| (file, whole(bytes))).collect(),
            durable_names: names.clone(),
            names,
            unsynced: Vec::new(),
            faults: self.faults.after_a_crash(),
            dead: false,
            ..self.clone()
        }
    }

    fn durable(&self) -> Surviving {
        let files = self.files.iter().map(|(file, content)| (*file, content.durable.clone())).collect();
        (files, self.durable_names.clone())
    }

    fn in_order(&self, random: &mut Random) -> Surviving {
        let (mut files, mut names) = self.durable();
        let survive = random.between(0, self.unsynced.len() as u64) as usize;
        for (number, change) in self.unsynced.iter().take(survive).enumerate() {
            let mut change = change.clone();
            if let Change::Write { bytes, .. } = &mut change
                && number + 1 == survive
            {
                bytes.truncate(random.between(0, bytes.len() as u64) as usize);
            }
            redo(&change, &mut files, &mut names);
        }
        (files, names)
    }

    /// Names change in order, as a file system with a journal makes them; sectors as they please.
    fn in_any_order(&self, random: &mut Random) -> Surviving {
        let (mut files, mut names) = self.durable();
        let permille = random.pick(&[0, 300, 700, 950, 1000]);
        let mut names_go_on = true;
        for change in &self.unsynced {
            match change {
                Change::Names(_) => {
                    names_go_on &= random.chance(700);
                    if names_go_on {
                        redo(change, &mut files, &mut names);
                    }
                }
                Change::SetLen { .. } => {
                    if random.chance(permille) {
                        redo(change, &mut files, &mut names);
                    }
                }
                Change::Write { file, position, bytes } => {
                    // The length may be there before the content is.
                    let content = files.entry(*file).or_default();
                    let end = *position as usize + bytes.len();
                    if random.chance(300) && content.len() < end {
                        content.resize(end, 0);
                    }
                    for (at, sector) in sectors(*position, bytes) {
                        if random.chance(permille) {
                            put(content, at, sector);
                        }
                    }
                }
            }
        }
        (files, names)
    }
}

impl Faults {
    /// What the next process has of them.
    fn after_a_crash(&self) -> Self {
        Self { cold: self.cold, lies: self.lies, ..Self::default() }
    }
}

type Surviving = (BTreeMap<u64, Vec<u8>>, BTreeMap<std::path::PathBuf, u64>);

fn redo(change: &Change, files: &mut BTreeMap<u64, Vec<u8>>, names: &mut BTreeMap<std::path::PathBuf, u64>) {
    match change {
        Change::Write { file, position, bytes } => put(files.entry(*file).or_default(), *position, bytes),
        Change::SetLen { file, len } => files.entry(*file).or_default().resize(*len as usize, 0),
        Change::Names(changes) => rename(names, changes),
    }
}

/// A write cut at the borders of the file's sectors.
fn sectors(position: u64, bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let mut rest = bytes;
    let mut at = position;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let len = rest.len().min((SECTOR - at % SECTOR) as usize);
        let (sector, after) = rest.split_at(len);
        let item = (at, sector);
        rest = after;
        at += len as u64;
        Some(item)
    })
}

const SECTOR: u64 = 512;
