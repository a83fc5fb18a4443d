//! Where the project is and what it consists of, as cargo and git tell it.

use std::{collections::BTreeMap, ffi::OsStr, path::PathBuf, process::Command};

use serde_json::Value;

/// The project on this machine.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// The folder of the workspace's `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Where cargo builds; `CARGO_TARGET_DIR` is already taken into account.
    pub(crate) target: PathBuf,
    /// All packages of the workspace, in the order of their names.
    pub(crate) packages: Vec<Package>,
}

/// One package of the workspace.
#[derive(Debug)]
pub(crate) struct Package {
    /// As in its `Cargo.toml`.
    pub(crate) name: String,
    /// Its first sentence.
    pub(crate) description: String,
    /// Its lowest Rust version, as `1.95`.
    pub(crate) rust_version: String,
    /// All that it depends on, with why.
    pub(crate) dependencies: Vec<(String, DependencyKind)>,
}

/// When a dependency is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum DependencyKind {
    /// Always.
    Normal,
    /// For tests and examples.
    Dev,
    /// For the build script.
    Build,
}

impl Workspace {
    /// Asks cargo about the workspace around this crate.
    pub(crate) fn find() -> Result<Self, String> {
        // Where cargo runs us, not where we were built: two checkouts may share a target directory.
        let here = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from);
        let arguments = ["metadata", "--no-deps", "--format-version", "1"];
        let text = output_of(Command::new(cargo()).args(arguments).current_dir(here))?;
        Self::from_metadata(&text)
    }

    fn from_metadata(text: &str) -> Result<Self, String> {
        let metadata: Value =
            serde_json::from_str(text).map_err(|error| format!("cargo metadata is not JSON: {error}"))?;
        let path = |key: &str| metadata[key].as_str().map(PathBuf::from);
        let root = path("workspace_root").ok_or("cargo metadata names no workspace")?;
        let target = path("target_directory").ok_or("cargo metadata names no target directory")?;
        let packages = metadata["packages"].as_array().ok_or("cargo metadata names no packages")?;
        let sorted: BTreeMap<String, Package> =
            packages.iter().map(package).map(|package| (package.name.clone(), package)).collect();
        Ok(Self { root, target, packages: sorted.into_values().collect() })
    }

    /// All files that git tracks or would add, relative to the root, with `/` between the parts.
    pub(crate) fn files(&self) -> Result<Vec<String>, String> {
        let mut git = Command::new("git");
        git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(&self.root);
        let text = output_of(&mut git)?;
        let mut files: Vec<String> =
            text.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        files.sort_unstable();
        files.dedup();
        // A file that was deleted but not yet committed is still in git's list.
        files.retain(|name| self.root.join(name).is_file());
        Ok(files)
    }
}

/// The cargo that runs us, so that a `+toolchain` holds for all steps.
pub(crate) fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| OsStr::new("cargo").to_owned())
}

/// What a command prints, or why it failed.
pub(crate) fn output_of(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("cannot run {program}: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{program} failed ({}): {}", output.status, said.trim()));
    }
    String::from_utf8(output.stdout).map_err(|error| format!("{program} printed no UTF-8: {error}"))
}

fn package(value: &Value) -> Package {
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let dependencies = value["dependencies"].as_array().map(Vec::as_slice).unwrap_or_default();
    Package {
        name: text("name"),
        description: text("description"),
        rust_version: text("rust_version"),
        dependencies: dependencies.iter().map(dependency).collect(),
    }
}

fn dependency(value: &Value) -> (String, DependencyKind) {
    let kind = match value["kind"].as_str() {
        Some("dev") => DependencyKind::Dev,
        Some("build") => DependencyKind::Build,
        _ => DependencyKind::Normal,
    };
    (value["name"].as_str().unwrap_or_default().to_owned(), kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn packages_come_out_of_cargos_answer_with_their_dependencies() {
        let answer = r#"{"workspace_root": "/w", "target_directory": "/t", "packages": [
            {"name": "b", "description": null, "rust_version": null, "dependencies": []},
            {"name": "a", "description": "First.", "rust_version": "1.95", "dependencies": [
                {"name": "x", "kind": null}, {"name": "y", "kind": "dev"}, {"name": "z", "kind": "build"}]}]}"#;

        let workspace = Workspace::from_metadata(answer).unwrap();

        assert_eq!(workspace.target, Path::new("/t"));
        let names: Vec<_> = workspace.packages.iter().map(|package| package.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        let kinds: Vec<_> = workspace.packages[0].dependencies.iter().map(|(_, kind)| *kind).collect();
        assert_eq!(kinds, [DependencyKind::Normal, DependencyKind::Dev, DependencyKind::Build]);
    }

    #[test]
    fn a_command_that_fails_says_what_it_said() {
        let refused = output_of(Command::new(cargo()).arg("no-such-subcommand-of-cargo"));
        assert!(refused.is_err_and(|text| text.contains("no-such-subcommand-of-cargo")));
    }
}
