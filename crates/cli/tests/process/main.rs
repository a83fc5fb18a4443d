//! The built commands as an operator sees them: texts, exit codes, signals, files.

#[cfg(test)]
mod blob_limits;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod limits;
mod logging;
#[cfg(test)]
mod outcome;
#[cfg(test)]
mod pack;
#[cfg(test)]
mod peer;
mod runzeo;
mod signals;
mod zeolith;
