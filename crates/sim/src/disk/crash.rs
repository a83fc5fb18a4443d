//! What a crash leaves of the changes that no sync had made durable.

use super::{Change, Content, Faults, SECTOR, State, put, rename};
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
                // Of a sector all or nothing; it begins where one begins.
                let sectors = (bytes.len() as u64).div_ceil(SECTOR);
                bytes.truncate((random.between(0, sectors) * SECTOR) as usize);
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

#[cfg(test)]
mod tests {
    use crate::{
        disk::{Crash, SimDisk},
        random::Random,
    };
    use std::{io::IoSlice, path::Path};
    use zeolith_disk::{Access, Disk as _, DiskFile};

    fn write(file: &dyn DiskFile, bytes: &[u8]) {
        file.write_all_at(&mut [IoSlice::new(bytes)], 0).unwrap();
    }

    /// What is in a file after the power has failed.
    fn after_power_loss(disk: &SimDisk, path: &Path) -> Vec<u8> {
        let next = disk.crash(Crash::PowerAnyOrder);
        let file = next.open(path, Access::WriteOrCreate).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    #[test]
    fn what_is_written_again_in_part_comes_with_the_rest_of_its_sector_or_not_at_all() {
        let path = Path::new("Data.fs");
        let (mut whole, mut nothing) = (0, 0);
        for seed in 0..200 {
            let disk = SimDisk::new(Random::new(seed));
            let file = disk.open(path, Access::CreateNew).unwrap();
            disk.sync_directory(Path::new(".")).unwrap();
            write(&*file, &[7; 400]);
            // A start writes again what the last process left, and dies as well.
            write(&*file, &[7; 100]);
            let left = after_power_loss(&disk, path);
            whole += u32::from(left == [7; 400]);
            nothing += u32::from(left.iter().all(|byte| *byte == 0));
        }
        assert_eq!(whole + nothing, 200, "{whole} whole, {nothing} not there");
        assert!(whole > 20 && nothing > 20, "{whole} whole, {nothing} not there");
    }
}
