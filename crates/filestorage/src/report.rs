//! What opening a storage found, for the log of whoever opened it.

use std::{fmt, path::PathBuf, time::Duration};
use zeolith_types::{Oid, Tid};

/// What opening a storage found.
#[derive(Clone, Debug)]
pub struct OpenReport {
    /// What was out of order, in the order in which it was found.
    pub findings: Vec<Finding>,
    /// How many findings there were beyond the first hundred.
    pub findings_omitted: u64,
    /// What became of the saved index.
    pub index: IndexUse,
    /// Number of objects.
    pub objects: u64,
    /// Bytes up to the end of the last transaction.
    pub size: u64,
    /// How many of them were scanned.
    pub scanned: u64,
    /// The last transaction.
    pub last_tid: Tid,
    /// How long it took, by the clock of the options.
    pub duration: Duration,
}

/// What became of the saved index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IndexUse {
    /// There is none.
    Missing,
    /// It is not to be used: the database is new, or opened as of an earlier time.
    NotWanted,
    /// It saved scanning the file up to here.
    Used {
        /// A position in the file.
        up_to: u64,
    },
    /// It does not fit the file, or can't be read.
    Ignored {
        /// Why.
        why: String,
    },
}

/// Something that an operator may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A transaction's tid is not above that of the one before.
    TidReduction {
        /// Where the transaction is.
        at: u64,
        /// Its tid.
        tid: Tid,
    },
    /// A transaction's status is none that is known.
    UnknownStatus {
        /// Where the transaction is.
        at: u64,
        /// The status byte.
        status: u8,
    },
    /// A record's pointer to the object's previous record is wrong.
    WrongPrevious {
        /// Where the record is.
        at: u64,
        /// The object.
        oid: Oid,
        /// What it says.
        says: u64,
        /// What it should say.
        should: u64,
    },
    /// The end of the file was cut off.
    CutOff {
        /// Where the cut is.
        from: u64,
        /// Where the file ended.
        to: u64,
        /// Where the bytes were saved; `None` if they were too few to matter.
        saved: Option<PathBuf>,
        /// Why.
        why: TailTrouble,
    },
    /// The end of the file is left out of account, and left in place since the storage is read-only.
    LeftOut {
        /// Where what counts ends.
        from: u64,
        /// Where the file ends.
        to: u64,
        /// Why.
        why: TailTrouble,
    },
    /// The watermark beside the file is not believed, so that a torn end may go unnoticed.
    WatermarkNotUsed {
        /// Why.
        why: String,
    },
    /// The last tid is later than the clock says.
    InFuture {
        /// The tid.
        tid: Tid,
        /// How much later.
        by: Duration,
    },
    /// What an unfinished pack had left was removed.
    PackRemoved {
        /// The file.
        path: PathBuf,
    },
}

/// What is wrong with the end of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TailTrouble {
    /// It is shorter than the header of a transaction.
    ShortHeader,
    /// The transaction there was voted and never finished.
    Unfinished,
    /// The transaction there claims to be longer than the file.
    TooLong,
    /// The header there is no header.
    BadHeader,
    /// Some of its sectors never reached the disk, so it was never acknowledged.
    Torn,
}

impl fmt::Display for TailTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ShortHeader => "a transaction's header breaks off",
            Self::Unfinished => "a transaction was voted and never finished",
            Self::TooLong => "a transaction claims to be longer than the file",
            Self::BadHeader => "these bytes are no transaction",
            Self::Torn => "part of a transaction that was being written never reached the disk",
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TidReduction { at, tid } => {
                write!(f, "time-stamp reduction at {at}: tid {tid} is not above the one before")
            }
            Self::UnknownStatus { at, status } => {
                write!(f, "the transaction at {at} has invalid status {:?}", char::from(*status))
            }
            Self::WrongPrevious { at, oid, says, should } => {
                write!(f, "incorrect previous pointer at {at}: {oid} was at {should}, the record says {says}")
            }
            Self::CutOff { from, to, saved: Some(path), why } => write!(
                f,
                "{why}: bytes {from} to {to} were moved from the end of the file to {}",
                path.display()
            ),
            Self::CutOff { from, to, saved: None, why } => {
                write!(f, "{why}: bytes {from} to {to} were cut off the end of the file")
            }
            Self::LeftOut { from, to, why } => {
                write!(f, "{why}: bytes {from} to {to} at the end of the file are left out of account")
            }
            Self::WatermarkNotUsed { why } => {
                write!(f, "what .synced says about the end of the file is not used: {why}")
            }
            Self::InFuture { tid, by } => {
                write!(f, "the last transaction {tid} is {} seconds in the future", by.as_secs())
            }
            Self::PackRemoved { path } => {
                write!(f, "{} of a pack that was cut short was removed", path.display())
            }
        }
    }
}

/// Gathers findings up to a bound.
#[derive(Default)]
pub(crate) struct Findings {
    pub(crate) list: Vec<Finding>,
    pub(crate) omitted: u64,
}

impl Findings {
    pub(crate) fn push(&mut self, finding: Finding) {
        if self.list.len() < FINDINGS_MAX {
            self.list.push(finding);
        } else {
            self.omitted += 1;
        }
    }
}

const FINDINGS_MAX: usize = 100;
