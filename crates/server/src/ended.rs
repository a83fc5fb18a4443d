//! Why a connection ended, and the one log line that says so.

use crate::{
    blob_stream::StreamError,
    host::Panicked,
    limits::{Limit, Limits},
    log,
};
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
    /// Its client has come back on another connection and been told that its transaction is aborted.
    Disowned,
    /// The storage panicked over its vote.
    Defect(Panicked),
    /// Something did not come.
    Silence(Awaited),
    /// It had not registered for longer than all others, and there were too many.
    PushedOut,
}

/// What did not come in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// The first frame.
    Hello,
    /// A successful `register`.
    Registration,
    /// The rest of a message.
    Message,
    /// Somebody who reads what we send.
    Reader,
}

impl Ended {
    /// The limit that ended the connection, if one did.
    fn limit(&self) -> Option<Limit> {
        match self {
            Self::Silence(Awaited::Hello) => Some(Limit::HelloTimeout),
            Self::Silence(Awaited::Registration) => Some(Limit::RegisterTimeout),
            Self::Silence(Awaited::Message | Awaited::Reader) => Some(Limit::FrameTimeout),
            Self::PushedOut => Some(Limit::UnregisteredConnections),
            Self::Hello(WireError::Oversized { .. }) | Self::Wire(WireError::Oversized { .. }) => {
                Some(Limit::FrameSize)
            }
            Self::Core(CloseReason::Lagged) => Some(Limit::ClientLag),
            Self::ByPeer
            | Self::StatusGiven
            | Self::Socket(_)
            | Self::Wire(_)
            | Self::Hello(_)
            | Self::Core(_)
            | Self::TransactionTimeout
            | Self::Disowned
            | Self::Defect(_)
            | Self::Blob(_) => None,
        }
    }

    /// Counts the limit that it ran into, and logs one line that names the peer, at the level that the reason
    /// deserves.
    pub(crate) fn report(&self, peer: &str, limits: &Limits) {
        if let Some(limit) = self.limit() {
            limits.count(limit);
            tracing::warn!(target: log::PROTOCOL, "{peer} Disconnected: {self} ({})", limit.key());
            return;
        }
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
            Self::Disowned => f.write_str("the client has given up its transaction on another connection"),
            Self::Defect(Panicked(said)) => {
                write!(
                    f,
                    "a defect of the server: the storage panicked at the vote, whose locks are free: {said}"
                )
            }
            Self::Silence(awaited) => f.write_str(match awaited {
                Awaited::Hello => "a hello did not come in time",
                Awaited::Registration => "a registration did not come in time",
                Awaited::Message => "the rest of a message did not come in time",
                Awaited::Reader => "the client does not read what waits for it",
            }),
            Self::PushedOut => f.write_str("too many connections have not registered, this one for longest"),
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
