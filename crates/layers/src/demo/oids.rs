//! New oids: consecutive from a random place, and from another one whenever one is met that is in use.
//!
//! The changes can not tell what the base will not tell, and a base can be laid under several changes, so oids
//! are not counted up from the largest one.

use std::ops::Range;
use zeolith_types::Oid;

/// Gives out oids that have not been given out before.
#[derive(Debug)]
pub(super) struct NewOids {
    /// What has been given out since the last jump, and what comes next.
    run: Range<u64>,
    /// What was given out before that, oldest first.
    earlier: Vec<Range<u64>>,
    /// The state of the generator.
    state: u64,
}

impl NewOids {
    pub(super) fn new(seed: u64) -> Self {
        let mut new = Self { run: 0..0, earlier: Vec::new(), state: seed };
        new.jump();
        new
    }

    /// The next oid that is not in use. Ends, because nobody can use more than a tiny part of all.
    pub(super) fn next(&mut self, is_in_use: impl Fn(Oid) -> bool) -> Oid {
        loop {
            let candidate = self.run.end;
            let given = self.earlier.iter().any(|run| run.contains(&candidate));
            if candidate <= OID_MAX && !given && !is_in_use(Oid::new(candidate)) {
                self.run.end += 1;
                return Oid::new(candidate);
            }
            self.jump();
        }
    }

    fn jump(&mut self) {
        if !self.run.is_empty() {
            if self.earlier.len() == RUNS_MAX {
                self.earlier.remove(0);
            }
            self.earlier.push(self.run.clone());
        }
        let start = self.random() % OID_MAX + 1;
        self.run = start..start;
    }

    /// `SplitMix64`: spreads well whatever the seed is.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// The reference goes no higher either.
const OID_MAX: u64 = 1 << 62;
/// A jump is rare, but a client can bring one about by storing what it was not given.
const RUNS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oids_follow_each_other_until_one_is_in_use() {
        let mut oids = NewOids::new(7);
        let first = oids.next(|_| false).get();
        assert!((1..=OID_MAX).contains(&first));
        assert_eq!(oids.next(|_| false).get(), first + 1);
        let after_jump = oids.next(|oid| oid.get() == first + 2).get();
        assert!((1..=OID_MAX).contains(&after_jump) && !(first..first + 3).contains(&after_jump));
        assert_eq!(oids.next(|_| false).get(), after_jump + 1);
    }

    #[test]
    fn what_was_given_out_before_a_jump_is_not_given_again() {
        let mut oids = NewOids::new(7);
        let first = oids.next(|_| false).get();
        oids.jump();
        oids.run = first..first;
        assert_ne!(oids.next(|_| false).get(), first);
    }

    #[test]
    fn the_end_of_the_range_is_not_passed() {
        let mut oids = NewOids::new(7);
        oids.run = OID_MAX..OID_MAX;
        assert_eq!(oids.next(|_| false).get(), OID_MAX);
        assert!(oids.next(|_| false).get() <= OID_MAX);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut oids = NewOids::new(7);
        for _ in 0..RUNS_MAX + 9 {
            oids.next(|_| false);
            oids.jump();
        }
        assert_eq!(oids.earlier.len(), RUNS_MAX);
    }
}
