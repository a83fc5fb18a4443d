//! The `zeolith` command: finds the subcommand and hands over to it.

use crate::{check_config, pack, runzeo, serve, status, zeopack};
use clap::{Parser, Subcommand};
use std::{ffi::OsString, process::ExitCode};

/// ZODB's client-server storage.
#[derive(Debug, Parser)]
#[command(name = "zeolith", version, about = "Zeolith: ZEO, the client-server storage of ZODB, in Rust")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a database file with no configuration
    Serve(serve::Options),
    /// Serve what a zeo.conf says, with the options of ZEO's runzeo
    // Its own options are read by its own rules, before these are looked at.
    #[command(disable_help_flag = true)]
    Runzeo {
        /// The options of runzeo; see zeolith runzeo -h
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<OsString>,
    },
    /// Drop old revisions and garbage from a database
    Pack(pack::Options),
    /// Pack storages of servers, with the options of ZEO's zeopack
    #[command(disable_help_flag = true)]
    Zeopack {
        /// The options of zeopack; none shows them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<OsString>,
    },
    /// Ask a server how it is
    Status(status::Options),
    /// Say whether a zeo.conf is good
    CheckConfig {
        /// The file
        file: String,
    },
}

/// Runs the command and gives its exit code.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    if arguments.get(1).is_some_and(|command| command == "runzeo") {
        let program = format!("{} runzeo", arguments[0].to_string_lossy());
        return runzeo::main(&program, arguments.into_iter().skip(2).collect());
    }
    if arguments.get(1).is_some_and(|command| command == "zeopack") {
        let program = format!("{} zeopack", arguments[0].to_string_lossy());
        return zeopack::main(&program, arguments.into_iter().skip(2).collect());
    }
    match Arguments::try_parse_from(arguments) {
        Ok(Arguments { command }) => match command {
            Command::Serve(options) => serve::run(options),
            Command::Runzeo { options } => runzeo::main("zeolith runzeo", options),
            Command::Pack(options) => pack::run(&options),
            Command::Zeopack { options } => zeopack::main("zeolith zeopack", options),
            Command::Status(options) => status::run(&options),
            Command::CheckConfig { file } => check_config::run(&file),
        },
        Err(error) => {
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            // It prints itself, and a closed stream is nobody's loss.
            let _ = error.print();
            ExitCode::from(code)
        }
    }
}
