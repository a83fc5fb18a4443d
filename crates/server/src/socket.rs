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

/// The socket of a connection, not known to any event loop.
pub(crate) enum Socket {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

/// Both halves of a socket, in an event loop.
pub(crate) enum Divided {
    Tcp(tcp::OwnedReadHalf, Arc<tcp::OwnedWriteHalf>),
    Unix(unix::OwnedReadHalf, Arc<unix::OwnedWriteHalf>),
}

impl Divided {
    /// Joins the event loop of this thread.
    ///
    /// # Errors
    /// Of the system.
    pub(crate) fn enter(socket: Socket) -> io::Result<Self> {
        Ok(match socket {
            Socket::Tcp(stream) => {
                let (read, write) = TcpStream::from_std(stream)?.into_split();
                Self::Tcp(read, Arc::new(write))
            }
            Socket::Unix(stream) => {
                let (read, write) = UnixStream::from_std(stream)?.into_split();
                Self::Unix(read, Arc::new(write))
            }
        })
    }

    /// Leaves the event loop.
    ///
    /// # Errors
    /// Of the system, and if somebody still has [`Self::shared`].
    pub(crate) fn leave(self) -> io::Result<Socket> {
        let shared = || io::Error::other("somebody else may still write to it");
        match self {
            Self::Tcp(read, write) => {
                let write = Arc::into_inner(write).ok_or_else(shared)?;
                read.reunite(write).map_err(io::Error::other)?.into_std().map(Socket::Tcp)
            }
            Self::Unix(read, write) => {
                let write = Arc::into_inner(write).ok_or_else(shared)?;
                read.reunite(write).map_err(io::Error::other)?.into_std().map(Socket::Unix)
            }
        }
    }

    /// The half that is shared.
    pub(crate) fn shared(&self) -> Arc<dyn TryWrite> {
        match self {
            Self::Tcp(_, write) => Arc::<tcp::OwnedWriteHalf>::clone(write),
            Self::Unix(_, write) => Arc::<unix::OwnedWriteHalf>::clone(write),
        }
    }

    fn writer(&self) -> &dyn TryWrite {
        match self {
            Self::Tcp(_, write) => &**write,
            Self::Unix(_, write) => &**write,
        }
    }
}

impl AsyncRead for Divided {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(read, _) => Pin::new(read).poll_read(context, buffer),
            Self::Unix(read, _) => Pin::new(read).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Divided {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let writer = self.writer();
        loop {
            match writer.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(writer.poll_writable(context))?;
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

    fn pair() -> (Divided, UnixStream) {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        (Divided::enter(Socket::Unix(ours)).unwrap(), UnixStream::from_std(theirs).unwrap())
    }

    #[tokio::test]
    async fn what_does_not_fit_waits_for_its_reader_and_comes_whole() {
        let (mut ours, mut theirs) = pair();
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
        let (ours, mut theirs) = pair();
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

    #[tokio::test]
    async fn it_goes_to_another_event_loop_as_it_is_unless_somebody_has_a_part_in_it() {
        let (ours, mut theirs) = pair();
        theirs.write_all(b"hello").await.unwrap();
        let socket = ours.leave().unwrap();
        let elsewhere = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut ours = Divided::enter(socket).unwrap();
                let mut hello = [0; 5];
                ours.read_exact(&mut hello).await.unwrap();
                ours.write_all(&hello).await.unwrap();
            });
        });
        let mut hello = Vec::new();
        theirs.read_to_end(&mut hello).await.unwrap();
        assert_eq!(hello, b"hello");
        elsewhere.join().unwrap();
        let (ours, _theirs) = pair();
        let _part = ours.shared();
        assert!(ours.leave().is_err());
    }
}
