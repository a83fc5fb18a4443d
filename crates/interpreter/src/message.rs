//! What the server and a resolver process say to each other. All numbers are big-endian.
//!
//! Each message is a frame: four bytes of length, then the content. The server sends first the greeting and then
//! conflicts; the process answers each with one frame. `resolver.py` is the other side.
//!
//! | message | content |
//! |---|---|
//! | greeting | version, u8; bytes of memory, u64; seconds for an answer, f64 |
//! | ready | `R`, text |
//! | of no use | `F`, text |
//! | conflict | number, u64; oid; committed tid; read tid; then class, old, committed and new record, each with its length, u32 |
//! | resolved | `R`, number, record |
//! | refused by BTrees | `B`, number, how far in old, committed and new, reason, each i32 |
//! | refused | `C`, number, text |
//! | raised | `E`, number, text |
//! | out of memory | `M`, number, text |

use crate::Failure;
use bytes::Bytes;
use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};
use zeolith_pickle::class_name;
use zeolith_storage::{BTreesConflict, Disagreement, ResolveRequest};

/// A conflict as it is sent.
pub(crate) struct Request {
    number: u64,
    pub(crate) content: Vec<u8>,
}

/// What a process makes of a conflict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The merged record.
    Resolved(Bytes),
    /// The class, or ZODB for it, says that the changes don't go together.
    Refused(Disagreement),
    /// The class raised something else than a conflict.
    Raised(String),
}

/// The first message to a process.
pub(crate) fn greeting(memory_max: u64, timeout: Duration) -> Vec<u8> {
    let mut content = vec![VERSION];
    content.extend(memory_max.to_be_bytes());
    content.extend(timeout.as_secs_f64().to_be_bytes());
    content
}

/// What a process says to the greeting: which Python it is, or why it is of no use.
pub(crate) fn read_greeting(content: &[u8]) -> Result<Result<String, String>, Failure> {
    match content.split_first() {
        Some((b'R', rest)) => Ok(Ok(text(rest)?)),
        Some((b'F', rest)) => Ok(Err(text(rest)?)),
        _ => Err(Failure::Nonsense("it does not greet")),
    }
}

/// The message that shows a conflict.
pub(crate) fn conflict(class: &str, conflict: &ResolveRequest<'_>) -> Result<Request, Failure> {
    static NUMBERS: AtomicU64 = AtomicU64::new(1);
    let parts = [class.as_bytes(), conflict.old, conflict.committed, conflict.new];
    let size = parts.iter().map(|part| part.len()).sum();
    if size > REQUEST_SIZE_MAX {
        return Err(Failure::TooLarge(size));
    }
    let number = NUMBERS.fetch_add(1, Relaxed);
    let mut content = Vec::with_capacity(size + 64);
    content.extend(number.to_be_bytes());
    content.extend(conflict.oid.to_bytes());
    content.extend(conflict.committed_tid.to_bytes());
    content.extend(conflict.read_tid.to_bytes());
    for part in parts {
        content.extend((part.len() as u32).to_be_bytes());
        content.extend_from_slice(part);
    }
    Ok(Request { number, content })
}

impl Request {
    /// The answer to this conflict.
    pub(crate) fn read_answer(&self, content: Vec<u8>) -> Result<Answer, Failure> {
        let content = Bytes::from(content);
        let Some((kind, number)) = content.first().zip(content.get(1..ANSWER_HEAD)) else {
            return Err(Failure::Nonsense("too short"));
        };
        if number != self.number.to_be_bytes() {
            return Err(Failure::Nonsense("not to this conflict"));
        }
        let rest = content.slice(ANSWER_HEAD..);
        match kind {
            b'R' if class_name(&rest).is_some() => Ok(Answer::Resolved(rest)),
            b'R' => Err(Failure::Nonsense("what it calls resolved is no record")),
            b'B' => Ok(Answer::Refused(Disagreement::BTrees(btrees(&rest)?))),
            b'C' => Ok(Answer::Refused(Disagreement::Other(text(&rest)?))),
            b'E' => Ok(Answer::Raised(text(&rest)?)),
            b'M' => Err(Failure::OutOfMemory(text(&rest)?)),
            _ => Err(Failure::Nonsense("of an unknown kind")),
        }
    }
}

fn btrees(content: &[u8]) -> Result<BTreesConflict, Failure> {
    let numbers: Vec<i32> =
        content.chunks(4).filter_map(|number| number.try_into().ok().map(i32::from_be_bytes)).collect();
    match numbers[..] {
        [old, committed, new, reason] if content.len() == 16 => match u8::try_from(reason) {
            Ok(reason) => Ok(BTreesConflict { old, committed, new, reason }),
            Err(_) => Err(Failure::Nonsense("a reason that BTrees does not have")),
        },
        _ => Err(Failure::Nonsense("a conflict of BTrees without its numbers")),
    }
}

fn text(content: &[u8]) -> Result<String, Failure> {
    if content.len() > TEXT_SIZE_MAX {
        return Err(Failure::Nonsense("a reason that is too long"));
    }
    Ok(String::from_utf8_lossy(content).into_owned())
}

const VERSION: u8 = 1;
/// Kind and number.
const ANSWER_HEAD: usize = 9;
/// The three records together; more would need more memory than a process gets.
const REQUEST_SIZE_MAX: usize = 64 << 20;
/// An answer that announces more is not read.
pub(crate) const ANSWER_SIZE_MAX: usize = 64 << 20;
/// Four bytes for each of the characters that `resolver.py` sends at most.
const TEXT_SIZE_MAX: usize = 16_000;

#[cfg(test)]
mod tests {
    use super::*;
    use zeolith_types::{Oid, Tid};

    const RECORD: &[u8] = b"\x80\x03capp\nCounter\n.\x80\x03K\x01.";

    fn request() -> Request {
        let record = Bytes::from_static(RECORD);
        let (old, committed, new) = (&record, &record, &record);
        let (oid, committed_tid, read_tid) = (Oid::new(1), Tid::new(3), Tid::new(2));
        let shown = ResolveRequest { oid, committed_tid, read_tid, old, committed, new };
        conflict("app.Counter", &shown).unwrap()
    }

    fn answer(request: &Request, kind: u8, rest: &[u8]) -> Result<Answer, String> {
        let content = [&[kind][..], &request.number.to_be_bytes(), rest].concat();
        request.read_answer(content).map_err(|failure| failure.to_string())
    }

    #[test]
    fn every_kind_of_answer_is_understood() {
        let request = request();
        let resolved = Answer::Resolved(Bytes::from_static(RECORD));
        assert_eq!(answer(&request, b'R', RECORD), Ok(resolved));
        let numbers = b"\xff\xff\xff\xff\0\0\0\x02\0\0\0\x03\0\0\0\x0c";
        let conflict = BTreesConflict { old: -1, committed: 2, new: 3, reason: 12 };
        assert_eq!(answer(&request, b'B', numbers), Ok(Answer::Refused(Disagreement::BTrees(conflict))));
        let other = Disagreement::Other("no".to_owned());
        assert_eq!(answer(&request, b'C', b"no"), Ok(Answer::Refused(other)));
        assert_eq!(answer(&request, b'E', b"oh"), Ok(Answer::Raised("oh".to_owned())));
        assert!(answer(&request, b'M', b"x").unwrap_err().contains("out of memory"));
    }

    #[test]
    fn nonsense_is_told_from_answers() {
        let request = request();
        for (kind, rest) in [
            (b'R', &b""[..]),
            (b'R', b"no pickle"),
            (b'B', b"\0\0\0\x01"),
            (b'B', b"\0\0\0\x01\0\0\0\x01\0\0\0\x01\xff\xff\xff\xff"),
            (b'B', b"\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\0\0\x01\0"),
            (b'C', &[b'a'; TEXT_SIZE_MAX + 1]),
            (b'?', b""),
        ] {
            let said = answer(&request, kind, rest).unwrap_err();
            assert!(said.contains("nonsense"), "{} {rest:?}: {said}", char::from(kind));
        }
        let other = self::request();
        let to_another = [b"R", &other.number.to_be_bytes()[..], RECORD].concat();
        assert!(matches!(request.read_answer(to_another), Err(Failure::Nonsense(_))));
        assert!(matches!(request.read_answer(b"R\0\0".to_vec()), Err(Failure::Nonsense(_))));
        assert!(matches!(read_greeting(b""), Err(Failure::Nonsense(_))));
        assert!(matches!(read_greeting(b"?"), Err(Failure::Nonsense(_))));
    }

    #[test]
    fn records_that_are_too_large_are_not_sent() {
        let (small, large) = (Bytes::from_static(RECORD), Bytes::from(vec![0; REQUEST_SIZE_MAX]));
        let (old, committed, new) = (&large, &small, &small);
        let (oid, committed_tid, read_tid) = (Oid::new(1), Tid::new(3), Tid::new(2));
        let shown = ResolveRequest { oid, committed_tid, read_tid, old, committed, new };
        assert!(matches!(conflict("app.Counter", &shown), Err(Failure::TooLarge(_))));
    }
}
