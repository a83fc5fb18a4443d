//! What Python's FileStorage makes of a `Data.fs` that it opens without an index, as far as it opens it at all.
//!
//! Follows `read_index` of ZODB's `FileStorage.py`: where it stops without an error, and where it gives up. Only the
//! parts that decide this are here; nothing is shared with the engine, which is what is tested.

/// Where Python sees the last transaction end.
///
/// # Errors
/// What it would not open the file for.
pub(crate) fn opens(bytes: &[u8]) -> Result<usize, String> {
    if bytes.get(..MAGIC.len()) != Some(MAGIC) {
        return Err("it has no magic".into());
    }
    let mut position = MAGIC.len();
    loop {
        let Some(header) = bytes.get(position..position + TRANSACTION_HEADER) else { return Ok(position) };
        let (len, status) = (number(&header[8..16]), header[16]);
        let texts: usize =
            header[17..23].chunks(2).map(|two| usize::from(two[0]) << 8 | usize::from(two[1])).sum();
        if position.saturating_add(len).saturating_add(8) > bytes.len() || status == b'c' {
            return Ok(position);
        }
        if len < TRANSACTION_HEADER + texts {
            let last = number(&bytes[bytes.len() - 8..]);
            let is_at_the_end = last > bytes.len() - position || last < TRANSACTION_HEADER;
            return if is_at_the_end { Ok(position) } else { Err(format!("bad header at {position}")) };
        }
        let end = position + len;
        if status != b'u' {
            let mut record = position + TRANSACTION_HEADER + texts;
            while record < end {
                record += record_len(bytes, position, record, end)?;
            }
            if record != end {
                return Err(format!("the records of {position} don't add up"));
            }
        }
        if number(&bytes[end..end + 8]) != len {
            return Err(format!("redundant transaction length check failed at {end}"));
        }
        position = end + 8;
    }
}

fn record_len(bytes: &[u8], transaction: usize, record: usize, end: usize) -> Result<usize, String> {
    let header = bytes.get(record..record + RECORD_HEADER).ok_or("a record breaks off")?;
    let (of, data) = (number(&header[24..32]), number(&header[34..42]));
    let len = RECORD_HEADER + if data == 0 { 8 } else { data };
    if of != transaction || len > end - record {
        return Err(format!("data record at {record} exceeds transaction record at {transaction}"));
    }
    Ok(len)
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

const MAGIC: &[u8] = b"FS30";
const TRANSACTION_HEADER: usize = 23;
const RECORD_HEADER: usize = 42;

#[cfg(test)]
mod tests {
    use super::*;

    /// A transaction with one record.
    fn transaction(position: usize, status: u8) -> Vec<u8> {
        let len = TRANSACTION_HEADER + RECORD_HEADER + 5;
        let mut bytes = [[1; 8], len.to_be_bytes()].concat();
        bytes.extend([status, 0, 0, 0, 0, 0, 0]);
        bytes.extend([[2; 8], [1; 8], [0; 8], position.to_be_bytes()].concat());
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 5]);
        bytes.extend(*b"hello");
        bytes.extend(len.to_be_bytes());
        bytes
    }

    #[test]
    fn it_stops_at_what_breaks_off_or_was_not_finished() {
        let mut file = MAGIC.to_vec();
        file.extend(transaction(4, b' '));
        let end = file.len();
        assert_eq!(opens(&file), Ok(end));
        for more in 1..transaction(end, b' ').len() {
            assert_eq!(opens(&[&file[..], &transaction(end, b' ')[..more]].concat()), Ok(end));
        }
        assert_eq!(opens(&[&file[..], &transaction(end, b'c'), &[0; 999]].concat()), Ok(end));
        assert_eq!(opens(&[&file[..], &[0; 999]].concat()), Ok(end));
    }

    #[test]
    fn it_gives_up_on_a_transaction_with_zeros_in_it() {
        let whole = [MAGIC, &transaction(4, b' '), &[0; 99]].concat();
        assert!(opens(&whole).is_ok());
        for kept in 4 + TRANSACTION_HEADER..whole.len() - 99 - 1 {
            let mut torn = whole.clone();
            torn[kept..].fill(0);
            assert!(opens(&torn).is_err(), "{kept}");
        }
    }
}
