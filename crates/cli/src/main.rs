//! The `zeolith` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    zeolith_cli::zeolith::main(std::env::args_os().collect())
}
