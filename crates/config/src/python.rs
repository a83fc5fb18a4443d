//! How Python reads and shows numbers and strings, as far as configuration files depend on it.

/// The text in quotes, as Python's `repr` shows a string.
pub fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

/// The integer that Python's `int()` reads, if it fits in 64 bits.
///
/// # Errors
/// In the words of Python.
pub fn integer(text: &str) -> Result<i64, String> {
    let trimmed = text.trim();
    let unsigned = trimmed.strip_prefix(['+', '-']).unwrap_or(trimmed);
    let Some(digits) = without_underscores(unsigned).filter(|d| d.bytes().all(|b| b.is_ascii_digit())) else {
        return Err(format!("invalid literal for int() with base 10: {}", quoted(text)));
    };
    let sign = if trimmed.starts_with('-') { "-" } else { "" };
    format!("{sign}{digits}").parse().map_err(|_| format!("the number {} is too large", quoted(text)))
}

/// The number that Python's `float()` reads.
///
/// # Errors
/// In the words of Python.
pub fn real(text: &str) -> Result<f64, String> {
    without_underscores(text.trim())
        .and_then(|plain| plain.parse().ok())
        .ok_or_else(|| format!("could not convert string to float: {}", quoted(text)))
}

/// The text without its underscores, each of which must stand between two digits.
fn without_underscores(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
    let stray =
        |(at, byte): (usize, &u8)| *byte == b'_' && !(digit(at.checked_sub(1)) && digit(Some(at + 1)));
    if bytes.is_empty() || bytes.iter().enumerate().any(stray) {
        return None;
    }
    Some(text.replace('_', ""))
}

/// Whether Python's `str.strip()` removes it and its `\s` matches it.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_as_python_reads_them() {
        assert_eq!(integer("1_000"), Ok(1000));
        assert_eq!(integer(" +7 "), Ok(7));
        assert_eq!(integer("-9223372036854775808"), Ok(i64::MIN));
        for wrong in ["", "-", "1.5", "_1", "1_", "1__0", "many", "0x10", "+-1"] {
            let message = format!("invalid literal for int() with base 10: '{wrong}'");
            assert_eq!(integer(wrong), Err(message));
        }
        assert_eq!(
            integer("9223372036854775808"),
            Err("the number '9223372036854775808' is too large".into())
        );
    }

    #[test]
    fn reals_are_read_as_python_reads_them() {
        assert_eq!(real("1e3"), Ok(1000.0));
        assert_eq!(real(".5"), Ok(0.5));
        assert_eq!(real("1_0.5"), Ok(10.5));
        assert_eq!(real("inf"), Ok(f64::INFINITY));
        assert_eq!(real("abc"), Err("could not convert string to float: 'abc'".into()));
        assert_eq!(real(""), Err("could not convert string to float: ''".into()));
    }

    #[test]
    fn a_quote_changes_the_quotes() {
        assert_eq!(quoted("a"), "'a'");
        assert_eq!(quoted("it's"), "\"it's\"");
        assert_eq!(quoted("'\""), "'\\'\"'");
        assert_eq!(quoted("a\n\x01"), "'a\\n\\x01'");
    }
}
