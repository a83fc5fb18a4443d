//! Widths, flags and conversions: how Python puts one value into a format.

use super::fields::FieldValue;
use zeolith_config::quoted;

/// The form of one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) fill: char,
    pub(super) align: Align,
    /// Shown before numbers that are not negative.
    pub(super) plus: Option<char>,
    /// `0x` and the like.
    pub(super) alternate: bool,
    /// Commas or underscores between thousands.
    pub(super) grouping: Option<char>,
    pub(super) width: usize,
    pub(super) precision: Option<usize>,
    pub(super) kind: Kind,
}

/// On which side of its width a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
    Center,
    /// Padding between the sign and the digits.
    AfterSign,
    /// Numbers right, text left.
    Natural,
}

/// What a value is turned into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// As `str()` shows it.
    Plain,
    /// As `repr()` shows it.
    Quoted,
    Decimal,
    Octal,
    Hex {
        upper: bool,
    },
    Exponent {
        upper: bool,
    },
    Fixed,
    General {
        upper: bool,
    },
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            fill: ' ',
            align: Align::Natural,
            plus: None,
            alternate: false,
            grouping: None,
            width: 0,
            precision: None,
            kind: Kind::Plain,
        }
    }
}

impl Spec {
    /// Whether Python would format such a value so, instead of raising an exception.
    pub(super) fn suits(&self, value: &FieldValue) -> bool {
        let bounded = self.width <= SIZE_MAX && self.precision.is_none_or(|precision| precision <= SIZE_MAX);
        bounded
            && match (self.kind, value) {
                (Kind::Plain | Kind::Quoted, _) => true,
                (_, FieldValue::Text(_)) => false,
                (Kind::Octal | Kind::Hex { .. }, FieldValue::Real(_)) => false,
                (_, FieldValue::Integer(_) | FieldValue::Real(_)) => true,
            }
    }

    /// The value in this form.
    pub(super) fn render(&self, value: &FieldValue) -> String {
        let (sign, body, is_number) = self.body(value);
        let length = sign.chars().count() + body.chars().count();
        let padding = self.width.saturating_sub(length);
        let pad = |count: usize| self.fill.to_string().repeat(count);
        let align = match self.align {
            Align::Natural if is_number => Align::Right,
            Align::Natural => Align::Left,
            Align::AfterSign if !is_number => Align::Right,
            given => given,
        };
        match align {
            Align::Left | Align::Natural => format!("{sign}{body}{}", pad(padding)),
            Align::Right => format!("{}{sign}{body}", pad(padding)),
            Align::Center => format!("{}{sign}{body}{}", pad(padding / 2), pad(padding - padding / 2)),
            Align::AfterSign => format!("{sign}{}{body}", pad(padding)),
        }
    }

    /// The sign and prefix, the rest, and whether it is a number.
    fn body(&self, value: &FieldValue) -> (String, String, bool) {
        let cut = |text: String| match self.precision {
            Some(precision) => text.chars().take(precision).collect(),
            None => text,
        };
        match (self.kind, value) {
            (Kind::Quoted, FieldValue::Text(text)) => (String::new(), cut(quoted(text)), false),
            (_, FieldValue::Text(text)) => (String::new(), cut(text.clone()), false),
            (Kind::Plain | Kind::Quoted, FieldValue::Integer(number)) => self.integer(*number, Kind::Decimal),
            (Kind::Plain | Kind::Quoted, FieldValue::Real(number)) => self.real(*number, Kind::Plain),
            (Kind::Decimal | Kind::Octal | Kind::Hex { .. }, FieldValue::Integer(number)) => {
                self.integer(*number, self.kind)
            }
            // As Python's `%d` does: towards zero.
            (Kind::Decimal | Kind::Octal | Kind::Hex { .. }, FieldValue::Real(number)) => {
                self.integer(*number as i64, self.kind)
            }
            (kind, FieldValue::Integer(number)) => self.real(*number as f64, kind),
            (kind, FieldValue::Real(number)) => self.real(*number, kind),
        }
    }

    fn integer(&self, number: i64, kind: Kind) -> (String, String, bool) {
        let size = number.unsigned_abs();
        let (prefix, digits) = match kind {
            Kind::Octal => ("0o", format!("{size:o}")),
            Kind::Hex { upper: false } => ("0x", format!("{size:x}")),
            Kind::Hex { upper: true } => ("0X", format!("{size:X}")),
            _ => ("", size.to_string()),
        };
        let digits = format!("{digits:0>least$}", least = self.precision.unwrap_or_default());
        let prefix = if self.alternate { prefix } else { "" };
        (format!("{}{prefix}", self.sign(number < 0)), self.grouped(&digits), true)
    }

    fn real(&self, number: f64, kind: Kind) -> (String, String, bool) {
        let size = number.abs();
        let precision = self.precision.unwrap_or(6);
        let text = match kind {
            _ if !size.is_finite() => size.to_string().to_lowercase(),
            Kind::Exponent { upper } => exponent(size, precision, upper),
            Kind::Fixed => format!("{size:.precision$}"),
            Kind::General { upper } => general(size, precision.max(1), upper, self.alternate),
            _ => format!("{size:?}"),
        };
        (self.sign(number.is_sign_negative()), self.grouped(&text), true)
    }

    fn sign(&self, negative: bool) -> String {
        if negative { "-".to_owned() } else { self.plus.map(String::from).unwrap_or_default() }
    }

    fn grouped(&self, text: &str) -> String {
        let Some(separator) = self.grouping else {
            return text.to_owned();
        };
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let mut out = String::new();
        for (at, digit) in text[..end].chars().enumerate() {
            if at > 0 && (end - at).is_multiple_of(3) {
                out.push(separator);
            }
            out.push(digit);
        }
        out + &text[end..]
    }
}

/// Scientific notation with at least two digits of exponent.
fn exponent(number: f64, precision: usize, upper: bool) -> String {
    let text = format!("{number:.precision$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}{}{sign}{digits:0>2}", if upper { 'E' } else { 'e' })
}

/// The shorter of fixed and scientific notation, with so many significant digits.
fn general(number: f64, digits: usize, upper: bool, keep_zeros: bool) -> String {
    let rounded = format!("{number:.least$e}", least = digits - 1);
    let power: i32 = rounded.split_once('e').and_then(|(_, power)| power.parse().ok()).unwrap_or_default();
    let scientific = power < -4 || usize::try_from(power).is_ok_and(|power| power >= digits);
    let text = if scientific {
        exponent(number, digits - 1, upper)
    } else {
        let after = i64::try_from(digits).unwrap_or(i64::MAX) - 1 - i64::from(power);
        format!("{number:.after$}", after = usize::try_from(after).unwrap_or_default())
    };
    let (mantissa, rest) = match text.find(['e', 'E']) {
        Some(at) => text.split_at(at),
        None => (text.as_str(), ""),
    };
    if keep_zeros || !mantissa.contains('.') {
        return text;
    }
    format!("{}{rest}", mantissa.trim_end_matches('0').trim_end_matches('.'))
}

/// No log line needs a field wider than this.
const SIZE_MAX: usize = 500;
