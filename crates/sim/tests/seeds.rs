//! Fixed seeds: nothing is wrong in them, each makes the same run twice, and faults that are put back are found.

use zeolith_sim::{Counts, Invariant, Options, Sabotage, run};

/// As many as take about ten seconds.
const SEEDS: u64 = 250;

#[test]
fn fixed_seeds_keep_every_promise() {
    let mut done = Counts::default();
    for seed in 0..SEEDS {
        match run(seed, &Options::default()) {
            Ok(summary) => done = done.plus(&summary.counts),
            Err(failure) => panic!("{failure}"),
        }
    }
    // Runs in which nothing happens would prove nothing.
    assert!(done.commits > 4_000, "{done:?}");
    assert!(done.late_loads > 300, "{done:?}");
    assert!(done.crashes > 400, "{done:?}");
    assert!(done.crashes_with_room > 100, "{done:?}");
    assert!(done.timeouts > 20, "{done:?}");
    assert!(done.lagged > 3, "{done:?}");
    assert!(done.undos > 200, "{done:?}");
    assert!(done.packs > 100, "{done:?}");
    assert!(done.refused > 1_000, "{done:?}");
    assert!(done.outcomes > 1_000, "{done:?}");
    assert!(done.disowned > 100, "{done:?}");
    assert!(done.scans > 200, "{done:?}");
}

#[test]
fn one_seed_makes_the_same_run_twice() {
    for seed in 1_000..1_020 {
        let options = Options { events: 2_000, ..Options::default() };
        assert_eq!(run(seed, &options).unwrap(), run(seed, &options).unwrap());
    }
    let (one, other) = (run(1, &Options::default()).unwrap(), run(2, &Options::default()).unwrap());
    assert_ne!(one.trace_hash, other.trace_hash);
}

/// The invariant that the first seed breaks that breaks any.
fn found(sabotage: Sabotage, seeds: std::ops::Range<u64>) -> Option<Invariant> {
    let options = Options { sabotage: Some(sabotage), ..Options::default() };
    seeds.into_iter().find_map(|seed| run(seed, &options).err()).map(|failure| failure.violation.invariant)
}

#[test]
fn a_transaction_that_is_revealed_before_its_notice_is_found() {
    // Which promise breaks first depends on which answer comes first.
    assert!(found(Sabotage::RevealBeforeNotice, 0..50).is_some());
}

#[test]
fn a_reply_before_the_sync_is_found() {
    assert_eq!(found(Sabotage::ReplyBeforeSync, 0..50), Some(Invariant::DurableBeforeTold));
}

#[test]
fn an_end_left_open_on_a_late_answer_is_found() {
    assert_eq!(found(Sabotage::EndLeftOpen, 0..200), Some(Invariant::NoStaleEnd));
}

#[test]
fn a_lock_kept_after_a_timeout_is_found() {
    assert_eq!(found(Sabotage::LockKeptAfterTimeout, 0..200), Some(Invariant::NoLockOutlivesItsSession));
}

#[test]
fn a_torn_tail_that_is_accepted_is_found() {
    // Half of a transaction is there, or the storage does not open any more.
    assert_eq!(found(Sabotage::TornTailAccepted, 0..200), Some(Invariant::NoneIsHalfThere));
}

#[test]
fn zeros_that_are_acknowledged_before_the_watermark_has_passed_them_are_found() {
    assert_eq!(found(Sabotage::ReplyBeforeWatermark, 0..200), Some(Invariant::DurableBeforeTold));
}

#[test]
fn a_failure_tells_how_to_see_it_again() {
    let options = Options { sabotage: Some(Sabotage::RevealBeforeNotice), ..Options::default() };
    let failure = (0..50).find_map(|seed| run(seed, &options).err()).unwrap();
    let command =
        format!("cargo run -p zeolith-sim -- --seed {} --sabotage reveal-before-notice", failure.seed);
    assert!(failure.to_string().contains(&command), "{failure}");
    assert_eq!(run(failure.seed, &options).unwrap_err().trace_hash, failure.trace_hash);
}
