//! The text forms of protocol 0: numbers in decimal, strings in quotes, escapes.

/// A memo index or other number in decimal.
pub(crate) fn decimal<T: std::str::FromStr>(line: &[u8]) -> Option<T> {
    std::str::from_utf8(line).ok()?.trim().parse().ok()
}

/// The operand of `INT`: a number, or a boolean as `00` and `01`.
pub(crate) fn int_or_bool(line: &[u8]) -> Option<Result<i128, bool>> {
    match line {
        b"00" => Some(Err(false)),
        b"01" => Some(Err(true)),
        _ => decimal(line).map(Ok),
    }
}

/// The operand of `LONG`: a number with an `L` behind it.
pub(crate) fn long(line: &[u8]) -> Option<i128> {
    decimal(line.strip_suffix(b"L").unwrap_or(line))
}

/// The operand of `FLOAT`.
pub(crate) fn float(line: &[u8]) -> Option<f64> {
    decimal(line)
}

/// The operand of `LONG1` and `LONG4`: little-endian two's complement of at most 16 bytes.
pub(crate) fn long_from_bytes(bytes: &[u8]) -> Option<i128> {
    let last = *bytes.last().unwrap_or(&0);
    let mut wide = [if last & 0x80 == 0 { 0 } else { 0xff }; 16];
    wide.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(i128::from_le_bytes(wide))
}

/// The operand of `STRING`: a Python literal in single or double quotes, unescaped.
pub(crate) fn quoted(line: &[u8]) -> Option<Vec<u8>> {
    let line = line.trim_ascii_end();
    let (first, rest) = line.split_first()?;
    let (last, body) = rest.split_last()?;
    if first != last || !matches!(first, b'\'' | b'"') {
        return None;
    }
    let mut text = Vec::with_capacity(body.len());
    let mut bytes = body.iter();
    while let Some(byte) = bytes.next() {
        if *byte != b'\\' {
            text.push(*byte);
            continue;
        }
        match bytes.next()? {
            b'\n' => {}
            b'n' => text.push(b'\n'),
            b't' => text.push(b'\t'),
            b'r' => text.push(b'\r'),
            b'a' => text.push(0x07),
            b'b' => text.push(0x08),
            b'f' => text.push(0x0c),
            b'v' => text.push(0x0b),
            quote @ (b'\\' | b'\'' | b'"') => text.push(*quote),
            b'x' => {
                let digits = bytes.as_slice().get(..2)?;
                text.push(u8::try_from(hex(digits)?).ok()?);
                bytes.nth(1);
            }
            octal @ b'0'..=b'7' => {
                let more = bytes.as_slice().iter().take(2).take_while(|byte| matches!(byte, b'0'..=b'7'));
                let more = more.count();
                let mut value = u32::from(octal - b'0');
                for digit in bytes.by_ref().take(more) {
                    value = value * 8 + u32::from(digit - b'0');
                }
                text.push((value & 0xff) as u8);
            }
            other => text.extend([b'\\', *other]),
        }
    }
    Some(text)
}

/// The operand of `UNICODE`: Latin-1 with `\uXXXX` and `\UXXXXXXXX` escapes.
pub(crate) fn raw_unicode(line: &[u8]) -> Option<String> {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((byte, after)) = rest.split_first() {
        let escape = match (byte, after.first()) {
            (b'\\', Some(b'u')) => Some(4),
            (b'\\', Some(b'U')) => Some(8),
            _ => None,
        };
        let Some(digits) = escape else {
            text.push(char::from(*byte));
            rest = after;
            continue;
        };
        let code = hex(after.get(1..=digits)?)?;
        rest = after.get(digits + 1..)?;
        text.push(match code {
            // A pair of surrogates is one character; half a pair is no text.
            0xd800..=0xdbff => {
                let low = hex(rest.strip_prefix(b"\\u")?.get(..4)?)?;
                rest = rest.get(6..)?;
                let low = low.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
                char::from_u32(0x1_0000 + ((code - 0xd800) << 10) + low)?
            }
            _ => char::from_u32(code)?,
        });
    }
    Some(text)
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0_u32, |value, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        value.checked_mul(16)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_string_is_unescaped_as_python_does() {
        assert_eq!(quoted(br"'a\n\x00\377\'\\'"), Some(b"a\n\0\xff'\\".to_vec()));
        assert_eq!(quoted(br#""it's""#), Some(b"it's".to_vec()));
        assert_eq!(quoted(br"'\0123'"), Some(b"\n3".to_vec()));
        assert_eq!(quoted(b"'half"), None);
        assert_eq!(quoted(b"'"), None);
        assert_eq!(quoted(br"'\x0'"), None);
    }

    #[test]
    fn raw_unicode_knows_its_two_escapes_and_surrogate_pairs() {
        assert_eq!(raw_unicode(b"caf\xe9 \\u20ac"), Some("café €".to_owned()));
        assert_eq!(raw_unicode(b"\\U0001f600\\ud83d\\ude00"), Some("😀😀".to_owned()));
        assert_eq!(raw_unicode(b"\\ud83d"), None);
        assert_eq!(raw_unicode(b"a\\b"), Some("a\\b".to_owned()));
    }

    #[test]
    fn longs_take_their_sign_from_the_last_byte() {
        assert_eq!(long_from_bytes(&[]), Some(0));
        assert_eq!(long_from_bytes(&[0xff]), Some(-1));
        assert_eq!(long_from_bytes(&[0xff, 0]), Some(255));
        assert_eq!(long_from_bytes(&[0; 17]), None);
        assert_eq!(long(b"-12L"), Some(-12));
    }
}
