//! The zeolith command and the drop-in command names, a file for each subcommand.
//!
//! [`settings`] turns a configuration file into types, `eventlog` writes what the crates below log, and
//! `service` runs a server from its first look at the address to its exit code. The binaries call
//! [`zeolith::main`], [`runzeo::main`] and [`zeopack::main`].

mod caller;
mod check_config;
mod descriptors;
mod eventlog;
mod getopt;
mod open;
mod output;
mod pack;
mod pack_time;
mod pid_file;
mod resolve;
pub mod runzeo;
mod serve;
mod service;
pub mod settings;
mod socket;
mod status;
pub mod zeolith;
pub mod zeopack;
