//! Tells whether a power failure can have taken bytes of a transaction away without a trace.
//!
//! What was appended and never reached the disk reads as zeros, whole sectors of them. A sector's piece of a
//! transaction that holds anything but zeros has therefore been written; only a blank one, of nothing but
//! zeros, may have been or not. `docs/crash-safety.md` says on what this rests.

/// Looks for a blank piece in bytes that come one after the other.
pub(crate) struct BlankCheck {
    position: u64,
    /// Whether the piece at hand is blank so far; `None` if nothing of it has been seen.
    blank: Option<bool>,
    found: bool,
}

impl BlankCheck {
    /// The first byte comes from `position` in the file.
    pub(crate) const fn new(position: u64) -> Self {
        Self { position, blank: None, found: false }
    }

    /// The next bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() && !self.found {
            let left = SECTOR_LEN - self.position % SECTOR_LEN;
            let (piece, after) = rest.split_at(rest.len().min(left as usize));
            let blank = self.blank.unwrap_or(true) && piece.iter().all(|byte| *byte == 0);
            let is_whole = piece.len() as u64 == left;
            self.position += piece.len() as u64;
            self.found |= is_whole && blank;
            self.blank = (!is_whole).then_some(blank);
            rest = after;
        }
    }

    /// Nothing follows: whether any piece was blank.
    pub(crate) fn found(&self) -> bool {
        self.found || self.blank == Some(true)
    }
}

/// What a disk writes whole or not at all; disks with larger sectors keep this as well.
pub(crate) const SECTOR_LEN: u64 = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn is_found(position: u64, pieces: &[&[u8]]) -> bool {
        let mut check = BlankCheck::new(position);
        pieces.iter().for_each(|piece| check.push(piece));
        check.found()
    }

    #[test]
    fn a_sector_of_zeros_is_found_however_the_bytes_come() {
        let mut bytes = [7; 2000];
        bytes[412..924].fill(0);
        assert!(is_found(100, &[&bytes]));
        assert!(is_found(100, &[&bytes[..500], &bytes[500..501], &[], &bytes[501..]]));
        // One byte further and no sector has only zeros.
        assert!(!is_found(101, &[&bytes]));
        bytes[600] = 1;
        assert!(!is_found(100, &[&bytes]));
    }

    #[test]
    fn a_piece_of_a_sector_counts_at_both_ends() {
        assert!(is_found(511, &[&[0], &[1; 100]]));
        assert!(!is_found(511, &[&[1], &[1; 100]]));
        assert!(is_found(0, &[&[1; 512], &[0; 3]]));
        assert!(!is_found(0, &[&[1; 512], &[0; 3], &[9]]));
        assert!(!is_found(4, &[]));
    }
}
