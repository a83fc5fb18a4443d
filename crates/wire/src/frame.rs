//! Cuts a byte stream into frames, and makes frames: four bytes of length, then the content.
//!
//! Does no I/O and knows nothing of what a frame means. Guards the size limit: a frame that announces
//! more is an error before any of it is buffered, and a frame that announces much makes nobody
//! reserve much until the bytes are there.

use crate::WireError;
use bytes::{Bytes, BytesMut};

/// Buffers what came from the socket and gives it out frame by frame.
#[derive(Debug)]
pub struct FrameReader {
    buffer: BytesMut,
    /// How much room was made last.
    space: usize,
    size_max: usize,
}

impl FrameReader {
    /// A reader that takes frames of at most `size_max` bytes.
    #[must_use]
    pub fn new(size_max: usize) -> Self {
        Self { buffer: BytesMut::new(), space: 0, size_max }
    }

    /// From now on takes frames of at most `size_max` bytes.
    pub const fn set_size_max(&mut self, size_max: usize) {
        self.size_max = size_max;
    }

    /// Where the next bytes from the socket go, with room for some; only ever append to it.
    #[must_use]
    pub fn space(&mut self) -> &mut BytesMut {
        // A frame that is kept keeps its buffer, so a buffer is filled well before the next is taken.
        let room_min = if self.space == SPACE_FIRST { 1 } else { SPACE_MIN };
        if self.buffer.capacity() - self.buffer.len() < room_min {
            self.space = if self.space == 0 { SPACE_FIRST } else { SPACE };
            self.buffer.reserve(self.space);
        }
        &mut self.buffer
    }

    /// Appends bytes that are elsewhere already.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The content of the next frame, if it is all there. Frames share memory with the read buffer.
    ///
    /// # Errors
    /// An empty or oversized frame: the stream means nothing any more, and every further call fails alike.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, WireError> {
        let Some((prefix, rest)) = self.buffer.split_first_chunk::<PREFIX_LEN>() else {
            return Ok(None);
        };
        let size = u32::from_be_bytes(*prefix) as usize;
        if size == 0 {
            return Err(WireError::Empty);
        }
        if size > self.size_max {
            return Err(WireError::Oversized { size, size_max: self.size_max });
        }
        if rest.len() < size {
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(PREFIX_LEN + size).freeze();
        if size > SPACE {
            // Let go of a large buffer with its frame: an idle connection shall not hold it.
            self.buffer = BytesMut::from(&self.buffer[..]);
        }
        Ok(Some(frame.split_off(PREFIX_LEN)))
    }

    /// How many bytes wait for the rest of their frame.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }
}

impl Default for FrameReader {
    fn default() -> Self {
        Self::new(FRAME_SIZE_MAX)
    }
}

/// Appends a frame whose content `write` appends.
///
/// # Errors
/// Nothing is appended, and the size told, if the content is larger than a frame can be.
pub fn append_frame(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), WireError> {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX_LEN]);
    write(out);
    let size = out.len() - start - PREFIX_LEN;
    let Ok(prefix) = u32::try_from(size) else {
        out.truncate(start);
        return Err(WireError::Oversized { size, size_max: u32::MAX as usize });
    };
    out[start..start + PREFIX_LEN].copy_from_slice(&prefix.to_be_bytes());
    Ok(())
}

/// The largest frame that is taken unless said otherwise. The reference has no limit; records beyond
/// this belong into blobs.
pub const FRAME_SIZE_MAX: usize = 256 << 20;
/// Bytes of length before each frame.
const PREFIX_LEN: usize = 4;
/// Room made for the first reads from the socket: many come, say hello and little else.
const SPACE_FIRST: usize = 512;
/// Room made for further reads, once less than `SPACE_MIN` is left.
const SPACE: usize = 16 << 10;
const SPACE_MIN: usize = 2 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_split_across_two_reads_comes_out_whole() {
        let mut reader = FrameReader::default();
        reader.push(b"\0\0\0\x02M");
        assert_eq!(reader.next_frame(), Ok(None));
        reader.push(b"5\0");
        assert_eq!(reader.next_frame(), Ok(Some(Bytes::from_static(b"M5"))));
        assert_eq!(reader.next_frame(), Ok(None));
        assert_eq!(reader.buffered(), 1);
    }

    #[test]
    fn a_frame_of_four_gigabytes_is_refused_by_its_prefix() {
        let mut reader = FrameReader::default();
        reader.push(b"\xff\xff\xff\xff");
        let refused = Err(WireError::Oversized { size: 0xffff_ffff, size_max: FRAME_SIZE_MAX });
        assert_eq!(reader.next_frame(), refused);
        reader.push(b"and more");
        assert_eq!(reader.next_frame(), refused);
    }

    #[test]
    fn a_frame_of_exactly_the_limit_is_taken_and_one_byte_more_is_not() {
        let mut reader = FrameReader::new(3);
        reader.push(b"\0\0\0\x03abc\0\0\0\x04");
        assert_eq!(reader.next_frame(), Ok(Some(Bytes::from_static(b"abc"))));
        assert_eq!(reader.next_frame(), Err(WireError::Oversized { size: 4, size_max: 3 }));
    }

    #[test]
    fn a_large_frame_takes_its_buffer_with_it() {
        let mut reader = FrameReader::default();
        let size = 1 << 20;
        reader.push(&u32::try_from(size).unwrap().to_be_bytes());
        reader.push(&vec![b'x'; size]);
        reader.push(b"\0\0\0\x02Z5");
        assert_eq!(reader.next_frame().unwrap().unwrap().len(), size);
        assert!(reader.space().capacity() < size / 2);
        assert_eq!(reader.next_frame(), Ok(Some(Bytes::from_static(b"Z5"))));
    }

    #[test]
    fn small_frames_that_are_kept_share_a_buffer() {
        let mut reader = FrameReader::default();
        let kept: Vec<_> = (0..10)
            .map(|_| {
                reader.space().extend_from_slice(b"\0\0\0\x02Z5");
                reader.next_frame().unwrap().unwrap()
            })
            .collect();
        let (first, last) = (kept[0].as_ptr() as usize, kept[9].as_ptr() as usize);
        assert_eq!(last - first, 9 * 6);
    }

    #[test]
    fn who_says_little_has_little_room_and_who_says_more_has_more() {
        let mut reader = FrameReader::default();
        let mut rooms = Vec::new();
        let mut words = b"\0\0\0\x02Z5".iter().cycle();
        for _ in 0..500 {
            let space = reader.space();
            let room = space.capacity() - space.len();
            rooms.push(room);
            space.extend(words.by_ref().take(room.min(6)));
            while reader.next_frame().unwrap().is_some() {}
        }
        assert!(rooms[..SPACE_FIRST / 6].iter().all(|room| (1..2 * SPACE_FIRST).contains(room)), "{rooms:?}");
        assert!(rooms[SPACE_FIRST / 5..].iter().all(|room| *room >= SPACE_MIN), "{rooms:?}");
    }

    #[test]
    fn an_empty_frame_is_refused() {
        let mut reader = FrameReader::default();
        reader.push(b"\0\0\0\0");
        assert_eq!(reader.next_frame(), Err(WireError::Empty));
    }

    #[test]
    fn frames_are_appended_behind_what_is_there() {
        let mut out = b"before".to_vec();
        append_frame(&mut out, |out| out.extend_from_slice(b"Z5")).unwrap();
        assert_eq!(out, b"before\0\0\0\x02Z5");
    }
}
