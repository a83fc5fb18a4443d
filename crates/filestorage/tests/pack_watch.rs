//! What one can see and steer of a pack: an estimate, and its pace.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "support/packing.rs"]
mod packing;
mod support;

use packing::{filled, later, record, reopened, time_of, undo};
use std::{
    ops::ControlFlow,
    time::{Duration, Instant, SystemTime},
};
use support::{Folder, store};
use zeolith_filestorage::Options;
use zeolith_storage::{Held, PackEstimate, PackOutcome, PackPhase, PackProgress, Storage, StorageError};
use zeolith_types::Tid;

fn go_on(_: PackProgress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn an_estimate_says_what_the_pack_does_and_touches_nothing() {
    let (folder, database, first) = filled();
    let second = database.commit(vec![store(1, first, &record(11, &[2]))]);
    let third = database.commit(vec![store(1, second, &record(12, &[2]))]);
    let undone = database.commit(vec![undo(third)]);
    database.commit(vec![store(2, first, &record(22, &[0]))]);
    database.storage.close().unwrap();
    let bytes = folder.bytes();
    for time in [time_of(undone), time_of(second), time_of(first), later()] {
        let folder = Folder::new();
        folder.put(&bytes);
        let (database, _) = folder.open();
        let PackEstimate { before, after } = database.storage.estimate_pack(time, &mut go_on).unwrap();
        assert!(folder.bytes() == bytes);
        match database.storage.pack(time, &mut go_on).unwrap() {
            PackOutcome::Packed { before: was, after: is, .. } => assert_eq!((before, after), (was, is)),
            PackOutcome::NothingToDo => assert_eq!(before, after),
        }
        reopened(&folder, database);
    }
}

#[test]
fn one_estimate_is_made_at_a_time_and_can_be_ended() {
    let (_folder, database, first) = filled();
    database.commit(vec![store(1, first, &record(11, &[2]))]);
    let outcome = database.storage.estimate_pack(later(), &mut |_: PackProgress| {
        let second = database.storage.estimate_pack(later(), &mut go_on);
        assert!(matches!(second, Err(StorageError::Format(_))), "{second:?}");
        ControlFlow::Break(())
    });
    assert!(matches!(outcome, Err(StorageError::Cancelled)), "{outcome:?}");
    assert!(database.storage.estimate_pack(later(), &mut go_on).is_ok());
}

#[test]
fn a_pack_keeps_to_its_rate_and_hears_meanwhile_that_it_is_to_end() {
    let folder = Folder::new();
    let clock = || SystemTime::now().into();
    let options = Options { pack_rate_max: Some(1 << 20), clock: Some(clock), ..Options::default() };
    let (database, _) = folder.try_open(options).unwrap();
    let text = |size| {
        [b"\x80\x03N.\x80\x03B", &u32::to_le_bytes(size)[..], &vec![b'x'; size as usize], b"."].concat()
    };
    let mut last = database.commit(vec![store(0, Tid::ZERO, &text(100_000))]);
    for _ in 0..4 {
        last = database.commit(vec![store(0, last, &text(100_000))]);
    }
    let begun = Instant::now();
    let mut reports = 0;
    let outcome = database.storage.pack(later(), &mut |_: PackProgress| {
        reports += 1;
        match begun.elapsed() > Duration::from_millis(300) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    assert!(matches!(outcome, Err(StorageError::Cancelled)), "half a megabyte takes half a second");
    assert!(reports < 100, "waiting is not looking all the time");
    let begun = Instant::now();
    assert!(matches!(database.storage.pack(later(), &mut go_on), Ok(PackOutcome::Packed { .. })));
    assert!(begun.elapsed() > Duration::from_millis(400), "{:?}", begun.elapsed());
    reopened(&folder, database);
}

/// A pack of a small database during which, whenever everything has been copied, another megabyte is committed, so
/// many times at most. How often that was, and for what commits waited.
fn overtaken(times: usize) -> (usize, Held) {
    let folder = Folder::new();
    let clock = || SystemTime::now().into();
    let (database, _) = folder.try_open(Options { clock: Some(clock), ..Options::default() }).unwrap();
    let first = database.commit(vec![store(0, Tid::ZERO, &record(0, &[]))]);
    let mut last = database.commit(vec![store(0, first, &record(1, &[]))]);
    let text = [&[b'x'; 1 << 20][..], &record(2, &[])].concat();
    let mut count = 0;
    let outcome = database.storage.pack(time_of(last), &mut |progress: PackProgress| {
        let is_copying = matches!(progress.phase, PackPhase::Copy | PackPhase::CatchUp);
        if is_copying && progress.done == progress.total && count < times {
            count += 1;
            last = database.commit(vec![store(0, last, &text)]);
        }
        ControlFlow::Continue(())
    });
    let Ok(PackOutcome::Packed { held, .. }) = outcome else { panic!("{outcome:?}") };
    assert_eq!(database.storage.last_transaction(), last);
    reopened(&folder, database);
    (count, held)
}

#[test]
fn commits_wait_at_most_until_a_quarter_of_a_megabyte_is_copied() {
    let (count, held) = overtaken(20);
    assert_eq!(count, 20);
    assert!(held.bytes <= 256 << 10, "{held:?}");
    assert!(held.time.is_some_and(|time| time < Duration::from_secs(5)), "{held:?}");
}

#[test]
fn a_pack_ends_however_fast_commits_come() {
    let (count, held) = overtaken(usize::MAX);
    assert!((64..80).contains(&count), "{count}");
    assert!((1 << 20..4 << 20).contains(&held.bytes), "{held:?}");
}
