//! Headers of several records, with few reads if the records lie near each other.
//!
//! What was written together is often written together again. A vote looks up the current record of each object
//! in the order in which the client stored them, and then the next record lies a little behind the last.

use crate::file::{DataFile, HEADER_READ_LEN, Record};
use std::cell::RefCell;
use zeolith_storage::{Patience, Result};
use zeolith_types::Oid;

/// Reads headers, and from the second neighbour on those behind it in the same call.
pub(crate) struct Nearby<'a> {
    file: &'a DataFile,
    /// What durable bytes end at.
    end: u64,
    patience: Patience,
    window: RefCell<Window>,
}

/// Bytes of the file that have been read.
#[derive(Default)]
struct Window {
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Nearby<'a> {
    pub(crate) fn new(file: &'a DataFile, end: u64, patience: Patience) -> Self {
        Self { file, end, patience, window: RefCell::default() }
    }

    /// The header and backpointer of the record of `oid` at `position`.
    pub(crate) fn record(&self, oid: Oid, position: u64) -> Result<Record> {
        let mut window = self.window.borrow_mut();
        if window.at(position).len() < HEADER_READ_LEN {
            let follows = position.checked_sub(window.start).is_some_and(|distance| distance < NEAR);
            let len = if follows { READ_AHEAD } else { HEADER_READ_LEN };
            self.read(&mut window, position, len)?;
        }
        let bytes = window.at(position);
        let bytes = bytes.get(..HEADER_READ_LEN).unwrap_or(bytes);
        self.file.parse(oid, position, self.end, bytes, self.patience)
    }

    fn read(&self, window: &mut Window, position: u64, len: usize) -> Result<()> {
        window.start = position;
        window.bytes.resize(len, 0);
        let read = self.file.read_up_to(&mut window.bytes, HEADER_READ_LEN, position, self.patience);
        window.bytes.truncate(*read.as_ref().unwrap_or(&0));
        read.map(|_| ())
    }
}

impl Window {
    /// What has been read from `position` on.
    fn at(&self, position: u64) -> &[u8] {
        let from = position.checked_sub(self.start).and_then(|from| usize::try_from(from).ok());
        from.and_then(|from| self.bytes.get(from..)).unwrap_or_default()
    }
}

/// A record that begins this far behind the last read at most is a neighbour of what was read.
const NEAR: u64 = 2 * READ_AHEAD as u64;
/// So much is read when a neighbour is asked for; copying it costs about as much as two calls.
const READ_AHEAD: usize = 16 << 10;
