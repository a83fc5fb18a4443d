//! What input of any bytes may do: a function for each kind of input, run by the fuzzers and over their corpora.
//!
//! Each [`Target`] takes any bytes and panics if the code behind it does, or if what it made of them does not
//! hang together. The fuzzers of `fuzz/` call these functions, and so does the test `replay`, which needs
//! no fuzzer: it runs every entry of the corpora, and small changes of each.

mod config;
mod file;
mod history;
mod messages;
mod records;

/// A kind of input, and what is done with it.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name of the fuzz target and of the folder of its corpus.
    pub name: &'static str,
    /// Panics if something is wrong with the code, whatever the input.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 8] = [
    Target { name: "frames", run: messages::frames },
    Target { name: "pickle_call", run: messages::pickle_call },
    Target { name: "msgpack_call", run: messages::msgpack_call },
    Target { name: "data_fs", run: file::data_fs },
    Target { name: "saved_index", run: file::saved_index },
    Target { name: "config", run: config::config },
    Target { name: "record", run: records::record },
    Target { name: "conflict", run: records::conflict },
];

/// Runs the target of this name.
///
/// # Panics
/// There is none of this name, or what the target says of this input is not so.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("the caller names a target").run)(input);
}
