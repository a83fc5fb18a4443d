//! The keys about the process that resolves conflicts of an application's own classes.

use std::{ffi::OsString, path::Path, time::Duration};
use zeolith_config::{Checked, ConfigError};
use zeolith_interpreter::Settings;

/// What `<zeo>` says of it; the environment names the Python where the key does not.
pub(super) fn resolver(zeo: &Checked) -> Result<Option<Settings>, ConfigError> {
    let named = zeo.path("conflict-resolver").map(Path::as_os_str).map(OsString::from);
    let settings = named.map_or_else(resolver_from_environment, with_python);
    // The other keys may be wrong whether or not there is one.
    let timeout = Duration::from_secs(number(zeo, "conflict-resolver-timeout", 1..=SECONDS_MAX)?);
    let memory_max = number(zeo, "conflict-resolver-memory", MEMORY_MIN..=u64::MAX)?;
    let processes_max = number(zeo, "conflict-resolver-processes", 1..=PROCESSES_MAX)? as usize;
    Ok(settings.map(|settings| Settings { timeout, memory_max, processes_max, ..settings }))
}

/// The process that `ZEOLITH_CONFLICT_RESOLVER` asks for.
pub fn resolver_from_environment() -> Option<Settings> {
    std::env::var_os("ZEOLITH_CONFLICT_RESOLVER").and_then(with_python)
}

/// Named by nothing, there is none.
fn with_python(python: OsString) -> Option<Settings> {
    (!python.is_empty()).then(|| Settings::new(python))
}

fn number(
    zeo: &Checked,
    key: &'static str,
    bounds: std::ops::RangeInclusive<u64>,
) -> Result<u64, ConfigError> {
    let value = zeo.integer(key).and_then(|value| u64::try_from(value).ok());
    value.filter(|value| bounds.contains(value)).ok_or_else(|| {
        let most =
            if *bounds.end() == u64::MAX { String::new() } else { format!(" and at most {}", bounds.end()) };
        zeo.key_error(key, format!("{key} must be at least {}{most}", bounds.start()))
    })
}

const SECONDS_MAX: u64 = 3600;
/// Less, and Python does not even start.
const MEMORY_MIN: u64 = 64 << 20;
const PROCESSES_MAX: u64 = 64;
