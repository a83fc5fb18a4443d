//! The classic format: `%(name)-8s`.

use super::{
    format::{Piece, field, push_text},
    number::{Align, Kind, Spec},
};

/// Cuts a classic format into text and fields.
pub(super) fn compile(format: &str, any_field: bool) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = format;
    while let Some((text, after)) = rest.split_once('%') {
        push_text(&mut pieces, text);
        if let Some(after) = after.strip_prefix('%') {
            push_text(&mut pieces, "%");
            rest = after;
            continue;
        }
        let inner = after.strip_prefix('(').ok_or("a '%' must be followed by '(' or '%'")?;
        let (name, conversion) = inner.split_once(')').ok_or("a '(' is not closed")?;
        let (spec, length) = conversion_of(conversion)?;
        let written = &after[..name.len() + 2 + length];
        pieces.push(field(name, any_field, spec, &format!("%{written}"))?);
        rest = &conversion[length..];
    }
    push_text(&mut pieces, rest);
    Ok(pieces)
}

/// The form that a conversion asks for, and how long it is.
fn conversion_of(text: &str) -> Result<(Spec, usize), String> {
    let mut spec = Spec { align: Align::Right, ..Spec::default() };
    let (mut left, mut zero) = (false, false);
    let flags = text.find(|c| !"-+ 0#".contains(c)).unwrap_or(text.len());
    for flag in text[..flags].chars() {
        match flag {
            '-' => left = true,
            '0' => zero = true,
            '#' => spec.alternate = true,
            '+' => spec.plus = Some('+'),
            _ => spec.plus = spec.plus.or(Some(' ')),
        }
    }
    let (width, mut at) = number(text, flags)?;
    spec.width = width.unwrap_or_default();
    if text[at..].starts_with('.') {
        let (precision, end) = number(text, at + 1)?;
        spec.precision = Some(precision.unwrap_or_default());
        at = end;
    }
    at += text[at..].find(|c| !"hlL".contains(c)).unwrap_or_default();
    let letter = text[at..].chars().next().ok_or("a conversion is not complete")?;
    spec.kind = match letter {
        's' => Kind::Plain,
        'r' | 'a' => Kind::Quoted,
        'd' | 'i' | 'u' => Kind::Decimal,
        'o' => Kind::Octal,
        'x' => Kind::Hex { upper: false },
        'X' => Kind::Hex { upper: true },
        'e' => Kind::Exponent { upper: false },
        'E' => Kind::Exponent { upper: true },
        'f' | 'F' => Kind::Fixed,
        'g' => Kind::General { upper: false },
        'G' => Kind::General { upper: true },
        other => return Err(format!("unsupported format character '{other}'")),
    };
    if left {
        spec.align = Align::Left;
    } else if zero && !matches!(spec.kind, Kind::Plain | Kind::Quoted) {
        (spec.align, spec.fill) = (Align::AfterSign, '0');
    }
    Ok((spec, at + letter.len_utf8()))
}

/// The digits from a place on, and where they end.
pub(super) fn number(text: &str, start: usize) -> Result<(Option<usize>, usize), String> {
    let digits = &text[start..];
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    if end == 0 {
        return Ok((None, start));
    }
    let number = digits[..end].parse().map_err(|_| format!("the number {} is too large", &digits[..end]))?;
    Ok((Some(number), start + end))
}
