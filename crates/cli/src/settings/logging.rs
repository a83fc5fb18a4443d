//! The `<eventlog>` section: which records go to which files, in which form.

use crate::eventlog::{DateFormat, Destination, Format, HandlerSettings, LogSettings, Rotation, Style, When};
use std::path::PathBuf;
use zeolith_config::{Checked, ConfigError};

/// The settings in an `<eventlog>` section that the schema has accepted.
pub(super) fn event_log(section: &Checked) -> Result<LogSettings, ConfigError> {
    let handlers = section.sections_of("logfile").map(handler).collect::<Result<_, _>>()?;
    Ok(LogSettings { level: level(section), handlers })
}

fn level(section: &Checked) -> u8 {
    section.integer("level").and_then(|level| level.try_into().ok()).unwrap_or_default()
}

fn handler(section: &Checked) -> Result<HandlerSettings, ConfigError> {
    if let Some(formatter) = section.text("formatter").filter(|name| !FORMATTERS.contains(name)) {
        let message = format!(
            "formatter {formatter} is not supported: it names Python code; leave it out for logging.Formatter"
        );
        return Err(section.key_error("formatter", message));
    }
    let style = match section.text("style") {
        Some("format") => Style::Braces,
        Some("template") => Style::Template,
        Some("safe-template") => Style::SafeTemplate,
        _ => Style::Percent,
    };
    let any_field = section.boolean("arbitrary-fields").unwrap_or(false);
    let format = Format::compile(section.text("format").unwrap_or_default(), style, any_field)
        .map_err(|message| section.key_error("format", message))?;
    let date_format = DateFormat::compile(section.text("dateformat").unwrap_or_default())
        .map_err(|message| section.key_error("dateformat", message))?;
    Ok(HandlerSettings { level: level(section), format, date_format, destination: destination(section)? })
}

fn destination(section: &Checked) -> Result<Destination, ConfigError> {
    let path = section.text("path").unwrap_or_default();
    let number = |key| section.integer(key).unwrap_or_default();
    let when = section.text("when").unwrap_or_default();
    let rotates = number("max-size") != 0 || number("old-files") != 0 || !when.is_empty();
    if path == "STDOUT" || path == "STDERR" {
        if rotates {
            return Err(section.error(format!("cannot rotate {path}")));
        }
        if section.boolean("delay") == Some(true) {
            return Err(section.key_error("delay", format!("cannot delay opening {path}")));
        }
        if section.text("encoding").is_some_and(|encoding| !encoding.is_empty()) {
            return Err(section.key_error("encoding", format!("cannot specify encoding for {path}")));
        }
        return Ok(if path == "STDOUT" { Destination::Stdout } else { Destination::Stderr });
    }
    if path.is_empty() {
        return Err(section.key_error("path", "path is empty: name the log file, STDOUT or STDERR"));
    }
    let rotation =
        if rotates || number("interval") != 0 { rotation(section, when)? } else { Rotation::Never };
    let delay = section.boolean("delay").unwrap_or(false);
    Ok(Destination::File { path: PathBuf::from(path), delay, rotation })
}

fn rotation(section: &Checked, when: &str) -> Result<Rotation, ConfigError> {
    let number = |key: &str| {
        let number = section.integer(key).unwrap_or_default();
        u64::try_from(number).map_err(|_| section.key_error(key, format!("{key} can't be less than zero")))
    };
    let keep = usize::try_from(number("old-files")?).unwrap_or(usize::MAX);
    if keep == 0 {
        return Err(section.error("old-files must be set for log rotation"));
    }
    if keep > OLD_FILES_MAX {
        return Err(section.key_error("old-files", format!("old-files can't be more than {OLD_FILES_MAX}")));
    }
    let size = number("max-size")?;
    match (when.is_empty(), size) {
        (false, 1..) => Err(section.error("can't set *both* max_bytes and when")),
        (false, 0) => {
            let when = When::parse(when).map_err(|message| section.key_error("when", message))?;
            let interval = number("interval")?.clamp(1, INTERVAL_MAX);
            Ok(Rotation::Timed { when, interval, keep })
        }
        (true, 1..) => Ok(Rotation::Size { bytes: size, keep }),
        (true, 0) => Err(section.error("max-bytes or when must be set for log rotation")),
    }
}

/// The second one differs in how it shows Python's tracebacks, of which there are none.
const FORMATTERS: [&str; 2] = ["logging.Formatter", "zope.exceptions.log.Formatter"];
const OLD_FILES_MAX: usize = 10_000;
const INTERVAL_MAX: u64 = 1_000_000;
