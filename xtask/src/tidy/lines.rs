//! What must not stand on any line: open ends without an issue, silenced lints, paths of one machine.

use super::{Finding, source};

/// Lints that nobody may switch off outside of tests.
const FIRM_LINTS: &[&str] = &[
    "clippy::all",
    "clippy::dbg_macro",
    "clippy::panic",
    "clippy::todo",
    "clippy::unimplemented",
    "clippy::unwrap_used",
    "missing_docs",
    "unsafe_code",
    "warnings",
];

/// Crates that may switch off `unsafe_code`, each by a page in docs/decisions.
const UNSAFE_CRATES: &[&str] = &["disk", "python"];

/// Roots of paths that exist on somebody's machine only. Put together here, or this file would name them.
const MACHINE_ROOTS: &[&str] =
    &[concat!("/", "home/"), concat!("/", "root/"), concat!("/", "work/"), concat!("/", "Users/")];

/// Looks at one file.
pub(super) fn check(name: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line_number = index + 1;
        findings.extend(open_end(line).map(|what| Finding::new(name, line_number, what)));
        findings.extend(machine_path(line).map(|what| Finding::new(name, line_number, what)));
    }
    if name.ends_with(".rs") && !source::is_test_file(name) {
        let code = source::code_only(text);
        findings.extend(silenced(name, source::without_tests(&code)));
    }
    findings
}

fn open_end(line: &str) -> Option<String> {
    let word = [concat!("TO", "DO"), concat!("FIX", "ME")].into_iter().find(|word| names(line, word))?;
    let has_issue = line.split('#').skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    (!has_issue).then(|| format!("{word} without the number of an issue (#7)"))
}

fn names(line: &str, word: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

fn machine_path(line: &str) -> Option<String> {
    let root = MACHINE_ROOTS.iter().find(|root| {
        line.match_indices(**root).any(|(at, _)| {
            // `docs/work/x` and `https://host/home/` are not paths from the root.
            !line[..at]
                .ends_with(|c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '}' | ')' | '*'))
        })
    })?;
    Some(format!("a path of one machine ({root}...)"))
}

fn silenced(name: &str, code: &str) -> Vec<Finding> {
    let may_be_unsafe = UNSAFE_CRATES.iter().any(|allowed| name.starts_with(&format!("crates/{allowed}/")));
    let mut findings = Vec::new();
    for opening in ["allow(", "expect("] {
        for (at, _) in code.match_indices(opening).filter(|(at, _)| code[..*at].ends_with(['[', ' ', ','])) {
            let inside = &code[at + opening.len()..];
            let inside = &inside[..inside.find(')').unwrap_or(inside.len())];
            for lint in inside.split(',').map(str::trim).filter(|lint| FIRM_LINTS.contains(lint)) {
                if lint == "unsafe_code" && may_be_unsafe {
                    continue;
                }
                let line = code[..at].matches('\n').count() + 1;
                findings.push(Finding::new(
                    name,
                    line,
                    format!("{lint} is not to be switched off outside of tests"),
                ));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(name: &str, text: &str) -> Vec<usize> {
        check(name, text).into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn an_open_end_needs_an_issue() {
        let word = concat!("TO", "DO");
        assert_eq!(lines("a.py", &format!("x\n# {word}: later\n# {word} (#12): later\n{word}S\n")), [2]);
    }

    #[test]
    fn a_silenced_lint_is_found_in_code_but_not_in_tests() {
        let silenced = "#![allow(clippy::unwrap_used)]\n";
        assert_eq!(lines("crates/wire/src/frame.rs", silenced), [1]);
        assert!(lines("crates/wire/tests/golden.rs", silenced).is_empty());
        assert!(
            lines("crates/wire/src/frame.rs", "#[cfg(test)]\nmod tests {\n#![allow(warnings)]\n}\n")
                .is_empty()
        );
        assert!(lines("crates/wire/src/frame.rs", "#[allow(clippy::too_many_lines)]\n").is_empty());
    }

    #[test]
    fn an_attribute_over_several_lines_or_with_a_reason_is_read_too() {
        let text = "#[allow(\n    dead_code,\n    clippy::panic,\n    reason = \"none\"\n)]\n";
        assert_eq!(lines("crates/wire/src/frame.rs", text), [1]);
        assert_eq!(lines("crates/wire/src/frame.rs", "let x = y.expect(unsafe_code);").len(), 0);
    }

    #[test]
    fn a_path_of_one_machine_is_found_and_a_path_in_the_tree_is_not() {
        let root = MACHINE_ROOTS[2];
        assert_eq!(lines("a.md", &format!("see {root}main\n")), [1]);
        assert!(lines("a.md", &format!("see docs{root}main\n")).is_empty());
    }
}
