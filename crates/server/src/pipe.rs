//! A socket with what came in and what is to go out.
//!
//! Reads and writes go on at the same time, so that a client that sends before it reads can't
//! block the two of us. Reading stops while too much waits to go out: a client that does not read is not
//! served until it does.

use bytes::Buf;
use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    time::Instant,
};
use zeolith_wire::FrameReader;

/// A socket and its buffers.
pub(crate) struct Pipe<S> {
    stream: S,
    pub(crate) incoming: FrameReader,
    pub(crate) outgoing: Vec<u8>,
    /// How much of `outgoing` has been written.
    written: usize,
    /// When something was read last.
    read_at: Instant,
    /// With more bytes waiting to go out no more calls are served.
    queue_max: usize,
    /// Since when so much waits and nothing of it has been taken.
    stuck_since: Option<Instant>,
}

/// What became of waiting for the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// More has come in.
    Read,
    /// So much has gone out that calls can go on.
    Written,
    /// The peer will send no more.
    Closed,
}

impl<S> Pipe<S> {
    pub(crate) fn new(stream: S, frame_size_max: usize, queue_max: usize) -> Self {
        Self {
            stream,
            incoming: FrameReader::new(frame_size_max),
            outgoing: Vec::new(),
            written: 0,
            read_at: Instant::now(),
            queue_max,
            stuck_since: None,
        }
    }

    /// The same with another stream in place of its own.
    ///
    /// # Errors
    /// As that one is made.
    pub(crate) fn try_map<T>(self, other: impl FnOnce(S) -> io::Result<T>) -> io::Result<Pipe<T>> {
        let Self { stream, incoming, outgoing, written, read_at, queue_max, stuck_since } = self;
        let stream = other(stream)?;
        Ok(Pipe { stream, incoming, outgoing, written, read_at, queue_max, stuck_since })
    }

    /// What it reads and writes.
    pub(crate) const fn stream(&self) -> &S {
        &self.stream
    }

    /// When something was read last.
    pub(crate) const fn read_at(&self) -> Instant {
        self.read_at
    }

    /// Whether so much waits to go out that no more calls should be served.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting() > self.queue_max
    }

    /// How many bytes wait to go out.
    pub(crate) const fn waiting(&self) -> usize {
        self.outgoing.len() - self.written
    }

    /// When a message that has begun will have stood still for `patience`; `None` if none has begun.
    pub(crate) fn stalls_at(&self, patience: Duration) -> Option<Instant> {
        (self.incoming.buffered() > 0 && !self.is_full()).then(|| self.read_at + patience)
    }

    /// When a peer that does not read will have taken nothing for `patience`; `None` if not enough waits for it.
    pub(crate) fn stuck_at(&mut self, patience: Duration) -> Option<Instant> {
        if !self.is_full() {
            self.stuck_since = None;
            return None;
        }
        Some(*self.stuck_since.get_or_insert_with(Instant::now) + patience)
    }

    /// The same while everything must go out before anything else is said, however little waits.
    pub(crate) fn undrained_at(&mut self, patience: Duration) -> Instant {
        *self.stuck_since.get_or_insert_with(Instant::now) + patience
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Pipe<S> {
    /// Waits until the socket has given or taken something. Safe to cancel.
    pub(crate) async fn progress(&mut self) -> io::Result<Progress> {
        poll_fn(|context| self.poll_progress(context)).await
    }

    fn poll_progress(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Progress>> {
        let was_full = self.is_full();
        if self.poll_write_out(context)?.is_ready() && was_full {
            return Poll::Ready(Ok(Progress::Written));
        }
        if was_full {
            // `is_full` may have become false half-way; then parked calls can go on.
            return if self.is_full() { Poll::Pending } else { Poll::Ready(Ok(Progress::Written)) };
        }
        let read = {
            let mut reading = pin!(self.stream.read_buf(self.incoming.space()));
            std::task::ready!(reading.as_mut().poll(context))?
        };
        if read == 0 {
            return Poll::Ready(Ok(Progress::Closed));
        }
        self.read_at = Instant::now();
        Poll::Ready(Ok(Progress::Read))
    }

    /// Writes as much as the socket takes; ready when nothing is left.
    fn poll_write_out(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.outgoing.len() {
            let mut rest = self.outgoing.get(self.written..).unwrap_or_default();
            let wrote = std::task::ready!(Pin::new(&mut self.stream).poll_write(context, rest.chunk()))?;
            if wrote == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            rest.advance(wrote);
            self.written += wrote;
            self.stuck_since = None;
            // A peer that is always a little behind never lets the buffer run empty.
            if self.written >= WRITTEN_KEPT && self.written * 2 >= self.outgoing.len() {
                self.outgoing.drain(..self.written);
                self.written = 0;
            }
        }
        self.stuck_since = None;
        self.outgoing.clear();
        self.outgoing.shrink_to(KEPT_CAPACITY);
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// Writes what the socket takes at once.
    pub(crate) async fn write_out(&mut self) -> io::Result<()> {
        poll_fn(|context| match self.poll_write_out(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(())),
        })
        .await
    }

    /// Writes everything that waits, without reading. Safe to cancel.
    pub(crate) async fn drain(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_write_out(context)).await
    }

    /// Writes everything that waits, for at most `patience`; for last words.
    pub(crate) async fn flush(&mut self, patience: Duration) {
        let writing = poll_fn(|context| self.poll_write_out(context));
        // The peer may be gone already, and then there is nobody to tell.
        let _ = tokio::time::timeout(patience, writing).await;
    }
}

/// Bytes that have been written and are still in the buffer, at most as many as have not.
const WRITTEN_KEPT: usize = 1 << 20;
/// Bytes that an idle connection's output buffer keeps.
const KEPT_CAPACITY: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    const QUEUE_MAX: usize = 4 << 20;

    #[tokio::test]
    async fn what_comes_in_is_found_in_the_frame_reader_and_what_waits_goes_out() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut pipe = Pipe::new(ours, 1024, QUEUE_MAX);
        pipe.outgoing.extend_from_slice(b"hello");
        theirs.write_all(b"\0\0\0\x02Z5").await.unwrap();
        assert_eq!(pipe.progress().await.unwrap(), Progress::Read);
        assert_eq!(pipe.incoming.next_frame().unwrap().unwrap().as_ref(), b"Z5");
        let mut hello = [0; 5];
        theirs.read_exact(&mut hello).await.unwrap();
        assert_eq!(&hello, b"hello");
    }

    #[tokio::test]
    async fn what_has_been_written_to_a_slow_reader_does_not_pile_up() {
        let (ours, mut theirs) = tokio::io::duplex(64 << 10);
        let mut pipe = Pipe::new(ours, 1024, QUEUE_MAX);
        let mut some = vec![0; 1 << 20];
        for _ in 0..100 {
            pipe.outgoing.resize(pipe.outgoing.len() + (1 << 20), 0);
            let reading = async { theirs.read_exact(&mut some).await.unwrap() };
            tokio::select! {
                _ = reading => {}
                _ = async { loop { pipe.progress().await.unwrap(); } } => {}
            }
        }
        assert!(pipe.outgoing.len() < 8 << 20, "{} bytes are kept", pipe.outgoing.len());
    }

    #[tokio::test]
    async fn a_full_pipe_reads_nothing_until_its_peer_reads() {
        let (ours, mut theirs) = tokio::io::duplex(64 << 10);
        let mut pipe = Pipe::new(ours, 1024, QUEUE_MAX);
        pipe.outgoing = vec![0; QUEUE_MAX + 1];
        theirs.write_all(b"\0\0\0\x02Z5").await.unwrap();
        assert!(pipe.is_full());
        let reader = tokio::spawn(async move {
            let mut everything = vec![0; QUEUE_MAX + 1];
            theirs.read_exact(&mut everything).await.unwrap();
            theirs
        });
        while pipe.is_full() {
            assert_eq!(pipe.incoming.buffered(), 0);
            pipe.progress().await.unwrap();
        }
        while pipe.incoming.buffered() == 0 {
            pipe.progress().await.unwrap();
        }
        pipe.flush(Duration::from_secs(10)).await;
        reader.await.unwrap();
    }
}
