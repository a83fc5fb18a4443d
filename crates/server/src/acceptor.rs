//! Accepts connections in the event loop of a worker, and lets a worker serve each of them.

use crate::{
    address::{Listener, SocketFile},
    log,
    socket::Socket,
    workers::Workers,
};
use rustix::net::{SocketFlags, acceptfrom_with};
use std::{
    io,
    net::{SocketAddr, TcpStream},
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{io::Interest, sync::watch, task::yield_now};
use zeolith_core::SessionId;

/// A socket that listens, in an event loop.
pub(crate) enum Acceptor {
    /// Tokio's own listener makes each connection known to its event loop at once, and it may be the loop of another
    /// worker that needs it. Its streams say when their descriptor is ready and accept nothing, so the descriptor goes as
    /// one of those.
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixListener, SocketFile),
}

impl Acceptor {
    /// Joins the event loop of this thread.
    ///
    /// # Errors
    /// Of the system.
    pub(crate) fn enter(listener: Listener) -> io::Result<Self> {
        Ok(match listener {
            Listener::Tcp(listener) => {
                Self::Tcp(tokio::net::TcpStream::from_std(OwnedFd::from(listener).into())?)
            }
            Listener::Unix(listener, file) => Self::Unix(tokio::net::UnixListener::from_std(listener)?, file),
        })
    }

    /// Accepts connections until `stop` says so, or nobody can say so any more.
    pub(crate) async fn accept(
        self,
        workers: Arc<Workers>,
        sessions: Arc<AtomicU64>,
        mut stop: watch::Receiver<bool>,
    ) {
        for number in (0..IN_A_ROW).cycle() {
            tokio::select! {
                _ = stop.changed() => return,
                accepted = self.next() => match accepted {
                    Ok((socket, peer)) => {
                        let id = SessionId(sessions.fetch_add(1, Relaxed));
                        workers.serve(socket, peer, id);
                    }
                    Err(error) => {
                        tracing::error!(target: log::PROTOCOL, "can't accept a connection: {error}");
                        // Out of file descriptors, most likely: trying at once would only burn the processor.
                        tokio::time::sleep(PAUSE).await;
                    }
                },
            }
            if number + 1 == IN_A_ROW {
                yield_now().await;
            }
        }
    }

    /// The next connection, which does not block, and how its peer is called.
    async fn next(&self) -> io::Result<(Socket, String)> {
        match self {
            Self::Tcp(listener) => {
                let accept = || Ok(acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?);
                let (stream, peer) = listener.async_io(Interest::READABLE, accept).await?;
                let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
                let peer = peer.map_or_else(|| "?".to_owned(), |peer| peer.to_string());
                Ok((Socket::Tcp(TcpStream::from(stream)), peer))
            }
            Self::Unix(listener, file) => {
                let (stream, _) = listener.accept().await?;
                let peer = stream.peer_cred().ok().and_then(|peer| peer.pid());
                let peer = peer.map_or_else(|| "?".to_owned(), |pid| pid.to_string());
                Ok((Socket::Unix(stream.into_std()?), format!("{file} (process {peer})")))
            }
        }
    }
}

/// After so many connections it is the turn of the worker's others.
const IN_A_ROW: u32 = 16;
/// After a failed accept.
const PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::{Address, listen};
    use std::io::Read;

    #[tokio::test]
    async fn what_is_accepted_blocks_nobody_and_delays_nothing() {
        let address = Address::Tcp { host: "127.0.0.1".to_owned(), port: 0 };
        let listener = listen(&address).unwrap().pop().unwrap();
        let address = listener.local_address();
        let acceptor = Acceptor::enter(listener).unwrap();
        let client = std::thread::spawn(move || TcpStream::connect(address).unwrap());
        let (Socket::Tcp(mut stream), peer) = acceptor.next().await.unwrap() else {
            panic!("it listens on TCP")
        };
        let client = client.join().unwrap();
        assert_eq!(peer, client.local_addr().unwrap().to_string());
        assert!(stream.nodelay().unwrap());
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
