//! Tools that the checks need and that Rust does not bring: installed once into `.tools`, at a version
//! that stands here.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::workspace::{cargo, output_of};

/// The cargo-deny that the rules in `deny.toml` were written for.
const CARGO_DENY_VERSION: &str = "0.20.2";

/// Settings that build a tool in the least time; it runs for a second.
const CHEAP_BUILD: &[(&str, &str)] = &[
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0"),
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "256"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "0"),
];

/// A cargo-deny of the right version: the one on the path, the one in `.tools`, or a new one there.
pub(crate) fn cargo_deny(root: &Path) -> Result<OsString, String> {
    let on_path = OsString::from("cargo-deny");
    if is_wanted(&on_path) {
        return Ok(on_path);
    }
    let tools = root.join(".tools");
    let installed = tools.join("bin").join("cargo-deny");
    if !is_wanted(installed.as_os_str()) {
        println!("cargo-deny {CARGO_DENY_VERSION} is not here yet: building it, which takes some minutes");
        install(root, &tools)?;
    }
    Ok(installed.into_os_string())
}

fn is_wanted(program: &std::ffi::OsStr) -> bool {
    let said = output_of(Command::new(program).arg("--version"));
    said.is_ok_and(|text| text.split_whitespace().nth(1) == Some(CARGO_DENY_VERSION))
}

fn install(root: &Path, tools: &Path) -> Result<(), String> {
    let scratch: PathBuf = tools.join("build");
    let mut command = Command::new(cargo());
    command.args(["install", "cargo-deny", "--locked", "--force", "--no-default-features"]);
    command.args(["--version", &format!("={CARGO_DENY_VERSION}"), "--root"]).arg(tools);
    command.current_dir(root).env("CARGO_TARGET_DIR", &scratch).envs(CHEAP_BUILD.iter().copied());
    let status = command.status().map_err(|error| format!("cannot run cargo: {error}"))?;
    // What the build leaves is a hundred times the size of the tool.
    let removed = fs::remove_dir_all(&scratch);
    if !status.success() {
        return Err(format!("cargo install cargo-deny failed ({status})"));
    }
    removed.map_err(|error| format!("cannot remove {}: {error}", scratch.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_that_is_missing_or_of_another_version_is_not_taken() {
        assert!(!is_wanted("no-such-tool-anywhere".as_ref()));
        assert!(!is_wanted(&cargo()), "cargo has a version, but not this one");
    }
}
