//! What must always be true, by the names and numbers of ARCHITECTURE.md.

use std::fmt;

/// A promise that a run can find broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invariant {
    /// 3
    NoTwoVotesShareAnObject,
    /// 4
    TidsRise,
    /// 5
    VotedMeansFinishable,
    /// 6
    DurableBeforeTold,
    /// 7
    NoticedBeforeRevealed,
    /// 8
    NoStaleEnd,
    /// 9
    ThePastIsImmutable,
    /// 11
    EverythingHasALimit,
    /// 12
    NobodyElsesConnectionEnds,
    /// Promise 1 of the design: a transaction is there as a whole or not at all.
    NoneIsHalfThere,
    /// Promise 4 of `docs/crash-safety.md`: after `kill -9` Python opens the file.
    PythonCanBeFirst,
    /// What a client is told of a transaction that it lost sight of is so, and stays so.
    OutcomesAreTrue,
    /// No lock outlives its session, so nobody waits for ever.
    NoLockOutlivesItsSession,
    /// What a client has dropped, or has left with its connection, the server does not keep.
    NoIteratorOutlivesItsUse,
    /// An assertion of the code itself failed.
    NoPanic,
}

impl Invariant {
    /// Number and name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoTwoVotesShareAnObject => "3: no two open votes share an object they write",
            Self::TidsRise => "4: tids rise",
            Self::VotedMeansFinishable => "5: voted means finishable",
            Self::DurableBeforeTold => "6: durable before told",
            Self::NoticedBeforeRevealed => "7: noticed before revealed",
            Self::NoStaleEnd => "8: no stale end",
            Self::ThePastIsImmutable => "9: the past is immutable",
            Self::EverythingHasALimit => "11: everything has a limit",
            Self::NobodyElsesConnectionEnds => "12: a peer can end its own connection and nobody else's",
            Self::NoneIsHalfThere => "none is half there",
            Self::PythonCanBeFirst => "after a kill Python can be the first to open the file",
            Self::OutcomesAreTrue => "outcomes are true, and stay so",
            Self::NoLockOutlivesItsSession => "no lock outlives its session",
            Self::NoIteratorOutlivesItsUse => "no iterator outlives its use",
            Self::NoPanic => "no panic",
        }
    }
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// How.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant.name(), self.what)
    }
}

/// Remembers the first violation; what comes after it means little.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    first: Option<Violation>,
    done: u64,
}

impl Checks {
    pub(crate) fn fail(&mut self, invariant: Invariant, what: String) {
        self.first.get_or_insert(Violation { invariant, what });
    }

    pub(crate) fn ensure(&mut self, holds: bool, invariant: Invariant, what: impl FnOnce() -> String) {
        self.done += 1;
        if !holds {
            self.fail(invariant, what());
        }
    }

    pub(crate) const fn has_failed(&self) -> bool {
        self.first.is_some()
    }

    /// How many questions have been asked.
    pub(crate) const fn done(&self) -> u64 {
        self.done
    }

    pub(crate) fn take(&mut self) -> Option<Violation> {
        self.first.take()
    }
}
