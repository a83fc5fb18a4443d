//! Rust source with everything blanked that is not code: comments, literals and test modules.
//!
//! Not a parser: it knows just enough of the language to tell where a comment or a literal ends. Lines
//! keep their numbers.

/// The code of `text`. What is left out is replaced by spaces.
pub(super) fn code_only(text: &str) -> String {
    let mut rest = text;
    let mut code = String::with_capacity(text.len());
    while !rest.is_empty() {
        let skipped = length_of_no_code(rest, code.chars().next_back());
        if skipped == 0 {
            let first = rest.chars().next().map_or(1, char::len_utf8);
            code.push_str(&rest[..first]);
            rest = &rest[first..];
        } else {
            code.extend(rest[..skipped].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = &rest[skipped..];
        }
    }
    code
}

/// The code before the tests of the file, which stand last.
pub(super) fn without_tests(code: &str) -> &str {
    let end = code.match_indices("#[cfg(test)]").find_map(|(at, attribute)| {
        code[at + attribute.len()..].trim_start().starts_with("mod ").then_some(at)
    });
    &code[..end.unwrap_or(code.len())]
}

/// Whether a whole file is for tests.
pub(super) fn is_test_file(name: &str) -> bool {
    let is_of_tests = |part: &str| matches!(part, "tests" | "benches" | "fuzz" | "tests.rs");
    name.split('/').any(is_of_tests) || name.ends_with("_tests.rs")
}

fn length_of_no_code(rest: &str, before: Option<char>) -> usize {
    let after_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if rest.starts_with("//") {
        rest.find('\n').unwrap_or(rest.len())
    } else if rest.starts_with("/*") {
        block_comment(rest)
    } else if let Some(inside) = rest.strip_prefix('"') {
        1 + quoted(inside, '"')
    } else if rest.starts_with('\'') {
        character(rest)
    } else if after_word {
        0
    } else {
        raw_string(rest)
    }
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// The length of what follows an opening quote, the closing one included.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote {
            return at + c.len_utf8();
        }
    }
    rest.len()
}

/// A character literal; 0 for a lifetime or a label.
fn character(rest: &str) -> usize {
    let mut inside = rest[1..].char_indices();
    match (inside.next(), inside.next()) {
        (Some((_, '\\')), _) => 1 + quoted(&rest[1..], '\''),
        (Some(_), Some((at, '\''))) => 1 + at + 1,
        _ => 0,
    }
}

fn raw_string(rest: &str) -> usize {
    let Some(after) = ["br", "cr", "r"].iter().find_map(|prefix| rest.strip_prefix(prefix)) else {
        return 0;
    };
    let inside = after.trim_start_matches('#');
    let hashes = &after[..after.len() - inside.len()];
    let Some(inside) = inside.strip_prefix('"') else {
        return 0;
    };
    let start = rest.len() - inside.len();
    let end = format!("\"{hashes}");
    inside.find(&end).map_or(rest.len(), |at| start + at + end.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        code_only(text).split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn comments_of_both_kinds_are_not_code() {
        assert_eq!(words("a // std::fs\nb /* c /* d */ e */ f"), ["a", "b", "f"]);
    }

    #[test]
    fn literals_are_not_code_whatever_they_contain() {
        assert_eq!(words(r#"a("x \" // y") b"#), ["a(", ")", "b"]);
        assert_eq!(words("a r#\"x \" y\"# b br\"c\" d"), ["a", "b", "d"]);
        assert_eq!(words("a '\"' b '\\'' c"), ["a", "b", "c"]);
    }

    #[test]
    fn a_lifetime_opens_no_literal() {
        assert_eq!(words("fn f<'a>(x: &'a str) {} // gone"), ["fn", "f<'a>(x:", "&'a", "str)", "{}"]);
    }

    #[test]
    fn lines_keep_their_numbers() {
        let text = "one\n/* two\nthree */\nr\"four\nfive\"\nsix";
        assert_eq!(code_only(text).lines().position(|line| line == "six"), Some(5));
    }

    #[test]
    fn the_tests_at_the_end_are_cut_off_but_a_single_test_attribute_is_not() {
        assert_eq!(without_tests("a\n#[cfg(test)]\nmod tests { b }").trim(), "a");
        assert!(without_tests("#[cfg(test)]\nfn only() {}\nc").contains('c'));
        assert!(
            is_test_file("crates/core/src/session/tests.rs") && is_test_file("crates/cli/tests/serve.rs")
        );
        assert!(is_test_file("crates/config/src/parser_tests.rs"));
        assert!(!is_test_file("crates/core/src/session.rs"));
    }
}
