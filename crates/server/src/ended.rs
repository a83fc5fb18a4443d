//! Why a connection ended, and the one log line that says so.

use crate::blob_stream::StreamError;
use crate::log;
use std::{fmt, io};
use zeolith_core::CloseReason;
use zeolith_storage::StorageError;
use zeolith_wire::WireError;

/// Why a connection ended.
pub(crate) enum Ended {
    /// The peer closed it.
    ByPeer,
    /// The status was asked for and given.
    StatusGiven,
    /// The socket failed.
    Socket(io::Error),
    /// The bytes are no ZEO.
    Wire(WireError),
    /// The hello is none.
    Hello(WireError),
    /// A blob that is half sent can't be read on.
    Blob(StorageError),
    /// The core says so.
    Core(CloseReason),
    /// It held its locks for too long.
    TransactionTimeout,
    /// A message that had begun, a hello or a registration did not come.
    Silence(&'static str),
}

impl Ended {
    /// One line that names the peer, at the level that the reason deserves.
    pub(crate) fn log(&self, peer: &str) {
        match self {
            Self::ByPeer | Self::StatusGiven => {
                tracing::debug!(target: log::PROTOCOL, "{peer} closed the connection");
            }
            Self::TransactionTimeout => {}
            Self::Hello(error) => tracing::error!(target: log::PROTOCOL, "{peer} bad handshake {error}"),
            Self::Core(CloseReason::InvalidMethod(name)) => {
                let name: String = name.chars().take(NAME_SHOWN_MAX).collect();
                tracing::error!(target: log::PROTOCOL, "{peer} Invalid method, {name:?}; connection closed");
            }
            other => tracing::error!(target: log::PROTOCOL, "{peer} Disconnected: {other}"),
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByPeer => f.write_str("closed by the peer"),
            Self::StatusGiven => f.write_str("the status was given"),
            Self::Socket(error) => write!(f, "{error}"),
            Self::Wire(error) => write!(f, "Can't deserialize message: {error}"),
            Self::Hello(error) => write!(f, "bad handshake {error}"),
            Self::Blob(error) => write!(f, "a blob could only be sent in part: {error}"),
            Self::Core(CloseReason::InvalidMethod(name)) => write!(f, "Invalid method, {name:?}"),
            Self::Core(CloseReason::OneWayFailed(method, refusal)) => {
                write!(f, "one-way `{method}` raised exception: {refusal}")
            }
            Self::Core(CloseReason::Lagged) => {
                f.write_str("the client does not read its invalidations and fell too far behind")
            }
            Self::TransactionTimeout => f.write_str("transaction timeout"),
            Self::Silence(awaited) => write!(f, "{awaited} did not come in time"),
        }
    }
}

impl From<StreamError> for Ended {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Storage(error) => Self::Blob(error),
            StreamError::Pool(error) => Self::Socket(error),
        }
    }
}

/// Characters of an unknown method's name that a log line shows.
const NAME_SHOWN_MAX: usize = 100;
