//! The only crate that knows pickle opcodes: the closed grammar of requests, replies, and what records tell about themselves.
