//! Resolver processes that fail in every way a child can. Each conflict then stands, with a reason, and the
//! next one gets a fresh process.

use bytes::Bytes;
use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};
use zeolith_interpreter::{ProcessResolver, Settings};
use zeolith_storage::{Disagreement, Resolution, ResolveRequest, Resolver};
use zeolith_types::{Oid, Tid};

fn child(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/children").join(name)
}

fn resolver(python: impl AsRef<Path>, timeout: Duration) -> ProcessResolver {
    ProcessResolver::new(Settings { timeout, ..Settings::new(python.as_ref()) })
}

/// Why a conflict is refused.
fn refused(resolver: &ProcessResolver) -> String {
    let record = Bytes::from_static(b"\x80\x03capp\nCounter\n.\x80\x03K\x01.");
    let (old, committed, new) = (&record, &record, &record);
    let (oid, committed_tid, read_tid) = (Oid::new(1), Tid::new(3), Tid::new(2));
    match resolver.resolve(&ResolveRequest { oid, committed_tid, read_tid, old, committed, new }) {
        Resolution::Refused(Disagreement::Other(why)) => why,
        other => format!("{other:?}"),
    }
}

/// One test at a time starts processes: they are not to be late because of each other.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(300);

#[test]
fn an_interpreter_that_is_not_there_is_named() {
    let resolver = resolver("/nowhere/bin/python", LONG);
    let why = refused(&resolver);
    assert!(
        why.starts_with("the resolver process /nowhere/bin/python can't be started: No such file"),
        "{why}"
    );
}

#[test]
fn a_process_that_ends_at_once_tells_how() {
    let _alone = alone();
    let why = refused(&resolver(child("crash_at_start.sh"), LONG));
    assert_eq!(why, "the resolver process ended without an answer: exit status: 3");
}

#[test]
fn a_process_says_itself_why_it_is_of_no_use() {
    let _alone = alone();
    let why = refused(&resolver(child("useless.sh"), LONG));
    assert!(why.ends_with("useless.sh is of no use: no"), "{why}");
}

#[test]
fn a_process_that_is_mute_is_waited_for_no_longer_than_it_may_take() {
    let _alone = alone();
    for name in ["mute.sh", "hang.sh"] {
        let (resolver, begun) = (resolver(child(name), SHORT), Instant::now());
        let why = refused(&resolver);
        assert_eq!(why, "the resolver process did not answer within 0.3 s and was ended", "{name}");
        assert!(begun.elapsed() < LONG / 2, "{name}: {:?}", begun.elapsed());
    }
}

#[test]
fn a_process_that_crashes_costs_one_conflict_and_the_next_one_gets_another() {
    let _alone = alone();
    let resolver = resolver(child("crash.sh"), LONG);
    for _ in 0..3 {
        let why = refused(&resolver);
        let expected = "the resolver process ended without an answer: signal: 11 (SIGSEGV)";
        assert!(why.starts_with(expected), "{why}");
    }
}

#[test]
fn nonsense_is_never_taken_for_an_answer() {
    let _alone = alone();
    for (name, what) in [
        ("chatter.sh", "it announces more than an answer can be"),
        ("boast.sh", "it announces more than an answer can be"),
        ("mixed_up.sh", "not to this conflict"),
    ] {
        let why = refused(&resolver(child(name), LONG));
        assert_eq!(why, format!("the resolver process answered nonsense and was ended: {what}"), "{name}");
    }
}

#[test]
fn who_fails_again_and_again_is_not_started_for_every_conflict() {
    let resolver = resolver("/nowhere/bin/python", LONG);
    for _ in 0..4 {
        assert!(refused(&resolver).contains("No such file"));
    }
    let why = refused(&resolver);
    assert_eq!(why, "the resolver process failed 4 times in a row, the next attempt is in 1 s");
}

#[test]
fn a_flood_of_output_does_not_keep_a_process_from_answering_again_and_again() {
    let _alone = alone();
    let resolver = resolver(child("refuse.sh"), LONG);
    for _ in 0..3 {
        assert_eq!(refused(&resolver), "no!!");
    }
}

#[test]
fn conflicts_wait_for_each_other_if_there_is_one_process_for_all() {
    let _alone = alone();
    let settings = Settings { processes_max: 1, timeout: LONG, ..Settings::new(child("refuse.sh")) };
    let resolver = ProcessResolver::new(settings);
    thread::scope(|scope| {
        let asked: Vec<_> = (0..6).map(|_| scope.spawn(|| refused(&resolver))).collect();
        for thread in asked {
            assert_eq!(thread.join().unwrap(), "no!!");
        }
    });
}
