//! Reads a file once from its beginning to its end, in large pieces, and ahead if the disk gains by that.

use crate::{
    ahead::{Ahead, HEADROOM},
    file::DataFile,
    format::{NUMBER_LEN, RECORD_HEADER_LEN, RecordHeader, TransactionHeader},
};
use std::sync::Arc;
use zeolith_storage::{Patience, Result, StorageError};

/// A file that is read in the order of positions, as far as somebody says that it is whole.
pub(crate) struct Input<'a> {
    pub(crate) file: &'a DataFile,
    end: u64,
    /// How much is read at once, and ahead.
    piece: u64,
    ahead_piece: u64,
    buffer: Vec<u8>,
    /// Where in the buffer the bytes of the file begin, where they do in the file, and how many there are.
    base: usize,
    start: u64,
    filled: usize,
    /// How many pieces have been read one after the other.
    in_order: u32,
    ahead: Option<Ahead>,
    /// Up to where somebody has looked; and of what was read ahead how much there was, and how much was left out.
    looked_to: u64,
    taken_ahead: u64,
    left_out: u64,
    /// Bytes read since somebody asked.
    read: u64,
}

impl<'a> Input<'a> {
    /// The file up to `end`, to be read whole.
    pub(crate) const fn new(file: &'a DataFile, end: u64) -> Self {
        Self::in_pieces(file, end, PIECE)
    }

    /// The same for somebody who is in a hurry, and has memory.
    pub(crate) const fn in_a_hurry(file: &'a DataFile, end: u64) -> Self {
        let mut input = Self::new(file, end);
        input.ahead_piece = LARGE_PIECE;
        input
    }

    /// The same for somebody who leaves out more than `piece` bytes now and then.
    pub(crate) const fn in_pieces(file: &'a DataFile, end: u64, piece: u64) -> Self {
        Self {
            file,
            end,
            piece,
            ahead_piece: PIECE,
            buffer: Vec::new(),
            base: 0,
            start: 0,
            filled: 0,
            in_order: 0,
            ahead: None,
            looked_to: 0,
            taken_ahead: 0,
            left_out: 0,
            read: 0,
        }
    }

    /// From now on so much is read at once.
    pub(crate) fn set_piece(&mut self, piece: u64) {
        self.piece = piece;
        (self.in_order, self.ahead) = (0, None);
    }

    /// Where the file ends for this reader.
    pub(crate) const fn end(&self) -> u64 {
        self.end
    }

    /// How many bytes were read since the last time.
    pub(crate) const fn take_read(&mut self) -> u64 {
        std::mem::replace(&mut self.read, 0)
    }

    /// The header of the transaction at `position`, which ends with its length before the end.
    pub(crate) fn transaction(&mut self, position: u64) -> Result<TransactionHeader> {
        let room = self.end.saturating_sub(position).saturating_sub(NUMBER_LEN as u64);
        let header = match self.bytes(position, crate::format::TRANSACTION_HEADER_LEN as u64)?.first_chunk() {
            Some(bytes) => TransactionHeader::decode(bytes),
            None => return Err(self.ends_too_early(position)),
        };
        if header.len < header.header_len() || header.len > room {
            return Err(self.file.corrupt(position, "invalid transaction header".into()));
        }
        if self.number_aside(position + header.len)? != header.len {
            let what = "redundant transaction length check failed";
            return Err(self.file.corrupt(position, what.into()));
        }
        Ok(header)
    }

    /// The header of the record at `position` of a transaction whose records end at `end`.
    pub(crate) fn record(&mut self, position: u64, transaction: u64, end: u64) -> Result<RecordHeader> {
        let header = match end.checked_sub(position) {
            Some(room) if room >= RECORD_HEADER_LEN as u64 => {
                self.bytes(position, RECORD_HEADER_LEN as u64)?.first_chunk().map(RecordHeader::decode)
            }
            _ => None,
        };
        header
            .filter(|header| header.record_len() <= end - position && header.transaction == transaction)
            .filter(|header| header.version_len == 0)
            .ok_or_else(|| self.file.corrupt(position, "data record exceeds transaction record".into()))
    }

    /// Whether the record at `position` says that its object does not exist from here on.
    pub(crate) fn is_gone(&mut self, record: &RecordHeader, position: u64) -> Result<bool> {
        Ok(record.data_len == 0 && self.number(position + RECORD_HEADER_LEN as u64)? == 0)
    }

    /// The number at `position`.
    pub(crate) fn number(&mut self, position: u64) -> Result<u64> {
        let bytes = self.bytes(position, NUMBER_LEN as u64)?;
        Ok(crate::format::u64_at(bytes, 0))
    }

    /// The number at `position`, without leaving what is in the buffer: it is read next.
    fn number_aside(&mut self, position: u64) -> Result<u64> {
        if self.holds(position, NUMBER_LEN as u64) {
            return self.number(position);
        }
        let mut bytes = [0; NUMBER_LEN];
        self.file.read_exact(&mut bytes, position, Patience::Wait)?;
        Ok(u64::from_be_bytes(bytes))
    }

    const fn holds(&self, position: u64, len: u64) -> bool {
        position >= self.start && position + len <= self.start + self.filled as u64
    }

    /// `len` bytes at `position`.
    pub(crate) fn bytes(&mut self, position: u64, len: u64) -> Result<&[u8]> {
        if position.checked_add(len).is_none_or(|past| past > self.end) {
            return Err(self.ends_too_early(position));
        }
        if !self.holds(position, len) {
            self.fill(position, len)?;
        }
        self.looked_to = position + len;
        let from = self.base + (position - self.start) as usize;
        Ok(&self.buffer[from..from + len as usize])
    }

    fn ends_too_early(&self, position: u64) -> StorageError {
        self.file.corrupt(position, "the file ends too early".into())
    }

    fn fill(&mut self, position: u64, len: u64) -> Result<()> {
        if self.is_ahead_at(position, len) {
            return Ok(());
        }
        let wanted = len.max(self.piece).min(self.end - position) as usize;
        let last = self.start..=self.start + self.filled as u64 + self.piece;
        self.in_order = if last.contains(&position) { self.in_order + 1 } else { 0 };
        (self.base, self.start, self.filled) = (0, position, 0);
        if wanted <= PIECE as usize && self.buffer.len() > HEADROOM + self.ahead_piece as usize {
            // A large record's memory is given back with the next piece.
            self.buffer = Vec::new();
        }
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        // Less than is wanted may be there by now, if somebody else writes the file.
        let buffer = &mut self.buffer[..wanted];
        self.filled = self.file.read_up_to(buffer, len as usize, position, Patience::Wait)?;
        self.read += self.filled as u64;
        if (self.filled as u64) < len {
            return Err(self.ends_too_early(position));
        }
        let next = position + self.filled as u64;
        if self.ahead.is_none() && self.is_worth_a_thread(next) {
            self.ahead = Ahead::start(Arc::clone(&self.file.file), next, self.end, self.ahead_piece);
            (self.taken_ahead, self.left_out) = (0, 0);
        }
        Ok(())
    }

    /// Whether it seems that everything after `position` will be wanted, and is so much that a thread pays.
    fn is_worth_a_thread(&self, position: u64) -> bool {
        self.piece == PIECE
            && self.in_order >= PIECES_IN_ORDER
            && self.end - position > AHEAD_MIN
            && self.file.file.overlaps()
    }

    /// Whether the bytes are in the buffer now because they have been read ahead.
    fn is_ahead_at(&mut self, position: u64, len: u64) -> bool {
        // The large records that a scan does not look into are read as well.
        self.left_out += position.saturating_sub(self.looked_to);
        while let Some(ahead) = &self.ahead {
            let next = ahead.position();
            let before = next.saturating_sub(position);
            if before > HEADROOM as u64 && self.holds(position, before) {
                // A large record: it is read by itself, and one of the next pieces has what follows it.
                return false;
            }
            let is_behind = before > 0 && !self.holds(position, before);
            let is_elsewhere = is_behind || position > next + PASSED_OVER_MAX;
            let is_waste = self.left_out > self.taken_ahead / 2 + PASSED_OVER_MAX;
            if is_elsewhere || is_waste || !self.take_ahead(before as usize) {
                self.ahead = None;
            } else if self.holds(position, len) {
                return true;
            }
        }
        false
    }

    /// Goes on to the next piece, with the last `before` bytes of the buffer in front of it.
    fn take_ahead(&mut self, before: usize) -> bool {
        let Some(ahead) = &mut self.ahead else { return false };
        let next = ahead.position();
        let Some(mut piece) = ahead.take() else { return false };
        let tail = self.base + (next - before as u64 - self.start) as usize;
        piece[HEADROOM - before..HEADROOM].copy_from_slice(&self.buffer[tail..tail + before]);
        let read = piece.len() - HEADROOM;
        ahead.give_back(std::mem::replace(&mut self.buffer, piece));
        (self.base, self.start, self.filled) = (HEADROOM - before, next - before as u64, before + read);
        self.read += read as u64;
        self.taken_ahead += read as u64;
        true
    }
}

/// How much is read at once.
pub(crate) const PIECE: u64 = 256 << 10;
/// Of this size five are several megabytes: while a server starts that is no matter.
const LARGE_PIECE: u64 = 1 << 20;
/// So many pieces one after the other promise more.
const PIECES_IN_ORDER: u32 = 2;
/// What remains must be more than this for a thread to be started.
const AHEAD_MIN: u64 = 8 << 20;
/// Whoever leaves out more than this, at once or beyond half of everything, does not need what is read ahead.
const PASSED_OVER_MAX: u64 = 2 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use zeolith_disk::{Access, Disk, RealDisk};

    const LEN: u64 = 40 << 20;

    /// The number at a multiple of eight says where it is.
    fn numbered() -> (tempfile::TempDir, DataFile) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let bytes: Vec<u8> = (0..LEN / 8).flat_map(|number| (number * 8).to_be_bytes()).collect();
        std::fs::write(&path, bytes).unwrap();
        let file = RealDisk.open(&path, Access::Write).unwrap();
        (folder, DataFile { file, path })
    }

    fn is_right(bytes: &[u8], position: u64) -> bool {
        bytes.chunks(8).zip(0..).all(|(number, turn)| *number == (position + turn * 8).to_be_bytes())
    }

    #[test]
    fn what_is_read_ahead_is_what_is_there_whatever_is_left_out() {
        let (_folder, file) = numbered();
        // Records and gaps by turns, of every size that means something to who reads ahead.
        for seed in 1..40_u64 {
            let mut state = seed;
            let mut next = |of: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % of
            };
            let mut input =
                if seed % 2 == 0 { Input::new(&file, LEN) } else { Input::in_a_hurry(&file, LEN) };
            let (mut position, mut was_ahead, mut seen) = (8, false, 0);
            while position < LEN {
                let size = match next(40) {
                    0 => next(5 << 20),
                    1..5 => next(1 << 17),
                    _ => next(1 << 12),
                };
                let len = (size / 8 * 8 + 8).min(LEN - position);
                assert!(is_right(input.bytes(position, len).unwrap(), position), "{seed}: {position} {len}");
                was_ahead |= input.ahead.is_some();
                seen += len;
                // The header is often looked at once more.
                assert_eq!(input.number(position).unwrap(), position);
                let gap = match next(40) {
                    0 if seed % 3 == 1 => next(4 << 20),
                    1..9 if seed % 3 == 2 => next(1 << 16),
                    _ => 0,
                };
                let back = if next(1000) == 0 { position / 3 } else { 0 };
                position = (position + len + gap - back) / 8 * 8;
            }
            assert!(was_ahead, "{seed}");
            assert!(input.take_read() >= seen.min(LEN / 2));
        }
    }

    #[test]
    fn nothing_is_found_wherever_the_buffer_is() {
        let (_folder, file) = numbered();
        let mut input = Input::new(&file, LEN);
        for position in (0..LEN).step_by(4096) {
            // A transaction may have no texts, and they are asked for late.
            let texts = position.saturating_sub(300_000);
            assert!(input.bytes(position, 4096).is_ok() && input.bytes(texts, 0).is_ok_and(<[u8]>::is_empty));
        }
    }

    #[test]
    fn a_file_in_order_is_read_once() {
        let (_folder, file) = numbered();
        let mut input = Input::new(&file, LEN);
        for position in (0..LEN - 1000).step_by(1000) {
            assert!(is_right(input.bytes(position, 1000).unwrap(), position));
        }
        let read = input.take_read();
        assert!((LEN..LEN + 4000).contains(&read), "{read}");
    }

    #[test]
    fn what_is_read_ahead_in_vain_is_not_read_for_long() {
        let (_folder, file) = numbered();
        let mut input = Input::new(&file, LEN);
        (0..1000).for_each(|number| assert_eq!(input.number(number * 1000).unwrap(), number * 1000));
        assert!(input.ahead.is_some());
        for position in (1 << 20..LEN).step_by(900_000).map(|position| position / 8 * 8) {
            assert_eq!(input.number(position).unwrap(), position);
        }
        assert!(input.ahead.is_none());
        let read = input.take_read();
        assert!(read < LEN / 2, "{read}");
    }

    #[test]
    fn a_file_that_ends_early_is_an_error_at_the_place_that_is_missing() {
        let (_folder, file) = numbered();
        let mut input = Input::new(&file, LEN);
        file.file.set_len(LEN / 2).unwrap();
        let whole =
            (0..LEN).step_by(4096).take_while(|position| input.bytes(*position, 4096).is_ok()).count();
        assert!((LEN / 2 - PIECE..=LEN / 2).contains(&(whole as u64 * 4096)), "{whole}");
    }

    #[test]
    fn who_leaves_off_ends_the_reader() {
        let (_folder, file) = numbered();
        let mut input = Input::new(&file, LEN);
        for position in (0..4 * PIECE).step_by(4096) {
            input.bytes(position, 4096).unwrap();
        }
        assert!(input.ahead.is_some());
        drop(input);
        assert_eq!(Arc::strong_count(&file.file), 1);
    }
}
