//! `.index`: the index as a file, in the form that ZODB reads and writes.
//!
//! A handful of pickle opcodes, read and written as a stream so that a large index never stands in
//! memory twice. Whatever else is in the file makes it unreadable, which costs a scan and nothing more.

use crate::index::Index;
use std::io::{self, BufRead, Read, Write};
use zeolith_types::Oid;

/// Reads an index; gives it with the position up to which it is true.
pub(crate) fn read(input: &mut impl BufRead) -> Result<(Index, u64), Unreadable> {
    let mut reader = Reader { input, pushed_back: None };
    let end = reader.read_number()?;
    let index = Index::default();
    let mut run = Vec::new();
    let mut blob = Vec::new();
    while let Some(prefix) = reader.read_group(&mut blob)? {
        decode_group(prefix, &blob, end, &mut run)?;
        index.set_run(&run);
    }
    Ok((index, end))
}

/// Writes the entries of an index, which come in the order of their oids.
pub(crate) fn write(
    output: &mut impl Write,
    end: u64,
    mut entries: impl Iterator<Item = io::Result<(Oid, u64)>>,
) -> io::Result<()> {
    output.write_all(&[PROTO, 3])?;
    write_number(output, end)?;
    output.write_all(&[STOP])?;
    let mut next = entries.next().transpose()?;
    let (mut suffixes, mut positions) = (Vec::new(), Vec::new());
    while let Some((first, _)) = next {
        let prefix = first.get() >> 16;
        suffixes.clear();
        positions.clear();
        while let Some((oid, position)) = next.filter(|(oid, _)| oid.get() >> 16 == prefix) {
            suffixes.extend_from_slice(&oid.to_bytes()[6..]);
            positions.extend_from_slice(&position.to_be_bytes()[2..]);
            next = entries.next().transpose()?;
        }
        output.write_all(&[PROTO, 3])?;
        write_bytes(output, &[&first.to_bytes()[..6]])?;
        write_bytes(output, &[&suffixes, &positions])?;
        output.write_all(&[TUPLE2, STOP])?;
    }
    output.write_all(&[PROTO, 3, NONE, STOP])
}

/// Why a saved index can't be used.
pub(crate) struct Unreadable(pub(crate) String);

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Self("it ends too early".into());
        }
        Self(error.to_string())
    }
}

struct Reader<'a, R> {
    input: &'a mut R,
    pushed_back: Option<u8>,
}

impl<R: Read> Reader<'_, R> {
    fn read_number(&mut self) -> Result<u64, Unreadable> {
        let number = match self.opcode()? {
            BININT1 => self.little_endian(1)?,
            BININT2 => self.little_endian(2)?,
            BININT => self.little_endian(4)?,
            LONG1 => {
                let len = self.byte()?;
                self.little_endian(usize::from(len))?
            }
            EMPTY_DICT => return Err(Unreadable("it has the form of ZODB before 3.10".into())),
            opcode => return Err(unexpected(opcode)),
        };
        self.expect(STOP)?;
        Ok(number)
    }

    /// The prefix of the next group, with its content in `blob`; `None` at the end.
    fn read_group(&mut self, blob: &mut Vec<u8>) -> Result<Option<u64>, Unreadable> {
        let opcode = self.opcode()?;
        if opcode == NONE {
            self.expect(STOP)?;
            return Ok(None);
        }
        self.pushed_back = Some(opcode);
        self.read_bytes(blob)?;
        if blob.len() != 6 {
            return Err(Unreadable("a prefix has not six bytes".into()));
        }
        let prefix = number_of(blob);
        self.read_bytes(blob)?;
        self.skip_memo()?;
        self.expect(TUPLE2)?;
        self.skip_memo()?;
        self.expect(STOP)?;
        Ok(Some(prefix))
    }

    fn read_bytes(&mut self, bytes: &mut Vec<u8>) -> Result<(), Unreadable> {
        self.skip_memo()?;
        let len = match self.opcode()? {
            SHORT_BINBYTES => self.little_endian(1)?,
            BINBYTES => self.little_endian(4)?,
            opcode => return Err(unexpected(opcode)),
        };
        if len > GROUP_LEN_MAX {
            return Err(Unreadable("a group is too long".into()));
        }
        bytes.clear();
        let read = self.input.by_ref().take(len).read_to_end(bytes)?;
        if read as u64 == len { Ok(()) } else { Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()) }
    }

    /// Skips the memo entries that a pickler which is not "fast" leaves behind.
    fn skip_memo(&mut self) -> Result<(), Unreadable> {
        loop {
            let opcode = self.opcode()?;
            match opcode {
                BINPUT => self.little_endian(1)?,
                LONG_BINPUT => self.little_endian(4)?,
                _ => {
                    self.pushed_back = Some(opcode);
                    return Ok(());
                }
            };
        }
    }

    fn opcode(&mut self) -> Result<u8, Unreadable> {
        if let Some(opcode) = self.pushed_back.take() {
            return Ok(opcode);
        }
        let opcode = self.byte()?;
        if opcode != PROTO {
            return Ok(opcode);
        }
        self.byte()?;
        self.byte()
    }

    fn expect(&mut self, wanted: u8) -> Result<(), Unreadable> {
        let opcode = self.opcode()?;
        if opcode == wanted { Ok(()) } else { Err(unexpected(opcode)) }
    }

    fn byte(&mut self) -> Result<u8, Unreadable> {
        let mut byte = [0];
        self.input.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    fn little_endian(&mut self, len: usize) -> Result<u64, Unreadable> {
        let mut bytes = [0; 8];
        let Some(used) = bytes.get_mut(..len) else {
            return Err(Unreadable("a number is too large".into()));
        };
        self.input.read_exact(used)?;
        Ok(u64::from_le_bytes(bytes))
    }
}

fn unexpected(opcode: u8) -> Unreadable {
    Unreadable(format!("pickle opcode {opcode:#04x} has no place in it"))
}

/// Takes a group of objects with the same prefix apart.
fn decode_group(prefix: u64, blob: &[u8], end: u64, run: &mut Vec<(Oid, u64)>) -> Result<(), Unreadable> {
    let count = blob.len() / ENTRY_LEN;
    if !blob.len().is_multiple_of(ENTRY_LEN) {
        return Err(Unreadable("a group has no whole number of entries".into()));
    }
    let (suffixes, positions) = blob.split_at(count * 2);
    run.clear();
    run.reserve(count);
    let mut last = None;
    for (suffix, position) in suffixes.as_chunks::<2>().0.iter().zip(positions.as_chunks::<6>().0) {
        let [a, b, c, d, e, f] = *position;
        let position = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        let suffix = u16::from_be_bytes(*suffix);
        let oid = Oid::new(prefix << 16 | u64::from(suffix));
        if last.is_some_and(|last| last >= suffix) {
            return Err(Unreadable("its oids do not rise".into()));
        }
        last = Some(suffix);
        if position == 0 || position >= end {
            return Err(Unreadable(format!("{oid} is at {position}, past the end of what it covers")));
        }
        run.push((oid, position));
    }
    Ok(())
}

fn number_of(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// As Python's pickler writes an integer of protocol 3.
fn write_number(output: &mut impl Write, number: u64) -> io::Result<()> {
    let bytes = number.to_le_bytes();
    match number {
        0..=0xff => output.write_all(&[BININT1, bytes[0]]),
        0x100..=0xffff => output.write_all(&[BININT2, bytes[0], bytes[1]]),
        0x1_0000..=0x7fff_ffff => output.write_all(&[BININT, bytes[0], bytes[1], bytes[2], bytes[3]]),
        _ => {
            // Two's complement: one more byte if the highest bit would be read as a sign.
            let len = ((64 - number.leading_zeros()) / 8 + 1) as usize;
            output.write_all(&[LONG1, len as u8])?;
            output.write_all(&u128::from(number).to_le_bytes()[..len])
        }
    }
}

fn write_bytes(output: &mut impl Write, parts: &[&[u8]]) -> io::Result<()> {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    match u8::try_from(len) {
        Ok(len) => output.write_all(&[SHORT_BINBYTES, len])?,
        Err(_) => {
            output.write_all(&[BINBYTES])?;
            output.write_all(&(len as u32).to_le_bytes())?;
        }
    }
    parts.iter().try_for_each(|part| output.write_all(part))
}

const PROTO: u8 = 0x80;
const STOP: u8 = b'.';
const NONE: u8 = b'N';
const TUPLE2: u8 = 0x86;
const EMPTY_DICT: u8 = b'}';
const BININT: u8 = b'J';
const BININT1: u8 = b'K';
const BININT2: u8 = b'M';
const LONG1: u8 = 0x8a;
const SHORT_BINBYTES: u8 = b'C';
const BINBYTES: u8 = b'B';
const BINPUT: u8 = b'q';
const LONG_BINPUT: u8 = b'r';

/// Two bytes of the oid and six of the position.
const ENTRY_LEN: usize = 8;
/// A group has at most 65536 objects.
const GROUP_LEN_MAX: u64 = 65_536 * ENTRY_LEN as u64;

#[cfg(test)]
mod tests {
    use super::*;

    fn written(end: u64, entries: &[(u64, u64)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&mut bytes, end, entries.iter().map(|(oid, position)| Ok((Oid::new(*oid), *position))))
            .unwrap();
        bytes
    }

    fn refusal(mut bytes: &[u8]) -> String {
        read(&mut bytes).err().expect("it must be refused").0
    }

    #[test]
    fn an_index_looks_as_zodb_writes_it() {
        let golden = b"\x80\x03M\xc0\x02.\
            \x80\x03C\x06\0\0\0\0\0\0C\x10\0\0\0\x01\0\0\0\0\x02\x54\0\0\0\0\x02\x86\x86.\
            \x80\x03N.";
        assert_eq!(written(704, &[(0, 0x254), (1, 0x286)]), golden);
    }

    #[test]
    fn integers_are_written_as_python_writes_them() {
        let cases: [(u64, &[u8]); 6] = [
            (4, b"K\x04"),
            (0x7fff_ffff, b"J\xff\xff\xff\x7f"),
            (0x8000_0000, b"\x8a\x05\0\0\0\x80\0"),
            (0xff_ffff_ffff, b"\x8a\x06\xff\xff\xff\xff\xff\0"),
            (0x7f_ffff_ffff, b"\x8a\x05\xff\xff\xff\xff\x7f"),
            (0x100, b"M\0\x01"),
        ];
        for (number, bytes) in cases {
            let mut output = Vec::new();
            write_number(&mut output, number).unwrap();
            assert_eq!(output, bytes, "{number:#x}");
        }
    }

    #[test]
    fn what_was_written_is_read_again() {
        let entries: Vec<(u64, u64)> =
            (0..70_000).chain([1 << 40, u64::MAX]).map(|oid| (oid, 4 + oid % 1_000_000)).collect();
        let bytes = written(1 << 33, &entries);
        let Ok((index, end)) = read(&mut bytes.as_slice()) else { panic!("it can be read") };
        assert_eq!(end, 1 << 33);
        let back: Vec<(u64, u64)> = index.iter_from(Oid::ZERO).map(|(o, p)| (o.get(), p)).collect();
        assert_eq!(back, entries);
    }

    #[test]
    fn no_prefix_of_an_index_is_an_index() {
        let bytes = written(704, &[(0, 0x254), (1, 0x286)]);
        for len in 0..bytes.len() {
            assert_eq!(refusal(&bytes[..len]), "it ends too early");
        }
    }

    #[test]
    fn a_position_past_the_end_is_refused() {
        assert!(refusal(&written(704, &[(0, 704)])).contains("past the end"));
        assert!(refusal(b"\x80\x03}q\x01.").contains("before 3.10"));
        assert!(refusal(b"\x80\x03M\xc0\x02.\x80\x03B\xff\xff\xff\xff").contains("too long"));
    }
}
