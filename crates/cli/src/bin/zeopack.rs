//! The `zeopack` command, in place of the one that comes with ZEO.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let program = arguments.next().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let program = program.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("zeopack");
    zeolith_cli::zeopack::main(program, arguments.collect())
}
