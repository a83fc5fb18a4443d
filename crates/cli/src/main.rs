//! The `zeolith` command.
fn main() {}
