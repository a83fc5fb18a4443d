//! The two encodings of messages.

/// How messages of a connection are encoded. The client's answer to the announcement decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// `Z`: pickle, protocol 3.
    Pickle,
    /// `M`: msgpack.
    Msgpack,
}

impl Encoding {
    /// The encoding of this letter.
    #[must_use]
    pub const fn from_letter(letter: u8) -> Option<Self> {
        match letter {
            b'Z' => Some(Self::Pickle),
            b'M' => Some(Self::Msgpack),
            _ => None,
        }
    }
}
