//! What a data record tells without being loaded: its class, and which objects it refers to.
//!
//! A record is two pickles: the first describes the class, the second is the object's state.

use crate::{
    PickleError,
    scan::{Scanner, Tag},
};
use zeolith_types::Oid;

/// Module and name of a record's class; `None` if its first pickle does not tell them.
///
/// Knows the forms that ZODB has written over the years: the class itself, `(class, args)`, and
/// `((module, name), args)`, at any pickle protocol.
#[must_use]
pub fn class_name(record: &[u8]) -> Option<(String, String)> {
    let mut scanner = Scanner::new(record);
    let (module, name) = match scanner.run().ok()? {
        Tag::Global(module, name) | Tag::Class(module, name) | Tag::TextPair(module, name) => (module, name),
        Tag::Other | Tag::Text(_) | Tag::List | Tag::TextFirst(_) | Tag::Tuple => return None,
    };
    let text = |span| String::from_utf8(scanner.bytes(span).to_vec()).ok();
    Some((text(module)?, text(name)?))
}

/// The objects of its own database that a record refers to, in its order, duplicates kept.
///
/// Weak references and those to other databases are lists in the record, and left out.
///
/// # Errors
/// The record can't be read to its end, or a reference is of no known form.
pub fn references(record: &[u8]) -> Result<Vec<Oid>, PickleError> {
    // Without either opcode there is no reference, and most records have none.
    if !record.iter().any(|byte| matches!(byte, b'P' | b'Q')) {
        return Ok(Vec::new());
    }
    let mut scanner = Scanner::new(record);
    scanner.run()?;
    scanner.run()?;
    let mut oids = Vec::with_capacity(scanner.persistent().len());
    for reference in scanner.persistent() {
        let span = match reference {
            Tag::Text(oid) | Tag::TextFirst(oid) | Tag::TextPair(oid, _) => *oid,
            Tag::List => continue,
            Tag::Other | Tag::Tuple | Tag::Global(..) | Tag::Class(..) => {
                return Err(PickleError::Malformed { what: "a reference without an oid", at: 0 });
            }
        };
        let Ok(oid) = <[u8; 8]>::try_from(scanner.bytes(span)) else {
            return Err(PickleError::Malformed { what: "a reference whose oid is not 8 bytes", at: 0 });
        };
        oids.push(Oid::from_bytes(oid));
    }
    Ok(oids)
}
