//! Frames to and from a process, each with a deadline.

use std::{
    io::{self, ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

/// One end of a socket pair.
#[derive(Debug)]
pub(crate) struct Channel(UnixStream);

impl Channel {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self(stream)
    }

    /// Sends a frame; `TimedOut` if it is not taken by `until`.
    pub(crate) fn write(&mut self, content: &[u8], until: Instant) -> io::Result<()> {
        let length = u32::try_from(content.len()).map_err(|_| io::Error::from(ErrorKind::InvalidInput))?;
        self.write_all(&length.to_be_bytes(), until)?;
        self.write_all(content, until)
    }

    /// The next frame; `TimedOut` if it is not here by `until`, `UnexpectedEof` if the other end is closed,
    /// `InvalidData` if it announces more than `size_max` bytes.
    pub(crate) fn read(&mut self, size_max: usize, until: Instant) -> io::Result<Vec<u8>> {
        let mut length = Vec::new();
        self.read_exactly(4, &mut length, until)?;
        let size = length.iter().fold(0, |size, byte| size << 8 | usize::from(*byte));
        if size > size_max {
            return Err(ErrorKind::InvalidData.into());
        }
        let mut content = Vec::new();
        self.read_exactly(size, &mut content, until)?;
        Ok(content)
    }

    fn write_all(&mut self, mut bytes: &[u8], until: Instant) -> io::Result<()> {
        while !bytes.is_empty() {
            self.0.set_write_timeout(Some(left(until)?))?;
            match self.0.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) => passed_over(error)?,
            }
        }
        Ok(())
    }

    /// Grows with what arrives, not with what is announced.
    fn read_exactly(&mut self, size: usize, into: &mut Vec<u8>, until: Instant) -> io::Result<()> {
        let mut part = [0; 64 << 10];
        while into.len() < size {
            self.0.set_read_timeout(Some(left(until)?))?;
            let wanted = part.len().min(size - into.len());
            match self.0.read(&mut part[..wanted]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => into.extend_from_slice(&part[..count]),
                Err(error) => passed_over(error)?,
            }
        }
        Ok(())
    }
}

fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// The system's own time-out ends in [`left`], which looks at the clock again.
fn passed_over(error: io::Error) -> io::Result<()> {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => Ok(()),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Channel, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Channel::new(ours), theirs)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(20)
    }

    #[test]
    fn a_frame_goes_there_and_another_comes_back() {
        let (mut channel, mut other) = pair();
        channel.write(b"question", soon()).unwrap();
        let mut seen = [0; 12];
        other.read_exact(&mut seen).unwrap();
        assert_eq!(&seen, b"\0\0\0\x08question");
        other.write_all(b"\0\0\0\x06answer").unwrap();
        assert_eq!(channel.read(6, soon()).unwrap(), b"answer");
    }

    #[test]
    fn silence_ends_at_the_deadline_and_half_a_frame_is_silence() {
        let (mut channel, mut other) = pair();
        assert_eq!(channel.read(10, soon()).unwrap_err().kind(), ErrorKind::TimedOut);
        other.write_all(b"\0\0\0\x06ans").unwrap();
        assert_eq!(channel.read(10, soon()).unwrap_err().kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn who_does_not_listen_is_not_waited_for() {
        let (mut channel, _deaf) = pair();
        let error = channel.write(&vec![0; 8 << 20], soon()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn too_much_is_refused_by_its_announcement() {
        let (mut channel, mut other) = pair();
        other.write_all(b"\xff\xff\xff\xff").unwrap();
        assert_eq!(channel.read(10, soon()).unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
