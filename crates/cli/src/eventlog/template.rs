//! The format of `string.Template`: `$name` and `${name}`.

use super::{
    format::{Piece, field, push_text},
    number::Spec,
};

/// Cuts a template into text and fields. A safe one keeps what it can't make sense of.
pub(super) fn compile(format: &str, any_field: bool, safe: bool) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = format;
    while let Some((text, after)) = rest.split_once('$') {
        push_text(&mut pieces, text);
        if let Some(after) = after.strip_prefix('$') {
            push_text(&mut pieces, "$");
            rest = after;
            continue;
        }
        let braced = after.strip_prefix('{').map(|inner| (inner, name_len(inner)));
        let (name, length) = match braced {
            Some((inner, end)) if end > 0 && inner[end..].starts_with('}') => (&inner[..end], end + 2),
            Some(_) => ("", 0),
            None => (&after[..name_len(after)], name_len(after)),
        };
        let written = format!("${}", &after[..length]);
        match field(name, any_field && !name.is_empty(), Spec::default(), &written) {
            Ok(piece) => pieces.push(piece),
            Err(_) if safe => push_text(&mut pieces, &written),
            Err(_) if name.is_empty() => return Err("invalid placeholder after '$'".to_owned()),
            Err(reason) => return Err(reason),
        }
        rest = &after[length..];
    }
    push_text(&mut pieces, rest);
    Ok(pieces)
}

fn name_len(text: &str) -> usize {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return 0;
    }
    text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len())
}
