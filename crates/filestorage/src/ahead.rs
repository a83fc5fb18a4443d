//! Reads a file on in a thread of its own, while what has been read is looked at.
//!
//! Three pieces are read ahead at most, so there are five in memory at times. Whoever comes first to the end of one waits
//! for the other, and is woken: large ones are faster, and take more memory. A failed read ends the thread without a
//! word: who needs the piece reads it again and says what is wrong.

use std::{
    ops::Range,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
    thread::{self, JoinHandle},
};
use zeolith_disk::DiskFile;

/// The pieces of a file from some position on.
pub(crate) struct Ahead {
    /// Where the next piece begins, and the last one ends.
    next: u64,
    end: u64,
    /// How long each is but the last.
    piece: u64,
    pieces: Option<Receiver<Vec<u8>>>,
    /// Buffers to be used again.
    spare: Sender<Vec<u8>>,
    thread: Option<JoinHandle<()>>,
}

impl Ahead {
    /// Begins to read `file` from `start` to `end`, so much at once. `None` if there is no thread to be had.
    pub(crate) fn start(file: Arc<dyn DiskFile>, start: u64, end: u64, piece: u64) -> Option<Self> {
        let (sender, pieces) = sync_channel(PIECES_WAITING);
        let (spare, used) = channel();
        let read = move || read_on(&*file, start..end, piece, &sender, &used);
        let thread = thread::Builder::new().name("file-reader".into()).spawn(read).ok()?;
        Some(Self { next: start, end, piece, pieces: Some(pieces), spare, thread: Some(thread) })
    }

    /// Where the next piece begins.
    pub(crate) const fn position(&self) -> u64 {
        self.next
    }

    /// The next piece, after room for [`HEADROOM`] bytes. `None` if there is none.
    pub(crate) fn take(&mut self) -> Option<Vec<u8>> {
        let piece = self.pieces.as_ref()?.recv().ok()?;
        self.next = self.end.min(self.next + self.piece);
        Some(piece)
    }

    /// A buffer to be used again.
    pub(crate) fn give_back(&self, buffer: Vec<u8>) {
        // A reader that has ended does not need it.
        let _ = self.spare.send(buffer);
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        // A reader that waits with a piece in its hands hears of it so.
        self.pieces = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read_on(
    file: &dyn DiskFile,
    range: Range<u64>,
    piece: u64,
    pieces: &SyncSender<Vec<u8>>,
    used: &Receiver<Vec<u8>>,
) {
    let mut position = range.start;
    while position < range.end {
        let len = piece.min(range.end - position) as usize;
        let mut buffer = used.try_recv().unwrap_or_default();
        if buffer.len() != HEADROOM + len {
            // Once, as a rule: it is one of ours the next time.
            buffer = vec![0; HEADROOM + len];
        }
        if file.read_exact_at(&mut buffer[HEADROOM..], position).is_err() || pieces.send(buffer).is_err() {
            return;
        }
        position += len as u64;
    }
}

/// So much of the piece before can be put in front of one.
pub(crate) const HEADROOM: usize = 64 << 10;
/// So many pieces wait until somebody takes them; one more is being read.
const PIECES_WAITING: usize = 2;
