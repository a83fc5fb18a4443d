//! What a command says on its standard streams. A stream that nobody reads is no reason to fail.

use std::io::{self, Write};

/// Writes a line to the standard output.
pub(crate) fn say(text: impl AsRef<str>) {
    let mut stream = io::stdout().lock();
    let _ = writeln!(stream, "{}", text.as_ref()).and_then(|()| stream.flush());
}

/// Writes a line to the standard error stream.
pub(crate) fn complain(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr().lock(), "{}", text.as_ref());
}
