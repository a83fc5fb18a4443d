//! The checks of the house that neither rustc nor clippy makes.
fn main() {}
