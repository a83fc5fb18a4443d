//! The bytes of a `Data.fs`: the headers of transactions and data records, both ways.
//!
//! Pure: no I/O. The layout stands in `docs/disk-format.md`, and a test compares the two.

use zeolith_types::{Oid, Tid};

/// The first bytes of a file.
pub(crate) const MAGIC: [u8; 4] = *b"FS30";
/// The first bytes of a file of Python 2, whose records Python 3 can't read.
pub(crate) const MAGIC_PYTHON_2: [u8; 4] = *b"FS21";
/// Where the first transaction begins.
pub(crate) const FIRST_TRANSACTION: u64 = 4;
/// Length of a transaction's header before its three texts.
pub(crate) const TRANSACTION_HEADER_LEN: usize = 23;
/// Where the status is in a transaction's header.
pub(crate) const TRANSACTION_STATUS: usize = 16;
/// Length of a data record's header.
pub(crate) const RECORD_HEADER_LEN: usize = 42;
/// Length of a backpointer and of a transaction's trailing length.
pub(crate) const NUMBER_LEN: usize = 8;
/// The longest user name, description or extension.
pub(crate) const TEXT_LEN_MAX: usize = 0xffff;
/// Positions must fit the six bytes that `.index` has for them.
pub(crate) const POSITION_MAX: u64 = (1 << 48) - 1;

/// The header of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TransactionHeader {
    pub(crate) tid: Tid,
    /// Length of the whole transaction without its trailing length.
    pub(crate) len: u64,
    pub(crate) status: u8,
    pub(crate) user_len: u16,
    pub(crate) description_len: u16,
    pub(crate) extension_len: u16,
}

impl TransactionHeader {
    pub(crate) fn decode(bytes: &[u8; TRANSACTION_HEADER_LEN]) -> Self {
        Self {
            tid: Tid::new(u64_at(bytes, 0)),
            len: u64_at(bytes, 8),
            status: bytes[TRANSACTION_STATUS],
            user_len: u16_at(bytes, 17),
            description_len: u16_at(bytes, 19),
            extension_len: u16_at(bytes, 21),
        }
    }

    pub(crate) fn encode(&self) -> [u8; TRANSACTION_HEADER_LEN] {
        let mut bytes = [0; TRANSACTION_HEADER_LEN];
        bytes[0..8].copy_from_slice(&self.tid.to_bytes());
        bytes[8..16].copy_from_slice(&self.len.to_be_bytes());
        bytes[TRANSACTION_STATUS] = self.status;
        bytes[17..19].copy_from_slice(&self.user_len.to_be_bytes());
        bytes[19..21].copy_from_slice(&self.description_len.to_be_bytes());
        bytes[21..23].copy_from_slice(&self.extension_len.to_be_bytes());
        bytes
    }

    /// Length of the user name, description and extension together.
    pub(crate) fn texts_len(&self) -> u64 {
        u64::from(self.user_len) + u64::from(self.description_len) + u64::from(self.extension_len)
    }

    /// Length of everything before the first data record.
    pub(crate) fn header_len(&self) -> u64 {
        TRANSACTION_HEADER_LEN as u64 + self.texts_len()
    }
}

/// The header of a data record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) oid: Oid,
    pub(crate) tid: Tid,
    /// Where the object's previous record is; 0 if this is the first.
    pub(crate) prev: u64,
    /// Where the transaction of this record is.
    pub(crate) transaction: u64,
    /// Length of the name of a version, a feature that ZODB gave up: must be 0.
    pub(crate) version_len: u16,
    /// Length of the data; 0 if a backpointer stands in its place.
    pub(crate) data_len: u64,
}

impl RecordHeader {
    pub(crate) fn decode(bytes: &[u8; RECORD_HEADER_LEN]) -> Self {
        Self {
            oid: Oid::new(u64_at(bytes, 0)),
            tid: Tid::new(u64_at(bytes, 8)),
            prev: u64_at(bytes, 16),
            transaction: u64_at(bytes, 24),
            version_len: u16_at(bytes, 32),
            data_len: u64_at(bytes, 34),
        }
    }

    pub(crate) fn encode(&self) -> [u8; RECORD_HEADER_LEN] {
        let mut bytes = [0; RECORD_HEADER_LEN];
        bytes[0..8].copy_from_slice(&self.oid.to_bytes());
        bytes[RECORD_TID..RECORD_TID + 8].copy_from_slice(&self.tid.to_bytes());
        bytes[RECORD_PREV..RECORD_PREV + 8].copy_from_slice(&self.prev.to_be_bytes());
        bytes[RECORD_TRANSACTION..RECORD_TRANSACTION + 8].copy_from_slice(&self.transaction.to_be_bytes());
        bytes[32..34].copy_from_slice(&self.version_len.to_be_bytes());
        bytes[34..42].copy_from_slice(&self.data_len.to_be_bytes());
        bytes
    }

    /// Length of the whole record, or the largest number for one that can't be.
    pub(crate) fn record_len(&self) -> u64 {
        let body = if self.data_len == 0 { NUMBER_LEN as u64 } else { self.data_len };
        body.saturating_add(RECORD_HEADER_LEN as u64)
    }
}

/// Where the tid is in a data record's header; written when the transaction gets its tid.
pub(crate) const RECORD_TID: usize = 8;
/// Where the position of the object's previous record is in a data record's header.
pub(crate) const RECORD_PREV: usize = 16;
/// Where the position of the transaction is in a data record's header; written with the tid.
pub(crate) const RECORD_TRANSACTION: usize = 24;

/// The statuses that a reader takes for granted.
pub(crate) const fn is_known_status(status: u8) -> bool {
    matches!(status, STATUS_COMMITTED | STATUS_PACKED | STATUS_UNDONE)
}

pub(crate) const STATUS_COMMITTED: u8 = b' ';
pub(crate) const STATUS_PACKED: u8 = b'p';
/// Voted and not finished; Python writes it first and overwrites it.
pub(crate) const STATUS_VOTED: u8 = b'c';
/// Undone by a way of undoing that ZODB gave up; readers skip it.
pub(crate) const STATUS_UNDONE: u8 = b'u';

/// The big-endian number at `at`, which the caller knows to be inside `bytes`.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_as_they_were_written() {
        let transaction = TransactionHeader {
            tid: Tid::new(0x0123_4567_89ab_cdef),
            len: 0x9a,
            status: b'p',
            user_len: 1,
            description_len: 0x19,
            extension_len: 0xffff,
        };
        assert_eq!(TransactionHeader::decode(&transaction.encode()), transaction);
        let record = RecordHeader {
            oid: Oid::new(7),
            tid: transaction.tid,
            prev: 4711,
            transaction: 4,
            version_len: 3,
            data_len: 64,
        };
        assert_eq!(RecordHeader::decode(&record.encode()), record);
        assert_eq!(record.record_len(), 106);
    }

    #[test]
    fn the_layout_is_the_one_of_the_documentation() {
        let text = include_str!("../../../docs/disk-format.md");
        let rows: Vec<Vec<&str>> = text
            .lines()
            .filter(|line| line.starts_with('|'))
            .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
            .collect();
        let offset_of = |field: &str| -> usize {
            let row = rows.iter().find(|row| row.get(2) == Some(&field)).expect("the field is documented");
            row[0].parse().unwrap()
        };
        let transaction = TransactionHeader {
            tid: Tid::new(u64::from_be_bytes([0xa1; 8])),
            len: u64::from_be_bytes([0xa2; 8]),
            status: 0xa3,
            user_len: 0xa4a4,
            description_len: 0xa5a5,
            extension_len: 0xa6a6,
        }
        .encode();
        let fields =
            ["transaction tid", "tlen", "status", "user length", "description length", "extension length"];
        for (field, mark) in fields.iter().zip(0xa1..) {
            let start = transaction.iter().position(|byte| *byte == mark).unwrap();
            assert_eq!(offset_of(field), start, "{field}");
        }
        let record = RecordHeader {
            oid: Oid::new(u64::from_be_bytes([0xb1; 8])),
            tid: Tid::new(u64::from_be_bytes([0xb2; 8])),
            prev: u64::from_be_bytes([0xb3; 8]),
            transaction: u64::from_be_bytes([0xb4; 8]),
            version_len: 0xb5b5,
            data_len: u64::from_be_bytes([0xb6; 8]),
        }
        .encode();
        let fields = ["oid", "record tid", "prev", "tloc", "version length", "plen"];
        for (field, mark) in fields.iter().zip(0xb1..) {
            let start = record.iter().position(|byte| *byte == mark).unwrap();
            assert_eq!(offset_of(field), start, "{field}");
        }
        assert_eq!(offset_of("user, description, extension"), TRANSACTION_HEADER_LEN);
        assert_eq!(offset_of("data or backpointer"), RECORD_HEADER_LEN);
    }
}
