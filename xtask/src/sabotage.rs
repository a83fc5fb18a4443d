//! `cargo xtask sabotage`: puts known faults back, one at a time, and sees that the simulation finds each.
//!
//! A fault is a patch in `crates/sim/sabotages`. Above its first `diff` stands what it is, and a line
//! `breaks: ` with the promise that falls. It is applied to a copy of the tree, which keeps its builds from one
//! fault to the next.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::workspace::{Workspace, cargo, output_of};

/// Where the patches are.
pub(crate) const FOLDER: &str = "crates/sim/sabotages";

/// Puts these faults back, or all. Whether each is found.
pub(crate) fn run(workspace: &Workspace, names: &[String]) -> Result<bool, String> {
    let known = patches(&workspace.root.join(FOLDER))?;
    if let Some(unknown) = names.iter().find(|name| !known.iter().any(|patch| patch.name == **name)) {
        let names: Vec<&str> = known.iter().map(|patch| patch.name.as_str()).collect();
        return Err(format!("there is no sabotage {unknown:?}, only {}", names.join(", ")));
    }
    let copy = Copy::beside(workspace);
    let mut missed = 0;
    for patch in known.iter().filter(|patch| names.is_empty() || names.contains(&patch.name)) {
        copy.take(workspace)?;
        copy.apply(patch)?;
        let found = copy.simulate()?;
        match &found {
            Some(found) if found.is(patch) => println!("{:<36} {}", patch.name, found.line),
            Some(other) => println!("{:<36} MISSED, wanted {}: {}", patch.name, patch.breaks, other.line),
            None => println!("{:<36} MISSED in {SEEDS} seeds", patch.name),
        }
        missed += usize::from(found.is_none_or(|found| !found.is(patch)));
    }
    println!("sabotage: {missed} missed");
    Ok(missed == 0)
}

/// A fault that can be put back.
#[derive(Debug, PartialEq, Eq)]
struct Patch {
    name: String,
    path: PathBuf,
    /// The words with which the promise that falls is told, any of them.
    breaks: String,
}

fn patches(folder: &Path) -> Result<Vec<Patch>, String> {
    let entries =
        fs::read_dir(folder).map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
    let mut found = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(name) = name.strip_suffix(".patch") else { continue };
        let text = fs::read_to_string(&path).map_err(|error| format!("cannot read {name}: {error}"))?;
        let breaks = breaks(&text).ok_or_else(|| format!("{name} does not say what it breaks:"))?;
        found.push(Patch { name: name.to_owned(), path: path.clone(), breaks });
    }
    found.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

/// What a patch says of itself before its first change.
fn breaks(text: &str) -> Option<String> {
    let said = text.lines().take_while(|line| !line.starts_with("diff "));
    let mut said = said.filter_map(|line| line.strip_prefix("breaks: "));
    said.next().map(|words| words.trim().to_owned())
}

/// A copy of the tree, and what is built of it.
struct Copy {
    tree: PathBuf,
    build: PathBuf,
}

impl Copy {
    fn beside(workspace: &Workspace) -> Self {
        let folder = workspace.target.join("sabotage");
        Self { tree: folder.join("tree"), build: folder.join("build") }
    }

    /// Makes the copy equal to the tree. What is equal is not touched, so it is not built again.
    fn take(&self, workspace: &Workspace) -> Result<(), String> {
        let wanted = workspace.files()?;
        let failed = |name: &str, error| format!("cannot copy {name}: {error}");
        for name in wanted.iter().filter(|name| is_needed(name)) {
            let (from, to) = (workspace.root.join(name), self.tree.join(name));
            let bytes = fs::read(&from).map_err(|error| failed(name, error))?;
            if fs::read(&to).is_ok_and(|there| there == bytes) {
                continue;
            }
            let folder = to.parent().unwrap_or(&self.tree);
            fs::create_dir_all(folder)
                .and_then(|()| fs::write(&to, bytes))
                .map_err(|error| failed(name, error))?;
        }
        Ok(())
    }

    fn apply(&self, patch: &Patch) -> Result<(), String> {
        let mut git = Command::new("git");
        // The copy lies within the project, but is none of its files.
        git.args(["apply", "-C1"]).arg(&patch.path).current_dir(&self.tree);
        let ceiling = self.tree.parent().unwrap_or(&self.tree);
        let applied = output_of(git.env("GIT_CEILING_DIRECTORIES", ceiling));
        applied.map(drop).map_err(|error| format!("{} does not fit the code any more: {error}", patch.name))
    }

    /// The first seed that breaks something, if one does.
    fn simulate(&self) -> Result<Option<Found>, String> {
        let mut build = Command::new(cargo());
        build.args(["build", "--quiet", "--release", "--locked", "--package", "zeolith-sim"]);
        output_of(build.current_dir(&self.tree).env("CARGO_TARGET_DIR", &self.build).envs(QUICK_BUILD))?;
        let program = self.build.join("release").join("zeolith-sim");
        let ran = Command::new(&program).args(["--seeds", &SEEDS.to_string()]).output();
        let ran = ran.map_err(|error| format!("cannot run {}: {error}", program.display()))?;
        if ran.status.success() {
            return Ok(None);
        }
        let said = String::from_utf8_lossy(&ran.stdout);
        let line = said.lines().find_map(verdict);
        line.map(|line| Some(Found { line }))
            .ok_or_else(|| format!("the simulation ends with {}", ran.status))
    }
}

/// What the simulation says.
struct Found {
    line: String,
}

impl Found {
    /// Whether this is what the patch should lead to.
    fn is(&self, patch: &Patch) -> bool {
        patch.breaks.split(" or ").any(|promise| self.line.contains(&format!(" breaks {promise}")))
    }
}

/// `seed 5 breaks 4: tids rise: ...`, not longer than a line.
fn verdict(line: &str) -> Option<String> {
    let is_it = line.starts_with("seed ") && line.contains(" breaks ");
    is_it.then(|| line.chars().take(LINE_MAX).collect())
}

/// Nothing that is built or tested here reads the rest.
fn is_needed(name: &str) -> bool {
    let of_cargo = name.starts_with("crates/") || name.starts_with("xtask/") || name.starts_with(".cargo/");
    of_cargo || ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml"].contains(&name)
}

/// Each fault is built once and then run for seconds.
const QUICK_BUILD: [(&str, &str); 3] = [
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "0"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
];
/// How many seeds may pass before one finds the fault.
const SEEDS: u64 = 5000;
const LINE_MAX: usize = 160;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_says_what_it_breaks_before_its_first_change() {
        assert_eq!(breaks("Tids fall.\nbreaks: 4 or 5\n\ndiff --git a b\n"), Some("4 or 5".to_owned()));
        assert_eq!(breaks("Tids fall.\n\ndiff --git a b\nbreaks: 4\n"), None);
    }

    #[test]
    fn a_fault_is_found_when_the_promise_that_it_breaks_is_named() {
        let patch = Patch { name: String::new(), path: PathBuf::new(), breaks: "4 or 6".to_owned() };
        let found = |line: &str| Found { line: verdict(line).unwrap() };
        assert!(found("seed 5 breaks 6: durable before told: lost").is(&patch));
        assert!(!found("seed 5 breaks 7: noticed before revealed: 4").is(&patch));
        assert_eq!(verdict("client 5 breaks the connection"), None);
    }

    #[test]
    fn every_patch_fits_the_code() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let patches = patches(&root.join(FOLDER)).unwrap();
        assert!(!patches.is_empty());
        for patch in patches {
            let mut git = Command::new("git");
            git.args(["apply", "--check", "-C1"]).arg(&patch.path).current_dir(root);
            assert_eq!(
                output_of(&mut git).map_err(|error| format!("{}: {error}", patch.name)),
                Ok(String::new())
            );
        }
    }
}
