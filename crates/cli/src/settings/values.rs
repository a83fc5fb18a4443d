//! The data types that only a server's configuration has: levels, styles, escapes, exit codes.

use std::path::Path;
use zeolith_config::{DataType, System, Value, integer, quoted};

/// A log level by name or number, from 0 to 50.
pub(super) fn level(text: &str) -> Result<Value, String> {
    let number = match text.to_lowercase().as_str() {
        "critical" | "fatal" => 50,
        "error" => 40,
        "warn" | "warning" => 30,
        "info" => 20,
        "blather" => 15,
        "debug" => 10,
        "trace" => 5,
        "all" => 1,
        "notset" => 0,
        other => integer(other)?,
    };
    if !(0..=50).contains(&number) {
        return Err(format!("log level not in range: {number}"));
    }
    Ok(Value::Integer(number))
}

/// How a log format refers to fields.
pub(super) fn style(text: &str) -> Result<Value, String> {
    let style = text.to_lowercase();
    if ["classic", "format", "safe-template", "template"].contains(&style.as_str()) {
        return Ok(Value::Text(style));
    }
    let known = "'classic', 'format', 'safe-template', 'template'";
    Err(format!("log_format_style must be one of {known}; found {}", quoted(text)))
}

/// A text with the escapes `\n \t \b \f \r`.
pub(super) fn escaped(text: &str) -> Result<Value, String> {
    let pairs = [("\\n", "\n"), ("\\t", "\t"), ("\\b", "\x08"), ("\\f", "\x0c"), ("\\r", "\r")];
    let text = pairs.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
    Ok(Value::Text(text))
}

/// A path whose directory exists, in zdaemon's way.
pub(super) fn existing_parent(text: &str) -> Result<Value, String> {
    let path = match DataType::ExistingDirpath.convert(text, &System) {
        Ok(Value::Path(path)) => path,
        other => return other,
    };
    let there = path.parent().is_none_or(|parent| parent == Path::new("") || parent.is_dir());
    there.then_some(Value::Path(path)).ok_or_else(|| format!("The directory of {text} does not exist."))
}

/// Numbers with commas between them.
pub(super) fn exit_codes(text: &str) -> Result<Value, String> {
    let codes = text.split(',').filter(|_| !text.is_empty());
    let words: Result<Vec<_>, _> = codes.map(|code| integer(code).map(|code| code.to_string())).collect();
    words.map(Value::Words)
}

/// A number to the base of eight.
pub(super) fn octal(text: &str) -> Result<Value, String> {
    let digits = text.trim().trim_start_matches("0o");
    i64::from_str_radix(digits, 8)
        .map(Value::Integer)
        .map_err(|_| format!("invalid literal for int() with base 8: {}", quoted(text)))
}

/// Where a log is posted to.
pub(super) fn url(text: &str) -> Result<Value, String> {
    if text.starts_with("http://") {
        return Ok(Value::Text(text.to_owned()));
    }
    Err("url must be an http url".to_owned())
}
