//! How clients name transactions that can be undone: by number in a list, and by tid in base64.

use std::ops::Range;
use zeolith_types::{Refusal, Tid};

/// The entries that `undoLog(first, last)` wants: up to number `last`, or, if that is negative, so many.
pub(crate) fn range(first: i64, last: i64) -> Range<u64> {
    let last = if last < 0 { first.saturating_sub(last) } else { last };
    let at = |number: i64| u64::try_from(number).unwrap_or(0);
    at(first)..at(last)
}

/// The transaction that `undoa` names.
///
/// What is no base64 digit is passed over, as Python does it.
///
/// # Errors
/// The refusal that Python's server gives at vote: what it names is not eight bytes.
pub(crate) fn named(base64: &[u8]) -> Result<Tid, Refusal> {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    let mut bits = 0_u128;
    let mut digits = 0;
    let mut padding = 0;
    for byte in base64.iter().filter(|byte| is_digit(byte)) {
        if *byte == b'=' {
            // Padding where none can be is passed over; where it is complete the rest is.
            padding += usize::from(digits % 4 >= 2);
            if digits % 4 + padding >= 4 {
                break;
            }
            continue;
        }
        padding = 0;
        digits += 1;
        // More than any tid has: only their number matters from here on.
        if digits <= TID_DIGITS {
            bits = bits << 6 | u128::from(value(*byte));
        }
    }
    match digits % 4 {
        1 => {
            let text = format!(
                "Invalid base64-encoded string: number of data characters ({digits}) cannot be 1 more than a \
                 multiple of 4"
            );
            return Err(Refusal::Base64(text));
        }
        2 | 3 if digits % 4 + padding < 4 => return Err(Refusal::Base64("Incorrect padding".to_owned())),
        _ => {}
    }
    if digits != TID_DIGITS {
        return Err(Refusal::Assertion(format!("{} bytes name no transaction", digits * 6 / 8)));
    }
    // Eight bytes are ten digits and four bits of the eleventh.
    Ok(Tid::new(u64::try_from(bits >> 2).expect("eleven digits without two bits are 64 bits")))
}

/// The six bits of a digit.
const fn value(digit: u8) -> u8 {
    match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        _ => 63,
    }
}

/// Digits of eight bytes.
const TID_DIGITS: usize = 11;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_negative_end_is_a_number_of_entries() {
        assert_eq!(range(0, -20), 0..20);
        assert_eq!(range(5, -20), 5..25);
        assert_eq!(range(5, 20), 5..20);
        assert_eq!(range(-5, 3), 0..3);
        assert_eq!(range(i64::MAX, i64::MIN), i64::MAX as u64..i64::MAX as u64);
    }

    #[test]
    fn a_transaction_is_named_as_python_names_it() {
        assert_eq!(named(b"ASNFZ4mrze8="), Ok(Tid::new(0x0123_4567_89ab_cdef)));
        assert_eq!(named(b"ASNF Z4mr\nze8=\n"), Ok(Tid::new(0x0123_4567_89ab_cdef)));
        assert_eq!(named(b"//////////8="), Ok(Tid::new(u64::MAX)));
    }

    #[test]
    fn what_names_no_transaction_is_refused_with_pythons_error() {
        // base64.decodebytes(b"ASNFZ4mrze8\n"), and so on
        assert_eq!(named(b"ASNFZ4mrze8"), Err(Refusal::Base64("Incorrect padding".into())));
        let text = "Invalid base64-encoded string: number of data characters (5) cannot be 1 more than a multiple of 4";
        assert_eq!(named(b"ASNFZ"), Err(Refusal::Base64(text.into())));
        assert_eq!(named(b"=ASNF====Z4mrze8="), Ok(Tid::new(0x0123_4567_89ab_cdef)));
        assert!(matches!(named(b""), Err(Refusal::Assertion(_))));
        assert!(matches!(named(b"ASNFZ4mrzQ=="), Err(Refusal::Assertion(_))));
        assert!(matches!(named(&[b'A'; 4000]), Err(Refusal::Assertion(_))));
    }
}
