//! `zeolith check-config`: says whether a server would take a configuration file.

use crate::{
    output::{complain, say},
    settings,
};
use std::process::ExitCode;

/// Reads the file and says what a server would do with it.
pub(crate) fn run(location: &str) -> ExitCode {
    let settings = match settings::load(location, &[]) {
        Ok(settings) => settings,
        Err(error) => {
            complain(format!("Error: {error}"));
            return ExitCode::from(2);
        }
    };
    say(format!("{location} is good."));
    say(format!("  listens on  {}", settings.address));
    for storage in &settings.storages {
        say(format!("  storage     '{}': {}", storage.name, storage.kind));
    }
    ExitCode::SUCCESS
}
