//! The first frames of a connection: the server announces, the client answers.
//!
//! A hello is the letter of an encoding and the protocol version, `Z5` or `M5`. A monitor answers
//! `ruok` instead.

use crate::{Encoding, WireError};

/// What a client's first frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hello {
    /// A client that speaks this encoding, whatever was announced.
    Client(Encoding),
    /// A monitor that wants the status and then goes.
    Ruok,
}

/// The server's first frame, complete with its length.
#[must_use]
pub const fn announcement(encoding: Encoding) -> &'static [u8] {
    match encoding {
        Encoding::Pickle => b"\0\0\0\x02Z5",
        Encoding::Msgpack => b"\0\0\0\x02M5",
    }
}

/// The client's first frame, complete with its length.
#[must_use]
pub const fn answer(encoding: Encoding) -> &'static [u8] {
    announcement(encoding)
}

/// Reads the content of a client's first frame.
///
/// # Errors
/// An encoding that we do not know, or a version other than 5.
pub fn parse_answer(frame: &[u8]) -> Result<Hello, WireError> {
    match frame {
        b"ruok" => Ok(Hello::Ruok),
        [letter, b'5'] => match Encoding::from_letter(*letter) {
            Some(encoding) => Ok(Hello::Client(encoding)),
            None => Err(bad_handshake(frame)),
        },
        _ => Err(bad_handshake(frame)),
    }
}

/// Reads the content of a server's first frame: the encoding to answer with.
///
/// Versions compare as byte strings, so a server of version 6 is answered with 5, and one of
/// version 4 or 310 is not.
///
/// # Errors
/// An encoding that we do not know, or a version below 5.
pub fn parse_announcement(frame: &[u8]) -> Result<Encoding, WireError> {
    let encoding = frame.split_first().and_then(|(letter, version)| {
        let encoding = Encoding::from_letter(*letter)?;
        (version >= VERSION).then_some(encoding)
    });
    encoding.ok_or_else(|| bad_handshake(frame))
}

/// Shows the beginning of a frame that may be anything.
fn bad_handshake(frame: &[u8]) -> WireError {
    let shown = frame.get(..SHOWN_MAX).unwrap_or(frame);
    WireError::Handshake(shown.escape_ascii().to_string())
}

const VERSION: &[u8] = b"5";
/// How much of a bad hello an error repeats.
const SHOWN_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_answer_decides_the_encoding() {
        assert_eq!(parse_answer(b"Z5"), Ok(Hello::Client(Encoding::Pickle)));
        assert_eq!(parse_answer(b"M5"), Ok(Hello::Client(Encoding::Msgpack)));
        assert_eq!(parse_answer(b"ruok"), Ok(Hello::Ruok));
    }

    #[test]
    fn other_versions_and_encodings_are_refused() {
        for frame in ["", "Z", "5", "Z4", "Z6", "Z309", "Z5extra", "X5", "z5", "ruok?"] {
            let refused = Err(WireError::Handshake(frame.to_owned()));
            assert_eq!(parse_answer(frame.as_bytes()), refused, "{frame}");
        }
    }

    #[test]
    fn a_long_or_binary_hello_is_shown_in_part_and_escaped() {
        let Err(WireError::Handshake(shown)) = parse_answer(&[0xff; 1000]) else {
            panic!("a thousand bytes are no hello");
        };
        assert_eq!(shown, "\\xff".repeat(SHOWN_MAX));
    }

    #[test]
    fn announced_versions_compare_as_byte_strings() {
        assert_eq!(parse_announcement(b"Z5"), Ok(Encoding::Pickle));
        assert_eq!(parse_announcement(b"M6"), Ok(Encoding::Msgpack));
        for old in ["Z4", "Z310", "Z3101", "Z10", "X5", "Z", ""] {
            assert!(parse_announcement(old.as_bytes()).is_err(), "{old}");
        }
    }
}
