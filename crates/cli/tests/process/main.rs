//! The built commands as an operator sees them: texts, exit codes, signals, files.

#[cfg(test)]
mod harness;
mod logging;
mod runzeo;
mod signals;
mod zeolith;
