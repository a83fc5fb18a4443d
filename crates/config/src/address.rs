//! Addresses as configuration files write them: a path, `host:port`, `[v6]:port`, a port, a host.

use crate::python::{integer, is_space, quoted};
use std::path::PathBuf;

/// Where a socket is bound or connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketAddress {
    /// A Unix socket: everything with a `/` in it.
    Unix(PathBuf),
    /// A host and a port.
    Inet(InetAddress),
}

/// A host, which may be empty, and a port, which may be missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InetAddress {
    /// A name or a number in lower case, without brackets.
    pub host: String,
    /// The port.
    pub port: Option<u16>,
}

impl SocketAddress {
    /// Reads an address; `default_host` stands for a host that is not there.
    ///
    /// # Errors
    /// In the words of ZConfig.
    pub fn parse(text: &str, default_host: &str) -> Result<Self, String> {
        if text.contains('/') {
            return Ok(Self::Unix(PathBuf::from(text)));
        }
        InetAddress::parse(text, default_host).map(Self::Inet)
    }
}

impl InetAddress {
    /// Reads `host:port`, `[v6]:port`, a bare IPv6 address, `:port`, a port or a host.
    ///
    /// # Errors
    /// In the words of ZConfig.
    pub fn parse(text: &str, default_host: &str) -> Result<Self, String> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
                Some(host) => (host.to_lowercase(), port_if_any(port)?),
                // An IPv6 address without brackets has no port.
                None if host.contains(':') => (text.to_lowercase(), None),
                None => (host.to_lowercase(), port_if_any(port)?),
            },
            None => match integer(text) {
                Ok(number) => (String::new(), Some(in_range(number)?)),
                Err(_) if text.split(is_space).filter(|word| !word.is_empty()).count() != 1 => {
                    return Err(format!("not a valid host name: {}", quoted(text)));
                }
                Err(_) => (text.to_lowercase(), None),
            },
        };
        let host = if host.is_empty() { default_host.to_owned() } else { host };
        Ok(Self { host, port })
    }
}

fn port_if_any(text: &str) -> Result<Option<u16>, String> {
    if text.is_empty() { Ok(None) } else { port_number(text).map(Some) }
}

/// A port, in the words of ZConfig if it is none.
pub(crate) fn port_number(text: &str) -> Result<u16, String> {
    integer(text).and_then(in_range)
}

fn in_range(number: i64) -> Result<u16, String> {
    u16::try_from(number).map_err(|_| match number {
        ..0 => format!("{number} is below lower bound (0)"),
        0.. => format!("{number} is above upper bound (65535)"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inet(text: &str) -> Result<(String, Option<u16>), String> {
        InetAddress::parse(text, "").map(|address| (address.host, address.port))
    }

    fn is(host: &str, port: Option<u16>) -> Result<(String, Option<u16>), String> {
        Ok((host.to_owned(), port))
    }

    #[test]
    fn every_form_of_an_internet_address_is_read() {
        assert_eq!(inet("8100"), is("", Some(8100)));
        assert_eq!(inet(":8100"), is("", Some(8100)));
        assert_eq!(inet("LocalHost:8100"), is("localhost", Some(8100)));
        assert_eq!(inet("127.0.0.1: 0"), is("127.0.0.1", Some(0)));
        assert_eq!(inet("[::1]:8100"), is("::1", Some(8100)));
        assert_eq!(inet("[::1]:"), is("::1", None));
        assert_eq!(inet("::1"), is("::1", None));
        assert_eq!(inet("fe80::A"), is("fe80::a", None));
        assert_eq!(inet("example.com"), is("example.com", None));
        assert_eq!(InetAddress::parse("7", "127.0.0.1").unwrap().host, "127.0.0.1");
    }

    #[test]
    fn wrong_addresses_are_refused() {
        assert_eq!(inet("a b"), Err("not a valid host name: 'a b'".into()));
        assert_eq!(inet(""), Err("not a valid host name: ''".into()));
        assert_eq!(inet("h:70000"), Err("70000 is above upper bound (65535)".into()));
        assert_eq!(inet("h:-1"), Err("-1 is below lower bound (0)".into()));
        assert_eq!(inet("h:x"), Err("invalid literal for int() with base 10: 'x'".into()));
        // The reference takes this for a host name and fails when it binds.
        assert_eq!(inet("99999"), Err("99999 is above upper bound (65535)".into()));
    }

    #[test]
    fn a_slash_makes_a_unix_socket() {
        assert_eq!(SocketAddress::parse("./Sock:1", ""), Ok(SocketAddress::Unix("./Sock:1".into())));
    }
}
