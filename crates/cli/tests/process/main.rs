//! The built commands as an operator sees them: texts, exit codes, signals, files.

mod harness;
mod logging;
mod runzeo;
mod signals;
mod zeolith;
