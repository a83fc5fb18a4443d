//! What a pack tells while it is under way and at its end.

use std::time::Duration;

/// What a pack is about. The phases follow each other in this order; one with nothing to do is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackPhase {
    /// Finding the objects' revisions at the pack time; counts bytes.
    Survey,
    /// Marking what could be reached at the pack time; counts objects.
    Mark,
    /// Marking what later transactions need; counts bytes.
    MarkLater,
    /// Copying what is kept; counts bytes of the old file.
    Copy,
    /// Copying what was committed after the pack time; counts bytes of the old file.
    CatchUp,
    /// Removing blobs of what is not kept; counts objects that have blobs, as far as it has come.
    Blobs,
}

/// How far a pack is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackProgress {
    /// What it is about.
    pub phase: PackPhase,
    /// How much of that is done.
    pub done: u64,
    /// How much there is, as far as one can tell.
    pub total: u64,
}

/// What became of a pack that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackOutcome {
    /// The storage got smaller.
    Packed {
        /// Bytes before.
        before: u64,
        /// Bytes after.
        after: u64,
        /// For what commits had to wait.
        held: Held,
    },
    /// Nothing could be dropped, so nothing was touched.
    NothingToDo,
}

/// For what nobody could commit while a packed storage took the place of what was there before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Bytes that had been committed shortly before and were copied meanwhile.
    pub bytes: u64,
    /// How long that took altogether, if the storage has a clock.
    pub time: Option<Duration>,
}

/// What a pack would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackEstimate {
    /// Bytes before.
    pub before: u64,
    /// Bytes after, as far as one can tell without doing it.
    pub after: u64,
}
