//! What a process prints goes to the log, in lines of a bounded length and number.
//!
//! Whatever is too much is read and left out, so that printing never blocks the process nor grows the server.

use std::{
    io::{ErrorKind, Read},
    os::unix::net::UnixStream,
    time::Instant,
};

/// Passes everything on until the stream ends. Runs on a thread of its own.
pub(crate) fn pass_on(mut stream: UnixStream, pid: u32) {
    let say = |line: &str| tracing::info!(target: crate::LOGGER, "resolver process {pid}: {line}");
    let mut lines = Lines::new();
    let mut buffer = [0; 16 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => lines.push(&buffer[..count], Instant::now(), say),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    lines.finish(say);
}

/// Cuts a stream into lines, and leaves out what is too much.
struct Lines {
    line: Vec<u8>,
    /// The rest of this line is too much.
    is_full: bool,
    left_out: u64,
    allowance: Allowance,
}

impl Lines {
    fn new() -> Self {
        let allowance = Allowance::new(LINES_AT_ONCE, LINES_A_SECOND);
        Self { line: Vec::new(), is_full: false, left_out: 0, allowance }
    }

    fn push(&mut self, mut bytes: &[u8], now: Instant, mut say: impl FnMut(&str)) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.extend(&bytes[..end]);
            self.end_line(now, &mut say);
            bytes = &bytes[end + 1..];
        }
        self.extend(bytes);
    }

    fn extend(&mut self, bytes: &[u8]) {
        let taken = bytes.len().min(LINE_SIZE_MAX - self.line.len());
        self.line.extend_from_slice(&bytes[..taken]);
        self.is_full |= taken < bytes.len();
        self.left_out += (bytes.len() - taken) as u64;
    }

    fn end_line(&mut self, now: Instant, say: &mut impl FnMut(&str)) {
        if self.line.is_empty() {
            return;
        }
        if self.allowance.take(now) {
            self.tell_left_out(say);
            say(&text(&self.line, self.is_full));
        } else {
            self.left_out += self.line.len() as u64;
        }
        self.line.clear();
        self.is_full = false;
    }

    fn tell_left_out(&mut self, say: &mut impl FnMut(&str)) {
        // The rest of the line that comes next is told by its dots.
        if self.left_out > 0 && !self.is_full {
            say(&format!("({} bytes of output are left out)", self.left_out));
            self.left_out = 0;
        }
    }

    fn finish(mut self, mut say: impl FnMut(&str)) {
        if !self.line.is_empty() {
            say(&text(&self.line, self.is_full));
        }
        self.is_full = false;
        self.tell_left_out(&mut say);
    }
}

fn text(line: &[u8], is_full: bool) -> String {
    let line = String::from_utf8_lossy(line);
    format!("{}{}", line.trim_end(), if is_full { "..." } else { "" })
}

/// So many at once, and so many a second in the long run.
#[derive(Debug)]
pub(crate) struct Allowance {
    left: u32,
    at_once: u32,
    a_second: u32,
    since: Option<Instant>,
}

impl Allowance {
    pub(crate) const fn new(at_once: u32, a_second: u32) -> Self {
        Self { left: at_once, at_once, a_second, since: None }
    }

    /// Whether there may be one more.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let seconds = self.since.map_or(0, |since| now.saturating_duration_since(since).as_secs());
        if seconds > 0 || self.since.is_none() {
            let more = u32::try_from(seconds).unwrap_or(u32::MAX).saturating_mul(self.a_second);
            self.left = self.left.saturating_add(more).min(self.at_once);
            self.since = Some(now);
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

/// Bytes; what is longer is cut.
const LINE_SIZE_MAX: usize = 500;
const LINES_AT_ONCE: u32 = 200;
const LINES_A_SECOND: u32 = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn said(parts: &[&[u8]]) -> Vec<String> {
        let mut said = Vec::new();
        let (mut lines, now) = (Lines::new(), Instant::now());
        for part in parts {
            lines.push(part, now, |line| said.push(line.to_owned()));
        }
        lines.finish(|line| said.push(line.to_owned()));
        said
    }

    #[test]
    fn lines_come_out_however_they_were_written() {
        assert_eq!(said(&[b"on", b"e\ntwo\r\n\n", b"thr\xffee"]), ["one", "two", "thr\u{fffd}ee"]);
    }

    #[test]
    fn a_line_that_never_ends_is_cut() {
        let said = said(&[&[b'a'; 1000], &[b'a'; 100_000], b"\nnext\n"]);
        assert_eq!(said[0], format!("{}...", "a".repeat(LINE_SIZE_MAX)));
        assert_eq!(said[1], "(100500 bytes of output are left out)");
        assert_eq!(said[2..], ["next"]);
    }

    #[test]
    fn a_flood_is_left_out_and_counted() {
        let flood = b"0123456\n".repeat(100_000);
        let said = said(&[&flood]);
        assert_eq!(said.len(), LINES_AT_ONCE as usize + 1);
        assert_eq!(*said.last().unwrap(), format!("({} bytes of output are left out)", 7 * (100_000 - 200)));
    }

    #[test]
    fn an_allowance_is_there_again_after_a_while() {
        let (mut allowance, mut now) = (Allowance::new(2, 1), Instant::now());
        assert!(allowance.take(now) && allowance.take(now) && !allowance.take(now));
        now += Duration::from_secs(1);
        assert!(allowance.take(now) && !allowance.take(now));
        now += Duration::from_secs(1000);
        assert!(allowance.take(now) && allowance.take(now) && !allowance.take(now));
    }
}
