//! A connection to a server, as every command that asks one needs it.

use std::{
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    os::unix::net::UnixStream,
    time::Duration,
};
use zeolith_config::SocketAddress;

/// A connection over TCP or a Unix socket.
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Connects to an address as people write it; the message names it.
    pub(crate) fn connect_to(address: &str, timeout: Duration) -> Result<Self, String> {
        let failed = |error: io::Error| format!("can't connect to {address}: {error}");
        let parsed = SocketAddress::parse(address, "127.0.0.1");
        let parsed = parsed.map_err(|message| failed(invalid(message)))?;
        Self::connect(&parsed, timeout).map_err(failed)
    }

    /// Connects; nothing on the connection waits longer than `timeout`.
    pub(crate) fn connect(address: &SocketAddress, timeout: Duration) -> io::Result<Self> {
        let socket = match address {
            SocketAddress::Unix(path) => Self::Unix(UnixStream::connect(path)?),
            SocketAddress::Inet(inet) => {
                let port = inet.port.ok_or_else(|| invalid("the port is missing".to_owned()))?;
                let host = if inet.host.is_empty() { "127.0.0.1" } else { &inet.host };
                Self::Tcp(connect_to_any((host, port), timeout)?)
            }
        };
        socket.set_timeout(timeout)?;
        Ok(socket)
    }

    /// From now on nothing waits longer than this.
    pub(crate) fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => {
                stream.set_read_timeout(Some(timeout))?;
                stream.set_write_timeout(Some(timeout))
            }
            Self::Unix(stream) => {
                stream.set_read_timeout(Some(timeout))?;
                stream.set_write_timeout(Some(timeout))
            }
        }
    }

    /// The content of the next frame.
    pub(crate) fn read_frame(&mut self, size_max: u32) -> io::Result<Vec<u8>> {
        let mut size = [0; 4];
        self.read_exact(&mut size)?;
        let size = u32::from_be_bytes(size);
        if size > size_max {
            return Err(io::Error::other(format!("it announces an answer of {size} bytes")));
        }
        let mut content = Vec::new();
        self.take(size.into()).read_to_end(&mut content)?;
        if content.len() < size as usize {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(content)
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn connect_to_any(address: (&str, u16), timeout: Duration) -> io::Result<TcpStream> {
    let mut last = invalid("the host has no address".to_owned());
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}
