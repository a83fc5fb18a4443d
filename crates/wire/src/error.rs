//! Why a peer is disconnected: it sent something that has no meaning.

/// Why a peer is disconnected. The texts are for the log line that says so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A frame announces more bytes than we take.
    #[error("a frame of {size} bytes is larger than {size_max}")]
    Oversized {
        /// What it announces.
        size: usize,
        /// What we take.
        size_max: usize,
    },
    /// A frame without content.
    #[error("an empty frame")]
    Empty,
    /// The first frame is no answer to our announcement, or no announcement.
    #[error("bad handshake {0}")]
    Handshake(String),
    /// A frame that is no value of its encoding, or names what it must not.
    #[error("can't deserialize message: {0}")]
    Undecodable(String),
    /// A value that is no message.
    #[error("not a message: {0}")]
    NotAMessage(&'static str),
}
