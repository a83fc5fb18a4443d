//! What the machine must have before a step can run: a Rust new enough, git, a linker, Python with venv.
//!
//! Says everything that is missing at once, and how to get it.

use std::process::Command;

use crate::workspace::{Workspace, output_of};

/// The oldest Python that the tests run with.
const PYTHON_MIN: (u32, u32) = (3, 10);

/// What the chosen steps need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// A Python with the `venv` module.
    pub(crate) python: bool,
}

/// Looks for what is missing; tries to mend only what it says it mends.
pub(crate) fn check(workspace: &Workspace, needs: Needs) -> Result<(), String> {
    let mut missing = Vec::new();
    missing.extend(rust(workspace).err());
    missing.extend(git().err());
    missing.extend(linker().err());
    if needs.python {
        missing.extend(python().err());
    }
    if missing.is_empty() { Ok(()) } else { Err(missing.join("\n")) }
}

/// The Python that makes the tests' environment: `$PYTHON`, or `python3`.
pub(crate) fn python_command() -> String {
    std::env::var("PYTHON").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "python3".to_owned())
}

fn rust(workspace: &Workspace) -> Result<(), String> {
    let wanted = workspace
        .packages
        .iter()
        .filter_map(|package| two_numbers(&package.rust_version))
        .max()
        .ok_or("no package tells its rust-version")?;
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let text = output_of(Command::new(rustc).arg("--version"))?;
    let found = text.split(' ').nth(1).and_then(two_numbers);
    match found {
        Some(found) if found >= wanted => Ok(()),
        _ => Err(format!("Rust {}.{} or newer is needed, this is {}", wanted.0, wanted.1, text.trim())),
    }
}

fn git() -> Result<(), String> {
    let asked = output_of(Command::new("git").arg("--version"));
    asked.map(drop).map_err(|error| format!("git is needed to list the files of the project: {error}"))
}

fn linker() -> Result<(), String> {
    let asked = output_of(Command::new("cc").arg("--version"));
    asked.map(drop).map_err(|error| {
        format!("a C compiler named cc is needed, rustc links with it (Debian: apt-get install gcc libc6-dev): {error}")
    })
}

fn python() -> Result<(), String> {
    let python = python_command();
    let text = output_of(Command::new(&python).arg("--version"))
        .map_err(|error| format!("Python 3 is needed for the tests with real clients: {error}"))?;
    let found = text.split(' ').nth(1).and_then(two_numbers);
    if found.is_none_or(|found| found < PYTHON_MIN) {
        let (major, minor) = PYTHON_MIN;
        return Err(format!("Python {major}.{minor} or newer is needed, {python} is {}", text.trim()));
    }
    let has_venv = || output_of(Command::new(&python).args(["-c", "import ensurepip, venv"])).is_ok();
    if has_venv() || (install_venv() && has_venv()) {
        return Ok(());
    }
    Err(format!("{python} cannot make virtual environments (Debian: apt-get install python3-venv)"))
}

/// Debian keeps `venv` in a package of its own; root may install it.
fn install_venv() -> bool {
    let is_root = output_of(Command::new("id").arg("-u")).is_ok_and(|text| text.trim() == "0");
    if !is_root || output_of(Command::new("apt-get").arg("--version")).is_err() {
        return false;
    }
    println!("Python has no venv module: installing the package python3-venv");
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        command.status().is_ok_and(|status| status.success())
    };
    apt(&["-q", "update"]) && apt(&["-q", "install", "--yes", "--no-install-recommends", "python3-venv"])
}

/// `1.95.0` and `3.11.2+` as pairs that compare as versions do.
fn two_numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.trim().split('.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next()?.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().ok()?;
    Some((major, minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number_and_not_by_letter() {
        assert!(two_numbers("1.100.0") > two_numbers("1.95.0"));
        assert_eq!(two_numbers("3.11.2"), Some((3, 11)));
        assert_eq!(two_numbers("3.14+"), Some((3, 14)));
        assert_eq!(two_numbers("nightly"), None);
    }

    #[test]
    fn a_workspace_that_wants_a_rust_from_the_future_is_refused_with_both_versions() {
        let package = crate::workspace::Package {
            name: "zeolith-types".to_owned(),
            description: String::new(),
            rust_version: "1.999".to_owned(),
            dependencies: Vec::new(),
        };
        let workspace = Workspace { root: ".".into(), target: ".".into(), packages: vec![package] };
        let refused = rust(&workspace).unwrap_err();
        assert!(refused.contains("1.999") && refused.contains("rustc "), "{refused}");
    }
}
