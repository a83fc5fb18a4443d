//! The only crate that knows bytes on the socket: frames, the hello, both encodings, the table of error names.
