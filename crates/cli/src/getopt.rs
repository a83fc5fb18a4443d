//! Options as Python's `getopt` reads them: short ones that run together, long ones that may be
//! shortened, and the same words when something is wrong.

use std::{collections::VecDeque, ffi::OsString};

/// An option that a program knows.
pub(crate) struct Known {
    /// The letter, if it has one.
    pub(crate) short: Option<char>,
    /// The long name, if it has one.
    pub(crate) long: Option<&'static str>,
    /// Whether an argument follows.
    pub(crate) takes_argument: bool,
}

/// An option as it was given.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Given {
    /// With its dashes, and in full: `-a` or `--address`.
    pub(crate) name: String,
    /// Empty if it takes none.
    pub(crate) argument: String,
}

/// Cuts arguments into options and the rest, which begins at the first argument that is no option.
pub(crate) fn getopt(arguments: Vec<OsString>, known: &[Known]) -> Result<(Vec<Given>, Vec<String>), String> {
    let text = |argument: OsString| argument.to_string_lossy().into_owned();
    let mut waiting: VecDeque<String> = arguments.into_iter().map(text).collect();
    let mut given = Vec::new();
    while let Some(argument) = waiting.pop_front() {
        if argument == "--" {
            break;
        } else if let Some(long) = argument.strip_prefix("--") {
            given.push(long_option(long, known, &mut waiting)?);
        } else if argument.len() > 1 && argument.starts_with('-') {
            short_options(&argument[1..], known, &mut waiting, &mut given)?;
        } else {
            waiting.push_front(argument);
            break;
        }
    }
    Ok((given, waiting.into()))
}

fn long_option(text: &str, known: &[Known], waiting: &mut VecDeque<String>) -> Result<Given, String> {
    let (name, argument) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
    let named = |option: &&Known| option.long.is_some_and(|long| long.starts_with(name));
    let candidates: Vec<&Known> = known.iter().filter(named).collect();
    let exact = candidates.iter().find(|option| option.long == Some(name));
    let option = match (exact, candidates.as_slice()) {
        (Some(exact), _) => exact,
        (None, [only]) => only,
        (None, []) => return Err(format!("option --{name} not recognized")),
        (None, _) => return Err(format!("option --{name} not a unique prefix")),
    };
    let name = option.long.unwrap_or(name);
    let argument = match (option.takes_argument, argument) {
        (true, Some(argument)) => argument.to_owned(),
        (true, None) => waiting.pop_front().ok_or_else(|| format!("option --{name} requires argument"))?,
        (false, None) => String::new(),
        (false, Some(_)) => return Err(format!("option --{name} must not have an argument")),
    };
    Ok(Given { name: format!("--{name}"), argument })
}

fn short_options(
    letters: &str,
    known: &[Known],
    waiting: &mut VecDeque<String>,
    given: &mut Vec<Given>,
) -> Result<(), String> {
    let mut rest = letters.chars();
    while let Some(letter) = rest.next() {
        let option = known.iter().find(|option| option.short == Some(letter));
        let option = option.ok_or_else(|| format!("option -{letter} not recognized"))?;
        let name = format!("-{letter}");
        if !option.takes_argument {
            given.push(Given { name, argument: String::new() });
            continue;
        }
        let argument = match rest.as_str() {
            "" => waiting.pop_front().ok_or_else(|| format!("option -{letter} requires argument"))?,
            glued => glued.to_owned(),
        };
        given.push(Given { name, argument });
        break;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [Known; 4] = [
        Known { short: Some('a'), long: Some("address"), takes_argument: true },
        Known { short: Some('h'), long: Some("help"), takes_argument: false },
        Known { short: None, long: Some("timeout"), takes_argument: true },
        Known { short: None, long: Some("test"), takes_argument: false },
    ];

    type Pairs = Vec<(String, String)>;

    fn cut(arguments: &[&str]) -> Result<(Pairs, Vec<String>), String> {
        let (given, rest) = getopt(arguments.iter().map(OsString::from).collect(), &KNOWN)?;
        Ok((given.into_iter().map(|given| (given.name, given.argument)).collect(), rest))
    }

    fn options(arguments: &[&str]) -> Pairs {
        cut(arguments).unwrap().0
    }

    #[test]
    fn options_are_given_in_every_form() {
        let address = |name: &str| vec![(name.to_owned(), "8100".to_owned())];
        assert_eq!(options(&["-a", "8100"]), address("-a"));
        assert_eq!(options(&["-a8100"]), address("-a"));
        assert_eq!(options(&["--address", "8100"]), address("--address"));
        assert_eq!(options(&["--addr=8100"]), address("--address"));
        assert_eq!(options(&["-ha", "8100"])[1..], address("-a"));
    }

    #[test]
    fn the_rest_begins_at_the_first_argument_that_is_no_option() {
        assert_eq!(cut(&["-h", "x", "-a"]).unwrap().1, ["x", "-a"]);
        assert_eq!(cut(&["--", "-h"]).unwrap(), (vec![], vec!["-h".to_owned()]));
        assert_eq!(cut(&["-"]).unwrap().1, ["-"]);
    }

    #[test]
    fn wrong_options_are_told_in_the_words_of_python() {
        let wrong = |arguments: &[&str]| cut(arguments).unwrap_err();
        assert_eq!(wrong(&["--nosuch"]), "option --nosuch not recognized");
        assert_eq!(wrong(&["--t"]), "option --t not a unique prefix");
        assert_eq!(wrong(&["--tim"]), "option --timeout requires argument");
        assert_eq!(wrong(&["--help=3"]), "option --help must not have an argument");
        assert_eq!(wrong(&["-Q"]), "option -Q not recognized");
        assert_eq!(wrong(&["-a"]), "option -a requires argument");
    }
}
