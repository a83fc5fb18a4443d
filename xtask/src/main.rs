//! `cargo xtask`: the checks of the house that neither rustc nor clippy makes.
//!
//! `tidy` looks at the tree and prints what is out of order. `test` runs everything that CI runs, one
//! step after the other. `bench` measures, `sabotage` puts known faults back. There is nothing else, and CI has
//! nothing of its own.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command of the house talks to its terminal")]

mod bench;
mod environment;
mod options;
mod sabotage;
mod steps;
mod tidy;
mod tools;
mod workspace;

use std::process::ExitCode;

use options::Command;
use workspace::Workspace;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match options::parse(&arguments).and_then(run) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::from(2)
        }
    }
}

/// Whether all is well.
fn run(command: Command) -> Result<bool, String> {
    match command {
        Command::Help => {
            print!("{}", options::USAGE);
            Ok(true)
        }
        Command::List => {
            steps::list();
            Ok(true)
        }
        Command::Tidy => tidy::report(&Workspace::find()?),
        Command::Bench(arguments) => bench::run(&Workspace::find()?, &arguments),
        Command::Sabotage(names) => sabotage::run(&Workspace::find()?, &names),
        Command::Test(selection) => steps::run(&Workspace::find()?, &selection),
    }
}
