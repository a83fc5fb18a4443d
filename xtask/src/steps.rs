//! `cargo xtask test`: the steps, which of them run, and what came of each.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    environment::{self, Needs},
    options::Selection,
    tidy, tools,
    workspace::{Workspace, cargo},
};

/// One step. The order is the order in which they run: what is cheap and fails often comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StepName {
    Fmt,
    Clippy,
    Tidy,
    Deny,
    Unit,
    Build,
    Simulation,
    Venv,
    Pytest,
    Conformance,
}

/// What is known of a step before it runs.
struct Step {
    name: StepName,
    /// As typed after `--only`.
    label: &'static str,
    what: &'static str,
    /// Whether `--quick` runs it.
    in_quick: bool,
    needs: Needs,
}

const NOTHING: Needs = Needs { python: false };
const PYTHON: Needs = Needs { python: true };

#[rustfmt::skip]
const STEPS: &[Step] = &[
    Step { name: StepName::Fmt, label: "fmt", what: "the code is formatted", in_quick: true, needs: NOTHING },
    Step { name: StepName::Clippy, label: "clippy", what: "rustc and clippy have nothing to say", in_quick: true, needs: NOTHING },
    Step { name: StepName::Tidy, label: "tidy", what: "the tree is in order", in_quick: true, needs: NOTHING },
    Step { name: StepName::Deny, label: "deny", what: "licences and sources of what we depend on", in_quick: false, needs: NOTHING },
    Step { name: StepName::Unit, label: "unit", what: "the tests written in Rust", in_quick: true, needs: NOTHING },
    Step { name: StepName::Build, label: "build", what: "the commands as they are released", in_quick: true, needs: NOTHING },
    Step { name: StepName::Simulation, label: "simulation", what: "two minutes of seeds that nobody has run yet", in_quick: false, needs: NOTHING },
    Step { name: StepName::Venv, label: "venv", what: "Python environments with stock ZEO clients", in_quick: true, needs: PYTHON },
    Step { name: StepName::Pytest, label: "pytest", what: "the commands, driven by stock clients", in_quick: true, needs: PYTHON },
    Step { name: StepName::Conformance, label: "conformance", what: "ZEO's and ZODB's own tests", in_quick: true, needs: PYTHON },
];

impl StepName {
    /// The step that is typed so.
    pub(crate) fn find(label: &str) -> Result<Self, String> {
        let known = || STEPS.iter().map(|step| step.label).collect::<Vec<_>>().join(", ");
        let found = STEPS.iter().find(|step| step.label == label);
        found.map(|step| step.name).ok_or_else(|| format!("there is no step {label:?}, only {}", known()))
    }
}

/// Prints the steps.
pub(crate) fn list() {
    for step in STEPS {
        let quick = if step.in_quick { "quick" } else { "" };
        println!("{:<12} {quick:<6} {}", step.label, step.what);
    }
}

/// Runs the selected steps and prints a summary. Whether all went well.
pub(crate) fn run(workspace: &Workspace, selection: &Selection) -> Result<bool, String> {
    let chosen: Vec<&Step> = STEPS.iter().filter(|step| is_chosen(step, selection)).collect();
    let needs = Needs { python: chosen.iter().any(|step| step.needs.python) };
    environment::check(workspace, needs)?;

    let runner = Runner { workspace, quick: selection.quick };
    let mut outcomes: Vec<Outcome> = Vec::new();
    for (index, step) in chosen.iter().enumerate() {
        println!("\n==== {}/{} {}: {} ====", index + 1, chosen.len(), step.label, step.what);
        let started = Instant::now();
        let result = runner.run(step.name);
        let outcome = Outcome { label: step.label, took: started.elapsed(), result };
        println!("---- {}", outcome.line());
        let stop = outcome.result.is_err() && !selection.keep_going;
        outcomes.push(outcome);
        if stop {
            break;
        }
    }
    print!("{}", summary(&chosen, &outcomes));
    Ok(outcomes.len() == chosen.len() && outcomes.iter().all(|outcome| outcome.result.is_ok()))
}

fn is_chosen(step: &Step, selection: &Selection) -> bool {
    if selection.only.is_empty() {
        step.in_quick || !selection.quick
    } else {
        selection.only.contains(&step.name)
    }
}

/// What came of a step.
struct Outcome {
    label: &'static str,
    took: Duration,
    result: Result<(), String>,
}

impl Outcome {
    fn line(&self) -> String {
        let seconds = self.took.as_secs_f64();
        match &self.result {
            Ok(()) => format!("{:<12} ok     {seconds:>7.1} s", self.label),
            Err(why) => format!("{:<12} FAILED {seconds:>7.1} s  {why}", self.label),
        }
    }
}

fn summary(chosen: &[&Step], outcomes: &[Outcome]) -> String {
    let mut text = String::from("\n==== summary ====\n");
    for outcome in outcomes {
        text += &format!("{}\n", outcome.line());
    }
    for step in &chosen[outcomes.len()..] {
        text += &format!("{:<12} not run\n", step.label);
    }
    let failed = outcomes.iter().filter(|outcome| outcome.result.is_err()).count();
    let seconds: f64 = outcomes.iter().map(|outcome| outcome.took.as_secs_f64()).sum();
    let verdict = if failed == 0 { "all passed".to_owned() } else { format!("{failed} failed") };
    text + &format!("{verdict}, {seconds:.1} s\n")
}

/// Runs one step at a time.
pub(crate) struct Runner<'w> {
    pub(crate) workspace: &'w Workspace,
    /// Of steps that have a quick part, only that.
    pub(crate) quick: bool,
}

impl Runner<'_> {
    pub(crate) fn run(&self, name: StepName) -> Result<(), String> {
        match name {
            StepName::Fmt => self.cargo(&["fmt", "--all", "--check"]),
            StepName::Clippy => {
                self.cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])
            }
            StepName::Tidy => match tidy::report(self.workspace)? {
                true => Ok(()),
                false => Err("see above".to_owned()),
            },
            StepName::Deny => self.deny(),
            StepName::Unit => self.cargo(&["test", "--workspace", "--locked"]),
            StepName::Build => self.cargo(&["build", "--release", "--locked", "--package", "zeolith-cli"]),
            // Optimized, which makes six times as many seeds; nearly all of it is built for the commands anyway.
            StepName::Simulation => self.cargo(&[
                "run",
                "--release",
                "--locked",
                "--package",
                "zeolith-sim",
                "--",
                "--seconds",
                "120",
            ]),
            StepName::Venv => self.venv(),
            StepName::Pytest => self.pytest(),
            StepName::Conformance => self.conformance(),
        }
    }

    fn cargo(&self, arguments: &[&str]) -> Result<(), String> {
        self.call(Command::new(cargo()).args(arguments))
    }

    fn deny(&self) -> Result<(), String> {
        let program = tools::cargo_deny(&self.workspace.root)?;
        self.call(Command::new(program).args(["--locked", "check", "bans", "licenses", "sources"]))
    }

    fn venv(&self) -> Result<(), String> {
        let mut command = Command::new(environment::python_command());
        command.arg(self.script("tests/python/setup_venv.py")?);
        if !self.quick {
            command.arg("--clients");
        }
        self.call(&mut command)
    }

    fn pytest(&self) -> Result<(), String> {
        let mut command = self.python()?;
        command.args(["-m", "pytest", "tests/python"]);
        if self.quick {
            command.args(["-m", "quick"]);
        }
        self.call(&mut command)
    }

    fn conformance(&self) -> Result<(), String> {
        let mut command = self.python()?;
        command.arg(self.script("conformance/run_conformance.py")?);
        if self.quick {
            command.arg("--quick");
        }
        self.call(&mut command)
    }

    /// The Python of the tests' environment, told what to test.
    fn python(&self) -> Result<Command, String> {
        let python = self.workspace.root.join(".venv/bin/python");
        if !python.exists() {
            return Err("there is no .venv yet: the step venv makes it".to_owned());
        }
        let server = self.released("runzeo")?;
        let mut command = Command::new(python);
        // Read by shlex, which takes what stands between quotes as it is.
        command.env("ZEOLITH_SERVER_CMD", format!("'{}' -C {{conf}}", server.display()));
        command.env("CARGO_TARGET_DIR", &self.workspace.target);
        Ok(command)
    }

    pub(crate) fn released(&self, name: &str) -> Result<PathBuf, String> {
        let path = self.workspace.target.join("release").join(name);
        if path.is_file() {
            Ok(path)
        } else {
            Err(format!("there is no {}: the step build makes it", path.display()))
        }
    }

    pub(crate) fn script(&self, name: &str) -> Result<PathBuf, String> {
        let path = self.workspace.root.join(name);
        if path.is_file() { Ok(path) } else { Err(format!("{name} is not there")) }
    }

    pub(crate) fn call(&self, command: &mut Command) -> Result<(), String> {
        let line = shown(command);
        println!("$ {line}");
        command.current_dir(&self.workspace.root).env("CARGO_BUILD_JOBS", jobs());
        let status = command.status().map_err(|error| format!("cannot run {line}: {error}"))?;
        if status.success() { Ok(()) } else { Err(format!("{status}")) }
    }
}

/// As many jobs as there are cores to run them, or fewer if that is wished for.
fn jobs() -> String {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let wished = std::env::var("CARGO_BUILD_JOBS").ok().and_then(|text| text.parse::<usize>().ok());
    wished.filter(|jobs| *jobs > 0).map_or(cores, |jobs| jobs.min(cores)).to_string()
}

fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| OsString::from(word).to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(selection: &Selection) -> Vec<&'static str> {
        STEPS.iter().filter(|step| is_chosen(step, selection)).map(|step| step.label).collect()
    }

    #[test]
    fn quick_leaves_out_what_takes_minutes_and_only_runs_just_what_it_names() {
        assert_eq!(labels(&Selection::default()).len(), STEPS.len());
        assert!(!labels(&Selection { quick: true, ..Selection::default() }).contains(&"deny"));
        let selection = Selection { quick: true, only: vec![StepName::Deny], keep_going: false };
        assert_eq!(labels(&selection), ["deny"]);
    }

    #[test]
    fn a_summary_tells_failures_and_what_was_not_run() {
        let chosen: Vec<&Step> = STEPS.iter().take(3).collect();
        let took = Duration::from_millis(1500);
        let outcomes = [
            Outcome { label: "fmt", took, result: Ok(()) },
            Outcome { label: "clippy", took, result: Err("exit status: 101".to_owned()) },
        ];

        let text = summary(&chosen, &outcomes);

        assert!(text.contains("fmt          ok         1.5 s"), "{text}");
        assert!(text.contains("clippy       FAILED     1.5 s  exit status: 101"), "{text}");
        assert!(text.contains("tidy         not run"), "{text}");
        assert!(text.ends_with("1 failed, 3.0 s\n"), "{text}");
    }

    #[test]
    fn every_step_can_be_found_by_its_label() {
        for step in STEPS {
            assert_eq!(StepName::find(step.label), Ok(step.name));
        }
    }

    #[test]
    fn a_step_whose_command_fails_is_an_error() {
        let workspace = Workspace { root: ".".into(), target: "/nowhere".into(), packages: Vec::new() };
        let runner = Runner { workspace: &workspace, quick: true };
        assert_eq!(runner.call(&mut Command::new("true")), Ok(()));
        assert!(runner.call(&mut Command::new("false")).is_err_and(|why| why.contains('1')));
        assert!(runner.released("zeolith").is_err_and(|why| why.contains("the step build makes it")));
    }
}
