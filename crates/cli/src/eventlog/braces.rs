//! The format of `str.format`: `{name:>8}`.

use super::{
    format::{Piece, field, push_text},
    number::{Align, Kind, Spec},
    percent::number,
};

/// Cuts a brace format into text and fields.
pub(super) fn compile(format: &str, any_field: bool) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = format;
    while let Some(at) = rest.find(['{', '}']) {
        push_text(&mut pieces, &rest[..at]);
        let brace = &rest[at..=at];
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix(brace) {
            push_text(&mut pieces, brace);
            rest = after;
            continue;
        }
        if brace == "}" {
            return Err("single '}' encountered".to_owned());
        }
        let (inner, after) = after.split_once('}').ok_or("a '{' is not closed")?;
        pieces.push(replacement(inner, any_field)?);
        rest = after;
    }
    push_text(&mut pieces, rest);
    Ok(pieces)
}

/// The field between two braces: `name!r:spec`.
fn replacement(inner: &str, any_field: bool) -> Result<Piece, String> {
    let (name, form) = inner.split_once(':').unwrap_or((inner, ""));
    let (name, conversion) = name.split_once('!').map_or((name, None), |(name, c)| (name, Some(c)));
    if name.is_empty() || name.bytes().all(|b| b.is_ascii_digit()) {
        return Err("formats cannot use positional placeholders".to_owned());
    }
    let mut spec = spec_of(form)?;
    match conversion {
        None => {}
        Some("r" | "a") if spec.kind == Kind::Plain => spec.kind = Kind::Quoted,
        Some("s") if spec.kind == Kind::Plain => {}
        Some(other) => return Err(format!("the conversion '!{other}' can't be used with '{form}'")),
    }
    field(name, any_field, spec, &format!("{{{inner}}}"))
}

/// `[[fill]align][sign][#][0][width][grouping][.precision][type]`
fn spec_of(text: &str) -> Result<Spec, String> {
    let mut spec = Spec::default();
    let mut chars = text.chars();
    let (first, second) = (chars.next(), chars.next());
    let mut at = 0;
    if let (Some(fill), Some(align)) = (first, second.and_then(align)) {
        (spec.fill, spec.align) = (fill, align);
        at = fill.len_utf8() + 1;
    } else if let Some(align) = first.and_then(align) {
        spec.align = align;
        at = 1;
    }
    let mut take = |letters: &str| {
        let found = text[at..].chars().next().filter(|c| letters.contains(*c));
        at += found.map_or(0, char::len_utf8);
        found
    };
    spec.plus = take("+- ").filter(|sign| *sign != '-');
    spec.alternate = take("#").is_some();
    if take("0").is_some() && spec.align == Align::Natural {
        (spec.fill, spec.align) = ('0', Align::AfterSign);
    }
    let (width, end) = number(text, at)?;
    spec.width = width.unwrap_or_default();
    at = end;
    let grouping = text[at..].chars().next().filter(|c| ",_".contains(*c));
    spec.grouping = grouping;
    at += grouping.map_or(0, char::len_utf8);
    if text[at..].starts_with('.') {
        let (precision, end) = number(text, at + 1)?;
        spec.precision = Some(precision.ok_or("format specifier missing precision")?);
        at = end;
    }
    spec.kind = match &text[at..] {
        "" | "s" => Kind::Plain,
        "d" => Kind::Decimal,
        "o" => Kind::Octal,
        "x" => Kind::Hex { upper: false },
        "X" => Kind::Hex { upper: true },
        "e" => Kind::Exponent { upper: false },
        "E" => Kind::Exponent { upper: true },
        "f" | "F" => Kind::Fixed,
        "g" => Kind::General { upper: false },
        "G" => Kind::General { upper: true },
        _ => return Err(format!("invalid format specifier '{text}'")),
    };
    Ok(spec)
}

fn align(letter: char) -> Option<Align> {
    match letter {
        '<' => Some(Align::Left),
        '>' => Some(Align::Right),
        '^' => Some(Align::Center),
        '=' => Some(Align::AfterSign),
        _ => None,
    }
}
