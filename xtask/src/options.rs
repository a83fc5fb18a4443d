//! The command line of `cargo xtask`.

use crate::steps::StepName;

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Explain.
    Help,
    /// Name the steps of `test`.
    List,
    /// Look at the tree.
    Tidy,
    /// Run steps.
    Test(Selection),
    /// Measure, with the arguments of `bench/run.py`.
    Bench(Vec<String>),
    /// Put these known faults back and see that the simulation finds them; all if empty.
    Sabotage(Vec<String>),
}

/// Which steps `test` runs, and how.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Selection {
    /// Only what is quick, and of the long steps their quick part.
    pub(crate) quick: bool,
    /// Go on after a step that failed.
    pub(crate) keep_going: bool,
    /// These steps; all if empty.
    pub(crate) only: Vec<StepName>,
}

/// What `--help` prints.
pub(crate) const USAGE: &str = "\
cargo xtask tidy          look at the tree: imports between crates, heads, lengths, links
cargo xtask test          run everything that CI runs, and stop at the first step that fails
    --quick               under three minutes once things are built
    --keep-going          run the other steps after a failure
    --only STEP[,STEP]    only these steps
    --list                name the steps
cargo xtask bench         measure beside Python's server; takes the options of bench/run.py
    --rounds N            three if left out, which takes less than ten minutes
    --only PART[,PART]    only workloads whose names contain one of these
    --page                write docs/performance.md of it
cargo xtask sabotage      put known faults back and see that the simulation finds each
    NAME ...              only these, of crates/sim/sabotages
";

/// Reads the arguments that follow `cargo xtask`.
pub(crate) fn parse(arguments: &[String]) -> Result<Command, String> {
    let Some((command, rest)) = arguments.split_first() else {
        return Ok(Command::Help);
    };
    match (command.as_str(), rest) {
        ("help" | "--help" | "-h", _) => Ok(Command::Help),
        ("tidy", []) => Ok(Command::Tidy),
        ("tidy", [first, ..]) => Err(format!("tidy takes no {first:?}")),
        ("test", rest) => test(rest),
        ("bench", rest) => Ok(Command::Bench(rest.to_vec())),
        ("sabotage", [name, ..]) if name.starts_with('-') => Err(format!("sabotage takes no {name:?}")),
        ("sabotage", names) => Ok(Command::Sabotage(names.to_vec())),
        (other, _) => Err(format!("there is no {other:?}; see cargo xtask --help")),
    }
}

fn test(arguments: &[String]) -> Result<Command, String> {
    let mut selection = Selection::default();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--help" | "-h" => return Ok(Command::Help),
            "--list" => return Ok(Command::List),
            "--quick" => selection.quick = true,
            "--keep-going" => selection.keep_going = true,
            "--only" => {
                let names = rest.next().ok_or("--only needs the name of a step; see --list")?;
                selection.only.extend(steps_named(names)?);
            }
            other => match other.strip_prefix("--only=") {
                Some(names) => selection.only.extend(steps_named(names)?),
                None => return Err(format!("test takes no {other:?}; see cargo xtask --help")),
            },
        }
    }
    Ok(Command::Test(selection))
}

fn steps_named(names: &str) -> Result<Vec<StepName>, String> {
    names.split(',').map(|name| StepName::find(name.trim())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&words)
    }

    #[test]
    fn steps_can_be_named_with_commas_or_by_repeating_the_option() {
        let expected = Selection { only: vec![StepName::Fmt, StepName::Tidy], ..Selection::default() };
        assert_eq!(parsed("test --only fmt,tidy"), Ok(Command::Test(expected)));
        let expected =
            Selection { quick: true, only: vec![StepName::Fmt, StepName::Deny], ..Selection::default() };
        assert_eq!(parsed("test --only=fmt --quick --only deny"), Ok(Command::Test(expected)));
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        assert!(parsed("test --fast").is_err_and(|text| text.contains("--fast")));
        assert!(parsed("test --only lint").is_err_and(|text| text.contains("lint")));
        assert!(parsed("tidy src").is_err_and(|text| text.contains("src")));
        assert!(parsed("release").is_err_and(|text| text.contains("release")));
    }
}
