//! The space of the files that a pack replaces: given back in pieces, and never under the eyes of somebody.
#![allow(clippy::unwrap_used)]

#[path = "support/packing.rs"]
mod packing;
mod support;

use packing::{filled, later, record};
use std::{fs::File, ops::ControlFlow};
use support::{Database, Folder, store};
use zeolith_disk::faults::Operation;
use zeolith_storage::{PackOutcome, PackProgress, Storage};

/// More than two pieces.
const LEN: u64 = 40 << 20;

/// A database to pack beside what a pack before seems to have left.
fn with_old() -> (Folder, Database, File) {
    let (folder, database, first) = filled();
    database.commit(vec![store(1, first, &record(11, &[2]))]);
    let old = File::create_new(folder.file("Data.fs.old")).unwrap();
    old.set_len(LEN).unwrap();
    (folder, database, old)
}

/// How often a pack cuts something off.
fn cuts_of_a_pack(folder: &Folder, database: &Database) -> usize {
    let before = folder.faults.count(Operation::SetLen);
    let outcome = database.storage.pack(later(), &mut |_: PackProgress| ControlFlow::Continue(()));
    assert!(matches!(outcome, Ok(PackOutcome::Packed { .. })));
    folder.faults.count(Operation::SetLen) - before
}

#[test]
fn the_old_file_of_the_pack_before_goes_in_pieces() {
    let (folder, database, old) = with_old();
    drop(old);
    // One for the space that is reserved behind the file that is kept now.
    assert_eq!(cuts_of_a_pack(&folder, &database), 3 + 1);
    assert!(std::fs::metadata(folder.file("Data.fs.old")).unwrap().len() < LEN, "it is that of this pack");
}

#[test]
fn whoever_still_reads_it_can_read_it_to_its_end() {
    let (folder, database, old) = with_old();
    assert_eq!(cuts_of_a_pack(&folder, &database), 1);
    assert_eq!(old.metadata().unwrap().len(), LEN);
}

#[test]
fn under_another_name_it_stays_whole() {
    let (folder, database, old) = with_old();
    drop(old);
    let kept = folder.file("kept");
    std::fs::hard_link(folder.file("Data.fs.old"), &kept).unwrap();
    assert_eq!(cuts_of_a_pack(&folder, &database), 1);
    assert_eq!(std::fs::metadata(kept).unwrap().len(), LEN);
}
