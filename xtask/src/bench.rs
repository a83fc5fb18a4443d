//! `cargo xtask bench`: builds the server and the load generator, and measures them beside Python's server.

use std::process::Command;

use crate::{
    steps::{Runner, StepName},
    workspace::{Workspace, cargo},
};

/// Builds what is missing and runs `bench/run.py` with these arguments. Whether all went well.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<bool, String> {
    let runner = Runner { workspace, quick: true };
    runner.run(StepName::Build)?;
    runner.run(StepName::Venv)?;
    let manifest = workspace.root.join("bench/zeoload/Cargo.toml");
    let tools = workspace.target.join("bench");
    let mut build = Command::new(cargo());
    build.args(["build", "--release", "--locked", "--manifest-path"]).arg(manifest);
    runner.call(build.env("CARGO_TARGET_DIR", &tools))?;

    let released = |name: &str| tools.join("release").join(name);
    let mut bench = Command::new(workspace.root.join(".venv/bin/python"));
    bench.arg(runner.script("bench/run.py")?);
    bench.arg("--server").arg(runner.released("runzeo")?);
    bench.arg("--zeoload").arg(released("zeoload"));
    bench.arg("--physlimits").arg(released("physlimits"));
    runner.call(bench.args(arguments))?;
    Ok(true)
}
