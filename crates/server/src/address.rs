//! Where a server listens, and the sockets that do it.

use socket2::{Domain, Protocol, Socket, Type};
use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs},
    os::unix::{
        fs::FileTypeExt,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP port on a host; an empty host means all interfaces, port 0 any free port.
    Tcp {
        /// Name or number, without brackets.
        host: String,
        /// 0 to 65535.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A socket that listens and is known to no event loop.
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

impl Listener {
    /// The address that it is really bound to.
    pub(crate) fn local_address(&self) -> String {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(|a| a.to_string()).unwrap_or_default(),
            Self::Unix(_, file) => file.to_string(),
        }
    }
}

/// The file of a Unix socket, removed when nobody listens any more.
pub(crate) struct SocketFile(PathBuf);

impl fmt::Display for SocketFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.display())
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A file that stays behind only costs the next start a connection attempt.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Listens on every interface that the address names.
pub(crate) fn listen(address: &Address) -> io::Result<Vec<Listener>> {
    match address {
        Address::Unix(path) => Ok(vec![listen_unix(path)?]),
        Address::Tcp { host, port } => {
            let mut port = *port;
            let mut listeners = Vec::new();
            for ip in interfaces(host)? {
                match listen_tcp(SocketAddr::new(ip, port)) {
                    Ok(listener) => {
                        // All interfaces get the port that the first one was given.
                        port = listener.local_addr()?.port();
                        listeners.push(Listener::Tcp(listener));
                    }
                    // A machine without IPv6 can still listen on everything it has.
                    Err(error) if !listeners.is_empty() && is_missing_family(&error) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(listeners)
        }
    }
}

fn interfaces(host: &str) -> io::Result<Vec<IpAddr>> {
    if host.is_empty() {
        return Ok(vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]);
    }
    let mut ips: Vec<IpAddr> = (host, 0).to_socket_addrs()?.map(|address| address.ip()).collect();
    ips.sort_unstable();
    ips.dedup();
    Ok(ips)
}

fn is_missing_family(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(EAFNOSUPPORT | EADDRNOTAVAIL))
}

fn listen_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    // As it is, so are the connections. Replies are written whole; waiting for more would only delay them.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn listen_unix(path: &Path) -> io::Result<Listener> {
    let is_socket = path.symlink_metadata().is_ok_and(|metadata| metadata.file_type().is_socket());
    if is_socket {
        match UnixStream::connect(path) {
            Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
            // Nobody answers: a server that was killed left it behind.
            Err(_) => std::fs::remove_file(path)?,
        }
    }
    let listener = UnixListener::bind(path)?;
    let file = SocketFile(path.to_owned());
    listener.set_nonblocking(true)?;
    Ok(Listener::Unix(listener, file))
}

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;
const EAFNOSUPPORT: i32 = 97;
const EADDRNOTAVAIL: i32 = 99;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_prints_as_it_is_written() {
        let address = |host: &str| Address::Tcp { host: host.to_owned(), port: 8100 }.to_string();
        assert_eq!(address("127.0.0.1"), "127.0.0.1:8100");
        assert_eq!(address("::1"), "[::1]:8100");
    }

    #[test]
    fn a_socket_file_that_nobody_listens_on_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let listener = listen(&Address::Unix(path.clone())).unwrap();
        let refused = listen(&Address::Unix(path.clone())).err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        assert!(!path.exists());
    }
}
