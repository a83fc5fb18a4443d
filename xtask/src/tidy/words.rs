//! The "must not know" column of ARCHITECTURE.md, as far as words tell.

use super::{Finding, source};

/// What a crate may not name in code, tests aside.
struct Ban {
    crates: &'static [&'static str],
    words: &'static [&'static str],
    why: &'static str,
}

const BANS: &[Ban] = &[
    Ban {
        crates: &["types", "pickle", "wire", "core", "storage", "filestorage"],
        words: &["std::fs", "tokio"],
        why: "only `disk` knows files, only the shells know a runtime",
    },
    Ban {
        crates: &["types", "pickle", "wire", "core", "storage", "filestorage", "disk", "config", "cache"],
        words: &["std::net", "std::os::unix::net"],
        why: "only the shells know sockets",
    },
    Ban {
        crates: &["types", "pickle", "wire", "core"],
        words: &["std::thread", "thread::spawn", "thread::sleep"],
        why: "only the shells know threads",
    },
    Ban {
        crates: &["types", "pickle", "wire", "core", "storage", "filestorage"],
        words: &["Instant::now", "SystemTime::now"],
        why: "time comes from the caller, or a simulation could not set it",
    },
    Ban {
        crates: &["types", "pickle", "wire", "core"],
        words: &["std::env", "std::process"],
        why: "only the fronts and shells know the process",
    },
];

/// Looks at one file.
pub(super) fn check(name: &str, text: &str) -> Vec<Finding> {
    let Some(of_crate) = crate_of_source(name) else {
        return Vec::new();
    };
    let code = source::code_only(text);
    let code = source::without_tests(&code);
    let mut findings = Vec::new();
    for ban in BANS.iter().filter(|ban| ban.crates.contains(&of_crate)) {
        for word in ban.words {
            for line in lines_naming(code, word) {
                findings.push(Finding::new(name, line, format!("{of_crate} names {word}: {}", ban.why)));
            }
        }
    }
    findings
}

/// `core` of `crates/core/src/session.rs`; none for tests.
fn crate_of_source(name: &str) -> Option<&str> {
    let (of_crate, path) = name.strip_prefix("crates/")?.split_once('/')?;
    (path.starts_with("src/") && path.ends_with(".rs") && !source::is_test_file(path)).then_some(of_crate)
}

fn lines_naming(code: &str, word: &str) -> Vec<usize> {
    let plain = code.match_indices(word).map(|(at, _)| at).filter(|at| is_whole(code, *at, word.len()));
    let mut lines: Vec<usize> = plain.chain(in_groups(code, word)).map(|at| line_of(code, at)).collect();
    lines.sort_unstable();
    lines.dedup();
    lines
}

fn is_whole(code: &str, at: usize, len: usize) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    !code[..at].chars().next_back().is_some_and(is_word)
        && !code[at + len..].chars().next().is_some_and(is_word)
}

/// Where `use std::{fs, io};` names `std::fs`.
fn in_groups(code: &str, word: &str) -> Vec<usize> {
    let Some((head, tail)) = word.split_once("::") else {
        return Vec::new();
    };
    let group = format!("{head}::{{");
    let mut places = Vec::new();
    for (at, _) in code.match_indices(&group) {
        let start = at + group.len();
        let mut depth = 0_usize;
        let mut item = start;
        for (offset, c) in code[start..].char_indices() {
            let closes = c == '}' && depth == 0;
            if closes || (c == ',' && depth == 0) {
                let text = code[item..start + offset].trim();
                if text.starts_with(tail) && is_whole(text, 0, tail.len()) {
                    places.push(item + code[item..].find(tail).unwrap_or(0));
                }
                item = start + offset + 1;
            }
            match c {
                _ if closes => break,
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
        }
    }
    places
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_in_core_is_found_with_its_line() {
        let found =
            check("crates/core/src/locks.rs", "//! Locks.\nfn f() {\n    let t = Instant::now();\n}\n");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].line, 3);
    }

    #[test]
    fn a_module_in_a_group_of_imports_counts_as_named() {
        let found =
            check("crates/filestorage/src/open.rs", "use std::{\n    io::{self, Read},\n    fs,\n};\n");
        assert_eq!(found.iter().map(|finding| finding.line).collect::<Vec<_>>(), [3]);
        assert!(check("crates/filestorage/src/open.rs", "use std::{fmt, io};\n").is_empty());
    }

    #[test]
    fn comments_strings_and_tests_may_say_what_code_may_not() {
        let text =
            "// no std::fs here\nconst A: &str = \"tokio\";\n#[cfg(test)]\nmod tests { use std::fs; }\n";
        assert!(check("crates/wire/src/frame.rs", text).is_empty());
        assert!(check("crates/core/tests/story.rs", "use std::thread;").is_empty());
    }

    #[test]
    fn the_crates_whose_business_it_is_may_name_it() {
        assert!(check("crates/disk/src/real.rs", "use std::fs::File;").is_empty());
        assert!(check("crates/server/src/listener.rs", "use tokio::net::TcpListener;").is_empty());
        assert_eq!(check("crates/disk/src/real.rs", "use std::net::TcpStream;").len(), 1);
    }
}
