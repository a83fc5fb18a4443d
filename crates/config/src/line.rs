//! What one line of a configuration is: nothing, a section's start or end, a directive, or a key.

use crate::python::is_space;

/// One line, cut into its parts. Nothing is substituted or brought to lower case yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    Blank,
    Start { kind: &'a str, name: Option<&'a str>, empty: bool },
    End { kind: &'a str },
    Directive { name: &'a str, argument: &'a str },
    Key { name: &'a str, value: &'a str },
}

impl<'a> Line<'a> {
    /// Cuts a line, or says what is wrong with it.
    pub(crate) fn cut(line: &'a str) -> Result<Self, &'static str> {
        let line = line.trim_matches(is_space);
        if line.is_empty() || line.starts_with('#') {
            Ok(Line::Blank)
        } else if let Some(rest) = line.strip_prefix("</") {
            let kind = rest.strip_suffix('>').ok_or("malformed section end")?;
            Ok(Line::End { kind: kind.trim_end_matches(is_space) })
        } else if let Some(rest) = line.strip_prefix('<') {
            start(rest.strip_suffix('>').ok_or("malformed section start")?)
        } else if let Some(rest) = line.strip_prefix('%') {
            let (name, argument) = key_value(rest).ok_or("missing or unrecognized directive")?;
            Ok(Line::Directive { name, argument })
        } else {
            let (name, value) = key_value(line).ok_or("malformed configuration data")?;
            Ok(Line::Key { name, value })
        }
    }
}

fn start(header: &str) -> Result<Line<'_>, &'static str> {
    let (text, empty) = header.strip_suffix('/').map_or((header, false), |text| (text, true));
    let text = text.trim_end_matches(is_space);
    let (kind, rest) = text.split_at(word_len(text));
    let name = rest.trim_start_matches(is_space);
    let glued = !name.is_empty() && name.len() == rest.len();
    if kind.is_empty() || glued || word_len(name) != name.len() {
        return Err("malformed section header");
    }
    Ok(Line::Start { kind, name: Some(name).filter(|name| !name.is_empty()), empty })
}

fn key_value(text: &str) -> Option<(&str, &str)> {
    let (key, rest) = text.split_at(word_len(text));
    (!key.is_empty()).then(|| (key, rest.trim_start_matches(is_space)))
}

/// How much of the text a name covers: up to white space or a parenthesis.
fn word_len(text: &str) -> usize {
    text.find(|c| is_space(c) || c == '(' || c == ')').unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_into_their_parts() {
        assert_eq!(Line::cut("  \t"), Ok(Line::Blank));
        assert_eq!(Line::cut(" # <a>"), Ok(Line::Blank));
        assert_eq!(Line::cut("<a>"), Ok(Line::Start { kind: "a", name: None, empty: false }));
        assert_eq!(Line::cut("<a  b />"), Ok(Line::Start { kind: "a", name: Some("b"), empty: true }));
        assert_eq!(Line::cut("</a >"), Ok(Line::End { kind: "a" }));
        assert_eq!(Line::cut("key"), Ok(Line::Key { name: "key", value: "" }));
        assert_eq!(Line::cut("key\ta # b "), Ok(Line::Key { name: "key", value: "a # b" }));
        assert_eq!(Line::cut("key(a)"), Ok(Line::Key { name: "key", value: "(a)" }));
        assert_eq!(Line::cut("%define a b"), Ok(Line::Directive { name: "define", argument: "a b" }));
    }

    #[test]
    fn malformed_lines_are_called_what_the_reference_calls_them() {
        assert_eq!(Line::cut("<"), Err("malformed section start"));
        assert_eq!(Line::cut("<a"), Err("malformed section start"));
        assert_eq!(Line::cut("<>"), Err("malformed section header"));
        assert_eq!(Line::cut("< a>"), Err("malformed section header"));
        assert_eq!(Line::cut("<a b c>"), Err("malformed section header"));
        assert_eq!(Line::cut("<a(b)>"), Err("malformed section header"));
        assert_eq!(Line::cut("</a"), Err("malformed section end"));
        assert_eq!(Line::cut("(a)"), Err("malformed configuration data"));
        assert_eq!(Line::cut("% define"), Err("missing or unrecognized directive"));
        assert_eq!(Line::cut("%"), Err("missing or unrecognized directive"));
    }
}
