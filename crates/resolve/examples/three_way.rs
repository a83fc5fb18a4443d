//! Resolves conflicts that come in on the standard input, for comparison with Python's classes.
//!
//! In: for each case the old, the committed and the new record, each with its length before it (four bytes,
//! little-endian). Out: a byte that says how it went, then the length and the content: `R` and the record, `B`
//! and the four arguments of a `BTreesConflictError`, `E` and a text for any other exception, `N` and nothing.

use bytes::Bytes;
use std::io::{self, BufReader, BufWriter, Read, Write};
use zeolith_resolve::NativeResolver;
use zeolith_storage::{BTreesConflict, Disagreement, Resolution, ResolveRequest, Resolver};
use zeolith_types::{Oid, Tid};

fn main() -> io::Result<()> {
    let mut input = BufReader::new(io::stdin().lock());
    let mut output = BufWriter::new(io::stdout().lock());
    while let Some(old) = record(&mut input)? {
        let missing = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let committed = record(&mut input)?.ok_or_else(missing)?;
        let new = record(&mut input)?.ok_or_else(missing)?;
        let (oid, committed_tid, read_tid) = (Oid::new(1), Tid::new(2), Tid::new(1));
        let conflict =
            ResolveRequest { oid, committed_tid, read_tid, old: &old, committed: &committed, new: &new };
        let (kind, content) = match NativeResolver.resolve(&conflict) {
            Resolution::Resolved(record) => (b'R', record),
            Resolution::Refused(Disagreement::BTrees(BTreesConflict { old, committed, new, reason })) => {
                (b'B', format!("{old} {committed} {new} {reason}").into())
            }
            Resolution::Refused(Disagreement::Other(text)) => (b'E', text.into()),
            Resolution::NotMine => (b'N', Bytes::new()),
        };
        let len = u32::try_from(content.len()).map_err(io::Error::other)?;
        output.write_all(&[kind])?;
        output.write_all(&len.to_le_bytes())?;
        output.write_all(&content)?;
    }
    output.flush()
}

/// The next record, or `None` at the end of the input.
fn record(input: &mut impl Read) -> io::Result<Option<Bytes>> {
    let mut len = [0; 4];
    match input.read_exact(&mut len) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut record = vec![0; u32::from_le_bytes(len) as usize];
    input.read_exact(&mut record)?;
    Ok(Some(record.into()))
}
