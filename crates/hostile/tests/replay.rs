//! The corpora of the fuzz targets without a fuzzer: every entry as it is, and changed in small ways.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    fs,
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
    sync::mpsc,
    thread,
    time::Duration,
};
use zeolith_hostile::{TARGETS, Target};

/// Makes a test of each target.
macro_rules! replays {
    ($($target:ident),+) => {
        $(
            #[test]
            fn $target() {
                replay(stringify!($target));
            }
        )+

        #[test]
        fn every_target_has_a_test_and_a_fuzz_target() {
            assert_eq!(TARGETS.map(|target| target.name), [$(stringify!($target)),+]);
            for target in TARGETS {
                let source = folder().join("fuzz_targets").join(target.name).with_extension("rs");
                assert!(source.is_file(), "{} is missing", source.display());
            }
        }
    };
}

replays!(frames, pickle_call, msgpack_call, data_fs, saved_index, config, record, conflict);

/// Runs all of a corpus; what fails is written to a file that the fuzzer understands too.
fn replay(name: &'static str) {
    let target = TARGETS.into_iter().find(|target| target.name == name).unwrap();
    let entries = corpus(name);
    let rounds = INPUTS / entries.len();
    let all = entries.clone();
    for (index, (entry, bytes)) in entries.into_iter().enumerate() {
        attempt(target, &entry, "as it is", &bytes);
        let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ (index as u64 + 1));
        for round in 0..rounds {
            let mut changed = bytes.clone();
            for _ in 0..=random.below(3) {
                change(&mut changed, &all[random.below(all.len())].1, &mut random);
            }
            attempt(target, &entry, &format!("changed, round {round}"), &changed);
        }
    }
}

/// One input, which has to come to an end.
fn attempt(target: Target, entry: &str, how: &str, input: &[u8]) {
    let (sender, receiver) = mpsc::channel();
    let owned = input.to_vec();
    // In a thread of its own, since what hangs can't be stopped.
    let worker = thread::spawn(move || {
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| (target.run)(&owned)));
        let _ = sender.send(outcome.is_ok());
    });
    let outcome = receiver.recv_timeout(PATIENCE);
    if outcome == Ok(true) {
        worker.join().unwrap();
        return;
    }
    let kept = std::env::temp_dir().join(format!("zeolith-{}-failed", target.name));
    fs::write(&kept, input).unwrap();
    let what = if outcome.is_err() { "does not end" } else { "panics" };
    panic!("{} {what} on {entry} {how}; the input is in {}", target.name, kept.display());
}

/// The entries by name, in an order that is the same everywhere.
fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = folder().join("corpus").join(name);
    let mut entries: Vec<(String, Vec<u8>)> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(path).unwrap())
        })
        .collect();
    entries.sort();
    assert!(!entries.is_empty(), "{} is empty", folder.display());
    entries
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// What fuzzers do to an input, without looking at what it leads to.
fn change(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    if bytes.is_empty() {
        bytes.push(random.below(256) as u8);
        return;
    }
    let at = random.below(bytes.len());
    let len = (1 + random.below(16)).min(bytes.len() - at);
    match random.below(9) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = random.below(256) as u8,
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(at..at + len)),
        4 => {
            let copy = bytes[at..at + len].to_vec();
            bytes.splice(at..at, copy);
        }
        5 => {
            let copy = bytes[at..at + len].to_vec();
            let to = random.below(bytes.len() - len + 1);
            bytes[to..to + len].copy_from_slice(&copy);
        }
        6 => {
            // A number that means something: a length too many, the largest of its size, zero.
            let number = NUMBERS[random.below(NUMBERS.len())].to_be_bytes();
            let width = [1, 2, 4, 8][random.below(4)];
            for (byte, new) in bytes[at..].iter_mut().zip(&number[8 - width..]) {
                *byte = *new;
            }
        }
        7 => {
            let from = random.below(other.len() + 1);
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        _ => {
            let step = random.below(35) as u8;
            bytes[at] = bytes[at].wrapping_add(step.wrapping_sub(17));
        }
    }
}

/// The generator xorshift64*: enough for this, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }
}

/// So many inputs for each target.
const INPUTS: usize = 6000;
const PATIENCE: Duration = Duration::from_secs(60);
const NUMBERS: [u64; 9] =
    [0, 1, 8, 23, 0x7f, 0x80, 0x7fff_ffff, 0x7fff_ffff_ffff_ffff, 0xffff_ffff_ffff_ffff];
