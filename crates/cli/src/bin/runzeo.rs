//! The `runzeo` command, in place of the one that comes with ZEO.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let program =
        arguments.next().map_or_else(|| "runzeo".to_owned(), |name| name.to_string_lossy().into_owned());
    zeolith_cli::runzeo::main(&program, arguments.collect())
}
