//! A socket that its connection reads and writes, and to which its worker may write as well.
//!
//! The connection's task has both halves. The worker shares the second one: to a client that is silent it writes
//! what was published without waking the task (`listeners.rs`).

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream, tcp, unix},
};

/// Something to which more than one can write, but not at the same time.
pub(crate) trait TryWrite: Send + Sync {
    /// Writes what can be written at once, and says how many bytes that was.
    ///
    /// # Errors
    /// `WouldBlock` if it was nothing.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Waits until something can be written.
    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
}

impl TryWrite for tcp::OwnedWriteHalf {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        Self::try_write(self, bytes)
    }

    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.as_ref().poll_write_ready(context)
    }
}

impl TryWrite for unix::OwnedWriteHalf {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        Self::try_write(self, bytes)
    }

    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.as_ref().poll_write_ready(context)
    }
}

/// Both halves of a socket.
pub(crate) struct Divided<R, W> {
    read: R,
    write: Arc<W>,
}

impl<R, W: TryWrite + 'static> Divided<R, W> {
    /// The half that is shared.
    pub(crate) fn shared(&self) -> Arc<dyn TryWrite> {
        Arc::<W>::clone(&self.write)
    }
}

impl From<TcpStream> for Divided<tcp::OwnedReadHalf, tcp::OwnedWriteHalf> {
    fn from(stream: TcpStream) -> Self {
        let (read, write) = stream.into_split();
        Self { read, write: Arc::new(write) }
    }
}

impl From<UnixStream> for Divided<unix::OwnedReadHalf, unix::OwnedWriteHalf> {
    fn from(stream: UnixStream) -> Self {
        let (read, write) = stream.into_split();
        Self { read, write: Arc::new(write) }
    }
}

impl<R: AsyncRead + Unpin, W> AsyncRead for Divided<R, W> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.read).poll_read(context, buffer)
    }
}

impl<R: Unpin, W: TryWrite> AsyncWrite for Divided<R, W> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.write.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.write.poll_writable(context))?;
                }
                written => return Poll::Ready(written),
            }
        }
    }

    /// Nothing is kept back.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Both ends are closed when the socket is let go.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn what_does_not_fit_waits_for_its_reader_and_comes_whole() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut ours = Divided::from(ours);
        let everything: Vec<u8> = (0..4 << 20).map(|number: u32| number.to_le_bytes()[1]).collect();
        let sent = everything.clone();
        let writer = tokio::spawn(async move {
            ours.write_all(&sent).await.unwrap();
            ours
        });
        let mut came = vec![0; everything.len()];
        theirs.read_exact(&mut came).await.unwrap();
        assert!(came == everything);
        let mut ours = writer.await.unwrap();
        theirs.write_all(b"hello").await.unwrap();
        let mut hello = [0; 5];
        ours.read_exact(&mut hello).await.unwrap();
        assert_eq!(&hello, b"hello");
    }

    #[tokio::test]
    async fn who_shares_it_writes_what_fits_and_no_more() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let ours = Divided::from(ours);
        let shared = ours.shared();
        std::future::poll_fn(|context| shared.poll_writable(context)).await.unwrap();
        let mut sent = 0;
        let full = loop {
            match shared.try_write(&[7; 100_000]) {
                Ok(written) => sent += written,
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        drop((ours, shared));
        let mut came = Vec::new();
        theirs.read_to_end(&mut came).await.unwrap();
        assert_eq!(came.len(), sent, "both halves are gone, and so is the socket");
    }
}
