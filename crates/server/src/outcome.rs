//! What became of a transaction, for a client that lost its connection before it heard.
//!
//! The coordinator knows the transactions that are open; all others are in the storage or nowhere. A token is in the
//! extension of its transaction, so what the file says is true after a restart, too
//! (`docs/decisions/0017-a-token-tells-the-outcome.md`).

use crate::{host::Host, packing};
use zeolith_storage::{Result, Storage};
use zeolith_types::{Outcome, Tid, TransactionInfo};

/// What became of the transaction of a token, which is not on its way any more and was not there yet when `since`
/// was committed.
///
/// # Errors
/// Those of reading the storage.
pub(crate) fn find(host: &Host, token: &[u8], since: Tid) -> Result<Outcome> {
    let outcome = search(host.storage.as_ref(), token, since)?;
    // Looked at afterwards: a pack can have begun meanwhile. Not every storage marks all that it has packed.
    if outcome == Outcome::Aborted && packing::could_have_dropped_after(host, since) {
        return Ok(Outcome::Unknown);
    }
    Ok(outcome)
}

/// Looks for a token among the transactions after `since`.
fn search(storage: &dyn Storage, token: &[u8], since: Tid) -> Result<Outcome> {
    let mut transactions = storage.iterate(Some(since), None)?;
    let (mut is_there, mut is_packed) = (false, false);
    for _ in 0..SEARCHED_MAX {
        let Some(transaction) = transactions.next_transaction()? else {
            return Ok(if is_there && !is_packed { Outcome::Aborted } else { Outcome::Unknown });
        };
        let TransactionInfo { tid, status, extension, .. } = transaction;
        // A pack marks what it has looked at. Where nothing is marked, nothing has been dropped.
        is_packed |= status == PACKED;
        if tid == since {
            is_there = true;
        } else if zeolith_pickle::transaction_token(&extension).is_some_and(|found| found == token) {
            return Ok(Outcome::Committed(tid));
        }
    }
    Ok(Outcome::Unknown)
}

/// The status of a transaction that a pack has looked at.
const PACKED: u8 = b'p';
/// Transactions that are searched for a token. A client that asks after more than these is told that
/// nobody knows any more.
const SEARCHED_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use zeolith_storage::{ConflictPolicy, Patience, TransactionId, WriteSet, memory::MemoryStorage};
    use zeolith_types::{TOKEN_KEY, Timestamp, Value};

    fn commit(storage: &MemoryStorage, token: Option<&'static str>, status: u8) -> Tid {
        let entry = |token: &'static str| (Value::Str(TOKEN_KEY.into()), Value::Bytes(token.into()));
        let extension = zeolith_pickle::encode_extension(token.map(entry).into_iter().collect()).unwrap();
        let writes = WriteSet { extension, status, ..WriteSet::default() };
        let id = TransactionId(1);
        storage.vote(id, writes, ConflictPolicy::Refuse, Patience::Wait).unwrap();
        let tid = storage.finish(&[id], Timestamp::default()).remove(0).unwrap();
        storage.publish(tid);
        tid
    }

    #[test]
    fn a_token_is_found_after_the_transaction_that_was_known_before() {
        let storage = MemoryStorage::new("test");
        let (mine, other) = ("my token is this", "not that of mine");
        let before = commit(&storage, Some("an earlier token"), b' ');
        let found = commit(&storage, Some(mine), b' ');
        commit(&storage, None, b' ');
        assert_eq!(search(&storage, mine.as_bytes(), before).unwrap(), Outcome::Committed(found));
        assert_eq!(search(&storage, other.as_bytes(), before).unwrap(), Outcome::Aborted);
        assert_eq!(search(&storage, b"an earlier token", before).unwrap(), Outcome::Aborted);
        assert_eq!(search(&storage, other.as_bytes(), Tid::new(1)).unwrap(), Outcome::Unknown);
    }

    #[test]
    fn what_a_pack_may_have_dropped_is_unknown() {
        let storage = MemoryStorage::new("test");
        let before = commit(&storage, None, PACKED);
        let after = commit(&storage, None, b' ');
        let token = Bytes::from_static(b"my token is this");
        assert_eq!(search(&storage, &token, before).unwrap(), Outcome::Unknown);
        assert_eq!(search(&storage, &token, after).unwrap(), Outcome::Aborted);
        commit(&storage, None, PACKED);
        assert_eq!(search(&storage, &token, after).unwrap(), Outcome::Unknown);
        assert_eq!(search(&storage, &token, Tid::MAX).unwrap(), Outcome::Unknown);
    }
}
